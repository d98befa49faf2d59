//! Where trees, lists and files get their chunks from, and where they put new ones.
//!
//! Everything above this line (trees, lists, content) works on these two traits and knows
//! neither store nor cache nor key: the archive implements them, and so does [`MemoryChunks`]
//! for tests. A chunk is found by its id only, and its id is a keyed hash of its bytes, so a
//! chunk that was loaded is the chunk that was asked for.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_crypto::{ChunkId, ChunkKind};
use parking_lot::Mutex;

/// Loads a chunk's plaintext by its id.
pub trait ChunkSource: Send + Sync {
    /// The plaintext of a chunk, already checked against its id.
    fn load(&self, kind: ChunkKind, id: &ChunkId) -> Result<Bytes, LoadError>;
}

/// Takes a chunk's plaintext and says under which id it can be loaded.
pub trait ChunkSink: Send + Sync {
    /// Stores a chunk (or finds that it is already there) and returns its id.
    ///
    /// When it returns, the chunk is in the log or in the store.
    fn store(&self, kind: ChunkKind, plaintext: &[u8]) -> Result<ChunkId, SinkError>;
}

impl<S: ChunkSource + ?Sized> ChunkSource for Arc<S> {
    fn load(&self, kind: ChunkKind, id: &ChunkId) -> Result<Bytes, LoadError> {
        (**self).load(kind, id)
    }
}

impl<S: ChunkSink + ?Sized> ChunkSink for Arc<S> {
    fn store(&self, kind: ChunkKind, plaintext: &[u8]) -> Result<ChunkId, SinkError> {
        (**self).store(kind, plaintext)
    }
}

/// An error from below that has no kind of its own; shared, because one flight serves many.
pub type SharedError = Arc<dyn Error + Send + Sync>;

/// Why the store did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The deadline of the request passed.
    TimedOut,
    /// The store failed a moment ago and is not asked again yet.
    BreakerOpen,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outage::TimedOut => "it did not answer in time",
            Outage::BreakerOpen => "it failed a moment ago and is left alone for a while",
        })
    }
}

/// A chunk could not be loaded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// No object of the archive holds this chunk.
    #[error(
        "{kind:?} chunk {id:?} is not in the archive; `holdfast check` names the files that use it"
    )]
    Missing {
        /// What it is a chunk of.
        kind: ChunkKind,
        /// Its id.
        id: ChunkId,
    },
    /// What is stored does not authenticate, or is not what its id or its format says.
    #[error(
        "{kind:?} chunk {id:?} is damaged{}; `holdfast check` names the files that use it",
        in_object(object)
    )]
    Damaged {
        /// What it is a chunk of.
        kind: ChunkKind,
        /// Its id.
        id: ChunkId,
        /// The object that holds it, where it is known.
        object: Option<String>,
    },
    /// The store is away; the chunk may well be there.
    #[error("the store is away: {outage}")]
    Unavailable {
        /// What happened.
        outage: Outage,
    },
    /// Not available locally, and the calling thread is not allowed to wait for the store.
    #[error("this chunk has to be fetched, and the caller does not wait")]
    WouldBlock,
    /// The user key is not there.
    #[error("the archive is locked: the user key is not there")]
    Locked,
    /// Anything else; the source says what.
    #[error("cannot load a chunk")]
    Other(#[source] SharedError),
}

fn in_object(object: &Option<String>) -> String {
    match object {
        Some(object) => format!(" in {object}"),
        None => String::new(),
    }
}

impl LoadError {
    /// Wraps an error that has no kind of its own.
    pub fn other(source: impl Error + Send + Sync + 'static) -> Self {
        LoadError::Other(Arc::new(source))
    }
}

/// A chunk could not be stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SinkError {
    /// Neither the log nor the disk has room.
    #[error("no space is left for new data on this computer")]
    NoSpace,
    /// The store's quota is used up.
    #[error("the store's quota is used up")]
    Quota,
    /// The drive takes nothing any more.
    #[error("the drive is read-only: {why}")]
    ReadOnly {
        /// The reason, for a person.
        why: String,
    },
    /// Anything else; the source says what.
    #[error("cannot store a chunk")]
    Other(#[source] SharedError),
}

impl SinkError {
    /// Wraps an error that has no kind of its own.
    pub fn other(source: impl Error + Send + Sync + 'static) -> Self {
        SinkError::Other(Arc::new(source))
    }
}

/// Loading a chunk or storing one failed, in work that does both.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChunkError {
    /// A chunk could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A chunk could not be stored.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// Chunks in memory, without encryption: source and sink of tests.
///
/// Ids are BLAKE3 over kind and plaintext, so that equal trees have equal ids.
#[derive(Default)]
pub struct MemoryChunks {
    chunks: Mutex<HashMap<(ChunkKind, ChunkId), Bytes>>,
    counts: Mutex<Counts>,
}

/// How often a [`MemoryChunks`] was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of `load`.
    pub loads: u64,
    /// Calls of `store`, known chunks included.
    pub stores: u64,
}

impl MemoryChunks {
    /// Holds nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many chunks there are.
    pub fn len(&self) -> usize {
        self.chunks.lock().len()
    }

    /// Whether nothing was stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls since the last time this was asked.
    pub fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.counts.lock())
    }

    /// Loses a chunk, as a damaged archive would.
    pub fn lose(&self, kind: ChunkKind, id: &ChunkId) {
        self.chunks.lock().remove(&(kind, *id));
    }

    /// Puts other bytes under an id, as a damaged or hostile archive would.
    pub fn replace(&self, kind: ChunkKind, id: &ChunkId, bytes: Bytes) {
        self.chunks.lock().insert((kind, *id), bytes);
    }
}

impl ChunkSource for MemoryChunks {
    fn load(&self, kind: ChunkKind, id: &ChunkId) -> Result<Bytes, LoadError> {
        self.counts.lock().loads += 1;
        let chunks = self.chunks.lock();
        chunks
            .get(&(kind, *id))
            .cloned()
            .ok_or(LoadError::Missing { kind, id: *id })
    }
}

impl ChunkSink for MemoryChunks {
    fn store(&self, kind: ChunkKind, plaintext: &[u8]) -> Result<ChunkId, SinkError> {
        self.counts.lock().stores += 1;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind as u8]);
        hasher.update(plaintext);
        let id = ChunkId {
            epoch: 1,
            hash: *hasher.finalize().as_bytes(),
        };
        self.chunks
            .lock()
            .entry((kind, id))
            .or_insert_with(|| Bytes::copy_from_slice(plaintext));
        Ok(id)
    }
}
