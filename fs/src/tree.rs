//! Folders and link tables as trees of chunks: `docs/format/trees.md`.
//!
//! A tree is cut into nodes where the items themselves decide, so it depends on the set of its
//! items and on nothing else: two devices, or two orders of work, that end with the same entries
//! end with the same root. That is what makes an unchanged folder cost nothing, and a changed
//! entry one node per level.
//!
//! The rule, on every level: a node ends after the items of a position whose boundary bits of
//! this level (seven of them) are all zero, or when it has grown to [`NODE_BYTES_MAX`]. On level 0
//! these are the entries, above it the nodes of the level below, each at the position of its last
//! entry. The root is the lowest node that is alone on its level.
//!
//! Nothing here holds a whole tree: a lookup loads one node per level, a scan one node of each
//! level at a time, and applying changes the nodes that they touch. Nodes are write-once chunks, so
//! a crash in the middle leaves chunks that nobody refers to and the old tree as it was.

use holdfast_crypto::{ChunkId, ChunkKind};

use crate::chunks::{ChunkSource, LoadError};
use crate::format::entry::{Entry, FileNo, LinkedInode};
use crate::format::node::{HashedEntry, Item, LookedUp, TreeChild, TreeNode, TreeRef};

mod apply;
mod scan;

pub use apply::{Changes, apply, apply_items, apply_links};
pub use scan::Scan;

/// A node ends when its items have this many bytes, whatever the boundary bits say: a bound for
/// folders whose entries carry large attributes.
pub const NODE_BYTES_MAX: usize = 512 << 10;

/// Boundary bits per level: a node has 128 items on average.
const BOUNDARY_BITS: u32 = 7;

/// Whether a node of this level ends after the items of this position.
fn ends_node<T: Item>(level: u8, position: u64) -> bool {
    let shift = BOUNDARY_BITS * u32::from(level);
    // 63 bits of a hash last for nine levels, which no real tree has.
    let bits = T::boundary_bits(position)
        .checked_shr(shift)
        .unwrap_or(u64::MAX);
    shift + BOUNDARY_BITS <= 63 && bits & ((1 << BOUNDARY_BITS) - 1) == 0
}

/// Loads a node and checks that it is of the level that its parent said.
fn load_node<T: Item>(
    source: &dyn ChunkSource,
    level: u8,
    id: &ChunkId,
) -> Result<TreeNode<T>, LoadError> {
    let bytes = source.load(ChunkKind::Tree, id)?;
    let node = TreeNode::decode(&bytes).map_err(|_| damaged(id))?;
    let found = match &node {
        TreeNode::Items(_) => 0,
        TreeNode::Children { level, .. } => *level,
    };
    if found == level {
        Ok(node)
    } else {
        Err(damaged(id))
    }
}

fn damaged(id: &ChunkId) -> LoadError {
    LoadError::Damaged {
        kind: ChunkKind::Tree,
        id: *id,
        object: None,
    }
}

/// The part that holds a position, if the tree has it.
fn child_for(children: &[TreeChild], position: u64) -> Option<&TreeChild> {
    children.get(children.partition_point(|child| child.last < position))
}

/// The item at a position and name.
pub fn lookup_item<T: Item>(
    source: &dyn ChunkSource,
    tree: &TreeRef,
    position: u64,
    name: &[u8],
) -> Result<Option<T>, LoadError> {
    let (mut level, mut id) = (tree.level, tree.id);
    loop {
        let bytes = source.load(ChunkKind::Tree, &id)?;
        match TreeNode::look_up(&bytes, position, name).map_err(|_| damaged(&id))? {
            LookedUp::Item(found) if level == 0 => return Ok(found),
            LookedUp::Children {
                level: at,
                children,
            } if at == level => match child_for(&children, position) {
                Some(child) => (level, id) = (level - 1, child.id),
                None => return Ok(None),
            },
            // Not of the level that its parent said.
            _ => return Err(damaged(&id)),
        }
    }
}

/// The entry of a name in a folder. `hash` is the name's, under the tree's epoch.
pub fn lookup(
    source: &dyn ChunkSource,
    tree: &TreeRef,
    hash: u64,
    name: &[u8],
) -> Result<Option<Entry>, LoadError> {
    let item = lookup_item::<HashedEntry>(source, tree, hash, name)?;
    Ok(item.map(|item| item.entry))
}

/// A file in a link table.
pub fn lookup_link(
    source: &dyn ChunkSource,
    links: &TreeRef,
    file: FileNo,
) -> Result<Option<LinkedInode>, LoadError> {
    lookup_item(source, links, file, &[])
}

/// The entries of a folder from a hash on, in order of hash and name; one node at a time.
///
/// After an error the scan may be asked again: it goes on at the same place.
pub fn scan<'a>(source: &'a dyn ChunkSource, tree: &TreeRef, from_hash: u64) -> Entries<'a> {
    Entries(Scan::new(source, tree, from_hash))
}

/// The files of a link table from a number on.
pub fn scan_links<'a>(
    source: &'a dyn ChunkSource,
    links: &TreeRef,
    from: FileNo,
) -> Scan<'a, LinkedInode> {
    Scan::new(source, links, from)
}

/// The entries of a folder with their hashes.
pub struct Entries<'a>(Scan<'a, HashedEntry>);

impl Iterator for Entries<'_> {
    type Item = Result<(u64, Entry), LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|item| (item.hash, item.entry)))
    }
}

/// The ids of all nodes of a tree, each before the nodes below it; for walks that collect what an
/// archive needs.
pub fn nodes<T: Item>(
    source: &dyn ChunkSource,
    tree: &TreeRef,
    visit: &mut dyn FnMut(&ChunkId, &TreeNode<T>),
) -> Result<(), LoadError> {
    let mut pending = vec![(tree.level, tree.id)];
    while let Some((level, id)) = pending.pop() {
        let node = load_node::<T>(source, level, &id)?;
        visit(&id, &node);
        if let TreeNode::Children { children, .. } = node {
            pending.extend(children.iter().rev().map(|child| (level - 1, child.id)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
