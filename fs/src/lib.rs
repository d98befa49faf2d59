//! Holdfast's client: everything that may see plaintext.
//!
//! The modules stand in the order of a byte's route, from the kernel's request to the store.

pub mod content;
pub mod rechunk;
pub mod chunk;
pub mod cli;
pub mod compress;
pub mod encrypt;
pub mod list;
pub mod format;
pub mod chunks;
pub mod filesystem;
pub mod engine;
pub mod log;
