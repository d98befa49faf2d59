//! Changing a tree: only the nodes that a change touches are loaded and written.
//!
//! Level by level from below. On each level, the old node in which the first change belongs is
//! loaded, merged with the changes that belong there, and cut anew from its first row on. Where
//! a new cut falls together with the end of an old node, the rest of the level is as it was (a
//! cut depends on nothing before the start of its node), and the next change begins elsewhere. What was
//! cut becomes the changes of the level above.

use std::collections::BTreeMap;
use std::rc::Rc;

use holdfast_crypto::{ChunkId, ChunkKind};

use crate::chunks::{ChunkError, ChunkSink, ChunkSource, LoadError};
use crate::format::codec::Writer;
use crate::format::entry::{Entry, FileNo, LinkedInode};
use crate::format::node::{HashedEntry, Item, Totals, TreeChild, TreeNode, TreeRef};

use super::{NODE_BYTES_MAX, child_for, ends_node, load_node};

/// Rows to put (or to take away) by position and name.
pub type Changes<T> = BTreeMap<(u64, Vec<u8>), Option<T>>;

/// Puts entries into a folder and takes others away; `None` is the empty folder.
///
/// Changes are keyed by the hash of the name and the name. Calls `dropped` with each node that was
/// part of the old tree and is no longer needed for this one. `source` must have what `sink` took.
pub fn apply(
    source: &dyn ChunkSource,
    sink: &dyn ChunkSink,
    tree: Option<&TreeRef>,
    changes: Changes<Entry>,
    dropped: &mut dyn FnMut(&ChunkId),
) -> Result<Option<TreeRef>, ChunkError> {
    let changes = changes.into_iter().map(|((hash, name), entry)| {
        let item = entry.map(|entry| HashedEntry { hash, entry });
        debug_assert!(item.as_ref().is_none_or(|item| item.entry.name == name));
        ((hash, name), item)
    });
    apply_items(source, sink, tree, changes.collect(), dropped)
}

/// The same for a link table, by file number.
pub fn apply_links(
    source: &dyn ChunkSource,
    sink: &dyn ChunkSink,
    links: Option<&TreeRef>,
    changes: BTreeMap<FileNo, Option<LinkedInode>>,
    dropped: &mut dyn FnMut(&ChunkId),
) -> Result<Option<TreeRef>, ChunkError> {
    let changes = changes
        .into_iter()
        .map(|(file, inode)| ((file, Vec::new()), inode));
    apply_items(source, sink, links, changes.collect(), dropped)
}

/// The same for any tree.
pub fn apply_items<T: Item>(
    source: &dyn ChunkSource,
    sink: &dyn ChunkSink,
    tree: Option<&TreeRef>,
    changes: Changes<T>,
    dropped: &mut dyn FnMut(&ChunkId),
) -> Result<Option<TreeRef>, ChunkError> {
    let mut work = Work {
        old: Old::new(source, tree),
        sink,
        dropped,
    };
    let mut changes = work.rewrite::<T, T>(0, changes)?;
    let mut level = 0;
    while !changes.is_empty() && tree.is_some_and(|tree| level < tree.level) {
        level += 1;
        changes = work.rewrite::<T, TreeChild>(level, changes)?;
    }
    if changes.is_empty() {
        return Ok(tree.copied());
    }
    // From here on, the rows are all that there is on this level.
    work.old = Old::new(source, None);
    while changes.values().flatten().count() > 1 {
        level += 1;
        changes.retain(|_, row| row.is_some());
        changes = work.rewrite::<T, TreeChild>(level, changes)?;
    }
    match changes.into_values().flatten().next() {
        Some(top) => Ok(Some(lowest_root::<T>(source, level, top)?)),
        None => Ok(None),
    }
}

/// The lowest node that is alone on its level: below a root with one part stands another root.
fn lowest_root<T: Item>(
    source: &dyn ChunkSource,
    mut level: u8,
    mut top: TreeChild,
) -> Result<TreeRef, LoadError> {
    while level > 0 {
        match load_node::<T>(source, level, &top.id)? {
            TreeNode::Children { children, .. } if children.len() == 1 => top = children[0],
            _ => break,
        }
        level -= 1;
    }
    Ok(TreeRef {
        level,
        id: top.id,
        totals: top.totals,
    })
}

/// A row of a node: an item on level 0, a part of the tree above.
trait Row<T>: Clone {
    fn position(&self) -> u64;
    fn name(&self) -> &[u8];
    fn totals(&self) -> Totals;
    fn write(&self, writer: &mut Writer);
    fn rows_of(node: TreeNode<T>) -> Vec<Self>;
}

impl<T: Item> Row<T> for T {
    fn position(&self) -> u64 {
        Item::position(self)
    }

    fn name(&self) -> &[u8] {
        Item::name(self)
    }

    fn totals(&self) -> Totals {
        Item::totals(self)
    }

    fn write(&self, writer: &mut Writer) {
        Item::write(self, writer);
    }

    fn rows_of(node: TreeNode<T>) -> Vec<T> {
        match node {
            TreeNode::Items(items) => items,
            TreeNode::Children { .. } => Vec::new(),
        }
    }
}

impl<T: Item> Row<T> for TreeChild {
    fn position(&self) -> u64 {
        self.last
    }

    fn name(&self) -> &[u8] {
        &[]
    }

    fn totals(&self) -> Totals {
        self.totals
    }

    fn write(&self, writer: &mut Writer) {
        TreeChild::write(self, writer);
    }

    fn rows_of(node: TreeNode<T>) -> Vec<TreeChild> {
        match node {
            TreeNode::Children { children, .. } => children,
            TreeNode::Items(_) => Vec::new(),
        }
    }
}

/// One application of changes.
struct Work<'a> {
    old: Old<'a>,
    sink: &'a dyn ChunkSink,
    dropped: &'a mut dyn FnMut(&ChunkId),
}

impl Work<'_> {
    /// Applies changes to one level; returns what that changes in the level above.
    fn rewrite<T: Item, R: Row<T>>(
        &mut self,
        level: u8,
        changes: Changes<R>,
    ) -> Result<Changes<TreeChild>, ChunkError> {
        let mut changes = changes.into_iter().peekable();
        let mut above = Above::default();
        let mut cutter = Cutter::<T>::new(self.sink, level);
        while let Some(((position, _), _)) = changes.peek() {
            let mut node = self.old.node_for::<T>(level, *position)?;
            loop {
                let (last, is_final) = node
                    .as_ref()
                    .map_or((0, true), |node| (node.child.last, node.is_final));
                let mut rows = Vec::new();
                if let Some(node) = node {
                    above.gone.push(node.child);
                    rows = R::rows_of(node.node);
                }
                // What is past the last old node belongs to it as well.
                let belongs = |((position, _), _): &((u64, Vec<u8>), Option<R>)| {
                    is_final || *position <= last
                };
                let changes = std::iter::from_fn(|| changes.next_if(belongs));
                merge(rows, changes, &mut |row: R| {
                    cutter.push(&row, &mut above.new)
                })?;
                if cutter.is_at_end() || is_final {
                    cutter.cut(&mut above.new)?;
                    break;
                }
                node = self.old.node_after::<T>(level, last)?;
            }
        }
        let is_root = self.old.root.is_some_and(|root| root.level == level);
        let below = if is_root { Below::Root } else { Below::Parent };
        Ok(above.into_changes(below, self.dropped))
    }
}

/// Old rows and changes in one order; a change takes the place of an old row with its key.
fn merge<T, R: Row<T>>(
    rows: Vec<R>,
    changes: impl Iterator<Item = ((u64, Vec<u8>), Option<R>)>,
    push: &mut dyn FnMut(R) -> Result<(), ChunkError>,
) -> Result<(), ChunkError> {
    let mut rows = rows.into_iter().peekable();
    for ((position, name), change) in changes {
        let key = (position, name.as_slice());
        while let Some(row) = rows.next_if(|row| (row.position(), row.name()) < key) {
            push(row)?;
        }
        rows.next_if(|row| (row.position(), row.name()) == key);
        if let Some(row) = change {
            push(row)?;
        }
    }
    rows.try_for_each(push)
}

/// What a level's new cuts change in the level above.
#[derive(Default)]
struct Above {
    gone: Vec<TreeChild>,
    new: Vec<TreeChild>,
}

/// What the old nodes of a level stand below.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Below {
    /// Nodes that name them.
    Parent,
    /// Nothing: the one old node is the root.
    Root,
}

impl Above {
    /// A node that was written as it had been is no change. But no old node names the root: when
    /// others stand beside it now, whoever is made above them has to name it too.
    fn into_changes(self, below: Below, dropped: &mut dyn FnMut(&ChunkId)) -> Changes<TreeChild> {
        let names_all = below == Below::Root && self.new != self.gone;
        let mut changes: Changes<TreeChild> = self
            .new
            .into_iter()
            .map(|child| ((child.last, Vec::new()), Some(child)))
            .collect();
        for old in self.gone {
            let key = (old.last, Vec::new());
            match changes.get(&key) {
                Some(Some(new)) if *new == old => {
                    if !names_all {
                        changes.remove(&key);
                    }
                    continue;
                }
                Some(_) => {}
                None => {
                    changes.insert(key, None);
                }
            }
            dropped(&old.id);
        }
        changes
    }
}

/// Collects rows into nodes of one level.
struct Cutter<'a, T> {
    sink: &'a dyn ChunkSink,
    level: u8,
    rows: Writer,
    count: u64,
    totals: Totals,
    last: u64,
    items: std::marker::PhantomData<T>,
}

impl<'a, T: Item> Cutter<'a, T> {
    fn new(sink: &'a dyn ChunkSink, level: u8) -> Self {
        let (rows, totals) = (Writer::new(), Totals::default());
        Cutter {
            sink,
            level,
            rows,
            count: 0,
            totals,
            last: 0,
            items: std::marker::PhantomData,
        }
    }

    fn push<R: Row<T>>(&mut self, row: &R, new: &mut Vec<TreeChild>) -> Result<(), ChunkError> {
        // Rows of one position stay together: a reader that goes on from a position gets all.
        if self.count > 0 && row.position() != self.last && self.is_at_end() {
            self.cut(new)?;
        }
        row.write(&mut self.rows);
        self.count += 1;
        self.totals = self.totals.plus(row.totals());
        self.last = row.position();
        Ok(())
    }

    /// Whether a node ends here (or none was begun).
    fn is_at_end(&self) -> bool {
        self.count == 0
            || self.rows.len() >= NODE_BYTES_MAX
            || ends_node::<T>(self.level, self.last)
    }

    fn cut(&mut self, new: &mut Vec<TreeChild>) -> Result<(), ChunkError> {
        if self.count == 0 {
            return Ok(());
        }
        let mut node = Writer::with_capacity(self.rows.len() + 12);
        node.u8(T::TREE);
        node.u8(self.level);
        node.varint(self.count);
        node.raw(&std::mem::take(&mut self.rows).finish());
        let id = self.sink.store(ChunkKind::Tree, &node.finish())?;
        let totals = std::mem::take(&mut self.totals);
        new.push(TreeChild {
            last: self.last,
            id,
            totals,
        });
        self.count = 0;
        Ok(())
    }
}

/// The nodes of the old tree, by level and position.
struct Old<'a> {
    source: &'a dyn ChunkSource,
    root: Option<TreeRef>,
    /// The last node seen above each level, since the next change is near.
    path: Vec<Option<(ChunkId, Rc<[TreeChild]>)>>,
}

struct OldNode<T> {
    child: TreeChild,
    node: TreeNode<T>,
    /// No node of its level stands behind it.
    is_final: bool,
}

impl<'a> Old<'a> {
    fn new(source: &'a dyn ChunkSource, root: Option<&TreeRef>) -> Self {
        let levels = root.map_or(0, |root| usize::from(root.level) + 1);
        Old {
            source,
            root: root.copied(),
            path: vec![None; levels],
        }
    }

    /// The first node of a level that ends at or behind a position, else the last one.
    fn node_for<T: Item>(
        &mut self,
        level: u8,
        position: u64,
    ) -> Result<Option<OldNode<T>>, LoadError> {
        let Some(root) = self.root.filter(|root| level <= root.level) else {
            return Ok(None);
        };
        let mut child = TreeChild {
            last: u64::MAX,
            id: root.id,
            totals: root.totals,
        };
        let mut is_final = true;
        for above in (level + 1..=root.level).rev() {
            let children = self.children::<T>(above, &child.id)?;
            let last = children[children.len() - 1];
            child = child_for(&children, position).copied().unwrap_or(last);
            is_final &= child.last == last.last;
        }
        let node = load_node::<T>(self.source, level, &child.id)?;
        let last = match &node {
            TreeNode::Items(items) => items.last().map(T::position),
            TreeNode::Children { children, .. } => children.last().map(|child| child.last),
        };
        // The root has nobody above it who says where it ends.
        if level == root.level {
            child.last = last.unwrap_or_default();
        }
        if last != Some(child.last) {
            return Err(LoadError::Damaged {
                kind: ChunkKind::Tree,
                id: child.id,
                object: None,
            });
        }
        Ok(Some(OldNode {
            child,
            node,
            is_final,
        }))
    }

    /// The node that stands behind the one that ends at `last`.
    fn node_after<T: Item>(
        &mut self,
        level: u8,
        last: u64,
    ) -> Result<Option<OldNode<T>>, LoadError> {
        self.node_for(level, last.saturating_add(1))
    }

    fn children<T: Item>(&mut self, level: u8, id: &ChunkId) -> Result<Rc<[TreeChild]>, LoadError> {
        let slot = &mut self.path[usize::from(level)];
        match slot {
            Some((known, children)) if known == id => Ok(children.clone()),
            _ => match load_node::<T>(self.source, level, id)? {
                TreeNode::Children { children, .. } => {
                    let children: Rc<[TreeChild]> = children.into();
                    *slot = Some((*id, children.clone()));
                    Ok(children)
                }
                TreeNode::Items(_) => Err(LoadError::Damaged {
                    kind: ChunkKind::Tree,
                    id: *id,
                    object: None,
                }),
            },
        }
    }
}
