//! Tells a slow store from a silent one.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{Duration, Instant};

/// When bytes last moved between a store and us, in either direction, for any request.
///
/// It says nothing about one request: a store's own time limits end one that hangs among others.
pub struct Activity {
    since: Instant,
    /// Milliseconds after `since`, and one: zero is never.
    moved: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            moved: AtomicU64::new(0),
        }
    }
}

impl Activity {
    /// Bytes have moved.
    pub(super) fn moved(&self) {
        let millis = self.since.elapsed().as_millis() as u64;
        self.moved.store(millis + 1, Ordering::Relaxed);
    }

    /// When they last did.
    pub(super) fn last_moved(&self) -> Option<Instant> {
        let millis = self.moved.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.since + Duration::from_millis(millis))
    }
}
