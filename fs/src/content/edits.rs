//! The changes of one layer: which runs of the file were written, placed or punched, and where
//! their bytes are. Runs never overlap; a gap shows what is below.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_crypto::ChunkId;

use super::{Origin, Part};
use crate::log::LogPosition;

/// Writes that follow each other share a buffer up to this length.
const JOINED_BYTES: u64 = 1 << 20;
/// From here on a growing buffer gets its full length at once.
const RESERVE_FROM_BYTES: usize = 128 << 10;
/// What a run costs besides its bytes: map node, counters, allocation.
pub(super) const RUN_COST_BYTES: u64 = 128;

/// A moment in the life of one content; every change has a later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp(pub(super) u64);

/// One run of bytes.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub(super) length: u64,
    /// The last moment at which one of its bytes changed.
    pub(super) stamp: Stamp,
    pub(super) place: Place,
}

/// Where a run's bytes are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In memory only.
    Memory { buffer: Arc<Vec<u8>>, skip: usize },
    /// In an extent record of the log.
    Logged { position: LogPosition, skip: u32 },
    /// In a chunk.
    Chunk {
        id: ChunkId,
        chunk_length: u32,
        skip: u32,
    },
    /// Nowhere: zeros that hide what is below.
    Hole,
}

struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Edit {
    fn without_front(mut self, by: u64) -> Edit {
        self.length -= by;
        match &mut self.place {
            Place::Memory { skip, .. } => *skip += by as usize,
            Place::Logged { skip, .. } | Place::Chunk { skip, .. } => *skip += by as u32,
            Place::Hole => {}
        }
        self.release_buffer()
    }

    fn with_length(mut self, length: u64) -> Edit {
        self.length = length;
        self.release_buffer()
    }

    /// Keeps a small rest of a large buffer from holding all of it.
    fn release_buffer(mut self) -> Edit {
        let length = self.length as usize;
        if let Place::Memory { buffer, skip } = &mut self.place
            && length < buffer.len() / 2
        {
            *buffer = Arc::new(buffer[*skip..*skip + length].to_vec());
            *skip = 0;
        }
        self
    }

    pub(super) fn is_memory(&self) -> bool {
        matches!(self.place, Place::Memory { .. })
    }

    fn is_data(&self) -> bool {
        !matches!(self.place, Place::Hole)
    }

    fn is_raw(&self) -> bool {
        matches!(self.place, Place::Memory { .. } | Place::Logged { .. })
    }

    /// Whether nobody else looks at its buffer, so that it may change in place.
    fn is_own_memory(&self) -> bool {
        matches!(&self.place, Place::Memory { buffer, .. } if Arc::strong_count(buffer) == 1)
    }

    /// Whether `next`, which stands right behind, goes on where this one ends.
    fn continues(&self, next: &Edit) -> bool {
        let at = self.length;
        match (&self.place, &next.place) {
            (Place::Hole, Place::Hole) => true,
            (
                Place::Logged { position, skip },
                Place::Logged {
                    position: other,
                    skip: there,
                },
            ) => position == other && u64::from(*skip) + at == u64::from(*there),
            (
                Place::Chunk {
                    id,
                    chunk_length,
                    skip,
                },
                Place::Chunk {
                    id: other,
                    chunk_length: other_length,
                    skip: there,
                },
            ) => {
                id == other
                    && chunk_length == other_length
                    && u64::from(*skip) + at == u64::from(*there)
            }
            _ => false,
        }
    }

    /// Where the bytes of `within`, an offset range inside the run, are.
    fn origin(&self, within: Range<u64>) -> Origin {
        match &self.place {
            Place::Memory { buffer, skip } => {
                let bytes = Bytes::from_owner(Shared(buffer.clone()));
                Origin::Memory(
                    bytes.slice(*skip + within.start as usize..*skip + within.end as usize),
                )
            }
            Place::Logged { position, skip } => Origin::Log {
                position: *position,
                skip: *skip + within.start as u32,
            },
            Place::Chunk {
                id,
                chunk_length,
                skip,
            } => Origin::Chunk {
                id: *id,
                chunk_length: *chunk_length,
                skip: *skip + within.start as u32,
            },
            Place::Hole => Origin::Zero,
        }
    }
}

/// The runs of a layer by their offset.
#[derive(Clone, Debug, Default)]
pub(super) struct Edits {
    runs: BTreeMap<u64, Edit>,
    memory_bytes: u64,
    raw_bytes: u64,
    data_bytes: u64,
}

impl Edits {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Bytes held in memory, by length of the runs.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Bytes in memory or in the log.
    pub(super) fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Bytes that are not holes.
    pub(super) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// The run that starts at `offset`.
    pub(super) fn at(&self, offset: u64) -> Option<&Edit> {
        self.runs.get(&offset)
    }

    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.runs
            .iter()
            .map(|(start, edit)| *start..*start + edit.length)
    }

    /// The runs that touch `range`, each with the part of it inside.
    pub(super) fn touching(
        &self,
        range: Range<u64>,
    ) -> impl Iterator<Item = (Range<u64>, Run<'_>)> {
        let before = self.runs.range(..range.start).next_back();
        let inside = self.runs.range(range.start..range.end.max(range.start));
        before
            .into_iter()
            .chain(inside)
            .filter_map(move |(&start, edit)| {
                let clipped = start.max(range.start)..(start + edit.length).min(range.end);
                (!clipped.is_empty()).then_some((clipped, Run { start, edit }))
            })
    }

    /// The parts of `range` that no run covers.
    pub(super) fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for (run, _) in self.touching(range.clone()) {
            if at < run.start {
                gaps.push(at..run.start);
            }
            at = run.end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Bytes of `range` that runs cover with data.
    pub(super) fn data_in(&self, range: Range<u64>) -> u64 {
        self.touching(range)
            .filter(|(_, run)| run.edit.is_data())
            .map(|(clipped, _)| clipped.end - clipped.start)
            .sum()
    }

    /// Removes what covers `range`; runs that reach over its ends keep the rest.
    pub(super) fn carve(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.runs.range(..range.start).next_back();
        let reaches_in = first
            .filter(|(start, edit)| *start + edit.length > range.start)
            .map(|(start, _)| *start);
        let inside = self.runs.range(range.clone()).map(|(start, _)| *start);
        let starts: Vec<u64> = reaches_in.into_iter().chain(inside).collect();
        for start in starts {
            let edit = self.take(start);
            let end = start + edit.length;
            if end > range.end {
                self.put(range.end, edit.clone().without_front(range.end - start));
            }
            if start < range.start {
                self.put(start, edit.with_length(range.start - start));
            }
        }
    }

    /// Puts a run where nothing is, and joins it with its neighbours where it continues them.
    pub(super) fn insert(&mut self, mut offset: u64, mut edit: Edit) {
        let before = self
            .runs
            .range(..offset)
            .next_back()
            .map(|(start, before)| (*start, before));
        if let Some((start, before)) = before
            && start + before.length == offset
            && before.continues(&edit)
        {
            let before = self.take(start);
            let (length, stamp) = (before.length + edit.length, before.stamp.max(edit.stamp));
            edit = Edit {
                length,
                stamp,
                ..before
            };
            offset = start;
        }
        let end = offset + edit.length;
        if self
            .runs
            .get(&end)
            .is_some_and(|after| edit.continues(after))
        {
            let after = self.take(end);
            edit.length += after.length;
            edit.stamp = edit.stamp.max(after.stamp);
        }
        self.put(offset, edit);
    }

    /// Writes bytes, into the buffer that they continue or change where there is one.
    pub(super) fn write(&mut self, offset: u64, data: &[u8], stamp: Stamp) {
        let end = offset + data.len() as u64;
        let joins = self
            .runs
            .range(..=offset)
            .next_back()
            .filter(|(start, edit)| {
                *start + edit.length >= offset
                    && edit.is_own_memory()
                    && end - *start <= JOINED_BYTES
            });
        if let Some(start) = joins.map(|(start, _)| *start) {
            self.write_into(start, offset, data, stamp);
            return;
        }
        self.carve(offset..end);
        for (index, piece) in data.chunks(JOINED_BYTES as usize).enumerate() {
            let place = Place::Memory {
                buffer: Arc::new(piece.to_vec()),
                skip: 0,
            };
            let edit = Edit {
                length: piece.len() as u64,
                stamp,
                place,
            };
            self.put(offset + index as u64 * JOINED_BYTES, edit);
        }
    }

    fn write_into(&mut self, start: u64, offset: u64, data: &[u8], stamp: Stamp) {
        let mut edit = self.take(start);
        let end = offset + data.len() as u64;
        let overlap = (start + edit.length).min(end).saturating_sub(offset) as usize;
        self.carve(start + edit.length..end.max(start + edit.length));
        let Place::Memory { buffer, skip } = &mut edit.place else {
            unreachable!("the caller chose a run in memory")
        };
        let buffer = Arc::get_mut(buffer).expect("the caller chose a buffer that nobody shares");
        let at = *skip + (offset - start) as usize;
        buffer[at..at + overlap].copy_from_slice(&data[..overlap]);
        if overlap < data.len() {
            buffer.truncate(*skip + edit.length as usize);
            if buffer.len() >= RESERVE_FROM_BYTES && buffer.capacity() < at + data.len() {
                buffer.reserve_exact(JOINED_BYTES as usize + *skip - buffer.len());
            }
            buffer.extend_from_slice(&data[overlap..]);
            edit.length = end - start;
        }
        // Bytes that were only appended to did not change.
        if overlap > 0 {
            edit.stamp = stamp;
        }
        self.put(start, edit);
    }

    fn take(&mut self, start: u64) -> Edit {
        let edit = self.runs.remove(&start).expect("the caller found this run");
        if edit.is_memory() {
            self.memory_bytes -= edit.length;
        }
        if edit.is_raw() {
            self.raw_bytes -= edit.length;
        }
        if edit.is_data() {
            self.data_bytes -= edit.length;
        }
        edit
    }

    fn put(&mut self, start: u64, edit: Edit) {
        if edit.is_memory() {
            self.memory_bytes += edit.length;
        }
        if edit.is_raw() {
            self.raw_bytes += edit.length;
        }
        if edit.is_data() {
            self.data_bytes += edit.length;
        }
        self.runs.insert(start, edit);
    }
}

/// A run and where it starts.
pub(super) struct Run<'e> {
    start: u64,
    pub(super) edit: &'e Edit,
}

impl Run<'_> {
    pub(super) fn is_data(&self) -> bool {
        self.edit.is_data()
    }

    /// The part of a file that `range`, within the run, is.
    pub(super) fn part(&self, range: Range<u64>) -> Part {
        let origin = self
            .edit
            .origin(range.start - self.start..range.end - self.start);
        Part { range, origin }
    }
}
