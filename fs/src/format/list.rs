//! Chunk lists: of which pieces a file's content is made: `docs/format/lists.md`.

use std::sync::Arc;

use holdfast_crypto::ChunkId;

use super::codec::{Decoded, Reader, Writer};

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

/// The deepest level that a tree or a list may have: more than a real one ever needs, and a bound
/// for walks over hostile ones.
pub const MAX_LEVEL: u8 = 15;

const CHUNK: u8 = 0;
const HOLE: u8 = 1;

impl Piece {
    /// A piece's bytes.
    pub fn write(&self, writer: &mut Writer) {
        match self {
            Piece::Chunk { id, length } => {
                writer.u8(CHUNK);
                writer.varint(u64::from(*length));
                writer.chunk_id(id);
            }
            Piece::Hole { length } => {
                writer.u8(HOLE);
                writer.varint(*length);
            }
        }
    }

    /// Reads what [`Piece::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        let piece = match reader.u8()? {
            CHUNK => Piece::Chunk {
                length: reader.varint32()?,
                id: reader.chunk_id()?,
            },
            HOLE => Piece::Hole {
                length: reader.varint()?,
            },
            _ => return Err(reader.error("a piece is of no known kind")),
        };
        reader.require(piece.length() > 0, "a piece is empty")?;
        Ok(piece)
    }
}

const INLINE: u8 = 0;
const NODE: u8 = 1;

impl ListRef {
    /// A list's bytes, as they stand in an inode.
    pub fn write(&self, writer: &mut Writer) {
        match self {
            ListRef::Inline(pieces) => {
                writer.u8(INLINE);
                writer.varint(pieces.len() as u64);
                pieces.iter().for_each(|piece| piece.write(writer));
            }
            ListRef::Node { level, id } => {
                writer.u8(NODE);
                writer.u8(*level);
                writer.chunk_id(id);
            }
        }
    }

    /// Reads what [`ListRef::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        match reader.u8()? {
            INLINE => {
                let count = reader.count(2)?;
                reader.require(count <= INLINE_PIECES, "an inode has too many pieces in it")?;
                let pieces: Decoded<Vec<Piece>> = (0..count).map(|_| Piece::read(reader)).collect();
                Ok(ListRef::Inline(pieces?.into()))
            }
            NODE => {
                let (level, id) = (reader.u8()?, reader.chunk_id()?);
                reader.require(level <= MAX_LEVEL, "a list is too deep")?;
                Ok(ListRef::Node { level, id })
            }
            _ => Err(reader.error("a list is of no known kind")),
        }
    }
}

/// A part of a list, as a node above it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListChild {
    /// How many bytes of the file it covers. Never 0.
    pub length: u64,
    /// Its node.
    pub id: ChunkId,
}

/// A node of a long list: the plaintext of a chunk of kind list. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListNode {
    /// Level 0.
    Pieces(Vec<Piece>),
    /// Above it.
    Children {
        /// 1 to [`MAX_LEVEL`].
        level: u8,
        /// Nodes of the level below.
        children: Vec<ListChild>,
    },
}

impl ListNode {
    /// The node's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            ListNode::Pieces(pieces) => {
                writer.u8(0);
                writer.varint(pieces.len() as u64);
                pieces.iter().for_each(|piece| piece.write(&mut writer));
            }
            ListNode::Children { level, children } => {
                writer.u8(*level);
                writer.varint(children.len() as u64);
                for child in children {
                    writer.varint(child.length);
                    writer.chunk_id(&child.id);
                }
            }
        }
        writer.finish()
    }

    /// Reads what [`ListNode::encode`] made.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new("list node", bytes);
        let level = reader.u8()?;
        reader.require(level <= MAX_LEVEL, "it is too deep")?;
        let node = if level == 0 {
            let count = reader.count(2)?;
            reader.require(count > 0, "it is empty")?;
            let pieces: Decoded<Vec<Piece>> =
                (0..count).map(|_| Piece::read(&mut reader)).collect();
            ListNode::Pieces(pieces?)
        } else {
            let count = reader.count(37)?;
            reader.require(count > 0, "it is empty")?;
            let children: Decoded<Vec<ListChild>> =
                (0..count).map(|_| ListChild::read(&mut reader)).collect();
            ListNode::Children {
                level,
                children: children?,
            }
        };
        reader.finish()?;
        Ok(node)
    }
}

impl ListChild {
    fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        let child = ListChild {
            length: reader.varint()?,
            id: reader.chunk_id()?,
        };
        reader.require(child.length > 0, "a part of it is empty")?;
        Ok(child)
    }
}
