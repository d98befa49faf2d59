//! Keeps requests from a store that does not answer.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Whether requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// As usual.
    Closed,
    /// None: the last ones failed.
    Open,
    /// One, to see whether the store is back.
    HalfOpen,
}

/// Counts failures in a row, of all requests to one store.
pub struct Breaker {
    failures: u32,
    pause: Duration,
    inside: Mutex<Inside>,
}

enum Inside {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen,
}

impl Breaker {
    /// Opens after `failures` in a row, for `pause`.
    pub(super) fn new(failures: u32, pause: Duration) -> Self {
        Self {
            failures,
            pause,
            inside: Mutex::new(Inside::Closed { failures: 0 }),
        }
    }

    /// As it is now.
    pub fn state(&self) -> BreakerState {
        match *self.inside.lock() {
            Inside::Closed { .. } => BreakerState::Closed,
            Inside::Open { .. } => BreakerState::Open,
            Inside::HalfOpen => BreakerState::HalfOpen,
        }
    }

    /// Permission for one request, or after what time to ask again.
    pub(super) fn enter(&self) -> Result<Pass<'_>, Duration> {
        let mut inside = self.inside.lock();
        let now = Instant::now();
        match *inside {
            Inside::Closed { .. } => {}
            Inside::Open { until } if until <= now => *inside = Inside::HalfOpen,
            Inside::Open { until } => return Err(until - now),
            Inside::HalfOpen => return Err(self.pause.min(Duration::from_millis(200))),
        }
        drop(inside);
        Ok(Pass {
            breaker: self,
            told: false,
        })
    }

    fn failed(&self) {
        let mut inside = self.inside.lock();
        match &mut *inside {
            Inside::Closed { failures } if *failures + 1 < self.failures => *failures += 1,
            Inside::Open { .. } => {}
            Inside::Closed { .. } | Inside::HalfOpen => {
                tracing::warn!("the store does not answer; waiting before trying again");
                *inside = Inside::Open {
                    until: Instant::now() + self.pause,
                };
            }
        }
    }

    /// An answer from before it opened says nothing about now, but does no harm.
    fn answered(&self) {
        *self.inside.lock() = Inside::Closed { failures: 0 };
    }

    fn abandoned(&self) {
        let mut inside = self.inside.lock();
        if matches!(*inside, Inside::HalfOpen) {
            *inside = Inside::Open {
                until: Instant::now(),
            };
        }
    }
}

/// Permission for one request.
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    told: bool,
}

impl Pass<'_> {
    pub(super) fn failed(mut self) {
        self.told = true;
        self.breaker.failed();
    }

    pub(super) fn answered(mut self) {
        self.told = true;
        self.breaker.answered();
    }
}

impl Drop for Pass<'_> {
    /// The request was dropped before its answer; without this, a half-open breaker would wait for
    /// that answer for ever.
    fn drop(&mut self) {
        if !self.told {
            self.breaker.abandoned();
        }
    }
}
