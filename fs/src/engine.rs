//! Everything that runs while a drive is open: archive, log, namespace and the threads behind them.
//!
//! Opening: the home's lock, the archive, the log and its replay, then the threads. A log that is
//! new is told at once what it stands on, before any operation is in it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::archive::{Access, Archive, ArchiveError};
use crate::filesystem::{Filesystem, Threads, now};
use crate::format::{Attributes, Body, FileKind, Inode, ROOT_FILE};
use crate::home::{Home, HomeError};
use crate::log::{Log, LogError, LogLimits, RealDisk, RecordRef};
use crate::namespace::{Base, NameHash};
use crate::replay::{Committed, Found, ReplayError};
use crate::write_path::WritePath;

/// How a drive is opened.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// The user and group that own `/`, `snapshots/` and a `current/` that is new.
    pub owner: Option<(u32, u32)>,
    /// Bytes of file content held in memory at the most; its part of the settings' budget unless given.
    pub memory_bytes: Option<u64>,
    /// Whether snapshots are taken by themselves; as the settings say unless given.
    pub automatic_snapshots: Option<bool>,
    /// Bytes per second to the store at the most, instead of the settings' limit.
    pub limit_upload: Option<u64>,
    /// Bytes per second from the store at the most, instead of the settings' limit.
    pub limit_download: Option<u64>,
}

/// A drive cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log's key.
    #[error("the key of the local log does not open with this computer's key file")]
    LogKey(#[source] holdfast_crypto::CryptoError),
    /// What the log holds.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The folder of the log, or a thread.
    #[error("cannot start the drive")]
    Io(#[from] std::io::Error),
}

/// An open drive. One at a time for each device: the home's lock is held until it is dropped.
pub struct Engine {
    /// The drive's calls.
    pub filesystem: Arc<Filesystem>,
    /// The archive behind it.
    pub archive: Arc<Archive>,
    threads: Mutex<Option<Threads>>,
}

impl Engine {
    /// Opens the drive of a home.
    pub fn open(home: Home, options: EngineOptions) -> Result<Engine, EngineError> {
        let lock = home.lock()?;
        let mut settings = home.settings()?;
        let limits = &mut settings.limits;
        limits.upload_bytes_per_second = options
            .limit_upload
            .unwrap_or(limits.upload_bytes_per_second);
        limits.download_bytes_per_second = options
            .limit_download
            .unwrap_or(limits.download_bytes_per_second);
        let store = crate::archive::open_home_store(&home, &settings)?;
        let archive = Archive::open_on(store, &home, settings, Access::Write(lock))?;
        Self::open_on(archive, options)
    }

    /// Opens the drive of an archive that is open for writing.
    pub fn open_on(archive: Arc<Archive>, options: EngineOptions) -> Result<Engine, EngineError> {
        let folder = archive.home().log_dir();
        std::fs::create_dir_all(&folder)?;
        let key = archive.keys().log_key().map_err(EngineError::LogKey)?;
        let limit = archive.settings().limits.log_mib << 20;
        let limits = LogLimits {
            bytes: Some(limit).filter(|limit| *limit > 0),
            ..LogLimits::default()
        };
        let (log, replay) = Log::open(&folder, key, limits, Arc::new(RealDisk))?;
        let log = Arc::new(log);
        let found = Found::read(replay, &archive)?;
        let owner = options.owner.unwrap_or_else(own_ids);
        let base = base_of(&archive, owner);
        if !found.has_base() {
            let committed = Committed {
                sequence: 0,
                base: base.clone(),
                raised: Vec::new(),
            };
            let position = log.append(&RecordRef::Committed(&committed.encode()))?;
            log.sync_to(position.sequence)?;
        }
        let write = Arc::new(WritePath::new(archive.clone(), log.clone()));
        let namespace = found.restore(base, name_hash(&archive), &write);
        let pending = Arc::downgrade(&write);
        archive.set_pending(Arc::new(move |_, id| pending.upgrade()?.find(id)));
        let stored = Arc::downgrade(&write);
        archive.on_stored(Arc::new(move |pack| {
            if let Some(write) = stored.upgrade() {
                write.stored(pack);
            }
        }));
        let settings = archive.settings();
        let memory = options.memory_bytes.unwrap_or(archive.memory().content());
        let interval = settings
            .snapshots
            .interval()
            .filter(|_| options.automatic_snapshots != Some(false));
        let filesystem = Filesystem::new(
            archive.clone(),
            log,
            namespace,
            write,
            memory,
            owner,
            interval,
        );
        let filesystem = Arc::new(filesystem);
        let threads = Threads::start(&filesystem)?;
        Ok(Engine {
            filesystem,
            archive,
            threads: Mutex::new(Some(threads)),
        })
    }
}

impl Drop for Engine {
    /// Ends the threads. Who wants something stored has called [`Filesystem::shutdown`] before.
    fn drop(&mut self) {
        self.filesystem.end();
        if let Some(threads) = self.threads.lock().take() {
            threads.join();
        }
    }
}

fn name_hash(archive: &Archive) -> NameHash {
    let keychain = archive.keychain().clone();
    Box::new(move |name| keychain.name_hash(name))
}

/// This device's newest commit, or an empty folder.
fn base_of(archive: &Archive, owner: (u32, u32)) -> Base {
    if let Some((_, commit)) = archive.head() {
        return Base {
            root: commit.root.clone(),
            links: commit.links,
            next_file: commit.next_file,
        };
    }
    let now = now();
    let attributes = Attributes {
        kind: FileKind::Directory,
        mode: 0o755,
        uid: owner.0,
        gid: owner.1,
        owner: Arc::from([]),
        group: Arc::from([]),
        mtime: now,
        ctime: now,
        atime: now,
        rdev: 0,
    };
    let root = Inode {
        file: ROOT_FILE,
        attributes,
        xattrs: Arc::default(),
        fingerprint: 0,
        body: Body::Directory { tree: None },
    };
    Base {
        root,
        links: None,
        next_file: ROOT_FILE + 1,
    }
}

fn own_ids() -> (u32, u32) {
    (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    )
}
