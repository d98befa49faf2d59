//! Going through a snapshot without the mount: what `ls`, `cat`, `find`, `diff`, `restore` and `check`
//! stand on.
//!
//! Lazy: a folder is loaded when it is entered, one page of a large one at a time
//! ([`SnapshotTree::entries`]), and listed by name only where a person reads it
//! ([`SnapshotTree::by_name`]). Nothing is written anywhere.

use std::sync::Arc;

use holdfast_crypto::{ChunkId, ChunkKind, Digest};

use crate::chunks::{ChunkSource, LoadError};
use crate::format::{Body, Commit, Entry, FileKind, Inode, Target};
use crate::tree::{self, Entries};

#[cfg(test)]
pub(crate) mod tests;

/// Where a snapshot's chunks come from, and what else reading one wants to know.
pub trait SnapshotSource: ChunkSource {
    /// Where a name stands in its folder.
    fn name_hash(&self, name: &[u8]) -> u64;

    /// Begins to fetch chunks that will be wanted soon.
    fn prefetch(&self, _wanted: &[(ChunkKind, ChunkId)]) {}

    /// The pack and the place in it, so that reading can follow the order of the packs.
    fn place(&self, _id: &ChunkId) -> Option<(Digest, u32)> {
        None
    }
}

/// A path that leads nowhere, or a snapshot that cannot be read there.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// Nothing has this name.
    #[error(
        "there is no {path:?} in the snapshot; `holdfast ls SNAPSHOT:FOLDER` shows what is there, `holdfast find` looks for a name"
    )]
    NotThere {
        /// As far as it was followed.
        path: String,
    },
    /// Something that is no folder stands in the middle of the path.
    #[error("{path:?} is no folder in the snapshot; leave out what stands behind it")]
    NotAFolder {
        /// What is no folder.
        path: String,
    },
    /// A part of the snapshot cannot be loaded.
    #[error("{path:?} cannot be read: {source}")]
    Load {
        /// Where.
        path: String,
        /// Why.
        source: LoadError,
    },
}

/// A file, folder or anything else of a snapshot, with its link count.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is.
    pub inode: Inode,
    /// How many names it has; a folder's are not counted.
    pub links: u32,
}

/// One snapshot, to be read.
#[derive(Clone)]
pub struct SnapshotTree {
    source: Arc<dyn SnapshotSource>,
    commit: Arc<Commit>,
}

impl SnapshotTree {
    /// The tree of a commit.
    pub fn new(source: Arc<dyn SnapshotSource>, commit: Arc<Commit>) -> SnapshotTree {
        SnapshotTree { source, commit }
    }

    /// The commit.
    pub fn commit(&self) -> &Arc<Commit> {
        &self.commit
    }

    /// Where its chunks come from.
    pub fn source(&self) -> &Arc<dyn SnapshotSource> {
        &self.source
    }

    /// The top folder.
    pub fn root(&self) -> &Inode {
        &self.commit.root
    }

    /// What a path leads to; `/` at either end does not matter. Symbolic links are not followed.
    pub fn find(&self, path: &[u8]) -> Result<Found, WalkError> {
        let mut found = Found {
            inode: self.commit.root.clone(),
            links: 1,
        };
        let mut walked = Vec::new();
        for name in components(path) {
            if found.inode.attributes.kind != FileKind::Directory {
                return Err(WalkError::NotAFolder {
                    path: printed(&walked),
                });
            }
            join(&mut walked, name);
            let step = self.step(&found.inode, name);
            let step = step.map_err(|source| WalkError::Load {
                path: printed(&walked),
                source,
            })?;
            found = step.ok_or_else(|| WalkError::NotThere {
                path: printed(&walked),
            })?;
        }
        Ok(found)
    }

    fn step(&self, folder: &Inode, name: &[u8]) -> Result<Option<Found>, LoadError> {
        let Body::Directory { tree: Some(tree) } = &folder.body else {
            return Ok(None);
        };
        let entry = tree::lookup(&*self.source, tree, self.source.name_hash(name), name)?;
        entry.map(|entry| self.inode(entry.target)).transpose()
    }

    /// The inode behind an entry: in it, or in the commit's table of linked files.
    pub fn inode(&self, target: Target) -> Result<Found, LoadError> {
        let file = match target {
            Target::Inline(inode) => return Ok(Found { inode, links: 1 }),
            Target::Linked { file, .. } => file,
        };
        let links = self
            .commit
            .links
            .as_ref()
            .ok_or_else(|| self.no_such_link())?;
        let linked =
            tree::lookup_link(&*self.source, links, file)?.ok_or_else(|| self.no_such_link())?;
        Ok(Found {
            inode: linked.inode,
            links: linked.links,
        })
    }

    /// A commit whose tree names a linked file that its table lacks contradicts itself.
    fn no_such_link(&self) -> LoadError {
        let id = match (&self.commit.links, &self.commit.root.body) {
            (Some(links), _) => links.id,
            (None, Body::Directory { tree: Some(tree) }) => tree.id,
            _ => ChunkId {
                epoch: 0,
                hash: [0; 32],
            },
        };
        LoadError::Damaged {
            kind: ChunkKind::Tree,
            id,
            object: None,
        }
    }

    /// A folder's entries as the tree has them, page by page.
    pub fn entries(&self, folder: &Inode) -> FolderEntries<'_> {
        match &folder.body {
            Body::Directory { tree: Some(tree) } => {
                FolderEntries(Some(tree::scan(&*self.source, tree, 0)))
            }
            _ => FolderEntries(None),
        }
    }

    /// A folder's entries by name.
    pub fn by_name(&self, folder: &Inode) -> Result<Vec<Entry>, LoadError> {
        let mut entries = self
            .entries(folder)
            .collect::<Result<Vec<Entry>, LoadError>>()?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }
}

/// A folder's entries, in the order of the tree. After an error there may be no more.
pub struct FolderEntries<'a>(Option<Entries<'a>>);

impl Iterator for FolderEntries<'_> {
    type Item = Result<Entry, LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.0.as_mut()?.next()?;
        if next.is_err() {
            // A page that does not load would be tried for ever.
            self.0 = None;
        }
        Some(next.map(|(_, entry)| entry))
    }
}

/// The names in a path.
pub fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
}

/// Adds a name to a path; the empty path is the top.
pub fn join(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// A path below a folder, as a new path.
pub fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len() + name.len() + 1);
    path.extend_from_slice(folder);
    join(&mut path, name);
    path
}

/// A path for a person; bytes that are no UTF-8 are replaced.
pub fn printed(path: &[u8]) -> String {
    match path {
        b"" => "/".to_owned(),
        path => String::from_utf8_lossy(path).into_owned(),
    }
}

impl SnapshotSource for crate::archive::Archive {
    fn name_hash(&self, name: &[u8]) -> u64 {
        self.keychain().name_hash(name)
    }

    fn prefetch(&self, wanted: &[(ChunkKind, ChunkId)]) {
        crate::archive::Archive::prefetch(self, wanted);
    }

    fn place(&self, id: &ChunkId) -> Option<(Digest, u32)> {
        self.locate(id)
            .ok()?
            .first()
            .map(|place| (place.pack, place.offset))
    }
}
