//! Making a list from its first piece to its last.

use std::sync::Arc;

use holdfast_crypto::ChunkKind;

use crate::chunks::{ChunkError, ChunkSink};
use crate::format::list::{INLINE_PIECES, ListChild, ListNode, ListRef, MAX_LEVEL, Piece};

use super::Row;

/// Builds a list piece by piece; holds one open node of each level.
pub struct ListBuilder<'a> {
    sink: &'a dyn ChunkSink,
    /// The first pieces, while they may still fit the inode.
    first: Vec<Piece>,
    /// The open node of each level.
    pub(super) open: Vec<Vec<Row>>,
    /// A hole that the next one may continue.
    hole: u64,
    covered: u64,
}

impl<'a> ListBuilder<'a> {
    /// A list of nothing yet.
    pub fn new(sink: &'a dyn ChunkSink) -> Self {
        ListBuilder {
            sink,
            first: Vec::new(),
            open: Vec::new(),
            hole: 0,
            covered: 0,
        }
    }

    /// Bytes of the file covered so far.
    pub fn covered_bytes(&self) -> u64 {
        self.covered
    }

    /// Adds a piece behind the others. Empty pieces are left out, neighbouring holes become one.
    pub fn push(&mut self, piece: Piece) -> Result<(), ChunkError> {
        self.covered += piece.length();
        match piece {
            Piece::Hole { length } => self.hole += length,
            Piece::Chunk { length: 0, .. } => {}
            Piece::Chunk { .. } => {
                self.end_hole()?;
                self.push_piece(piece)?;
            }
        }
        Ok(())
    }

    /// The finished list.
    pub fn finish(mut self) -> Result<ListRef, ChunkError> {
        self.end_hole()?;
        if self.open.is_empty() {
            return Ok(ListRef::Inline(Arc::from(self.first)));
        }
        // What is left open on each level ends here, unless it is alone on it: then it is the root.
        for level in 0.. {
            let rows = std::mem::take(&mut self.open[level]);
            let is_top = level + 1 == self.open.len();
            match rows.as_slice() {
                [Row::Child(child)] if is_top => {
                    return Ok(ListRef::Node {
                        level: level as u8 - 1,
                        id: child.id,
                    });
                }
                [] => {}
                _ => {
                    let child = store_node(self.sink, level as u8, rows)?;
                    if is_top {
                        return Ok(ListRef::Node {
                            level: level as u8,
                            id: child.id,
                        });
                    }
                    self.open[level + 1].push(Row::Child(child));
                }
            }
        }
        unreachable!("the highest level has at least one row, and the loop returns there")
    }

    fn end_hole(&mut self) -> Result<(), ChunkError> {
        match std::mem::take(&mut self.hole) {
            0 => Ok(()),
            length => self.push_piece(Piece::Hole { length }),
        }
    }

    fn push_piece(&mut self, piece: Piece) -> Result<(), ChunkError> {
        if !self.open.is_empty() {
            return self.push_row(0, Row::Piece(piece));
        }
        self.first.push(piece);
        if self.first.len() > INLINE_PIECES {
            for piece in std::mem::take(&mut self.first) {
                self.push_row(0, Row::Piece(piece))?;
            }
        }
        Ok(())
    }

    fn push_row(&mut self, mut level: usize, mut row: Row) -> Result<(), ChunkError> {
        loop {
            if self.open.len() <= level {
                self.open.push(Vec::new());
            }
            let open = &mut self.open[level];
            open.push(row);
            if !row.ends_node(open.len()) {
                return Ok(());
            }
            let rows = std::mem::take(open);
            row = Row::Child(store_node(self.sink, level as u8, rows)?);
            level += 1;
        }
    }
}

/// Stores a node; rows are all of one level.
pub(super) fn store_node(
    sink: &dyn ChunkSink,
    level: u8,
    rows: Vec<Row>,
) -> Result<ListChild, ChunkError> {
    debug_assert!(
        level <= MAX_LEVEL,
        "16 rows a node: 15 levels are 2^60 pieces"
    );
    let length = rows
        .iter()
        .fold(0_u64, |sum, row| sum.saturating_add(row.length()));
    let node = if level == 0 {
        let pieces = rows.into_iter().filter_map(|row| match row {
            Row::Piece(piece) => Some(piece),
            Row::Child(_) => None,
        });
        ListNode::Pieces(pieces.collect())
    } else {
        let children = rows.into_iter().filter_map(|row| match row {
            Row::Child(child) => Some(child),
            Row::Piece(_) => None,
        });
        ListNode::Children {
            level,
            children: children.collect(),
        }
    };
    let id = sink.store(ChunkKind::List, &node.encode())?;
    Ok(ListChild { length, id })
}
