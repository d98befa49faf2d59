//! The organisation's policy root: signs who the recovery admins are. Kept offline.

use zeroize::Zeroizing;

use crate::error::CryptoError;
use crate::ids::Digest;
use crate::signature::{DeviceSigningKey, DeviceVerifyingKey};

const CONTEXT: &str = "admin-policy";

/// Signs policies.
pub struct PolicyRootKey(DeviceSigningKey);

/// Checks policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyRootPublicKey(DeviceVerifyingKey);

impl PolicyRootKey {
    /// A new random key.
    pub fn generate() -> PolicyRootKey {
        PolicyRootKey(DeviceSigningKey::generate())
    }

    /// The key with this 32-byte seed.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> PolicyRootKey {
        PolicyRootKey(DeviceSigningKey::from_bytes(bytes))
    }

    /// The seed.
    pub fn expose_secret(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }

    /// Signs a policy.
    pub fn sign(&self, policy: &[u8]) -> [u8; 64] {
        self.0.sign(CONTEXT, policy)
    }

    /// The half that clients pin.
    pub fn public(&self) -> PolicyRootPublicKey {
        PolicyRootPublicKey(self.0.verifying_key())
    }
}

impl PolicyRootPublicKey {
    /// The key with these bytes; an error unless they can be one.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<PolicyRootPublicKey, CryptoError> {
        DeviceVerifyingKey::from_bytes(bytes)
            .map(PolicyRootPublicKey)
            .map_err(|_| CryptoError::Malformed {
                what: "a policy root's public key",
            })
    }

    /// The 32 bytes of it.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// What people compare: SHA-256 of the public key.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Whether the root has signed this policy.
    pub fn verify(&self, policy: &[u8], signature: &[u8; 64]) -> Result<(), CryptoError> {
        self.0
            .verify(CONTEXT, policy, signature)
            .map_err(|_| CryptoError::Authentication {
                what: "the policy of recovery admins",
            })
    }
}
