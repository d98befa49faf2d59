//! One user's archive, open on this computer: what the drive and the commands stand on.
//!
//! It turns a store of opaque objects into chunks that can be loaded by id and into commits that can
//! be listed and read; and the other way round. It is synchronous: callers are ordinary threads, and
//! only requests to the store run elsewhere ([`runtime`]).
//!
//! - [`Archive::create`], [`Archive::open`], [`Archive::recover`]: keyring, device, index.
//! - [`ChunkSource`] and [`ChunkSink`]: the read path, and direct packing of trees and of what a
//!   command without a log stores. The drive's data goes through the log and [`Archive::packer`].
//! - [`Archive::known`]: whether a chunk need not be stored.
//! - `store_commit`: a commit and everything it needs ([`crate::store_commit`]).
//! - `snapshots`: what can be restored ([`crate::snapshots`]).
//!
//! On this computer's disk it keeps the key file, `config.toml`, and `state/archive.json` (the highest
//! keyring version and sequences seen, so that a store that was rolled back is noticed), and what
//! [`offline`] needs. All of them are replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Instant;

use bytes::Bytes;
use holdfast_backend::layout::{Folder, ObjectName};
use holdfast_backend::marks::{CommitName, MarksError};
use holdfast_backend::object::Object;
use holdfast_backend::store::{Capabilities, ObjectStore, StoreError};
use holdfast_crypto::{ChunkId, ChunkKind, DeviceId, Digest, RecoveryCode, UserKey};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;

use crate::chunks::{ChunkSink, ChunkSource, LoadError, SinkError};
use crate::format::keyring::{DeviceRecord, KeyringError};
use crate::format::{Commit, Keyring};
use crate::home::{CacheSlot, DeviceKeys, DeviceLock, Home, HomeError, Settings};
use crate::keychain::{Keychain, KeychainError};
use crate::keystore::KeystoreError;
use crate::memory::{MemoryBudget, Stages};
use crate::packer::{
    PackedChunks, Packer, PackerError, PackerLimits, PackerSurroundings, StoredListener, Ticket,
};
use crate::read_path::{MemoryCaches, PendingChunks, ReadPath};
use crate::refs_memo::RefsMemo;

pub(crate) mod bad_copies;
pub(crate) mod byte_lru;
pub(crate) mod flights;
mod keyrings;
mod known;
mod offline;
mod opening;
mod pack_facts;
pub(crate) mod places;
pub mod runtime;
mod seen;
pub(crate) mod session_keys;
mod sync;
#[cfg(test)]
pub(crate) mod tests;

pub use crate::index::Location;
pub use opening::{find_path_style, open_home_store, open_store};
pub use session_keys::{Session, SessionKeyError};

use known::KnownMarks;
pub use known::now_seconds;
use places::Places;
use runtime::wait_for;
use seen::Seen;
use session_keys::SessionKeys;
use sync::IndexAge;

/// Why an archive cannot be made, opened or used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store's location cannot be understood.
    #[error(transparent)]
    Location(#[from] holdfast_backend::store::LocationError),
    /// The local folders failed.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The keystore that this computer is enrolled at.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// The local index failed.
    #[error(transparent)]
    Index(#[from] crate::index::IndexError),
    /// Marks cannot be read.
    #[error(transparent)]
    Marks(#[from] MarksError),
    /// The archive cannot be surveyed.
    #[error(transparent)]
    Survey(#[from] holdfast_backend::gc::GcError),
    /// The packer could not store what it has.
    #[error(transparent)]
    Packer(#[from] PackerError),
    /// A chunk that is needed cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A chunk could not be stored.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// `init` on a store that holds an archive.
    #[error(
        "{location} already holds an archive; run `holdfast recover` to use it from here, or choose another place"
    )]
    AlreadyAnArchive {
        /// The store.
        location: String,
    },
    /// There is no keyring.
    #[error(
        "{location} holds no archive; check the location, or run `holdfast init` to make one there"
    )]
    NotAnArchive {
        /// The store.
        location: String,
    },
    /// A keyring that the user key does not open.
    #[error(
        "the key on this computer does not open the archive in {location}; check that the store is the one it was made with"
    )]
    WrongKey {
        /// The store.
        location: String,
    },
    /// A code that opens nothing.
    #[error(
        "this recovery code does not open the archive in {location}; check that code and store belong together"
    )]
    WrongRecoveryCode {
        /// The store.
        location: String,
    },
    /// The keyring is damaged or newer.
    #[error("the keyring of the archive cannot be used: {source}")]
    Keyring {
        /// Why.
        source: KeyringError,
    },
    /// The keyring's keys cannot be used.
    #[error(transparent)]
    Keychain(#[from] KeychainError),
    /// This computer is not in the keyring.
    #[error(
        "this computer (device {device}) is not in the archive's keyring; run `holdfast recover` to add it again"
    )]
    UnknownDevice {
        /// This computer.
        device: DeviceId,
    },
    /// This computer was shut out.
    #[error("this computer (device {device}) was shut out of the archive and can only read it")]
    ShutOut {
        /// This computer.
        device: DeviceId,
    },
    /// The store shows less than was seen before.
    #[error(
        "the store shows an older state of the archive than this computer has seen ({what}: {found} after {seen}); it was rolled back, or its listing is stale: nothing is written until it is whole again"
    )]
    RolledBack {
        /// Which number.
        what: &'static str,
        /// The highest one seen.
        seen: u64,
        /// The highest one there.
        found: u64,
    },
    /// Somebody else writes as this device.
    #[error(
        "commit {sequence} of this device is not from here: another computer uses a copy of this home, and this one now only reads. Nothing is lost: with another HOLDFAST_HOME run `holdfast recover`, mount, and copy over what is new here"
    )]
    Fork {
        /// The sequence.
        sequence: u64,
    },
    /// A device that is not there.
    #[error("the archive has no device {name:?}; its devices are {known}")]
    NoSuchDevice {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A snapshot that is not there.
    #[error("there is no snapshot {name:?}; `holdfast snapshots` lists them")]
    NoSuchSnapshot {
        /// What was asked for.
        name: String,
    },
    /// A name that several devices' snapshots have.
    #[error("several snapshots are called {name:?}; say which with DEVICE/NAME: {found}")]
    AmbiguousSnapshot {
        /// What was asked for.
        name: String,
        /// What it may be.
        found: String,
    },
    /// A commit that does not open or verify.
    #[error("{name} cannot be believed ({why}); `holdfast check` says what it costs")]
    BadCommit {
        /// The commit.
        name: ObjectName,
        /// Why.
        why: String,
    },
    /// A label or device name that cannot be a folder's.
    #[error("{name:?} cannot be a name: use 1 to 255 characters without '/', not '.' or '..'")]
    BadName {
        /// What was given.
        name: String,
    },
    /// Opened for reading.
    #[error("the archive is open for reading only")]
    ReadOnly,
    /// An index object that does not open.
    #[error("{name} cannot be read ({why}); `holdfast check` names what it costs")]
    BadIndex {
        /// The index object.
        name: ObjectName,
        /// Why.
        why: String,
    },
    /// A gc deleted again and again what a commit needs.
    #[error("objects that the commit needs keep being deleted; stop the gc and try again")]
    DeletedAgain,
    /// Not done by the deadline; everything stays queued.
    #[error("the store did not answer in time; everything stays queued")]
    TimedOut,
}

/// What an archive is opened for.
pub enum Access {
    /// Loading only.
    Read,
    /// Storing too, as this computer's device.
    Write(DeviceLock),
}

/// An open archive.
pub struct Archive {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) runtime: Handle,
    pub(crate) home: Home,
    pub(crate) settings: Settings,
    pub(crate) keys: DeviceKeys,
    pub(crate) keyring: RwLock<Arc<Keyring>>,
    pub(crate) keychain: Arc<Keychain>,
    pub(crate) places: Arc<Places>,
    pub(crate) session_keys: Arc<SessionKeys>,
    pub(crate) packer: Arc<Packer>,
    pub(crate) read: Arc<ReadPath>,
    pub(crate) marks: KnownMarks,
    pub(crate) moves_followed: AtomicUsize,
    pub(crate) memo: Mutex<RefsMemo>,
    pub(crate) head: Mutex<Head>,
    pub(crate) seen: Mutex<Seen>,
    pub(crate) absent_packs: RwLock<BTreeSet<Digest>>,
    pub(crate) capabilities: Mutex<Option<Capabilities>>,
    pub(crate) commits: Mutex<BTreeMap<CommitName, Arc<Commit>>>,
    pub(crate) one_commit: Mutex<()>,
    pub(crate) stored_base: AtomicU64,
    stages: Stages,
    pub(crate) index_age: IndexAge,
    /// The newest commits of the other devices, as they were last listed.
    pub(crate) others: Mutex<BTreeSet<CommitName>>,
    offline: AtomicBool,
    catching_up: Mutex<()>,
    surroundings: Arc<Surroundings>,
    writes: bool,
    lock: Option<DeviceLock>,
    _slot: CacheSlot,
}

/// This device's newest commit.
#[derive(Default)]
pub(crate) struct Head {
    pub(crate) commit: Option<(CommitName, Arc<Commit>)>,
    pub(crate) refs: Option<crate::store_commit::RefsBase>,
    pub(crate) forked: Option<u64>,
}

struct Surroundings {
    places: Arc<Places>,
    session_keys: Arc<SessionKeys>,
    caches: Arc<MemoryCaches>,
    listener: RwLock<Option<StoredListener>>,
}

impl PackerSurroundings for Surroundings {
    fn unstored_keys(&self, keys: &[Digest]) -> Vec<holdfast_backend::object::Object> {
        self.session_keys.unstored(keys)
    }

    fn keys_stored(&self, keys: &[Digest]) {
        self.session_keys.stored(keys);
    }

    fn holds(&self, bytes: u64) {
        self.caches.leave_to_packer(bytes);
    }

    fn pack_stored(&self, pack: &PackedChunks) {
        if let Err(error) = self.places.add_pack(pack) {
            tracing::error!(%error, "a stored pack could not be taken into the local index");
        }
        let listener = self.listener.read().clone();
        if let Some(listener) = listener {
            listener(pack);
        }
    }
}

impl Archive {
    /// This computer's device.
    pub fn device(&self) -> DeviceId {
        self.keys.device
    }

    /// Its record in the keyring.
    pub fn device_record(&self) -> DeviceRecord {
        let keyring = self.keyring.read();
        keyring
            .device(self.keys.device)
            .cloned()
            .expect("opening has found it in the keyring")
    }

    /// Every device of the archive.
    pub fn devices(&self) -> Vec<DeviceRecord> {
        self.keyring.read().devices.clone()
    }

    /// The derived keys.
    pub fn keychain(&self) -> &Arc<Keychain> {
        &self.keychain
    }

    /// The settings with which it was opened.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The local folders.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// This device's secrets.
    pub fn keys(&self) -> &DeviceKeys {
        &self.keys
    }

    /// The store, with retries and limits around it.
    pub fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The runtime of the store's requests.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Whether it was opened for storing.
    pub fn is_writable(&self) -> bool {
        self.writes
    }

    /// Why this device must not write any more, if somebody else writes as it.
    pub fn fork(&self) -> Option<ArchiveError> {
        let sequence = self.head.lock().forked?;
        Some(ArchiveError::Fork { sequence })
    }

    /// The lock that makes this process the device's only writer.
    pub fn lock(&self) -> Option<&DeviceLock> {
        self.lock.as_ref()
    }

    /// Who may hold how much memory.
    pub fn memory(&self) -> MemoryBudget {
        MemoryBudget::new(self.settings.memory_bytes())
    }

    /// Memory for chunks that are being made.
    pub fn stages(&self) -> &Stages {
        &self.stages
    }

    /// Fills and stores packs.
    pub fn packer(&self) -> &Arc<Packer> {
        &self.packer
    }

    /// The session key that encrypts now. Its key object goes into the log before its first chunk.
    pub fn session(&self) -> Session {
        self.session_keys
            .current(|key| self.marks.is_condemned(&ObjectName::Key(*key)))
    }

    /// A session's key object from the log, so that its chunks can be packed and read.
    pub fn register_session_key(&self, object: &[u8]) -> Result<Digest, SessionKeyError> {
        self.session_keys.register(object)
    }

    /// A pack that the log says is stored.
    pub fn register_pack(&self, pack: &PackedChunks) -> Result<(), ArchiveError> {
        Ok(self.places.add_pack(pack)?)
    }

    /// Has this called with each pack that is stored.
    pub fn on_stored(&self, listener: StoredListener) {
        *self.surroundings.listener.write() = Some(listener);
    }

    /// Has chunks looked for in the log before the store is asked.
    pub fn set_pending(&self, pending: PendingChunks) {
        self.read.set_pending(pending);
    }

    /// Every copy of a chunk that the index knows.
    pub fn locate(&self, id: &ChunkId) -> Result<Vec<Location>, ArchiveError> {
        Ok(self.places.locate(id)?)
    }

    /// A key object that a cache of this computer has.
    pub(crate) fn key_object_here(&self, key: &Digest) -> Option<Object> {
        let slots = std::fs::read_dir(self.home.cache_dir()).ok()?;
        let paths = slots.flatten().map(|slot| slot.path().join("keys"));
        paths
            .filter_map(|keys| std::fs::read(keys.join(key.to_string())).ok())
            .find_map(|bytes| Object::from_stored(ObjectName::Key(*key), bytes.into()).ok())
    }

    /// A copy's ciphertext, checked to open.
    pub fn load_stored(&self, id: &ChunkId, place: &Location) -> Result<Bytes, LoadError> {
        self.read.load_stored(id, place)
    }

    /// Every pack that the index knows.
    pub fn packs(&self) -> Vec<Digest> {
        self.places.packs()
    }

    /// A pack's chunks, as the index knows them.
    pub fn chunks_of_pack(&self, pack: &Digest) -> Result<Option<PackedChunks>, ArchiveError> {
        Ok(self.places.chunks_of(&[*pack])?.pop())
    }

    /// How many bytes of chunks can be fetched ahead; more would drive out what nobody has read yet.
    pub fn prefetch_room(&self) -> u64 {
        self.read.prefetch_room()
    }

    /// Begins to fetch chunks that will be wanted soon.
    pub fn prefetch(&self, wanted: &[(ChunkKind, ChunkId)]) {
        self.read.prefetch(wanted);
    }

    /// This device's newest commit.
    pub fn head(&self) -> Option<(CommitName, Arc<Commit>)> {
        self.head.lock().commit.clone()
    }

    /// Bytes that the caches hold in memory, and on disk.
    pub fn cached_bytes(&self) -> (u64, u64) {
        self.read.cached_bytes()
    }

    /// What the store was found to honour.
    pub fn capabilities(&self) -> Option<Capabilities> {
        *self.capabilities.lock()
    }

    /// Encrypts a chunk under the current session and gives it to the packer, known or not.
    pub fn store_anew(
        &self,
        kind: ChunkKind,
        id: ChunkId,
        plaintext: &[u8],
    ) -> Result<(), SinkError> {
        if !self.writes {
            return Err(SinkError::ReadOnly {
                why: "the archive is open for reading".to_owned(),
            });
        }
        let session = self.session();
        let stored = crate::encrypt::encrypt(&session.key, kind, &id, plaintext);
        self.session_keys.count(stored.len() as u64);
        let raw_length = u32::try_from(plaintext.len()).map_err(SinkError::other)?;
        self.packer
            .add(kind, id, raw_length, session.digest, &stored)
            .map_err(SinkError::other)?;
        if kind != ChunkKind::Data {
            self.read
                .keep_stored(kind, &id, raw_length, &session.digest, stored.as_bytes());
        }
        Ok(())
    }

    /// The same, and says which pack it goes into; fails where the store refuses what is queued.
    pub(crate) fn pack_anew(
        &self,
        kind: ChunkKind,
        id: ChunkId,
        plaintext: &[u8],
    ) -> Result<Ticket, SinkError> {
        if !self.writes {
            return Err(SinkError::ReadOnly {
                why: "the archive is open for reading".to_owned(),
            });
        }
        let session = self.session();
        let stored = crate::encrypt::encrypt(&session.key, kind, &id, plaintext);
        self.session_keys.count(stored.len() as u64);
        let raw_length = u32::try_from(plaintext.len()).map_err(SinkError::other)?;
        let added = self
            .packer
            .add_unless_refused(kind, id, raw_length, session.digest, &stored);
        added.map_err(SinkError::other)
    }

    /// Waits for a request to the store, until the thread's deadline.
    pub(crate) fn ask<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, ArchiveError> {
        let answer = wait_for(&self.runtime, crate::blocking::deadline(), work);
        answer
            .ok_or(ArchiveError::TimedOut)?
            .map_err(ArchiveError::Store)
    }

    /// The names in a folder of the store.
    pub(crate) fn names(&self, folder: Folder) -> Result<Vec<ObjectName>, ArchiveError> {
        Ok(self
            .ask(self.store.list(folder))?
            .into_iter()
            .map(|listed| listed.name)
            .collect())
    }

    /// Waits until everything given to the packer is stored.
    pub fn flush(&self, deadline: Option<Instant>) -> Result<(), PackerError> {
        self.packer.flush(deadline)
    }
}

impl ChunkSource for Archive {
    fn load(&self, kind: ChunkKind, id: &ChunkId) -> Result<Bytes, LoadError> {
        match self.read.load(kind, id) {
            Err(LoadError::Missing { .. }) => self.load_elsewhere(kind, id),
            found => found,
        }
    }
}

impl ChunkSink for Archive {
    /// Straight to the packer: for trees of a commit (which is made again after a crash) and for
    /// commands without a log.
    fn store(&self, kind: ChunkKind, plaintext: &[u8]) -> Result<ChunkId, SinkError> {
        let id = self.keychain.chunk_id(kind, plaintext);
        if !self.known(&id) {
            self.store_anew(kind, id, plaintext)?;
        }
        if kind != ChunkKind::Data {
            self.read.keep(kind, &id, Bytes::copy_from_slice(plaintext));
        }
        Ok(id)
    }
}
