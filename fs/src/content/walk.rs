//! Reading: which bytes of a file are where, layer over layer, down to the list's pieces.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};

use bytes::{Bytes, BytesMut};
use holdfast_crypto::{ChunkId, ChunkKind};

use super::{BaseLayer, Content, ExtentSource};
use crate::chunks::{ChunkSource, LoadError};
use crate::format::{ListRef, Piece};
use crate::list::pieces_from;
use crate::log::LogPosition;

/// A run of a file's bytes that are in one place.
#[derive(Clone, Debug)]
pub struct Part {
    /// Offsets in the file.
    pub range: Range<u64>,
    /// Where the bytes are.
    pub origin: Origin,
}

/// Where the bytes of a [`Part`] are.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Here.
    Memory(Bytes),
    /// In an extent record of the log, behind `skip` bytes of its data.
    Log {
        /// The record.
        position: LogPosition,
        /// Bytes before the first one of the part.
        skip: u32,
    },
    /// In a chunk of kind data, behind `skip` bytes.
    Chunk {
        /// The chunk.
        id: ChunkId,
        /// Its plaintext length.
        chunk_length: u32,
        /// Bytes before the first one of the part.
        skip: u32,
    },
    /// Nowhere: zeros.
    Zero,
}

impl Part {
    /// How many bytes.
    #[allow(clippy::len_without_is_empty, reason = "a part is never empty")]
    pub fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// The chunk, when the part is all of it.
    pub fn whole_chunk(&self) -> Option<Piece> {
        match self.origin {
            Origin::Chunk {
                id,
                chunk_length,
                skip: 0,
            } if u64::from(chunk_length) == self.len() => Some(Piece::Chunk {
                id,
                length: chunk_length,
            }),
            _ => None,
        }
    }

    /// Whether it is a hole.
    pub fn is_zero(&self) -> bool {
        matches!(self.origin, Origin::Zero)
    }

    /// The bytes, but for a hole, whose length no memory may have to hold: none.
    pub fn load(
        &self,
        source: &dyn ChunkSource,
        extents: &dyn ExtentSource,
    ) -> Result<Bytes, LoadError> {
        let (loaded, skip) = match &self.origin {
            Origin::Memory(bytes) => return Ok(bytes.clone()),
            Origin::Zero => return Ok(Bytes::new()),
            Origin::Log { position, skip } => (extents.load_extent(position)?, *skip),
            Origin::Chunk { id, skip, .. } => (source.load(ChunkKind::Data, id)?, *skip),
        };
        let wanted = skip as usize..skip as usize + self.len() as usize;
        if wanted.end > loaded.len() {
            return Err(self.too_short());
        }
        Ok(loaded.slice(wanted))
    }

    fn too_short(&self) -> LoadError {
        match self.origin {
            Origin::Chunk { id, .. } => LoadError::Damaged {
                kind: ChunkKind::Data,
                id,
                object: None,
            },
            _ => LoadError::other(ShortExtent),
        }
    }

    /// Takes the part behind in, where it goes on in the same place.
    fn join(&mut self, next: &Part) -> bool {
        let at = self.len();
        let joins = match (&self.origin, &next.origin) {
            (Origin::Zero, Origin::Zero) => true,
            (
                Origin::Chunk {
                    id,
                    chunk_length,
                    skip,
                },
                Origin::Chunk {
                    id: other,
                    chunk_length: other_length,
                    skip: there,
                },
            ) => {
                id == other
                    && chunk_length == other_length
                    && u64::from(*skip) + at == u64::from(*there)
            }
            (
                Origin::Log { position, skip },
                Origin::Log {
                    position: other,
                    skip: there,
                },
            ) => position == other && u64::from(*skip) + at == u64::from(*there),
            _ => false,
        };
        if joins {
            self.range.end = next.range.end;
        }
        joins
    }
}

#[derive(Debug, thiserror::Error)]
#[error("an extent record of the log is shorter than what refers to it")]
struct ShortExtent;

#[derive(Debug, thiserror::Error)]
#[error("a chunk list is damaged: it ends at byte {ends_at}, before its file does")]
struct ShortList {
    ends_at: u64,
}

impl Content {
    /// Where the bytes of `range` are, in order and without gaps; what is behind the end is left
    /// out. Loads the nodes of a long list that it needs, and no data.
    pub fn plan(
        &self,
        range: Range<u64>,
        source: &dyn ChunkSource,
    ) -> Result<Vec<Part>, LoadError> {
        let mut parts: Vec<Part> = Vec::new();
        let range = range.start..range.end.min(self.size);
        self.visit_parts(range, source, &mut |part| {
            if !parts.last_mut().is_some_and(|last| last.join(&part)) {
                parts.push(part);
            }
        })?;
        Ok(parts)
    }

    /// The bytes of `range`, fewer at the end of the file.
    pub fn read(
        &self,
        range: Range<u64>,
        source: &dyn ChunkSource,
        extents: &dyn ExtentSource,
    ) -> Result<Bytes, LoadError> {
        let parts = self.plan(range, source)?;
        if let [part] = &parts[..]
            && !part.is_zero()
        {
            return part.load(source, extents);
        }
        let mut bytes = BytesMut::with_capacity(parts.iter().map(|part| part.len() as usize).sum());
        for part in &parts {
            match part.origin {
                Origin::Zero => bytes.resize(bytes.len() + part.len() as usize, 0),
                _ => bytes.extend_from_slice(&part.load(source, extents)?),
            }
        }
        Ok(bytes.freeze())
    }

    /// The first byte from `offset` on that is not in a hole (SEEK_DATA); `None` when only a hole
    /// or nothing is left.
    pub fn seek_data(
        &self,
        offset: u64,
        source: &dyn ChunkSource,
    ) -> Result<Option<u64>, LoadError> {
        self.seek(offset, Presence::Data, source)
    }

    /// The first byte from `offset` on that is in a hole, where the end of the file counts as one
    /// (SEEK_HOLE); `None` behind the end.
    pub fn seek_hole(
        &self,
        offset: u64,
        source: &dyn ChunkSource,
    ) -> Result<Option<u64>, LoadError> {
        let found = self.seek(offset, Presence::Hole, source)?;
        Ok(found.or((offset < self.size).then_some(self.size)))
    }

    fn seek(
        &self,
        offset: u64,
        wanted: Presence,
        source: &dyn ChunkSource,
    ) -> Result<Option<u64>, LoadError> {
        let mut found = None;
        let _ = self.visit_presence(offset..self.size, source, &mut |range, presence| {
            if presence == wanted {
                found = Some(range.start);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn visit_parts(
        &self,
        range: Range<u64>,
        source: &dyn ChunkSource,
        visit: &mut dyn FnMut(Part),
    ) -> Result<(), LoadError> {
        let mut at = range.start;
        for (clipped, run) in self.edits.touching(range.clone()) {
            self.visit_base_parts(at..clipped.start, source, visit)?;
            at = clipped.end;
            visit(run.part(clipped));
        }
        self.visit_base_parts(at..range.end, source, visit)
    }

    fn visit_base_parts(
        &self,
        range: Range<u64>,
        source: &dyn ChunkSource,
        visit: &mut dyn FnMut(Part),
    ) -> Result<(), LoadError> {
        let shown = range.start..range.end.min(self.base_end);
        let mut at = range.start;
        if !shown.is_empty() {
            at = shown.end;
            match &self.base.layer {
                BaseLayer::Frozen(frozen) => frozen.visit_parts(shown, source, visit)?,
                BaseLayer::List(list) => visit_list(list, shown, source, |part| {
                    visit(part);
                    ControlFlow::Continue(())
                })
                .map(drop)?,
            }
        }
        if at < range.end {
            visit(Part {
                range: at..range.end,
                origin: Origin::Zero,
            });
        }
        Ok(())
    }

    fn visit_presence(
        &self,
        range: Range<u64>,
        source: &dyn ChunkSource,
        visit: &mut dyn FnMut(Range<u64>, Presence) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, LoadError> {
        let mut at = range.start;
        for (clipped, run) in self.edits.touching(range.clone()) {
            if self
                .visit_base_presence(at..clipped.start, source, visit)?
                .is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
            at = clipped.end;
            let presence = if run.is_data() {
                Presence::Data
            } else {
                Presence::Hole
            };
            if visit(clipped, presence).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.visit_base_presence(at..range.end, source, visit)
    }

    fn visit_base_presence(
        &self,
        range: Range<u64>,
        source: &dyn ChunkSource,
        visit: &mut dyn FnMut(Range<u64>, Presence) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, LoadError> {
        let shown = range.start..range.end.min(self.base_end);
        let mut at = range.start;
        if !shown.is_empty() {
            at = shown.end;
            let flow = match &self.base.layer {
                // No need to look at a million pieces to know that none is a hole.
                _ if self.base.allocated >= self.base.size => visit(shown, Presence::Data),
                BaseLayer::Frozen(frozen) => frozen.visit_presence(shown, source, visit)?,
                BaseLayer::List(list) => visit_list(list, shown, source, |part| {
                    let presence = if part.is_zero() {
                        Presence::Hole
                    } else {
                        Presence::Data
                    };
                    visit(part.range, presence)
                })?,
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        if at < range.end {
            return Ok(visit(at..range.end, Presence::Hole));
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Data,
    Hole,
}

fn visit_list(
    list: &ListRef,
    range: Range<u64>,
    source: &dyn ChunkSource,
    mut visit: impl FnMut(Part) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, LoadError> {
    let mut at = range.start;
    for piece in pieces_from(source, list, range.start) {
        let (start, piece) = piece?;
        let clipped = start.max(range.start)..start.saturating_add(piece.length()).min(range.end);
        at = clipped.end;
        let origin = match piece {
            Piece::Hole { .. } => Origin::Zero,
            Piece::Chunk { id, length } => {
                let skip = (clipped.start - start) as u32;
                Origin::Chunk {
                    id,
                    chunk_length: length,
                    skip,
                }
            }
        };
        let part = Part {
            range: clipped,
            origin,
        };
        if visit(part).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if at == range.end {
            break;
        }
    }
    // Never zeros in the place of what a damaged list does not name.
    if at < range.end {
        return Err(LoadError::other(ShortList { ends_at: at }));
    }
    Ok(ControlFlow::Continue(()))
}

/// Goes through a content's parts in order, planning a stretch at a time, so that a long file's
/// pieces are never all in memory. A hole or a chunk is never cut in two by a stretch's end.
pub(crate) struct PartCursor<'c> {
    content: &'c Content,
    source: &'c dyn ChunkSource,
    planned_to: u64,
    parts: VecDeque<Part>,
}

const STRETCH_BYTES: u64 = 64 << 20;

impl<'c> PartCursor<'c> {
    pub(crate) fn new(content: &'c Content, source: &'c dyn ChunkSource, offset: u64) -> Self {
        PartCursor {
            content,
            source,
            planned_to: offset,
            parts: VecDeque::new(),
        }
    }

    /// Goes on from another place.
    pub(crate) fn reset(&mut self, offset: u64) {
        self.parts.clear();
        self.planned_to = offset;
    }

    /// The part `index` places ahead; 0 is the next.
    pub(crate) fn peek(&mut self, index: usize) -> Result<Option<&Part>, LoadError> {
        while self.parts.len() <= index && self.planned_to < self.content.size {
            self.plan_stretch()?;
        }
        Ok(self.parts.get(index))
    }

    pub(crate) fn next(&mut self) -> Result<Option<Part>, LoadError> {
        self.peek(0)?;
        Ok(self.parts.pop_front())
    }

    fn plan_stretch(&mut self) -> Result<(), LoadError> {
        let mut length = STRETCH_BYTES;
        loop {
            let end = self
                .planned_to
                .saturating_add(length)
                .min(self.content.size);
            let mut parts = self.content.plan(self.planned_to..end, self.source)?;
            if end < self.content.size {
                let cut =
                    |part: &Part| part.is_zero() || matches!(part.origin, Origin::Chunk { .. });
                if parts.last().is_some_and(cut) {
                    parts.pop();
                }
            }
            if let Some(last) = parts.last() {
                self.planned_to = last.range.end;
                self.parts.extend(parts);
                return Ok(());
            }
            // One hole, longer than the stretch.
            length = length.saturating_mul(8);
        }
    }
}
