//! The drive as plain functions, without FUSE types: the shell translates, tests call these.
//!
//! Every call takes and returns plain values and an [`FsError`]. A call that needs a chunk which
//! is only in the store says [`FsError::WouldBlock`], before it has changed anything, when its
//! thread may not wait (the module `blocking`).
//!
//! A change is: build a group of operations from what is there, log it, apply it; all under the
//! namespace's lock, so that the log has the order in which things happened. If we die before the
//! record is in the log, the caller was never told that it was done; behind it, replay does it.

mod acl;
mod attributes;
mod background;
pub mod error;
mod files;
mod import;
mod kernel;
mod listing;
mod names;
mod read_ahead;
mod space;
mod status;
pub mod types;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::archive::Archive;
use crate::chunks::ChunkSource;
use crate::commit::Commits;
use crate::format::{Attributes, FileKind, FileNo, ROOT_FILE};
use crate::log::{Log, RecordRef};
use crate::namespace::operation::{Operation, encode_group};
use crate::namespace::state::InodeState;
use crate::namespace::{Namespace, Reason};
use crate::snapshots_view::SnapshotsView;
use crate::write_path::WritePath;

pub use background::Threads;
pub use error::FsError;
pub use import::{
    Imported, ImportedBody, ImportedEntry, ImportedFolder, ImportedName, ImportedNode,
};
pub use kernel::Invalidate;
pub(crate) use listing::take_dots;
pub use types::*;

/// The result of a call.
pub type FsResult<T> = Result<T, FsError>;

/// `/`
pub const ROOT_INO: u64 = 1;
/// Inode numbers of what stands in no tree begin with this.
pub const VIRTUAL: u64 = 0xFF << 56;
/// `/current`
pub const CURRENT_INO: u64 = VIRTUAL | 1;
/// `/snapshots`
pub const SNAPSHOTS_INO: u64 = VIRTUAL | 2;
/// `/snapshots/latest`
pub const LATEST_INO: u64 = VIRTUAL | 3;
/// Longest name in bytes.
pub const NAME_BYTES: usize = 255;

/// The mounted drive.
pub struct Filesystem {
    pub(crate) archive: Arc<Archive>,
    pub(crate) log: Arc<Log>,
    pub(crate) namespace: Mutex<Namespace>,
    pub(crate) write: Arc<WritePath>,
    pub(crate) commits: Commits,
    pub(crate) snapshots: SnapshotsView,
    pub(crate) work: background::Work,
    handles: Mutex<HashMap<u64, files::Handle>>,
    readers: Mutex<read_ahead::Readers>,
    next_handle: AtomicU64,
    memory_limit: u64,
    /// Time from one automatic snapshot to the next.
    pub(crate) automatic: Option<Duration>,
    rate: Mutex<status::Rate>,
    kernel: RwLock<Option<Arc<dyn Invalidate>>>,
    /// The device was deauthorised: nobody gets in any more.
    is_shut: AtomicBool,
}

/// Which part of the drive an inode number belongs to.
enum Place {
    Current(FileNo),
    Snapshots,
}

fn place(ino: u64) -> Place {
    match ino {
        CURRENT_INO => Place::Current(ROOT_FILE),
        ROOT_INO => Place::Snapshots,
        ino if ino >> 56 == 0 => Place::Current(ino),
        _ => Place::Snapshots,
    }
}

/// The file of `current/` with this inode number, for a change.
fn writable(ino: u64) -> FsResult<FileNo> {
    match place(ino) {
        Place::Current(file) => Ok(file),
        Place::Snapshots => Err(FsError::ReadOnly),
    }
}

/// The inode number of a file of `current/` on the mount.
pub(crate) fn ino_of(file: FileNo) -> u64 {
    if file == ROOT_FILE { CURRENT_INO } else { file }
}

/// What stat(2) tells of a file of `current/`.
pub(crate) fn attr_of(state: &InodeState) -> Attr {
    let (size, bytes) = match &state.body {
        crate::namespace::state::BodyState::Regular(content) => {
            (content.size(), content.allocated())
        }
        crate::namespace::state::BodyState::Symlink(target) => (target.len() as u64, 0),
        crate::namespace::state::BodyState::Directory(_) => (4096, 4096),
        crate::namespace::state::BodyState::Special => (0, 0),
    };
    let nlink = match state.directory() {
        Some(_) if state.links == 0 => 0,
        Some(directory) => 2 + u32::try_from(directory.directories).unwrap_or(u32::MAX - 2),
        None => state.links,
    };
    attr(ino_of(state.file), &state.attributes, size, bytes, nlink)
}

/// What stat(2) tells.
pub(crate) fn attr(
    ino: u64,
    attributes: &Attributes,
    size: u64,
    allocated: u64,
    nlink: u32,
) -> Attr {
    Attr {
        ino,
        size,
        blocks: allocated.div_ceil(512),
        atime: attributes.atime,
        mtime: attributes.mtime,
        ctime: attributes.ctime,
        kind: attributes.kind,
        mode: attributes.mode,
        nlink,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: attributes.rdev,
    }
}

/// A name that may stand in a folder.
fn check_name(name: &[u8]) -> FsResult<()> {
    match name {
        b"" | b"." | b".." => Err(FsError::Invalid),
        name if name.len() > NAME_BYTES => Err(FsError::NameTooLong),
        name if name.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(FsError::Invalid),
        _ => Ok(()),
    }
}

/// How a group of operations gets its room in the log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// As there is.
    Ordinary,
    /// Held back for what makes room: deletes, renames, truncates.
    Reserved,
}

impl Filesystem {
    pub(crate) fn new(
        archive: Arc<Archive>,
        log: Arc<Log>,
        namespace: Namespace,
        write: Arc<WritePath>,
        memory_limit: u64,
        owner: (u32, u32),
        automatic: Option<Duration>,
    ) -> Self {
        let commits = Commits::new(&archive);
        for layer in namespace.layers() {
            if let Reason::Requested(moment) = &layer.reason {
                let label = moment
                    .label
                    .as_ref()
                    .map(|label| String::from_utf8_lossy(label).into_owned());
                let name = label.unwrap_or_else(|| crate::snapshots::time_name(moment.time));
                commits.requested(SnapshotTicket(moment.ticket), name);
            }
        }
        let pages = archive.memory().pages();
        namespace
            .nodes
            .limit_to(usize::try_from(pages).unwrap_or(usize::MAX));
        Filesystem {
            snapshots: SnapshotsView::new(archive.clone(), owner),
            commits,
            archive,
            log,
            namespace: Mutex::new(namespace),
            write,
            work: background::Work::default(),
            handles: Mutex::default(),
            readers: Mutex::default(),
            next_handle: AtomicU64::new(1),
            memory_limit,
            automatic,
            rate: Mutex::default(),
            kernel: RwLock::default(),
            is_shut: AtomicBool::new(false),
        }
    }

    /// Works on the namespace; when it stops for a page that is not in memory, loads the page
    /// without the lock and does it again.
    pub(crate) fn with_namespace<T>(
        &self,
        mut work: impl FnMut(&mut Namespace) -> FsResult<T>,
    ) -> FsResult<T> {
        loop {
            let (nodes, missing) = {
                let mut namespace = self.namespace.lock();
                match work(&mut namespace) {
                    Err(FsError::WouldBlock) => {
                        (namespace.nodes.clone(), namespace.nodes.take_missing())
                    }
                    answer => return answer,
                }
            };
            let (kind, id) = missing.ok_or(FsError::WouldBlock)?;
            nodes.insert(kind, id, self.archive.load(kind, &id)?);
        }
    }

    /// Logs a group and applies it.
    pub(crate) fn commit_group(
        &self,
        namespace: &mut Namespace,
        group: &[Operation],
        room: Room,
    ) -> FsResult<()> {
        if group.is_empty() {
            return Ok(());
        }
        let bytes = encode_group(group);
        let record = RecordRef::Operation(&bytes);
        match room {
            Room::Ordinary => self.log.append(&record)?,
            Room::Reserved => self.log.append_reserved(&record)?,
        };
        group
            .iter()
            .for_each(|operation| namespace.apply(operation));
        Ok(())
    }

    /// Finds a name; what is found counts one lookup more, which [`Filesystem::forget`] takes back.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> FsResult<Attr> {
        if name.len() > NAME_BYTES {
            return Err(FsError::NameTooLong);
        }
        if parent == ROOT_INO && name == b"current" {
            return self.getattr(CURRENT_INO);
        }
        let Place::Current(folder) = place(parent) else {
            return self.snapshots.lookup(parent, name);
        };
        self.with_namespace(|namespace| {
            let folder = namespace.get(folder)?;
            let state = namespace.find(&folder, name)?;
            let name = namespace.key(name).1;
            namespace
                .known
                .look_up(state.child(), folder.file, &name, state.linked);
            Ok(attr_of(&state))
        })
    }

    /// This device is out: every call from the mount is refused from now on.
    pub fn shut(&self) {
        self.is_shut.store(true, Ordering::Release);
    }

    /// Whether it is.
    pub fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Acquire)
    }

    /// The kernel forgets `count` lookups.
    pub fn forget(&self, ino: u64, count: u64) {
        let Place::Current(file) = place(ino) else {
            return self.snapshots.forget(ino, count);
        };
        let mut namespace = self.namespace.lock();
        if file != ROOT_FILE && namespace.known.forget(file, count) {
            self.drop_orphan(&mut namespace, file);
        }
    }

    /// A file without a name goes when nothing holds it any more.
    fn drop_orphan(&self, namespace: &mut Namespace, file: FileNo) {
        if !namespace.known.is_held(file) && namespace.drop_orphan(file) {
            self.write.set_memory(file, 0);
            self.write.disown(file);
        }
    }

    /// What stat(2) tells.
    pub fn getattr(&self, ino: u64) -> FsResult<Attr> {
        match place(ino) {
            Place::Current(file) => {
                self.with_namespace(|namespace| Ok(attr_of(&*namespace.get(file)?)))
            }
            Place::Snapshots => self.snapshots.getattr(ino),
        }
    }

    /// Where a symlink points to.
    pub fn readlink(&self, ino: u64) -> FsResult<Vec<u8>> {
        let Place::Current(file) = place(ino) else {
            return self.snapshots.readlink(ino);
        };
        self.with_namespace(|namespace| match &namespace.get(file)?.body {
            crate::namespace::state::BodyState::Symlink(target) => Ok(target.to_vec()),
            _ => Err(FsError::Invalid),
        })
    }

    fn new_handle(&self, handle: files::Handle) -> u64 {
        let number = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.handles.lock().insert(number, handle);
        number
    }

    /// Whether this is a folder of `current/` or of a snapshot.
    fn kind_of(&self, ino: u64) -> FsResult<FileKind> {
        Ok(self.getattr(ino)?.kind)
    }
}

#[cfg(test)]
mod tests;
