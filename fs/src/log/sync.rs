//! Group commit: callers that wait for a sync at the same time share one.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use super::{Inner, LogError, ReadOnlyReason};

/// Bytes after which the log is synced without being asked. Bounds what an fsync waits for.
const SYNC_EVERY_BYTES: u64 = 32 << 20;

pub(super) struct GroupCommit {
    synced: AtomicU64,
    /// Appended since the last sync began.
    unsynced_bytes: AtomicU64,
    under_way: Mutex<bool>,
    finished: Condvar,
}

/// How soon the background thread should look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    None,
    FirstDirty,
    Now,
}

impl GroupCommit {
    pub(super) fn new(synced: u64) -> Self {
        GroupCommit {
            synced: AtomicU64::new(synced),
            unsynced_bytes: AtomicU64::new(0),
            under_way: Mutex::new(false),
            finished: Condvar::new(),
        }
    }

    pub(super) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    pub(super) fn unsynced_bytes(&self) -> u64 {
        self.unsynced_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn wrote(&self, bytes: u64) -> Urgency {
        let before = self.unsynced_bytes.fetch_add(bytes, Ordering::Relaxed);
        match before {
            0 => Urgency::FirstDirty,
            _ if before < SYNC_EVERY_BYTES && before + bytes >= SYNC_EVERY_BYTES => Urgency::Now,
            _ => Urgency::None,
        }
    }
}

impl Inner {
    pub(super) fn sync_to(&self, sequence: u64) -> Result<(), LogError> {
        loop {
            if self.sync.synced() >= sequence {
                return Ok(());
            }
            self.check_writable()?;
            let mut under_way = self.sync.under_way.lock();
            if *under_way {
                self.sync.finished.wait(&mut under_way);
                continue;
            }
            *under_way = true;
            drop(under_way);
            let result = self.sync_now();
            *self.sync.under_way.lock() = false;
            self.sync.finished.notify_all();
            result?;
            // Nothing more was ever appended: a sequence from the future is synced vacuously.
            if sequence > self.sync.synced() && sequence >= self.tail.lock().next_sequence {
                return Ok(());
            }
        }
    }

    /// Only one at a time.
    fn sync_now(&self) -> Result<(), LogError> {
        let mut tail = self.tail.lock();
        let target = tail.next_sequence - 1;
        let dirty = std::mem::take(&mut tail.dirty);
        let folder_dirty = std::mem::take(&mut tail.folder_dirty);
        self.sync.unsynced_bytes.store(0, Ordering::Relaxed);
        drop(tail);
        let synced = dirty
            .iter()
            .try_for_each(|(_, file)| file.sync_data())
            .and_then(|()| match folder_dirty {
                true => self.disk.sync_folder(&self.folder),
                false => Ok(()),
            });
        // Never tried again: the kernel has dropped the pages that it could not write.
        synced.map_err(|error| self.poison(ReadOnlyReason::SyncFailed(error.to_string())))?;
        self.sync.synced.store(target, Ordering::Release);
        Ok(())
    }
}
