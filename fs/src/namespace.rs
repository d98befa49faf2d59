//! The files and folders of `current/`: the last commit's trees under what has changed since.
//!
//! ```text
//! overlay          changed since the last freeze
//!   over
//! layers           frozen for commits that wait or are under way, oldest first
//!   over
//! base             the last commit that stands; loaded page by page, kept in `nodes` and `clean`
//! ```
//!
//! A layer is closed upward: with a file stands the folder that it is in, and that folder names it
//! in its changes, so a commit finds every folder that it has to write. A file with several names
//! stands in the link table instead and touches no folder.
//!
//! A change is built as a group of [`Operation`]s from what is there, logged, and then applied.
//! Building may stop for a missing page ([`Nodes`]); it changes nothing but caches. Nothing here
//! does I/O, and nothing here is on disk: the log's operations build the same overlay again.

pub mod nodes;
pub mod operation;
pub mod state;

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use crate::content::{Content, Placed};
use crate::filesystem::{FsError, FsResult};
use crate::format::{Body, FileNo, Inode, ROOT_FILE, Target, TreeRef};
use crate::known::Known;
use crate::log::LogPosition;
use crate::tree;

use nodes::Nodes;
use operation::{Moment, Operation};
use state::{BodyState, Child, EntryKey, InodeState, Name};

/// Inodes of the last commit that are kept loaded.
const CLEAN_INODES: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// Orders names: the archive's keyed hash.
pub type NameHash = Box<dyn Fn(&[u8]) -> u64 + Send + Sync>;

/// What a layer says of a file.
#[derive(Clone)]
pub enum Slot {
    /// It is like this.
    Here(Arc<InodeState>),
    /// It is no more.
    Gone {
        /// Whether the link table has to lose it.
        linked: bool,
    },
}

/// Files changed between two freezes.
pub type States = HashMap<FileNo, Slot>;

/// A frozen view of the drive, over the layers below it.
pub struct Layer {
    /// What changed since the layer below.
    pub states: States,
    /// The log up to here is in this view.
    pub sequence: u64,
    /// The next new file's number.
    pub next_file: FileNo,
    /// Why it was frozen.
    pub reason: Reason,
}

/// Why a view was frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The overlay grew, or somebody waits for the store.
    Checkpoint,
    /// The interval passed.
    Automatic,
    /// Somebody asked for a snapshot.
    Requested(Moment),
}

/// The last commit that stands, as far as the namespace needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Base {
    /// The root folder.
    pub root: Inode,
    /// The link table.
    pub links: Option<TreeRef>,
    /// The next new file's number.
    pub next_file: FileNo,
}

/// See the module.
pub struct Namespace {
    hash: NameHash,
    base: Base,
    overlay: States,
    layers: VecDeque<Layer>,
    clean: LruCache<FileNo, Arc<InodeState>>,
    /// What the kernel and handles hold.
    pub known: Known,
    /// Pages of trees.
    pub nodes: Arc<Nodes>,
    next_file: FileNo,
    /// Files that stand in a layer or the overlay without their whole state behind the last commit in
    /// the log, as the base has them: each commit's record says it again, until they are in a commit.
    raised: HashMap<FileNo, Operation>,
}

impl Namespace {
    /// As the last commit left it.
    pub fn new(base: Base, hash: NameHash) -> Self {
        Namespace {
            next_file: base.next_file,
            base,
            hash,
            overlay: HashMap::new(),
            layers: VecDeque::new(),
            clean: LruCache::new(CLEAN_INODES),
            known: Known::default(),
            nodes: Arc::default(),
            raised: HashMap::new(),
        }
    }

    /// Where a name stands in its folder.
    pub fn key(&self, name: &[u8]) -> EntryKey {
        ((self.hash)(name), Arc::from(name))
    }

    /// Number of the next new file. It is taken when an operation that makes it is applied.
    pub fn next_file(&self) -> FileNo {
        self.next_file
    }

    /// Files changed since the last freeze.
    pub fn overlay_len(&self) -> usize {
        self.overlay.len()
    }

    /// Files changed and not in a commit that stands.
    pub fn changed_files(&self) -> usize {
        self.overlay.len()
            + self
                .layers
                .iter()
                .map(|layer| layer.states.len())
                .sum::<usize>()
    }

    /// Bytes of changed files that are in no chunk yet: in memory, or in the log as they were written.
    pub fn unchunked_bytes(&self) -> u64 {
        let layers = self.layers.iter().rev().map(|layer| &layer.states);
        let mut seen = HashSet::new();
        let mut bytes = 0;
        // The newest state of each file; it has what is frozen below it.
        for (file, slot) in std::iter::once(&self.overlay).chain(layers).flatten() {
            if seen.insert(*file)
                && let Slot::Here(state) = slot
                && let BodyState::Regular(content) = &state.body
            {
                bytes += content.raw_bytes();
            }
        }
        bytes
    }

    /// Frozen views, oldest first.
    pub fn layers(&self) -> &VecDeque<Layer> {
        &self.layers
    }

    /// The changed files of the newest layer.
    pub fn overlay(&self) -> &States {
        &self.overlay
    }

    /// The last commit that stands.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// A file as it is now, if some layer has it.
    pub fn changed(&self, file: FileNo) -> Option<&Slot> {
        let layers = self.layers.iter().rev().map(|layer| &layer.states);
        std::iter::once(&self.overlay)
            .chain(layers)
            .find_map(|states| states.get(&file))
    }

    /// A file as it is now.
    pub fn get(&mut self, file: FileNo) -> FsResult<Arc<InodeState>> {
        match self.changed(file) {
            Some(Slot::Here(state)) => return Ok(state.clone()),
            Some(Slot::Gone { .. }) => return Err(FsError::NotFound),
            None => (),
        }
        if let Some(state) = self.clean.get(&file) {
            return Ok(state.clone());
        }
        if file == ROOT_FILE {
            let root = InodeState::committed(&self.base.root, ROOT_FILE, Arc::from([]), 1, false);
            return Ok(self.keep_clean(root));
        }
        let stub = self.known.find(file).ok_or(FsError::Stale)?.clone();
        if stub.linked {
            return self.load_linked(file, stub.parent, stub.name);
        }
        let folder = self.get(stub.parent)?;
        let found = self.load_entry(&folder, &self.key(&stub.name))?;
        found
            .filter(|child| child.file == file)
            .ok_or(FsError::Stale)?;
        self.clean.get(&file).cloned().ok_or(FsError::Stale)
    }

    /// What a name in a folder stands for.
    pub fn child(&mut self, folder: &InodeState, name: &[u8]) -> FsResult<Option<Child>> {
        let directory = folder.directory().ok_or(FsError::NotDirectory)?;
        let key = self.key(name);
        match directory.changed(&key) {
            Some(change) => Ok(change),
            None => self.load_entry(folder, &key),
        }
    }

    /// A name's file, or NotFound.
    pub fn find(&mut self, folder: &InodeState, name: &[u8]) -> FsResult<Arc<InodeState>> {
        let child = self.child(folder, name)?.ok_or(FsError::NotFound)?;
        if let Some(Slot::Here(state)) = self.changed(child.file) {
            return Ok(state.clone());
        }
        if let Some(state) = self.clean.get(&child.file) {
            return Ok(state.clone());
        }
        let key = self.key(name);
        self.load_entry(folder, &key)?;
        match self.clean.get(&child.file) {
            Some(state) => Ok(state.clone()),
            None => self.load_linked(child.file, folder.file, key.1),
        }
    }

    /// Looks a name up in the last commit's tree; an inode that stands there is kept as clean.
    fn load_entry(&mut self, folder: &InodeState, key: &EntryKey) -> FsResult<Option<Child>> {
        let Some(base) = folder.directory().and_then(|directory| directory.base) else {
            return Ok(None);
        };
        let nodes = self.nodes.clone();
        let Some(entry) = tree::lookup(&*nodes, &base, key.0, &key.1)? else {
            return Ok(None);
        };
        let child = Child {
            file: entry.file(),
            kind: entry.kind(),
        };
        if let Target::Inline(inode) = &entry.target
            && self.changed(child.file).is_none()
            && !self.clean.contains(&child.file)
        {
            self.keep_clean(InodeState::committed(
                inode,
                folder.file,
                key.1.clone(),
                1,
                false,
            ));
        }
        Ok(Some(child))
    }

    fn load_linked(
        &mut self,
        file: FileNo,
        parent: FileNo,
        name: Name,
    ) -> FsResult<Arc<InodeState>> {
        let links = self.base.links.ok_or(FsError::Stale)?;
        let nodes = self.nodes.clone();
        let linked = tree::lookup_link(&*nodes, &links, file)?.ok_or(FsError::Stale)?;
        Ok(self.keep_clean(InodeState::committed(
            &linked.inode,
            parent,
            name,
            linked.links,
            true,
        )))
    }

    /// Keeps an inode that is as the last commit has it.
    pub fn keep_clean(&mut self, state: InodeState) -> Arc<InodeState> {
        let state = Arc::new(state);
        self.clean.put(state.file, state.clone());
        state
    }

    /// Adds to a group what has to be logged before a file may be changed: the whole state of it and
    /// of the folders above it, as far as no layer has them.
    pub fn touch(&mut self, file: FileNo, group: &mut Vec<Operation>) -> FsResult<()> {
        let grouped = |operation: &Operation| matches!(operation, Operation::Inode { inode, .. } if inode.file == file);
        match self.changed(file) {
            Some(Slot::Here(_)) => return Ok(()),
            Some(Slot::Gone { .. }) => return Err(FsError::NotFound),
            None if group.iter().any(grouped) => return Ok(()),
            None => (),
        }
        let state = self.get(file)?;
        if !state.linked && file != ROOT_FILE {
            self.touch(state.parent, group)?;
        }
        let inode = state.as_committed().ok_or(FsError::Stale)?;
        group.push(Operation::Inode {
            parent: state.parent,
            name: state.name.clone(),
            links: state.links,
            linked: state.linked,
            inode,
        });
        Ok(())
    }

    /// A changed file, to change further: raised from the layers into the overlay.
    ///
    /// `None` when no layer has it, which is the case only if its [`Operation::Inode`] was not
    /// applied.
    pub fn state_mut(&mut self, file: FileNo) -> Option<&mut InodeState> {
        if !self.overlay.contains_key(&file) {
            let frozen = self
                .layers
                .iter_mut()
                .rev()
                .find_map(|layer| layer.states.get_mut(&file))?;
            let Slot::Here(frozen) = frozen else {
                return None;
            };
            let raised = frozen.raise();
            self.insert_changed(raised);
        }
        match self.overlay.get_mut(&file)? {
            Slot::Here(state) => Some(Arc::make_mut(state)),
            Slot::Gone { .. } => None,
        }
    }

    /// Puts a file into the overlay, and into the changes of the folder that it is in.
    fn insert_changed(&mut self, state: InodeState) {
        let (file, parent, child) = (state.file, state.parent, state.child());
        let stands_in_folder = !state.linked && state.links > 0 && file != ROOT_FILE;
        let key = stands_in_folder.then(|| self.key(&state.name));
        self.clean.pop(&file);
        self.overlay.insert(file, Slot::Here(Arc::new(state)));
        if let Some(key) = key
            && let Some(folder) = self.state_mut(parent).and_then(InodeState::directory_mut)
        {
            folder.changes.insert(key, Some(child));
        }
    }

    /// Does what a logged operation says. On a file that is not there it does nothing: that file
    /// was removed later in the log than a commit that stands.
    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Inode {
                parent,
                name,
                links,
                linked,
                inode,
            } => {
                self.next_file = self.next_file.max(inode.file.saturating_add(1));
                if !matches!(self.changed(inode.file), Some(Slot::Here(_))) {
                    let state =
                        InodeState::committed(inode, *parent, name.clone(), *links, *linked);
                    self.insert_changed(state);
                }
            }
            Operation::Attributes(file, attributes) => self.change(*file, |state| {
                state.attributes = attributes.clone();
                state.attributes_unlogged = false;
            }),
            Operation::Xattr(file, name, value) => self.change(*file, |state| {
                let xattrs = Arc::make_mut(&mut state.xattrs);
                match value {
                    Some(value) => drop(xattrs.insert(name.clone(), value.clone())),
                    None => drop(xattrs.remove(name)),
                }
            }),
            Operation::Fingerprint(file, fingerprint) => {
                self.change(*file, |state| state.fingerprint = *fingerprint)
            }
            Operation::Entry {
                folder,
                name,
                child,
                entries,
                directories,
            } => {
                let key = self.key(name);
                if let Some(folder) = self.state_mut(*folder).and_then(InodeState::directory_mut) {
                    folder.changes.insert(key, *child);
                    (folder.entries, folder.directories) = (*entries, *directories);
                }
            }
            Operation::Names {
                file,
                parent,
                name,
                links,
                linked,
            } => {
                self.change(*file, |state| {
                    (state.parent, state.name) = (*parent, name.clone());
                    (state.links, state.linked) = (*links, *linked);
                });
                self.known.moved(*file, *parent, name, *linked);
            }
            Operation::Size(file, size) => {
                self.change_content(*file, |content| content.truncate(*size))
            }
            Operation::Hole(file, offset, length) => self.change_content(*file, |content| {
                content.punch(*offset..offset.saturating_add(*length))
            }),
            Operation::Place(file, offset, placed) => {
                self.change_content(*file, |content| content.place(*offset, placed))
            }
            Operation::List {
                file,
                size,
                allocated,
                list,
            } => self.change_content(*file, |content| {
                *content = Content::from_list(*size, *allocated, list.clone());
            }),
            Operation::Freeze(_) => (),
        }
    }

    /// An extent record of the log.
    pub fn apply_extent(&mut self, file: FileNo, offset: u64, length: u32, position: LogPosition) {
        let placed = [Placed::Logged {
            position,
            skip: 0,
            length,
        }];
        self.change_content(file, |content| content.place(offset, &placed));
    }

    fn change(&mut self, file: FileNo, change: impl FnOnce(&mut InodeState)) {
        match self.state_mut(file) {
            Some(state) => change(state),
            None => tracing::debug!(file, "an operation on a file that is not there"),
        }
    }

    fn change_content(&mut self, file: FileNo, change: impl FnOnce(&mut Content)) {
        self.change(file, |state| {
            if let Some(content) = state.content_mut() {
                change(content);
            }
        });
    }

    /// A file that has no name and that nothing holds any more goes.
    pub fn drop_orphan(&mut self, file: FileNo) -> bool {
        let Some(Slot::Here(state)) = self.changed(file) else {
            return false;
        };
        if state.links > 0 || file == ROOT_FILE {
            return false;
        }
        let linked = state.linked;
        // The base knows it, or a layer does: the commit that comes has to be told.
        self.overlay.insert(file, Slot::Gone { linked });
        true
    }

    /// Files that have no name; those that are frozen end with the commit of their layer.
    pub fn orphans(&self) -> Vec<FileNo> {
        let is_orphan = |(file, slot): (&FileNo, &Slot)| match slot {
            Slot::Here(state) if state.links == 0 => Some(*file),
            _ => None,
        };
        self.overlay.iter().filter_map(is_orphan).collect()
    }

    /// Fixes the view: everything changed until now is in the new layer, later changes go over it.
    pub fn freeze(&mut self, sequence: u64, reason: Reason) {
        let states = std::mem::take(&mut self.overlay);
        self.layers.push_back(Layer {
            states,
            sequence,
            next_file: self.next_file,
            reason,
        });
    }

    /// The oldest layer is in a commit that stands: it becomes the base. Layers above it stand over
    /// the commit now.
    pub fn rebase(&mut self, base: Base, committed: &HashMap<FileNo, Inode>) {
        let Some(layer) = self.layers.pop_front() else {
            return;
        };
        self.base = base;
        for (file, slot) in layer.states {
            let Slot::Here(frozen) = slot else { continue };
            let Some(inode) = committed.get(&file) else {
                continue;
            };
            let above = self
                .layers
                .iter_mut()
                .map(|layer| &mut layer.states)
                .chain([&mut self.overlay]);
            let mut stands_above = false;
            for states in above {
                if let Some(slot) = states.get_mut(&file) {
                    stands_above = true;
                    if let Slot::Here(state) = slot {
                        state.rebase(&frozen, inode);
                    }
                }
            }
            if stands_above {
                continue;
            }
            let (parent, name) = (frozen.parent, frozen.name.clone());
            let mut state = InodeState::committed(inode, parent, name, frozen.links, frozen.linked);
            match frozen.links {
                // No tree has it; it lives here as long as somebody holds it.
                0 if self.known.is_held(file) => {
                    state.attributes_unlogged = frozen.attributes_unlogged;
                    self.overlay.insert(file, Slot::Here(Arc::new(state)));
                }
                // It was frozen while open, and the process that held it has died.
                0 => (),
                _ => drop(self.keep_clean(state)),
            }
        }
        self.clean.pop(&ROOT_FILE);
    }

    /// What the record of the oldest layer's commit has to say of the files that stand above it:
    /// `newly` are those that this commit has changed, and what earlier records said still holds of the others.
    pub fn raise_again(&mut self, newly: Vec<Operation>) -> Vec<Operation> {
        let mut raised = std::mem::take(&mut self.raised);
        raised.retain(|file, _| {
            let mut above = self
                .layers
                .iter()
                .skip(1)
                .map(|layer| &layer.states)
                .chain([&self.overlay]);
            above.any(|states| states.contains_key(file))
        });
        self.raised = raised;
        self.note_raised(newly);
        self.raised.values().cloned().collect()
    }

    /// What the log's last commit record said of files above it.
    pub fn note_raised(&mut self, raised: Vec<Operation>) {
        for operation in raised {
            if let Operation::Inode { inode, .. } = &operation {
                self.raised.insert(inode.file, operation);
            }
        }
    }

    /// States of layers above the oldest that stand over one of its files, with that file as it was
    /// frozen: what replay has to know of it once the log below is gone.
    pub fn raised_files(&self) -> Vec<Arc<InodeState>> {
        let Some(oldest) = self.layers.front() else {
            return Vec::new();
        };
        let above = || {
            self.layers
                .iter()
                .skip(1)
                .map(|layer| &layer.states)
                .chain([&self.overlay])
        };
        let here = oldest.states.iter().filter_map(|(file, slot)| match slot {
            Slot::Here(state) if above().any(|states| states.contains_key(file)) => {
                Some(state.clone())
            }
            _ => None,
        });
        here.collect()
    }
}

/// A new folder, file or other node.
pub fn new_inode(file: FileNo, attributes: crate::format::Attributes, body: Body) -> Inode {
    Inode {
        file,
        attributes,
        xattrs: Arc::default(),
        fingerprint: 0,
        body,
    }
}

/// Whether this is a regular file's state.
pub fn is_regular(state: &InodeState) -> bool {
    matches!(state.body, BodyState::Regular(_))
}
