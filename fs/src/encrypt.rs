//! The last stage of a chunk on its way out, and the first on its way in.
//!
//! ```text
//! plaintext -> compress -> encrypt (session key; kind and id are authenticated) -> log, pack
//! log, pack -> decrypt -> decompress -> is it what its id says? -> plaintext
//! ```
//!
//! Checking the id again on the way in costs one BLAKE3 pass and catches a writer that stored
//! something else under an id, which no authentication by a key that it holds could.

use bytes::Bytes;
use holdfast_crypto::{ChunkId, ChunkIdKey, ChunkKind, Ciphertext, CryptoError, SessionKey};

use crate::compress::{DecompressError, compress_into, decompress};

/// A stored chunk does not open to what its id names.
#[derive(Debug, thiserror::Error)]
pub enum DecryptError {
    /// Other bytes than were stored, or another key.
    #[error("a chunk does not authenticate")]
    Crypto(#[from] CryptoError),
    /// Authentic, but not in a form that a chunk has.
    #[error("a chunk does not unpack")]
    Decompress(#[from] DecompressError),
    /// Authentic, but its content has another id.
    #[error("a chunk holds something else than its id says")]
    OtherContent,
}

/// A chunk in the form in which it is logged, uploaded and kept.
///
/// The nonce is random, so two encryptions of one chunk differ; both open.
pub fn encrypt(
    session: &SessionKey,
    kind: ChunkKind,
    id: &ChunkId,
    plaintext: &[u8],
) -> Ciphertext {
    session.encrypt_chunk_written(kind, id, plaintext.len() + 1, |out| {
        compress_into(plaintext, out);
    })
}

/// A stored chunk's plaintext of `raw_length` bytes, checked against its id.
///
/// `ids` is the chunk-id key of the epoch that the id names.
pub fn decrypt(
    session: &SessionKey,
    ids: &ChunkIdKey,
    kind: ChunkKind,
    id: &ChunkId,
    raw_length: u32,
    stored: &[u8],
) -> Result<Bytes, DecryptError> {
    let compressed = session.decrypt_chunk(kind, id, stored)?;
    unpack(ids, kind, id, raw_length, Bytes::from(compressed))
}

/// The same for a stored chunk that is not wanted any more and stands in memory by itself: where nobody else
/// holds it, its room becomes the plaintext's.
pub fn decrypt_owned(
    session: &SessionKey,
    ids: &ChunkIdKey,
    kind: ChunkKind,
    id: &ChunkId,
    raw_length: u32,
    stored: Bytes,
) -> Result<Bytes, DecryptError> {
    match stored.try_into_mut() {
        Ok(mut stored) => {
            let plaintext = session.decrypt_chunk_in_place(kind, id, &mut stored)?;
            unpack(ids, kind, id, raw_length, stored.freeze().slice(plaintext))
        }
        Err(shared) => decrypt(session, ids, kind, id, raw_length, &shared),
    }
}

fn unpack(
    ids: &ChunkIdKey,
    kind: ChunkKind,
    id: &ChunkId,
    raw_length: u32,
    compressed: Bytes,
) -> Result<Bytes, DecryptError> {
    let plaintext = decompress(compressed, raw_length as usize)?;
    if ids.id(id.epoch, kind, &plaintext) != *id {
        return Err(DecryptError::OtherContent);
    }
    Ok(plaintext)
}

#[cfg(test)]
mod tests;
