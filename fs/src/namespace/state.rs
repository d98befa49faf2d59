//! One file or folder as it is now: what the last commit says of it, and what changed since.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::content::Content;
use crate::format::{Attributes, Body, FileKind, FileNo, Inode, TreeRef, Xattrs};

/// A name: raw bytes, 1 to 255 of them.
pub type Name = Arc<[u8]>;

/// A file or folder.
#[derive(Clone)]
pub struct InodeState {
    /// Its number.
    pub file: FileNo,
    /// The folder of one of its names; of its only one unless it is `linked`.
    pub parent: FileNo,
    /// That name; empty for the root.
    pub name: Name,
    /// How many names it has; 1 for a folder, 0 for what is only still open.
    pub links: u32,
    /// Whether it stands in the commit's link table. Stays so when one name is left: moving it
    /// back would touch a folder for nothing.
    pub linked: bool,
    /// Mode, owner, times.
    pub attributes: Attributes,
    /// Extended attributes.
    pub xattrs: Arc<Xattrs>,
    /// `backup`'s fingerprint of the source; 0 where there is none.
    pub fingerprint: u64,
    /// What is in it.
    pub body: BodyState,
    /// Whether a write changed times or mode and no record says so yet.
    pub attributes_unlogged: bool,
}

/// What is in a file.
#[derive(Clone)]
pub enum BodyState {
    /// Content.
    Regular(Arc<Content>),
    /// Entries.
    Directory(Arc<DirState>),
    /// The path that a symlink holds.
    Symlink(Arc<[u8]>),
    /// Nothing.
    Special,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    /// The file.
    pub file: FileNo,
    /// Its kind, which never changes.
    pub kind: FileKind,
}

/// Entries are sorted as in a tree: by the keyed hash of the name, then by name.
pub type EntryKey = (u64, Name);

/// A folder's entries: a tree of the last commit, frozen changes over it, newer changes over those.
#[derive(Clone, Default)]
pub struct DirState {
    /// The tree in the last commit that stands.
    pub base: Option<TreeRef>,
    /// Changes that a commit under way took.
    pub below: Option<Arc<DirState>>,
    /// Changes since.
    pub changes: BTreeMap<EntryKey, Option<Child>>,
    /// Entries that there are now.
    pub entries: u64,
    /// Of them, folders.
    pub directories: u64,
}

impl DirState {
    /// As in a commit.
    pub fn committed(tree: Option<TreeRef>) -> Self {
        let totals = tree.map(|tree| tree.totals).unwrap_or_default();
        DirState { base: tree, entries: totals.entries, directories: totals.directories, ..Default::default() }
    }

    /// What the changes say of a name; `None` when only the tree knows.
    pub fn changed(&self, key: &EntryKey) -> Option<Option<Child>> {
        match self.changes.get(key) {
            Some(change) => Some(*change),
            None => self.below.as_ref()?.changed(key),
        }
    }

    /// All changes over the tree, newer ones winning.
    pub fn merged_changes(&self) -> BTreeMap<EntryKey, Option<Child>> {
        let mut merged = match &self.below {
            Some(below) => below.merged_changes(),
            None => BTreeMap::new(),
        };
        merged.extend(self.changes.iter().map(|(key, change)| (key.clone(), *change)));
        merged
    }

    /// A new layer over this one.
    pub fn over(frozen: &Arc<DirState>) -> Self {
        DirState {
            base: frozen.base,
            below: Some(frozen.clone()),
            changes: BTreeMap::new(),
            entries: frozen.entries,
            directories: frozen.directories,
        }
    }
}

impl InodeState {
    /// A file as a tree or the link table gives it.
    pub fn committed(inode: &Inode, parent: FileNo, name: Name, links: u32, linked: bool) -> Self {
        let body = match &inode.body {
            Body::Regular { size, allocated, list } => {
                BodyState::Regular(Arc::new(Content::from_list(*size, *allocated, list.clone())))
            }
            Body::Directory { tree } => BodyState::Directory(Arc::new(DirState::committed(*tree))),
            Body::Symlink { target } => BodyState::Symlink(Arc::from(target.as_slice())),
            Body::Special => BodyState::Special,
        };
        InodeState {
            file: inode.file,
            parent,
            name,
            links,
            linked,
            attributes: inode.attributes.clone(),
            xattrs: inode.xattrs.clone(),
            fingerprint: inode.fingerprint,
            body,
            attributes_unlogged: false,
        }
    }

    /// What it is.
    pub fn kind(&self) -> FileKind {
        self.attributes.kind
    }

    /// Its entries, if it is a folder.
    pub fn directory(&self) -> Option<&Arc<DirState>> {
        match &self.body {
            BodyState::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Its entries to change.
    pub fn directory_mut(&mut self) -> Option<&mut DirState> {
        match &mut self.body {
            BodyState::Directory(directory) => Some(Arc::make_mut(directory)),
            _ => None,
        }
    }

    /// Its content, if it is a regular file.
    pub fn content(&self) -> Option<&Arc<Content>> {
        match &self.body {
            BodyState::Regular(content) => Some(content),
            _ => None,
        }
    }

    /// Its content to change.
    pub fn content_mut(&mut self) -> Option<&mut Content> {
        match &mut self.body {
            BodyState::Regular(content) => Some(Arc::make_mut(content)),
            _ => None,
        }
    }

    /// As a file's child entry.
    pub fn child(&self) -> Child {
        Child { file: self.file, kind: self.kind() }
    }
}
