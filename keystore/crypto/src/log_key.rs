//! The log key: encrypts what a device keeps on its own disk until it is in the store.
//!
//! It is random and local. Its wrapping lies beside the log, so that a device whose user key is
//! unlocked again can go on where a crash stopped it.

use zeroize::Zeroizing;

use crate::SUITE;
use crate::ciphertext::Ciphertext;
use crate::commitment::{COMMITMENT_BYTES, Committed};
use crate::error::CryptoError;
use crate::secret::SecretBytes;
use crate::user_key::UserKey;
use crate::xaes::{Bulk, NONCE_BYTES, TAG_BYTES, Xaes};

/// Length of a log key wrapped by [`LogKey::wrap`].
pub const WRAPPED_LOG_KEY_BYTES: usize = NONCE_BYTES + 32 + TAG_BYTES + COMMITMENT_BYTES;

const WHAT: &str = "a wrapped log key";

/// 256 random bits of one device.
pub struct LogKey {
    /// Kept for wrapping.
    secret: SecretBytes,
    cipher: Xaes<Bulk>,
}

impl LogKey {
    /// A new random key.
    pub fn generate() -> Self {
        Self::from_secret(SecretBytes::generate())
    }

    fn from_secret(secret: SecretBytes) -> Self {
        let cipher = Xaes::new(&secret);
        LogKey { secret, cipher }
    }

    /// [`WRAPPED_LOG_KEY_BYTES`] bytes: `nonce || ciphertext || tag || commitment`.
    pub fn wrap(&self, user_key: &UserKey) -> Vec<u8> {
        let mut wrapped = Vec::with_capacity(WRAPPED_LOG_KEY_BYTES);
        user_key.log_wrap_key().encrypt_into(
            &wrap_associated_data(),
            self.secret.expose(),
            &mut wrapped,
        );
        wrapped.extend_from_slice(&Committed::Log.commitment(&self.secret));
        wrapped
    }

    /// Opens what [`LogKey::wrap`] made with the same user key.
    pub fn unwrap(user_key: &UserKey, wrapped: &[u8]) -> Result<Self, CryptoError> {
        let malformed = CryptoError::Malformed { what: WHAT };
        let (stored, commitment) = wrapped
            .split_last_chunk::<COMMITMENT_BYTES>()
            .ok_or(malformed.clone())?;
        let key = user_key
            .log_wrap_key()
            .decrypt(WHAT, &wrap_associated_data(), stored)
            .map(Zeroizing::new)?;
        let secret = SecretBytes::from_slice(&key).ok_or(malformed)?;
        Committed::Log.check(WHAT, &secret, commitment)?;
        Ok(Self::from_secret(secret))
    }

    /// Encrypts a record; `associated` says where in the log it stands.
    pub fn encrypt(&self, associated: &[u8], plaintext: &[u8]) -> Ciphertext {
        self.cipher.encrypt(associated, plaintext)
    }

    /// The same, appended to `out`.
    pub fn encrypt_into(&self, associated: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
        self.cipher.encrypt_into(associated, plaintext, out);
    }

    /// Opens what [`LogKey::encrypt`] made with the same `associated`.
    pub fn decrypt(&self, associated: &[u8], stored: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.cipher.decrypt("a log record", associated, stored)
    }
}

/// `"holdfast/1/log-key" || suite u16`
fn wrap_associated_data() -> Vec<u8> {
    [b"holdfast/1/log-key".as_slice(), &SUITE.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests;
