//! The keystore while it is open: records, the data key, and sealing again.

use holdfast_crypto::{Keyring, RootKey};
use zeroize::Zeroizing;

use crate::header::SealHeader;
use crate::keystore::{KEYRING, Keystore, KeystoreError, Sealed, after, change, damaged};
use crate::manifest::{Manifest, Next, Write, place};
use crate::path::RecordPath;
use crate::reshare::Reshare;
use crate::store::StoreError;

/// The keys are in memory.
pub struct Unsealed {
    pub(crate) root: RootKey,
    pub(crate) keyring: Keyring,
    pub(crate) keyring_version: u64,
    pub(crate) manifest: Manifest,
    pub(crate) reshare: Option<Reshare>,
}

impl Unsealed {
    pub(crate) fn new(
        root: RootKey,
        keyring: Keyring,
        keyring_version: u64,
        manifest: Manifest,
    ) -> Unsealed {
        Unsealed {
            root,
            keyring,
            keyring_version,
            manifest,
            reshare: None,
        }
    }
}

/// One of several writes that belong together.
#[derive(Clone, Copy)]
pub struct RecordWrite<'a> {
    /// Where.
    pub path: &'a RecordPath,
    /// What is to stand there.
    pub plaintext: &'a [u8],
    /// The version that is there; `None` if nothing is.
    pub expected: Option<u64>,
}

impl Keystore<Unsealed> {
    /// A record's newest version, decrypted. What is in the database and not the newest version is an error, not a record.
    pub fn read(&self, path: &RecordPath) -> Result<Option<Zeroizing<Vec<u8>>>, KeystoreError> {
        let Some(entry) = self.state.manifest.entry(path) else {
            return Ok(None);
        };
        let damaged = || damaged(path.as_str());
        let stored = self.store.get(path)?.ok_or_else(damaged)?;
        if !Manifest::is_newest(&entry, &stored) {
            return Err(damaged());
        }
        let place = place(&self.header.cluster, path, entry.version);
        let opened = self.state.keyring.decrypt(&place, &stored.value);
        opened.map(Some).map_err(|_| damaged())
    }

    /// The version of a record, for [`write`](Keystore::write).
    pub fn version(&self, path: &RecordPath) -> Option<u64> {
        Some(self.state.manifest.entry(path)?.version)
    }

    /// Writes a record if it still has the version `expected` (`None`: if there is none).
    pub fn write(
        &mut self,
        path: &RecordPath,
        plaintext: &[u8],
        expected: Option<u64>,
    ) -> Result<(), KeystoreError> {
        self.expect(path, expected)?;
        self.swap(&[(path, Some(plaintext))])
    }

    /// Writes several records, all of them or none, if each still has the version that is expected. No path stands among them twice.
    pub fn write_all(&mut self, writes: &[RecordWrite<'_>]) -> Result<(), KeystoreError> {
        for (number, write) in writes.iter().enumerate() {
            self.expect(write.path, write.expected)?;
            if writes[..number]
                .iter()
                .any(|other| other.path == write.path)
            {
                let path = write.path.clone();
                return Err(KeystoreError::Changed { path });
            }
        }
        let writes: Vec<_> = writes
            .iter()
            .map(|write| (write.path, Some(write.plaintext)))
            .collect();
        self.swap(&writes)
    }

    /// Deletes a record if it still has the version `expected`.
    pub fn delete(&mut self, path: &RecordPath, expected: u64) -> Result<(), KeystoreError> {
        self.expect(path, Some(expected))?;
        self.swap(&[(path, None)])
    }

    /// All paths that begin with `prefix`, in order.
    pub fn list(&self, prefix: &str) -> Vec<RecordPath> {
        let mut paths: Vec<RecordPath> = self.state.manifest.paths(prefix).cloned().collect();
        paths.sort();
        paths
    }

    /// Counts the writes. An older database has a lower one.
    pub fn generation(&self) -> u64 {
        self.state.manifest.generation()
    }

    /// The term of the data key.
    pub fn term(&self) -> u32 {
        self.state.keyring.term()
    }

    /// When the data key was made, in seconds since 1970.
    pub fn term_created(&self) -> i64 {
        self.state.keyring.created()
    }

    /// Records that were written under it.
    pub fn term_writes(&self) -> u64 {
        self.state.manifest.writes()
    }

    /// A new data key for what is written from now on.
    ///
    /// Keyring and manifest root in one `apply`. If we die before it, the old key goes on.
    pub fn rotate_data_key(&mut self, now: i64) -> Result<u32, KeystoreError> {
        let place = SealHeader::place(&self.header.cluster, self.header.epoch);
        // Unwrapped again rather than copied: a keyring cannot be cloned.
        let wrapped = self.state.keyring.wrap(&self.state.root, &place);
        let mut keyring =
            Keyring::unwrap(&self.state.root, &place, &wrapped).map_err(|_| damaged(KEYRING))?;
        if !keyring.rotate(now) {
            return Err(KeystoreError::NoMoreDataKeys);
        }
        let wrapped = keyring.wrap(&self.state.root, &place);
        let cluster = &self.header.cluster;
        let mut next = self.state.manifest.touch(cluster, &keyring, &wrapped);
        let there = Some(self.state.keyring_version);
        next.changes.push(change(KEYRING, there, wrapped));
        self.apply(next)?;
        self.state.keyring = keyring;
        self.state.keyring_version = after(there);
        Ok(self.term())
    }

    /// Drops the keys.
    pub fn seal(self) -> Keystore<Sealed> {
        Keystore {
            store: self.store,
            header: self.header,
            header_version: self.header_version,
            state: Sealed::default(),
        }
    }

    pub(crate) fn apply(&mut self, next: Next) -> Result<(), KeystoreError> {
        self.store
            .apply(&next.changes)
            .map_err(|error| match error {
                // Nobody else writes: something in the database is not what we left there.
                StoreError::Conflict { path } => damaged(path.as_str()),
                other => other.into(),
            })?;
        self.state.manifest.take(next);
        Ok(())
    }

    fn expect(&self, path: &RecordPath, version: Option<u64>) -> Result<(), KeystoreError> {
        if self.version(path) != version || path.as_str().starts_with("seal/") {
            return Err(KeystoreError::Changed { path: path.clone() });
        }
        Ok(())
    }

    fn swap(&mut self, writes: &[Write<'_>]) -> Result<(), KeystoreError> {
        let cluster = self.header.cluster;
        let next = self
            .state
            .manifest
            .write(&cluster, &self.state.keyring, writes);
        self.apply(next)
    }
}
