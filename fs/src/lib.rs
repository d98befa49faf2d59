//! Holdfast's client: everything that may see plaintext.
//!
//! The modules stand in the order of a byte's route, from the kernel's request to the store.

pub mod cache;
pub mod chunk;
pub mod chunks;
pub mod cli;
pub mod compress;
pub mod content;
pub mod control;
pub mod encrypt;
pub mod daemon;
pub mod engine;
pub mod filesystem;
pub mod format;
pub mod index;
pub mod list;
pub mod log;
pub mod logging;
pub mod mountpoint;
pub mod rechunk;
pub mod tree;
pub mod archive;
pub mod blocking;
pub mod fuse;
pub mod home;
pub mod keychain;
pub mod packer;
pub mod read_path;
pub(crate) mod refs_memo;
pub mod restore;
pub mod snapshots;
pub mod store_commit;
pub mod walk;
pub mod autosnapshot;
pub mod commit;
pub mod namespace;
pub mod replay;
pub mod snapshots_view;
pub mod write_path;
pub mod diff;
pub mod check;
pub mod backup;
