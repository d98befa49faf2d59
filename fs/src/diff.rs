//! What differs between two snapshots.
//!
//! Folders are compared by name, side by side. Two folders with the same tree are the same and are not
//! loaded, so comparing two snapshots costs about what changed between them. In memory: the names of the
//! folders on the way down.

use std::iter::Peekable;
use std::vec::IntoIter;

use crate::format::{Body, Entry, FileKind, Inode};
use crate::walk::{self, Found, SnapshotTree, WalkError};

#[cfg(test)]
mod tests;

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Another content, link target or device.
    Content,
    /// The same content with other owner, mode, times or attributes.
    Attributes,
    /// Something of another kind.
    Kind,
}

/// One difference.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The path from the top of both.
    pub path: Vec<u8>,
    /// What happened.
    pub change: Change,
    /// As it is in the first.
    pub before: Option<Found>,
    /// As it is in the second.
    pub after: Option<Found>,
}

/// What `visit` says after each difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Continue,
    /// That was enough.
    Stop,
}

/// Visits the differences below `path`, by name. What is below an added or removed folder is visited too.
pub fn diff(
    first: &SnapshotTree,
    second: &SnapshotTree,
    path: &[u8],
    visit: &mut dyn FnMut(Difference) -> Next,
) -> Result<(), WalkError> {
    let (before, after) = (first.find(path)?, second.find(path)?);
    let mut top = Vec::new();
    walk::components(path).for_each(|name| walk::join(&mut top, name));
    let mut work = Work {
        first,
        second,
        visit,
    };
    if is_folder(&before.inode) && is_folder(&after.inode) {
        let level = work.open(top, Some(&before), Some(&after))?;
        return work.run(level);
    }
    let level = work.compare(top, Some(before), Some(after))?;
    level.map_or(Ok(()), |level| {
        level.map_or(Ok(()), |level| work.run(level))
    })
}

struct Work<'a> {
    first: &'a SnapshotTree,
    second: &'a SnapshotTree,
    visit: &'a mut dyn FnMut(Difference) -> Next,
}

struct Level {
    path: Vec<u8>,
    before: Peekable<IntoIter<Entry>>,
    after: Peekable<IntoIter<Entry>>,
}

impl Work<'_> {
    fn run(&mut self, top: Level) -> Result<(), WalkError> {
        let mut levels = vec![top];
        while let Some(level) = levels.last_mut() {
            let Some((name, before, after)) = level.next() else {
                levels.pop();
                continue;
            };
            let path = walk::joined(&level.path, &name);
            let before = self.inode(self.first, &path, before)?;
            let after = self.inode(self.second, &path, after)?;
            match self.compare(path, before, after)? {
                None => return Ok(()),
                Some(below) => levels.extend(below),
            }
        }
        Ok(())
    }

    fn inode(
        &self,
        tree: &SnapshotTree,
        path: &[u8],
        entry: Option<Entry>,
    ) -> Result<Option<Found>, WalkError> {
        let found = entry.map(|entry| tree.inode(entry.target)).transpose();
        found.map_err(|source| WalkError::Load {
            path: walk::printed(path),
            source,
        })
    }

    /// Reports a path; gives the folder to go into, or nothing at all when it is enough.
    fn compare(
        &mut self,
        path: Vec<u8>,
        before: Option<Found>,
        after: Option<Found>,
    ) -> Result<Option<Option<Level>>, WalkError> {
        let inode = |found: &Option<Found>| found.as_ref().map(|found| found.inode.clone());
        let change = match (&inode(&before), &inode(&after)) {
            (Some(before), Some(after)) => change(before, after),
            (Some(_), None) => Some(Change::Removed),
            (None, _) => Some(Change::Added),
        };
        let goes_in =
            |found: &Option<Found>| found.as_ref().is_some_and(|found| is_folder(&found.inode));
        let same_tree = match (&before, &after) {
            (Some(before), Some(after)) => {
                before.inode.body == after.inode.body && !has_links(self.first, self.second)
            }
            _ => false,
        };
        let below = match !same_tree && (goes_in(&before) || goes_in(&after)) {
            true => Some(self.open(
                path.clone(),
                before.as_ref().filter(|found| is_folder(&found.inode)),
                after.as_ref().filter(|found| is_folder(&found.inode)),
            )?),
            false => None,
        };
        if let Some(change) = change
            && (self.visit)(Difference {
                path,
                change,
                before,
                after,
            }) == Next::Stop
        {
            return Ok(None);
        }
        Ok(Some(below))
    }

    fn open(
        &self,
        path: Vec<u8>,
        before: Option<&Found>,
        after: Option<&Found>,
    ) -> Result<Level, WalkError> {
        let list = |tree: &SnapshotTree, folder: Option<&Found>| match folder {
            None => Ok(Vec::new()),
            Some(folder) => tree
                .by_name(&folder.inode)
                .map_err(|source| WalkError::Load {
                    path: walk::printed(&path),
                    source,
                }),
        };
        let before = list(self.first, before)?.into_iter().peekable();
        let after = list(self.second, after)?.into_iter().peekable();
        Ok(Level {
            path,
            before,
            after,
        })
    }
}

/// A file with several names may have changed while the folder's own tree stayed the same.
fn has_links(first: &SnapshotTree, second: &SnapshotTree) -> bool {
    let links = |tree: &SnapshotTree| tree.commit().links.map(|links| links.id);
    links(first) != links(second)
}

impl Level {
    /// The next name, with what each side has under it and is not the same at first sight.
    fn next(&mut self) -> Option<(Vec<u8>, Option<Entry>, Option<Entry>)> {
        let name = match (self.before.peek(), self.after.peek()) {
            (None, None) => return None,
            (Some(entry), None) | (None, Some(entry)) => entry.name.clone(),
            (Some(before), Some(after)) => before.name.clone().min(after.name.clone()),
        };
        let before = self.before.next_if(|entry| entry.name == name);
        let after = self.after.next_if(|entry| entry.name == name);
        Some((name, before, after))
    }
}

fn is_folder(inode: &Inode) -> bool {
    inode.attributes.kind == FileKind::Directory
}

fn change(before: &Inode, after: &Inode) -> Option<Change> {
    if before.attributes.kind != after.attributes.kind {
        return Some(Change::Kind);
    }
    let same_content = match (&before.body, &after.body) {
        (Body::Directory { .. }, Body::Directory { .. }) => true,
        (
            Body::Regular { size, list, .. },
            Body::Regular {
                size: other_size,
                list: other,
                ..
            },
        ) => size == other_size && list == other,
        (before, after) => before == after,
    };
    if !same_content || before.attributes.rdev != after.attributes.rdev {
        return Some(Change::Content);
    }
    let (a, b) = (&before.attributes, &after.attributes);
    let same = (a.mode, a.uid, a.gid, a.mtime) == (b.mode, b.uid, b.gid, b.mtime)
        && before.xattrs == after.xattrs;
    (!same).then_some(Change::Attributes)
}
