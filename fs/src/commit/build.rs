//! Trees of a frozen view, from the deepest folder up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{CommitError, here};
use crate::content::Content;
use crate::filesystem::Filesystem;
use crate::format::{Body, Entry, FileNo, Inode, LinkedInode, ROOT_FILE, Target, Totals, TreeRef};
use crate::namespace::state::{BodyState, InodeState};
use crate::namespace::{Base, Slot, States};
use crate::rechunk::Rechunker;
use crate::tree;

/// Threads that chunk what was not chunked yet.
const THREADS: usize = 2;

pub(super) struct Build<'a> {
    pub(super) filesystem: &'a Filesystem,
    pub(super) states: &'a States,
    pub(super) base: &'a Base,
}

pub(super) struct Built {
    pub(super) root: Inode,
    pub(super) links: Option<TreeRef>,
    pub(super) totals: Totals,
    /// Every file of the view as the commit has it.
    pub(super) inodes: HashMap<FileNo, Inode>,
}

impl Build<'_> {
    pub(super) fn build(&self, sequence: u64) -> Result<Built, CommitError> {
        let mut inodes = self.files()?;
        self.filesystem.write.feed_for_commit(sequence)?;
        for folder in self.folders_deepest_first() {
            let inode = self.folder(&folder, &inodes)?;
            inodes.insert(folder.file, inode);
        }
        let root = inodes.get(&ROOT_FILE).unwrap_or(&self.base.root).clone();
        let links = self.links(&inodes)?;
        let mut totals = match &root.body {
            Body::Directory { tree: Some(tree) } => tree.totals,
            _ => Totals::default(),
        };
        totals.bytes += links.map_or(0, |links| links.totals.bytes);
        Ok(Built {
            root,
            links,
            totals,
            inodes,
        })
    }

    /// Everything that is no folder.
    fn files(&self) -> Result<HashMap<FileNo, Inode>, CommitError> {
        let mut inodes = HashMap::new();
        let mut unchunked: Vec<(&Arc<InodeState>, Arc<Content>)> = Vec::new();
        for state in here(self.states) {
            match (state.as_committed(), &state.body) {
                (_, BodyState::Directory(_)) => (),
                (Some(inode), _) => drop(inodes.insert(state.file, inode)),
                (None, BodyState::Regular(content)) => unchunked.push((state, content.clone())),
                (None, _) => (),
            }
        }
        // Neighbours in the log are neighbours in packs.
        unchunked.sort_by_key(|(state, _)| (state.parent, state.file));
        let queue = Mutex::new(unchunked.into_iter());
        let done: Mutex<Vec<Inode>> = Mutex::default();
        let work = || -> Result<(), CommitError> {
            loop {
                let next = queue.lock().next();
                let Some((state, content)) = next else {
                    return Ok(());
                };
                let inode = self.chunk(state, &content)?;
                done.lock().push(inode);
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..THREADS).map(|_| scope.spawn(work)).collect();
            let mine = work();
            let others = others
                .into_iter()
                .map(|thread| thread.join().expect("chunking does not panic"));
            others.fold(mine, Result::and)
        })?;
        inodes.extend(
            done.into_inner()
                .into_iter()
                .map(|inode| (inode.file, inode)),
        );
        Ok(inodes)
    }

    fn chunk(&self, state: &InodeState, content: &Content) -> Result<Inode, CommitError> {
        let filesystem = self.filesystem;
        let memory = crate::rechunk::memory_for(content.size());
        let _memory = filesystem.archive.stages().store.take(memory);
        let rechunker = Rechunker {
            source: &filesystem.archive,
            sink: &filesystem.archive,
            extents: &*filesystem.write,
            chunker: &filesystem.write.chunker,
            threads: 1,
        };
        let made = rechunker.rechunk(content)?;
        Ok(state.with_body(Body::Regular {
            size: made.size,
            allocated: made.allocated,
            list: made.list,
        }))
    }

    fn folders_deepest_first(&self) -> Vec<Arc<InodeState>> {
        let folders = here(self.states).filter(|state| state.directory().is_some());
        let mut folders: Vec<_> = folders
            .map(|state| (self.depth(state), state.clone()))
            .collect();
        folders.sort_by_key(|(depth, state)| (std::cmp::Reverse(*depth), state.file));
        folders.into_iter().map(|(_, state)| state).collect()
    }

    fn depth(&self, state: &InodeState) -> usize {
        let mut at = state;
        let mut depth = 0;
        while at.file != ROOT_FILE {
            match self.states.get(&at.parent) {
                Some(Slot::Here(parent)) => at = parent,
                // A folder that was removed and is still open stands under nothing.
                _ => return depth,
            }
            depth += 1;
        }
        depth
    }

    fn folder(
        &self,
        state: &InodeState,
        inodes: &HashMap<FileNo, Inode>,
    ) -> Result<Inode, CommitError> {
        let directory = state.directory().expect("only folders are asked for");
        let mut changes = BTreeMap::new();
        for (key, child) in directory.merged_changes() {
            let entry = match child {
                Some(child) => Some(Entry {
                    name: key.1.to_vec(),
                    target: self.target(state.file, child.file, inodes)?,
                }),
                None => None,
            };
            changes.insert((key.0, key.1.to_vec()), entry);
        }
        let archive = &self.filesystem.archive;
        let tree = tree::apply(
            archive,
            archive,
            directory.base.as_ref(),
            changes,
            &mut |_| (),
        )?;
        Ok(state.with_body(Body::Directory { tree }))
    }

    fn target(
        &self,
        folder: FileNo,
        file: FileNo,
        inodes: &HashMap<FileNo, Inode>,
    ) -> Result<Target, CommitError> {
        let unknown = CommitError::Inconsistent { folder, file };
        let Some(Slot::Here(state)) = self.states.get(&file) else {
            return Err(unknown);
        };
        if state.linked {
            return Ok(Target::Linked {
                file,
                kind: state.kind(),
            });
        }
        Ok(Target::Inline(inodes.get(&file).ok_or(unknown)?.clone()))
    }

    fn links(&self, inodes: &HashMap<FileNo, Inode>) -> Result<Option<TreeRef>, CommitError> {
        let mut changes: BTreeMap<FileNo, Option<LinkedInode>> = BTreeMap::new();
        for (file, slot) in self.states {
            match slot {
                Slot::Gone { linked: true } => drop(changes.insert(*file, None)),
                Slot::Here(state) if state.linked && state.links == 0 => {
                    drop(changes.insert(*file, None))
                }
                Slot::Here(state) if state.linked => {
                    let inode = inodes.get(file);
                    let inode = inode
                        .ok_or(CommitError::Inconsistent {
                            folder: state.parent,
                            file: *file,
                        })?
                        .clone();
                    changes.insert(
                        *file,
                        Some(LinkedInode {
                            inode,
                            links: state.links,
                        }),
                    );
                }
                _ => (),
            }
        }
        if changes.is_empty() {
            return Ok(self.base.links);
        }
        let archive = &self.filesystem.archive;
        Ok(tree::apply_links(
            archive,
            archive,
            self.base.links.as_ref(),
            changes,
            &mut |_| (),
        )?)
    }
}
