//! Who waits for which commit, and how the commits are doing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::archive::Archive;
use crate::filesystem::{FsError, FsResult, SnapshotTicket, StoredSnapshot};
use crate::format::{CommitKind, Time, Totals};
use crate::namespace::Reason;

/// How often waiters look again by themselves.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// See the module.
pub struct Commits {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ended: bool,
    checkpoint: bool,
    committing: bool,
    trouble: Option<String>,
    next_ticket: u64,
    /// Requested and not stored, with the name to show.
    pending: Vec<(SnapshotTicket, String)>,
    stored: HashMap<SnapshotTicket, StoredSnapshot>,
    last: Option<(String, Time)>,
    totals: Totals,
    newest_is_checkpoint: bool,
}

impl Commits {
    /// As the archive has them.
    pub fn new(archive: &Archive) -> Self {
        let head = archive.head();
        let totals = head
            .as_ref()
            .map(|(_, commit)| commit.totals)
            .unwrap_or_default();
        let state = State {
            ended: false,
            checkpoint: false,
            committing: false,
            trouble: None,
            next_ticket: 1,
            pending: Vec::new(),
            stored: HashMap::new(),
            last: None,
            totals,
            newest_is_checkpoint: head
                .is_some_and(|(_, commit)| commit.kind == CommitKind::Checkpoint),
        };
        Commits {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Number of a new request.
    pub fn new_ticket(&self) -> SnapshotTicket {
        let mut state = self.state.lock();
        state.next_ticket += 1;
        SnapshotTicket(state.next_ticket - 1)
    }

    /// A view was frozen for a request.
    pub fn requested(&self, ticket: SnapshotTicket, name: String) {
        let mut state = self.state.lock();
        state.next_ticket = state.next_ticket.max(ticket.0 + 1);
        state.pending.push((ticket, name));
    }

    /// Names of requests that are not stored.
    pub fn pending(&self) -> Vec<String> {
        self.state
            .lock()
            .pending
            .iter()
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// The requests that are not stored.
    pub fn pending_tickets(&self) -> Vec<SnapshotTicket> {
        self.state
            .lock()
            .pending
            .iter()
            .map(|(ticket, _)| *ticket)
            .collect()
    }

    /// Whether one of these is still not stored.
    pub fn is_any_pending(&self, tickets: &[SnapshotTicket]) -> bool {
        self.state
            .lock()
            .pending
            .iter()
            .any(|(pending, _)| tickets.contains(pending))
    }

    /// A commit begins.
    pub fn started(&self) {
        self.state.lock().committing = true;
    }

    /// A commit stands.
    pub fn stored(&self, reason: &Reason, stored: StoredSnapshot, totals: Totals, time: Time) {
        let mut state = self.state.lock();
        state.totals = totals;
        state.newest_is_checkpoint = *reason == Reason::Checkpoint;
        if *reason != Reason::Checkpoint {
            state.last = Some((stored.name.clone(), time));
        }
        if let Reason::Requested(moment) = reason {
            let ticket = SnapshotTicket(moment.ticket);
            state.pending.retain(|(pending, _)| *pending != ticket);
            state.stored.insert(ticket, stored);
        }
        self.changed.notify_all();
    }

    /// The last try went well.
    pub fn went_well(&self) {
        let mut state = self.state.lock();
        (state.committing, state.trouble) = (false, None);
        self.changed.notify_all();
    }

    /// It did not.
    pub fn failed(&self, why: String) {
        let mut state = self.state.lock();
        (state.committing, state.trouble) = (false, Some(why));
    }

    /// Whether one is under way, and why the last one failed.
    pub fn progress(&self) -> (bool, Option<String>) {
        let state = self.state.lock();
        (state.committing, state.trouble.clone())
    }

    /// The newest snapshot since the mount.
    pub fn last(&self) -> Option<(String, Time)> {
        self.state.lock().last.clone()
    }

    /// Sums over the newest commit.
    pub fn totals(&self) -> Totals {
        self.state.lock().totals
    }

    /// A checkpoint is due if anything has changed.
    pub fn ask_checkpoint(&self) {
        self.state.lock().checkpoint = true;
        self.changed.notify_all();
    }

    /// Whether one was asked for since this was asked.
    pub fn take_checkpoint(&self) -> bool {
        std::mem::take(&mut self.state.lock().checkpoint)
    }

    /// Wakes the thread that commits.
    pub fn wake(&self) {
        let _state = self.state.lock();
        self.changed.notify_all();
    }

    /// The thread that commits has nothing to do.
    pub fn wait_for_work(&self) {
        let mut state = self.state.lock();
        if !state.checkpoint && !state.ended {
            self.changed.wait_for(&mut state, LOOK_AGAIN);
        }
    }

    /// Sleeps, but not over the end.
    pub fn sleep(&self, span: Duration) {
        let until = Instant::now() + span;
        let mut state = self.state.lock();
        while !state.ended && !self.changed.wait_until(&mut state, until).timed_out() {}
    }

    /// A request came to nothing.
    pub fn given_up(&self, ticket: SnapshotTicket) {
        self.state
            .lock()
            .pending
            .retain(|(pending, _)| *pending != ticket);
    }

    /// Whether the newest commit is no snapshot.
    pub fn has_checkpoint(&self) -> bool {
        self.state.lock().newest_is_checkpoint
    }

    /// Everything ends.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// Whether everything ends.
    pub fn has_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Waits for a snapshot.
    pub fn wait_for(
        &self,
        ticket: SnapshotTicket,
        deadline: Option<Instant>,
    ) -> FsResult<StoredSnapshot> {
        let mut found = None;
        self.wait_until(deadline, || {
            let state = self.state.lock();
            found = state.stored.get(&ticket).cloned();
            found.is_some() || !state.pending.iter().any(|(pending, _)| *pending == ticket)
        })?;
        found.ok_or(FsError::NotFound)
    }

    /// Waits until something holds; it is looked at whenever a commit stands.
    pub fn wait_until(
        &self,
        deadline: Option<Instant>,
        mut holds: impl FnMut() -> bool,
    ) -> FsResult<()> {
        loop {
            if holds() {
                return Ok(());
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(FsError::TimedOut);
            }
            let mut state = self.state.lock();
            if state.ended {
                return Err(FsError::ReadOnly);
            }
            let look = Instant::now() + Duration::from_millis(50);
            self.changed.wait_until(
                &mut state,
                deadline.map_or(look, |deadline| deadline.min(look)),
            );
        }
    }
}
