//! Decrypted chunks in memory, up to a number of bytes, with one flight per chunk.

use bytes::Bytes;
use holdfast_crypto::{ChunkId, ChunkKind};
use lru::LruCache;
use parking_lot::Mutex;

use crate::archive::flights::{Boarding, Flights};
use crate::blocking;
use crate::chunks::{LoadError, Outage};

type Key = (ChunkKind, ChunkId);

/// What an entry costs besides its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 200;

/// Least recently used chunks leave first. A chunk larger than the budget is never kept.
pub struct ChunkCache {
    state: Mutex<State>,
    flights: Flights<Key, Result<Bytes, LoadError>>,
}

struct State {
    budget_bytes: usize,
    chunks: LruCache<Key, Bytes>,
    used_bytes: usize,
}

impl ChunkCache {
    /// An empty cache that holds at most this many bytes.
    pub fn new(budget_bytes: usize) -> Self {
        ChunkCache {
            state: Mutex::new(State {
                budget_bytes,
                chunks: LruCache::unbounded(),
                used_bytes: 0,
            }),
            flights: Flights::new(),
        }
    }

    /// The chunk if it is here. Never waits for a load.
    pub fn get(&self, kind: ChunkKind, id: &ChunkId) -> Option<Bytes> {
        self.state.lock().chunks.get(&(kind, *id)).cloned()
    }

    /// Whether somebody loads it at present.
    pub fn is_loading(&self, kind: ChunkKind, id: &ChunkId) -> bool {
        self.flights.is_under_way(&(kind, *id))
    }

    /// The chunk from here, or from `load`, which runs without a lock held and once for all callers
    /// that come while it does; they share its error too, but each waits until its own deadline. A caller
    /// that may not wait asks [`ChunkCache::get`] only.
    pub fn get_or_load(
        &self,
        kind: ChunkKind,
        id: &ChunkId,
        load: impl FnOnce() -> Result<Bytes, LoadError>,
    ) -> Result<Bytes, LoadError> {
        if let Some(chunk) = self.get(kind, id) {
            return Ok(chunk);
        }
        // Dropping the pilot wakes the others, even if `load` panics.
        let pilot = match self.flights.board((kind, *id), blocking::deadline()) {
            Boarding::Fly(pilot) => pilot,
            Boarding::Arrived(result) => return result,
            Boarding::TimedOut => return Err(late()),
        };
        // Somebody may have landed since it was looked for.
        let result = self.get(kind, id).map_or_else(load, Ok);
        if let Ok(chunk) = &result {
            self.insert(kind, id, chunk.clone());
        }
        // What concerns nobody else: this thread may not wait, or not so long as others.
        if !matches!(&result, Err(LoadError::WouldBlock)) && !is_late(&result) {
            pilot.land(result.clone());
        }
        result
    }

    /// Keeps a chunk.
    pub fn insert(&self, kind: ChunkKind, id: &ChunkId, chunk: Bytes) {
        let size = chunk.len() + ENTRY_OVERHEAD_BYTES;
        let mut state = self.state.lock();
        if size > state.budget_bytes {
            return;
        }
        state.used_bytes += size;
        if let Some(old) = state.chunks.put((kind, *id), chunk) {
            state.used_bytes -= old.len() + ENTRY_OVERHEAD_BYTES;
        }
        state.keep_within_budget();
    }

    /// From now on it holds at most this many bytes.
    pub fn limit_to(&self, budget_bytes: usize) {
        let mut state = self.state.lock();
        state.budget_bytes = budget_bytes;
        state.keep_within_budget();
    }

    /// What it may hold.
    pub fn budget_bytes(&self) -> usize {
        self.state.lock().budget_bytes
    }

    /// Forgets a chunk that turned out wrong.
    pub fn remove(&self, kind: ChunkKind, id: &ChunkId) {
        let mut state = self.state.lock();
        if let Some(old) = state.chunks.pop(&(kind, *id)) {
            state.used_bytes -= old.len() + ENTRY_OVERHEAD_BYTES;
        }
    }

    /// Forgets everything: the keys are gone.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        state.chunks.clear();
        state.used_bytes = 0;
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> usize {
        self.state.lock().used_bytes
    }
}

impl State {
    fn keep_within_budget(&mut self) {
        while self.used_bytes > self.budget_bytes {
            let Some((_, old)) = self.chunks.pop_lru() else {
                break;
            };
            self.used_bytes -= old.len() + ENTRY_OVERHEAD_BYTES;
        }
    }
}

fn late() -> LoadError {
    LoadError::Unavailable {
        outage: Outage::TimedOut,
    }
}

fn is_late(result: &Result<Bytes, LoadError>) -> bool {
    matches!(
        result,
        Err(LoadError::Unavailable {
            outage: Outage::TimedOut
        })
    )
}

#[cfg(test)]
mod tests;
