//! What this computer keeps of one archive: configuration, keys, state, cache.
//!
//! ```text
//! HOLDFAST_HOME/config.toml   settings                 ~/.config/holdfast/config.toml
//! HOLDFAST_HOME/key           user key, device keys    ~/.config/holdfast/key
//! HOLDFAST_HOME/half          with a lease of days     ~/.config/holdfast/half
//! HOLDFAST_HOME/device.crt    certificate and private  ~/.config/holdfast/device.crt
//! HOLDFAST_HOME/device.key    key for a keystore       ~/.config/holdfast/device.key
//! HOLDFAST_HOME/state/        must survive             ~/.local/state/holdfast/
//! HOLDFAST_HOME/cache/        may be deleted           ~/.cache/holdfast/
//! ```
//!
//! One process at a time writes as this device: it holds [`DeviceLock`]. Processes that only read
//! need no lock, but two processes never share an index or a disk cache: each takes the first free
//! [`CacheSlot`], so that `holdfast ls` works beside a mounted drive and finds a warm cache the next
//! time.
//!
//! Files that must not be half written (key, configuration, small state) are written beside their
//! place, synced, renamed, and the folder is synced: after a crash there is the old one or the new.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast_keystore_client::IdentityError;
use rustix::fs::FlockOperation;

mod enrolled;
mod key_file;
mod settings;
#[cfg(test)]
mod tests;

pub use key_file::DeviceKeys;
pub use settings::{ServerSettings, Settings, SettingsError, SnapshotSettings};

/// A process that was killed can wait for its disk so long.
const LAST_THREADS_END_WITHIN: Duration = Duration::from_secs(10);

/// The folders of one archive on this computer.
#[derive(Clone, Debug)]
pub struct Home {
    config: PathBuf,
    state: PathBuf,
    cache: PathBuf,
}

/// Why the local folders cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither `HOLDFAST_HOME` nor `HOME` is set.
    #[error(
        "no home folder is known; set HOLDFAST_HOME to a folder for configuration, keys and state"
    )]
    NoHome,
    /// `init` and `recover` have not been run.
    #[error("there is no archive here yet ({} is missing); run `holdfast init STORE`, or `holdfast recover STORE` for an archive that exists", path.display())]
    NotSetUp {
        /// The missing file.
        path: PathBuf,
    },
    /// `init` or `recover` has been run before.
    #[error("{} already belongs to an archive; set HOLDFAST_HOME to another folder to use a second one", path.display())]
    AlreadySetUp {
        /// The file that is there.
        path: PathBuf,
    },
    /// Another process writes as this device.
    #[error(
        "another holdfast ({holder}) is at work for this device; `holdfast status` shows what it does, `holdfast unmount` ends a mount"
    )]
    Locked {
        /// Who: `process 4711`.
        holder: String,
    },
    /// The key can be read by other users.
    #[error("the key file {} can be read by other users (mode {mode:03o}); run `chmod 600 {}` and think about who could have copied it", path.display(), path.display())]
    KeyReadable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Not a key file, or one of a newer version.
    #[error("{} is no key file of this version of holdfast ({what}); restore it from a copy, or run `holdfast recover`", path.display())]
    BadKeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The key is wrapped under a half that the keystore keeps.
    #[error("the key file {} opens only with the keystore's half", path.display())]
    NeedsHalf {
        /// The file.
        path: PathBuf,
    },
    /// The keystore's half is not the one of this file.
    #[error("the key file {} does not open with the half that the keystore has for this computer; run `holdfast login SERVER` in an empty home", path.display())]
    ForeignHalf {
        /// The file.
        path: PathBuf,
    },
    /// The device's certificate or its key.
    #[error("{} is no certificate of this computer ({source}); run `holdfast login SERVER` in an empty home", path.display())]
    BadIdentity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// The configuration cannot be understood.
    #[error("{}: {source}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SettingsError,
    },
    /// The operating system refused.
    #[error("cannot {act} {}: {source}", path.display())]
    Io {
        /// What was being done.
        act: &'static str,
        /// With what.
        path: PathBuf,
        /// Its answer.
        source: std::io::Error,
    },
}

impl Home {
    /// The folders that the environment names: `HOLDFAST_HOME`, or the XDG ones.
    pub fn locate() -> Result<Self, HomeError> {
        if let Some(home) = folder_from("HOLDFAST_HOME") {
            return Ok(Self::at(&home));
        }
        let user = folder_from("HOME");
        let xdg = |variable: &str, fallback: &str| {
            folder_from(variable)
                .or_else(|| user.as_ref().map(|home| home.join(fallback)))
                .map(|folder| folder.join("holdfast"))
                .ok_or(HomeError::NoHome)
        };
        Ok(Self {
            config: xdg("XDG_CONFIG_HOME", ".config")?,
            state: xdg("XDG_STATE_HOME", ".local/state")?,
            cache: xdg("XDG_CACHE_HOME", ".cache")?,
        })
    }

    /// Everything below one folder.
    pub fn at(folder: &Path) -> Self {
        Self {
            config: folder.to_owned(),
            state: folder.join("state"),
            cache: folder.join("cache"),
        }
    }

    /// The settings.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The keys.
    pub fn key_file(&self) -> PathBuf {
        self.config.join("key")
    }

    /// What must survive: the log, and what is remembered of the archive.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// Where the log is.
    pub fn log_dir(&self) -> PathBuf {
        self.state.join("log")
    }

    /// What may be deleted.
    pub fn cache_dir(&self) -> &Path {
        &self.cache
    }

    /// The socket of a running daemon.
    pub fn socket_file(&self) -> PathBuf {
        self.state.join("socket")
    }

    /// All local folders: a mount point or a backup must not be inside them.
    pub fn folders(&self) -> [&Path; 3] {
        [&self.config, &self.state, &self.cache]
    }

    /// Whether `init` or `recover` has been run here.
    pub fn is_set_up(&self) -> bool {
        self.config_file().exists() && self.key_file().exists()
    }

    /// Fails if this home belongs to an archive already.
    pub fn check_unused(&self) -> Result<(), HomeError> {
        match [self.key_file(), self.config_file()]
            .into_iter()
            .find(|path| path.exists())
        {
            Some(path) => Err(HomeError::AlreadySetUp { path }),
            None => Ok(()),
        }
    }

    /// Makes the folders, readable by nobody else.
    pub fn make_folders(&self) -> Result<(), HomeError> {
        [&self.config, &self.state, &self.cache]
            .into_iter()
            .try_for_each(|folder| make_private_folder(folder))
    }

    /// Reads the settings.
    pub fn settings(&self) -> Result<Settings, HomeError> {
        let path = self.config_file();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(HomeError::NotSetUp { path });
            }
            Err(source) => {
                return Err(HomeError::Io {
                    act: "read",
                    path,
                    source,
                });
            }
        };
        Settings::parse(&text).map_err(|source| HomeError::Settings { path, source })
    }

    /// Writes the settings.
    pub fn save_settings(&self, settings: &Settings) -> Result<(), HomeError> {
        self.make_folders()?;
        replace_file(&self.config_file(), settings.to_toml().as_bytes())
    }

    /// Reads the keys; refuses a file that other users can read, and one that needs the keystore's half.
    pub fn keys(&self) -> Result<DeviceKeys, HomeError> {
        let path = self.key_file();
        self.keys_with(|| Err(HomeError::NeedsHalf { path }))
    }

    /// Writes the keys.
    pub fn save_keys(&self, keys: &DeviceKeys) -> Result<(), HomeError> {
        self.make_folders()?;
        keys.save(&self.key_file())
    }

    /// Becomes the one process that writes as this device.
    pub fn lock(&self) -> Result<DeviceLock, HomeError> {
        self.make_folders()?;
        let path = self.state.join("lock");
        let mut file = open_lock_file(&path)?;
        let until = Instant::now() + LAST_THREADS_END_WITHIN;
        while !try_flock(&file, &path)? {
            let mut holder = String::new();
            // A reader may see it while it is being written; then it is nobody's.
            let _ = file
                .rewind()
                .and_then(|()| file.read_to_string(&mut holder));
            let holder = holder.trim().parse::<u32>().ok();
            // After a kill the lock stays until the last thread has come back from the disk.
            if holder.is_some_and(is_ending) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
            let holder = match holder {
                None => "an unknown process".to_owned(),
                Some(pid) => format!("process {pid}"),
            };
            return Err(HomeError::Locked { holder });
        }
        let write = |mut file: &File| {
            file.set_len(0)?;
            // It may have been read to its end while we waited.
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&file).map_err(|source| HomeError::Io {
            act: "write",
            path,
            source,
        })?;
        Ok(DeviceLock { file })
    }

    /// The first index and disk cache that no other process uses.
    pub fn claim_cache(&self) -> Result<CacheSlot, HomeError> {
        for n in 0.. {
            let folder = self.cache.join(n.to_string());
            make_private_folder(&folder)?;
            let path = folder.join("lock");
            let lock = open_lock_file(&path)?;
            if try_flock(&lock, &path)? {
                return Ok(CacheSlot {
                    folder,
                    _lock: lock,
                });
            }
        }
        unreachable!("there are fewer processes than numbers")
    }

    /// A small piece of state that survives crashes, whole.
    pub fn load_state(&self, name: &str) -> Result<Option<Vec<u8>>, HomeError> {
        let path = self.state.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HomeError::Io {
                act: "read",
                path,
                source,
            }),
        }
    }

    /// Replaces a small piece of state.
    pub fn save_state(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        replace_file(&self.state.join(name), bytes)
    }
}

/// Held by the one process that writes as this device; given up when dropped or when it dies.
pub struct DeviceLock {
    file: File,
}

impl DeviceLock {
    /// Writes this process's id again: after turning into a daemon it has another one.
    pub fn renew_holder(&self) -> std::io::Result<()> {
        use std::os::unix::fs::FileExt;
        self.file.set_len(0)?;
        self.file
            .write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
    }
}

/// An index and a disk cache that no other process uses as long as this lives.
pub struct CacheSlot {
    folder: PathBuf,
    _lock: File,
}

impl CacheSlot {
    /// Where the index is.
    pub fn index_dir(&self) -> PathBuf {
        self.folder.join("index")
    }

    /// Where encrypted trees and pieces of packs are.
    pub fn chunks_dir(&self) -> PathBuf {
        self.folder.join("chunks")
    }

    /// A small file of this slot.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn folder_from(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn make_private_folder(folder: &Path) -> Result<(), HomeError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| HomeError::Io {
            act: "make the folder",
            path: folder.to_owned(),
            source,
        })
}

fn open_lock_file(path: &Path) -> Result<File, HomeError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| HomeError::Io {
            act: "open",
            path: path.to_owned(),
            source,
        })
}

/// Whether the process is gone, or was killed and only its last threads are not.
fn is_ending(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        Ok(stat) => stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X'])),
    }
}

fn try_flock(file: &File, path: &Path) -> Result<bool, HomeError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(HomeError::Io {
            act: "lock",
            path: path.to_owned(),
            source: error.into(),
        }),
    }
}

/// Puts `bytes` at `path` so that a crash leaves the old file or the new one, mode 0600.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let write = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let beside = path.with_extension(format!("new-{}", std::process::id()));
        let _ = std::fs::remove_file(&beside);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|source| HomeError::Io {
        act: "write",
        path: path.to_owned(),
        source,
    })
}
