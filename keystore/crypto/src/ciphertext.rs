//! Bytes that a key has made opaque: the only form in which data may reach a store.

use std::fmt;

use crate::error::CryptoError;
use crate::xaes::{NONCE_BYTES, TAG_BYTES};

/// What an encryption adds to the length of its plaintext.
pub const CIPHERTEXT_OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// `nonce (24) || ciphertext || tag (16)`.
///
/// Made by an encryption in this crate, or taken over from a store with
/// [`Ciphertext::from_stored`] where encrypted bytes are only moved. Storing takes this type and
/// no other, so plaintext cannot get there by mistake.
#[derive(Clone, PartialEq, Eq)]
pub struct Ciphertext(Vec<u8>);

impl Ciphertext {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Ciphertext(bytes)
    }

    /// Takes over bytes that were read from a store. Only the length is checked here: they may not
    /// open.
    pub fn from_stored(bytes: Vec<u8>) -> Result<Self, CryptoError> {
        if bytes.len() < CIPHERTEXT_OVERHEAD_BYTES {
            return Err(CryptoError::Malformed {
                what: "a ciphertext",
            });
        }
        Ok(Ciphertext(bytes))
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes to store, given away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Length in bytes, nonce and tag included. Never below [`CIPHERTEXT_OVERHEAD_BYTES`].
    #[allow(clippy::len_without_is_empty, reason = "a ciphertext is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl AsRef<[u8]> for Ciphertext {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ciphertext({} bytes)", self.0.len())
    }
}
