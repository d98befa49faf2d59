//! Which packs a tree needs: exactly those that hold a chunk reachable from its root.
//!
//! A set per node is remembered, so that of a tree of which one page changed only the path to that
//! page is walked again. What is remembered holds for one choice of copies: when packs are given up
//! (condemned, moved, deleted) the memo is cleared.
//!
//! Only in memory, and bounded: after opening an archive the first commit walks the whole tree once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use holdfast_crypto::{ChunkId, ChunkKind, Digest};

use crate::chunks::{ChunkSource, LoadError};
use crate::format::list::ListNode;
use crate::format::node::{HashedEntry, Item, TreeNode};
use crate::format::{Body, Entry, Inode, LinkedInode, ListRef, Piece, Target, TreeRef};

/// Remembered pack numbers in all sets together; about 8 MiB.
const MOST_NUMBERS: usize = 2 << 20;

/// Sets of packs by node.
#[derive(Default)]
pub(crate) struct RefsMemo {
    numbers: HashMap<Digest, u32>,
    packs: Vec<Digest>,
    sets: HashMap<Node, Arc<[u32]>>,
    held: usize,
    /// Packs that were bad when they were last looked at: chosen because there is no better copy.
    bad: BTreeSet<Digest>,
}

/// A chunk that refers to others. Folder trees and link tables are told apart because they decode
/// differently.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    Tree(ChunkId),
    Links(ChunkId),
    List(ChunkId),
}

/// Says which copy of a chunk counts.
pub(crate) type PackOf<'a> = dyn Fn(&ChunkId) -> Result<Option<Digest>, LoadError> + 'a;

/// What a node refers to.
#[derive(Default)]
pub(crate) struct Children {
    pub(crate) data: Vec<ChunkId>,
    pub(crate) nodes: Vec<Node>,
}

struct Frame {
    node: Node,
    packs: BTreeSet<u32>,
    left: Vec<Node>,
}

impl RefsMemo {
    /// Whether no tree was walked through yet.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Forgets everything: other copies may be chosen from now on.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            bad: std::mem::take(&mut self.bad),
            ..Self::default()
        };
    }

    /// Looks whether a pack has gone bad (condemned, absent) since copies were chosen. If so, they are
    /// chosen anew; once, even where there is no better copy.
    pub(crate) fn notice(&mut self, is_bad: impl Fn(&Digest) -> bool) {
        let bad: BTreeSet<Digest> = self.packs.iter().copied().filter(is_bad).collect();
        if !bad.is_subset(&self.bad) {
            self.clear();
        }
        self.bad.extend(bad);
    }

    /// The packs that a commit needs. `pack_of` says which copy of a chunk counts.
    pub(crate) fn reachable(
        &mut self,
        source: &dyn ChunkSource,
        pack_of: &PackOf,
        root: &Inode,
        links: Option<&TreeRef>,
    ) -> Result<BTreeSet<Digest>, LoadError> {
        let top = Children::of_commit(root, links);
        let mut packs = BTreeSet::new();
        for id in &top.data {
            packs.insert(self.number_of(pack_of, ChunkKind::Data, id)?);
        }
        for node in top.nodes {
            packs.extend(self.walk(source, pack_of, node)?.iter().copied());
        }
        Ok(packs
            .into_iter()
            .map(|number| self.packs[number as usize])
            .collect())
    }

    /// Children before parents, with a stack of its own: folders may be nested deeper than the
    /// thread's stack is.
    fn walk(
        &mut self,
        source: &dyn ChunkSource,
        pack_of: &PackOf,
        top: Node,
    ) -> Result<Arc<[u32]>, LoadError> {
        if let Some(set) = self.sets.get(&top) {
            return Ok(Arc::clone(set));
        }
        let mut stack = vec![self.enter(source, pack_of, top)?];
        loop {
            let frame = stack
                .last_mut()
                .expect("it holds the top until that is done");
            if let Some(next) = frame.left.pop() {
                match self.sets.get(&next) {
                    Some(set) => frame.packs.extend(set.iter().copied()),
                    None => stack.push(self.enter(source, pack_of, next)?),
                }
                continue;
            }
            let done = stack.pop().expect("there is a last frame");
            let set: Arc<[u32]> = done.packs.into_iter().collect();
            self.remember(done.node, &set);
            match stack.last_mut() {
                Some(parent) => parent.packs.extend(set.iter().copied()),
                None => return Ok(set),
            }
        }
    }

    fn enter(
        &mut self,
        source: &dyn ChunkSource,
        pack_of: &PackOf,
        node: Node,
    ) -> Result<Frame, LoadError> {
        let (kind, id) = node.chunk();
        let mut packs = BTreeSet::from([self.number_of(pack_of, kind, &id)?]);
        let bytes = source.load(kind, &id)?;
        let damaged = || LoadError::Damaged {
            kind,
            id,
            object: None,
        };
        let children = children_of(node, &bytes).ok_or_else(damaged)?;
        for data in &children.data {
            packs.insert(self.number_of(pack_of, ChunkKind::Data, data)?);
        }
        Ok(Frame {
            node,
            packs,
            left: children.nodes,
        })
    }

    fn number_of(
        &mut self,
        pack_of: &PackOf,
        kind: ChunkKind,
        id: &ChunkId,
    ) -> Result<u32, LoadError> {
        let pack = pack_of(id)?.ok_or(LoadError::Missing { kind, id: *id })?;
        if let Some(number) = self.numbers.get(&pack) {
            return Ok(*number);
        }
        let number = u32::try_from(self.packs.len()).expect("fewer packs than 2^32 fit any store");
        self.packs.push(pack);
        self.numbers.insert(pack, number);
        Ok(number)
    }

    fn remember(&mut self, node: Node, set: &Arc<[u32]>) {
        if self.held + set.len() > MOST_NUMBERS {
            // Half of the nodes, whichever: those still in use are walked again once.
            let mut keep = false;
            self.sets.retain(|_, _| {
                keep = !keep;
                keep
            });
            self.held = self.sets.values().map(|set| set.len()).sum();
        }
        self.held += set.len();
        self.sets.insert(node, Arc::clone(set));
    }
}

impl Node {
    pub(crate) fn chunk(self) -> (ChunkKind, ChunkId) {
        match self {
            Node::Tree(id) | Node::Links(id) => (ChunkKind::Tree, id),
            Node::List(id) => (ChunkKind::List, id),
        }
    }
}

impl Children {
    /// What a commit's own object refers to.
    pub(crate) fn of_commit(root: &Inode, links: Option<&TreeRef>) -> Self {
        let mut top = Self::default();
        top.inode(root);
        top.nodes.extend(links.map(|tree| Node::Links(tree.id)));
        top
    }

    fn inode(&mut self, inode: &Inode) {
        match &inode.body {
            Body::Regular { list, .. } => self.list(list),
            Body::Directory { tree } => self
                .nodes
                .extend(tree.as_ref().map(|tree| Node::Tree(tree.id))),
            _ => {}
        }
    }

    fn list(&mut self, list: &ListRef) {
        match list {
            ListRef::Inline(pieces) => self.pieces(pieces),
            ListRef::Node { id, .. } => self.nodes.push(Node::List(*id)),
        }
    }

    fn pieces(&mut self, pieces: &[Piece]) {
        let chunk = |piece: &Piece| match piece {
            Piece::Chunk { id, .. } => Some(*id),
            Piece::Hole { .. } => None,
        };
        self.data.extend(pieces.iter().filter_map(chunk));
    }

    fn entry(&mut self, entry: &Entry) {
        // A linked file's content hangs on the link table.
        if let Target::Inline(inode) = &entry.target {
            self.inode(inode);
        }
    }
}

/// What a loaded node refers to; `None` if it is not a node of this kind.
pub(crate) fn children_of(node: Node, bytes: &[u8]) -> Option<Children> {
    let mut children = Children::default();
    match node {
        Node::Tree(_) => {
            tree_children::<HashedEntry>(bytes, &mut children, Node::Tree, |children, item| {
                children.entry(&item.entry);
            })?;
        }
        Node::Links(_) => {
            tree_children::<LinkedInode>(bytes, &mut children, Node::Links, |children, item| {
                children.inode(&item.inode);
            })?;
        }
        Node::List(_) => match ListNode::decode(bytes).ok()? {
            ListNode::Pieces(pieces) => children.pieces(&pieces),
            ListNode::Children {
                children: below, ..
            } => {
                children
                    .nodes
                    .extend(below.iter().map(|child| Node::List(child.id)));
            }
        },
    }
    Some(children)
}

fn tree_children<T: Item>(
    bytes: &[u8],
    into: &mut Children,
    node: impl Fn(ChunkId) -> Node,
    item: impl Fn(&mut Children, &T),
) -> Option<()> {
    match TreeNode::<T>::decode(bytes).ok()? {
        TreeNode::Items(items) => items.iter().for_each(|each| item(into, each)),
        TreeNode::Children { children, .. } => {
            into.nodes
                .extend(children.iter().map(|child| node(child.id)));
        }
    }
    Some(())
}
