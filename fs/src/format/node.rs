//! References to trees and the nodes that they are made of: `docs/format/trees.md`.

use std::cmp::Ordering;

use holdfast_crypto::ChunkId;

use super::codec::{Decoded, Reader, Writer};
use super::entry::{Entry, FileNo, LinkedInode};
use super::list::MAX_LEVEL;

/// What is below a node, so that nobody has to walk it to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries of this folder (or of this link table).
    pub entries: u64,
    /// Folders among them.
    pub directories: u64,
    /// Names of files (all that are not folders) in this folder and in every folder below it.
    pub files: u64,
    /// Sizes of the files in this folder and below, linked files left out (they are in the link table's).
    pub bytes: u64,
}

impl Totals {
    /// The totals of two parts of one tree. Saturates: an archive may lie, sums must not panic.
    pub fn plus(self, other: Totals) -> Totals {
        Totals {
            entries: self.entries.saturating_add(other.entries),
            directories: self.directories.saturating_add(other.directories),
            files: self.files.saturating_add(other.files),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// The root node of a tree: of a folder, or of a commit's link table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeRef {
    /// 0 when the node holds the entries themselves.
    pub level: u8,
    /// The node, a chunk of kind tree.
    pub id: ChunkId,
    /// Sums over the whole tree.
    pub totals: Totals,
}

impl Totals {
    /// Four varints.
    pub fn write(&self, writer: &mut Writer) {
        for number in [self.entries, self.directories, self.files, self.bytes] {
            writer.varint(number);
        }
    }

    /// Reads what [`Totals::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        Ok(Totals {
            entries: reader.varint()?,
            directories: reader.varint()?,
            files: reader.varint()?,
            bytes: reader.varint()?,
        })
    }
}

impl TreeRef {
    /// A reference's bytes.
    pub fn write(&self, writer: &mut Writer) {
        writer.u8(self.level);
        writer.chunk_id(&self.id);
        self.totals.write(writer);
    }

    /// Reads what [`TreeRef::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        let (level, id, totals) = (reader.u8()?, reader.chunk_id()?, Totals::read(reader)?);
        reader.require(level <= MAX_LEVEL, "a tree is too deep")?;
        Ok(TreeRef { level, id, totals })
    }
}

/// What stands in the leaves of a tree: sorted by position, then by name, each pair once.
pub trait Item: Clone + PartialEq + Send + Sync {
    /// The first byte of a tree's nodes.
    const TREE: u8;
    /// The fewest bytes that an item can have.
    const LEAST_BYTES: usize;

    /// Where it stands: the keyed hash of a name, or a file number.
    fn position(&self) -> u64;
    /// Tells items of one position apart.
    fn name(&self) -> &[u8];
    /// What it adds to the totals of its tree.
    fn totals(&self) -> Totals;
    /// Bits that decide whether a node ends after the items of this position: as good as random,
    /// and a function of the position only.
    fn boundary_bits(position: u64) -> u64;
    /// Its bytes.
    fn write(&self, writer: &mut Writer);
    /// Reads what [`Item::write`] wrote.
    fn read(reader: &mut Reader<'_>) -> Decoded<Self>;
}

/// An entry of a folder and the keyed hash of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashedEntry {
    /// `NameKey::hash` of the name, under the epoch of the id of the node that it stands in.
    pub hash: u64,
    /// The entry.
    pub entry: Entry,
}

impl Item for HashedEntry {
    const TREE: u8 = 1;
    const LEAST_BYTES: usize = 13;

    fn position(&self) -> u64 {
        self.hash
    }

    fn name(&self) -> &[u8] {
        &self.entry.name
    }

    fn totals(&self) -> Totals {
        self.entry.totals()
    }

    fn boundary_bits(position: u64) -> u64 {
        position
    }

    fn write(&self, writer: &mut Writer) {
        writer.u64(self.hash);
        self.entry.write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        Ok(HashedEntry {
            hash: reader.u64()?,
            entry: Entry::read(reader)?,
        })
    }
}

impl Item for LinkedInode {
    const TREE: u8 = 2;
    const LEAST_BYTES: usize = 20;

    fn position(&self) -> FileNo {
        self.inode.file
    }

    fn name(&self) -> &[u8] {
        &[]
    }

    fn totals(&self) -> Totals {
        LinkedInode::totals(self)
    }

    /// File numbers are a counter, so they are mixed (the finalizer of SplitMix64).
    fn boundary_bits(position: u64) -> u64 {
        let mixed = (position ^ position >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn write(&self, writer: &mut Writer) {
        LinkedInode::write(self, writer);
    }

    fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        LinkedInode::read(reader)
    }
}

/// A part of a tree, as a node above it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeChild {
    /// Position of its last item.
    pub last: u64,
    /// Its node.
    pub id: ChunkId,
    /// Sums over it.
    pub totals: Totals,
}

/// A node of a tree: the plaintext of a chunk of kind tree. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeNode<T> {
    /// Level 0: ascending by position, then name; items of one position are all in one node.
    Items(Vec<T>),
    /// Above it.
    Children {
        /// 1 to [`MAX_LEVEL`].
        level: u8,
        /// Nodes of the level below, by strictly ascending `last`.
        children: Vec<TreeChild>,
    },
}

impl<T: Item> TreeNode<T> {
    /// The node's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u8(T::TREE);
        match self {
            TreeNode::Items(items) => {
                writer.u8(0);
                writer.varint(items.len() as u64);
                items.iter().for_each(|item| item.write(&mut writer));
            }
            TreeNode::Children { level, children } => {
                writer.u8(*level);
                writer.varint(children.len() as u64);
                children.iter().for_each(|child| child.write(&mut writer));
            }
        }
        writer.finish()
    }

    /// Reads what [`TreeNode::encode`] made.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let (mut reader, level) = begin::<T>(bytes)?;
        let node = if level == 0 {
            TreeNode::Items(read_items(&mut reader)?)
        } else {
            TreeNode::Children {
                level,
                children: read_children(&mut reader)?,
            }
        };
        reader.finish()?;
        Ok(node)
    }

    /// Reads no further than to the item with this position and name, and keeps no other: a listing needs all of
    /// a node, who opens one file does not.
    pub fn look_up(bytes: &[u8], position: u64, name: &[u8]) -> Decoded<LookedUp<T>> {
        let (mut reader, level) = begin::<T>(bytes)?;
        if level > 0 {
            let children = read_children(&mut reader)?;
            reader.finish()?;
            return Ok(LookedUp::Children { level, children });
        }
        let count = reader.count(T::LEAST_BYTES)?;
        reader.require(count > 0, "it is empty")?;
        for _ in 0..count {
            let item = T::read(&mut reader)?;
            match (item.position(), item.name()).cmp(&(position, name)) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(LookedUp::Item(Some(item))),
                Ordering::Greater => break,
            }
        }
        Ok(LookedUp::Item(None))
    }
}

/// What a node has of one item.
#[derive(Debug, PartialEq, Eq)]
pub enum LookedUp<T> {
    /// Level 0: the item, if it is there.
    Item(Option<T>),
    /// Above it, as in a [`TreeNode`].
    Children {
        /// 1 to [`MAX_LEVEL`].
        level: u8,
        /// Nodes of the level below.
        children: Vec<TreeChild>,
    },
}

/// A node up to its level.
fn begin<T: Item>(bytes: &[u8]) -> Decoded<(Reader<'_>, u8)> {
    let mut reader = Reader::new("tree node", bytes);
    let tree = reader.u8()?;
    reader.require(tree == T::TREE, "it belongs to another kind of tree")?;
    let level = reader.u8()?;
    reader.require(level <= MAX_LEVEL, "it is too deep")?;
    Ok((reader, level))
}

fn read_items<T: Item>(reader: &mut Reader<'_>) -> Decoded<Vec<T>> {
    let count = reader.count(T::LEAST_BYTES)?;
    reader.require(count > 0, "it is empty")?;
    // Grows as items come: they are larger in memory than their fewest bytes.
    let mut items: Vec<T> = Vec::new();
    for _ in 0..count {
        let item = T::read(reader)?;
        let ascends = items
            .last()
            .is_none_or(|last| (last.position(), last.name()) < (item.position(), item.name()));
        reader.require(ascends, "its items are out of order")?;
        items.push(item);
    }
    Ok(items)
}

fn read_children(reader: &mut Reader<'_>) -> Decoded<Vec<TreeChild>> {
    let count = reader.count(48)?;
    reader.require(count > 0, "it is empty")?;
    let mut children: Vec<TreeChild> = Vec::with_capacity(count);
    for _ in 0..count {
        let child = TreeChild::read(reader)?;
        let ascends = children
            .last()
            .is_none_or(|before| before.last < child.last);
        reader.require(ascends, "its parts are out of order")?;
        children.push(child);
    }
    Ok(children)
}

impl TreeChild {
    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.u64(self.last);
        writer.chunk_id(&self.id);
        self.totals.write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        Ok(TreeChild {
            last: reader.u64()?,
            id: reader.chunk_id()?,
            totals: Totals::read(reader)?,
        })
    }
}
