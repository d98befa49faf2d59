//! The way of new bytes: chunk -> known? -> compress -> encrypt -> log -> pack.
//!
//! [`LogSink`] brings a chunk into the log; the feed takes it from there to the packer a second
//! later, unchanged, if a file still wants it. What is in the log but not in the store is found in
//! `pending`, by readers too.
//!
//! A pending chunk has owners: files whose content may name it. The set is never too small: every
//! way to put a chunk into a content goes through [`WritePath::own`]. A chunk without owners is not
//! uploaded. A file gives its chunks up when it is emptied or gone, but for those that a frozen
//! view has: what stood in the log when the newest view was frozen stays owned until its commit.
//!
//! Locks, in this order: `logging` (shared by whoever brings content into the log, exclusive for a
//! freeze, so that a freeze has whole extents before or behind it), a file's `order` (one extent or
//! truncate of a file at a time, so that the log has them in the order in which they happened), the
//! namespace, `pending`.
//!
//! On disk after a crash: a session key before its first chunk (synced), chunks and extents as far
//! as they were appended. A pack that was stored but whose record is missing is uploaded again.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use holdfast_crypto::{ChunkId, ChunkKind, Ciphertext, Digest};
use lru::LruCache;
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

use crate::archive::Archive;
use crate::chunk::Chunker;
use crate::chunks::{ChunkSink, LoadError, SinkError};
use crate::content::ExtentSource;
use crate::encrypt;
use crate::filesystem::FsError;
use crate::format::FileNo;
use crate::log::{Log, LogError, LogPosition, RecordRef};
use crate::memory::shrink_if_sparse;
use crate::packer::{PackedChunks, QueuedChunk};

/// A chunk that nobody gave up for so long is uploaded.
const SETTLED: Duration = Duration::from_secs(1);
/// Owner of chunks found in the log at replay: who wants them is not counted again.
pub const REPLAYED: FileNo = 0;
/// Locks of files' orders.
const ORDERS: usize = 64;
/// Extents kept decrypted; each has at most 1 MiB.
const CACHED_EXTENTS: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");

/// See the module.
pub struct WritePath {
    archive: Arc<Archive>,
    log: Arc<Log>,
    /// The archive's chunker.
    pub chunker: Chunker,
    /// Held while content is brought into the log; exclusively for a freeze.
    pub logging: RwLock<()>,
    orders: Vec<Mutex<()>>,
    pending: Mutex<Pending>,
    changed: Condvar,
    extents: Mutex<LruCache<LogPosition, Bytes>>,
    /// Bytes of content in memory, by file.
    memory: Mutex<HashMap<FileNo, u64>>,
    memory_total: AtomicU64,
}

#[derive(Default)]
struct Pending {
    chunks: HashMap<ChunkId, PendingChunk>,
    owned: HashMap<FileNo, HashSet<ChunkId>>,
    /// Being encrypted and logged by some thread.
    in_flight: HashSet<ChunkId>,
    /// Chunks at or below this place in the log that have no owner are about to be released.
    releasing: u64,
    /// What stood in the log at the newest freeze.
    frozen: u64,
    /// The session key whose object is in the log behind the newest freeze.
    session: Option<Digest>,
}

struct PendingChunk {
    position: LogPosition,
    kind: ChunkKind,
    raw_length: u32,
    key: Digest,
    owners: HashSet<FileNo>,
    since: Instant,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Logged,
    Queued,
    Stored,
}

impl WritePath {
    /// Nothing is pending yet.
    pub fn new(archive: Arc<Archive>, log: Arc<Log>) -> Self {
        WritePath {
            chunker: Chunker::from_gear_table(archive.keychain().gear_table()),
            archive,
            log,
            logging: RwLock::new(()),
            orders: (0..ORDERS).map(|_| Mutex::new(())).collect(),
            pending: Mutex::default(),
            changed: Condvar::new(),
            extents: Mutex::new(LruCache::new(CACHED_EXTENTS)),
            memory: Mutex::default(),
            memory_total: AtomicU64::new(0),
        }
    }

    /// Content of this file enters the log in the order of this lock.
    pub fn order(&self, file: FileNo) -> MutexGuard<'_, ()> {
        self.orders[file as usize % ORDERS].lock()
    }

    /// A sink into the log for chunks of a file.
    pub fn sink(&self, file: FileNo) -> LogSink<'_> {
        LogSink { path: self, file }
    }

    /// A file's content names this chunk now.
    pub fn own(&self, id: &ChunkId, file: FileNo) {
        self.pending.lock().own(id, file);
    }

    /// A file's content names no chunk any more that it got since the newest freeze.
    pub fn disown(&self, file: FileNo) {
        let mut pending = self.pending.lock();
        let Pending {
            chunks,
            owned,
            frozen,
            ..
        } = &mut *pending;
        let Some(ids) = owned.get_mut(&file) else {
            return;
        };
        ids.retain(|id| match chunks.get_mut(id) {
            Some(chunk) if chunk.position.sequence > *frozen => {
                chunk.owners.remove(&file);
                false
            }
            Some(_) => true,
            None => false,
        });
        if ids.is_empty() {
            owned.remove(&file);
        }
    }

    /// A view was frozen with the log up to here in it. Later chunks get the session key's object
    /// into the log again, because the one there is released with the view's commit.
    pub fn frozen(&self, sequence: u64) {
        let mut pending = self.pending.lock();
        pending.frozen = sequence;
        pending.session = None;
    }

    /// A chunk of the log, found at replay.
    pub fn replayed(
        &self,
        id: ChunkId,
        kind: ChunkKind,
        raw_length: u32,
        key: Digest,
        position: LogPosition,
    ) {
        let chunk = PendingChunk {
            position,
            kind,
            raw_length,
            key,
            owners: HashSet::from([REPLAYED]),
            since: Instant::now(),
            place: Place::Logged,
        };
        self.pending.lock().chunks.insert(id, chunk);
    }

    /// These are in the store. Said before anybody who waits for the pack hears of it.
    pub fn stored(&self, pack: &PackedChunks) {
        self.mark_stored(pack);
        if let Err(error) = self
            .log
            .append_reserved(&RecordRef::PackStored(&pack.encode()))
        {
            // Costs an upload after a crash, nothing else.
            tracing::warn!(%error, "cannot record a stored pack");
        }
    }

    /// The same, found in the log.
    pub fn mark_stored(&self, pack: &PackedChunks) {
        let mut pending = self.pending.lock();
        for chunk in &pack.chunks {
            if let Some(chunk) = pending.chunks.get_mut(&chunk.id) {
                chunk.place = Place::Stored;
            }
        }
    }

    /// A chunk that is in the log.
    pub fn find(&self, id: &ChunkId) -> Option<QueuedChunk> {
        let (position, raw_length, key) = {
            let pending = self.pending.lock();
            let chunk = pending.chunks.get(id)?;
            (chunk.position, chunk.raw_length, chunk.key)
        };
        let stored = self.log.read(&position).ok()?;
        Some(QueuedChunk {
            raw_length,
            key,
            stored: stored.into(),
        })
    }

    /// Bytes of chunks that are in the log and not in the store.
    pub fn queued_bytes(&self) -> u64 {
        let pending = self.pending.lock();
        let waits =
            |chunk: &&PendingChunk| chunk.place != Place::Stored && !chunk.owners.is_empty();
        pending
            .chunks
            .values()
            .filter(waits)
            .map(|chunk| u64::from(chunk.position.length))
            .sum()
    }

    /// Gives settled chunks to the packer. Waits while the packer has no room.
    pub fn feed(&self) -> Result<(), LoadError> {
        let settled =
            |chunk: &PendingChunk| !chunk.owners.is_empty() && chunk.since.elapsed() >= SETTLED;
        self.feed_those(&settled)
    }

    /// Gives every chunk to the packer that a view frozen here may need, and those below it that
    /// newer content wants: after that view's commit the log below is gone.
    pub fn feed_for_commit(&self, sequence: u64) -> Result<(), LoadError> {
        self.pending.lock().releasing = sequence;
        self.feed_those(&|chunk| !chunk.owners.is_empty() && chunk.position.sequence <= sequence)
    }

    fn feed_those(&self, wanted: &dyn Fn(&PendingChunk) -> bool) -> Result<(), LoadError> {
        let mut found: Vec<(LogPosition, ChunkId)> = {
            let pending = self.pending.lock();
            let logged = pending
                .chunks
                .iter()
                .filter(|(_, chunk)| chunk.place == Place::Logged);
            logged
                .filter(|(_, chunk)| wanted(chunk))
                .map(|(id, chunk)| (chunk.position, *id))
                .collect()
        };
        // In the order of the log: what was written together is packed together.
        found.sort_unstable_by_key(|(position, _)| position.sequence);
        for (position, id) in found {
            self.feed_one(position, id)?;
        }
        Ok(())
    }

    fn feed_one(&self, position: LogPosition, id: ChunkId) -> Result<(), LoadError> {
        let (kind, raw_length, key) = {
            let pending = self.pending.lock();
            match pending.chunks.get(&id) {
                Some(chunk) if chunk.place == Place::Logged && !chunk.owners.is_empty() => {
                    (chunk.kind, chunk.raw_length, chunk.key)
                }
                _ => return Ok(()),
            }
        };
        let is_stored = self.archive.is_stored(&id);
        if !is_stored && !self.archive.packer().is_queued(&id) {
            let stored = self.log.read(&position).map_err(LoadError::other)?;
            let stored = Ciphertext::from_stored(stored).map_err(LoadError::other)?;
            self.archive
                .packer()
                .add(kind, id, raw_length, key, &stored)
                .map_err(LoadError::other)?;
        }
        let place = if is_stored {
            Place::Stored
        } else {
            Place::Queued
        };
        if let Some(chunk) = self.pending.lock().chunks.get_mut(&id)
            && chunk.place == Place::Logged
        {
            chunk.place = place;
        }
        Ok(())
    }

    /// The commit of the view frozen here stands, and the log up to it goes.
    pub fn release(&self, sequence: u64) {
        let mut pending = self.pending.lock();
        let Pending { chunks, owned, .. } = &mut *pending;
        chunks.retain(|_, chunk| chunk.position.sequence > sequence);
        owned.retain(|_, ids| {
            ids.retain(|id| chunks.contains_key(id));
            !ids.is_empty()
        });
        shrink_if_sparse(chunks);
        shrink_if_sparse(owned);
    }

    /// A file's content takes that much memory now.
    pub fn set_memory(&self, file: FileNo, bytes: u64) {
        let mut memory = self.memory.lock();
        let before = match bytes {
            0 => memory.remove(&file),
            bytes => memory.insert(file, bytes),
        };
        shrink_if_sparse(&mut memory);
        let total = self.memory_total.load(Ordering::Relaxed) + bytes - before.unwrap_or(0);
        self.memory_total.store(total, Ordering::Relaxed);
        if bytes < before.unwrap_or(0) {
            self.changed.notify_all();
        }
    }

    /// Memory that contents take.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_total.load(Ordering::Relaxed)
    }

    /// Waits until some content takes less memory, or a little while.
    pub fn wait_for_memory(&self) {
        self.changed
            .wait_for(&mut self.pending.lock(), Duration::from_millis(20));
    }

    /// Sees to it that the session key's object is in the log, synced, before its first chunk.
    fn log_session(&self, digest: Digest, object: &[u8]) -> Result<(), LogError> {
        if self.pending.lock().session == Some(digest) {
            return Ok(());
        }
        let position = self.log.append(&RecordRef::SessionKey { digest, object })?;
        self.log.sync_to(position.sequence)?;
        self.pending.lock().session = Some(digest);
        Ok(())
    }

    fn log_chunk(
        &self,
        kind: ChunkKind,
        id: ChunkId,
        plaintext: &[u8],
    ) -> Result<PendingChunk, SinkError> {
        let session = self.archive.session();
        let ciphertext = encrypt::encrypt(&session.key, kind, &id, plaintext);
        self.archive.session_keys.count(ciphertext.len() as u64);
        let raw_length = u32::try_from(plaintext.len()).map_err(SinkError::other)?;
        let _logging = self.logging.read_recursive();
        self.log_session(session.digest, session.object.bytes())
            .map_err(sink_error)?;
        let record = RecordRef::Chunk {
            id,
            kind,
            raw_length,
            key: session.digest,
            ciphertext: ciphertext.as_bytes(),
        };
        let position = self.log.append(&record).map_err(sink_error)?;
        Ok(PendingChunk {
            position,
            kind,
            raw_length,
            key: session.digest,
            owners: HashSet::new(),
            since: Instant::now(),
            place: Place::Logged,
        })
    }
}

impl Pending {
    fn own(&mut self, id: &ChunkId, file: FileNo) {
        if let Some(chunk) = self.chunks.get_mut(id) {
            chunk.owners.insert(file);
            self.owned.entry(file).or_default().insert(*id);
        }
    }

    /// Whether a chunk of the log can be named by new content.
    fn can_be_used(&self, id: &ChunkId) -> bool {
        self.chunks.get(id).is_some_and(|chunk| {
            chunk.position.sequence > self.releasing
                || !chunk.owners.is_empty()
                || chunk.place != Place::Logged
        })
    }
}

impl ExtentSource for WritePath {
    fn load_extent(&self, position: &LogPosition) -> Result<Bytes, LoadError> {
        if let Some(extent) = self.extents.lock().get(position) {
            return Ok(extent.clone());
        }
        let extent = Bytes::from(self.log.read(position).map_err(LoadError::other)?);
        self.extents.lock().put(*position, extent.clone());
        Ok(extent)
    }
}

/// Brings chunks of one file into the log.
#[derive(Clone, Copy)]
pub struct LogSink<'a> {
    path: &'a WritePath,
    file: FileNo,
}

impl ChunkSink for LogSink<'_> {
    fn store(&self, kind: ChunkKind, plaintext: &[u8]) -> Result<ChunkId, SinkError> {
        let path = self.path;
        let id = path.archive.keychain().chunk_id(kind, plaintext);
        {
            let mut pending = path.pending.lock();
            while pending.in_flight.contains(&id) {
                path.changed.wait(&mut pending);
            }
            if pending.can_be_used(&id) {
                pending.own(&id, self.file);
                return Ok(id);
            }
            pending.in_flight.insert(id);
        }
        // On its way to the store is not enough: whoever sent it (a commit from what the log has in
        // another form, a backup from its source) has no record of it here that survives this process.
        let logged = if path.archive.is_stored(&id) {
            Ok(None)
        } else {
            path.log_chunk(kind, id, plaintext).map(Some)
        };
        let mut pending = path.pending.lock();
        pending.in_flight.remove(&id);
        path.changed.notify_all();
        if let Some(chunk) = logged? {
            pending.chunks.insert(id, chunk);
            pending.own(&id, self.file);
        }
        Ok(id)
    }
}

fn sink_error(error: LogError) -> SinkError {
    match error {
        LogError::NoSpace { .. } | LogError::Full { .. } => SinkError::NoSpace,
        LogError::ReadOnly(why) => SinkError::ReadOnly {
            why: why.to_string(),
        },
        other => SinkError::other(other),
    }
}

impl From<LogError> for FsError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::NoSpace { .. } | LogError::Full { .. } => FsError::NoSpace,
            LogError::ReadOnly(_) => FsError::ReadOnly,
            other => FsError::io(other),
        }
    }
}
