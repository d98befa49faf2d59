//! Counts requests and bytes, so that tests can say what an operation may cost and `status` can
//! show what was transferred.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Capabilities, Listed, ObjectStore, Operation, StoreError, Stored};
use crate::{
    layout::{Folder, ObjectName},
    object::Object,
};

/// A store that counts what is asked of the one inside.
pub struct Record<S: ?Sized> {
    counts: Mutex<Counts>,
    inner: Arc<S>,
}

/// Requests by operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    by_operation: BTreeMap<Operation, Count>,
}

/// Requests of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All requests.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// Bytes stored or loaded by those that did not.
    pub bytes: u64,
}

impl Counts {
    /// Of one operation.
    pub fn of(&self, operation: Operation) -> Count {
        self.by_operation
            .get(&operation)
            .copied()
            .unwrap_or_default()
    }

    /// Requests of all operations.
    pub fn requests(&self) -> u64 {
        self.by_operation.values().map(|count| count.requests).sum()
    }
}

impl<S: ObjectStore + ?Sized> Record<S> {
    /// Counts from zero.
    pub fn new(inner: Arc<S>) -> Self {
        Self {
            counts: Mutex::default(),
            inner,
        }
    }

    /// Since the beginning, or the last reset.
    pub fn snapshot(&self) -> Counts {
        self.counts.lock().clone()
    }

    /// Gives the counts and begins again at zero.
    pub fn reset(&self) -> Counts {
        std::mem::take(&mut *self.counts.lock())
    }

    fn count<T>(
        &self,
        operation: Operation,
        result: Result<T, StoreError>,
        bytes: impl FnOnce(&T) -> u64,
    ) -> Result<T, StoreError> {
        let mut counts = self.counts.lock();
        let count = counts.by_operation.entry(operation).or_default();
        count.requests += 1;
        match &result {
            Ok(value) => count.bytes += bytes(value),
            Err(_) => count.failed += 1,
        }
        drop(counts);
        result
    }
}

#[async_trait]
impl<S: ObjectStore + ?Sized> ObjectStore for Record<S> {
    async fn put_new(&self, object: &Object) -> Result<Stored, StoreError> {
        let result = self.inner.put_new(object).await;
        self.count(Operation::Put, result, |_| object.len())
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let result = self.inner.get(name).await;
        self.count(Operation::Get, result, |bytes| bytes.len() as u64)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let result = self.inner.get_range(name, range).await;
        self.count(Operation::GetRange, result, |bytes| bytes.len() as u64)
    }

    async fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let result = self.inner.list(folder).await;
        self.count(Operation::List, result, |_| 0)
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let result = self.inner.delete(name).await;
        self.count(Operation::Delete, result, |_| 0)
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    async fn probe(&self) -> Result<Capabilities, StoreError> {
        let result = self.inner.probe().await;
        self.count(Operation::Probe, result, |_| 0)
    }
}

#[cfg(test)]
mod tests;
