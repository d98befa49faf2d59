//! Decrypted chunks in memory, up to a number of bytes, with one flight per chunk.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_crypto::{ChunkId, ChunkKind};
use lru::LruCache;
use parking_lot::{Condvar, Mutex};

use crate::chunks::LoadError;

type Key = (ChunkKind, ChunkId);

/// What an entry costs besides its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 200;

/// Least recently used chunks leave first. A chunk larger than the budget is never kept.
pub struct ChunkCache {
    state: Mutex<State>,
}

struct State {
    budget_bytes: usize,
    chunks: LruCache<Key, Bytes>,
    used_bytes: usize,
    flights: HashMap<Key, Arc<Flight>>,
}

/// One load under way.
#[derive(Default)]
struct Flight {
    landing: Mutex<Landing>,
    landed: Condvar,
}

#[derive(Default)]
enum Landing {
    #[default]
    UnderWay,
    Landed(Result<Bytes, LoadError>),
    /// Nothing that concerns anybody else: the one who flew may not wait, or panicked.
    Abandoned,
}

impl ChunkCache {
    /// An empty cache that holds at most this many bytes.
    pub fn new(budget_bytes: usize) -> Self {
        ChunkCache {
            state: Mutex::new(State {
                budget_bytes,
                chunks: LruCache::unbounded(),
                used_bytes: 0,
                flights: HashMap::new(),
            }),
        }
    }

    /// The chunk if it is here. Never waits for a load.
    pub fn get(&self, kind: ChunkKind, id: &ChunkId) -> Option<Bytes> {
        self.state.lock().chunks.get(&(kind, *id)).cloned()
    }

    /// The chunk from here, or from `load`, which runs without a lock held and once for all callers
    /// that come while it does; they share its error too. A caller that may not wait asks
    /// [`ChunkCache::get`] only.
    pub fn get_or_load(
        &self,
        kind: ChunkKind,
        id: &ChunkId,
        load: impl FnOnce() -> Result<Bytes, LoadError>,
    ) -> Result<Bytes, LoadError> {
        let key = (kind, *id);
        loop {
            let flight = {
                let mut state = self.state.lock();
                if let Some(chunk) = state.chunks.get(&key) {
                    return Ok(chunk.clone());
                }
                match state.flights.get(&key) {
                    Some(flight) => flight.clone(),
                    None => {
                        state.flights.insert(key, Arc::default());
                        break;
                    }
                }
            };
            if let Some(result) = flight.wait() {
                return result;
            }
        }
        // Wakes the others even if `load` panics.
        let mut pilot = Pilot {
            cache: self,
            key,
            landing: Landing::Abandoned,
        };
        let result = load();
        if let Ok(chunk) = &result {
            self.insert(kind, id, chunk.clone());
        }
        if !matches!(result, Err(LoadError::WouldBlock)) {
            pilot.landing = Landing::Landed(result.clone());
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

impl Flight {
    /// What it brought; `None` when somebody else has to fly.
    fn wait(&self) -> Option<Result<Bytes, LoadError>> {
        let mut landing = self.landing.lock();
        loop {
            match &*landing {
                Landing::UnderWay => self.landed.wait(&mut landing),
                Landing::Landed(result) => return Some(result.clone()),
                Landing::Abandoned => return None,
            }
        }
    }
}

struct Pilot<'a> {
    cache: &'a ChunkCache,
    key: Key,
    landing: Landing,
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        let flight = self.cache.state.lock().flights.remove(&self.key);
        if let Some(flight) = flight {
            *flight.landing.lock() = std::mem::take(&mut self.landing);
            flight.landed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
