//! Chunk lists: reading from an offset on, building, replacing a stretch.
//!
//! So far lists of any length stand inline; nodes of their own come with the format's next piece.

use std::ops::Range;

use crate::chunks::{ChunkError, ChunkSink, ChunkSource, LoadError};
use crate::format::{ListRef, Piece};

/// The pieces from the one on that has the byte at `offset`, each with its offset in the file.
/// Nodes are loaded as they are needed.
pub fn pieces_from<'a>(
    _source: &'a dyn ChunkSource,
    list: &ListRef,
    offset: u64,
) -> impl Iterator<Item = Result<(u64, Piece), LoadError>> + use<'a> {
    let pieces = match list {
        ListRef::Inline(pieces) => Ok(pieces.clone()),
        ListRef::Node { .. } => Err(LoadError::other(NodesNotRead)),
    };
    let (pieces, error) = match pieces {
        Ok(pieces) => (pieces.to_vec(), None),
        Err(error) => (Vec::new(), Some(Err(error))),
    };
    let mut at = 0;
    let placed = pieces.into_iter().map(move |piece| {
        let start = at;
        at += piece.length();
        Ok((start, piece))
    });
    error.into_iter().chain(placed.filter(move |placed| {
        placed
            .as_ref()
            .is_ok_and(|(start, piece)| start + piece.length() > offset)
    }))
}

/// The list with the pieces of `replaced`, which starts and ends where pieces do, replaced by others.
pub fn splice(
    source: &dyn ChunkSource,
    sink: &dyn ChunkSink,
    list: &ListRef,
    replaced: Range<u64>,
    pieces: Vec<Piece>,
) -> Result<ListRef, ChunkError> {
    let mut builder = ListBuilder::new(sink);
    let mut behind = Vec::new();
    for piece in pieces_from(source, list, 0) {
        match piece? {
            (start, piece) if start < replaced.start => builder.push(piece)?,
            (start, piece) if start >= replaced.end => behind.push(piece),
            _ => {}
        }
    }
    for piece in pieces.into_iter().chain(behind) {
        builder.push(piece)?;
    }
    builder.finish()
}

/// Builds a list from its pieces in order, in bounded memory.
pub struct ListBuilder<'a> {
    _sink: &'a dyn ChunkSink,
    pieces: Vec<Piece>,
}

impl<'a> ListBuilder<'a> {
    /// An empty list.
    pub fn new(sink: &'a dyn ChunkSink) -> Self {
        ListBuilder {
            _sink: sink,
            pieces: Vec::new(),
        }
    }

    /// Adds the next piece.
    pub fn push(&mut self, piece: Piece) -> Result<(), ChunkError> {
        self.pieces.push(piece);
        Ok(())
    }

    /// The list.
    pub fn finish(self) -> Result<ListRef, ChunkError> {
        Ok(ListRef::Inline(self.pieces.into()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("this list has nodes of its own, which this build does not read")]
struct NodesNotRead;
