//! Holdfast's client: everything that may see plaintext.
//!
//! The modules stand in the order of a byte's route, from the kernel's request to the store.

pub mod archive;
pub mod autosnapshot;
pub mod backup;
pub mod blocking;
pub mod cache;
pub mod check;
pub mod chunk;
pub mod chunks;
pub mod cli;
pub mod commit;
pub mod compact;
pub mod compress;
pub mod content;
pub mod control;
pub mod daemon;
pub mod diff;
pub mod encrypt;
pub mod engine;
pub mod filesystem;
pub mod format;
pub mod fuse;
pub mod heal;
pub mod home;
pub mod index;
pub mod keychain;
pub mod keystore;
pub mod list;
pub mod log;
pub mod logging;
pub mod memory;
pub mod mountpoint;
pub mod namespace;
pub mod packer;
pub mod read_path;
pub mod rechunk;
pub(crate) mod refs_memo;
pub mod replay;
pub mod restore;
pub mod snapshots;
pub mod snapshots_view;
pub mod store_commit;
pub mod tree;
pub mod walk;
pub mod write_path;
