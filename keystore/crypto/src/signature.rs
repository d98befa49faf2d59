//! Signatures of a device: Ed25519 (RFC 8032).
//!
//! What is signed is `"holdfast/1/signature" || length of context u8 || context || message`, so a
//! signature made for one purpose is worth nothing for another.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::error::CryptoError;
use crate::secret::SecretBytes;

/// Signs what a device stores: made on the device, kept there.
pub struct DeviceSigningKey {
    secret: SecretBytes,
    /// Zeroes itself when dropped.
    key: Box<SigningKey>,
}

impl DeviceSigningKey {
    /// A new random key.
    pub fn generate() -> Self {
        Self::from_secret(SecretBytes::generate())
    }

    /// The key with this 32-byte seed (the private key of RFC 8032).
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self::from_secret(SecretBytes::copy_of(&bytes))
    }

    fn from_secret(secret: SecretBytes) -> Self {
        let key = Box::new(SigningKey::from_bytes(secret.expose()));
        DeviceSigningKey { secret, key }
    }

    /// The seed.
    pub fn expose_secret(&self) -> &[u8; 32] {
        self.secret.expose()
    }

    /// Signs a message for one purpose. `context` names it: a short constant.
    pub fn sign(&self, context: &'static str, message: &[u8]) -> [u8; 64] {
        self.key.sign(&signed_bytes(context, message)).to_bytes()
    }

    /// The half that others check with.
    pub fn verifying_key(&self) -> DeviceVerifyingKey {
        DeviceVerifyingKey(self.key.verifying_key())
    }
}

/// Checks the signatures of one device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeviceVerifyingKey(VerifyingKey);

impl DeviceVerifyingKey {
    /// The key with these bytes; an error unless they are a point that can be one.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CryptoError> {
        let malformed = CryptoError::Malformed {
            what: "a device's public key",
        };
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| malformed.clone())?;
        // Under a weak key one signature fits every message.
        if key.is_weak() {
            Err(malformed)
        } else {
            Ok(DeviceVerifyingKey(key))
        }
    }

    /// The 32 bytes of the public key.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Strict verification: one encoding of one signature, no small-order points.
    pub fn verify(
        &self,
        context: &'static str,
        message: &[u8],
        signature: &[u8; 64],
    ) -> Result<(), CryptoError> {
        self.0
            .verify_strict(
                &signed_bytes(context, message),
                &Signature::from_bytes(signature),
            )
            .map_err(|_| CryptoError::Authentication {
                what: "a device's signature",
            })
    }
}

impl fmt::Debug for DeviceVerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceVerifyingKey(")?;
        self.to_bytes()[..4]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

fn signed_bytes(context: &str, message: &[u8]) -> Vec<u8> {
    let length =
        u8::try_from(context.len()).expect("a context is a short constant of this program");
    [
        b"holdfast/1/signature".as_slice(),
        &[length],
        context.as_bytes(),
        message,
    ]
    .concat()
}

#[cfg(test)]
mod tests;
