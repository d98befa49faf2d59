//! Session keys: the one that encrypts now, and those that open what is there.
//!
//! A new one is made when an archive is opened for writing, or after 1 TiB. Its key object, wrapped to
//! the archive's public key, is stored before the first pack that uses it, and it is in the log before
//! the first chunk that uses it, so that finished chunks can be stored unchanged after a crash.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use holdfast_backend::layout::ObjectName;
use holdfast_backend::object::{FormatError, Header, Object, ObjectKind};
use holdfast_crypto::{CryptoError, Digest, SessionKey};
use parking_lot::{Mutex, RwLock};

use crate::keychain::Keychain;

/// After so many bytes a new session key is made.
const BYTES_PER_KEY: u64 = 1 << 40;

/// The session key that encrypts now.
#[derive(Clone)]
pub struct Session {
    /// Encrypts chunks.
    pub key: Arc<SessionKey>,
    /// Its key object's name.
    pub digest: Digest,
    /// The key object.
    pub object: Object,
}

/// A key object does not give a key.
#[derive(Debug, thiserror::Error)]
pub enum SessionKeyError {
    /// Not a key object of this format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Damaged, or of another archive.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Of an epoch that the keyring does not hold.
    #[error("a session key belongs to epoch {epoch}, which this archive's keyring does not hold")]
    UnknownEpoch {
        /// The epoch.
        epoch: u32,
    },
}

pub(crate) struct SessionKeys {
    keychain: Arc<Keychain>,
    current: Mutex<Option<Session>>,
    encrypted_bytes: AtomicU64,
    opened: RwLock<HashMap<Digest, Arc<SessionKey>>>,
    unstored: Mutex<BTreeMap<Digest, Object>>,
    folder: PathBuf,
}

impl SessionKeys {
    pub(crate) fn new(keychain: Arc<Keychain>, folder: PathBuf) -> Self {
        if let Err(error) = std::fs::create_dir_all(&folder) {
            tracing::warn!(%error, "session keys cannot be cached on disk");
        }
        Self {
            keychain,
            current: Mutex::default(),
            encrypted_bytes: AtomicU64::new(0),
            opened: RwLock::default(),
            unstored: Mutex::default(),
            folder,
        }
    }

    /// The current session; `is_condemned` says that its key object must not be relied on any more.
    pub(crate) fn current(&self, is_condemned: impl Fn(&Digest) -> bool) -> Session {
        let mut current = self.current.lock();
        let used_up = self.encrypted_bytes.load(Ordering::Relaxed) >= BYTES_PER_KEY;
        if let Some(session) = current
            .as_ref()
            .filter(|session| !used_up && !is_condemned(&session.digest))
        {
            return session.clone();
        }
        let session = self.make();
        self.encrypted_bytes.store(0, Ordering::Relaxed);
        *current = Some(session.clone());
        session
    }

    fn make(&self) -> Session {
        let epoch = self.keychain.current_epoch();
        let key = Arc::new(SessionKey::generate());
        let wrapped = self.keychain.current().archive.public().wrap(epoch, &key);
        let object = Object::key(epoch, &wrapped);
        let digest = object.name().digest();
        self.opened.write().insert(digest, Arc::clone(&key));
        self.unstored.lock().insert(digest, object.clone());
        self.keep_on_disk(&digest, object.bytes());
        Session {
            key,
            digest,
            object,
        }
    }

    pub(crate) fn count(&self, bytes: u64) {
        self.encrypted_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A key object from the log: it may not have been stored before the crash.
    pub(crate) fn register(&self, object: &[u8]) -> Result<Digest, SessionKeyError> {
        let (epoch, wrapped) = Self::parse(object)?;
        let key = self.unwrap(epoch, wrapped)?;
        let object = Object::key(epoch, wrapped);
        let digest = object.name().digest();
        self.opened.write().insert(digest, Arc::new(key));
        self.unstored.lock().insert(digest, object);
        Ok(digest)
    }

    fn parse(object: &[u8]) -> Result<(u32, &[u8]), SessionKeyError> {
        let (header, wrapped) = Header::parse(ObjectKind::Key, object)?;
        Ok((header.epoch, wrapped))
    }

    fn unwrap(&self, epoch: u32, wrapped: &[u8]) -> Result<SessionKey, SessionKeyError> {
        let keys = self
            .keychain
            .epoch(epoch)
            .ok_or(SessionKeyError::UnknownEpoch { epoch })?;
        Ok(keys.archive.unwrap(epoch, wrapped)?)
    }

    pub(crate) fn unstored(&self, keys: &[Digest]) -> Vec<Object> {
        let unstored = self.unstored.lock();
        keys.iter()
            .filter_map(|key| unstored.get(key).cloned())
            .collect()
    }

    pub(crate) fn stored(&self, keys: &[Digest]) {
        let mut unstored = self.unstored.lock();
        keys.iter().for_each(|key| drop(unstored.remove(key)));
    }

    /// A key that is in memory or on this computer's disk.
    pub(crate) fn find(&self, digest: &Digest) -> Option<Arc<SessionKey>> {
        if let Some(key) = self.opened.read().get(digest) {
            return Some(Arc::clone(key));
        }
        let object = std::fs::read(self.folder.join(digest.to_string())).ok()?;
        if Digest::of(&object) != *digest {
            return None;
        }
        self.open(digest, &object).ok()
    }

    /// Opens a key object that was fetched, and keeps it, wrapped, on this computer.
    pub(crate) fn take(
        &self,
        digest: &Digest,
        object: &Bytes,
    ) -> Result<Arc<SessionKey>, SessionKeyError> {
        let key = self.open(digest, object)?;
        self.keep_on_disk(digest, object);
        Ok(key)
    }

    /// Wrapped, as it is in the store. Best effort: it can be fetched again, and a torn file fails its
    /// digest.
    fn keep_on_disk(&self, digest: &Digest, object: &[u8]) {
        if let Err(error) = std::fs::write(self.folder.join(digest.to_string()), object) {
            tracing::warn!(%error, "a session key could not be cached on disk");
        }
    }

    fn open(&self, digest: &Digest, object: &[u8]) -> Result<Arc<SessionKey>, SessionKeyError> {
        let (epoch, wrapped) = Self::parse(object)?;
        let key = Arc::new(self.unwrap(epoch, wrapped)?);
        self.opened.write().insert(*digest, Arc::clone(&key));
        Ok(key)
    }

    pub(crate) fn name(digest: Digest) -> ObjectName {
        ObjectName::Key(digest)
    }
}
