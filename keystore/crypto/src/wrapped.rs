//! A 32-byte key wrapped under another one: `nonce (24) || ciphertext (32) || tag (16) || commitment (32)`.

use zeroize::Zeroizing;

use crate::ciphertext::CIPHERTEXT_OVERHEAD_BYTES;
use crate::commitment::{COMMITMENT_BYTES, Committed};
use crate::error::CryptoError;
use crate::secret::SecretBytes;
use crate::unseal_key::associated;
use crate::xaes::Xaes;

pub(crate) const WRAPPED_KEY_BYTES: usize = CIPHERTEXT_OVERHEAD_BYTES + 32 + COMMITMENT_BYTES;

/// `label` and `place` are authenticated, and stored nowhere.
pub(crate) fn wrap_key(
    cipher: &Xaes,
    label: &str,
    place: &[u8],
    key: &SecretBytes,
    committed: Committed,
) -> Vec<u8> {
    let mut wrapped = Vec::with_capacity(WRAPPED_KEY_BYTES);
    cipher.encrypt_into(&associated(label, place), key.expose(), &mut wrapped);
    wrapped.extend_from_slice(&committed.commitment(key));
    wrapped
}

pub(crate) fn unwrap_key(
    cipher: &Xaes,
    what: &'static str,
    label: &str,
    place: &[u8],
    wrapped: &[u8],
    committed: Committed,
) -> Result<SecretBytes, CryptoError> {
    let malformed = CryptoError::Malformed { what };
    let (stored, commitment) = wrapped
        .split_last_chunk::<COMMITMENT_BYTES>()
        .ok_or(malformed.clone())?;
    let opened = cipher
        .decrypt(what, &associated(label, place), stored)
        .map(Zeroizing::new)?;
    let key = SecretBytes::from_slice(&opened).ok_or(malformed)?;
    committed.check(what, &key, commitment)?;
    Ok(key)
}
