//! Makes a chunk list of a content: at a snapshot, for every file that was changed.
//!
//! A file's cuts are a function of its bytes: each run of data between holes is cut from its start
//! to its end. Of a changed file only what may be cut differently is read:
//!
//! ```text
//! old list   |----a----|------b------|---c---|----d----|------e------|
//! changes                   xxx   xx
//! read                 |------b------|---c---|            (c: the cut behind b needs a byte of it)
//! new list   |----a----|----B----|--B2-|--c--|----d----|------e------|
//!                                            ^ a new cut meets an old one: from here on as before
//! ```
//!
//! Reading starts with the chunk that has the byte before the change, because a cut depends on one
//! byte behind it. A file's last chunk, which only the end of the file cut, is opened again the same
//! way when the file grows. So the list does not depend on when snapshots were taken.
//!
//! Chunks that stand in the content already (cut while it was written, or copied from another file)
//! are kept without being read. Holes from 64 KiB on stay holes, exactly as they are; shorter ones
//! become zeros, and zeros never become holes.
//!
//! Nothing is changed in place: chunks and list nodes are stored under their ids, and who dies in
//! between has stored chunks that nothing names yet.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use holdfast_crypto::{ChunkId, ChunkKind};

use crate::chunk::{Chunker, CutBuffer, Following, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES};
use crate::chunks::{ChunkError, ChunkSink, ChunkSource, LoadError, SinkError};
use crate::content::{Content, ExtentSource, Part, PartCursor};
use crate::format::{ListRef, Piece};
use crate::list::{ListBuilder, pieces_from, splice};

/// Shorter holes are stored as zeros: each hole ends a chunk, and a chunk costs more than it.
pub const MIN_HOLE_BYTES: u64 = 64 << 10;

/// A content as it stands in a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rechunked {
    /// Its pieces.
    pub list: ListRef,
    /// Its length in bytes.
    pub size: u64,
    /// Its bytes that are not holes.
    pub allocated: u64,
}

/// What one thread that cuts a file of this size holds: what is being cut, and a chunk that is
/// being compressed and encrypted.
pub fn memory_for(size: u64) -> u64 {
    const MOST: u64 = 8 << 20;
    size.saturating_mul(3).min(MOST)
}

/// What rechunking needs besides the content.
///
/// One call with one thread holds [`memory_for`] the content.
#[derive(Clone, Copy)]
pub struct Rechunker<'a> {
    /// Loads chunks and list nodes.
    pub source: &'a dyn ChunkSource,
    /// Stores them.
    pub sink: &'a dyn ChunkSink,
    /// Loads what is in the log.
    pub extents: &'a dyn ExtentSource,
    /// The archive's chunker.
    pub chunker: &'a Chunker,
    /// How many threads may call the sink at once; 1 stores on the calling thread.
    pub threads: usize,
}

impl Rechunker<'_> {
    /// The content's list. The content should be frozen, or a clone.
    pub fn rechunk(&self, content: &Content) -> Result<Rechunked, ChunkError> {
        let changes = content.changes();
        if content.is_chunked() {
            return Ok(Rechunked {
                list: changes.list.clone(),
                size: content.size(),
                allocated: changes.list_allocated,
            });
        }
        if changes.kept_to == 0 {
            return self.chunk_all(content);
        }
        let mut list = changes.list.clone();
        let mut allocated = changes.list_allocated;
        let mut done_to = 0;
        for range in &changes.ranges {
            // The stretch before met an old cut behind this change.
            if done_to > range.start || done_to == content.size() && done_to > 0 {
                continue;
            }
            let stretch = self.chunk_stretch(content, &changes, range.start)?;
            done_to = stretch.new.end;
            allocated = allocated - stretch.old_data_bytes + data_bytes(&stretch.pieces);
            list = splice(self.source, self.sink, &list, stretch.old, stretch.pieces)?;
        }
        Ok(Rechunked {
            list,
            size: content.size(),
            allocated,
        })
    }

    /// A file of which nothing is in a list yet.
    fn chunk_all(&self, content: &Content) -> Result<Rechunked, ChunkError> {
        let mut builder = ListBuilder::new(self.sink);
        let mut allocated = 0;
        let mut push = |piece: Piece| {
            allocated += data_bytes(&[piece]);
            builder.push(piece)
        };
        let mut cutter = Cutter::new(self, content, 0, &mut push);
        while cutter.step()? {}
        cutter.finish()?;
        Ok(Rechunked {
            list: builder.finish()?,
            size: content.size(),
            allocated,
        })
    }

    /// From the chunk before `change` until a cut meets an old one behind the last change.
    fn chunk_stretch(
        &self,
        content: &Content,
        changes: &Changes,
        change: u64,
    ) -> Result<Stretch, ChunkError> {
        let mut old = OldCuts::before(self.source, &changes.list, change)?;
        let start = old.at;
        let mut pieces = Vec::new();
        let mut push = |piece| {
            pieces.push(piece);
            Ok(())
        };
        let mut cutter = Cutter::new(self, content, start, &mut push);
        let mut met = false;
        while !met && cutter.step()? {
            met = cutter.is_at_cut() && !changes.touch_cut(cutter.at) && old.advance(cutter.at)?;
        }
        let end = cutter.at;
        cutter.finish()?;
        if !met {
            old.advance(u64::MAX)?;
        }
        Ok(Stretch {
            old: start..old.at,
            new: start..end,
            old_data_bytes: old.data_bytes,
            pieces,
        })
    }
}

struct Stretch {
    old: Range<u64>,
    new: Range<u64>,
    old_data_bytes: u64,
    pieces: Vec<Piece>,
}

/// How a content differs from the list at its bottom.
#[derive(Debug)]
pub(crate) struct Changes {
    pub(crate) list: ListRef,
    pub(crate) list_allocated: u64,
    /// Of the list's bytes, those from here on are gone.
    pub(crate) kept_to: u64,
    /// Changed ranges in order, apart from each other. The last one may be empty: the end moved.
    pub(crate) ranges: Vec<Range<u64>>,
}

impl Changes {
    /// Whether the byte behind a cut at `at` was changed, so that the cut may be none any more.
    fn touch_cut(&self, at: u64) -> bool {
        let started = self.ranges.partition_point(|range| range.start <= at);
        let reaches = self.ranges[..started]
            .last()
            .is_some_and(|range| at < range.end);
        at >= self.kept_to || reaches
    }
}

/// The cuts of the old list, in order.
struct OldCuts<'a> {
    pieces: Box<dyn Iterator<Item = Result<(u64, Piece), LoadError>> + 'a>,
    at: u64,
    /// Data between the first cut and this one.
    data_bytes: u64,
}

impl<'a> OldCuts<'a> {
    /// At the start of the piece that has the byte before `offset`.
    fn before(
        source: &'a dyn ChunkSource,
        list: &'a ListRef,
        offset: u64,
    ) -> Result<Self, LoadError> {
        let mut pieces = pieces_from(source, list, offset.saturating_sub(1)).peekable();
        let at = match pieces.peek() {
            Some(Ok((start, _))) => *start,
            Some(Err(error)) => return Err(error.clone()),
            None => 0,
        };
        Ok(OldCuts {
            pieces: Box::new(pieces),
            at,
            data_bytes: 0,
        })
    }

    /// Moves to the first old cut at `offset` or behind it; says whether it is right there.
    fn advance(&mut self, offset: u64) -> Result<bool, LoadError> {
        while self.at < offset {
            match self.pieces.next().transpose()? {
                Some((start, piece)) => {
                    self.at = start.saturating_add(piece.length());
                    self.data_bytes += data_bytes(&[piece]);
                }
                None => return Ok(false),
            }
        }
        Ok(self.at == offset)
    }
}

/// Cuts a content from one place on.
struct Cutter<'a> {
    tools: &'a Rechunker<'a>,
    cursor: PartCursor<'a>,
    /// Bytes behind `at` that are not cut yet.
    buffer: CutBuffer,
    /// Everything before is in pieces.
    at: u64,
    /// Where whole chunks start whose bytes are in the buffer: a cut there makes them fit again.
    chunk_starts: VecDeque<u64>,
    output: Output<'a>,
}

impl<'a> Cutter<'a> {
    fn new(
        tools: &'a Rechunker<'a>,
        content: &'a Content,
        at: u64,
        push: &'a mut Push<'a>,
    ) -> Self {
        Cutter {
            tools,
            cursor: PartCursor::new(content, tools.source, at),
            buffer: CutBuffer::new(),
            at,
            chunk_starts: VecDeque::new(),
            output: Output::new(tools, push),
        }
    }

    /// Whether what comes next is not in the buffer, thus could be an old piece.
    fn is_at_cut(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Makes the next piece; false at the end of the file.
    fn step(&mut self) -> Result<bool, ChunkError> {
        if self.buffer.is_empty() {
            match self.next_as_it_is()? {
                Next::End => return Ok(false),
                Next::Piece(piece) => {
                    self.cursor.next()?;
                    self.at += piece.length();
                    self.output.piece(piece)?;
                    return Ok(true);
                }
                Next::Bytes => {}
            }
        }
        let bytes = self.next_chunk()?;
        self.at += bytes.len() as u64;
        self.output.chunk(bytes)?;
        self.meet_chunks();
        Ok(true)
    }

    fn finish(mut self) -> Result<(), ChunkError> {
        self.output.flush()
    }

    fn next_as_it_is(&mut self) -> Result<Next, LoadError> {
        let Some(part) = self.cursor.peek(0)? else {
            return Ok(Next::End);
        };
        if ends_run(Some(part)) {
            return Ok(Next::Piece(Piece::Hole { length: part.len() }));
        }
        let Some(piece) = part.whole_chunk() else {
            return Ok(Next::Bytes);
        };
        let behind = self.cursor.peek(1)?;
        let is_followed_by_chunk = behind.is_some_and(|part| part.whole_chunk().is_some());
        // A chunk in front of new bytes may have been cut elsewhere, had they been there. One that
        // is short was cut by the end of a file, which this is not.
        let keeps =
            ends_run(behind) || is_followed_by_chunk && piece.length() >= MIN_CHUNK_BYTES as u64;
        Ok(if keeps {
            Next::Piece(piece)
        } else {
            Next::Bytes
        })
    }

    /// Reads until a cut is certain.
    fn next_chunk(&mut self) -> Result<Bytes, LoadError> {
        let chunker = self.tools.chunker;
        let mut may_meet = !self.chunk_starts.is_empty();
        loop {
            // Looking for a cut early costs time, so it is done only where an old one may be near.
            if (may_meet || self.buffer.is_full())
                && let Some(bytes) = self.buffer.cut(chunker, Following::More)
            {
                return Ok(bytes);
            }
            may_meet = false;
            if ends_run(self.cursor.peek(0)?) {
                let last = self.buffer.cut(chunker, Following::End);
                return Ok(last.expect("there are bytes: the run has not ended before"));
            }
            if let Some(part) = self.cursor.next()? {
                if part.whole_chunk().is_some() && !self.buffer.is_empty() {
                    self.chunk_starts.push_back(part.range.start);
                    may_meet = true;
                }
                self.read(&part)?;
            }
        }
    }

    fn read(&mut self, part: &Part) -> Result<(), LoadError> {
        if part.is_zero() {
            self.buffer.push_zeros(part.len() as usize);
        } else {
            self.buffer
                .push(&part.load(self.tools.source, self.tools.extents)?);
        }
        Ok(())
    }

    /// Goes back to whole chunks when the last cut is where one starts.
    fn meet_chunks(&mut self) {
        while self
            .chunk_starts
            .front()
            .is_some_and(|start| *start < self.at)
        {
            self.chunk_starts.pop_front();
        }
        if self.chunk_starts.front() == Some(&self.at) {
            self.chunk_starts.clear();
            self.buffer = CutBuffer::new();
            self.cursor.reset(self.at);
        }
    }
}

enum Next {
    End,
    Piece(Piece),
    Bytes,
}

/// Whether a run of data ends in front of this.
fn ends_run(part: Option<&Part>) -> bool {
    part.is_none_or(|part| part.is_zero() && part.len() >= MIN_HOLE_BYTES)
}

fn data_bytes(pieces: &[Piece]) -> u64 {
    let data = pieces
        .iter()
        .filter(|piece| matches!(piece, Piece::Chunk { .. }));
    data.map(Piece::length).sum()
}

type Push<'a> = dyn FnMut(Piece) -> Result<(), ChunkError> + 'a;

/// Stores chunks, several at once, and hands the pieces on in their order.
struct Output<'a> {
    tools: &'a Rechunker<'a>,
    push: &'a mut Push<'a>,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
}

enum Waiting {
    Piece(Piece),
    Chunk(Bytes),
}

/// Pieces that wait behind a chunk that is not stored yet.
const MAX_WAITING: usize = 1024;

impl<'a> Output<'a> {
    fn new(tools: &'a Rechunker<'a>, push: &'a mut Push<'a>) -> Self {
        Output {
            tools,
            push,
            waiting: Vec::new(),
            waiting_bytes: 0,
        }
    }

    fn piece(&mut self, piece: Piece) -> Result<(), ChunkError> {
        if self.waiting.is_empty() {
            return (self.push)(piece);
        }
        self.waiting.push(Waiting::Piece(piece));
        self.flush_when_full()
    }

    fn chunk(&mut self, bytes: Bytes) -> Result<(), ChunkError> {
        self.waiting_bytes += bytes.len();
        self.waiting.push(Waiting::Chunk(bytes));
        self.flush_when_full()
    }

    fn flush_when_full(&mut self) -> Result<(), ChunkError> {
        let limit = if self.tools.threads > 1 {
            2 * MAX_CHUNK_BYTES
        } else {
            1
        };
        if self.waiting_bytes >= limit || self.waiting.len() >= MAX_WAITING {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ChunkError> {
        let chunks: Vec<Bytes> = self
            .waiting
            .iter()
            .filter_map(|waiting| match waiting {
                Waiting::Chunk(bytes) => Some(bytes.clone()),
                Waiting::Piece(_) => None,
            })
            .collect();
        let mut ids = store_chunks(self.tools.sink, &chunks, self.tools.threads)?.into_iter();
        self.waiting_bytes = 0;
        for waiting in std::mem::take(&mut self.waiting) {
            (self.push)(match waiting {
                Waiting::Piece(piece) => piece,
                Waiting::Chunk(bytes) => Piece::Chunk {
                    id: ids.next().expect("every chunk that was stored has an id"),
                    length: bytes.len() as u32,
                },
            })?;
        }
        Ok(())
    }
}

/// Stores data chunks on up to `threads` threads at once; the ids are in the order of the chunks.
/// After an error some of the others may be stored.
pub fn store_chunks(
    sink: &dyn ChunkSink,
    chunks: &[Bytes],
    threads: usize,
) -> Result<Vec<ChunkId>, SinkError> {
    let threads = threads.min(chunks.len());
    if threads <= 1 {
        return chunks
            .iter()
            .map(|bytes| sink.store(ChunkKind::Data, bytes))
            .collect();
    }
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, ChunkId)>, SinkError> {
        let mut stored = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(bytes) = chunks.get(index) else {
                return Ok(stored);
            };
            stored.push((index, sink.store(ChunkKind::Data, bytes)?));
        }
    };
    let mut stored = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut stored = work()?;
        for helper in helpers {
            match helper.join() {
                Ok(more) => stored.extend(more?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<_, SinkError>(stored)
    })?;
    stored.sort_unstable_by_key(|(index, _)| *index);
    Ok(stored.into_iter().map(|(_, id)| id).collect())
}

#[cfg(test)]
mod tests;
