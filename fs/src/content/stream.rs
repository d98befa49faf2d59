//! Chunking while a file is being written in order, so that data does not pile up in the log.
//!
//! Up to a point, `cut_from`, the file is cut already: the next chunk starts there. Cuts are made
//! only where no byte to come can move them, so they are those of the finished file. At the end of a
//! file that was committed before, the last chunk is opened again, because only the end of the file
//! cut it.

use std::ops::Range;

use bytes::Bytes;
use holdfast_crypto::ChunkId;

use super::edits::{Place, Stamp};
use super::{Content, ExtentSource, Origin};
use crate::chunk::{Chunker, CutBuffer, Following, MAX_CHUNK_BYTES};
use crate::chunks::{ChunkSource, LoadError};
use crate::compress::MAX_RAW_BYTES;

/// Where the next chunk of a file that is written in order starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CutFrom {
    /// Here.
    At(u64),
    /// Where the chunk starts that has the byte before this offset.
    LastChunkBefore(u64),
}

impl CutFrom {
    pub(super) fn last_chunk_before(offset: u64) -> Self {
        match offset {
            0 => CutFrom::At(0),
            offset => CutFrom::LastChunkBefore(offset),
        }
    }

    /// Bytes of `range` are about to change in a file of `size` bytes.
    ///
    /// A cut depends on one byte behind it, so a change of that byte takes it back.
    pub(super) fn bytes_change(&mut self, range: &Range<u64>, size: u64) {
        let (CutFrom::At(known_to) | CutFrom::LastChunkBefore(known_to)) = *self;
        // A truncation, or a write that is as good as one.
        let reaches_end = range.end == size;
        if reaches_end && range.start < known_to {
            *self = CutFrom::last_chunk_before(range.start);
        } else if range.contains(&known_to) {
            *self = CutFrom::last_chunk_before(known_to);
        }
    }

    /// The layers below have become a list that ends at `base_end`: cut to its end.
    pub(super) fn list_is_known(&mut self, base_end: u64) {
        match *self {
            CutFrom::At(at) if at >= base_end => {}
            _ => *self = CutFrom::last_chunk_before(base_end),
        }
    }
}

/// One chunk to be made.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Where it stands in the file.
    pub range: Range<u64>,
    /// Its plaintext.
    pub bytes: Bytes,
}

/// Chunks that follow each other, and the moment at which their bytes were what they are.
#[derive(Clone, Debug)]
pub struct CutRun {
    /// In file order.
    pub cuts: Vec<Cut>,
    stamp: Stamp,
}

impl Content {
    /// How many bytes wait to be cut, at most: when there are more than some 8 MiB it is worth
    /// asking [`Content::cut_ready`]. When that gives nothing, the file is not written in order: ask
    /// again after as much again was written, or leave it to the next commit.
    pub fn uncut_bytes(&self) -> u64 {
        let (CutFrom::At(known_to) | CutFrom::LastChunkBefore(known_to)) = self.cut_from;
        self.size.saturating_sub(known_to).min(self.raw_bytes())
    }

    /// The chunks that can be cut now, from about `limit_bytes` of the file.
    ///
    /// The bytes are held in `buffer`, for the next call as well. Call it on a clone, so that the file
    /// can be written meanwhile. Storing the chunks is the caller's, in any order; then [`Content::replace_with_chunks`] on the file itself.
    pub fn cut_ready(
        &self,
        source: &dyn ChunkSource,
        extents: &dyn ExtentSource,
        chunker: &Chunker,
        limit_bytes: u64,
        buffer: &mut CutBuffer,
    ) -> Result<CutRun, LoadError> {
        let mut run = CutRun {
            cuts: Vec::new(),
            stamp: self.stamp,
        };
        let Some(start) = self.find_cut_start(source)? else {
            return Ok(run);
        };
        let limit_bytes = limit_bytes.max(2 * MAX_CHUNK_BYTES as u64);
        let end = start.saturating_add(limit_bytes);
        buffer.restart(limit_bytes as usize);
        let mut at = start;
        for part in self.plan(start..end, source)? {
            // What is behind a hole may still be written before it. Chunks that were placed need no
            // cutting; the first part may be the last chunk of the list, opened again.
            if part.is_zero() || (part.range.start > start && part.whole_chunk().is_some()) {
                break;
            }
            buffer.push(&part.load(source, extents)?);
            while buffer.is_full() {
                cut_next(buffer, chunker, &mut at, &mut run);
            }
        }
        while buffer.len() >= MAX_CHUNK_BYTES {
            cut_next(buffer, chunker, &mut at, &mut run);
        }
        Ok(run)
    }

    /// Puts chunks in the place of the bytes they were made of; `ids` belong to the first cuts of
    /// the run. Stops at bytes that changed since, and says how many chunks were put in place.
    pub fn replace_with_chunks(&mut self, run: &CutRun, ids: &[ChunkId]) -> usize {
        let mut replaced = 0;
        for (cut, id) in run.cuts.iter().zip(ids) {
            if !self.is_unchanged(&cut.range, run.stamp) {
                break;
            }
            let place = Place::Chunk {
                id: *id,
                chunk_length: cut.bytes.len() as u32,
                skip: 0,
            };
            // The bytes stay what they were, and so does their moment.
            self.put(cut.range.clone(), run.stamp, place);
            self.cut_from = CutFrom::At(cut.range.end);
            replaced += 1;
        }
        self.pass_whole_chunks();
        replaced
    }

    /// Moves over chunks that somebody put where the next cut would be looked for.
    pub(super) fn pass_whole_chunks(&mut self) {
        while let CutFrom::At(at) = self.cut_from
            && let Some(edit) = self.edits.at(at)
            && let Place::Chunk {
                chunk_length,
                skip: 0,
                ..
            } = edit.place
            && edit.length == u64::from(chunk_length)
        {
            self.cut_from = CutFrom::At(at + edit.length);
        }
    }

    fn is_unchanged(&self, range: &Range<u64>, stamp: Stamp) -> bool {
        let mut unchanged = self.shrunk <= stamp && range.end <= self.size;
        self.visit_stamps(range.clone(), &mut |_, edit| {
            unchanged &= edit.stamp <= stamp
        });
        unchanged
    }

    fn find_cut_start(&self, source: &dyn ChunkSource) -> Result<Option<u64>, LoadError> {
        let before = match self.cut_from {
            CutFrom::At(at) => return Ok(Some(at)),
            CutFrom::LastChunkBefore(before) => before,
        };
        let near = before.saturating_sub(MAX_RAW_BYTES as u64)..before;
        let last = self.plan(near, source)?.pop();
        Ok(last.and_then(|part| match part.origin {
            Origin::Chunk { skip: 0, .. } => Some(part.range.start),
            Origin::Zero => Some(before),
            // Bytes that were never cut, or the end of a chunk: the next commit finds the cuts.
            Origin::Memory(_) | Origin::Log { .. } | Origin::Chunk { .. } => None,
        }))
    }
}

fn cut_next(buffer: &mut CutBuffer, chunker: &Chunker, at: &mut u64, run: &mut CutRun) {
    let bytes = buffer
        .cut(chunker, Following::More)
        .expect("a buffer of the greatest chunk length has a cut");
    let range = *at..*at + bytes.len() as u64;
    *at = range.end;
    run.cuts.push(Cut { range, bytes });
}
