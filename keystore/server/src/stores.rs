//! Where the users' archives are: below one prefix of a bucket, or in one folder that the server itself serves.
//!
//! ```text
//! [store] ──▶ Stores ──▶ Archive (one for each user, opened when it is first asked for)
//!               ├─ bucket: presigned requests        ├─ the store itself, for listing and gc
//!               └─ folder: links of the server's own └─ what was counted: usage, numbers in use
//! ```
//!
//! Only the server has the credentials. Clients get single requests, as grants; nothing here deletes but gc.
//!
//! If we die: links to the folder die with us, since their key does; presigned requests live until they end, and what was
//! granted under a number is in the barrier (see `numbers.rs`). The count of bytes is written now and then, and corrected by gc.

mod archive;
mod links;
pub mod numbers;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_backend::layout::ObjectName;
use holdfast_backend::store::{
    Capabilities, DirStore, ObjectStore, Operation, Presigned, Retry, RetryPolicy, S3Presigner,
    S3Store, StoreError, StoreErrorKind,
};
use holdfast_protocol::calls::{StoreDescription, StoreKind};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::archive::{Archive, Page};
pub use self::links::{Act, Link, LinkError, LinkKey, LinkQuery};
use crate::config::{self, ConfigError};
use crate::names::Id;

/// A grant for storing ends after this.
pub const PUT_LIFE: Duration = Duration::from_secs(15 * 60);
/// One for storing under a number, which nobody else gets meanwhile.
pub const NUMBERED_PUT_LIFE: Duration = Duration::from_secs(2 * 60);
/// A grant for loading ends after this.
pub const GET_LIFE: Duration = Duration::from_secs(5 * 60);
/// Objects on their way into the folder take no more memory than this together.
const MEMORY_MIB: u32 = 384;
/// An archive that nobody asks for is forgotten after this; it is opened again when it is needed.
const IDLE: Duration = Duration::from_secs(3600);

/// All archives.
pub struct Stores {
    place: Place,
    /// What the store honours, once it has answered.
    capabilities: Mutex<Option<Capabilities>>,
    opened: Mutex<HashMap<Id, (Arc<Archive>, Instant)>>,
    /// Room for objects on their way into the folder, in MiB.
    memory: Arc<Semaphore>,
    /// Days between condemning and deleting.
    pub grace_days: u32,
}

enum Place {
    Folder {
        root: PathBuf,
        key: LinkKey,
    },
    Bucket {
        store: S3Store,
        presigner: S3Presigner,
        authorities: Option<String>,
        name: String,
    },
}

/// Why the server cannot have its archives there.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoresError {
    /// The folder.
    #[error("the folder for the archives, {}, cannot be used: {source}; check [store] folder", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Certificates of the bucket's.
    #[error("{} cannot be read: {source}; check [store] ca_file", .path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What `[store]` says.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The bucket's credentials or certificates.
    #[error("the bucket for the archives cannot be used: {0}")]
    Bucket(#[from] StoreError),
}

impl Stores {
    /// Reads credentials; nothing is asked of a bucket yet.
    pub async fn open(config: &config::Store, data: &Path) -> Result<Stores, OpenStoresError> {
        let place = match config.bucket()? {
            None => folder(config.folder.as_deref(), data)?,
            Some(bucket) => {
                let authorities = bucket.ca_file.as_ref().map(|path| {
                    fs::read_to_string(path).map_err(|source| OpenStoresError::CaFile {
                        path: path.clone(),
                        source,
                    })
                });
                Place::Bucket {
                    store: S3Store::open(&bucket).await?,
                    presigner: S3Presigner::open(&config.public(&bucket)).await?,
                    authorities: authorities.transpose()?,
                    name: bucket.bucket,
                }
            }
        };
        Ok(Stores {
            place,
            capabilities: Mutex::new(None),
            opened: Mutex::default(),
            memory: Arc::new(Semaphore::new(MEMORY_MIB as usize)),
            grace_days: config.grace_days,
        })
    }

    /// Asks a bucket what it honours, once.
    pub async fn probe(&self) {
        let Place::Bucket { store, .. } = &self.place else {
            return;
        };
        if self.capabilities.lock().is_some() {
            return;
        }
        match store.probe().await {
            Ok(found) => *self.capabilities.lock() = Some(found),
            Err(error) => tracing::warn!(%error, "the store could not be tried"),
        }
    }

    /// A user's archive.
    pub fn archive(&self, id: &Id) -> Result<Arc<Archive>, StoreError> {
        let mut opened = self.opened.lock();
        let now = Instant::now();
        if let Some((archive, used)) = opened.get_mut(id) {
            *used = now;
            return Ok(Arc::clone(archive));
        }
        let store: Arc<dyn ObjectStore> = match &self.place {
            Place::Folder { root, .. } => {
                // Never made anew: where a disk is not plugged in, its mount point must not fill up in its place.
                if !root.is_dir() {
                    let location = root.display().to_string();
                    let kind = StoreErrorKind::Transient;
                    let error = StoreError::new(kind, Operation::Open, location);
                    return Err(error.detail("the folder for the archives is not there"));
                }
                Arc::new(DirStore::create(root.join(id.to_string()))?)
            }
            Place::Bucket { store, .. } => {
                let store = store.below(&id.to_string());
                let activity = store.activity();
                Arc::new(
                    Retry::new(Arc::new(store) as Arc<dyn ObjectStore>, POLICY).watching(activity),
                )
            }
        };
        let archive = Arc::new(Archive::new(store));
        opened.insert(*id, (Arc::clone(&archive), now));
        Ok(archive)
    }

    /// A user's archive, if somebody has asked for it lately.
    pub fn is_open(&self, id: &Id) -> Option<Arc<Archive>> {
        let opened = self.opened.lock();
        opened.get(id).map(|(archive, _)| Arc::clone(archive))
    }

    /// The archives that are in use; those that nobody has asked for in a while are forgotten.
    pub fn in_use(&self) -> Vec<(Id, Arc<Archive>)> {
        let mut opened = self.opened.lock();
        let known = opened
            .iter()
            .map(|(id, (archive, _))| (*id, Arc::clone(archive)));
        let known: Vec<_> = known.collect();
        for (_, archive) in &known {
            archive.forget_listings();
        }
        opened.retain(|_, (archive, used)| used.elapsed() < IDLE || Arc::strong_count(archive) > 2);
        known
    }

    /// The archive's objects as files, if the server serves them.
    pub fn served(&self, id: &Id) -> Option<(DirStore, &LinkKey)> {
        match &self.place {
            Place::Folder { root, key } => Some((DirStore::open(root.join(id.to_string())), key)),
            Place::Bucket { .. } => None,
        }
    }

    /// Waits until there is memory for so many bytes; an object that is larger than all of it gets all of it.
    pub async fn room(&self, bytes: u64) -> OwnedSemaphorePermit {
        let mebibytes = bytes.div_ceil(1 << 20).clamp(1, MEMORY_MIB.into()) as u32;
        let memory = Arc::clone(&self.memory).acquire_many_owned(mebibytes).await;
        memory.expect("the semaphore is never closed")
    }

    /// A request that may be made until `life` is over.
    pub async fn grant(
        &self,
        archive: &Id,
        name: &ObjectName,
        act: Act,
        now: Timestamp,
        address: &str,
    ) -> Result<Presigned, StoreError> {
        let life = life(name, act);
        match &self.place {
            Place::Folder { key, .. } => {
                let link = Link {
                    act,
                    archive: *archive,
                    name: *name,
                    expires: now.as_second() + life.as_secs() as i64,
                };
                Ok(Presigned {
                    url: format!("{address}{}", key.sign(&link)),
                    headers: Vec::new(),
                })
            }
            Place::Bucket { presigner, .. } => {
                let folder = archive.to_string();
                match act {
                    Act::Put { bytes } => {
                        let conditional = self.honoured().conditional_put;
                        let from = now.into();
                        presigner
                            .put(&folder, name, bytes, conditional, from, life)
                            .await
                    }
                    Act::Get => presigner.get(&folder, name, now.into(), life).await,
                }
            }
        }
    }

    /// What it honours; of a bucket that was not reached yet, what the best ones do.
    fn honoured(&self) -> Capabilities {
        self.capabilities.lock().unwrap_or(Capabilities {
            conditional_put: true,
            checksum_enforced: true,
            ranges: true,
        })
    }

    /// For clients; `own_authority` is whom to trust for the server itself.
    pub fn describe(
        &self,
        quota_bytes: Option<u64>,
        used_bytes: u64,
        own_authority: Option<String>,
    ) -> StoreDescription {
        let honoured = self.honoured();
        let (kind, location, authorities) = match &self.place {
            Place::Folder { .. } => (
                StoreKind::Folder,
                "a folder of the keystore".to_owned(),
                own_authority,
            ),
            Place::Bucket {
                name, authorities, ..
            } => (
                StoreKind::S3,
                format!("the bucket {name}"),
                authorities.clone(),
            ),
        };
        StoreDescription {
            kind,
            location,
            conditional_put: honoured.conditional_put,
            checksum_enforced: honoured.checksum_enforced,
            ranges: honoured.ranges,
            grace_days: self.grace_days,
            quota_bytes,
            used_bytes,
            authorities,
        }
    }
}

/// A call waits for the store, and its caller for the call: it is given up before the caller gives up.
const POLICY: RetryPolicy = RetryPolicy {
    first_delay: Duration::from_millis(50),
    longest_delay: Duration::from_secs(4),
    read_deadline: Duration::from_secs(15),
    first_answer_deadline: Duration::from_secs(8),
    put_deadline: Some(Duration::from_secs(60)),
    breaker_failures: 8,
    breaker_pause: Duration::from_secs(2),
};

/// How long a grant lives.
pub fn life(name: &ObjectName, act: Act) -> Duration {
    match act {
        Act::Get => GET_LIFE,
        Act::Put { .. } if name.number().is_some() => NUMBERED_PUT_LIFE,
        Act::Put { .. } => PUT_LIFE,
    }
}

/// A folder that was named must be there: where a disk is not plugged in, its mount point must not fill up in its place.
fn folder(named: Option<&Path>, data: &Path) -> Result<Place, OpenStoresError> {
    let root = named.map_or_else(|| data.join("objects"), Path::to_owned);
    let bad = |source| OpenStoresError::Folder {
        path: root.clone(),
        source,
    };
    match named {
        Some(named) => {
            fs::read_dir(named).map_err(bad)?;
        }
        None => fs::create_dir_all(&root).map_err(bad)?,
    }
    Ok(Place::Folder {
        key: LinkKey::new(),
        root,
    })
}
