//! How the drive is doing.

use std::collections::VecDeque;

use super::*;

/// The rate is told over so long.
const SPAN: Duration = Duration::from_secs(10);

/// What was stored when, lately.
#[derive(Default)]
pub(super) struct Rate {
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    fn per_second(&mut self, now: Instant, total: u64) -> u64 {
        self.samples.push_back((now, total));
        while self.samples.len() > 2 && now.duration_since(self.samples[0].0) > SPAN {
            self.samples.pop_front();
        }
        let (first, before) = self.samples[0];
        let seconds = now.duration_since(first).as_secs_f64();
        if seconds < 0.1 {
            0
        } else {
            (total.saturating_sub(before) as f64 / seconds) as u64
        }
    }
}

impl Filesystem {
    /// How the drive is doing; never waits for the store.
    pub fn status(&self) -> Status {
        let (changed_files, known_inodes, unchunked_bytes) = {
            let namespace = self.namespace.lock();
            (
                namespace.changed_files() as u64,
                (namespace.known.count() + self.snapshots.known_count()) as u64,
                namespace.unchunked_bytes(),
            )
        };
        let packer = self.archive.packer();
        let stored_bytes = packer.queue().stored_bytes;
        let usage = self.log.usage();
        let (committing, trouble) = self.commits.progress();
        let store = self.archive.object_store();
        let refused = packer.trouble().or_else(|| store.trouble());
        let trouble = refused.map(|error| error.to_string()).or(trouble);
        let last = self.last_snapshot();
        let (cache_memory_bytes, cache_disk_bytes) = self.archive.cached_bytes();
        Status {
            device: self.archive.device_record().name,
            store: store.location(),
            read_only: self.log.read_only_reason().map(|why| why.to_string()),
            queued_bytes: self.write.queued_bytes() + unchunked_bytes,
            changed_files,
            bytes_per_second: self.rate.lock().per_second(Instant::now(), stored_bytes),
            stored_bytes,
            pending_snapshots: self.commits.pending(),
            committing,
            trouble,
            last_snapshot: last.as_ref().map(|last| last.0.clone()),
            last_snapshot_time: last.map(|last| last.1.seconds),
            log_bytes: usage.bytes,
            log_limit_bytes: usage.limit,
            memory_bytes: self.write.memory_bytes(),
            cache_memory_bytes,
            cache_disk_bytes,
            open_files: self.handles.lock().len() as u64,
            known_inodes,
        }
    }

    fn last_snapshot(&self) -> Option<(String, crate::format::Time)> {
        let listed = self
            .snapshots
            .newest_of_this_device()
            .map(|newest| (newest.folder, newest.time));
        // What was stored since the list was made is newer.
        self.commits.last().or(listed)
    }
}
