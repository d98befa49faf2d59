//! One file or folder as it is now: what the last commit says of it, and what changed since.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Names this layer once another stands over it; 0 before.
    layer: u64,
}

static NEXT_LAYER: AtomicU64 = AtomicU64::new(1);

impl DirState {
    /// As in a commit.
    pub fn committed(tree: Option<TreeRef>) -> Self {
        let totals = tree.map(|tree| tree.totals).unwrap_or_default();
        DirState {
            base: tree,
            entries: totals.entries,
            directories: totals.directories,
            ..Default::default()
        }
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
        merged.extend(
            self.changes
                .iter()
                .map(|(key, change)| (key.clone(), *change)),
        );
        merged
    }

    /// Changes from a hash on, newer ones winning, at most `limit` or somewhat more; and the key
    /// behind which there may be others.
    pub fn changes_from(
        &self,
        hash: u64,
        limit: usize,
    ) -> (BTreeMap<EntryKey, Option<Child>>, Option<EntryKey>) {
        let (mut merged, mut last) = match &self.below {
            Some(below) => below.changes_from(hash, limit),
            None => Default::default(),
        };
        let from: EntryKey = (hash, Arc::from([]));
        let mine = self.changes.range(from..).take(limit);
        let mut count = 0;
        let mut newest = None;
        for (key, change) in mine {
            merged.insert(key.clone(), *change);
            newest = Some(key.clone());
            count += 1;
        }
        if count == limit {
            last = match (last, newest) {
                (Some(last), Some(newest)) => Some(last.min(newest)),
                (last, newest) => last.or(newest),
            };
        }
        (merged, last)
    }

    /// A new layer over this one, which gets a name if it has none.
    pub fn over(frozen: &mut Arc<DirState>) -> Self {
        if frozen.layer == 0 {
            Arc::make_mut(frozen).layer = NEXT_LAYER.fetch_add(1, Ordering::Relaxed);
        }
        DirState {
            base: frozen.base,
            below: Some(frozen.clone()),
            changes: BTreeMap::new(),
            entries: frozen.entries,
            directories: frozen.directories,
            layer: 0,
        }
    }

    /// The frozen layer was made a tree: puts that in its place.
    fn rebase(self: &mut Arc<Self>, frozen: &DirState, tree: Option<TreeRef>) {
        let Some(below) = self.below.as_ref().filter(|_| frozen.layer != 0) else {
            return;
        };
        let found = below.layer == frozen.layer;
        let this = Arc::make_mut(self);
        this.base = tree;
        match found {
            true => this.below = None,
            false => {
                if let Some(below) = &mut this.below {
                    below.rebase(frozen, tree);
                }
            }
        }
    }
}

impl InodeState {
    /// A file as a tree or the link table gives it.
    pub fn committed(inode: &Inode, parent: FileNo, name: Name, links: u32, linked: bool) -> Self {
        let body = match &inode.body {
            Body::Regular {
                size,
                allocated,
                list,
            } => BodyState::Regular(Arc::new(Content::from_list(
                *size,
                *allocated,
                list.clone(),
            ))),
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
        Child {
            file: self.file,
            kind: self.kind(),
        }
    }

    /// What a commit says of it, if that is all there is to say.
    pub fn as_committed(&self) -> Option<Inode> {
        let body = match &self.body {
            BodyState::Regular(content) => Body::Regular {
                size: content.size(),
                allocated: content.allocated(),
                list: content.list()?.clone(),
            },
            BodyState::Directory(directory) => {
                if directory.below.is_some() || !directory.changes.is_empty() {
                    return None;
                }
                Body::Directory {
                    tree: directory.base,
                }
            }
            BodyState::Symlink(target) => Body::Symlink {
                target: target.to_vec(),
            },
            BodyState::Special => Body::Special,
        };
        Some(self.with_body(body))
    }

    /// As an inode of a commit, with this in it.
    pub fn with_body(&self, body: Body) -> Inode {
        Inode {
            file: self.file,
            attributes: self.attributes.clone(),
            xattrs: self.xattrs.clone(),
            fingerprint: self.fingerprint,
            body,
        }
    }

    /// A new layer over this state, which is frozen.
    pub fn raise(self: &mut Arc<Self>) -> InodeState {
        let frozen = Arc::make_mut(self);
        let body = match &mut frozen.body {
            BodyState::Regular(content) => {
                let mut above = (**content).clone();
                *content = above.freeze();
                BodyState::Regular(Arc::new(above))
            }
            BodyState::Directory(directory) => {
                BodyState::Directory(Arc::new(DirState::over(directory)))
            }
            other => other.clone(),
        };
        InodeState {
            body,
            name: frozen.name.clone(),
            attributes: frozen.attributes.clone(),
            xattrs: frozen.xattrs.clone(),
            ..*frozen
        }
    }

    /// The commit that took `frozen`, which this one stands over, made `committed` of it.
    pub fn rebase(self: &mut Arc<Self>, frozen: &InodeState, committed: &Inode) {
        let this = Arc::make_mut(self);
        match (&mut this.body, &frozen.body, &committed.body) {
            (
                BodyState::Regular(content),
                BodyState::Regular(below),
                Body::Regular {
                    size,
                    allocated,
                    list,
                },
            ) => {
                if Arc::ptr_eq(content, below) {
                    *content = Arc::new(Content::from_list(*size, *allocated, list.clone()));
                } else {
                    Arc::make_mut(content).rebase(below, list, *allocated);
                }
            }
            (
                BodyState::Directory(directory),
                BodyState::Directory(below),
                Body::Directory { tree },
            ) => {
                directory.rebase(below, *tree);
            }
            _ => (),
        }
    }
}
