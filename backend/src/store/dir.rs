//! Objects as files of a folder: a local disk, a USB disk, a NAS.
//!
//! An object is written to `tmp/` in the archive's folder, synced, renamed to its name without
//! replacing anything, and the folder that holds the name is synced. If we die
//!
//! - before the rename: a file in `tmp/` is left, which a later run deletes after a day;
//! - between rename and sync: the object is there completely or not at all;
//! - after the sync: the object stays.
//!
//! The archive's folder itself is never made by storing: where a disk is not plugged in, its mount
//! point must not fill up in its place.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    ops::Range,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::{
    buffer::spare_capacity,
    fs::{CWD, RenameFlags, renameat_with},
    io::{Errno, pread},
};

use tokio::task::JoinHandle;

use super::{
    Capabilities, Listed, MAX_OBJECT_BYTES, ObjectStore, Operation, StoreError, StoreErrorKind,
    Stored,
};
use crate::{
    layout::{Folder, ObjectName},
    object::{Object, check_digest},
};

/// Files that are being written. No folder of the layout has this name.
const TEMPORARY: &str = "tmp";

/// After this time nobody is still writing a temporary file.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder that holds one archive.
pub struct DirStore {
    folder: Arc<ArchiveFolder>,
}

impl DirStore {
    /// The store in the folder `root`, which need not be there yet.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        let folder = ArchiveFolder {
            root: root.into(),
            swept: AtomicBool::new(false),
        };
        Self {
            folder: Arc::new(folder),
        }
    }

    /// Makes the folder, for a new archive. An existing folder is taken as it is.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self::open(root);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        match builder.create(&store.folder.root) {
            Ok(()) => Ok(store),
            Err(error) => Err(store.folder.error(Operation::Open, None, error)),
        }
    }

    /// An object's file and its length, for whoever hands it on in pieces. Nothing is checked: the reader has the name.
    pub async fn file(&self, name: &ObjectName) -> Result<(File, u64), StoreError> {
        let name = *name;
        self.blocking(move |folder| {
            let error = |error| folder.error(Operation::Get, Some(&name), error);
            let file = File::open(folder.path(&name)).map_err(error)?;
            let bytes = file.metadata().map_err(error)?.len();
            Ok((file, bytes))
        })
        .await
    }

    /// File operations block, so they run on threads that may.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ArchiveFolder) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = Arc::clone(&self.folder);
        let mut task = AbortOnDrop(tokio::task::spawn_blocking(move || work(&folder)));
        match (&mut task.0).await {
            Ok(result) => result,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => {
                    let kind = StoreErrorKind::Transient;
                    let error = StoreError::new(kind, Operation::Open, self.location());
                    Err(error.detail("the program is ending"))
                }
            },
        }
    }
}

/// Nobody waits for it any more: it is not begun then, or takes its thread only until it ends.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[async_trait]
impl ObjectStore for DirStore {
    async fn put_new(&self, object: &Object) -> Result<Stored, StoreError> {
        let object = object.clone();
        self.blocking(move |folder| {
            let name = object.name();
            folder
                .put_new(&name, object.bytes())
                .map_err(|error| folder.error(Operation::Put, Some(&name), error))
        })
        .await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let name = *name;
        self.blocking(move |folder| {
            let operation = Operation::Get;
            let error = |error| folder.error(operation, Some(&name), error);
            let file = File::open(folder.path(&name)).map_err(error)?;
            let size = file.metadata().map_err(error)?.len();
            if size > MAX_OBJECT_BYTES {
                return Err(StoreError::too_large(operation, &name, folder.location()));
            }
            let bytes = read_exact(&file, 0..size).map_err(error)?;
            check_digest(&name, &bytes)
                .map_err(|wrong| StoreError::damaged(operation, wrong, folder.location()))?;
            Ok(bytes)
        })
        .await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let name = *name;
        self.blocking(move |folder| {
            let error = |error| folder.error(Operation::GetRange, Some(&name), error);
            let file = File::open(folder.path(&name)).map_err(error)?;
            let size = file.metadata().map_err(error)?.len();
            if range.start > range.end || range.end > size {
                return Err(StoreError::beyond_end(&name, &range, folder.location()));
            }
            read_exact(&file, range).map_err(error)
        })
        .await
    }

    async fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        self.blocking(move |archive| {
            let list = archive.list(&folder);
            list.map_err(|error| archive.error(Operation::List, None, error).folder(&folder))
        })
        .await
    }

    /// Not synced: an object that comes back after a crash is deleted by the next gc.
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let name = *name;
        self.blocking(move |folder| match fs::remove_file(folder.path(&name)) {
            Ok(()) => Ok(()),
            Err(error) => match folder.error(Operation::Delete, Some(&name), error) {
                error if error.is_not_found() => Ok(()),
                error => Err(error),
            },
        })
        .await
    }

    fn location(&self) -> String {
        self.folder.location()
    }

    async fn probe(&self) -> Result<Capabilities, StoreError> {
        self.blocking(|folder| {
            let temporary = folder.write_temporary(b"probe");
            temporary.map_err(|error| folder.error(Operation::Probe, None, error))?;
            Ok(Capabilities {
                conditional_put: true,
                checksum_enforced: true,
                ranges: true,
            })
        })
        .await
    }
}

struct ArchiveFolder {
    root: PathBuf,
    /// Whether abandoned temporary files were looked for.
    swept: AtomicBool,
}

impl ArchiveFolder {
    fn path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.to_string())
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> io::Result<Stored> {
        let path = self.path(name);
        let parent = path.parent().expect("a name has a folder");
        if path.exists() {
            // Whoever renamed it may have died before the sync.
            sync_folder(parent)?;
            return Ok(Stored::AlreadyThere);
        }
        let temporary = self.write_temporary(bytes)?;
        self.make_folders(parent)?;
        let stored = temporary.rename_to(&path)?;
        sync_folder(parent)?;
        Ok(stored)
    }

    fn write_temporary(&self, bytes: &[u8]) -> io::Result<Temporary> {
        let folder = self.root.join(TEMPORARY);
        self.make_folders(&folder)?;
        if !self.swept.swap(true, Ordering::Relaxed) {
            sweep(&folder);
        }
        let path = folder.join(format!("{:032x}", rand::random::<u128>()));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let temporary = Temporary { path };
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(temporary)
    }

    /// Makes `folder` and what is above it, but never the root.
    fn make_folders(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let parent = folder.parent().expect("is below the root");
        if parent != self.root {
            self.make_folders(parent)?;
        }
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            // Also when another thread made it: its sync may come after our return.
            _ => sync_folder(parent),
        }
    }

    fn list(&self, folder: &Folder) -> io::Result<Vec<Listed>> {
        if !self.root.is_dir() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut listed = Vec::new();
        let prefix = folder.prefix();
        self.list_below(prefix.trim_end_matches('/'), folder, &mut listed)?;
        Ok(listed)
    }

    fn list_below(
        &self,
        relative: &str,
        folder: &Folder,
        listed: &mut Vec<Listed>,
    ) -> io::Result<()> {
        let entries = match fs::read_dir(self.root.join(relative)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let relative = format!("{relative}/{}", entry.file_name().to_string_lossy());
            // Devices have one level of folders; nothing has two.
            if entry.file_type()?.is_dir() && relative.matches('/').count() == 1 {
                self.list_below(&relative, folder, listed)?;
                continue;
            }
            match relative.parse::<ObjectName>() {
                Ok(name) if folder.contains(&name) => listed.extend(listing(&entry, name)?),
                _ => tracing::warn!(file = relative, "skipping what is not an object"),
            }
        }
        Ok(())
    }

    fn error(
        &self,
        operation: Operation,
        name: Option<&ObjectName>,
        error: io::Error,
    ) -> StoreError {
        let kind = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => StoreErrorKind::NoSpace,
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => StoreErrorKind::Denied,
            Some(Errno::FBIG) => StoreErrorKind::Refused,
            Some(Errno::NOTDIR) => StoreErrorKind::NotConfigured,
            _ if !self.root.is_dir() => StoreErrorKind::NotConfigured,
            _ if error.kind() == io::ErrorKind::NotFound => StoreErrorKind::NotFound,
            _ => StoreErrorKind::Transient,
        };
        let mut store_error = StoreError::new(kind, operation, self.location()).because(error);
        if kind == StoreErrorKind::NotConfigured {
            store_error = store_error
                .detail("there is no such folder; connect the disk it is on, or make the folder");
        }
        match name {
            Some(name) => store_error.object(name),
            None => store_error,
        }
    }
}

fn listing(entry: &fs::DirEntry, name: ObjectName) -> io::Result<Option<Listed>> {
    match entry.metadata() {
        Ok(metadata) if metadata.is_file() => {
            let stored_at = metadata.modified().ok();
            Ok(Some(Listed {
                name,
                size: metadata.len(),
                stored_at,
            }))
        }
        Ok(_) => Ok(None),
        // Deleted since the folder was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file in `tmp/`, deleted unless renamed.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn rename_to(self, path: &Path) -> io::Result<Stored> {
        match renameat_with(CWD, &self.path, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(Stored::New),
            Err(Errno::EXIST) => Ok(Stored::AlreadyThere),
            // Some network and FUSE file systems do not know the flag. Replacing is harmless
            // there: the other file has the same name, so it has the same bytes.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                fs::rename(&self.path, path).map(|()| Stored::New)
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Not there any more if it was renamed; if it cannot be deleted, a later sweep does it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Deletes temporary files whose writers are gone.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let now = SystemTime::now();
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified
            .ok()
            .and_then(|modified| now.duration_since(modified).ok());
        if age.is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // File systems without the notion of syncing a folder.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

fn read_exact(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start)
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = range.start + bytes.len() as u64;
        // Not zeroed first. Room may be larger than was asked for.
        match pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
mod tests;
