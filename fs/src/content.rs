//! One file's bytes: a list of chunks, and what was changed since.
//!
//! ```text
//! edits         written, placed and punched since; in memory, in the log, or in chunks already
//!   over
//! frozen        the same, as it was at the moment of a snapshot that is being stored (at most a few)
//!   over
//! list          the chunks of the last commit
//! ```
//!
//! A content does no I/O of its own. What has to be loaded (nodes of long lists, chunks, extents)
//! comes from a [`ChunkSource`](crate::chunks::ChunkSource) and an [`ExtentSource`], and nothing is changed before all of it is
//! there: an operation that fails with [`LoadError`] can be run again.
//!
//! The life of written bytes: [`Content::write`] keeps them in memory; [`Content::unlogged`] and
//! [`Content::mark_logged`] move them to the log (at close, fsync, or when memory is short); while
//! a file is written in order [`Content::cut_ready`] gives out what can be chunked and
//! [`Content::replace_with_chunks`] puts the chunks in place; [`Content::freeze`] fixes a moment,
//! `rechunk` makes a list of it, and [`Content::rebase`] puts the list below what was written since.
//! All of these may overlap with further writes: bytes that changed in between are left alone.
//!
//! Nothing here is on disk. After a crash the log's records build the same content again:
//! [`Content::place`] for extents and chunks, [`Content::truncate`] and [`Content::punch`].

mod edits;
mod stream;
mod unlogged;
mod walk;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use holdfast_crypto::ChunkId;

use crate::chunks::LoadError;
use crate::format::{ListRef, Piece};
use crate::log::{Log, LogPosition};
use crate::rechunk::Changes;
use edits::{Edit, Edits, Place, RUN_COST_BYTES, Stamp};
use stream::CutFrom;

pub use stream::{Cut, CutRun};
pub use unlogged::Unlogged;
pub(crate) use walk::PartCursor;
pub use walk::{Origin, Part};

/// Loads the data of extent records of the log.
pub trait ExtentSource: Send + Sync {
    /// The data of the record at this position.
    fn load_extent(&self, position: &LogPosition) -> Result<Bytes, LoadError>;
}

impl ExtentSource for Log {
    fn load_extent(&self, position: &LogPosition) -> Result<Bytes, LoadError> {
        self.read(position)
            .map(Bytes::from)
            .map_err(LoadError::other)
    }
}

/// What [`Content::place`] puts into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// `length` bytes of a chunk, from `skip` on.
    Chunk {
        /// The chunk.
        id: ChunkId,
        /// Plaintext length of the whole chunk in bytes.
        chunk_length: u32,
        /// Bytes of the chunk before the first one placed.
        skip: u32,
        /// Bytes placed.
        length: u32,
    },
    /// `length` bytes of an extent record, from `skip` on.
    Logged {
        /// The record.
        position: LogPosition,
        /// Bytes of its data before the first one placed.
        skip: u32,
        /// Bytes placed.
        length: u32,
    },
    /// Zeros.
    Hole {
        /// Bytes placed.
        length: u64,
    },
}

impl Placed {
    /// How many bytes of the file it covers.
    pub fn length(&self) -> u64 {
        match self {
            Placed::Chunk { length, .. } | Placed::Logged { length, .. } => u64::from(*length),
            Placed::Hole { length } => *length,
        }
    }

    fn place(&self) -> Place {
        match *self {
            Placed::Chunk {
                id,
                chunk_length,
                skip,
                ..
            } => Place::Chunk {
                id,
                chunk_length,
                skip,
            },
            Placed::Logged { position, skip, .. } => Place::Logged { position, skip },
            Placed::Hole { .. } => Place::Hole,
        }
    }
}

impl From<Piece> for Placed {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Chunk { id, length } => Placed::Chunk {
                id,
                chunk_length: length,
                skip: 0,
                length,
            },
            Piece::Hole { length } => Placed::Hole { length },
        }
    }
}

/// One file's bytes. Cloning is cheap and gives a picture that later changes do not touch.
#[derive(Clone, Debug)]
pub struct Content {
    size: u64,
    base: Base,
    /// The base is seen below this offset only; what was cut off by a truncation stays off.
    base_end: u64,
    /// Bytes of the base that are data and not hidden by edits.
    base_data_bytes: u64,
    edits: Arc<Edits>,
    stamp: Stamp,
    /// The last moment at which bytes went away without an edit in their place.
    shrunk: Stamp,
    cut_from: CutFrom,
    /// Names this layer once it is frozen; 0 before.
    layer: u64,
}

#[derive(Clone, Debug)]
struct Base {
    layer: BaseLayer,
    size: u64,
    allocated: u64,
}

#[derive(Clone, Debug)]
enum BaseLayer {
    List(ListRef),
    Frozen(Arc<Content>),
}

static NEXT_LAYER: AtomicU64 = AtomicU64::new(1);

impl Default for Content {
    fn default() -> Self {
        Content::empty()
    }
}

impl Content {
    /// The content of a new file.
    pub fn empty() -> Self {
        Content::from_list(0, 0, ListRef::empty())
    }

    /// The content of a file of a commit. `allocated` is its bytes that are not holes.
    pub fn from_list(size: u64, allocated: u64, list: ListRef) -> Self {
        Content {
            size,
            base: Base {
                layer: BaseLayer::List(list),
                size,
                allocated,
            },
            base_end: size,
            base_data_bytes: allocated,
            edits: Arc::default(),
            stamp: Stamp(1),
            shrunk: Stamp(0),
            cut_from: CutFrom::last_chunk_before(size),
            layer: 0,
        }
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are not holes. Exact, but for a file with a long list that has holes and was
    /// changed since the last commit: there it is an estimate.
    pub fn allocated(&self) -> u64 {
        self.edits.data_bytes() + self.base_data_bytes
    }

    /// Memory it holds, frozen layers included.
    pub fn memory_bytes(&self) -> u64 {
        let below = match &self.base.layer {
            BaseLayer::Frozen(frozen) => frozen.memory_bytes(),
            BaseLayer::List(_) => 0,
        };
        below + self.edits.memory_bytes() + self.edits.len() as u64 * RUN_COST_BYTES
    }

    /// Bytes in memory or in the log, not in chunks, frozen layers included.
    pub fn raw_bytes(&self) -> u64 {
        let below = match &self.base.layer {
            BaseLayer::Frozen(frozen) => frozen.raw_bytes(),
            BaseLayer::List(_) => 0,
        };
        below + self.edits.raw_bytes()
    }

    /// Whether it is nothing but a list, with nothing to log and nothing to chunk.
    pub fn is_chunked(&self) -> bool {
        self.list().is_some()
    }

    /// Its list, when it is nothing but that.
    pub fn list(&self) -> Option<&ListRef> {
        match &self.base.layer {
            BaseLayer::List(list) if self.shows_base_only() => Some(list),
            _ => None,
        }
    }

    fn shows_base_only(&self) -> bool {
        self.edits.is_empty() && self.base_end == self.base.size && self.size == self.base.size
    }

    /// Writes bytes; the file grows where they reach over its end.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let range = offset..offset + data.len() as u64;
        let stamp = self.begin_change(&range);
        self.hide_base(range.clone());
        Arc::make_mut(&mut self.edits).write(offset, data, stamp);
        self.size = self.size.max(range.end);
    }

    /// Sets the length. What is cut off is gone; what is added is a hole.
    pub fn truncate(&mut self, size: u64) {
        if size < self.size {
            self.shrunk = self.begin_change(&(size..self.size));
            self.hide_base(size..self.size);
            Arc::make_mut(&mut self.edits).carve(size..self.size);
            self.base_end = self.base_end.min(size);
            if self.base_end == 0 {
                self.base = Base {
                    layer: BaseLayer::List(ListRef::empty()),
                    size: 0,
                    allocated: 0,
                };
                self.base_data_bytes = 0;
            }
        }
        self.size = size;
    }

    /// Makes a hole; the length stays. Also what zeroing a range does.
    pub fn punch(&mut self, range: Range<u64>) {
        let range = range.start..range.end.min(self.size);
        if !range.is_empty() {
            let stamp = self.begin_change(&range);
            self.put(range, stamp, Place::Hole);
        }
    }

    /// Puts chunks, logged extents or holes one after another from `offset` on; the file grows
    /// where they reach over its end. Moves no data.
    pub fn place(&mut self, offset: u64, placed: &[Placed]) {
        let mut at = offset;
        for item in placed {
            let range = at..at + item.length();
            if range.is_empty() {
                continue;
            }
            at = range.end;
            let cut_before = self.cut_from;
            let stamp = self.begin_change(&range);
            // Chunks that follow a cut take nothing back: both stay as they are.
            if cut_before == CutFrom::At(range.start) {
                self.cut_from = cut_before;
            }
            self.put(range, stamp, item.place());
            self.size = self.size.max(at);
        }
        self.pass_whole_chunks();
    }

    /// Fixes this moment: what is returned never changes, and later edits go to a new layer.
    pub fn freeze(&mut self) -> Arc<Content> {
        match &self.base.layer {
            BaseLayer::Frozen(frozen) if self.shows_base_only() => frozen.clone(),
            BaseLayer::List(_) if self.shows_base_only() => Arc::new(self.clone()),
            _ => {
                let mut frozen = self.clone();
                frozen.layer = NEXT_LAYER.fetch_add(1, Ordering::Relaxed);
                self.base_end = self.size;
                self.base_data_bytes = self.allocated();
                self.edits = Arc::default();
                let frozen = Arc::new(frozen);
                self.base = Base {
                    size: self.size,
                    allocated: self.base_data_bytes,
                    layer: BaseLayer::Frozen(frozen.clone()),
                };
                frozen
            }
        }
    }

    /// The frozen layer was made a list: puts that in its place. Says whether it was there.
    pub fn rebase(&mut self, frozen: &Arc<Content>, list: &ListRef, allocated: u64) -> bool {
        let BaseLayer::Frozen(below) = &self.base.layer else {
            return false;
        };
        let before = self.base.allocated;
        if below.layer == frozen.layer {
            self.base.layer = BaseLayer::List(list.clone());
            self.base.allocated = allocated;
            self.cut_from.list_is_known(self.base_end);
        } else {
            let mut below = (**below).clone();
            if !below.rebase(frozen, list, allocated) {
                return false;
            }
            self.base.allocated = below.allocated();
            self.base.layer = BaseLayer::Frozen(Arc::new(below));
        }
        // The list's count is exact and small holes have become zeros; what is hidden stays hidden.
        let hidden = before.saturating_sub(self.base_data_bytes);
        self.base_data_bytes = self
            .base
            .allocated
            .saturating_sub(hidden)
            .min(self.base_end);
        true
    }

    /// How it differs from the list at the bottom.
    pub(crate) fn changes(&self) -> Changes {
        let mut kept_to = u64::MAX;
        let mut changed: Vec<Range<u64>> = Vec::new();
        let mut layer = self;
        let list = loop {
            kept_to = kept_to.min(layer.base_end);
            changed.extend(layer.edits.ranges());
            match &layer.base.layer {
                BaseLayer::Frozen(frozen) => layer = frozen,
                BaseLayer::List(list) => break list.clone(),
            }
        };
        changed.retain(|range| range.start < kept_to);
        changed.sort_unstable_by_key(|range| range.start);
        if kept_to < layer.base.size || kept_to < self.size {
            changed.push(kept_to..self.size);
        }
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for range in changed {
            match ranges.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => ranges.push(range),
            }
        }
        Changes {
            list,
            list_allocated: layer.base.allocated,
            kept_to,
            ranges,
        }
    }

    /// Lower layers' and this one's edits that show in `range`.
    fn visit_stamps(&self, range: Range<u64>, visit: &mut dyn FnMut(Range<u64>, &Edit)) {
        let mut at = range.start;
        let below = |range: Range<u64>, visit: &mut dyn FnMut(Range<u64>, &Edit)| {
            let range = range.start..range.end.min(self.base_end);
            if let BaseLayer::Frozen(frozen) = &self.base.layer
                && !range.is_empty()
            {
                frozen.visit_stamps(range, visit);
            }
        };
        for (clipped, run) in self.edits.touching(range.clone()) {
            below(at..clipped.start, visit);
            at = clipped.end;
            visit(clipped, run.edit);
        }
        below(at..range.end, visit);
    }

    /// Replaces what shows in `range`.
    fn put(&mut self, range: Range<u64>, stamp: Stamp, place: Place) {
        self.hide_base(range.clone());
        let edits = Arc::make_mut(&mut self.edits);
        edits.carve(range.clone());
        edits.insert(
            range.start,
            Edit {
                length: range.end - range.start,
                stamp,
                place,
            },
        );
    }

    fn begin_change(&mut self, range: &Range<u64>) -> Stamp {
        self.cut_from.bytes_change(range, self.size);
        self.stamp.0 += 1;
        self.stamp
    }

    /// Counts what an edit of `range` is about to hide. Nothing hidden ever shows again, so this
    /// is all the counting there is.
    fn hide_base(&mut self, range: Range<u64>) {
        let range = range.start..range.end.min(self.base_end);
        if range.is_empty() {
            return;
        }
        for gap in self.edits.gaps(range) {
            let hidden = self.base.data_in(gap);
            self.base_data_bytes = self.base_data_bytes.saturating_sub(hidden);
        }
    }

    fn data_in(&self, range: Range<u64>) -> u64 {
        let below = range.start..range.end.min(self.base_end);
        let gaps = if below.is_empty() {
            Vec::new()
        } else {
            self.edits.gaps(below)
        };
        let below: u64 = gaps.into_iter().map(|gap| self.base.data_in(gap)).sum();
        self.edits.data_in(range) + below
    }
}

impl Base {
    /// Bytes of `range` that are not holes; an estimate in a long list with holes.
    fn data_in(&self, range: Range<u64>) -> u64 {
        let length = range.end - range.start;
        if self.allocated >= self.size {
            return length;
        }
        match &self.layer {
            BaseLayer::Frozen(frozen) => frozen.data_in(range),
            BaseLayer::List(ListRef::Inline(pieces)) => data_of_pieces(pieces, range),
            BaseLayer::List(ListRef::Node { .. }) => {
                let share = u128::from(length) * u128::from(self.allocated) / u128::from(self.size);
                share as u64
            }
        }
    }
}

fn data_of_pieces(pieces: &[Piece], range: Range<u64>) -> u64 {
    let mut at = 0;
    let mut data = 0;
    for piece in pieces {
        let (start, end) = (at, at + piece.length());
        at = end;
        if matches!(piece, Piece::Chunk { .. }) {
            data += end.min(range.end).saturating_sub(start.max(range.start));
        }
    }
    data
}

#[cfg(test)]
pub(crate) mod tests;
