//! A store that is reached by grants: somebody else has the credentials, and allows single requests for a few minutes.
//!
//! ```text
//! put, get ──▶ wish ──▶ asking (many wishes, one call) ──▶ grant ──▶ request to the store
//! list     ──▶ source
//! ```
//!
//! Grants for loading are kept until shortly before they end, since an object is mostly loaded in pieces; one for storing is used once.
//! Storing does not wait for anything but its own grant, so the next grants are asked for while objects are on their way. Nothing is
//! deleted: that is for whoever has the credentials. What the store says is believed no more than elsewhere: names are checked.
//!
//! If we die, nothing is lost: a grant that was not used ends.

mod asking;
mod request;
mod source;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use self::asking::Asking;
use self::request::{Failure, Requests};
pub use self::source::{Description, Grant, GrantSource, ListPage, SourceError, Wish, WishAct};
use super::{
    Capabilities, Listed, ObjectStore, OpenOptions, Opened, Operation, Retry, StoreError,
    StoreErrorKind, Stored, Throttle,
};
use crate::layout::{Folder, ObjectName};
use crate::object::{Object, check_digest};

/// Objects through grants.
pub struct GrantedStore {
    asking: Asking,
    requests: Requests,
    source: Arc<dyn GrantSource>,
    location: String,
}

/// Opens a store through grants, with limits and retries. Nothing is asked of it yet.
pub fn open_granted(source: Arc<dyn GrantSource>, options: &OpenOptions) -> Opened {
    let store = Arc::new(GrantedStore::new(source));
    let limited = Throttle::new(store, options.up.clone(), options.down.clone());
    let retry = Retry::new(Arc::new(limited) as Arc<dyn ObjectStore>, options.retry);
    let breaker = retry.breaker();
    Opened {
        store: Arc::new(retry),
        breaker,
    }
}

impl GrantedStore {
    /// A store that asks this source.
    pub fn new(source: Arc<dyn GrantSource>) -> GrantedStore {
        GrantedStore {
            asking: Asking::new(Arc::clone(&source)),
            requests: Requests::default(),
            location: source.location(),
            source,
        }
    }

    /// Loads an object or a range of it. A grant that was kept may be worth nothing any more: it is asked for again, once.
    async fn load(
        &self,
        operation: Operation,
        name: &ObjectName,
        range: Option<&Range<u64>>,
    ) -> Result<Bytes, Failure> {
        let (grant, kept) = self.asking.to_get(name).await?;
        let requests = self.requests.client(&*self.source).await?;
        match requests.get(&grant, range).await {
            Err(failure) if kept && failure.kind() == StoreErrorKind::Denied => {
                tracing::debug!(%operation, %name, "a kept grant was refused");
                self.asking.forget(name);
                let (grant, _) = self.asking.to_get(name).await?;
                requests.get(&grant, range).await
            }
            outcome => outcome,
        }
    }

    fn error(&self, operation: Operation, failure: Failure) -> StoreError {
        failure.into_error(operation, self.location.clone())
    }

    fn too_large(&self, operation: Operation, name: &ObjectName) -> StoreError {
        StoreError::too_large(operation, name, self.location.clone())
    }
}

#[async_trait]
impl ObjectStore for GrantedStore {
    async fn put_new(&self, object: &Object) -> Result<Stored, StoreError> {
        let name = object.name();
        let store = async {
            let grant = self.asking.to_put(&name, object.len()).await?;
            let requests = self.requests.client(&*self.source).await?;
            requests.put(&grant, object.bytes().clone()).await
        };
        let failed = |failure| self.error(Operation::Put, failure).object(&name);
        store.await.map_err(failed)
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let operation = Operation::Get;
        let bytes = match self.load(operation, name, None).await {
            Err(Failure::TooLarge) => return Err(self.too_large(operation, name)),
            loaded => loaded.map_err(|failure| self.error(operation, failure).object(name))?,
        };
        check_digest(name, &bytes)
            .map_err(|wrong| StoreError::damaged(operation, wrong, self.location.clone()))?;
        Ok(bytes)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let operation = Operation::GetRange;
        let beyond = || StoreError::beyond_end(name, &range, self.location.clone());
        if range.start > range.end {
            return Err(beyond());
        }
        // HTTP has no empty range; a byte before it shows whether the object reaches that far.
        let asked = match range.is_empty() {
            true => range.start.saturating_sub(1)..range.end.max(1),
            false => range.clone(),
        };
        match self.load(operation, name, Some(&asked)).await {
            Ok(_) if range.is_empty() => Ok(Bytes::new()),
            Ok(bytes) if bytes.len() as u64 == range.end - range.start => Ok(bytes),
            Ok(_) | Err(Failure::BeyondEnd) => Err(beyond()),
            Err(failure) => Err(self.error(operation, failure).object(name)),
        }
    }

    async fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let failed = |error: SourceError| {
            self.error(Operation::List, Failure::Source(error))
                .folder(&folder)
        };
        let mut listed = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.source.list(folder, after.as_deref()).await;
            let page = page.map_err(failed)?;
            listed.extend(page.objects);
            match page.after {
                None => return Ok(listed),
                // A source that goes in circles would be asked for ever.
                next if next <= after => {
                    let error = StoreError::new(
                        StoreErrorKind::Refused,
                        Operation::List,
                        self.location.clone(),
                    );
                    return Err(error.folder(&folder).detail("the listing does not go on"));
                }
                next => after = next,
            }
        }
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let error = StoreError::new(
            StoreErrorKind::Refused,
            Operation::Delete,
            self.location.clone(),
        );
        Err(error
            .object(name)
            .detail("the keystore deletes what nobody needs; it is not done from here"))
    }

    fn location(&self) -> String {
        self.location.clone()
    }

    async fn probe(&self) -> Result<Capabilities, StoreError> {
        let described = self.source.describe().await;
        let failed = |error| self.error(Operation::Probe, Failure::Source(error));
        Ok(described.map_err(failed)?.capabilities)
    }
}

/// Whether a grant is good for a request that begins now.
fn is_good(grant: &Grant) -> bool {
    grant.expires > SystemTime::now() + asking::MARGIN
}
