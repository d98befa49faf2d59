//! The session key: encrypts the chunks of one mount.

use std::ops::Range;

use crate::SUITE;
use crate::ciphertext::Ciphertext;
use crate::error::CryptoError;
use crate::ids::{ChunkId, ChunkKind};
use crate::secret::SecretBytes;
use crate::xaes::{Bulk, Xaes};

/// 256 random bits, new with every mount, stored wrapped to the archive's public key.
pub struct SessionKey {
    /// Kept for wrapping.
    secret: SecretBytes,
    cipher: Xaes<Bulk>,
}

impl SessionKey {
    /// A new random key.
    pub fn generate() -> Self {
        Self::from_secret(SecretBytes::generate())
    }

    pub(crate) fn from_secret(secret: SecretBytes) -> Self {
        let cipher = Xaes::new(&secret);
        SessionKey { secret, cipher }
    }

    pub(crate) fn secret(&self) -> &SecretBytes {
        &self.secret
    }

    /// Encrypts a chunk, compressed or not. The result does not depend on the chunk's place, so a
    /// pack can be rewritten by somebody without keys.
    pub fn encrypt_chunk(&self, kind: ChunkKind, id: &ChunkId, plaintext: &[u8]) -> Ciphertext {
        self.cipher
            .encrypt(&chunk_associated_data(kind, id), plaintext)
    }

    /// The same for a chunk that `write` appends to a vector; what stands in it before stays.
    /// Saves the copy. `most` is about how many bytes come.
    pub fn encrypt_chunk_written(
        &self,
        kind: ChunkKind,
        id: &ChunkId,
        most: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Ciphertext {
        self.cipher
            .encrypt_written(&chunk_associated_data(kind, id), most, write)
    }

    /// Opens a chunk: what comes out is what somebody with this key encrypted under this very id
    /// and kind.
    pub fn decrypt_chunk(
        &self,
        kind: ChunkKind,
        id: &ChunkId,
        stored: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.cipher
            .decrypt("a chunk", &chunk_associated_data(kind, id), stored)
    }

    /// The same in the room of the stored form; says where in it the plaintext stands.
    pub fn decrypt_chunk_in_place(
        &self,
        kind: ChunkKind,
        id: &ChunkId,
        stored: &mut [u8],
    ) -> Result<Range<usize>, CryptoError> {
        self.cipher
            .decrypt_in_place("a chunk", &chunk_associated_data(kind, id), stored)
    }
}

const CHUNK: &[u8; 16] = b"holdfast/1/chunk";

/// `"holdfast/1/chunk" || suite u16 || kind u8 || epoch u32 || hash`: a chunk cannot be passed off
/// as another one.
fn chunk_associated_data(kind: ChunkKind, id: &ChunkId) -> [u8; 55] {
    let mut associated = [0; 55];
    associated[..16].copy_from_slice(CHUNK);
    associated[16..18].copy_from_slice(&SUITE.to_le_bytes());
    associated[18] = kind.to_u8();
    associated[19..23].copy_from_slice(&id.epoch.to_le_bytes());
    associated[23..].copy_from_slice(&id.hash);
    associated
}

#[cfg(test)]
mod tests;
