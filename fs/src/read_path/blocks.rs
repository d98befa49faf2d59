//! Packs in blocks of a mebibyte, as they are in the store: small chunks come with their neighbours.
//!
//! Whoever goes through a pack in order, as one does who reads a folder's files, finds the next blocks here: they are
//! fetched ahead, the more the longer it goes on, several at once.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use holdfast_backend::layout::ObjectName;
use holdfast_backend::store::ObjectStore;
use holdfast_crypto::Digest;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::{MemoryCaches, ReadError};
use crate::archive::flights::{Boarding, Flights};
use crate::archive::runtime::{self, wait_for};
use crate::blocking;
use crate::cache::{CacheKind, DiskCache};

pub(super) const BLOCK_BYTES: u64 = 1 << 20;
/// Blocks that are fetched ahead in one pack, and requests for them under way in all.
const MOST_AHEAD: u64 = 4;
const REQUESTS: usize = 4;
/// Packs in which readers are followed.
const WALKS: usize = 8;
/// A reader that goes back by so many blocks still goes on in order: several backup workers wrote the pack.
const BACK: u64 = 2;

/// Blocks that were read, and the way to others.
pub(super) struct Blocks {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    memory: Arc<MemoryCaches>,
    on_disk: Option<Arc<DiskCache>>,
    flights: Flights<(Digest, u64), Result<Bytes, ReadError>>,
    walks: Mutex<Walks>,
    requests: Arc<Semaphore>,
}

impl Blocks {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        runtime: Handle,
        memory: Arc<MemoryCaches>,
        on_disk: Option<Arc<DiskCache>>,
    ) -> Self {
        Self {
            store,
            runtime,
            memory,
            on_disk,
            flights: Flights::new(),
            walks: Mutex::default(),
            requests: Arc::new(Semaphore::new(REQUESTS)),
        }
    }

    /// A part of a pack of `size` bytes, from here or from the store.
    pub(super) fn load(
        &self,
        pack: Digest,
        range: Range<u64>,
        size: u64,
    ) -> Result<Bytes, ReadError> {
        cut(range, |number| self.block(pack, number, size))
    }

    /// The same, if it is here.
    pub(super) fn find(&self, pack: Digest, range: Range<u64>) -> Option<Bytes> {
        let here = |number| self.here(pack, number).ok_or(ReadError::Damaged);
        cut(range, here).ok()
    }

    fn block(&self, pack: Digest, number: u64, size: u64) -> Result<Bytes, ReadError> {
        if let Some(block) = self.here(pack, number) {
            return Ok(block);
        }
        match self.flights.board((pack, number), blocking::deadline()) {
            Boarding::Arrived(result) => result,
            Boarding::TimedOut => Err(ReadError::TimedOut),
            Boarding::Fly(pilot) => {
                let result = self.fetch(pack, number, size);
                // Others may wait longer than this thread.
                if !matches!(result, Err(ReadError::TimedOut)) {
                    pilot.land(result.clone());
                }
                result
            }
        }
    }

    fn fetch(&self, pack: Digest, number: u64, size: u64) -> Result<Bytes, ReadError> {
        let start = number * BLOCK_BYTES;
        let name = ObjectName::Pack(pack);
        let range = start..(start + BLOCK_BYTES).min(size);
        let request = self.store.get_range(&name, range);
        let block = wait_for(&self.runtime, blocking::deadline(), request)
            .ok_or(ReadError::TimedOut)?
            .map_err(ReadError::Store)?;
        self.memory.blocks.insert((pack, number), block.clone());
        if let Some(disk) = &self.on_disk {
            disk.put(CacheKind::Block, &block_key(&pack, number), &block);
        }
        Ok(block)
    }

    fn here(&self, pack: Digest, number: u64) -> Option<Bytes> {
        if let Some(block) = self.memory.blocks.find(&(pack, number)) {
            return Some(block);
        }
        let disk = self.on_disk.as_ref()?;
        let block = Bytes::from(disk.get(CacheKind::Block, &block_key(&pack, number))?);
        self.memory.blocks.insert((pack, number), block.clone());
        Some(block)
    }

    fn is_here(&self, pack: Digest, number: u64) -> bool {
        let on_disk =
            |disk: &Arc<DiskCache>| disk.contains(CacheKind::Block, &block_key(&pack, number));
        self.memory.blocks.contains(&(pack, number)) || self.on_disk.as_ref().is_some_and(on_disk)
    }

    /// Notes what somebody reads who has not said what will be next, and begins to fetch that.
    pub(super) fn follow(self: &Arc<Self>, pack: Digest, range: &Range<u64>, size: u64) {
        let number = range.end.saturating_sub(1) / BLOCK_BYTES;
        let Some(ahead) = self.walks.lock().step(pack, number) else {
            return;
        };
        // Of what memory holds a quarter may be what nobody has asked for yet.
        let room = self.memory.blocks.limit_bytes() as u64 / BLOCK_BYTES / 4;
        let end =
            (ahead.start + (ahead.end - ahead.start).min(room)).min(size.div_ceil(BLOCK_BYTES));
        for number in ahead.start..end {
            if self.is_here(pack, number) {
                continue;
            }
            let Ok(permit) = Arc::clone(&self.requests).try_acquire_owned() else {
                return;
            };
            let this = Arc::clone(self);
            runtime::waiting().spawn_blocking(move || {
                // Somebody may have brought it since it was wished for.
                if let Some(pilot) = this.flights.try_fly((pack, number))
                    && !this.is_here(pack, number)
                {
                    // Without an answer whoever waits fetches it for themselves, and has the error.
                    if let Ok(block) = this.fetch(pack, number, size) {
                        pilot.land(Ok(block));
                    }
                }
                drop(permit);
            });
        }
    }
}

/// What stands in a range of a pack, out of its blocks. A block that is too short for it is a damaged one.
fn cut(
    range: Range<u64>,
    block: impl Fn(u64) -> Result<Bytes, ReadError>,
) -> Result<Bytes, ReadError> {
    let (first, last) = (
        range.start / BLOCK_BYTES,
        range.end.saturating_sub(1) / BLOCK_BYTES,
    );
    let mut joined = BytesMut::new();
    for number in first..=last {
        let start = number * BLOCK_BYTES;
        let from = (range.start.max(start) - start) as usize;
        let to = (range.end.min(start + BLOCK_BYTES) - start) as usize;
        let block = block(number)?;
        if block.len() < to {
            return Err(ReadError::Damaged);
        }
        if first == last {
            return Ok(block.slice(from..to));
        }
        joined.extend_from_slice(&block[from..to]);
    }
    Ok(joined.freeze())
}

fn block_key(pack: &Digest, number: u64) -> [u8; 32] {
    Digest::of(&[&pack.0[..], &number.to_le_bytes()].concat()).0
}

/// Where readers are, in the packs that were read last.
#[derive(Default)]
struct Walks {
    /// The one that was read last is in front.
    walks: VecDeque<Walk>,
}

struct Walk {
    pack: Digest,
    /// The furthest block of those read in order.
    number: u64,
    /// How many were.
    steps: u64,
}

impl Walks {
    /// A block is read; gives the blocks that will be wanted next, when somebody goes on in order.
    fn step(&mut self, pack: Digest, number: u64) -> Option<Range<u64>> {
        let at = self.walks.iter().position(|walk| walk.pack == pack);
        let mut walk = match at {
            Some(0) => self.walks.pop_front()?,
            Some(at) => self.walks.remove(at)?,
            None => Walk {
                pack,
                number,
                steps: 0,
            },
        };
        let goes_on = number == walk.number + 1;
        if goes_on {
            walk.steps += 1;
        } else if number > walk.number || number + BACK < walk.number {
            walk.steps = 0;
        }
        if walk.steps == 0 || goes_on {
            walk.number = number;
        }
        let ahead = number + 1..number + 1 + walk.steps.min(MOST_AHEAD);
        self.walks.truncate(WALKS - 1);
        self.walks.push_front(walk);
        goes_on.then_some(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(n: u8) -> Digest {
        Digest([n; 32])
    }

    #[test]
    fn who_goes_through_a_pack_is_met_with_more_and_more() {
        let mut walks = Walks::default();
        assert_eq!(walks.step(pack(1), 3), None);
        assert_eq!(walks.step(pack(1), 3), None);
        assert_eq!(walks.step(pack(1), 4), Some(5..6));
        assert_eq!(walks.step(pack(1), 5), Some(6..8));
        // Another worker's chunks are a little behind.
        assert_eq!(walks.step(pack(1), 4), None);
        assert_eq!(walks.step(pack(1), 6), Some(7..10));
        assert_eq!(walks.step(pack(1), 7), Some(8..12));
        assert_eq!(walks.step(pack(1), 8), Some(9..13));
    }

    #[test]
    fn who_jumps_is_not_followed() {
        let mut walks = Walks::default();
        for number in [9, 2, 7, 0, 5, 11] {
            assert_eq!(walks.step(pack(1), number), None, "{number}");
        }
        assert_eq!(walks.step(pack(1), 12), Some(13..14));
    }

    #[test]
    fn several_packs_are_read_at_once() {
        let mut walks = Walks::default();
        for n in 0..WALKS as u8 {
            assert_eq!(walks.step(pack(n), 0), None);
        }
        for n in 0..WALKS as u8 {
            assert_eq!(walks.step(pack(n), 1), Some(2..3));
        }
        for n in 100..100 + WALKS as u8 {
            assert_eq!(walks.step(pack(n), 0), None);
        }
        assert_eq!(walks.step(pack(0), 2), None, "it was forgotten");
    }

    #[test]
    fn a_block_that_is_too_short_is_damaged() {
        let short = |_| Ok(Bytes::from_static(b"0123456789"));
        assert_eq!(cut(2..5, short).ok(), Some(Bytes::from_static(b"234")));
        assert!(matches!(cut(2..11, short), Err(ReadError::Damaged)));
        assert!(matches!(
            cut(BLOCK_BYTES - 1..BLOCK_BYTES + 2, short),
            Err(ReadError::Damaged)
        ));
    }
}
