//! Chunk lists: of which pieces a file's content is made: `docs/format/lists.md`.

use std::sync::Arc;

use holdfast_crypto::ChunkId;

/// A list of at most this many pieces stands in the inode itself.
pub const INLINE_PIECES: usize = 32;

/// A run of a file's bytes. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole chunk of kind data.
    Chunk {
        /// The chunk.
        id: ChunkId,
        /// Its plaintext length in bytes.
        length: u32,
    },
    /// Zeros that take no space.
    Hole {
        /// Length in bytes.
        length: u64,
    },
}

impl Piece {
    /// How many bytes of the file it covers.
    pub fn length(&self) -> u64 {
        match self {
            Piece::Chunk { length, .. } => u64::from(*length),
            Piece::Hole { length } => *length,
        }
    }
}

/// The pieces of one file, from offset 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListRef {
    /// At most [`INLINE_PIECES`] pieces.
    Inline(Arc<[Piece]>),
    /// More of them, in nodes of their own.
    Node {
        /// 0 when the node holds the pieces themselves.
        level: u8,
        /// The root node, a chunk of kind list.
        id: ChunkId,
    },
}

impl ListRef {
    /// The list of an empty file.
    pub fn empty() -> Self {
        ListRef::Inline(Arc::from([]))
    }
}

impl Default for ListRef {
    fn default() -> Self {
        ListRef::empty()
    }
}
