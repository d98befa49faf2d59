//! A file's pieces, as a list of chunks that may itself be chunks: `docs/format/lists.md`.
//!
//! Up to 32 pieces stand in the inode. Longer lists are cut into nodes at content-defined places
//! (the id of the chunk before the cut decides), so that a change in the middle of a long file writes
//! a few nodes, and equal runs of two files share theirs. The rule, on every level: a node
//! ends after a row when it has 16 rows or more and the seven low bits of the row's hash are zero,
//! or when it has 1024. A hole has no hash and ends no node.
//!
//! Nothing here holds a whole list: the builder keeps one open node per level, reading one node of
//! each level, splicing the nodes that it touches.

use std::ops::Range;

use holdfast_crypto::{ChunkId, ChunkKind};

use crate::chunks::{ChunkError, ChunkSource, LoadError};
use crate::format::list::{ListChild, ListNode, ListRef, Piece};

mod builder;
mod splice;

pub use builder::ListBuilder;
pub use splice::splice;

/// A node has at least this many rows, unless it is the last of its level.
const NODE_ROWS_MIN: usize = 16;
/// A node has at most this many.
const NODE_ROWS_MAX: usize = 1024;

/// A range to be replaced begins or ends inside of a chunk: the caller has not looked where chunks
/// end.
#[derive(Clone, Debug, thiserror::Error)]
#[error("a list cannot be cut at byte {offset}, inside of a chunk")]
pub struct InsideChunk {
    /// Where.
    pub offset: u64,
}

impl From<InsideChunk> for ChunkError {
    fn from(error: InsideChunk) -> Self {
        ChunkError::Load(LoadError::other(error))
    }
}

/// A row of a node: a piece on level 0, a node above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Piece(Piece),
    Child(ListChild),
}

impl Row {
    fn length(&self) -> u64 {
        match self {
            Row::Piece(piece) => piece.length(),
            Row::Child(child) => child.length,
        }
    }

    /// Whether a node that has `rows` rows, this one being the last, ends here.
    fn ends_node(&self, rows: usize) -> bool {
        let hash = match self {
            Row::Piece(Piece::Chunk { id, .. }) => Some(id.hash[0]),
            Row::Piece(Piece::Hole { .. }) => None,
            Row::Child(child) => Some(child.id.hash[0]),
        };
        let marked = hash.is_some_and(|byte| byte & 0x7f == 0);
        rows >= NODE_ROWS_MAX || (rows >= NODE_ROWS_MIN && marked)
    }
}

fn damaged(id: &ChunkId) -> LoadError {
    LoadError::Damaged {
        kind: ChunkKind::List,
        id: *id,
        object: None,
    }
}

/// The rows of a node, checked against the level that is expected.
fn load_rows(source: &dyn ChunkSource, level: u8, id: &ChunkId) -> Result<Vec<Row>, LoadError> {
    let bytes = source.load(ChunkKind::List, id)?;
    let rows: Vec<Row> = match ListNode::decode(&bytes).map_err(|_| damaged(id))? {
        ListNode::Pieces(pieces) if level == 0 => pieces.into_iter().map(Row::Piece).collect(),
        ListNode::Children {
            level: found,
            children,
        } if found == level => children.into_iter().map(Row::Child).collect(),
        _ => return Err(damaged(id)),
    };
    // Offsets are sums of lengths; in a list that lies they must not overflow.
    match total_length(&rows) {
        Some(_) => Ok(rows),
        None => Err(damaged(id)),
    }
}

fn total_length(rows: &[Row]) -> Option<u64> {
    rows.iter()
        .try_fold(0_u64, |sum, row| sum.checked_add(row.length()))
}

/// How many bytes of its file a list covers.
pub fn covered_bytes(source: &dyn ChunkSource, list: &ListRef) -> Result<u64, LoadError> {
    match list {
        ListRef::Inline(pieces) => Ok(pieces
            .iter()
            .fold(0_u64, |sum, piece| sum.saturating_add(piece.length()))),
        ListRef::Node { level, id } => {
            let rows = load_rows(source, *level, id)?;
            total_length(&rows).ok_or(damaged(id))
        }
    }
}

/// The pieces from the one that covers `offset` on, each with the byte at which it begins.
///
/// After an error it may be asked again: it goes on at the same place.
pub fn pieces_from<'a>(source: &'a dyn ChunkSource, list: &ListRef, offset: u64) -> Pieces<'a> {
    let pending = match list {
        ListRef::Inline(pieces) => {
            let rows = pieces.iter().rev().map(|piece| Row::Piece(*piece));
            vec![(0, rows.collect())]
        }
        ListRef::Node { level, id } => {
            let root = ListChild {
                length: u64::MAX,
                id: *id,
            };
            vec![(level + 1, vec![Row::Child(root)])]
        }
    };
    Pieces {
        source,
        offset,
        start: 0,
        pending,
    }
}

/// A walk over the pieces of a list.
pub struct Pieces<'a> {
    source: &'a dyn ChunkSource,
    /// What ends at or before this byte is skipped.
    offset: u64,
    /// Where the next row begins.
    start: u64,
    /// Rows still to come, by level, nearest last.
    pending: Vec<(u8, Vec<Row>)>,
}

impl Pieces<'_> {
    fn step(&mut self) -> Result<Option<(u64, Piece)>, LoadError> {
        while let Some((level, rows)) = self.pending.last_mut() {
            let Some(row) = rows.last().copied() else {
                self.pending.pop();
                continue;
            };
            let end = self.start.saturating_add(row.length());
            let skipped = end <= self.offset;
            match row {
                Row::Child(child) if !skipped => {
                    let level = *level - 1;
                    let mut below = load_rows(self.source, level, &child.id)?;
                    let total = total_length(&below).ok_or(damaged(&child.id))?;
                    let is_root = child.length == u64::MAX;
                    if !is_root && total != child.length {
                        return Err(damaged(&child.id));
                    }
                    rows.pop();
                    below.reverse();
                    self.pending.push((level, below));
                }
                Row::Piece(piece) if !skipped => {
                    rows.pop();
                    let start = std::mem::replace(&mut self.start, end);
                    return Ok(Some((start, piece)));
                }
                _ => {
                    rows.pop();
                    self.start = end;
                }
            }
        }
        Ok(None)
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<(u64, Piece), LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// The ids of all nodes of a list, each before the nodes below it.
pub fn nodes(
    source: &dyn ChunkSource,
    list: &ListRef,
    visit: &mut dyn FnMut(&ChunkId),
) -> Result<(), LoadError> {
    let mut pending = match list {
        ListRef::Inline(_) => Vec::new(),
        ListRef::Node { level, id } => vec![(*level, *id)],
    };
    while let Some((level, id)) = pending.pop() {
        visit(&id);
        if level > 0 {
            for row in load_rows(source, level, &id)?.into_iter().rev() {
                if let Row::Child(child) = row {
                    pending.push((level - 1, child.id));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
