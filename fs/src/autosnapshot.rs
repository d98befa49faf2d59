//! Snapshots that nobody asks for: every quarter of an hour while something changes, and at the end.
//! What becomes of old ones is the retention's.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use holdfast_backend::retention::{Candidate, decide};

use crate::archive::{Archive, ArchiveError};
use crate::filesystem::{Filesystem, FsResult, Leftover, SnapshotTicket, StoredSnapshot, now};
use crate::namespace::Reason;
use crate::namespace::operation::Moment;

/// How often the thread looks.
const TICK: Duration = Duration::from_millis(250);
/// Old snapshots are looked at that often, at the most.
const RETENTION_EVERY: Duration = Duration::from_secs(600);

impl Filesystem {
    /// Fixes the moment of a snapshot and returns; [`Filesystem::wait_snapshot`] waits for the store.
    pub fn begin_snapshot(&self, label: Option<&str>) -> FsResult<SnapshotTicket> {
        if let Some(label) = label {
            crate::store_commit::check_label(label)
                .map_err(|_| crate::filesystem::FsError::Invalid)?;
        }
        let ticket = self.commits.new_ticket();
        let time = now();
        let moment = Moment {
            time,
            label: label.map(|label| label.as_bytes().to_vec()),
            ticket: ticket.0,
        };
        let name = label.map_or_else(|| crate::snapshots::time_name(time), str::to_owned);
        self.commits.requested(ticket, name);
        if let Err(error) = self.freeze(Reason::Requested(moment)) {
            self.commits.given_up(ticket);
            return Err(error);
        }
        if let Some(label) = label {
            self.snapshots.requested(label, ticket.0);
        }
        Ok(ticket)
    }

    /// Waits until a snapshot is stored; `TimedOut` at the deadline (it goes on).
    pub fn wait_snapshot(
        &self,
        ticket: SnapshotTicket,
        deadline: Option<Instant>,
    ) -> FsResult<StoredSnapshot> {
        self.commits.wait_for(ticket, deadline)
    }

    /// The thread that takes snapshots and gives old ones up.
    pub(crate) fn run_snapshots(&self) {
        let mut last_snapshot = Instant::now();
        let mut last_retention: Option<Instant> = None;
        while !self.commits.has_ended() {
            if self.snapshots.wants_refresh()
                && let Err(error) = self.refresh_snapshots()
            {
                tracing::debug!(%error, "cannot list the snapshots");
            }
            if self
                .automatic
                .is_some_and(|interval| last_snapshot.elapsed() >= interval)
            {
                last_snapshot = Instant::now();
                self.snapshot_if_changed();
            }
            let due = last_retention.is_none_or(|at| at.elapsed() >= RETENTION_EVERY);
            if due && self.commits.last().is_some() {
                last_retention = Some(Instant::now());
                if let Err(error) = give_up_old(&self.archive) {
                    tracing::debug!(%error, "old snapshots are not given up yet");
                }
            }
            self.commits.sleep(TICK);
        }
    }

    /// Freezes an automatic snapshot if something has changed since the newest snapshot.
    fn snapshot_if_changed(&self) {
        let changed = self.namespace.lock().changed_files() > 0 || self.commits.has_checkpoint();
        if changed && let Err(error) = self.freeze(Reason::Automatic) {
            tracing::warn!(%error, "no automatic snapshot was taken");
        }
    }

    /// Ends: takes the last automatic snapshot, waits at most `drain` for the store (`None`: not
    /// at all), syncs the log. What is left is in the log and goes on at the next mount.
    pub fn shutdown(&self, drain: Option<Duration>) -> Leftover {
        self.log_open_files();
        if drain.is_some() {
            if self.automatic.is_some() {
                self.snapshot_if_changed();
            }
            // A span too long for the clock is no limit.
            let deadline = drain.and_then(|drain| Instant::now().checked_add(drain));
            if let Err(error) = self.flush_all(deadline) {
                tracing::info!(%error, "not everything is in the store");
            }
        }
        let leftover = self.leftover();
        self.work.end();
        self.commits.end();
        if let Err(error) = self.log.sync() {
            tracing::error!(%error, "the log is not synced");
        }
        leftover
    }

    fn leftover(&self) -> Leftover {
        let (files, unchunked_bytes) = {
            let namespace = self.namespace.lock();
            (
                namespace.changed_files() as u64,
                namespace.unchunked_bytes(),
            )
        };
        let bytes = if files == 0 {
            0
        } else {
            self.write.queued_bytes() + unchunked_bytes
        };
        Leftover {
            bytes,
            files,
            snapshots: self.commits.pending().len() as u64,
        }
    }
}

/// Gives up checkpoints that nobody needs, and snapshots that the settings' retention drops.
fn give_up_old(archive: &Archive) -> Result<(), ArchiveError> {
    let mut dropped: BTreeSet<_> = archive.superseded_checkpoints()?;
    let settings = archive.settings();
    // Settings that cannot be understood are refused when they are read.
    if let Some(policy) = settings
        .policy()
        .ok()
        .filter(|_| settings.retention.automatic)
    {
        let device = archive.device_record().number;
        let candidates: Vec<_> = archive
            .snapshots()?
            .into_iter()
            .filter(|snapshot| snapshot.device_number == device)
            .map(|snapshot| Candidate {
                time: snapshot.time.seconds,
                labelled: snapshot.label.is_some() || snapshot.pinned,
                id: snapshot.name,
            })
            .collect();
        let decided = decide(&policy, now().seconds, &candidates);
        // Where clocks went wrong nothing is dropped without being asked for.
        if let Ok(decided) = decided.refuse_implausible() {
            dropped.extend(decided.forgotten().map(|decision| decision.id));
        }
    }
    archive.forget(&dropped)
}
