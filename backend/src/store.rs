//! Where objects are kept.
//!
//! Every implementation and every wrapper passes the same conformance suite. What all promise:
//!
//! - Objects are write-once. [`ObjectStore::put_new`] of an object that is already there changes
//!   nothing and says so; since the name is the SHA-256 of the bytes, repeating it is always safe,
//!   also after a crash or a lost answer.
//! - When `put_new` returns, the object is durable and a `get` of it succeeds. If the process dies
//!   before that, the object is there completely or not at all.
//! - [`ObjectStore::get`] gives the bytes that the name stands for, or an error. A range cannot be
//!   checked against the name; what is in it is authenticated by whoever decrypts it.
//! - Listings may lag behind on some stores; nothing may be concluded from a name's absence alone.

mod activity;
mod breaker;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
pub mod dir;
mod error;
pub mod fault;
pub mod granted;
pub mod memory;
pub mod open;
pub mod record;
pub mod retry;
pub mod s3;
pub mod throttle;

use std::{ops::Range, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::activity::Activity;
pub use self::breaker::{Breaker, BreakerState};
pub use self::dir::DirStore;
pub use self::error::{Operation, StoreError, StoreErrorKind};
pub use self::fault::{Fault, FaultRates};
pub use self::granted::{GrantSource, GrantedStore, open_granted};
pub use self::memory::MemoryStore;
pub use self::open::{
    LocationError, OpenOptions, Opened, StoreConfig, create, find_path_style, open, open_with,
    parse_location,
};
pub use self::record::{Count, Counts, Record};
pub use self::retry::{Retry, RetryPolicy};
pub use self::s3::{Presigned, S3Config, S3Presigner, S3Store};
pub use self::throttle::{Throttle, TokenBucket};
use crate::{
    layout::{Folder, ObjectName},
    object::Object,
};

/// No object is larger; what claims to be is not loaded into memory.
pub const MAX_OBJECT_BYTES: u64 = 1 << 30;

/// A bucket's prefix, a folder or a table in memory that holds the objects of one archive.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Stores an object that may already be there.
    async fn put_new(&self, object: &Object) -> Result<Stored, StoreError>;

    /// Loads an object and checks it against its name.
    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError>;

    /// Loads exactly these bytes of an object; fails if it is shorter.
    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// The objects of a folder, in no order. What is there but no object is skipped.
    async fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError>;

    /// Deletes an object; deleting what is not there succeeds.
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError>;

    /// Where this is, for messages. Contains no credentials.
    fn location(&self) -> String;

    /// Why requests fail at present, where that is known without asking: the last failure that
    /// nothing has succeeded after.
    fn trouble(&self) -> Option<StoreError> {
        None
    }

    /// Finds out what the store honours, by storing small objects outside the archive's folders
    /// and deleting them.
    async fn probe(&self) -> Result<Capabilities, StoreError>;
}

/// What [`ObjectStore::put_new`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It was not there before.
    New,
    /// The same object was there. A store that cannot tell answers [`Stored::New`].
    AlreadyThere,
}

/// One line of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The object.
    pub name: ObjectName,
    /// Its size in bytes, as the store has it.
    pub size: u64,
    /// When the store received it, by the store's clock.
    pub stored_at: Option<SystemTime>,
}

/// What a store was found to honour. Nothing depends on these for safety of data, because names
/// are checked on reading; they say which accidents the store itself prevents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Storing a name a second time is refused, rather than replacing the object.
    pub conditional_put: bool,
    /// Bytes that do not fit the announced SHA-256 are refused.
    pub checksum_enforced: bool,
    /// A range of an object can be loaded, exactly.
    pub ranges: bool,
}
