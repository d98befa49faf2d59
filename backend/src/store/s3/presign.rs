//! Requests that somebody without credentials may make, for a while: presigned by Signature Version 4 in the query
//! (Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters").
//!
//! A put signs the name, the length, the SHA-256 that is in the name, and `If-None-Match: *`: whoever has it can store these bytes under
//! this name, once, and nothing else. A get signs the name; which range of the object is asked for stays open.
//!
//! Nothing is sent from here. If we die, the requests that were handed out stay good until they end.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::{
    Client,
    presigning::{PresignedRequest, PresigningConfig},
};
use aws_smithy_types::base64;

use super::{S3Config, client, location, prefix};
use crate::{
    layout::ObjectName,
    store::{Operation, StoreError, StoreErrorKind},
};

/// Signs requests to one bucket, in the name of whoever has the credentials.
pub struct S3Presigner {
    client: Client,
    bucket: String,
    prefix: String,
    location: String,
}

/// A request that is allowed as it stands. Whoever has it can make it: it is a secret for as long as it lives.
#[derive(Clone, PartialEq, Eq)]
pub struct Presigned {
    /// Where, with the signature in it.
    pub url: String,
    /// Headers to send.
    pub headers: Vec<(String, String)>,
}

impl S3Presigner {
    /// Reads credentials. `config` is the bucket as those see it who make the requests: its endpoint may be another one than ours.
    pub async fn open(config: &S3Config) -> Result<Self, StoreError> {
        let location = location(config);
        let client = client::build(config)
            .await
            .map_err(|wrong| client::not_configured(wrong, location.clone()))?;
        Ok(Self {
            client,
            bucket: config.bucket.clone(),
            prefix: prefix(config),
            location,
        })
    }

    /// A put of so many bytes, in a folder below the prefix. `conditional` is for stores that know `If-None-Match`.
    pub async fn put(
        &self,
        folder: &str,
        name: &ObjectName,
        bytes: u64,
        conditional: bool,
        from: SystemTime,
        life: Duration,
    ) -> Result<Presigned, StoreError> {
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.key(folder, name))
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .checksum_sha256(base64::encode(name.digest().0))
            .content_length(i64::try_from(bytes).unwrap_or(i64::MAX))
            .content_type("application/octet-stream")
            .presigned(self.times(from, life)?)
            .await;
        request
            .map(presigned)
            .map_err(|error| self.failed(Operation::Put, error.into()).object(name))
    }

    /// A get of an object, or of a range of it.
    pub async fn get(
        &self,
        folder: &str,
        name: &ObjectName,
        from: SystemTime,
        life: Duration,
    ) -> Result<Presigned, StoreError> {
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.key(folder, name))
            .presigned(self.times(from, life)?)
            .await;
        request
            .map(presigned)
            .map_err(|error| self.failed(Operation::Get, error.into()).object(name))
    }

    fn key(&self, folder: &str, name: &ObjectName) -> String {
        format!("{}{folder}/{name}", self.prefix)
    }

    fn times(&self, from: SystemTime, life: Duration) -> Result<PresigningConfig, StoreError> {
        let times = PresigningConfig::builder()
            .start_time(from)
            .expires_in(life)
            .build();
        times.map_err(|error| self.failed(Operation::Open, error.into()))
    }

    /// Only credentials can be missing: nothing is sent.
    fn failed(
        &self,
        operation: Operation,
        source: Box<dyn std::error::Error + Send + Sync>,
    ) -> StoreError {
        let error = StoreError::new(
            StoreErrorKind::NotConfigured,
            operation,
            self.location.clone(),
        );
        error
            .detail("no request can be signed; check the credentials of the store")
            .because(source)
    }
}

fn presigned(request: PresignedRequest) -> Presigned {
    let header = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Presigned {
        url: request.uri().to_owned(),
        headers: request.headers().map(header).collect(),
    }
}
