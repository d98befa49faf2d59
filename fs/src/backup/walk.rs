//! Walks the source and says in order what has to be done to `current/`.
//!
//! Everything is opened relative to its folder's descriptor, without following symlinks: a folder
//! that somebody swaps for a link while we walk leads nowhere. Files of a folder come before its
//! folders, so that they are neighbours in packs.
//!
//! Each folder is compared with what stands in `current/`: a file whose fingerprint is the one that
//! an earlier backup kept is neither read nor mentioned again, and what such a backup brought and the
//! source no longer has is to be removed. What has no fingerprint was put there by hand and stays.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::exclude::{CACHE_TAG, Exclude, is_cache};
use super::read::{ReadError, ReadFile};
use super::source::{self, Owners, SourceId, id_of, kind_of};
use super::{BackupError, Root, Shared};
use crate::filesystem::{Filesystem, FsError, ImportedBody, ImportedEntry, ImportedNode};
use crate::format::{FileKind, FileNo, ROOT_FILE};
use crate::mountpoint;

/// What has to be done to `current/`; the order is that of a walk, folders nested by `Enter` and `Leave`.
pub(super) enum Item {
    /// A file that somebody reads; then it is a step as others.
    File {
        name: Vec<u8>,
        path: PathBuf,
        result: Receiver<Result<ReadFile, ReadError>>,
        link: Option<SourceId>,
    },
    /// Nothing has to be read for it.
    Step(Step),
}

/// What is to be done to `current/`.
pub(super) enum Step {
    /// What follows is in this folder, which is made where it is not; `node` is for a new one.
    Enter {
        name: Vec<u8>,
        node: Box<ImportedNode>,
    },
    /// A file that was read, a symlink, FIFO, socket or device node.
    Node {
        name: Vec<u8>,
        path: PathBuf,
        node: Box<ImportedNode>,
        link: Option<SourceId>,
    },
    /// One more name of a file that came before.
    Link {
        name: Vec<u8>,
        path: PathBuf,
        to: SourceId,
    },
    /// A file with several names that is as it was.
    Same {
        name: Vec<u8>,
        file: FileNo,
        link: SourceId,
    },
    /// A name that an earlier backup brought and that is gone from the source.
    Remove { name: Vec<u8>, path: PathBuf },
    /// The end of a folder, with what its own inode says; `None` for one that is as it was.
    Leave {
        node: Option<Box<ImportedNode>>,
        path: PathBuf,
    },
}

/// A file to be read.
pub(super) struct Job {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
    pub(super) result: Sender<Result<ReadFile, ReadError>>,
}

/// See the module.
pub(super) struct Walker<'a> {
    filesystem: &'a Filesystem,
    shared: &'a Shared<'a>,
    exclude: &'a Exclude,
    owners: &'a Owners,
    exclude_caches: bool,
    one_file_system: bool,
    /// Holdfast's own: mounts, state, cache, store.
    own_mounts: HashSet<PathBuf>,
    own_folders: HashSet<SourceId>,
    items: Sender<Item>,
    jobs: Sender<Job>,
    /// Files with several names that came before; their number where they are as they were.
    links: HashMap<SourceId, Option<FileNo>>,
}

/// The walk has to end; who ended it knows why.
pub(super) struct Stopped;

/// A folder on the way.
struct Folder {
    open: Arc<OwnedFd>,
    path: PathBuf,
    device: u64,
    /// The folder of `current/` there, held; none where it is new.
    held: Option<FileNo>,
    /// What stands in it, by name.
    standing: HashMap<Vec<u8>, ImportedEntry>,
    removed: bool,
}

impl<'a> Walker<'a> {
    pub(super) fn new(
        shared: &'a Shared<'a>,
        exclude: &'a Exclude,
        owners: &'a Owners,
        items: Sender<Item>,
        jobs: Sender<Job>,
    ) -> Self {
        let filesystem = &*shared.engine.filesystem;
        let home = filesystem.archive.home();
        let mut own_folders: HashSet<SourceId> = HashSet::new();
        let mut own = |path: &Path| {
            if let Ok(stat) = rustix::fs::stat(path) {
                own_folders.insert(id_of(&stat));
            }
        };
        home.folders().into_iter().for_each(&mut own);
        // An S3 location is no path that exists.
        own(Path::new(&filesystem.archive.settings().store));
        Walker {
            filesystem,
            shared,
            exclude,
            owners,
            exclude_caches: shared.request.exclude_caches,
            one_file_system: shared.request.one_file_system,
            own_mounts: own_mounts(),
            own_folders,
            items,
            jobs,
            links: HashMap::new(),
        }
    }

    /// Walks one root: the folders above it, then itself.
    pub(super) fn root(&mut self, root: &Root) -> Result<(), Stopped> {
        let mut held = vec![Some(ROOT_FILE)];
        let above = root.target.len().saturating_sub(1);
        for (depth, name) in root.target.iter().take(above).enumerate() {
            let node = self.node_above(root, depth);
            held.push(self.hold(held[depth], name));
            self.step(Step::Enter {
                name: name.clone(),
                node: Box::new(node),
            })?;
        }
        let done = self.root_itself(root, held[above]);
        held.into_iter().for_each(|file| self.let_go(file));
        done?;
        (0..above).try_for_each(|_| {
            self.step(Step::Leave {
                node: None,
                path: root.source.clone(),
            })
        })
    }

    /// What a folder above a root looks like: as in the source where it has one, else as usual.
    fn node_above(&self, root: &Root, depth: usize) -> ImportedNode {
        // With `--to` the folders above are not the source's.
        let of_source = root.target.len() == root.source.components().count() - 1;
        let path: Option<PathBuf> = of_source.then(|| {
            root.source
                .components()
                .take(depth + 2)
                .map(|part| part.as_os_str())
                .collect()
        });
        let stat = path.and_then(|path| rustix::fs::stat(path).ok());
        match stat.or_else(|| rustix::fs::stat("/").ok()) {
            Some(stat) => {
                let mut attributes = source::attributes(self.owners, &stat, FileKind::Directory);
                if !of_source {
                    attributes.mode = 0o755;
                }
                ImportedNode {
                    attributes,
                    xattrs: Arc::default(),
                    fingerprint: 0,
                    body: ImportedBody::Folder,
                }
            }
            None => unreachable!("there is a root folder"),
        }
    }

    /// Finds a folder of `current/` and keeps it findable.
    fn hold(&self, parent: Option<FileNo>, name: &[u8]) -> Option<FileNo> {
        match self.filesystem.import_open(parent?, name) {
            Ok(file) => file,
            Err(FsError::NotDirectory) => None,
            Err(error) => {
                tracing::warn!(%error, "a folder of current/ cannot be read; its source is read whole");
                None
            }
        }
    }

    fn let_go(&self, file: Option<FileNo>) {
        if let Some(file) = file {
            self.filesystem.import_close(file);
        }
    }

    fn root_itself(&mut self, root: &Root, parent_held: Option<FileNo>) -> Result<(), Stopped> {
        let mut standing = parent_held
            .map(|folder| self.standing(folder))
            .unwrap_or_default();
        let path = &root.source;
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent, name.as_bytes().to_vec()),
            _ => (Path::new("/"), b".".to_vec()),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let looked = rustix::fs::open(parent, flags, Mode::empty()).and_then(|open| {
            let stat = statat(
                &open,
                &*name,
                AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
            )?;
            Ok((open, stat))
        });
        let (open, stat) = match looked {
            Ok(looked) => looked,
            Err(error) => {
                self.shared.unreadable(path, error.into());
                return Ok(());
            }
        };
        let is_top = root.target.is_empty();
        let entry = root.target.last().and_then(|name| standing.remove(name));
        if kind_of(&stat) == Some(FileKind::Directory) {
            let target = root.target.last().cloned().unwrap_or_default();
            let is_there = entry.is_some_and(|entry| entry.kind == FileKind::Directory);
            let held = match is_top {
                true => Some(ROOT_FILE),
                false => self.hold(parent_held.filter(|_| is_there), &target),
            };
            let before = entry_fingerprint(entry.as_ref());
            return match self.look_into(open.as_fd(), &name, path, &stat, held) {
                Some(mut folder) => self.folder(&mut folder, target, &stat, before, is_top),
                None if is_top => Ok(()),
                None => self.folder_only(path, target, &stat, before),
            };
        }
        let folder = Folder {
            open: Arc::new(open),
            path: parent.to_owned(),
            device: stat.st_dev,
            held: None,
            standing: HashMap::from_iter(entry.map(|entry| (name.clone(), entry))),
            removed: false,
        };
        // Its name in `current/` is the last one of the target, which is that of the source.
        self.file(&folder, name, &stat)
    }

    /// Opens a folder and lists what stands at its place.
    fn look_into(
        &self,
        parent: std::os::fd::BorrowedFd<'_>,
        name: &[u8],
        path: &Path,
        stat: &Stat,
        held: Option<FileNo>,
    ) -> Option<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = match openat(parent, name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => openat(parent, name, flags, Mode::empty()),
            open => open,
        };
        let open = match open {
            Ok(open) => open,
            Err(error) => {
                self.shared.unreadable(path, error.into());
                self.let_go(held);
                return None;
            }
        };
        let standing = held.map(|file| self.standing(file)).unwrap_or_default();
        let (open, path) = (Arc::new(open), path.to_owned());
        Some(Folder {
            open,
            path,
            device: stat.st_dev,
            held,
            standing,
            removed: false,
        })
    }

    /// What stands in a folder of `current/`. Where that cannot be told, everything is read and
    /// nothing removed.
    fn standing(&self, folder: FileNo) -> HashMap<Vec<u8>, ImportedEntry> {
        match self.filesystem.import_listing(folder) {
            Ok(entries) => entries.into_iter().collect(),
            Err(error) => {
                tracing::warn!(%error, folder, "a folder of current/ cannot be listed; its source is read whole");
                HashMap::new()
            }
        }
    }

    fn folder(
        &mut self,
        folder: &mut Folder,
        name: Vec<u8>,
        stat: &Stat,
        before: Option<u64>,
        is_top: bool,
    ) -> Result<(), Stopped> {
        let done = self.folder_held(folder, name, stat, before, is_top);
        self.let_go(folder.held);
        done
    }

    fn folder_held(
        &mut self,
        folder: &mut Folder,
        name: Vec<u8>,
        stat: &Stat,
        before: Option<u64>,
        is_top: bool,
    ) -> Result<(), Stopped> {
        let looked = SystemTime::now();
        let names = match list(&folder.open) {
            Ok(names) => names,
            Err(error) => {
                self.shared.unreadable(&folder.path, error);
                return Ok(());
            }
        };
        let keychain = self.filesystem.archive.keychain();
        let is_same = before == Some(source::fingerprint(keychain, stat));
        let node = Box::new(ImportedNode {
            attributes: source::attributes(self.owners, stat, FileKind::Directory),
            xattrs: source::xattrs_of(folder.open.as_fd()).unwrap_or_default(),
            fingerprint: source::fingerprint_to_keep(keychain, stat, looked),
            body: ImportedBody::Folder,
        });
        if !is_top {
            self.step(Step::Enter {
                name,
                node: node.clone(),
            })?;
        }
        self.shared.count(|report| report.folders += 1);
        let folders = self.files_of(folder, names)?;
        for (name, stat) in folders {
            let path = folder.path.join(OsStr::from_bytes(&name));
            let entry = folder.standing.remove(&name);
            let before = entry_fingerprint(entry.as_ref());
            if self.one_file_system && stat.st_dev != folder.device {
                self.folder_only(&path, name, &stat, before)?;
                continue;
            }
            let is_there = entry.is_some_and(|entry| entry.kind == FileKind::Directory);
            let held = self.hold(folder.held.filter(|_| is_there), &name);
            match self.look_into(folder.open.as_fd(), &name, &path, &stat, held) {
                Some(mut below) => self.folder(&mut below, name, &stat, before, false)?,
                None => self.folder_only(&path, name, &stat, before)?,
            }
        }
        self.remove_gone(folder)?;
        if !is_top {
            let leaves = (!is_same || folder.removed).then_some(node);
            self.step(Step::Leave {
                node: leaves,
                path: folder.path.clone(),
            })?;
        }
        Ok(())
    }

    /// A folder that is not looked into: another file system is mounted there, or it cannot be read.
    /// What stands in it in `current/` stays: we do not know whether it is gone.
    fn folder_only(
        &mut self,
        path: &Path,
        name: Vec<u8>,
        stat: &Stat,
        before: Option<u64>,
    ) -> Result<(), Stopped> {
        let fingerprint = source::fingerprint(self.filesystem.archive.keychain(), stat);
        let node = Box::new(ImportedNode {
            attributes: source::attributes(self.owners, stat, FileKind::Directory),
            xattrs: Arc::default(),
            fingerprint,
            body: ImportedBody::Folder,
        });
        self.shared.count(|report| report.folders += 1);
        self.step(Step::Enter {
            name,
            node: node.clone(),
        })?;
        let node = (before != Some(fingerprint)).then_some(node);
        self.step(Step::Leave {
            node,
            path: path.to_owned(),
        })
    }

    /// Everything of a folder that is no folder; gives the folders.
    fn files_of(
        &mut self,
        folder: &mut Folder,
        names: Vec<Vec<u8>>,
    ) -> Result<Vec<(Vec<u8>, Stat)>, Stopped> {
        let is_cache = self.exclude_caches && is_cache(folder.open.as_fd());
        let mut folders = Vec::new();
        for name in names {
            if is_cache && name != CACHE_TAG {
                continue;
            }
            let path = folder.path.join(OsStr::from_bytes(&name));
            if self.own_mounts.contains(&path) {
                continue;
            }
            let stat = match statat(
                &*folder.open,
                &*name,
                AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
            ) {
                Ok(stat) => stat,
                // It was removed since the folder was listed: it is gone.
                Err(Errno::NOENT) => continue,
                Err(error) => {
                    folder.standing.remove(&name);
                    self.shared.unreadable(&path, error.into());
                    continue;
                }
            };
            let is_folder = kind_of(&stat) == Some(FileKind::Directory);
            if self.exclude.is_excluded(&path, &name, is_folder) {
                continue;
            }
            if !is_folder {
                self.file(folder, name.clone(), &stat)?;
                folder.standing.remove(&name);
            } else if !self.own_folders.contains(&id_of(&stat)) {
                folders.push((name, stat));
            }
        }
        Ok(folders)
    }

    fn file(&mut self, folder: &Folder, name: Vec<u8>, stat: &Stat) -> Result<(), Stopped> {
        let Some(kind) = kind_of(stat) else {
            return Ok(());
        };
        let path = || folder.path.join(OsStr::from_bytes(&name));
        self.shared.count(|report| {
            report.files += 1;
            report.bytes += if kind == FileKind::Regular {
                stat.st_size as u64
            } else {
                0
            };
        });
        let link = (stat.st_nlink > 1).then(|| id_of(stat));
        let standing = folder.standing.get(&name);
        if let Some(before) = link.and_then(|link| self.links.get(&link)) {
            if before.is_some() && standing.map(|entry| entry.file) == *before {
                self.shared.count(|report| report.unchanged += 1);
                return Ok(());
            }
            let (path, to) = (path(), id_of(stat));
            return self.step(Step::Link { name, path, to });
        }
        let fingerprint = source::fingerprint(self.filesystem.archive.keychain(), stat);
        let same = standing.filter(|entry| {
            // A file that is one of several names here and alone there is not as it was.
            entry.fingerprint == fingerprint
                && entry.kind == kind
                && (link.is_some() || entry.links <= 1)
        });
        if let Some(entry) = same {
            self.shared.count(|report| report.unchanged += 1);
            if let Some(link) = link {
                self.links.insert(link, Some(entry.file));
                self.step(Step::Same {
                    name,
                    file: entry.file,
                    link,
                })?;
            }
            return Ok(());
        }
        if let Some(link) = link {
            self.links.insert(link, None);
        }
        let path = path();
        if kind == FileKind::Regular {
            return self.read(folder, name, path, link);
        }
        match self.other(folder, &name, stat, kind) {
            Ok(node) => self.step(Step::Node {
                name,
                path,
                node: Box::new(node),
                link,
            }),
            Err(error) => {
                self.shared.unreadable(&path, error);
                Ok(())
            }
        }
    }

    fn read(
        &mut self,
        folder: &Folder,
        name: Vec<u8>,
        path: PathBuf,
        link: Option<SourceId>,
    ) -> Result<(), Stopped> {
        let (sender, result) = bounded(1);
        self.send(Item::File {
            name: name.clone(),
            path,
            result,
            link,
        })?;
        let job = Job {
            folder: folder.open.clone(),
            name,
            result: sender,
        };
        self.jobs.send(job).map_err(|_| Stopped)
    }

    fn other(
        &self,
        folder: &Folder,
        name: &[u8],
        stat: &Stat,
        kind: FileKind,
    ) -> io::Result<ImportedNode> {
        let body = match kind {
            FileKind::Symlink => {
                ImportedBody::Symlink(readlinkat(&*folder.open, name, Vec::new())?.into_bytes())
            }
            _ => ImportedBody::Special,
        };
        // There is no call for the attributes of a symlink by its folder's descriptor.
        let mut path = PathBuf::from(format!("/proc/self/fd/{}", folder.open.as_raw_fd()));
        path.push(OsStr::from_bytes(name));
        let keychain = self.filesystem.archive.keychain();
        Ok(ImportedNode {
            attributes: source::attributes(self.owners, stat, kind),
            xattrs: source::xattrs_at(&path)?,
            fingerprint: source::fingerprint_to_keep(keychain, stat, SystemTime::now()),
            body,
        })
    }

    /// What an earlier backup brought and the source has no longer.
    fn remove_gone(&mut self, folder: &mut Folder) -> Result<(), Stopped> {
        let mut gone: Vec<Vec<u8>> = std::mem::take(&mut folder.standing)
            .into_iter()
            .filter(|(_, entry)| entry.fingerprint != 0)
            .map(|(name, _)| name)
            .collect();
        gone.sort_unstable();
        folder.removed = !gone.is_empty();
        for name in gone {
            let path = folder.path.join(OsStr::from_bytes(&name));
            self.step(Step::Remove { name, path })?;
        }
        Ok(())
    }

    fn step(&self, step: Step) -> Result<(), Stopped> {
        self.send(Item::Step(step))
    }

    fn send(&self, item: Item) -> Result<(), Stopped> {
        if self.shared.is_stopped() {
            return Err(Stopped);
        }
        self.items.send(item).map_err(|_| Stopped)
    }
}

fn entry_fingerprint(entry: Option<&ImportedEntry>) -> Option<u64> {
    entry
        .filter(|entry| entry.kind == FileKind::Directory)
        .map(|entry| entry.fingerprint)
}

/// Names in a folder, sorted.
fn list(folder: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Where drives are mounted, this one and others. A mount that hangs is not asked.
fn own_mounts() -> HashSet<PathBuf> {
    match mountpoint::drives() {
        Ok(mounts) => mounts.into_iter().collect(),
        Err(error) => {
            tracing::warn!(%error, "the mounts cannot be listed");
            HashSet::new()
        }
    }
}

impl From<Stopped> for BackupError {
    fn from(_: Stopped) -> Self {
        BackupError::Stopped
    }
}
