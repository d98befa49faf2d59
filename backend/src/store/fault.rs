//! A store that fails as stores do, by a seed: the same seed and the same requests give the same
//! failures.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{Capabilities, Listed, ObjectStore, Operation, StoreError, StoreErrorKind, Stored};
use crate::{
    layout::{Folder, ObjectName},
    object::Object,
};

/// How often what happens; each a probability for one request.
#[derive(Clone, Copy, Debug)]
pub struct FaultRates {
    /// 500, 502 or 503; nothing is done.
    pub server_error: f64,
    /// 429; nothing is done.
    pub too_many_requests: f64,
    /// The connection ends in the middle; a put is not applied.
    pub cut_off: f64,
    /// A put or delete is applied, but the answer never arrives.
    pub answer_lost: f64,
    /// A listing as it was at the last listing of that folder.
    pub stale_list: f64,
    /// The answer takes `slowness`.
    pub slow: f64,
    /// How long a slow answer takes.
    pub slowness: Duration,
}

impl FaultRates {
    /// Nothing fails.
    pub const NONE: Self = Self {
        server_error: 0.0,
        too_many_requests: 0.0,
        cut_off: 0.0,
        answer_lost: 0.0,
        stale_list: 0.0,
        slow: 0.0,
        slowness: Duration::ZERO,
    };

    /// A bad day: about one request in four fails.
    pub const MANY: Self = Self {
        server_error: 0.08,
        too_many_requests: 0.05,
        cut_off: 0.05,
        answer_lost: 0.08,
        stale_list: 0.0,
        slow: 0.05,
        slowness: Duration::from_millis(2),
    };
}

/// A store that fails at these rates.
pub struct Fault<S: ?Sized> {
    rates: FaultRates,
    enabled: AtomicBool,
    random: Mutex<StdRng>,
    last_lists: Mutex<BTreeMap<Folder, Vec<Listed>>>,
    inner: Arc<S>,
}

/// What happens to a request that is applied.
#[derive(PartialEq, Eq)]
enum Answer {
    Arrives,
    Lost,
}

impl<S: ObjectStore + ?Sized> Fault<S> {
    /// Fails from the first request on.
    pub fn new(inner: Arc<S>, seed: u64, rates: FaultRates) -> Self {
        Self {
            rates,
            enabled: AtomicBool::new(true),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            last_lists: Mutex::default(),
            inner,
        }
    }

    /// From now on nothing fails.
    pub fn heal(&self) {
        self.enabled.store(false, Ordering::Relaxed);
    }

    /// Fails again.
    pub fn resume(&self) {
        self.enabled.store(true, Ordering::Relaxed);
    }

    fn happens(&self, rate: f64) -> bool {
        self.enabled.load(Ordering::Relaxed) && self.random.lock().random_bool(rate)
    }

    async fn strike(&self, operation: Operation) -> Result<Answer, StoreError> {
        if self.happens(self.rates.slow) {
            tokio::time::sleep(self.rates.slowness).await;
        }
        if self.happens(self.rates.server_error) {
            return Err(self.error(operation, "status 503 (injected)"));
        }
        if self.happens(self.rates.too_many_requests) {
            return Err(self.error(operation, "status 429 (injected)"));
        }
        if self.happens(self.rates.cut_off) {
            return Err(self.error(operation, "connection closed (injected)"));
        }
        Ok(if self.happens(self.rates.answer_lost) {
            Answer::Lost
        } else {
            Answer::Arrives
        })
    }

    fn error(&self, operation: Operation, detail: &'static str) -> StoreError {
        StoreError::new(StoreErrorKind::Transient, operation, self.location()).detail(detail)
    }

    fn answer<T>(&self, operation: Operation, answer: Answer, value: T) -> Result<T, StoreError> {
        match answer {
            Answer::Arrives => Ok(value),
            Answer::Lost => Err(self.error(operation, "no answer (injected)")),
        }
    }
}

#[async_trait]
impl<S: ObjectStore + ?Sized> ObjectStore for Fault<S> {
    async fn put_new(&self, object: &Object) -> Result<Stored, StoreError> {
        let answer = self.strike(Operation::Put).await?;
        let stored = self.inner.put_new(object).await?;
        self.answer(Operation::Put, answer, stored)
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let answer = self.strike(Operation::Get).await?;
        let bytes = self.inner.get(name).await?;
        self.answer(Operation::Get, answer, bytes)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let answer = self.strike(Operation::GetRange).await?;
        let bytes = self.inner.get_range(name, range).await?;
        self.answer(Operation::GetRange, answer, bytes)
    }

    async fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let answer = self.strike(Operation::List).await?;
        if self.happens(self.rates.stale_list)
            && let Some(stale) = self.last_lists.lock().get(&folder)
        {
            return Ok(stale.clone());
        }
        let listed = self.inner.list(folder).await?;
        if self.rates.stale_list > 0.0 {
            self.last_lists.lock().insert(folder, listed.clone());
        }
        self.answer(Operation::List, answer, listed)
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let answer = self.strike(Operation::Delete).await?;
        self.inner.delete(name).await?;
        self.answer(Operation::Delete, answer, ())
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    async fn probe(&self) -> Result<Capabilities, StoreError> {
        let answer = self.strike(Operation::Probe).await?;
        let capabilities = self.inner.probe().await?;
        self.answer(Operation::Probe, answer, capabilities)
    }
}

#[cfg(test)]
mod tests;
