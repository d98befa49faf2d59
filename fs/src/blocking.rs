//! Whether the calling thread may wait for the store, and until when.
//!
//! The kernel's requests are answered on a few threads that must never wait for the network: they
//! run with [`without_waiting`], and what is not on this computer then comes back as
//! [`crate::chunks::LoadError::WouldBlock`] before anything was changed. The same work is run
//! again on a thread of the pool under [`with_deadline`]. Both are properties of the thread, so that
//! the functions between (namespace, trees, lists) need no parameter for them.

use std::cell::Cell;
use std::time::{Duration, Instant};

thread_local! {
    static WAITING: Cell<Waiting> = const { Cell::new(Waiting::Allowed { until: None }) };
}

#[derive(Clone, Copy)]
enum Waiting {
    Forbidden,
    Allowed { until: Option<Instant> },
}

/// Whether this thread may wait for the store.
pub fn may_block() -> bool {
    !matches!(WAITING.get(), Waiting::Forbidden)
}

/// The moment at which waiting for the store has to end.
pub fn deadline() -> Option<Instant> {
    match WAITING.get() {
        Waiting::Allowed { until } => until,
        Waiting::Forbidden => None,
    }
}

/// What is left until the deadline; `None` where there is no deadline, zero when it has passed.
pub fn time_left() -> Option<Duration> {
    deadline().map(|until| until.saturating_duration_since(Instant::now()))
}

/// Runs `work` on this thread without ever waiting for the store.
pub fn without_waiting<T>(work: impl FnOnce() -> T) -> T {
    within(Waiting::Forbidden, work)
}

/// Runs `work` on this thread; each wait for the store ends at `until`.
pub fn with_deadline<T>(until: Instant, work: impl FnOnce() -> T) -> T {
    within(Waiting::Allowed { until: Some(until) }, work)
}

fn within<T>(waiting: Waiting, work: impl FnOnce() -> T) -> T {
    struct Restore(Waiting);
    impl Drop for Restore {
        fn drop(&mut self) {
            WAITING.set(self.0);
        }
    }
    let _restore = Restore(WAITING.replace(waiting));
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_restores_what_was_before() {
        assert!(may_block() && deadline().is_none());
        let until = Instant::now() + Duration::from_secs(5);
        with_deadline(until, || {
            assert_eq!(deadline(), Some(until));
            without_waiting(|| assert!(!may_block()));
            assert!(may_block());
        });
        assert!(may_block() && deadline().is_none());
    }
}
