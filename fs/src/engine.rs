//! Everything that runs while a drive is open: archive, log, namespace and the threads behind them.

use std::sync::Arc;

use crate::filesystem::Filesystem;

/// How a drive is opened.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// The user and group that own `/`, `snapshots/` and a `current/` that is new.
    pub owner: Option<(u32, u32)>,
    /// Bytes of file content held in memory at the most; 96 MiB unless given.
    pub memory_bytes: Option<u64>,
    /// Whether snapshots are taken by themselves; as the settings say unless given.
    pub automatic_snapshots: Option<bool>,
}

/// An open drive. One at a time for each device: the home's lock is held until it is dropped.
pub struct Engine {
    /// The drive's calls.
    pub filesystem: Arc<Filesystem>,
}
