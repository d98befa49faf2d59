//! The most recently used things that fit a number of bytes.

use std::hash::Hash;

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

/// A bounded map from keys to bytes.
pub struct ByteLru<K: Hash + Eq> {
    limit_bytes: usize,
    held: Mutex<Held<K>>,
}

struct Held<K: Hash + Eq> {
    entries: LruCache<K, Bytes>,
    bytes: usize,
}

/// What an entry costs beside its bytes, about.
const OVERHEAD_BYTES: usize = 128;

impl<K: Hash + Eq> ByteLru<K> {
    /// Holds at most `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        let held = Held {
            entries: LruCache::unbounded(),
            bytes: 0,
        };
        Self {
            limit_bytes,
            held: Mutex::new(held),
        }
    }

    /// Looks a thing up and marks it as used.
    pub fn find(&self, key: &K) -> Option<Bytes> {
        self.held.lock().entries.get(key).cloned()
    }

    /// Keeps a thing, and gives up the least recently used ones.
    pub fn insert(&self, key: K, value: Bytes) {
        let cost = value.len() + OVERHEAD_BYTES;
        if cost > self.limit_bytes {
            return;
        }
        let mut held = self.held.lock();
        held.bytes += cost;
        if let Some((_, replaced)) = held.entries.push(key, value) {
            held.bytes -= replaced.len() + OVERHEAD_BYTES;
        }
        while held.bytes > self.limit_bytes {
            let Some((_, dropped)) = held.entries.pop_lru() else {
                break;
            };
            held.bytes -= dropped.len() + OVERHEAD_BYTES;
        }
    }
}
