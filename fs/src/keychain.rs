//! The keys that the archive secrets give, per epoch.
//!
//! One place derives them and holds them for as long as the archive is open. New data is made under
//! the newest epoch; ids, cuts and name hashes come from the epoch that the newest one refers to
//! (`id_epoch`), so that an ordinary rotation keeps deduplication. What is stored is opened with the
//! epoch that its header or its id names.

use std::collections::BTreeMap;

use holdfast_crypto::{
    ArchiveKeyPair, ArchiveSecret, ChunkId, ChunkIdKey, ChunkKind, ChunkerKey, CommitKey,
    FingerprintKey, IndexKey, NameKey,
};
use zeroize::Zeroizing;

use crate::format::Keyring;

/// All derived keys of an archive.
pub struct Keychain {
    current: u32,
    id_epoch: u32,
    epochs: BTreeMap<u32, EpochKeys>,
}

/// The derived keys of one epoch.
pub struct EpochKeys {
    /// Wraps and unwraps session keys.
    pub archive: ArchiveKeyPair,
    /// Names chunks.
    pub chunk_ids: ChunkIdKey,
    /// Cuts files.
    pub chunker: ChunkerKey,
    /// Encrypts index objects, pack tables and trailers.
    pub index: IndexKey,
    /// Encrypts commits.
    pub commit: CommitKey,
    /// Orders directory entries.
    pub names: NameKey,
    /// Tells whether a source file has changed.
    pub fingerprints: FingerprintKey,
}

/// A keyring that gives no usable keys.
#[derive(Debug, thiserror::Error)]
pub enum KeychainError {
    /// No epoch at all.
    #[error("the keyring holds no archive secret")]
    NoEpoch,
    /// The newest epoch takes its ids from one that is not there.
    #[error("the keyring's newest epoch refers to epoch {epoch}, which it does not hold")]
    MissingEpoch {
        /// The missing one.
        epoch: u32,
    },
    /// A later chunker.
    #[error(
        "this archive uses chunker {number}, which this program does not know: update the program"
    )]
    UnknownChunker {
        /// Its number.
        number: u8,
    },
}

/// The one chunker of this version: FastCDC with a keyed gear table.
pub const CHUNKER: u8 = 1;

impl EpochKeys {
    fn derive(secret: &ArchiveSecret) -> Self {
        Self {
            archive: secret.archive_key_pair(),
            chunk_ids: secret.chunk_id_key(),
            chunker: secret.chunker_key(),
            index: secret.index_key(),
            commit: secret.commit_key(),
            names: secret.name_key(),
            fingerprints: secret.fingerprint_key(),
        }
    }
}

impl Keychain {
    /// Derives every epoch's keys.
    pub fn new(keyring: &Keyring) -> Result<Self, KeychainError> {
        let newest = keyring
            .epochs
            .iter()
            .max_by_key(|epoch| epoch.number)
            .ok_or(KeychainError::NoEpoch)?;
        if newest.chunker != CHUNKER {
            return Err(KeychainError::UnknownChunker {
                number: newest.chunker,
            });
        }
        let epochs: BTreeMap<_, _> = keyring
            .epochs
            .iter()
            .map(|epoch| {
                let secret = ArchiveSecret::from_bytes(Zeroizing::new(*epoch.secret));
                (epoch.number, EpochKeys::derive(&secret))
            })
            .collect();
        let id_epoch = newest.id_epoch;
        if !epochs.contains_key(&id_epoch) {
            return Err(KeychainError::MissingEpoch { epoch: id_epoch });
        }
        Ok(Self {
            current: newest.number,
            id_epoch,
            epochs,
        })
    }

    /// The epoch under which new objects are made.
    pub fn current_epoch(&self) -> u32 {
        self.current
    }

    /// Its keys.
    pub fn current(&self) -> &EpochKeys {
        &self.epochs[&self.current]
    }

    /// The keys of an epoch, if the keyring holds it.
    pub fn epoch(&self, number: u32) -> Option<&EpochKeys> {
        self.epochs.get(&number)
    }

    fn id_keys(&self) -> &EpochKeys {
        &self.epochs[&self.id_epoch]
    }

    /// A new chunk's id.
    pub fn chunk_id(&self, kind: ChunkKind, plaintext: &[u8]) -> ChunkId {
        self.id_keys().chunk_ids.id(self.id_epoch, kind, plaintext)
    }

    /// The table by which files are cut.
    pub fn gear_table(&self) -> Box<[u64; 256]> {
        self.id_keys().chunker.gear_table()
    }

    /// Where a name stands in its folder.
    pub fn name_hash(&self, name: &[u8]) -> u64 {
        self.id_keys().names.hash(name)
    }

    /// The key that orders names.
    pub fn names(&self) -> &NameKey {
        &self.id_keys().names
    }

    /// What tells whether a source file has changed.
    pub fn fingerprint(&self, parts: &[u8]) -> u64 {
        self.id_keys().fingerprints.fingerprint(parts)
    }
}
