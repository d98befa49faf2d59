//! The local key file's protection: it opens only with a half that the server gives a device that is not deauthorised.
//!
//! `HKDF(local secret || server's half)`; the local secret lies in the file itself, the half at the server and, while the daemon runs, in
//! memory. A laptop that is stolen while it is off has a file that nothing opens once the server refuses the half. The half protects this
//! file and no slot. Without a server (lease `off`) the key is `HKDF(local secret)` under another label: the file then protects itself by
//! its permissions alone.

use zeroize::Zeroizing;

use crate::ciphertext::Ciphertext;
use crate::derive::derive;
use crate::error::CryptoError;
use crate::secret::SecretBytes;
use crate::unseal_key::associated;
use crate::xaes::Xaes;

/// 256 random bits in the key file.
pub struct LocalSecret(SecretBytes);

/// 256 random bits of one device at the server.
pub struct DeviceHalf(SecretBytes);

/// Encrypts what is in the key file.
pub struct LocalKey(Xaes);

impl LocalSecret {
    /// A new random secret.
    pub fn generate() -> LocalSecret {
        LocalSecret(SecretBytes::generate())
    }

    /// The secret with these bytes.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> LocalSecret {
        LocalSecret(SecretBytes::copy_of(&bytes))
    }

    /// The bytes themselves.
    pub fn expose_secret(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// The key, with the server's half or without one.
    pub fn key(&self, half: Option<&DeviceHalf>) -> LocalKey {
        let derived = match half {
            None => derive(self.0.expose(), "local-key/off"),
            Some(half) => {
                let mut both = Zeroizing::new([0; 64]);
                both[..32].copy_from_slice(self.0.expose());
                both[32..].copy_from_slice(half.0.expose());
                derive(both.as_slice(), "local-key")
            }
        };
        LocalKey(Xaes::new(&derived))
    }
}

impl DeviceHalf {
    /// A new random half.
    pub fn generate() -> DeviceHalf {
        DeviceHalf(SecretBytes::generate())
    }

    /// The half with these bytes.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> DeviceHalf {
        DeviceHalf(SecretBytes::copy_of(&bytes))
    }

    /// The bytes themselves.
    pub fn expose_secret(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

impl LocalKey {
    /// Encrypts the file's content; `place` says of which device and archive.
    pub fn encrypt(&self, place: &[u8], content: &[u8]) -> Ciphertext {
        self.0.encrypt(&associated("local-key", place), content)
    }

    /// Opens what [`LocalKey::encrypt`] made for the same place.
    pub fn decrypt(&self, place: &[u8], stored: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        self.0
            .decrypt("the key file", &associated("local-key", place), stored)
            .map(Zeroizing::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_opens_with_its_secret_and_its_half_alone() {
        let (secret, half) = (LocalSecret::generate(), DeviceHalf::generate());
        let stored = secret.key(Some(&half)).encrypt(b"place", b"content");
        let open = |secret: &LocalSecret, half: Option<&DeviceHalf>, place: &[u8]| {
            secret.key(half).decrypt(place, stored.as_bytes())
        };
        assert_eq!(*open(&secret, Some(&half), b"place").unwrap(), b"content");
        let same = LocalSecret::from_bytes(Zeroizing::new(*secret.expose_secret()));
        assert!(open(&same, Some(&half), b"place").is_ok());
        assert!(open(&secret, None, b"place").is_err());
        assert!(open(&secret, Some(&half), b"elsewhere").is_err());
        assert!(open(&secret, Some(&DeviceHalf::generate()), b"place").is_err());
        assert!(open(&LocalSecret::generate(), Some(&half), b"place").is_err());
        // Two halves of which one is all zero are not "no half".
        let zero = DeviceHalf::from_bytes(Zeroizing::new([0; 32]));
        let off = secret.key(None).encrypt(b"place", b"content");
        assert!(
            secret
                .key(Some(&zero))
                .decrypt(b"place", off.as_bytes())
                .is_err()
        );
        assert!(secret.key(None).decrypt(b"place", off.as_bytes()).is_ok());
    }
}
