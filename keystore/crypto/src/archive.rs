//! The archive secret of one epoch, and the key of each role derived from it.

use zeroize::Zeroizing;

use crate::SUITE;
use crate::ciphertext::Ciphertext;
use crate::commitment::Committed;
use crate::derive::{derive, derive_into};
use crate::error::CryptoError;
use crate::hpke_wrap::{KeyPair, PUBLIC_KEY_BYTES, PublicKey, Purpose, WRAPPED_BYTES};
use crate::ids::{ChunkId, ChunkKind};
use crate::secret::SecretBytes;
use crate::session_key::SessionKey;
use crate::xaes::Xaes;

/// Length of a session key wrapped by [`ArchivePublicKey::wrap`].
pub const WRAPPED_SESSION_KEY_BYTES: usize = WRAPPED_BYTES;

/// 256 random bits of one epoch, kept in the keyring. A device may be given some of the keys
/// derived from it without the secret itself: writing needs no private key.
pub struct ArchiveSecret(SecretBytes);

impl ArchiveSecret {
    /// A new random secret.
    pub fn generate() -> Self {
        ArchiveSecret(SecretBytes::generate())
    }

    /// The secret with these bytes.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        ArchiveSecret(SecretBytes::copy_of(&bytes))
    }

    /// The bytes themselves.
    pub fn expose_secret(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Unwraps session keys.
    pub fn archive_key_pair(&self) -> ArchiveKeyPair {
        ArchiveKeyPair(KeyPair::from_seed(&self.derive("archive-key-pair")))
    }

    /// Names chunks.
    pub fn chunk_id_key(&self) -> ChunkIdKey {
        ChunkIdKey(self.derive("chunk-id"))
    }

    /// Decides where files are cut.
    pub fn chunker_key(&self) -> ChunkerKey {
        ChunkerKey(self.derive("chunker"))
    }

    /// Encrypts index objects and the tables of packs.
    pub fn index_key(&self) -> IndexKey {
        IndexKey(Xaes::new(&self.derive("index")))
    }

    /// Encrypts commits.
    pub fn commit_key(&self) -> CommitKey {
        CommitKey(Xaes::new(&self.derive("commit")))
    }

    /// Orders the entries of a folder.
    pub fn name_key(&self) -> NameKey {
        NameKey(self.derive("name"))
    }

    /// Marks what a file looked like when it was last stored.
    pub fn fingerprint_key(&self) -> FingerprintKey {
        FingerprintKey(self.derive("fingerprint"))
    }

    fn derive(&self, label: &str) -> SecretBytes {
        derive(self.0.expose(), label)
    }
}

/// Unwraps session keys: only who can read the archive has it.
pub struct ArchiveKeyPair(KeyPair);

impl ArchiveKeyPair {
    /// The half that a writer needs.
    pub fn public(&self) -> ArchivePublicKey {
        ArchivePublicKey(self.0.public().clone())
    }

    /// Opens a key object's body. `epoch` is the epoch in the object's header.
    pub fn unwrap(&self, epoch: u32, wrapped: &[u8]) -> Result<SessionKey, CryptoError> {
        with_session_purpose(epoch, |purpose| self.0.unwrap(purpose, wrapped))
            .map(SessionKey::from_secret)
    }
}

/// Wraps session keys. Who has only this can write and read nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct ArchivePublicKey(PublicKey);

impl ArchivePublicKey {
    /// The key with these [`PUBLIC_KEY_BYTES`] bytes; an error unless they are a valid key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        PublicKey::from_bytes("an archive public key", bytes).map(ArchivePublicKey)
    }

    /// [`PUBLIC_KEY_BYTES`] bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = self.0.to_bytes();
        debug_assert_eq!(bytes.len(), PUBLIC_KEY_BYTES);
        bytes
    }

    /// The body of a key object: [`WRAPPED_SESSION_KEY_BYTES`] bytes that only the key pair of
    /// this epoch opens.
    pub fn wrap(&self, epoch: u32, key: &SessionKey) -> Vec<u8> {
        with_session_purpose(epoch, |purpose| self.0.wrap(purpose, key.secret()))
    }
}

fn with_session_purpose<T>(epoch: u32, act: impl FnOnce(&Purpose<'_>) -> T) -> T {
    let mut associated = [0; 6];
    associated[..2].copy_from_slice(&SUITE.to_le_bytes());
    associated[2..].copy_from_slice(&epoch.to_le_bytes());
    act(&Purpose {
        what: "a wrapped session key",
        info: "holdfast/1/session-key",
        associated: &associated,
        committed: Committed::Session,
    })
}

/// Names chunks by their content.
pub struct ChunkIdKey(SecretBytes);

impl ChunkIdKey {
    /// BLAKE3 keyed with this key, over the kind's number and the plaintext before compression.
    /// `epoch` is the epoch of this key.
    pub fn id(&self, epoch: u32, kind: ChunkKind, plaintext: &[u8]) -> ChunkId {
        let hash = *blake3::Hasher::new_keyed(self.0.expose())
            .update(&[kind.to_u8()])
            .update(plaintext)
            .finalize()
            .as_bytes();
        ChunkId { epoch, hash }
    }
}

/// Decides where files are cut. Without it, the lengths of chunks do not give a known file away.
pub struct ChunkerKey(SecretBytes);

impl ChunkerKey {
    /// The gear table of the chunker: 256 words, the little-endian words of 2048 bytes of HKDF
    /// output. As secret as the key: it must not be printed or stored.
    pub fn gear_table(&self) -> Box<[u64; 256]> {
        let mut bytes = Zeroizing::new(vec![0; 2048]);
        derive_into(self.0.expose(), "gear", &mut bytes);
        let mut table = Box::new([0; 256]);
        for (word, bytes) in table.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        table
    }
}

/// Encrypts index objects and the tables of packs.
pub struct IndexKey(Xaes);

impl IndexKey {
    /// Encrypts; `associated` says which object, and which part of it, this is.
    pub fn encrypt(&self, associated: &[u8], plaintext: &[u8]) -> Ciphertext {
        self.0.encrypt(associated, plaintext)
    }

    /// Opens what [`IndexKey::encrypt`] made with the same `associated`.
    pub fn decrypt(&self, associated: &[u8], stored: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.0
            .decrypt("an index or a pack's table", associated, stored)
    }
}

/// Encrypts commits.
pub struct CommitKey(Xaes);

impl CommitKey {
    /// Encrypts; `associated` says which commit this is.
    pub fn encrypt(&self, associated: &[u8], plaintext: &[u8]) -> Ciphertext {
        self.0.encrypt(associated, plaintext)
    }

    /// Opens what [`CommitKey::encrypt`] made with the same `associated`.
    pub fn decrypt(&self, associated: &[u8], stored: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.0.decrypt("a commit", associated, stored)
    }
}

/// Orders the entries of a folder, so that the order gives nothing away and an adversary who
/// chooses names cannot choose places.
pub struct NameKey(SecretBytes);

impl NameKey {
    /// A keyed hash of an entry's name: 63 bits, because it serves as the kernel's signed folder
    /// offset, and never below 16, which leaves room for `.`, `..` and a start.
    pub fn hash(&self, name: &[u8]) -> u64 {
        let hash = keyed_u64(&self.0, name) & (u64::MAX >> 1);
        if hash < 16 { hash + 16 } else { hash }
    }
}

/// Marks what a file looked like when it was last stored, in 64 bits.
pub struct FingerprintKey(SecretBytes);

impl FingerprintKey {
    /// A keyed hash of the facts about a file, which the caller encodes.
    pub fn fingerprint(&self, parts: &[u8]) -> u64 {
        keyed_u64(&self.0, parts)
    }
}

fn keyed_u64(key: &SecretBytes, bytes: &[u8]) -> u64 {
    let hash = blake3::keyed_hash(key.expose(), bytes);
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

#[cfg(test)]
mod tests;
