//! Limits what is transferred in a second.
//!
//! Here the limit holds on average, which is enough for a folder: an object goes out at the speed of
//! the disk, and then nothing does until its share of time is over. Downloads are charged when their
//! size is known, to whoever comes next. [`S3Store`](super::S3Store) keeps to the same buckets within
//! an object too: on a network the line is shared with others.

use std::{num::NonZeroU64, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::{Capabilities, Listed, ObjectStore, StoreError, Stored};
use crate::{
    layout::{Folder, ObjectName},
    object::Object,
};

/// A store whose transfers keep to limits.
pub struct Throttle<S: ?Sized> {
    up: Option<Arc<TokenBucket>>,
    down: Option<Arc<TokenBucket>>,
    inner: Arc<S>,
}

impl<S: ObjectStore + ?Sized> Throttle<S> {
    /// With these limits; `None` is unlimited. Stores may share a bucket.
    pub fn new(
        inner: Arc<S>,
        up: Option<Arc<TokenBucket>>,
        down: Option<Arc<TokenBucket>>,
    ) -> Self {
        Self { up, down, inner }
    }
}

/// Bytes per second, shared by whoever holds it.
pub struct TokenBucket {
    bytes_per_second: NonZeroU64,
    /// When all that was taken so far is paid for.
    paid: Mutex<Instant>,
}

impl TokenBucket {
    /// So many bytes a second; zero is no limit.
    pub fn new(bytes_per_second: u64) -> Option<Arc<Self>> {
        let bytes_per_second = NonZeroU64::new(bytes_per_second)?;
        Some(Arc::new(Self {
            bytes_per_second,
            paid: Mutex::new(Instant::now()),
        }))
    }

    /// Waits until what was taken before is paid for, then takes `bytes`.
    pub async fn take(&self, bytes: u64) {
        let turn = self.charge(bytes);
        sleep_until(turn).await;
    }

    /// The limit.
    pub(super) fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second.get()
    }

    /// How long so many bytes take.
    pub(super) fn span(&self, bytes: u64) -> Duration {
        // A day at the most: a wrong size must not stop a drive for ever.
        Duration::from_secs_f64((bytes as f64 / self.bytes_per_second() as f64).min(86_400.0))
    }

    /// Takes `bytes`; gives the moment at which they are due.
    fn charge(&self, bytes: u64) -> Instant {
        let mut paid = self.paid.lock();
        let turn = (*paid).max(Instant::now());
        *paid = turn + self.span(bytes);
        turn
    }
}

async fn take(bucket: &Option<Arc<TokenBucket>>, bytes: u64) {
    if let Some(bucket) = bucket {
        bucket.take(bytes).await;
    }
}

#[async_trait]
impl<S: ObjectStore + ?Sized> ObjectStore for Throttle<S> {
    async fn put_new(&self, object: &Object) -> Result<Stored, StoreError> {
        take(&self.up, object.len()).await;
        self.inner.put_new(object).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        take(&self.down, 0).await;
        let bytes = self.inner.get(name).await?;
        if let Some(down) = &self.down {
            down.charge(bytes.len() as u64);
        }
        Ok(bytes)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        take(&self.down, range.end.saturating_sub(range.start)).await;
        self.inner.get_range(name, range).await
    }

    async fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(folder).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.delete(name).await
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn trouble(&self) -> Option<StoreError> {
        self.inner.trouble()
    }

    async fn probe(&self) -> Result<Capabilities, StoreError> {
        self.inner.probe().await
    }
}

#[cfg(test)]
mod tests;
