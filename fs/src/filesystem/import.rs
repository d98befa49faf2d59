//! Bringing files in without the kernel: what `backup` calls.
//!
//! A file is named here only when its chunks are stored: the log cannot give them back. Everything
//! goes by the number of the folder, which whoever works in it holds ([`Filesystem::import_open`]),
//! as an open handle does, so that it is found again when a commit has taken it out of the overlay.
//!
//! Files of a folder come in batches, each one record of the log: all of it or nothing is done.
//! Times of folders that a backup brought are its source's and are left alone here.

use std::collections::HashSet;

use super::listing::entries_from;
use super::names::{entry, folder_changed, one_name_less, release};
use super::*;
use crate::format::{Body, Inode, ListRef, Xattrs};
use crate::namespace::Slot;
use crate::namespace::state::{Child, Name};

/// A source file, folder or other node.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedNode {
    /// What stat(2) tells of it.
    pub attributes: Attributes,
    /// Its extended attributes.
    pub xattrs: Arc<Xattrs>,
    /// `backup`'s fingerprint of it; 0 where there is none.
    pub fingerprint: u64,
    /// What it holds.
    pub body: ImportedBody,
}

/// What a source holds.
#[derive(Clone, Debug, PartialEq)]
pub enum ImportedBody {
    /// Entries, which come one by one.
    Folder,
    /// Chunks that are stored.
    File {
        /// Length in bytes.
        size: u64,
        /// Bytes that are not in holes.
        allocated: u64,
        /// The chunks.
        list: ListRef,
    },
    /// A path.
    Symlink(Vec<u8>),
    /// Nothing: FIFO, socket or device node.
    Special,
}

/// A name to be made in a folder.
#[derive(Clone, Debug)]
pub struct ImportedName {
    /// The name.
    pub name: Vec<u8>,
    /// What it stands for.
    pub node: ImportedNode,
    /// Whether the source has other names: then it may take the place of a file with several.
    pub is_linked: bool,
}

/// What became of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It stands for this file.
    Is(FileNo),
    /// Nothing: a folder has the name.
    FolderInTheWay,
}

/// A folder that was entered.
#[derive(Clone, Copy, Debug)]
pub struct ImportedFolder {
    /// Its number; held until [`Filesystem::import_close`].
    pub file: FileNo,
    /// Whether it was made now.
    pub is_new: bool,
}

/// A name as it stands in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportedEntry {
    /// The file.
    pub file: FileNo,
    /// What it is.
    pub kind: FileKind,
    /// `backup`'s fingerprint of its source; 0 where it has none.
    pub fingerprint: u64,
    /// How many names it has.
    pub links: u32,
}

impl Filesystem {
    /// Finds a name and holds its file; gives nothing where the folder has no such name.
    pub fn import_open(&self, folder: FileNo, name: &[u8]) -> FsResult<Option<FileNo>> {
        self.with_namespace(|namespace| {
            let folder = namespace.get(folder)?;
            match namespace.find(&folder, name) {
                Ok(state) => {
                    hold(namespace, &state, folder.file, name);
                    Ok(Some(state.file))
                }
                Err(FsError::NotFound) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// Lets a file go that was held.
    pub fn import_close(&self, file: FileNo) {
        let mut namespace = self.namespace.lock();
        if file != ROOT_FILE && namespace.known.close(file) {
            self.drop_orphan(&mut namespace, file);
        }
    }

    /// Everything in a folder.
    pub fn import_listing(&self, folder: FileNo) -> FsResult<Vec<(Vec<u8>, ImportedEntry)>> {
        let mut listing = Vec::new();
        let mut from = 0;
        loop {
            let (entries, more) = self.with_namespace(|namespace| {
                let folder = namespace.get(folder)?;
                let (found, more) = entries_from(namespace, &folder, from)?;
                let mut entries = Vec::with_capacity(found.len());
                for (key, child, committed) in found {
                    let (fingerprint, links) = match (namespace.changed(child.file), committed) {
                        (Some(Slot::Here(state)), _) => (state.fingerprint, state.links),
                        (_, Some(state)) => (state.fingerprint, state.links),
                        _ => {
                            let state = namespace.find(&folder, &key.1)?;
                            (state.fingerprint, state.links)
                        }
                    };
                    let entry = ImportedEntry {
                        file: child.file,
                        kind: child.kind,
                        fingerprint,
                        links,
                    };
                    entries.push((key.1.to_vec(), entry));
                }
                Ok((entries, more))
            })?;
            listing.extend(entries);
            match more {
                Some(next) => from = next,
                None => return Ok(listing),
            }
        }
    }

    /// Finds a folder or makes it, in the place of what is no folder, and holds it. One that is
    /// there stays as it is.
    pub fn import_folder(
        &self,
        parent: FileNo,
        name: &[u8],
        node: &ImportedNode,
    ) -> FsResult<ImportedFolder> {
        check_name(name)?;
        self.slow_down(0)?;
        let imported = self.with_namespace(|namespace| {
            let folder = namespace.get(parent)?;
            let before = find_before(namespace, &folder, name)?;
            if let Some(before) = before
                .as_ref()
                .filter(|before| before.directory().is_some())
            {
                hold(namespace, before, parent, name);
                return Ok(ImportedFolder {
                    file: before.file,
                    is_new: false,
                });
            }
            let mut group = Vec::new();
            namespace.touch(parent, &mut group)?;
            let file = namespace.next_file();
            if let Some(before) = &before {
                namespace.touch(before.file, &mut group)?;
                group.push(one_name_less(before));
            }
            group.push(made(file, parent, name, node));
            let child = Child {
                file,
                kind: FileKind::Directory,
            };
            group.push(entry(
                &folder,
                Name::from(name),
                Some(child),
                before.as_ref().map(|before| before.child()),
            ));
            group.extend(folder_times(&folder));
            release(folder);
            self.commit_group(namespace, &group, Room::Ordinary)?;
            if let Some(before) = &before {
                self.drop_orphan(namespace, before.file);
            }
            let state = namespace.get(file)?;
            hold(namespace, &state, parent, name);
            Ok(ImportedFolder { file, is_new: true })
        })?;
        if imported.is_new {
            self.tell_entry(ino_of(parent), name);
        }
        Ok(imported)
    }

    /// Makes names in a folder, each in the place of what is there: a file is changed, anything else
    /// replaced. What has several names is changed only for a source that has too, and that is not
    /// in `taken` by another one.
    pub fn import_files(
        &self,
        parent: FileNo,
        files: &[ImportedName],
        taken: &HashSet<FileNo>,
    ) -> FsResult<Vec<Imported>> {
        files.iter().try_for_each(|file| check_name(&file.name))?;
        self.slow_down(0)?;
        let logging = self.write.logging.read_recursive();
        let imported = self.with_namespace(|namespace| {
            let folder = namespace.get(parent)?;
            let directory = folder.directory().ok_or(FsError::NotDirectory)?;
            let mut entries = directory.entries;
            let mut group = Vec::new();
            let mut imported = Vec::with_capacity(files.len());
            let mut replaced = Vec::new();
            let mut changed = Vec::new();
            let mut next = namespace.next_file();
            namespace.touch(parent, &mut group)?;
            for ImportedName {
                name,
                node,
                is_linked,
            } in files
            {
                let before = find_before(namespace, &folder, name)?;
                match &before {
                    Some(before) if before.directory().is_some() => {
                        imported.push(Imported::FolderInTheWay);
                        continue;
                    }
                    Some(before) if may_change(before, node, *is_linked, taken) => {
                        namespace.touch(before.file, &mut group)?;
                        change(before, node, &mut group);
                        changed.push(before.file);
                        imported.push(Imported::Is(before.file));
                        continue;
                    }
                    Some(before) => {
                        namespace.touch(before.file, &mut group)?;
                        // Two names of one file may be replaced in one batch.
                        let gone = replaced.iter().filter(|file| **file == before.file).count();
                        let before = InodeState {
                            links: before.links.saturating_sub(gone as u32),
                            ..(**before).clone()
                        };
                        group.push(one_name_less(&before));
                        replaced.push(before.file);
                    }
                    None => entries += 1,
                }
                group.push(made(next, parent, name, node));
                group.push(Operation::Entry {
                    folder: parent,
                    name: Name::from(name.as_slice()),
                    child: Some(Child {
                        file: next,
                        kind: node.attributes.kind,
                    }),
                    entries,
                    directories: directory.directories,
                });
                imported.push(Imported::Is(next));
                next += 1;
            }
            if entries != directory.entries || !replaced.is_empty() {
                group.extend(folder_times(&folder));
            }
            release(folder);
            self.commit_group(namespace, &group, Room::Ordinary)?;
            for file in changed {
                self.write.disown(file);
                self.write.set_memory(file, 0);
            }
            for file in replaced {
                self.drop_orphan(namespace, file);
            }
            Ok(imported)
        })?;
        drop(logging);
        for (file, imported) in files.iter().zip(&imported) {
            if let Imported::Is(number) = imported {
                self.tell_entry(ino_of(parent), &file.name);
                self.tell_inode(ino_of(*number));
            }
        }
        Ok(imported)
    }

    /// Gives a file one more name, in the place of what is there.
    pub fn import_link(&self, parent: FileNo, name: &[u8], file: FileNo) -> FsResult<()> {
        let before = self.with_namespace(|namespace| {
            let folder = namespace.get(parent)?;
            namespace.child(&folder, name)
        })?;
        match before {
            Some(before) if before.file == file => return Ok(()),
            Some(before) if before.kind == FileKind::Directory => {
                self.import_remove(parent, name)?;
            }
            Some(_) => self.unlink(ino_of(parent), name)?,
            None => (),
        }
        let attr = self.link(file, ino_of(parent), name)?;
        self.forget(attr.ino, 1);
        self.tell_entry(ino_of(parent), name);
        self.tell_inode(attr.ino);
        Ok(())
    }

    /// Removes what a backup brought: a file, or a folder with everything in it that has a
    /// fingerprint. What was put into it by hand stays, and so does the folder then. Gives the
    /// number of files removed.
    pub fn import_remove(&self, parent: FileNo, name: &[u8]) -> FsResult<u64> {
        let Some(file) = self.import_open(parent, name)? else {
            return Ok(0);
        };
        let removed = self.remove_brought(parent, name, file);
        self.import_close(file);
        removed
    }

    fn remove_brought(&self, parent: FileNo, name: &[u8], file: FileNo) -> FsResult<u64> {
        let is_folder =
            self.with_namespace(|namespace| Ok(namespace.get(file)?.directory().is_some()))?;
        if !is_folder {
            self.unlink(ino_of(parent), name)?;
            self.tell_entry(ino_of(parent), name);
            return Ok(1);
        }
        let mut removed = 0;
        for (name, entry) in self.import_listing(file)? {
            if entry.fingerprint != 0 {
                removed += self.import_remove(file, &name)?;
            }
        }
        match self.rmdir(ino_of(parent), name) {
            Ok(()) => self.tell_entry(ino_of(parent), name),
            Err(FsError::NotEmpty) => (),
            Err(error) => return Err(error),
        }
        Ok(removed)
    }

    /// Gives a folder the attributes of its source.
    pub fn import_attributes(&self, file: FileNo, node: &ImportedNode) -> FsResult<()> {
        self.with_namespace(|namespace| {
            let state = namespace.get(file)?;
            let mut group = Vec::new();
            namespace.touch(file, &mut group)?;
            describe(&state, node, &mut group);
            self.commit_group(namespace, &group, Room::Ordinary)
        })?;
        self.tell_inode(ino_of(file));
        Ok(())
    }

    /// Waits while more files than this are changed and in no commit, for as long as commits
    /// come about. One is asked for when they are half as many: it is made while others come in.
    pub fn import_pause(&self, most: usize) -> FsResult<()> {
        loop {
            let changed = self.namespace.lock().changed_files();
            if changed > most / 2 {
                self.commits.ask_checkpoint();
            }
            if changed <= most {
                return Ok(());
            }
            if self.log.is_read_only() || self.commits.has_ended() {
                return Err(FsError::ReadOnly);
            }
            if let (_, Some(trouble)) = self.commits.progress() {
                return Err(FsError::io(trouble));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Keeps a file findable.
fn hold(namespace: &mut Namespace, state: &InodeState, parent: FileNo, name: &[u8]) {
    if state.file != ROOT_FILE {
        namespace
            .known
            .open(state.file, parent, &Name::from(name), state.linked);
    }
}

fn find_before(
    namespace: &mut Namespace,
    folder: &InodeState,
    name: &[u8],
) -> FsResult<Option<Arc<InodeState>>> {
    match namespace.find(folder, name) {
        Ok(state) => Ok(Some(state)),
        Err(FsError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a file keeps its number: only content and attributes change then.
fn may_change(
    before: &InodeState,
    node: &ImportedNode,
    is_linked: bool,
    taken: &HashSet<FileNo>,
) -> bool {
    let is_file =
        matches!(node.body, ImportedBody::File { .. }) && before.kind() == FileKind::Regular;
    is_file && (before.links == 1 || is_linked && !taken.contains(&before.file))
}

fn change(before: &InodeState, node: &ImportedNode, group: &mut Vec<Operation>) {
    if let ImportedBody::File {
        size,
        allocated,
        list,
    } = &node.body
    {
        group.push(Operation::List {
            file: before.file,
            size: *size,
            allocated: *allocated,
            list: list.clone(),
        });
    }
    describe(before, node, group);
}

/// Everything but the content.
fn describe(before: &InodeState, node: &ImportedNode, group: &mut Vec<Operation>) {
    let file = before.file;
    let gone = before
        .xattrs
        .keys()
        .filter(|name| !node.xattrs.contains_key(*name));
    group.extend(gone.map(|name| Operation::Xattr(file, name.clone(), None)));
    let new = node
        .xattrs
        .iter()
        .filter(|(name, value)| before.xattrs.get(*name) != Some(value));
    group
        .extend(new.map(|(name, value)| Operation::Xattr(file, name.clone(), Some(value.clone()))));
    group.push(Operation::Attributes(file, node.attributes.clone()));
    group.push(Operation::Fingerprint(file, node.fingerprint));
}

fn made(file: FileNo, parent: FileNo, name: &[u8], node: &ImportedNode) -> Operation {
    let body = match &node.body {
        ImportedBody::Folder => Body::Directory { tree: None },
        ImportedBody::File {
            size,
            allocated,
            list,
        } => Body::Regular {
            size: *size,
            allocated: *allocated,
            list: list.clone(),
        },
        ImportedBody::Symlink(target) => Body::Symlink {
            target: target.clone(),
        },
        ImportedBody::Special => Body::Special,
    };
    let inode = Inode {
        file,
        attributes: node.attributes.clone(),
        xattrs: node.xattrs.clone(),
        fingerprint: node.fingerprint,
        body,
    };
    Operation::Inode {
        parent,
        name: Name::from(name),
        links: 1,
        linked: false,
        inode,
    }
}

/// A folder of the user's own has changed; one that was brought has its source's times.
fn folder_times(folder: &InodeState) -> Option<Operation> {
    (folder.fingerprint == 0).then(|| folder_changed(folder, now()))
}
