//! From a location that a person wrote to a store that limits and retries.

use std::{path::PathBuf, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::time::timeout;

use super::{
    Breaker, DirStore, MemoryStore, ObjectStore, Retry, RetryPolicy, S3Config, S3Store, StoreError,
    StoreErrorKind, Throttle, TokenBucket, s3,
};
use crate::layout::Folder;

/// A host name with the bucket in it is asked once, and no longer than this.
const SECOND_TRY: Duration = Duration::from_secs(5);

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
    let (up, down) = (options.up.clone(), options.down.clone());
    // Retries outside: each attempt is charged, and a wait for bandwidth is no failure.
    let retry = match config {
        StoreConfig::S3(config) => {
            let store = S3Store::open(config).await?.limited(up, down);
            let activity = store.activity();
            let store: Arc<dyn ObjectStore> = Arc::new(store);
            Retry::new(store, options.retry).watching(activity)
        }
        StoreConfig::Dir { path } => {
            let limited = Throttle::new(Arc::new(DirStore::open(path)), up, down);
            let store: Arc<dyn ObjectStore> = Arc::new(limited);
            // A disk that sleeps wakes slowly, and a folder's path is not mistyped unnoticed.
            let policy = RetryPolicy {
                first_answer_deadline: options.retry.read_deadline,
                ..options.retry
            };
            Retry::new(store, policy)
        }
        StoreConfig::Memory => {
            let limited = Throttle::new(Arc::new(MemoryStore::new()), up, down);
            let store: Arc<dyn ObjectStore> = Arc::new(limited);
            Retry::new(store, options.retry)
        }
    };
    let breaker = retry.breaker();
    Ok(Opened {
        store: Arc::new(retry),
        breaker,
    })
}

/// Whether a bucket goes into the path of the address, as [`S3Config::path_style`] says it or else
/// as the store answers. Most stores know buckets in the path, which needs no entry in the DNS, so
/// that is tried first; what some refuse there is tried with the bucket in the host name.
///
/// Where neither works, the error is that of the first try: a bucket that is not there, wrong
/// credentials, or no answer.
pub async fn find_path_style(config: &S3Config) -> Result<bool, StoreError> {
    if let Some(known) = config.path_style.or_else(|| s3::path_style_by_rule(config)) {
        return Ok(known);
    }
    let with = |path_style| S3Config {
        path_style: Some(path_style),
        ..config.clone()
    };
    let path = StoreConfig::S3(with(true));
    let first = open(&path).await?.list(Folder::Keyring).await;
    let error = match first {
        Ok(_) => return Ok(true),
        Err(error) if error.kind() == StoreErrorKind::Transient => return Err(error),
        Err(error) => error,
    };
    let bare = S3Store::open(&with(false)).await?;
    let second = timeout(SECOND_TRY, bare.list(Folder::Keyring)).await;
    match second {
        Ok(Ok(_)) => Ok(false),
        _ => Err(error),
    }
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
