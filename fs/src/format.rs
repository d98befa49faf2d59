//! The types that stand in an archive, and their bytes.
//!
//! `docs/format/` is the specification; each file here cites the page that it implements. All
//! decoders take bytes from outside: they refuse what an encoder would not have written, never
//! panic, and never allocate more than the input justifies. Everything is canonical:
//! `encode(decode(bytes)) == bytes` for every input that is accepted.

pub mod codec;
pub mod commit;
pub mod entry;
pub mod index;
pub mod keyring;
pub mod list;
pub mod node;
pub mod pack_table;

pub use codec::DecodeError;
pub use commit::{Commit, CommitKind, KeptSnapshot};
pub use entry::{
    Attributes, Body, Entry, FileKind, FileNo, Inode, LinkedInode, ROOT_FILE, Target, Time, Xattrs,
};
pub use index::{IndexBody, IndexEntry, IndexedPack};
pub use keyring::{DeviceRecord, EpochSecret, Keyring, KeyringObject};
pub use list::{ListRef, Piece};
pub use node::{HashedEntry, Totals, TreeRef};
pub use pack_table::{PackEntry, PackTable};

#[cfg(test)]
pub(crate) mod strategies;
#[cfg(test)]
mod tests;
