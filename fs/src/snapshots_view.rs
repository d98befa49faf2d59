//! The read-only part of the drive: `/`, `snapshots/`, a folder for each device, and in it each
//! snapshot's tree, loaded as it is looked at.
//!
//! The list of snapshots is what the archive said at most a minute ago; a thread asks again. Nobody
//! waits for the store with the lock held.

mod virtuals;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;

use crate::archive::{Archive, ArchiveError};
use crate::content::Content;
use crate::filesystem::{
    Attr, DirItem, FsError, FsResult, LATEST_INO, Listing, ROOT_INO, SNAPSHOTS_INO, attr, take_dots,
};
use crate::format::{Attributes, Body, Commit, Entry, FileKind, Inode, ROOT_FILE, Target, Xattrs};
use crate::known::Known;
use crate::namespace::state::{Child, Name};
use crate::snapshots::Snapshot;
use crate::tree;

use virtuals::Virtual;
pub(crate) use virtuals::{Changed, is_pending};

/// Inodes of snapshots that are kept loaded.
const LOADED: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");
/// The list is asked for again after this.
const REFRESH: Duration = Duration::from_secs(60);
const FILE_BITS: u32 = 34;
const SEQUENCE_BITS: u32 = 22;

/// See the module.
pub struct SnapshotsView {
    archive: Arc<Archive>,
    owner: (u32, u32),
    inner: Mutex<Inner>,
    refresh: AtomicBool,
    asking: Mutex<()>,
}

struct Inner {
    list: Option<Arc<List>>,
    refreshed: Option<Instant>,
    known: Known,
    loaded: LruCache<u64, Arc<Loaded>>,
    /// Snapshots that were asked for here and are not stored, by name.
    pending: HashMap<Vec<u8>, u64>,
}

/// What there is.
struct List {
    devices: Vec<(u16, String)>,
    snapshots: Vec<Snapshot>,
}

/// An inode of a snapshot.
struct Loaded {
    inode: Inode,
    links: u32,
}

/// The inode number of a file of a snapshot; `None` where the numbers are too large for one.
fn snapshot_ino(device: u16, sequence: u64, file: u64) -> Option<u64> {
    let fits = device < 254 && sequence >> SEQUENCE_BITS == 0 && file >> FILE_BITS == 0;
    fits.then(|| (u64::from(device) + 1) << 56 | sequence << FILE_BITS | file)
}

fn numbers_of(ino: u64) -> (u16, u64, u64) {
    let sequence = ino >> FILE_BITS & ((1 << SEQUENCE_BITS) - 1);
    (
        (ino >> 56) as u16 - 1,
        sequence,
        ino & ((1 << FILE_BITS) - 1),
    )
}

impl SnapshotsView {
    /// Nothing is loaded yet.
    pub fn new(archive: Arc<Archive>, owner: (u32, u32)) -> Self {
        let inner = Inner {
            list: None,
            refreshed: None,
            known: Known::default(),
            loaded: LruCache::new(LOADED),
            pending: HashMap::new(),
        };
        SnapshotsView {
            archive,
            owner,
            inner: Mutex::new(inner),
            refresh: AtomicBool::new(true),
            asking: Mutex::new(()),
        }
    }

    /// The list is asked for again when the thread comes by.
    pub fn refresh_soon(&self) {
        self.refresh.store(true, Ordering::Relaxed);
    }

    /// Whether it is time to ask.
    pub fn wants_refresh(&self) -> bool {
        let old = self
            .inner
            .lock()
            .refreshed
            .is_none_or(|at| at.elapsed() > REFRESH);
        old || self.refresh.load(Ordering::Relaxed)
    }

    /// Asks the archive what there is.
    pub(crate) fn refresh(&self) -> Result<Changed, ArchiveError> {
        let changed = self.refresh_if(|_| true)?;
        Ok(changed.expect("it was to be asked in any case"))
    }

    fn refresh_if(
        &self,
        is_needed: impl FnOnce(&Inner) -> bool,
    ) -> Result<Option<Changed>, ArchiveError> {
        // One at a time: an answer from before a commit must not replace the one from after it.
        let _alone = match crate::blocking::deadline() {
            Some(until) => self
                .asking
                .try_lock_until(until)
                .ok_or(ArchiveError::TimedOut)?,
            None => self.asking.lock(),
        };
        if !is_needed(&self.inner.lock()) {
            return Ok(None);
        }
        self.refresh.store(false, Ordering::Relaxed);
        let asked = Instant::now();
        // What is listed can be read: the index has it.
        let snapshots = self.archive.snapshots().and_then(|snapshots| {
            self.archive.catch_up_index()?;
            Ok(snapshots)
        });
        let mut inner = self.inner.lock();
        // Asked again in a minute, whatever came of it.
        inner.refreshed = Some(asked);
        let snapshots = snapshots?;
        let devices = self
            .archive
            .devices()
            .into_iter()
            .map(|device| (device.number, device.name));
        inner.pending.retain(|name, _| {
            !snapshots
                .iter()
                .any(|snapshot| snapshot.folder.as_bytes() == name)
        });
        let list = Arc::new(List {
            devices: devices.collect(),
            snapshots,
        });
        let before = inner.list.replace(Arc::clone(&list));
        Ok(Some(Changed::between(before.as_deref(), &list)))
    }

    /// The newest snapshot of this device.
    pub(crate) fn newest_of_this_device(&self) -> Option<Snapshot> {
        let device = self.archive.device_record().number;
        let list = self.inner.lock().list.clone()?;
        list.snapshots
            .iter()
            .rev()
            .find(|snapshot| snapshot.device_number == device)
            .cloned()
    }

    /// What the folder of this device's snapshot with that sequence is called, if it is listed.
    pub(crate) fn folder_of(&self, sequence: u64) -> Option<String> {
        let device = self.archive.device();
        let list = self.inner.lock().list.clone()?;
        list.snapshots
            .iter()
            .find(|snapshot| snapshot.name.device == device && snapshot.name.sequence == sequence)
            .map(|snapshot| snapshot.folder.clone())
    }

    fn list(&self) -> FsResult<Arc<List>> {
        if let Some(list) = self.inner.lock().list.clone() {
            return Ok(list);
        }
        if !crate::blocking::may_block() {
            return Err(FsError::WouldBlock);
        }
        self.refresh_if(|inner| inner.list.is_none())
            .map_err(archive_error)?;
        self.inner.lock().list.clone().ok_or(FsError::TimedOut)
    }

    /// Finds a name; counts a lookup.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> FsResult<Attr> {
        if let Some(parent) = Virtual::from_ino(parent) {
            return self.lookup_virtual(parent, name);
        }
        let folder = self.load(parent)?;
        let entry = self.entry(&folder, name)?.ok_or(FsError::NotFound)?;
        let (ino, loaded) = self.keep(parent, &entry)?;
        self.count(ino, entry.kind(), parent, Arc::from(name));
        Ok(loaded_attr(ino, &loaded))
    }

    fn entry(&self, folder: &Loaded, name: &[u8]) -> FsResult<Option<Entry>> {
        match &folder.inode.body {
            Body::Directory { tree: None } => Ok(None),
            Body::Directory { tree: Some(tree) } => {
                let hash = self.archive.keychain().name_hash(name);
                Ok(tree::lookup(&self.archive, tree, hash, name)?)
            }
            _ => Err(FsError::NotDirectory),
        }
    }

    /// Keeps what an entry stands for.
    fn keep(&self, parent: u64, entry: &Entry) -> FsResult<(u64, Arc<Loaded>)> {
        let (device, sequence, _) = numbers_of(parent);
        let ino = snapshot_ino(device, sequence, entry.file()).ok_or(FsError::Unsupported)?;
        if let Some(loaded) = self.inner.lock().loaded.get(&ino) {
            return Ok((ino, loaded.clone()));
        }
        let loaded = match &entry.target {
            Target::Inline(inode) => Loaded {
                inode: inode.clone(),
                links: 1,
            },
            Target::Linked { file, .. } => {
                let links = self.commit(device, sequence)?.links.ok_or(FsError::Stale)?;
                let linked =
                    tree::lookup_link(&self.archive, &links, *file)?.ok_or(FsError::Stale)?;
                Loaded {
                    inode: linked.inode,
                    links: linked.links,
                }
            }
        };
        let loaded = Arc::new(loaded);
        self.inner.lock().loaded.put(ino, loaded.clone());
        Ok((ino, loaded))
    }

    fn commit(&self, device: u16, sequence: u64) -> FsResult<Arc<Commit>> {
        let list = self.list()?;
        let is_it = |snapshot: &&Snapshot| {
            snapshot.device_number == device && snapshot.name.sequence == sequence
        };
        let name = list
            .snapshots
            .iter()
            .find(is_it)
            .ok_or(FsError::Stale)?
            .name;
        if !crate::blocking::may_block() && !self.archive.commits.lock().contains_key(&name) {
            return Err(FsError::WouldBlock);
        }
        self.archive.load_commit(&name).map_err(archive_error)
    }

    /// An inode of a snapshot, loaded again if need be.
    fn load(&self, ino: u64) -> FsResult<Arc<Loaded>> {
        let (parent, name) = {
            let mut inner = self.inner.lock();
            if let Some(loaded) = inner.loaded.get(&ino) {
                return Ok(loaded.clone());
            }
            match inner.known.find(ino) {
                Some(stub) => (stub.parent, stub.name.clone()),
                None => (0, Arc::from([])),
            }
        };
        let (device, sequence, file) = numbers_of(ino);
        if file == ROOT_FILE {
            let loaded = Arc::new(Loaded {
                inode: self.commit(device, sequence)?.root.clone(),
                links: 1,
            });
            self.inner.lock().loaded.put(ino, loaded.clone());
            return Ok(loaded);
        }
        if parent == 0 {
            return Err(FsError::Stale);
        }
        let folder = self.load(parent)?;
        let entry = self.entry(&folder, &name)?.ok_or(FsError::Stale)?;
        Ok(self.keep(parent, &entry)?.1)
    }

    /// One lookup more.
    fn count(&self, ino: u64, kind: FileKind, parent: u64, name: Name) {
        let child = Child { file: ino, kind };
        let known = &mut self.inner.lock().known;
        known.look_up(child, parent, &name, false);
    }

    /// The kernel forgets lookups.
    pub fn forget(&self, ino: u64, count: u64) {
        self.inner.lock().known.forget(ino, count);
    }

    /// How many files the kernel knows.
    pub(crate) fn known_count(&self) -> usize {
        self.inner.lock().known.count()
    }

    /// Names that the kernel is to forget, with their folders, as [`Known::surplus`] says; and how many files it has forgotten.
    pub(crate) fn surplus_names(&self, most: usize, at_once: usize) -> (Vec<(u64, Name)>, u64) {
        let known = &mut self.inner.lock().known;
        (known.surplus(most, at_once), known.forgotten())
    }

    /// A file is opened: it stays known.
    pub(crate) fn hold(&self, ino: u64) -> FsResult<()> {
        self.content(ino)?;
        self.inner.lock().known.hold(ino);
        Ok(())
    }

    /// It is closed.
    pub(crate) fn let_go(&self, ino: u64) {
        self.inner.lock().known.close(ino);
    }

    /// What stat(2) tells.
    pub fn getattr(&self, ino: u64) -> FsResult<Attr> {
        match Virtual::from_ino(ino) {
            Some(place) => self.virtual_attr(place),
            None => Ok(loaded_attr(ino, &*self.load(ino)?)),
        }
    }

    /// Where a symlink points to.
    pub fn readlink(&self, ino: u64) -> FsResult<Vec<u8>> {
        if ino == LATEST_INO {
            return self.latest();
        }
        match &self.loaded_of(ino)?.inode.body {
            Body::Symlink { target } => Ok(target.clone()),
            _ => Err(FsError::Invalid),
        }
    }

    /// The content of a file.
    pub fn content(&self, ino: u64) -> FsResult<Arc<Content>> {
        match &self.loaded_of(ino)?.inode.body {
            Body::Regular {
                size,
                allocated,
                list,
            } => Ok(Arc::new(Content::from_list(
                *size,
                *allocated,
                list.clone(),
            ))),
            Body::Directory { .. } => Err(FsError::IsDirectory),
            _ => Err(FsError::Invalid),
        }
    }

    /// Extended attributes.
    pub fn xattrs(&self, ino: u64) -> FsResult<Arc<Xattrs>> {
        match Virtual::from_ino(ino) {
            Some(_) => Ok(Arc::default()),
            None => Ok(self.load(ino)?.inode.xattrs.clone()),
        }
    }

    fn loaded_of(&self, ino: u64) -> FsResult<Arc<Loaded>> {
        match Virtual::from_ino(ino) {
            Some(_) => Err(FsError::IsDirectory),
            None => self.load(ino),
        }
    }

    /// Lists a folder, as `Filesystem::readdir` says.
    pub fn readdir(
        &self,
        ino: u64,
        cookie: u64,
        listing: Listing,
        take: &mut dyn FnMut(DirItem<'_>) -> bool,
        current: &dyn Fn() -> FsResult<Attr>,
    ) -> FsResult<()> {
        if let Some(place) = Virtual::from_ino(ino) {
            return self.list_virtual(place, cookie, listing, take, current);
        }
        let folder = self.load(ino)?;
        let Body::Directory { tree } = &folder.inode.body else {
            return Err(FsError::NotDirectory);
        };
        let (device, sequence, file) = numbers_of(ino);
        let parent = match file {
            ROOT_FILE => Virtual::Device(device).ino(),
            _ => self
                .inner
                .lock()
                .known
                .find(ino)
                .map_or(SNAPSHOTS_INO, |stub| stub.parent),
        };
        if !take_dots(cookie, ino, parent, take) {
            return Ok(());
        }
        let Some(tree) = tree else { return Ok(()) };
        let mut entries = tree::scan(&self.archive, tree, cookie.max(2) + 1).peekable();
        while let Some(entry) = entries.next() {
            let (hash, entry) = entry?;
            let is_last = !matches!(entries.peek(), Some(Ok((next, _))) if *next == hash);
            let cookie = if is_last { hash } else { hash - 1 };
            let item_ino =
                snapshot_ino(device, sequence, entry.file()).ok_or(FsError::Unsupported)?;
            let attr = match listing {
                Listing::Names => None,
                Listing::Plus => Some(loaded_attr(item_ino, &self.keep(ino, &entry)?.1)),
            };
            if attr.is_some() {
                self.count(
                    item_ino,
                    entry.kind(),
                    ino,
                    Arc::from(entry.name.as_slice()),
                );
            }
            if !take(DirItem {
                ino: item_ino,
                kind: entry.kind(),
                name: &entry.name,
                cookie,
                attr,
            }) {
                if attr.is_some() {
                    self.forget(item_ino, 1);
                }
                return Ok(());
            }
        }
        Ok(())
    }
}

fn loaded_attr(ino: u64, loaded: &Loaded) -> Attr {
    let inode = &loaded.inode;
    let (size, allocated, nlink) = match &inode.body {
        Body::Regular {
            size, allocated, ..
        } => (*size, *allocated, loaded.links),
        Body::Directory { tree } => {
            let folders = tree.map_or(0, |tree| tree.totals.directories);
            (
                4096,
                4096,
                2 + u32::try_from(folders).unwrap_or(u32::MAX - 2),
            )
        }
        Body::Symlink { target } => (target.len() as u64, 0, loaded.links),
        Body::Special => (0, 0, loaded.links),
    };
    attr(ino, &inode.attributes, size, allocated, nlink)
}

fn archive_error(error: ArchiveError) -> FsError {
    match error {
        ArchiveError::TimedOut => FsError::TimedOut,
        ArchiveError::Load(error) => error.into(),
        ArchiveError::Store(error) => {
            tracing::warn!(%error, "cannot list snapshots");
            FsError::TimedOut
        }
        other => FsError::io(other),
    }
}
