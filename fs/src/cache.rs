//! What was read stays at hand: decrypted chunks in memory, encrypted bytes on the local disk.
//!
//! Neither is the only place of anything. [`ChunkCache`] is gone with the process; an entry of
//! [`DiskCache`] that a crash or the disk has damaged is dropped and loaded again.

mod disk;
mod memory;

pub use disk::{CacheKind, DiskCache};
pub use memory::ChunkCache;
