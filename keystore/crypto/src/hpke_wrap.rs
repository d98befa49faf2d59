//! Wrapping a 32-byte key to a public key: HPKE (RFC 9180), base mode, one message per wrapping.
//!
//! Suite: KEM X-Wing (0x647a: ML-KEM-768 and X25519, both must be broken), KDF HKDF-SHA256
//! (0x0001), AEAD AES-256-GCM (0x0002). A wrapping is
//! `enc (1120) || ciphertext (32) || tag (16) || commitment (32)`.
//!
//! This is the only file that names the library.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use zeroize::Zeroizing;

use crate::commitment::{COMMITMENT_BYTES, Committed};
use crate::error::CryptoError;
use crate::secret::SecretBytes;

/// Length of a public key that keys are wrapped to.
pub const PUBLIC_KEY_BYTES: usize = 1216;

const ENCAPSULATED_BYTES: usize = 1120;
pub(crate) const WRAPPED_BYTES: usize = ENCAPSULATED_BYTES + 32 + 16 + COMMITMENT_BYTES;

/// What a wrapping is for. Everything here is authenticated, nothing is stored with it.
pub(crate) struct Purpose<'a> {
    pub(crate) what: &'static str,
    /// HPKE `info`.
    pub(crate) info: &'static str,
    /// HPKE `aad`.
    pub(crate) associated: &'a [u8],
    pub(crate) committed: Committed,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PublicKey(Box<<XWing as Kem>::PublicKey>);

impl PublicKey {
    pub(crate) fn from_bytes(what: &'static str, bytes: &[u8]) -> Result<Self, CryptoError> {
        <XWing as Kem>::PublicKey::from_bytes(bytes)
            .map(|key| PublicKey(Box::new(key)))
            .map_err(|_| CryptoError::Malformed { what })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes().to_vec()
    }

    pub(crate) fn wrap(&self, purpose: &Purpose<'_>, key: &SecretBytes) -> Vec<u8> {
        // The AES-GCM nonce is HPKE's base nonce, derived from a shared secret that is fresh with
        // every call; the one message under it is this one.
        let (encapsulated, ciphertext) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, XWing>(
            &OpModeS::Base,
            &self.0,
            purpose.info.as_bytes(),
            key.expose(),
            purpose.associated,
        )
        .expect("a public key that was parsed or derived can be wrapped to");
        let mut wrapped = Vec::with_capacity(WRAPPED_BYTES);
        wrapped.extend_from_slice(&encapsulated.to_bytes());
        wrapped.extend_from_slice(&ciphertext);
        wrapped.extend_from_slice(&purpose.committed.commitment(key));
        wrapped
    }
}

/// A private key and its public key. The library zeroes the private part when it is dropped.
pub(crate) struct KeyPair {
    private: Box<<XWing as Kem>::PrivateKey>,
    public: PublicKey,
}

impl KeyPair {
    /// The X-Wing private key *is* its 32-byte seed; SHAKE256 expands it to the two halves.
    pub(crate) fn from_seed(seed: &SecretBytes) -> Self {
        let private = <XWing as Kem>::PrivateKey::from_bytes(seed.expose())
            .map(Box::new)
            .expect("every 32 bytes are an X-Wing private key");
        let public = PublicKey(Box::new(XWing::sk_to_pk(&private)));
        KeyPair { private, public }
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn unwrap(
        &self,
        purpose: &Purpose<'_>,
        wrapped: &[u8],
    ) -> Result<SecretBytes, CryptoError> {
        let what = purpose.what;
        let malformed = || CryptoError::Malformed { what };
        if wrapped.len() != WRAPPED_BYTES {
            return Err(malformed());
        }
        let (encapsulated, rest) = wrapped.split_at(ENCAPSULATED_BYTES);
        let (ciphertext, commitment) = rest
            .split_last_chunk::<COMMITMENT_BYTES>()
            .ok_or_else(malformed)?;
        let encapsulated =
            <XWing as Kem>::EncappedKey::from_bytes(encapsulated).map_err(|_| malformed())?;
        let key = hpke::single_shot_open::<AesGcm256, HkdfSha256, XWing>(
            &OpModeR::Base,
            &self.private,
            &encapsulated,
            purpose.info.as_bytes(),
            ciphertext,
            purpose.associated,
        )
        .map(Zeroizing::new)
        .map_err(|_| CryptoError::Authentication { what })?;
        let key = SecretBytes::from_slice(&key).ok_or_else(malformed)?;
        purpose.committed.check(what, &key, commitment)?;
        Ok(key)
    }
}
