//! A store with a clock that the test sets, where every operation is a point at which others may go on.

use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_backend::layout::{Folder, ObjectName};
use holdfast_backend::object::Object;
use holdfast_backend::store::{Capabilities, Listed, MemoryStore, ObjectStore, StoreError, Stored};

pub struct TimedStore {
    pub memory: MemoryStore,
    now: AtomicI64,
    /// By how many seconds the store's clock is ahead.
    pub ahead: AtomicI64,
}

impl TimedStore {
    pub fn new(now: i64) -> Self {
        TimedStore {
            memory: MemoryStore::new(),
            now: AtomicI64::new(now),
            ahead: AtomicI64::new(0),
        }
    }

    pub fn now(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }

    pub fn wait(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
    }

    fn stored_at(&self) -> SystemTime {
        let seconds = self.now() + self.ahead.load(Ordering::Relaxed);
        UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).expect("after 1970"))
    }
}

/// Lets every other task go on once.
struct Turn(bool);

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[async_trait]
impl ObjectStore for TimedStore {
    async fn put_new(&self, object: &Object) -> Result<Stored, StoreError> {
        Turn(false).await;
        let stored = self.memory.put_new(object).await?;
        if stored == Stored::New {
            self.memory.set_stored_at(&object.name(), self.stored_at());
        }
        Ok(stored)
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        Turn(false).await;
        self.memory.get(name).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        Turn(false).await;
        self.memory.get_range(name, range).await
    }

    async fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        Turn(false).await;
        self.memory.list(folder).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        Turn(false).await;
        self.memory.delete(name).await
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }

    async fn probe(&self) -> Result<Capabilities, StoreError> {
        self.memory.probe().await
    }
}
