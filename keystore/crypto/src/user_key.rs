//! The user key: the root of everything one person stores.

use zeroize::Zeroizing;

use crate::ciphertext::Ciphertext;
use crate::derive::derive;
use crate::error::CryptoError;
use crate::secret::SecretBytes;
use crate::xaes::Xaes;

/// 256 random bits, made on the user's device. Kept in slots, never in the store and never in
/// clear on a server.
pub struct UserKey(SecretBytes);

impl UserKey {
    /// A new random key.
    pub fn generate() -> Self {
        UserKey(SecretBytes::generate())
    }

    /// The key with these bytes.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        UserKey(SecretBytes::copy_of(&bytes))
    }

    pub(crate) fn from_secret(secret: SecretBytes) -> Self {
        UserKey(secret)
    }

    pub(crate) fn secret(&self) -> &SecretBytes {
        &self.0
    }

    /// The bytes themselves.
    pub fn expose_secret(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// The key of the keyring.
    pub fn keyring_key(&self) -> KeyringKey {
        KeyringKey(Xaes::new(&derive(self.expose_secret(), "keyring")))
    }

    /// The key under which a device's log key is wrapped.
    pub(crate) fn log_wrap_key(&self) -> Xaes {
        Xaes::new(&derive(self.expose_secret(), "log-wrap"))
    }
}

/// Encrypts the keyring: the archive secrets of every epoch and the list of devices.
pub struct KeyringKey(Xaes);

impl KeyringKey {
    /// Encrypts a keyring; `associated` says which (its object's header and version).
    pub fn encrypt(&self, associated: &[u8], plaintext: &[u8]) -> Ciphertext {
        self.0.encrypt(associated, plaintext)
    }

    /// Opens what [`KeyringKey::encrypt`] made with the same `associated`. The keyring is itself
    /// secret, so the plaintext is zeroed when dropped.
    pub fn decrypt(
        &self,
        associated: &[u8],
        stored: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        self.0
            .decrypt("the keyring", associated, stored)
            .map(Zeroizing::new)
    }
}
