//! References to trees and the nodes that they are made of: `docs/format/trees.md`.

use holdfast_crypto::ChunkId;

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
