//! Objects in a bucket of an S3-compatible store, with a user's own credentials.
//!
//! Every put carries `If-None-Match: *` and the SHA-256 that is in the name. Stores that honour
//! the first replace nothing; stores that honour the second accept no other bytes; with stores that
//! honour neither, the name still tells on reading. [`ObjectStore::probe`] finds out which it is.
//!
//! The digest in the name also stands in the signature: no byte is hashed twice.
//!
//! This file tries nothing again: the SDK's own retries are off, and
//! [`Retry`](super::Retry) decides. If we die during a put, the object is there completely or not
//! at all (one request, no multipart upload), and is put again under the same name.

mod client;
mod error;
mod presign;
mod probe;
mod transfer;

use std::{
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use aws_sdk_s3::{Client, primitives::DateTime, types::Object as BucketEntry};
use aws_smithy_types::{base64, timeout::TimeoutConfig};
use bytes::{Bytes, BytesMut};
use holdfast_crypto::Digest;

pub(super) use self::client::path_style_by_rule;
pub use self::presign::{Presigned, S3Presigner};
use self::{error::Failure, transfer::KnownDigest};
use super::{
    Activity, Capabilities, Listed, MAX_OBJECT_BYTES, ObjectStore, Operation, StoreError,
    StoreErrorKind, Stored, TokenBucket,
};
use crate::{
    layout::{Folder, ObjectName},
    object::{Object, check_digest},
};

/// A put may take this long however small it is.
const PUT_BASE: Duration = Duration::from_secs(60);

/// Below this a connection counts as hanging.
const SLOWEST_UPLOAD_BYTES_PER_SECOND: u64 = 16 * 1024;

/// Where a bucket is and how to speak to it. Credentials come from the environment, the named
/// profile, or the machine's role; they are never part of this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Config {
    /// The bucket; it must be there.
    pub bucket: String,
    /// What all names begin with; empty for none. One archive has one prefix.
    pub prefix: String,
    /// Address of the store; `None` is AWS.
    pub endpoint: Option<String>,
    /// `None` is what the environment or profile says, or else `us-east-1`.
    pub region: Option<String>,
    /// Certificates (PEM) to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether the bucket goes into the path of the address (`true`) or into its host name.
    /// `None`: into the path where an endpoint is given, into the host name on AWS;
    /// [`find_path_style`](super::find_path_style) asks the store.
    pub path_style: Option<bool>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
}

/// One archive in a bucket.
pub struct S3Store {
    client: Client,
    bucket: String,
    /// Empty, or ends in `/`.
    prefix: String,
    location: String,
    /// The store said that it does not implement `If-None-Match`.
    unconditional: AtomicBool,
    up: Option<Arc<TokenBucket>>,
    down: Option<Arc<TokenBucket>>,
    activity: Arc<Activity>,
}

/// What the signature of a put covers. The announced SHA-256 is a header of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signed {
    /// The announced SHA-256: it is that of the bytes.
    Announced,
    /// What the bytes are. The probe announces something else, to see whether the store looks.
    Bytes,
}

impl S3Store {
    /// Reads credentials and certificates; makes no request to the store.
    pub async fn open(config: &S3Config) -> Result<Self, StoreError> {
        let location = location(config);
        let client = client::build(config)
            .await
            .map_err(|wrong| client::not_configured(wrong, location.clone()))?;
        let prefix = prefix(config);
        let bucket = config.bucket.clone();
        Ok(Self {
            client,
            bucket,
            prefix,
            location,
            unconditional: AtomicBool::new(false),
            up: None,
            down: None,
            activity: Arc::default(),
        })
    }

    /// The same with limits; `None` is unlimited. Stores may share a bucket.
    pub fn limited(self, up: Option<Arc<TokenBucket>>, down: Option<Arc<TokenBucket>>) -> Self {
        Self { up, down, ..self }
    }

    /// When bytes move.
    pub fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// The archive in a folder of this one, over the same connections.
    pub fn below(&self, folder: &str) -> Self {
        Self {
            client: self.client.clone(),
            bucket: self.bucket.clone(),
            prefix: format!("{}{folder}/", self.prefix),
            location: format!("{} below {folder}", self.location),
            unconditional: AtomicBool::new(self.unconditional.load(Ordering::Relaxed)),
            up: self.up.clone(),
            down: self.down.clone(),
            activity: Arc::clone(&self.activity),
        }
    }

    fn key(&self, name: &ObjectName) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn put(
        &self,
        key: String,
        bytes: Bytes,
        sha256: &[u8; 32],
        signed: Signed,
    ) -> Result<Stored, Failure> {
        let length = bytes.len();
        let timeout = PUT_BASE
            + Duration::from_secs(length as u64 / SLOWEST_UPLOAD_BYTES_PER_SECOND)
            + transfer::span(length, self.up.as_ref());
        let conditional = !self.unconditional.load(Ordering::Relaxed);
        let body = transfer::body(bytes, self.up.as_ref(), &self.activity).await;
        let mut request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .checksum_sha256(base64::encode(sha256))
            .content_length(i64::try_from(length).expect("memory is smaller than i64"))
            .content_type("application/octet-stream")
            .body(body)
            .customize()
            .config_override(
                aws_sdk_s3::config::Builder::new().timeout_config(
                    TimeoutConfig::builder()
                        .operation_attempt_timeout(timeout)
                        .build(),
                ),
            );
        if signed == Signed::Announced {
            request = request.interceptor(KnownDigest(Digest(*sha256).to_string()));
        }
        let result = request.send().await.map_err(Failure::from);
        self.activity.moved();
        match result {
            Ok(_) => Ok(Stored::New),
            Err(failure) if failure.is_precondition() => Ok(Stored::AlreadyThere),
            Err(failure) => Err(failure),
        }
    }

    async fn load(&self, key: String, range: Option<&Range<u64>>) -> Result<Bytes, Failure> {
        let header = range.map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .set_range(header);
        let mut answer = request.send().await.map_err(Failure::from)?;
        let announced = answer
            .content_length
            .and_then(|length| u64::try_from(length).ok());
        if let Some(range) = range {
            check_range(range, answer.content_range.as_deref())?;
        }
        let limit = range.map_or(MAX_OBJECT_BYTES, |range| range.end - range.start);
        if announced.is_some_and(|announced| announced > limit) {
            return Err(Failure::TooLong);
        }
        // Not taken on trust: what was announced is only a hint for the first allocation.
        let mut bytes = BytesMut::with_capacity(announced.unwrap_or(0).min(64 << 20) as usize);
        while let Some(piece) = answer.body.try_next().await.map_err(Failure::cut_off)? {
            if (bytes.len() + piece.len()) as u64 > limit {
                return Err(Failure::TooLong);
            }
            bytes.extend_from_slice(&piece);
            self.activity.moved();
            if let Some(down) = &self.down {
                down.take(piece.len() as u64).await;
            }
        }
        let expected = range.map(|range| range.end - range.start).or(announced);
        match expected {
            Some(expected) if expected != bytes.len() as u64 => Err(Failure::Short),
            _ => Ok(bytes.freeze()),
        }
    }

    async fn remove(&self, key: String) -> Result<(), Failure> {
        let request = self.client.delete_object().bucket(&self.bucket).key(key);
        match request.send().await.map_err(Failure::from) {
            Err(failure) if failure.kind() != StoreErrorKind::NotFound => Err(failure),
            _ => Ok(()),
        }
    }

    fn error(&self, operation: Operation, failure: Failure) -> StoreError {
        failure.into_error(operation, &self.location)
    }

    fn listed(&self, folder: &Folder, entry: &BucketEntry) -> Option<Listed> {
        let key = entry.key()?;
        let name = key
            .strip_prefix(&self.prefix)
            .and_then(|name| name.parse().ok());
        match name {
            Some(name) if folder.contains(&name) => Some(Listed {
                name,
                size: entry
                    .size()
                    .and_then(|size| u64::try_from(size).ok())
                    .unwrap_or(0),
                stored_at: entry.last_modified().and_then(system_time),
            }),
            _ => {
                tracing::warn!(key, "skipping what is not an object");
                None
            }
        }
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put_new(&self, object: &Object) -> Result<Stored, StoreError> {
        let name = object.name();
        let sha256 = name.digest().0;
        let put = || {
            let bytes = object.bytes().clone();
            self.put(self.key(&name), bytes, &sha256, Signed::Announced)
        };
        let mut result = put().await;
        if result.as_ref().is_err_and(Failure::is_not_implemented)
            && !self.unconditional.swap(true, Ordering::Relaxed)
        {
            result = put().await;
        }
        result.map_err(|failure| self.error(Operation::Put, failure).object(&name))
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let operation = Operation::Get;
        let bytes = self
            .load(self.key(name), None)
            .await
            .map_err(|failure| self.error(operation, failure).object(name))?;
        check_digest(name, &bytes)
            .map_err(|wrong| StoreError::damaged(operation, wrong, self.location.clone()))?;
        Ok(bytes)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let beyond = || StoreError::beyond_end(name, &range, self.location.clone());
        if range.start > range.end {
            return Err(beyond());
        }
        // HTTP has no empty range; a byte before it shows whether the object reaches that far.
        let asked = match range.is_empty() {
            true => range.start.saturating_sub(1)..range.end.max(1),
            false => range.clone(),
        };
        match self.load(self.key(name), Some(&asked)).await {
            Ok(_) if range.is_empty() => Ok(Bytes::new()),
            Ok(bytes) => Ok(bytes),
            Err(failure) if failure.is_beyond_end() => Err(beyond()),
            Err(failure) => Err(self.error(Operation::GetRange, failure).object(name)),
        }
    }

    async fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let prefix = format!("{}{}", self.prefix, folder.prefix());
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix);
        let mut pages = request.into_paginator().send();
        let mut listed = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(Failure::from);
            let page = page.map_err(|f| self.error(Operation::List, f).folder(&folder))?;
            listed.extend(
                page.contents()
                    .iter()
                    .filter_map(|entry| self.listed(&folder, entry)),
            );
        }
        Ok(listed)
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let removed = self.remove(self.key(name)).await;
        removed.map_err(|failure| self.error(Operation::Delete, failure).object(name))
    }

    fn location(&self) -> String {
        self.location.clone()
    }

    async fn probe(&self) -> Result<Capabilities, StoreError> {
        let probed = probe::probe(self).await;
        probed.map_err(|failure| self.error(Operation::Probe, failure))
    }
}

/// What all keys begin with.
fn prefix(config: &S3Config) -> String {
    match config.prefix.trim_matches('/') {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    }
}

/// Only the parts of the endpoint that are no credentials.
fn location(config: &S3Config) -> String {
    let mut location = format!("s3://{}", config.bucket);
    let prefix = config.prefix.trim_matches('/');
    if !prefix.is_empty() {
        location += "/";
        location += prefix;
    }
    if let Some(endpoint) = &config.endpoint {
        location += " at ";
        location += client::without_credentials(endpoint);
    }
    location
}

/// `content_range` is `bytes <first>-<last>/<size or *>`; a store that sends none sent the object
/// from its beginning.
fn check_range(asked: &Range<u64>, content_range: Option<&str>) -> Result<(), Failure> {
    let content_range = content_range.ok_or(Failure::NoRanges)?;
    let range = content_range.trim_start_matches("bytes").trim();
    let (first, rest) = range.split_once('-').ok_or(Failure::NoRanges)?;
    let last = rest.split('/').next().unwrap_or(rest);
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first == asked.start && last == asked.end - 1 => Ok(()),
        (Ok(first), Ok(last)) if first == asked.start && last < asked.end => {
            Err(Failure::BeyondEnd)
        }
        _ => Err(Failure::NoRanges),
    }
}

fn system_time(time: &DateTime) -> Option<SystemTime> {
    SystemTime::try_from(*time).ok()
}

#[cfg(test)]
mod tests;
