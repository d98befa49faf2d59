//! Going through a tree in order, one node of each level in memory.

use crate::chunks::{ChunkSource, LoadError};
use crate::format::node::{Item, TreeChild, TreeNode, TreeRef};

use super::load_node;

/// The items of a tree from a position on.
pub struct Scan<'a, T> {
    source: &'a dyn ChunkSource,
    from: u64,
    /// What is still to come, nearest last: a level and the parts on it, the next one last.
    pending: Vec<(u8, Vec<TreeChild>)>,
    items: std::vec::IntoIter<T>,
}

impl<'a, T: Item> Scan<'a, T> {
    /// Loads nothing yet.
    pub fn new(source: &'a dyn ChunkSource, tree: &TreeRef, from: u64) -> Self {
        let root = TreeChild {
            last: u64::MAX,
            id: tree.id,
            totals: tree.totals,
        };
        Scan {
            source,
            from,
            pending: vec![(tree.level, vec![root])],
            items: Vec::new().into_iter(),
        }
    }

    /// Loads the next node; false at the end. On an error nothing has moved.
    fn descend(&mut self) -> Result<bool, LoadError> {
        while self
            .pending
            .last()
            .is_some_and(|(_, parts)| parts.is_empty())
        {
            self.pending.pop();
        }
        let Some((level, parts)) = self.pending.last_mut() else {
            return Ok(false);
        };
        let (level, child) = (*level, parts[parts.len() - 1]);
        let node = load_node::<T>(self.source, level, &child.id)?;
        parts.pop();
        match node {
            TreeNode::Items(mut items) => {
                let skipped = items.partition_point(|item| item.position() < self.from);
                items.drain(..skipped);
                self.items = items.into_iter();
            }
            TreeNode::Children { mut children, .. } => {
                children.retain(|child| child.last >= self.from);
                children.reverse();
                self.pending.push((level - 1, children));
            }
        }
        Ok(true)
    }
}

impl<T: Item> Iterator for Scan<'_, T> {
    type Item = Result<T, LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(Ok(item));
            }
            match self.descend() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
