//! What the server does by itself, every few seconds: ceremonies end in time, the audit log is looked at, snapshots are taken,
//! the data key is changed, and the head of the audit log goes into the barrier.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::api::error::ApiError;
use crate::audit::{Actor, Event, Trouble};
use crate::server::{Phase, Server, Warning};
use crate::snapshots;

const EVERY: Duration = Duration::from_secs(5);
/// Lines of the audit log that a lost log could lose unnoticed are those of this time.
const HEAD_EVERY: SignedDuration = SignedDuration::from_mins(15);

/// Runs until `ended` says so.
pub async fn run(server: Arc<Server>, mut ended: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = ended.wait_for(|ended| *ended) => return,
        }
        server
            .blocking(|server| tick(server, server.clock.now()))
            .await;
    }
}

/// One round. What fails is logged where it fails, and tried again in the next one.
pub fn tick(server: &Server, now: Timestamp) {
    log("ceremonies", server.expire_ceremonies(now));
    audit_log(server);
    log("the data key", server.rotate_if_due(now));
    snapshot(server, now);
    log("the audit log's head", remember_head(server, now));
}

/// A trouble that may pass is over when a line can be written.
fn audit_log(server: &Server) {
    if let Some(Trouble::NoSpace | Trouble::Unwritable) = server.audit_trouble() {
        log(
            "the audit log",
            server.record_now(&Actor::SERVER, Event::AuditResumed),
        );
    }
}

fn snapshot(server: &Server, now: Timestamp) {
    let hours = server.config.snapshots.every_hours;
    if hours == 0 || server.phase() != Phase::Unsealed {
        return;
    }
    let every = SignedDuration::from_hours(i64::try_from(hours).unwrap_or(i64::MAX / 3_600));
    let folder = server.config.snapshot_folder();
    let newest = snapshots::newest(&folder);
    let age = newest.map(|newest| now.duration_since(newest));
    if age.is_none_or(|age| age >= every) {
        if let Err(error) = snapshots::save_scheduled(server, now) {
            tracing::error!(%error, "no snapshot could be taken");
        } else {
            return;
        }
    }
    // Without any snapshot we are here only because none could be taken.
    let overdue = age.is_none_or(|age| age >= every.saturating_mul(2));
    if overdue && !server.warnings().contains(&Warning::SnapshotOverdue) {
        server.warn(Warning::SnapshotOverdue);
        log(
            "the snapshot",
            server.record_now(&Actor::SERVER, Event::SnapshotOverdue),
        );
    }
}

fn remember_head(server: &Server, now: Timestamp) -> Result<(), ApiError> {
    server.remember_head(now, HEAD_EVERY)
}

fn log<T>(what: &str, done: Result<T, ApiError>) {
    if let Err(error) = done {
        tracing::warn!(what, sentence = error.body().sentence, "put off");
    }
}
