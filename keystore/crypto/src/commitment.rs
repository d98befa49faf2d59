//! The commitment that every wrapped key carries.
//!
//! AES-GCM does not commit to its key: whoever knows two keys can build one ciphertext that opens
//! under both, to two plaintexts. If such a plaintext is a key, two readers of one object see two
//! histories (the attack of CVE-2025-14760). So 32 bytes derived from the wrapped key itself stand
//! in the clear beside it. Two keys with equal commitments would be a collision of SHA-256, and
//! since the object's name covers the commitment, an object has one key for all its readers.
//!
//! The wrapped key is random and 256 bits long: its commitment says nothing about it, except that
//! two wrappings with equal commitments hold the same key.

use subtle::ConstantTimeEq;

use crate::derive::derive;
use crate::error::CryptoError;
use crate::secret::SecretBytes;

pub(crate) const COMMITMENT_BYTES: usize = 32;

/// The role of a wrapped key, part of its commitment.
#[derive(Clone, Copy)]
pub(crate) enum Committed {
    User,
    Session,
    Log,
    Root,
    Piece,
}

impl Committed {
    fn label(self) -> &'static str {
        match self {
            Committed::User => "commitment/user-key",
            Committed::Session => "commitment/session-key",
            Committed::Log => "commitment/log-key",
            Committed::Root => "commitment/root-key",
            Committed::Piece => "commitment/recovery-piece",
        }
    }

    pub(crate) fn commitment(self, key: &SecretBytes) -> [u8; COMMITMENT_BYTES] {
        *derive(key.expose(), self.label()).expose()
    }

    /// Compares in constant time.
    pub(crate) fn check(
        self,
        what: &'static str,
        key: &SecretBytes,
        commitment: &[u8; COMMITMENT_BYTES],
    ) -> Result<(), CryptoError> {
        if self.commitment(key).ct_eq(commitment).into() {
            Ok(())
        } else {
            Err(CryptoError::Commitment { what })
        }
    }
}
