//! Pages of trees, in memory, for work under the namespace's lock.
//!
//! Nobody may wait for the store with that lock held. A page that is not here is written down as
//! missing and the work stops before it has changed anything; the caller loads the page without
//! the lock and does it again.

use bytes::Bytes;
use holdfast_crypto::{ChunkId, ChunkKind};
use lru::LruCache;
use parking_lot::Mutex;

use crate::chunks::{ChunkSource, LoadError};

/// Plaintext of pages kept at the most, unless something else is said.
const BUDGET_BYTES: usize = 3 << 20;

/// The pages.
pub struct Nodes {
    inner: Mutex<Inner>,
}

struct Inner {
    budget_bytes: usize,
    pages: LruCache<(ChunkKind, ChunkId), Bytes>,
    bytes: usize,
    missing: Option<(ChunkKind, ChunkId)>,
}

impl Default for Nodes {
    fn default() -> Self {
        let inner = Inner {
            budget_bytes: BUDGET_BYTES,
            pages: LruCache::unbounded(),
            bytes: 0,
            missing: None,
        };
        Nodes {
            inner: Mutex::new(inner),
        }
    }
}

impl Nodes {
    /// From now on so many bytes are kept at the most.
    pub fn limit_to(&self, budget_bytes: usize) {
        self.inner.lock().budget_bytes = budget_bytes;
    }

    /// Keeps a page that was loaded.
    pub fn insert(&self, kind: ChunkKind, id: ChunkId, page: Bytes) {
        let mut inner = self.inner.lock();
        inner.bytes += page.len();
        if let Some(before) = inner.pages.put((kind, id), page) {
            inner.bytes -= before.len();
        }
        // The newest stays however large it is, or the work that needs it would never end.
        while inner.bytes > inner.budget_bytes && inner.pages.len() > 1 {
            if let Some((_, page)) = inner.pages.pop_lru() {
                inner.bytes -= page.len();
            }
        }
    }

    /// What stopped the work, if that was a page.
    pub fn take_missing(&self) -> Option<(ChunkKind, ChunkId)> {
        self.inner.lock().missing.take()
    }
}

impl ChunkSource for Nodes {
    fn load(&self, kind: ChunkKind, id: &ChunkId) -> Result<Bytes, LoadError> {
        let mut inner = self.inner.lock();
        match inner.pages.get(&(kind, *id)) {
            Some(page) => Ok(page.clone()),
            None => {
                inner.missing = Some((kind, *id));
                Err(LoadError::WouldBlock)
            }
        }
    }
}
