//! Tries again: the one place where that is decided.
//!
//! Only failures of kind [`StoreErrorKind::Transient`] are tried again, after a random time below
//! an exponentially growing bound, so that many clients do not come back at one moment. Loading,
//! listing and deleting give up at a deadline, because somebody waits for the answer. Storing goes
//! on until it succeeds, unless the policy says otherwise or the future is dropped: what is stored
//! is kept in the local log meanwhile, and repeating a store is always safe.
//!
//! A deadline is for a store that is silent: while bytes move, which [`Activity`] tells, a large object on
//! a slow line may take as long as it takes. A store that has never answered is given up sooner: then
//! an address is wrong more often than a store is down, and a person waits for the sentence.
//!
//! A breaker stands in front: after some failures in a row it opens, and for a while no request is
//! made at all; then one request goes through, and closes it or opens it again. While it is open,
//! loading fails at once and storing waits.

use std::{
    ops::Range,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::Rng as _;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Activity, Capabilities, Listed, ObjectStore, Operation, StoreError, StoreErrorKind, Stored,
    breaker::{Breaker, BreakerState, Pass},
};
use crate::{
    layout::{Folder, ObjectName},
    object::Object,
};

/// When to try again, and how long.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Bound of the first wait.
    pub first_delay: Duration,
    /// Bound of every wait.
    pub longest_delay: Duration,
    /// How long loading, listing and deleting go on while nothing moves.
    pub read_deadline: Duration,
    /// The same while the store has never answered.
    pub first_answer_deadline: Duration,
    /// How long storing goes on; `None` is for ever.
    pub put_deadline: Option<Duration>,
    /// The breaker opens after so many failures in a row.
    pub breaker_failures: u32,
    /// For how long it stays open.
    pub breaker_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(20),
            longest_delay: Duration::from_secs(60),
            read_deadline: Duration::from_secs(60),
            first_answer_deadline: Duration::from_secs(8),
            put_deadline: None,
            breaker_failures: 8,
            breaker_pause: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    /// A random wait after `failures` failures ("full jitter": Brooker, Exponential Backoff And
    /// Jitter, AWS Architecture Blog, 2015), but no shorter than an eighth of its bound.
    fn delay(&self, failures: u32) -> Duration {
        let doubled = self
            .first_delay
            .saturating_mul(1 << failures.saturating_sub(1).min(20));
        let bound = doubled.min(self.longest_delay);
        bound.mul_f64(rand::rng().random_range(0.125..=1.0))
    }
}

/// A store that tries again.
pub struct Retry<S: ?Sized> {
    policy: RetryPolicy,
    breaker: Arc<Breaker>,
    activity: Arc<Activity>,
    has_answered: AtomicBool,
    /// The last failure, until something succeeds.
    trouble: Mutex<Option<StoreError>>,
    inner: Arc<S>,
}

/// Attempts that an object on a slow line gets at least, each with a deadline of its own.
const LEAST_ATTEMPTS: u32 = 3;

/// An attempt that ends so long after its deadline was not ended by it.
const OVERTIME: Duration = Duration::from_secs(1);

/// What to do while the breaker is open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    Waits,
    FailsAtOnce,
}

impl<S: ObjectStore + ?Sized> Retry<S> {
    /// By this policy.
    pub fn new(inner: Arc<S>, policy: RetryPolicy) -> Self {
        let breaker = Breaker::new(policy.breaker_failures, policy.breaker_pause);
        Self {
            policy,
            breaker: Arc::new(breaker),
            activity: Arc::default(),
            has_answered: AtomicBool::new(false),
            trouble: Mutex::default(),
            inner,
        }
    }

    /// The same; `activity` tells when bytes move.
    pub fn watching(self, activity: Arc<Activity>) -> Self {
        Self { activity, ..self }
    }

    /// Whether requests are made at all.
    pub fn breaker_state(&self) -> BreakerState {
        self.breaker.state()
    }

    /// The breaker, to be watched after the store went into other wrappers.
    pub fn breaker(&self) -> Arc<Breaker> {
        Arc::clone(&self.breaker)
    }

    async fn read<'a, T>(
        &'a self,
        operation: Operation,
        attempt: impl Fn() -> BoxFuture<'a, Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + self.patience();
        self.until(operation, Some(deadline), Patience::FailsAtOnce, attempt)
            .await
    }

    /// How long somebody who reads waits while nothing moves.
    fn patience(&self) -> Duration {
        let RetryPolicy {
            read_deadline,
            first_answer_deadline,
            ..
        } = self.policy;
        match self.has_answered.load(Ordering::Relaxed) {
            true => read_deadline,
            false => first_answer_deadline.min(read_deadline),
        }
    }

    async fn until<'a, T>(
        &'a self,
        operation: Operation,
        mut deadline: Option<Instant>,
        patience: Patience,
        attempt: impl Fn() -> BoxFuture<'a, Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let mut failures = 0;
        let mut last: Option<StoreError> = None;
        loop {
            let wait = match self.breaker.enter() {
                Ok(pass) => {
                    let error = match self.attempt(operation, deadline, pass, &attempt).await {
                        Err(error) if error.kind() == StoreErrorKind::Transient => error,
                        result => return result,
                    };
                    failures += 1;
                    let wait = self.policy.delay(failures);
                    let now = Instant::now();
                    let moved_on = deadline.is_some_and(|until| until + OVERTIME < now);
                    if failures < LEAST_ATTEMPTS && moved_on {
                        // It went on behind its deadline: it was moving, and was cut off.
                        deadline = Some(now + self.patience());
                    }
                    if deadline.is_some_and(|deadline| Instant::now() + wait >= deadline) {
                        return Err(error);
                    }
                    tracing::debug!(%error, failures, "trying again");
                    last = Some(error);
                    wait
                }
                Err(wait) => {
                    let too_late =
                        deadline.is_some_and(|deadline| Instant::now() + wait >= deadline);
                    if patience == Patience::FailsAtOnce || too_late {
                        let silent = || self.error(operation, "it has not answered for some time");
                        return Err(last.unwrap_or_else(silent));
                    }
                    wait
                }
            };
            sleep(wait).await;
        }
    }

    async fn attempt<'a, T>(
        &'a self,
        operation: Operation,
        deadline: Option<Instant>,
        pass: Pass<'_>,
        attempt: &(impl Fn() -> BoxFuture<'a, Result<T, StoreError>> + Send),
    ) -> Result<T, StoreError> {
        let result = match deadline {
            None => attempt().await,
            Some(deadline) => match self.while_moving(deadline, attempt()).await {
                Some(result) => result,
                None => Err(self.error(operation, "it did not answer in time; try again later")),
            },
        };
        match &result {
            Err(error) if error.kind() == StoreErrorKind::Transient => {
                *self.trouble.lock() = Some(error.clone());
                pass.failed();
            }
            _ => {
                *self.trouble.lock() = None;
                self.has_answered.store(true, Ordering::Relaxed);
                pass.answered();
            }
        }
        result
    }

    /// Waits until `deadline`, and then for as long as something moves.
    async fn while_moving<T>(&self, deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut until = deadline;
        loop {
            if let Ok(result) = timeout_at(until, &mut work).await {
                return Some(result);
            }
            until = self.activity.last_moved()? + self.patience();
            if until <= Instant::now() {
                return None;
            }
        }
    }

    fn error(&self, operation: Operation, detail: &'static str) -> StoreError {
        StoreError::new(StoreErrorKind::Transient, operation, self.location()).detail(detail)
    }
}

#[async_trait]
impl<S: ObjectStore + ?Sized> ObjectStore for Retry<S> {
    async fn put_new(&self, object: &Object) -> Result<Stored, StoreError> {
        let deadline = self
            .policy
            .put_deadline
            .map(|deadline| Instant::now() + deadline);
        // Shares the bytes; lets the attempts outlive no borrow but that of the store.
        let object = object.clone();
        self.until(Operation::Put, deadline, Patience::Waits, || {
            let object = object.clone();
            Box::pin(async move { self.inner.put_new(&object).await })
        })
        .await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let name = *name;
        self.read(Operation::Get, || {
            Box::pin(async move { self.inner.get(&name).await })
        })
        .await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let name = *name;
        self.read(Operation::GetRange, || {
            let range = range.clone();
            Box::pin(async move { self.inner.get_range(&name, range).await })
        })
        .await
    }

    async fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        self.read(Operation::List, || self.inner.list(folder)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let name = *name;
        self.read(Operation::Delete, || {
            Box::pin(async move { self.inner.delete(&name).await })
        })
        .await
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn trouble(&self) -> Option<StoreError> {
        self.trouble.lock().clone()
    }

    async fn probe(&self) -> Result<Capabilities, StoreError> {
        self.read(Operation::Probe, || self.inner.probe()).await
    }
}

#[cfg(test)]
mod tests;
