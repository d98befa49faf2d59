//! From a location that a person wrote to a store that limits and retries.

use std::{path::PathBuf, sync::Arc};

use thiserror::Error;

use super::{
    Breaker, DirStore, MemoryStore, ObjectStore, Retry, RetryPolicy, S3Config, S3Store, StoreError,
    Throttle, TokenBucket,
};

/// Which store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// A folder.
    Dir {
        /// The archive's folder.
        path: PathBuf,
    },
    /// A bucket.
    S3(S3Config),
    /// A new, empty table in memory, for tests.
    Memory,
}

/// What to put around a store.
#[derive(Clone, Default)]
pub struct OpenOptions {
    /// When to try again.
    pub retry: RetryPolicy,
    /// Limit for storing.
    pub up: Option<Arc<TokenBucket>>,
    /// Limit for loading.
    pub down: Option<Arc<TokenBucket>>,
}

/// A store, and what there is to watch about it.
#[derive(Clone)]
pub struct Opened {
    /// The store, with limits and retries.
    pub store: Arc<dyn ObjectStore>,
    /// Whether it answers.
    pub breaker: Arc<Breaker>,
}

/// Opens a store that tries again by the usual policy and has no limits.
pub async fn open(config: &StoreConfig) -> Result<Arc<dyn ObjectStore>, StoreError> {
    Ok(open_with(config, &OpenOptions::default()).await?.store)
}

/// Opens a store. Nothing is asked of it yet: a store that cannot be reached opens too.
pub async fn open_with(config: &StoreConfig, options: &OpenOptions) -> Result<Opened, StoreError> {
    let bare: Arc<dyn ObjectStore> = match config {
        StoreConfig::Dir { path } => Arc::new(DirStore::open(path)),
        StoreConfig::S3(config) => Arc::new(S3Store::open(config).await?),
        StoreConfig::Memory => Arc::new(MemoryStore::new()),
    };
    // Retries outside: each attempt is charged, and a wait for bandwidth is no failure.
    let unlimited = options.up.is_none() && options.down.is_none();
    let limited = match unlimited {
        true => bare,
        false => Arc::new(Throttle::new(
            bare,
            options.up.clone(),
            options.down.clone(),
        )),
    };
    let retry = Retry::new(limited, options.retry);
    let breaker = retry.breaker();
    Ok(Opened {
        store: Arc::new(retry),
        breaker,
    })
}

/// Makes room for a new archive: the folder of a `dir` store. Buckets are made by whoever owns
/// them.
pub fn create(config: &StoreConfig) -> Result<(), StoreError> {
    match config {
        StoreConfig::Dir { path } => DirStore::create(path).map(drop),
        StoreConfig::S3(_) | StoreConfig::Memory => Ok(()),
    }
}

/// A location that is neither a folder nor a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LocationError {
    /// Nothing was written.
    #[error("no location is given; write a folder, or s3://BUCKET/PREFIX")]
    Empty,
    /// `s3://` and nothing behind it.
    #[error("the location names no bucket; write s3://BUCKET/PREFIX")]
    NoBucket,
    /// Another scheme. The location itself is not repeated: it may contain a password.
    #[error("the scheme {scheme}:// is not known; write a folder, or s3://BUCKET/PREFIX")]
    UnknownScheme {
        /// What stands before `://`.
        scheme: String,
    },
    /// A password in a location would end in configuration files and messages.
    #[error("a location contains no credentials; set them in the environment or in a profile")]
    Credentials,
}

/// `s3://bucket/prefix`, or the path of a folder. Endpoint, region and the rest of [`S3Config`]
/// are set on the result.
pub fn parse_location(text: &str) -> Result<StoreConfig, LocationError> {
    let text = text.trim();
    let Some((scheme, rest)) = text.split_once("://") else {
        return match text {
            "" => Err(LocationError::Empty),
            path => Ok(StoreConfig::Dir {
                path: PathBuf::from(path),
            }),
        };
    };
    match scheme {
        "s3" if rest.contains('@') => Err(LocationError::Credentials),
        "s3" => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(LocationError::NoBucket);
            }
            let (bucket, prefix) = (bucket.to_owned(), prefix.trim_matches('/').to_owned());
            Ok(StoreConfig::S3(S3Config {
                bucket,
                prefix,
                ..S3Config::default()
            }))
        }
        "file" => Ok(StoreConfig::Dir {
            path: PathBuf::from(rest),
        }),
        scheme => Err(LocationError::UnknownScheme {
            scheme: scheme.chars().take(20).collect(),
        }),
    }
}

#[cfg(test)]
mod tests;
