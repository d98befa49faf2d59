//! The way back: from the store, or from wherever on this computer a chunk is, to its plaintext.
//!
//! ```text
//! memory -> packer's queue -> log -> disk -> block in memory or on disk -> pack in the store
//!        -> decrypt -> unpack -> is it what its id says?
//! ```
//!
//! On disk everything is as it is in the store, encrypted: trees and lists always, so that `ls -R`
//! works while the store is away, and what came out of packs where the store is not a local folder.
//!
//! One flight per chunk: of many threads that want it, one fetches it. Small chunks are fetched with
//! their neighbours, a mebibyte at a time, and the ciphertext block is kept, so that restoring 60,000
//! small files is not 60,000 requests. [`ReadPath::prefetch`] merges neighbours into ranges of up to
//! 8 MiB, several under way. A copy that is missing or damaged gives way to the next copy. If there is
//! none, the store is asked once for new index objects: another device may have compacted the pack.
//!
//! Threads that must not wait for the store (see [`crate::blocking`]) get `WouldBlock` instead.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use holdfast_backend::layout::ObjectName;
use holdfast_backend::store::{ObjectStore, StoreError, StoreErrorKind};
use holdfast_crypto::{ChunkId, ChunkKind, Digest, SessionKey};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::archive::byte_lru::ByteLru;
use crate::archive::flights::{Boarding, Flights, Late};
use crate::archive::places::Places;
use crate::archive::runtime::{self, wait_for};
use crate::archive::session_keys::SessionKeys;
use crate::blocking;
use crate::cache::{CacheKind, ChunkCache, DiskCache};
use crate::chunks::{LoadError, Outage};
use crate::index::Location;
use crate::keychain::Keychain;
use crate::memory::MemoryBudget;
use crate::packer::{Packer, QueuedChunk};

mod blocks;

use blocks::{BLOCK_BYTES, Blocks};

/// Chunks up to this length are fetched with their block.
const SMALL_CHUNK_BYTES: u32 = 512 << 10;
/// Longest request of a prefetch.
const SPAN_BYTES: u64 = 8 << 20;
/// A store that had nothing new is not asked again for so long.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Neighbours are merged over gaps up to this.
const GAP_BYTES: u64 = 256 << 10;
/// Bytes of spans under way, in mebibytes; a span counts as at least [`LEAST_SPAN_MIB`].
const SPANS_MIB: usize = 24;
const LEAST_SPAN_MIB: u64 = 3;

/// Finds a chunk that is in the log and not yet in a pack.
pub type PendingChunks = Arc<dyn Fn(ChunkKind, &ChunkId) -> Option<QueuedChunk> + Send + Sync>;

/// Loads chunks.
pub(crate) struct ReadPath {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    keychain: Arc<Keychain>,
    session_keys: Arc<SessionKeys>,
    places: Arc<Places>,
    packer: Arc<Packer>,
    pending: RwLock<Option<PendingChunks>>,
    caches: Caches,
    /// What a prefetch is bringing: who wants one of these waits for it.
    prefetched: Flights<(ChunkKind, ChunkId), Bytes>,
    blocks: Arc<Blocks>,
    spans: Arc<Semaphore>,
    look_again: RwLock<Option<LookAgain>>,
    looks: Flights<(), usize>,
    looked: Mutex<Option<Looked>>,
}

/// Takes in the index objects that are new in the store; says how many there were.
pub(crate) type LookAgain = Arc<dyn Fn() -> usize + Send + Sync>;

/// The last time that the store was asked for index objects because a chunk was nowhere.
struct Looked {
    at: Instant,
    found: usize,
}

/// What was read before, in memory: decrypted chunks, and encrypted blocks of packs.
pub(crate) struct MemoryCaches {
    budget: MemoryBudget,
    chunks: ChunkCache,
    blocks: ByteLru<(Digest, u64)>,
}

impl MemoryCaches {
    /// Empty ones.
    pub(crate) fn new(budget: MemoryBudget) -> Self {
        let caches = Self {
            budget,
            chunks: ChunkCache::new(0),
            blocks: ByteLru::new(0),
        };
        caches.leave_to_packer(0);
        caches
    }

    /// The packer holds so much now; the caches have what is left.
    pub(crate) fn leave_to_packer(&self, packer_holds: u64) {
        let (chunks, blocks) = (
            self.budget.chunks(packer_holds),
            self.budget.blocks(packer_holds),
        );
        self.chunks
            .limit_to(usize::try_from(chunks).unwrap_or(usize::MAX));
        self.blocks
            .limit_to(usize::try_from(blocks).unwrap_or(usize::MAX));
    }
}

/// What was read before.
pub(crate) struct Caches {
    memory: Arc<MemoryCaches>,
    trees_on_disk: Option<DiskCache>,
    packs_on_disk: Option<Arc<DiskCache>>,
    is_remote: bool,
    keeps_data: bool,
}

impl Caches {
    /// Caches in memory and in this folder. A disk that does not take them costs speed only. With `keeps_data` chunks
    /// of files are kept on disk too; a command that restores wants each of them once.
    pub(crate) fn open(
        folder: &Path,
        memory: Arc<MemoryCaches>,
        disk_bytes: u64,
        is_remote: bool,
        keeps_data: bool,
    ) -> Self {
        let on_disk = |name: &str| {
            let opened = DiskCache::open(&folder.join(name), disk_bytes / 2);
            opened
                .inspect_err(|error| tracing::warn!(%error, "there is no cache on disk"))
                .ok()
        };
        Self {
            memory,
            trees_on_disk: on_disk("trees"),
            packs_on_disk: is_remote.then(|| on_disk("packs")).flatten().map(Arc::new),
            is_remote,
            keeps_data,
        }
    }

    /// Bytes in memory, and bytes on disk.
    fn used_bytes(&self) -> (u64, u64) {
        let memory = self.memory.chunks.used_bytes() + self.memory.blocks.used_bytes();
        let disks = [self.trees_on_disk.as_ref(), self.packs_on_disk.as_deref()];
        let disk = disks.into_iter().flatten().map(DiskCache::used_bytes).sum();
        (memory as u64, disk)
    }

    /// Where a chunk may be kept on disk.
    fn disk_of(&self, kind: ChunkKind) -> Option<&DiskCache> {
        match kind {
            ChunkKind::Tree | ChunkKind::List => self.trees_on_disk.as_ref(),
            ChunkKind::Data => self.packs_on_disk.as_deref(),
        }
    }

    /// Where a chunk that was fetched is to be kept on disk.
    fn disk_for(&self, kind: ChunkKind) -> Option<&DiskCache> {
        self.disk_of(kind)
            .filter(|_| kind != ChunkKind::Data || self.keeps_data)
    }
}

/// A stored chunk on disk: key object (32), length before compression (4), ciphertext.
fn to_disk(key: &Digest, raw_length: u32, stored: &[u8]) -> Vec<u8> {
    [&key.0[..], &raw_length.to_le_bytes(), stored].concat()
}

fn from_disk(bytes: Vec<u8>) -> Option<QueuedChunk> {
    let (key, rest) = bytes.split_first_chunk::<32>()?;
    let (raw_length, _) = rest.split_first_chunk::<4>()?;
    let (key, raw_length) = (Digest(*key), u32::from_le_bytes(*raw_length));
    Some(QueuedChunk {
        raw_length,
        key,
        stored: Bytes::from(bytes).slice(36..),
    })
}

/// A chunk's name in the disk cache. Two epochs' chunks never share a hash: it is keyed.
fn disk_key(id: &ChunkId) -> &[u8; 32] {
    &id.hash
}

/// A chunk's ciphertext as it came.
struct Fetched {
    bytes: Bytes,
    /// Not a part of something longer: its room may become the plaintext's.
    alone: bool,
}

/// Why one copy could not be read.
#[derive(Clone, Debug)]
enum ReadError {
    Store(StoreError),
    TimedOut,
    Damaged,
}

impl ReadPath {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        runtime: Handle,
        keychain: Arc<Keychain>,
        session_keys: Arc<SessionKeys>,
        places: Arc<Places>,
        packer: Arc<Packer>,
        caches: Caches,
    ) -> Self {
        let blocks = Blocks::new(
            Arc::clone(&store),
            runtime.clone(),
            Arc::clone(&caches.memory),
            caches.packs_on_disk.clone(),
        );
        Self {
            store,
            runtime,
            keychain,
            session_keys,
            places,
            packer,
            pending: RwLock::default(),
            caches,
            prefetched: Flights::new(),
            blocks: Arc::new(blocks),
            spans: Arc::new(Semaphore::new(SPANS_MIB)),
            look_again: RwLock::default(),
            looks: Flights::new(),
            looked: Mutex::default(),
        }
    }

    pub(crate) fn set_pending(&self, pending: PendingChunks) {
        *self.pending.write() = Some(pending);
    }

    pub(crate) fn cached_bytes(&self) -> (u64, u64) {
        self.caches.used_bytes()
    }

    /// Keeps a chunk that was just made: it will be wanted again soon.
    pub(crate) fn keep(&self, kind: ChunkKind, id: &ChunkId, plaintext: Bytes) {
        self.caches.memory.chunks.insert(kind, id, plaintext);
    }

    /// Keeps a chunk's ciphertext on disk, if its kind is kept there.
    pub(crate) fn keep_stored(
        &self,
        kind: ChunkKind,
        id: &ChunkId,
        raw: u32,
        key: &Digest,
        stored: &[u8],
    ) {
        if let Some(disk) = self.caches.disk_for(kind) {
            disk.put(CacheKind::Chunk, disk_key(id), &to_disk(key, raw, stored));
        }
    }

    pub(crate) fn load(&self, kind: ChunkKind, id: &ChunkId) -> Result<Bytes, LoadError> {
        if let Some(found) = self.find_here(kind, id)? {
            return Ok(found);
        }
        if !blocking::may_block() {
            let places = self.places.locate(id).map_err(LoadError::other)?;
            let Some(first) = places.first() else {
                return Err(LoadError::Missing { kind, id: *id });
            };
            // Trees and lists go the way on which they are kept on disk, for when the store is away.
            if kind != ChunkKind::Data || first.stored > SMALL_CHUNK_BYTES {
                return Err(LoadError::WouldBlock);
            }
            let opened = self.open_cached_blocks(kind, id, first);
            return opened
                .inspect(|plaintext| {
                    self.follow(first);
                    self.keep(kind, id, plaintext.clone());
                })
                .ok_or(LoadError::WouldBlock);
        }
        self.caches.memory.chunks.get_or_load(kind, id, || {
            match self.prefetched.wait(&(kind, *id), blocking::deadline()) {
                Some(Ok(found)) => Ok(found),
                Some(Err(Late)) => Err(LoadError::Unavailable {
                    outage: Outage::TimedOut,
                }),
                None => self.fetch_anywhere(kind, id),
            }
        })
    }

    /// Has this called when a chunk has no copy that is whole.
    pub(crate) fn on_missing(&self, look_again: LookAgain) {
        *self.look_again.write() = Some(look_again);
    }

    fn fetch_anywhere(&self, kind: ChunkKind, id: &ChunkId) -> Result<Bytes, LoadError> {
        let begun = Instant::now();
        let mut fetched = self.fetch(kind, id);
        let is_lost = |error: &LoadError| {
            matches!(error, LoadError::Missing { .. } | LoadError::Damaged { .. })
        };
        if fetched.as_ref().is_err_and(is_lost) && self.has_more(begun) {
            fetched = self.fetch(kind, id);
        }
        if let Err(error) = &fetched
            && is_lost(error)
        {
            tracing::error!(%error, "a chunk has no copy that is whole");
        }
        fetched
    }

    /// Whether the index has grown since `begun`; asks the store if nobody has since then.
    fn has_more(&self, begun: Instant) -> bool {
        if let Some(last) = self.looked.lock().as_ref() {
            if last.at >= begun {
                return last.found > 0;
            }
            if last.found == 0 && last.at.elapsed() < LOOK_AGAIN_AFTER {
                return false;
            }
        }
        match self.looks.board((), blocking::deadline()) {
            Boarding::Arrived(found) => found > 0,
            Boarding::TimedOut => false,
            Boarding::Fly(pilot) => {
                let look = self.look_again.read().clone();
                let found = look.map_or(0, |look| look());
                let at = Instant::now();
                *self.looked.lock() = Some(Looked { at, found });
                pilot.land(found);
                found > 0
            }
        }
    }

    /// In memory, in the packer's queue, in the log or on disk.
    fn find_here(&self, kind: ChunkKind, id: &ChunkId) -> Result<Option<Bytes>, LoadError> {
        if let Some(bytes) = self.caches.memory.chunks.get(kind, id) {
            return Ok(Some(bytes));
        }
        let pending = || {
            self.pending
                .read()
                .clone()
                .and_then(|pending| pending(kind, id))
        };
        if let Some(queued) = self.packer.find(id).or_else(pending) {
            let damaged = || LoadError::Damaged {
                kind,
                id: *id,
                object: None,
            };
            let session = self.session_keys.find(&queued.key).ok_or_else(damaged)?;
            let plaintext = self.open(&session, kind, id, queued.raw_length, &queued.stored);
            let plaintext = plaintext.ok_or_else(damaged)?;
            self.keep(kind, id, plaintext.clone());
            return Ok(Some(plaintext));
        }
        Ok(self.find_on_disk(kind, id))
    }

    /// Nothing here is an error: what does not open is fetched again.
    fn find_on_disk(&self, kind: ChunkKind, id: &ChunkId) -> Option<Bytes> {
        let disk = self.caches.disk_of(kind)?;
        let kept = from_disk(disk.get(CacheKind::Chunk, disk_key(id))?)?;
        let session = self.session_keys.find(&kept.key)?;
        match self.open(&session, kind, id, kept.raw_length, &kept.stored) {
            Some(plaintext) => {
                self.keep(kind, id, plaintext.clone());
                Some(plaintext)
            }
            None => {
                disk.remove(CacheKind::Chunk, disk_key(id));
                None
            }
        }
    }

    /// Tries every copy.
    fn fetch(&self, kind: ChunkKind, id: &ChunkId) -> Result<Bytes, LoadError> {
        let mut last = LoadError::Missing { kind, id: *id };
        for place in self.places.locate(id).map_err(LoadError::other)? {
            let error = match self.fetch_copy(kind, id, &place) {
                Ok(plaintext) => return Ok(plaintext),
                Err(error) => error,
            };
            last = match error {
                ReadError::TimedOut => {
                    return Err(LoadError::Unavailable {
                        outage: Outage::TimedOut,
                    });
                }
                ReadError::Damaged => self.damaged(kind, id, &place),
                ReadError::Store(error) => match error.kind() {
                    StoreErrorKind::NotFound => {
                        tracing::debug!(chunk = ?id, pack = %place.pack, "a pack or its key is not there");
                        self.places.bad.add(id, &place.pack);
                        self.places.set_aside([place.pack]);
                        last
                    }
                    StoreErrorKind::Damaged => self.damaged(kind, id, &place),
                    StoreErrorKind::Transient => {
                        return Err(LoadError::Unavailable {
                            outage: Outage::BreakerOpen,
                        });
                    }
                    _ => return Err(LoadError::other(error)),
                },
            };
        }
        Err(last)
    }

    fn damaged(&self, kind: ChunkKind, id: &ChunkId, place: &Location) -> LoadError {
        let object = ObjectName::Pack(place.pack).to_string();
        tracing::error!(chunk = ?id, %object, "a chunk is damaged");
        self.places.bad.add(id, &place.pack);
        LoadError::Damaged {
            kind,
            id: *id,
            object: Some(object),
        }
    }

    fn fetch_copy(
        &self,
        kind: ChunkKind,
        id: &ChunkId,
        place: &Location,
    ) -> Result<Bytes, ReadError> {
        let session = self.session_key(&place.key)?;
        let stored = self.fetch_stored(place)?;
        // Behind it: what is fetched ahead must not be in the way where the line is narrow.
        self.follow(place);
        let keeps = kind != ChunkKind::Data || place.stored > SMALL_CHUNK_BYTES;
        self.open_fetched(&session, kind, id, place, stored, keeps)
            .ok_or(ReadError::Damaged)
    }

    /// Opens what came from the store. Where it is wanted on disk, and kept there if `keeps`, it stays as it is.
    fn open_fetched(
        &self,
        session: &SessionKey,
        kind: ChunkKind,
        id: &ChunkId,
        place: &Location,
        stored: Fetched,
        keeps: bool,
    ) -> Option<Bytes> {
        if !stored.alone || keeps && self.caches.disk_for(kind).is_some() {
            let plaintext = self.open(session, kind, id, place.raw, &stored.bytes)?;
            if keeps {
                self.keep_stored(kind, id, place.raw, &place.key, &stored.bytes);
            }
            return Some(plaintext);
        }
        let ids = &self.keychain.epoch(id.epoch)?.chunk_ids;
        crate::encrypt::decrypt_owned(session, ids, kind, id, place.raw, stored.bytes).ok()
    }

    /// Fetches the blocks ahead of somebody who reads small chunks in the order in which they are stored.
    fn follow(&self, place: &Location) {
        if place.stored <= SMALL_CHUNK_BYTES
            && let Some(size) = self.places.size_of(&place.pack)
        {
            self.blocks.follow(place.pack, &place.range(), size);
        }
    }

    /// A chunk's ciphertext from one place, unopened.
    fn fetch_stored(&self, place: &Location) -> Result<Fetched, ReadError> {
        let range = place.range();
        let size = self.places.size_of(&place.pack).unwrap_or(0);
        let alone = place.stored > SMALL_CHUNK_BYTES || size < range.end;
        let bytes = match alone {
            true => self.range(place.pack, range)?,
            false => self.blocks.load(place.pack, range, size)?,
        };
        Ok(Fetched { bytes, alone })
    }

    fn range(&self, pack: Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        let name = ObjectName::Pack(pack);
        wait_for(
            &self.runtime,
            blocking::deadline(),
            self.store.get_range(&name, range),
        )
        .ok_or(ReadError::TimedOut)?
        .map_err(ReadError::Store)
    }

    fn session_key(&self, digest: &Digest) -> Result<Arc<SessionKey>, ReadError> {
        if let Some(key) = self.session_keys.find(digest) {
            return Ok(key);
        }
        let name = SessionKeys::name(*digest);
        let object = wait_for(&self.runtime, blocking::deadline(), self.store.get(&name))
            .ok_or(ReadError::TimedOut)?
            .map_err(ReadError::Store)?;
        self.session_keys.take(digest, &object).map_err(|error| {
            tracing::error!(%error, key = %digest, "a session key does not open");
            ReadError::Damaged
        })
    }

    fn open(
        &self,
        session: &SessionKey,
        kind: ChunkKind,
        id: &ChunkId,
        raw_length: u32,
        stored: &[u8],
    ) -> Option<Bytes> {
        let ids = &self.keychain.epoch(id.epoch)?.chunk_ids;
        crate::encrypt::decrypt(session, ids, kind, id, raw_length, stored).ok()
    }

    /// Whether these bytes are the chunk that stands at this place.
    pub(crate) fn opens(&self, id: &ChunkId, place: &Location, stored: &[u8]) -> bool {
        let session = self.session_key(&place.key);
        session.is_ok_and(|session| {
            self.open(&session, place.kind, id, place.raw, stored)
                .is_some()
        })
    }

    /// The same for whoever must tell a damaged chunk from a store that does not answer.
    pub(crate) fn verify(
        &self,
        id: &ChunkId,
        place: &Location,
        stored: &[u8],
    ) -> Result<bool, LoadError> {
        match self.session_key(&place.key) {
            Ok(session) => Ok(self
                .open(&session, place.kind, id, place.raw, stored)
                .is_some()),
            Err(ReadError::TimedOut) => Err(LoadError::Unavailable {
                outage: Outage::TimedOut,
            }),
            Err(ReadError::Store(error))
                if !matches!(
                    error.kind(),
                    StoreErrorKind::NotFound | StoreErrorKind::Damaged
                ) =>
            {
                Err(LoadError::other(error))
            }
            Err(_) => Ok(false),
        }
    }

    /// A chunk from wherever it can still be had: this computer's memory, queue, log and disk, then good
    /// copies in the store. `is_good` says which those are.
    pub(crate) fn rescue(
        &self,
        kind: ChunkKind,
        id: &ChunkId,
        is_good: &dyn Fn(&Location) -> bool,
    ) -> Result<Option<Bytes>, LoadError> {
        match self.find_here(kind, id) {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) | Err(LoadError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        let places = self.places.locate(id).map_err(LoadError::other)?;
        let (good, bad): (Vec<Location>, Vec<Location>) = places
            .into_iter()
            .filter(|place| place.kind == kind)
            .partition(is_good);
        for place in bad {
            if let Some(plaintext) = self.open_cached_blocks(kind, id, &place) {
                return Ok(Some(plaintext));
            }
        }
        for place in good {
            match self.fetch_copy(kind, id, &place) {
                Ok(plaintext) => return Ok(Some(plaintext)),
                Err(ReadError::Damaged) => drop(self.damaged(kind, id, &place)),
                Err(ReadError::TimedOut) => {
                    let outage = Outage::TimedOut;
                    return Err(LoadError::Unavailable { outage });
                }
                Err(ReadError::Store(error)) => match error.kind() {
                    StoreErrorKind::NotFound | StoreErrorKind::Damaged => {
                        drop(self.damaged(kind, id, &place));
                    }
                    _ => return Err(LoadError::other(error)),
                },
            }
        }
        Ok(None)
    }

    /// From blocks that were fetched for its neighbours, or before the pack was damaged.
    fn open_cached_blocks(&self, kind: ChunkKind, id: &ChunkId, place: &Location) -> Option<Bytes> {
        let session = self.session_keys.find(&place.key)?;
        let stored = self.blocks.find(place.pack, place.range())?;
        self.open(&session, kind, id, place.raw, &stored)
    }

    /// A stored chunk as it is, with its length and key, checked to open: for copying it elsewhere.
    pub(crate) fn load_stored(&self, id: &ChunkId, place: &Location) -> Result<Bytes, LoadError> {
        let kind = place.kind;
        let stored = self.fetch_stored(place).map_err(|error| match error {
            ReadError::TimedOut => LoadError::Unavailable {
                outage: Outage::TimedOut,
            },
            ReadError::Damaged => self.damaged(kind, id, place),
            ReadError::Store(error) => LoadError::other(error),
        })?;
        let session = self
            .session_key(&place.key)
            .map_err(|_| self.damaged(kind, id, place))?;
        match self.open(&session, kind, id, place.raw, &stored.bytes) {
            Some(_) => Ok(stored.bytes),
            None => Err(self.damaged(kind, id, place)),
        }
    }

    /// How many bytes of chunks can be fetched ahead.
    pub(crate) fn prefetch_room(&self) -> u64 {
        self.caches.memory.chunks.budget_bytes() as u64 / 2
    }

    /// Begins to fetch chunks that will be wanted soon, as few and long ranges. Errors show when the
    /// chunk is loaded.
    pub(crate) fn prefetch(self: &Arc<Self>, wanted: &[(ChunkKind, ChunkId)]) {
        let mut room = self.prefetch_room();
        let mut by_pack: BTreeMap<Digest, Vec<(ChunkId, Location)>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (kind, id) in wanted {
            if !seen.insert(*id) || self.is_here(*kind, id) {
                continue;
            }
            let Some(place) = self
                .places
                .locate(id)
                .ok()
                .and_then(|places| places.first().copied())
            else {
                continue;
            };
            let Some(left) = room.checked_sub(u64::from(place.raw)) else {
                break;
            };
            room = left;
            by_pack.entry(place.pack).or_default().push((*id, place));
        }
        for (pack, mut chunks) in by_pack {
            chunks.sort_by_key(|(_, place)| place.offset);
            for span in merge(chunks, self.caches.is_remote) {
                let this = Arc::clone(self);
                self.runtime
                    .spawn(async move { this.fetch_span(pack, span).await });
            }
        }
    }

    fn is_here(&self, kind: ChunkKind, id: &ChunkId) -> bool {
        let on_disk = |disk: &DiskCache| disk.contains(CacheKind::Chunk, disk_key(id));
        self.caches.memory.chunks.get(kind, id).is_some()
            || self.packer.is_queued(id)
            || self.caches.disk_of(kind).is_some_and(on_disk)
    }

    async fn fetch_span(self: Arc<Self>, pack: Digest, span: Vec<(ChunkId, Location)>) {
        let (Some((_, first)), Some((_, last))) = (span.first(), span.last()) else {
            return;
        };
        let bytes = last.range().end - first.range().start;
        let mib = (bytes >> 20).clamp(LEAST_SPAN_MIB, SPANS_MIB as u64) as u32;
        let Ok(permit) = Arc::clone(&self.spans).acquire_many_owned(mib).await else {
            return;
        };
        // Flights are claimed now, not when the span was planned: who wants a chunk before that
        // fetches it alone rather than waiting in a queue of ranges.
        let task = runtime::waiting().spawn_blocking(move || {
            let claim = |(id, place): &(ChunkId, Location)| {
                let key = (place.kind, *id);
                let wanted = !self.is_here(place.kind, id)
                    && !self.caches.memory.chunks.is_loading(place.kind, id);
                wanted
                    .then(|| self.prefetched.try_fly(key))
                    .flatten()
                    .map(|pilot| (pilot, *id, *place))
            };
            let claimed: Vec<_> = span.iter().filter_map(claim).collect();
            if claimed.is_empty() {
                return;
            }
            // What others have brought since then need not come again.
            let start = claimed[0].2.range().start;
            let end = claimed[claimed.len() - 1].2.range().end;
            // Dropping the pilots lets everybody who waits fetch for themselves.
            let mut bytes = match end - start {
                // The blocks stay: the next small files are in them too.
                ..BLOCK_BYTES => None,
                _ => match self.range(pack, start..end) {
                    Ok(bytes) => Some(bytes),
                    Err(_) => return,
                },
            };
            for (pilot, id, place) in claimed {
                let range = place.range();
                let stored = match &mut bytes {
                    Some(bytes) if range == (start..end) => Fetched {
                        bytes: std::mem::take(bytes),
                        alone: true,
                    },
                    Some(bytes) => Fetched {
                        bytes: bytes
                            .slice((range.start - start) as usize..(range.end - start) as usize),
                        alone: false,
                    },
                    None => match self.fetch_stored(&place) {
                        Ok(stored) => stored,
                        Err(_) => return,
                    },
                };
                let Ok(session) = self.session_key(&place.key) else {
                    continue;
                };
                let Some(plain) =
                    self.open_fetched(&session, place.kind, &id, &place, stored, true)
                else {
                    continue;
                };
                self.keep(place.kind, &id, plain.clone());
                pilot.land(plain);
            }
        });
        let _ = task.await;
        drop(permit);
    }
}

/// Cuts chunks of one pack, sorted by offset, into spans for one request each. Where a request costs nothing,
/// a chunk that is not small is one by itself: it is opened where it was read, sooner, and on another core than the next.
fn merge(chunks: Vec<(ChunkId, Location)>, is_remote: bool) -> Vec<Vec<(ChunkId, Location)>> {
    let is_small = |place: &Location| is_remote || place.stored <= SMALL_CHUNK_BYTES;
    let mut spans: Vec<Vec<(ChunkId, Location)>> = Vec::new();
    for chunk in chunks {
        let Range { start, end } = chunk.1.range();
        if let Some(span) = spans.last_mut()
            && is_small(&chunk.1)
            && is_small(&span[0].1)
        {
            let first = span[0].1.range().start;
            let before_end = span[span.len() - 1].1.range().end;
            if start.saturating_sub(before_end) <= GAP_BYTES && end - first <= SPAN_BYTES {
                span.push(chunk);
                continue;
            }
        }
        spans.push(vec![chunk]);
    }
    spans
}
