//! What the user key does for its own slots: it signs the record of them, and keeps the recovery code.
//!
//! Only who has the user key can sign, so a server can neither build a record nor alter one, and whoever has opened one slot knows
//! whether the others are the user's.

use zeroize::Zeroizing;

use crate::derive::derive;
use crate::error::CryptoError;
use crate::recovery_code::RecoveryCode;
use crate::signature::DeviceSigningKey;
use crate::unseal_key::associated;
use crate::user_key::UserKey;
use crate::xaes::Xaes;

/// Length of a recovery code encrypted by [`UserKey::encrypt_recovery_code`].
pub const ENCRYPTED_CODE_BYTES: usize = crate::CIPHERTEXT_OVERHEAD_BYTES + 21;

const CONTEXT: &str = "slots";

impl UserKey {
    /// Signs a record of slots (Ed25519 under a key derived from the user key).
    pub fn sign_slots(&self, record: &[u8]) -> [u8; 64] {
        self.slots_key().sign(CONTEXT, record)
    }

    /// Whether somebody with this user key has signed the record.
    pub fn verify_slots(&self, record: &[u8], signature: &[u8; 64]) -> Result<(), CryptoError> {
        self.slots_key()
            .verifying_key()
            .verify(CONTEXT, record, signature)
            .map_err(|_| CryptoError::Authentication {
                what: "the record of the key's slots",
            })
    }

    /// Encrypts the recovery code, so that it can be shown again.
    pub fn encrypt_recovery_code(&self, place: &[u8], code: &RecoveryCode) -> Vec<u8> {
        self.code_cipher()
            .encrypt(&associated("recovery-code", place), code.bytes())
            .into_bytes()
    }

    /// Opens what [`UserKey::encrypt_recovery_code`] made for the same place.
    pub fn decrypt_recovery_code(
        &self,
        place: &[u8],
        stored: &[u8],
    ) -> Result<RecoveryCode, CryptoError> {
        let what = "the recovery code";
        let opened = self
            .code_cipher()
            .decrypt(what, &associated("recovery-code", place), stored)
            .map(Zeroizing::new)?;
        RecoveryCode::from_bytes(&opened).ok_or(CryptoError::Malformed { what })
    }

    fn code_cipher(&self) -> Xaes {
        Xaes::new(&derive(self.expose_secret(), "recovery-code"))
    }

    fn slots_key(&self) -> DeviceSigningKey {
        let seed = derive(self.expose_secret(), "slots-signature");
        DeviceSigningKey::from_bytes(Zeroizing::new(*seed.expose()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_user_key_signs_its_slots() {
        let (key, other) = (UserKey::generate(), UserKey::generate());
        let signature = key.sign_slots(b"record");
        assert!(key.verify_slots(b"record", &signature).is_ok());
        assert!(key.verify_slots(b"recore", &signature).is_err());
        assert!(other.verify_slots(b"record", &signature).is_err());
        assert!(
            key.verify_slots(b"record", &other.sign_slots(b"record"))
                .is_err()
        );
    }

    #[test]
    fn the_recovery_code_can_be_shown_again() {
        let (key, code) = (UserKey::generate(), RecoveryCode::generate());
        let stored = key.encrypt_recovery_code(b"place", &code);
        assert_eq!(stored.len(), ENCRYPTED_CODE_BYTES);
        let again = key.decrypt_recovery_code(b"place", &stored).unwrap();
        assert_eq!(*again.to_printed(), *code.to_printed());
        assert!(key.decrypt_recovery_code(b"elsewhere", &stored).is_err());
        assert!(
            UserKey::generate()
                .decrypt_recovery_code(b"place", &stored)
                .is_err()
        );
        let short = key
            .code_cipher()
            .encrypt(&associated("recovery-code", b"place"), b"short");
        assert!(
            key.decrypt_recovery_code(b"place", short.as_bytes())
                .is_err()
        );
    }
}
