//! Names: making, linking, moving and removing them.

use std::sync::Arc;

use super::*;
use crate::format::{Body, ListRef, Time};
use crate::namespace::new_inode;
use crate::namespace::state::{Child, Name};

/// Most names that one file may have.
const MOST_LINKS: u32 = 65_000;

impl Filesystem {
    /// Makes a file that is neither folder nor symlink; counts a lookup, as all that make one do.
    pub fn mknod(&self, parent: u64, name: &[u8], node: NewNode) -> FsResult<Attr> {
        let body = match node.kind {
            FileKind::Regular => Body::Regular {
                size: 0,
                allocated: 0,
                list: ListRef::empty(),
            },
            FileKind::Directory | FileKind::Symlink => return Err(FsError::Invalid),
            _ => Body::Special,
        };
        self.make(parent, name, node, body)
    }

    /// Makes a folder; in `snapshots/<this device>/` takes a snapshot of that name.
    pub fn mkdir(&self, parent: u64, name: &[u8], mode: u32, uid: u32, gid: u32) -> FsResult<Attr> {
        if matches!(place(parent), Place::Snapshots) {
            let label = self.snapshots.label_for(parent, name)?;
            self.begin_snapshot(Some(&label))?;
            return self.snapshots.pending(parent, name);
        }
        let node = NewNode {
            kind: FileKind::Directory,
            mode,
            rdev: 0,
            uid,
            gid,
        };
        self.make(parent, name, node, Body::Directory { tree: None })
    }

    /// Makes a symlink.
    pub fn symlink(
        &self,
        parent: u64,
        name: &[u8],
        target: &[u8],
        uid: u32,
        gid: u32,
    ) -> FsResult<Attr> {
        if target.is_empty() || target.len() >= libc::PATH_MAX as usize {
            return Err(if target.is_empty() {
                FsError::NotFound
            } else {
                FsError::NameTooLong
            });
        }
        let node = NewNode {
            kind: FileKind::Symlink,
            mode: 0o777,
            rdev: 0,
            uid,
            gid,
        };
        self.make(
            parent,
            name,
            node,
            Body::Symlink {
                target: target.to_vec(),
            },
        )
    }

    fn make(&self, parent: u64, name: &[u8], node: NewNode, body: Body) -> FsResult<Attr> {
        let parent = writable(parent)?;
        check_name(name)?;
        self.slow_down(0)?;
        self.with_namespace(|namespace| {
            let folder = namespace.get(parent)?;
            check_folder_lives(&folder)?;
            if namespace.child(&folder, name)?.is_some() {
                return Err(FsError::Exists);
            }
            let mut group = Vec::new();
            namespace.touch(parent, &mut group)?;
            let (file, now, name) = (namespace.next_file(), now(), Name::from(name));
            let attributes = new_attributes(&folder.attributes, &node, now);
            let child = Child {
                file,
                kind: node.kind,
            };
            group.push(Operation::Inode {
                parent,
                name: name.clone(),
                links: 1,
                linked: false,
                inode: new_inode(file, attributes, body.clone()),
            });
            group.push(entry(&folder, name.clone(), Some(child), None));
            group.push(folder_changed(&folder, now));
            release(folder);
            self.commit_group(namespace, &group, Room::Ordinary)?;
            namespace.known.look_up(child, parent, &name, false);
            Ok(attr_of(&*namespace.get(file)?))
        })
    }

    /// Gives a file one more name.
    pub fn link(&self, ino: u64, parent: u64, name: &[u8]) -> FsResult<Attr> {
        let parent = writable(parent)?;
        let Place::Current(file) = place(ino) else {
            return Err(FsError::CrossDevice);
        };
        check_name(name)?;
        self.slow_down(0)?;
        self.with_namespace(|namespace| {
            let folder = namespace.get(parent)?;
            check_folder_lives(&folder)?;
            let state = namespace.get(file)?;
            match () {
                () if state.kind() == FileKind::Directory => return Err(FsError::Perm),
                () if state.links == 0 => return Err(FsError::NotFound),
                () if state.links >= MOST_LINKS => return Err(FsError::TooManyLinks),
                () if namespace.child(&folder, name)?.is_some() => return Err(FsError::Exists),
                () => (),
            }
            let mut group = Vec::new();
            namespace.touch(parent, &mut group)?;
            namespace.touch(file, &mut group)?;
            let (now, name) = (now(), Name::from(name));
            group.push(Operation::Names {
                file,
                parent: state.parent,
                name: state.name.clone(),
                links: state.links + 1,
                linked: true,
            });
            group.push(inode_changed(&state, now));
            if !state.linked {
                // Its first name becomes a link too, so that folder has to be written.
                let first = namespace.get(state.parent)?;
                group.push(entry_as_it_is(&first, state.name.clone(), state.child()));
            }
            group.push(entry(&folder, name.clone(), Some(state.child()), None));
            group.push(folder_changed(&folder, now));
            release(folder);
            self.commit_group(namespace, &group, Room::Ordinary)?;
            namespace.known.look_up(state.child(), parent, &name, true);
            Ok(attr_of(&*namespace.get(file)?))
        })
    }

    /// Removes a name of what is no folder.
    pub fn unlink(&self, parent: u64, name: &[u8]) -> FsResult<()> {
        self.remove(parent, name, false)
    }

    /// Removes an empty folder.
    pub fn rmdir(&self, parent: u64, name: &[u8]) -> FsResult<()> {
        self.remove(parent, name, true)
    }

    fn remove(&self, parent: u64, name: &[u8], is_folder: bool) -> FsResult<()> {
        let parent = writable(parent)?;
        self.with_namespace(|namespace| {
            let folder = namespace.get(parent)?;
            let state = namespace.find(&folder, name)?;
            match (is_folder, state.directory()) {
                (true, None) => return Err(FsError::NotDirectory),
                (false, Some(_)) => return Err(FsError::IsDirectory),
                (true, Some(directory)) if directory.entries > 0 => return Err(FsError::NotEmpty),
                _ => (),
            }
            let mut group = Vec::new();
            namespace.touch(parent, &mut group)?;
            namespace.touch(state.file, &mut group)?;
            let (now, name) = (now(), Name::from(name));
            group.push(one_name_less(&state));
            group.push(inode_changed(&state, now));
            group.push(entry(&folder, name, None, Some(state.child())));
            group.push(folder_changed(&folder, now));
            release(folder);
            self.commit_group(namespace, &group, Room::Reserved)?;
            self.drop_orphan(namespace, state.file);
            Ok(())
        })
    }

    /// Moves a name. The file's data is in the log before its new name is.
    pub fn rename(
        &self,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> FsResult<()> {
        let (parent, new_parent) = match (place(parent), place(new_parent)) {
            (Place::Current(from), Place::Current(to)) => (from, to),
            (Place::Current(_), Place::Snapshots) if new_parent != SNAPSHOTS_INO => {
                return Err(FsError::CrossDevice);
            }
            _ => return Err(FsError::ReadOnly),
        };
        check_name(new_name)?;
        if flags.no_replace && flags.exchange {
            return Err(FsError::Invalid);
        }
        loop {
            let file = self.with_namespace(|namespace| {
                let folder = namespace.get(parent)?;
                Ok(namespace.find(&folder, name)?.file)
            })?;
            // Never a renamed file without its content.
            self.log_content(file, Room::Reserved)?;
            let done = self.with_namespace(|namespace| {
                self.rename_logged(
                    namespace,
                    file,
                    (parent, name),
                    (new_parent, new_name),
                    flags,
                )
            })?;
            if done {
                return Ok(());
            }
        }
    }

    /// False when the name stands for another file by now, whose data may not be in the log.
    fn rename_logged(
        &self,
        namespace: &mut Namespace,
        file: FileNo,
        (parent, name): (FileNo, &[u8]),
        (new_parent, new_name): (FileNo, &[u8]),
        flags: RenameFlags,
    ) -> FsResult<bool> {
        let (from, to) = (namespace.get(parent)?, namespace.get(new_parent)?);
        check_folder_lives(&to)?;
        let moved = namespace.find(&from, name)?;
        if moved.file != file {
            return Ok(false);
        }
        let replaced = match namespace.child(&to, new_name)? {
            Some(_) => Some(namespace.find(&to, new_name)?),
            None => None,
        };
        match &replaced {
            Some(_) if flags.no_replace => return Err(FsError::Exists),
            None if flags.exchange => return Err(FsError::NotFound),
            // Two names of one file: POSIX wants nothing done.
            Some(replaced) if replaced.file == file => return Ok(true),
            Some(replaced) if !flags.exchange => check_replaces(&moved, replaced)?,
            _ => (),
        }
        if moved.directory().is_some() {
            check_not_below(namespace, new_parent, file)?;
        }
        if let Some(replaced) = replaced
            .as_ref()
            .filter(|state| flags.exchange && state.directory().is_some())
        {
            check_not_below(namespace, parent, replaced.file)?;
        }
        let mut group = Vec::new();
        namespace.touch(parent, &mut group)?;
        namespace.touch(new_parent, &mut group)?;
        namespace.touch(file, &mut group)?;
        if let Some(replaced) = &replaced {
            namespace.touch(replaced.file, &mut group)?;
        }
        let now = now();
        let (old, new) = (
            (parent, Name::from(name)),
            (new_parent, Name::from(new_name)),
        );
        let mut counts = Counts::of(&from, &to);
        if let Some(replaced) = &replaced {
            counts.take(&to, replaced);
        }
        counts.take(&from, &moved);
        counts.give(&to, &moved);
        let exchanged = replaced.as_ref().filter(|_| flags.exchange);
        if let Some(replaced) = exchanged {
            counts.give(&from, replaced);
        }
        group.push(relocated(&moved, &old, &new));
        group.push(inode_changed(&moved, now));
        match (&replaced, flags.exchange) {
            (Some(replaced), true) => group.push(relocated(replaced, &new, &old)),
            (Some(replaced), false) => group.push(one_name_less(replaced)),
            (None, _) => (),
        }
        group.extend(replaced.as_ref().map(|state| inode_changed(state, now)));
        // Behind what is said of the files: a file that is raised from a frozen layer enters its
        // folder under its old name.
        group.push(counts.entry(&from, old.1.clone(), exchanged.map(|state| state.child())));
        group.push(counts.entry(&to, new.1.clone(), Some(moved.child())));
        group.push(folder_changed(&from, now));
        if parent != new_parent {
            group.push(folder_changed(&to, now));
        }
        release(from);
        release(to);
        self.commit_group(namespace, &group, Room::Reserved)?;
        if let Some(replaced) = &replaced {
            self.drop_orphan(namespace, replaced.file);
        }
        Ok(true)
    }
}

/// To be done before a folder is changed: one that is held would be copied with all its changes, which makes
/// many names in one folder cost the square of their number.
pub(super) fn release(folder: Arc<InodeState>) {
    drop(folder);
}

/// Nothing is made in a folder that was removed and is still somebody's working folder.
fn check_folder_lives(folder: &InodeState) -> FsResult<()> {
    match folder.directory() {
        None => Err(FsError::NotDirectory),
        Some(_) if folder.links == 0 => Err(FsError::NotFound),
        Some(_) => Ok(()),
    }
}

fn check_replaces(moved: &InodeState, replaced: &InodeState) -> FsResult<()> {
    match (moved.directory(), replaced.directory()) {
        (Some(_), None) => Err(FsError::NotDirectory),
        (None, Some(_)) => Err(FsError::IsDirectory),
        (Some(_), Some(directory)) if directory.entries > 0 => Err(FsError::NotEmpty),
        _ => Ok(()),
    }
}

/// A folder cannot be moved into itself.
fn check_not_below(namespace: &mut Namespace, folder: FileNo, moved: FileNo) -> FsResult<()> {
    let mut at = folder;
    while at != ROOT_FILE {
        if at == moved {
            return Err(FsError::Invalid);
        }
        at = namespace.get(at)?.parent;
    }
    Ok(())
}

pub(super) fn new_attributes(folder: &Attributes, node: &NewNode, now: Time) -> Attributes {
    const SETGID: u32 = 0o2000;
    let hands_down = folder.mode & SETGID != 0;
    let is_folder = node.kind == FileKind::Directory;
    Attributes {
        kind: node.kind,
        mode: node.mode & 0o7777 | if hands_down && is_folder { SETGID } else { 0 },
        uid: node.uid,
        gid: if hands_down { folder.gid } else { node.gid },
        owner: Arc::from([]),
        group: Arc::from([]),
        mtime: now,
        ctime: now,
        atime: now,
        rdev: node.rdev,
    }
}

/// What a folder says of a name, with its counts after what was there gave way to what is.
pub(super) fn entry(
    folder: &InodeState,
    name: Name,
    child: Option<Child>,
    before: Option<Child>,
) -> Operation {
    let directory = folder
        .directory()
        .expect("the caller has looked it up as a folder");
    let is_folder = |child: Option<Child>| {
        u64::from(child.is_some_and(|child| child.kind == FileKind::Directory))
    };
    Operation::Entry {
        folder: folder.file,
        name,
        child,
        entries: directory.entries + u64::from(child.is_some()) - u64::from(before.is_some()),
        directories: directory.directories + is_folder(child) - is_folder(before),
    }
}

fn entry_as_it_is(folder: &InodeState, name: Name, child: Child) -> Operation {
    entry(folder, name, Some(child), Some(child))
}

fn inode_changed(state: &InodeState, now: Time) -> Operation {
    Operation::Attributes(
        state.file,
        Attributes {
            ctime: now,
            ..state.attributes.clone()
        },
    )
}

pub(super) fn folder_changed(folder: &InodeState, now: Time) -> Operation {
    Operation::Attributes(
        folder.file,
        Attributes {
            ctime: now,
            mtime: now,
            ..folder.attributes.clone()
        },
    )
}

/// A linked file keeps its place even when that name goes: it is found by the link table.
pub(super) fn one_name_less(state: &InodeState) -> Operation {
    Operation::Names {
        file: state.file,
        parent: state.parent,
        name: state.name.clone(),
        links: state.links.saturating_sub(1),
        linked: state.linked,
    }
}

fn relocated(state: &InodeState, old: &(FileNo, Name), new: &(FileNo, Name)) -> Operation {
    let stood_there = !state.linked || (state.parent, &state.name) == (old.0, &old.1);
    let (parent, name) = if stood_there {
        new.clone()
    } else {
        (state.parent, state.name.clone())
    };
    Operation::Names {
        file: state.file,
        parent,
        name,
        links: state.links,
        linked: state.linked,
    }
}

/// Entry counts of the one or two folders of a rename.
struct Counts {
    folders: Vec<(FileNo, u64, u64)>,
}

impl Counts {
    fn of(from: &InodeState, to: &InodeState) -> Self {
        let count = |folder: &InodeState| {
            let directory = folder.directory().expect("a name was found in it");
            (folder.file, directory.entries, directory.directories)
        };
        let mut folders = vec![count(from)];
        if from.file != to.file {
            folders.push(count(to));
        }
        Counts { folders }
    }

    fn of_folder(&mut self, folder: &InodeState) -> &mut (FileNo, u64, u64) {
        let found = self.folders.iter_mut().find(|count| count.0 == folder.file);
        found.expect("it is one of the two")
    }

    fn take(&mut self, folder: &InodeState, state: &InodeState) {
        let count = self.of_folder(folder);
        count.1 -= 1;
        count.2 -= u64::from(state.directory().is_some());
    }

    fn give(&mut self, folder: &InodeState, state: &InodeState) {
        let count = self.of_folder(folder);
        count.1 += 1;
        count.2 += u64::from(state.directory().is_some());
    }

    fn entry(&mut self, folder: &InodeState, name: Name, child: Option<Child>) -> Operation {
        let (file, entries, directories) = *self.of_folder(folder);
        Operation::Entry {
            folder: file,
            name,
            child,
            entries,
            directories,
        }
    }
}
