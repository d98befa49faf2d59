//! Derivation of keys from keys: HKDF-SHA256 (RFC 5869), empty salt, one label per role.
//!
//! The labels are part of the format. The tests below freeze each of them.

use hkdf::Hkdf;
use sha2::Sha256;

use crate::secret::SecretBytes;

/// `HKDF-SHA256(ikm = secret, salt = "", info = "holdfast/1/<label>")`, 32 bytes.
pub(crate) fn derive(secret: &[u8], label: &str) -> SecretBytes {
    let mut key = SecretBytes::zeroed();
    derive_into(secret, label, key.expose_mut());
    key
}

/// The same for any length up to 8160 bytes.
pub(crate) fn derive_into(secret: &[u8], label: &str, output: &mut [u8]) {
    Hkdf::<Sha256>::new(None, secret)
        .expand_multi_info(&[b"holdfast/1/", label.as_bytes()], output)
        .expect("every caller asks for less than 255 blocks");
}

#[cfg(test)]
mod tests;
