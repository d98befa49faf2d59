//! The thread that syncs the log every 32 MiB, or one second after the first unsynced record.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::sync::Urgency;
use super::{Inner, LogError};

const SYNC_AFTER: Duration = Duration::from_secs(1);

pub(super) struct BackgroundSync {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    dirty: bool,
    now: bool,
    stop: bool,
}

impl BackgroundSync {
    pub(super) fn start(log: Arc<Inner>) -> Result<Self, LogError> {
        let shared = Arc::new(Shared::default());
        let folder = log.folder.clone();
        let theirs = shared.clone();
        let thread = thread::Builder::new()
            .name("log-sync".into())
            .spawn(move || theirs.run(&log))
            .map_err(|error: io::Error| LogError::io("start a thread for", &folder, error))?;
        Ok(BackgroundSync {
            shared,
            thread: Some(thread),
        })
    }

    pub(super) fn wrote(&self, urgency: Urgency) {
        if urgency == Urgency::None {
            return;
        }
        let mut state = self.shared.state.lock();
        state.dirty = true;
        state.now |= urgency == Urgency::Now;
        self.shared.changed.notify_one();
    }
}

impl Drop for BackgroundSync {
    fn drop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, log: &Inner) {
        while self.wait_until_due() {
            // A failure has made the log read-only and was logged there.
            if log.sync.unsynced_bytes() > 0 {
                let last = log.tail.lock().next_sequence - 1;
                let _ = log.sync_to(last);
            }
            if let Err(error) = log.refresh_limit() {
                tracing::warn!("{error}");
            }
        }
    }

    /// False when the log is being closed.
    fn wait_until_due(&self) -> bool {
        let mut state = self.state.lock();
        while !state.dirty && !state.stop {
            self.changed.wait(&mut state);
        }
        while !state.now && !state.stop {
            if self.changed.wait_for(&mut state, SYNC_AFTER).timed_out() {
                break;
            }
        }
        state.dirty = false;
        state.now = false;
        !state.stop
    }
}
