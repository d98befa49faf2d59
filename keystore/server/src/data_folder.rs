//! What lies where in the data folder.
//!
//! ```text
//! DATA/
//!   keystore.redb        records and the seal header; ciphertext, apart from the header
//!   audit.log            the hash chain
//!   persons.json         who may come in
//!   tls/                 authority and server certificate with their keys (0600)
//!   trusted/             authorities of restored snapshots, certificates only
//!   first-operator.pem   the first operator's credential, made once; take it away after the first start
//!   snapshots/           copies of the database, ciphertext
//!   lock                 held by the running server
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The folder, there and readable by its owner only, and no other server's while this value lives.
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

/// A data folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Not to be made or read.
    #[error("the data folder {} cannot be used: {source}; check the path and its owner", .path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could read the authority's key.
    #[error("the data folder {} can be read by others; run: chmod 700 {}", .path.display(), .path.display())]
    Open {
        /// The folder.
        path: PathBuf,
    },
    /// Two servers would write over each other.
    #[error("another server runs on the data folder {}; end it first", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// It is somebody else's.
    #[error("the data folder {} belongs to another user; run the server as its owner", .path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
}

impl DataFolder {
    /// Opens or makes it.
    pub fn open(path: &Path) -> Result<DataFolder, FolderError> {
        let at = || path.to_owned();
        let io = |source| FolderError::Io { path: at(), source };
        make(path).map_err(io)?;
        let metadata = fs::metadata(path).map_err(io)?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(FolderError::Open { path: at() });
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(FolderError::Foreign { path: at() });
        }
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FolderError::InUse { path: at() }),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let folder = DataFolder {
            path: at(),
            _lock: lock,
        };
        make(&folder.tls()).map_err(io)?;
        make(&folder.trusted()).map_err(io)?;
        Ok(folder)
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.path.join("keystore.redb")
    }

    /// The audit log.
    pub fn audit_log(&self) -> PathBuf {
        self.path.join("audit.log")
    }

    /// The table of persons.
    pub fn persons(&self) -> PathBuf {
        self.path.join("persons.json")
    }

    /// The authority and the server's certificate.
    pub fn tls(&self) -> PathBuf {
        self.path.join("tls")
    }

    /// Authorities of restored snapshots.
    pub fn trusted(&self) -> PathBuf {
        self.path.join("trusted")
    }

    /// The first operator's credential.
    pub fn first_operator(&self) -> PathBuf {
        self.path.join("first-operator.pem")
    }

    /// Certificates of all authorities in `trusted/`.
    pub fn trusted_authorities(&self) -> Vec<String> {
        let entries = fs::read_dir(self.trusted()).into_iter().flatten().flatten();
        let pem = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "crt"));
        pem.filter_map(|entry| fs::read_to_string(entry.path()).ok())
            .collect()
    }
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
