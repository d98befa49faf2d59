//! The most recently used things that fit a number of bytes.

use std::hash::Hash;

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

/// A bounded map from keys to bytes.
pub struct ByteLru<K: Hash + Eq> {
    held: Mutex<Held<K>>,
}

struct Held<K: Hash + Eq> {
    limit_bytes: usize,
    entries: LruCache<K, Bytes>,
    bytes: usize,
}

/// What an entry costs beside its bytes, about.
const OVERHEAD_BYTES: usize = 128;

impl<K: Hash + Eq> ByteLru<K> {
    /// Holds at most `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        let held = Held {
            limit_bytes,
            entries: LruCache::unbounded(),
            bytes: 0,
        };
        Self {
            held: Mutex::new(held),
        }
    }

    /// Bytes held, with what an entry costs.
    pub fn used_bytes(&self) -> usize {
        self.held.lock().bytes
    }

    /// Looks a thing up and marks it as used.
    pub fn find(&self, key: &K) -> Option<Bytes> {
        self.held.lock().entries.get(key).cloned()
    }

    /// Whether it is held.
    pub fn contains(&self, key: &K) -> bool {
        self.held.lock().entries.contains(key)
    }

    /// What it may hold.
    pub fn limit_bytes(&self) -> usize {
        self.held.lock().limit_bytes
    }

    /// Keeps a thing, and gives up the least recently used ones.
    pub fn insert(&self, key: K, value: Bytes) {
        let cost = value.len() + OVERHEAD_BYTES;
        let mut held = self.held.lock();
        if cost > held.limit_bytes {
            return;
        }
        held.bytes += cost;
        if let Some((_, replaced)) = held.entries.push(key, value) {
            held.bytes -= replaced.len() + OVERHEAD_BYTES;
        }
        held.keep_within_limit();
    }

    /// From now on holds at most `limit_bytes`.
    pub fn limit_to(&self, limit_bytes: usize) {
        let mut held = self.held.lock();
        held.limit_bytes = limit_bytes;
        held.keep_within_limit();
    }
}

impl<K: Hash + Eq> Held<K> {
    fn keep_within_limit(&mut self) {
        while self.bytes > self.limit_bytes {
            let Some((_, dropped)) = self.entries.pop_lru() else {
                break;
            };
            self.bytes -= dropped.len() + OVERHEAD_BYTES;
        }
    }
}
