//! Bringing files in without the kernel: what `backup` calls.
//!
//! Content goes straight to the packer instead of the log ([`Filesystem::import_sink`]): if we die,
//! the source is still there. A file is named in `current/` only when its chunks are stored
//! ([`Filesystem::import_flush`] before [`Filesystem::import_file`]), because the log cannot give
//! them back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use super::names::{entry, folder_changed};
use super::*;
use crate::chunks::ChunkSink;
use crate::content::Content;
use crate::format::{Body, Inode};
use crate::namespace::state::{Child, Name};

/// What a file that is brought in holds.
#[derive(Clone, Debug, PartialEq)]
pub enum ImportedContent {
    /// Chunks that are stored.
    Regular(crate::rechunk::Rechunked),
    /// The path of a symlink.
    Symlink(Vec<u8>),
    /// FIFO, socket or device node.
    Special(FileKind),
}

/// A file as it is in `current/`.
#[derive(Clone, Debug)]
pub struct ImportedBefore {
    /// Inode number on the mount.
    pub ino: u64,
    /// What it is.
    pub kind: FileKind,
    /// `backup`'s fingerprint of its source; 0 where it has none.
    pub fingerprint: u64,
}

impl Filesystem {
    /// Where chunks of files that are brought in go.
    pub fn import_sink(&self) -> &dyn ChunkSink {
        &self.archive
    }

    /// Waits until every chunk given to the sink is stored.
    pub fn import_flush(&self, deadline: Option<Instant>) -> FsResult<()> {
        self.archive.flush(deadline).map_err(|error| match error {
            crate::packer::PackerError::TimedOut => FsError::TimedOut,
            other => FsError::io(other),
        })
    }

    /// What is at a path of `current/`.
    pub fn import_find(&self, path: &Path) -> FsResult<Option<ImportedBefore>> {
        let found = self.with_namespace(|namespace| {
            let mut state = namespace.get(ROOT_FILE)?;
            for name in names_of(path)? {
                state = namespace.find(&state, name.as_bytes())?;
            }
            Ok(state)
        });
        match found {
            Ok(state) => Ok(Some(ImportedBefore {
                ino: ino_of(state.file),
                kind: state.kind(),
                fingerprint: state.fingerprint,
            })),
            Err(FsError::NotFound | FsError::NotDirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a folder, or gives the one that is there these attributes.
    pub fn import_folder(&self, path: &Path, attributes: &ImportedAttributes, fingerprint: u64) -> FsResult<u64> {
        if let Some(before) = self.import_find(path)? {
            if before.kind == FileKind::Directory {
                self.import_attributes(before.ino, attributes, fingerprint)?;
                return Ok(before.ino);
            }
            self.import_remove(path)?;
        }
        self.import_inode(path, attributes, FileKind::Directory, Body::Directory { tree: None }, fingerprint)
    }

    /// Makes a file, symlink or node, in the place of what is there.
    pub fn import_file(
        &self,
        path: &Path,
        attributes: &ImportedAttributes,
        content: ImportedContent,
        fingerprint: u64,
    ) -> FsResult<u64> {
        if self.import_find(path)?.is_some() {
            self.import_remove(path)?;
        }
        let (kind, body) = match content {
            ImportedContent::Regular(content) => {
                let body = Body::Regular { size: content.size, allocated: content.allocated, list: content.list };
                (FileKind::Regular, body)
            }
            ImportedContent::Symlink(target) => (FileKind::Symlink, Body::Symlink { target }),
            ImportedContent::Special(kind) => (kind, Body::Special),
        };
        self.import_inode(path, attributes, kind, body, fingerprint)
    }

    /// Gives the file at `ino` one more name.
    pub fn import_link(&self, ino: u64, path: &Path) -> FsResult<()> {
        if self.import_find(path)?.is_some_and(|before| before.ino == ino) {
            return Ok(());
        }
        if self.import_find(path)?.is_some() {
            self.import_remove(path)?;
        }
        let (folder, name) = self.import_place(path)?;
        let attr = self.link(ino, ino_of(folder), &name)?;
        self.forget(attr.ino, 1);
        self.tell_entry(ino_of(folder), &name);
        self.tell_inode(ino);
        Ok(())
    }

    /// Removes what is at a path, with everything in it.
    pub fn import_remove(&self, path: &Path) -> FsResult<()> {
        let Some(before) = self.import_find(path)? else { return Ok(()) };
        if before.kind == FileKind::Directory {
            let mut names: Vec<Vec<u8>> = Vec::new();
            self.readdir(before.ino, 0, 2, Listing::Names, &mut |item| {
                names.push(item.name.to_vec());
                true
            })?;
            for name in names {
                self.import_remove(&path.join(OsStr::from_bytes(&name)))?;
            }
        }
        let (folder, name) = self.import_place(path)?;
        match before.kind {
            FileKind::Directory => self.rmdir(ino_of(folder), &name)?,
            _ => self.unlink(ino_of(folder), &name)?,
        }
        self.tell_entry(ino_of(folder), &name);
        Ok(())
    }

    /// Gives a file the attributes of its source.
    pub fn import_attributes(&self, ino: u64, attributes: &ImportedAttributes, fingerprint: u64) -> FsResult<()> {
        let file = writable(ino)?;
        self.with_namespace(|namespace| {
            let state = namespace.get(file)?;
            let wanted = imported(attributes, state.kind(), &state.attributes);
            let mut group = Vec::new();
            namespace.touch(file, &mut group)?;
            if *state.xattrs != attributes.xattrs {
                let gone = state.xattrs.keys().filter(|name| !attributes.xattrs.contains_key(*name));
                group.extend(gone.map(|name| Operation::Xattr(file, name.clone(), None)));
                let set = attributes.xattrs.iter();
                group.extend(set.map(|(name, value)| Operation::Xattr(file, name.clone(), Some(value.clone()))));
            }
            group.push(Operation::Attributes(file, wanted));
            group.push(Operation::Fingerprint(file, fingerprint));
            self.commit_group(namespace, &group, Room::Ordinary)
        })?;
        self.tell_inode(ino);
        Ok(())
    }

    fn import_inode(
        &self,
        path: &Path,
        attributes: &ImportedAttributes,
        kind: FileKind,
        body: Body,
        fingerprint: u64,
    ) -> FsResult<u64> {
        self.slow_down(0)?;
        let (parent, name) = self.import_place(path)?;
        check_name(&name)?;
        let ino = self.with_namespace(|namespace| {
            let folder = namespace.get(parent)?;
            if namespace.child(&folder, &name)?.is_some() {
                return Err(FsError::Exists);
            }
            let mut group = Vec::new();
            namespace.touch(parent, &mut group)?;
            let (file, name) = (namespace.next_file(), Name::from(name.as_slice()));
            let inode = Inode {
                file,
                attributes: imported(attributes, kind, &folder.attributes),
                xattrs: Arc::new(attributes.xattrs.clone()),
                fingerprint,
                body: body.clone(),
            };
            group.push(Operation::Inode { parent, name: name.clone(), links: 1, linked: false, inode });
            group.push(entry(&folder, name, Some(Child { file, kind }), None));
            group.push(folder_changed(&folder, now()));
            self.commit_group(namespace, &group, Room::Ordinary)?;
            Ok(ino_of(file))
        })?;
        self.tell_entry(ino_of(parent), &name);
        Ok(ino)
    }

    /// The folder and the name of a path.
    fn import_place(&self, path: &Path) -> FsResult<(FileNo, Vec<u8>)> {
        let name = path.file_name().ok_or(FsError::Invalid)?.as_bytes().to_vec();
        let parent = path.parent().unwrap_or(Path::new(""));
        let folder = self.import_find(parent)?.ok_or(FsError::NotFound)?;
        Ok((writable(folder.ino).map(|ino| if ino == CURRENT_INO { ROOT_FILE } else { ino })?, name))
    }

    /// The content of a file of `current/`, to compare or to go on from.
    pub fn import_content(&self, ino: u64) -> FsResult<Arc<Content>> {
        self.content(ino)
    }
}

fn names_of(path: &Path) -> FsResult<Vec<&OsStr>> {
    let names = path.components().filter(|part| !matches!(part, Component::CurDir | Component::RootDir));
    let name = |part| match part {
        Component::Normal(name) => Ok(name),
        _ => Err(FsError::Invalid),
    };
    names.map(name).collect()
}

fn imported(attributes: &ImportedAttributes, kind: FileKind, before: &Attributes) -> Attributes {
    Attributes {
        kind,
        mode: attributes.mode & 0o7777,
        uid: attributes.uid,
        gid: attributes.gid,
        owner: Arc::from(attributes.owner.as_slice()),
        group: Arc::from(attributes.group.as_slice()),
        mtime: attributes.mtime,
        ctime: if before.kind == kind && before.mtime == attributes.mtime { before.ctime } else { now() },
        atime: attributes.atime,
        rdev: attributes.rdev,
    }
}
