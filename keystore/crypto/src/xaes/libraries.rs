//! AES-256-GCM (NIST SP 800-38D) of one message, from two libraries that make the same of it.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Tag};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::TAG_BYTES;
use crate::secret::SecretBytes;

pub(crate) const GCM_NONCE_BYTES: usize = 12;

/// The tag is not that of this message.
pub(crate) struct WrongTag;

/// The cipher with the key of one message.
pub(crate) trait Gcm {
    fn new(key: &SecretBytes) -> Self;

    /// Encrypts in place; the tag.
    fn encrypt(
        &self,
        nonce: [u8; GCM_NONCE_BYTES],
        associated: &[u8],
        body: &mut [u8],
    ) -> [u8; TAG_BYTES];

    /// Decrypts in place. What stands there after a wrong tag is nobody's business.
    fn decrypt(
        &self,
        nonce: [u8; GCM_NONCE_BYTES],
        associated: &[u8],
        body: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), WrongTag>;
}

/// For keys and what else is short and secret for ever: the key schedule zeroes itself.
pub(crate) struct Wiped(Aes256Gcm);

impl Gcm for Wiped {
    fn new(key: &SecretBytes) -> Self {
        Wiped(Aes256Gcm::new(key.expose().into()))
    }

    fn encrypt(
        &self,
        nonce: [u8; GCM_NONCE_BYTES],
        associated: &[u8],
        body: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        self.0
            .encrypt_inout_detached(&nonce.into(), associated, InOutBuf::from(body))
            .expect(FITS)
            .into()
    }

    fn decrypt(
        &self,
        nonce: [u8; GCM_NONCE_BYTES],
        associated: &[u8],
        body: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), WrongTag> {
        let tag = Tag::from(*tag);
        self.0
            .decrypt_inout_detached(&nonce.into(), associated, InOutBuf::from(body), &tag)
            .map_err(|_| WrongTag)
    }
}

/// For the user's contents, which are long: encryption and GHASH in one pass over the bytes, three times as fast. The key
/// schedule is not wiped: of a message's key that tells what the plaintext beside it in memory told, and nothing of other messages.
pub(crate) struct Bulk(LessSafeKey);

impl Gcm for Bulk {
    fn new(key: &SecretBytes) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key.expose()).expect("AES-256 takes 32 bytes");
        Bulk(LessSafeKey::new(key))
    }

    fn encrypt(
        &self,
        nonce: [u8; GCM_NONCE_BYTES],
        associated: &[u8],
        body: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(associated), body)
            .expect(FITS);
        tag.as_ref().try_into().expect("a tag has 16 bytes")
    }

    fn decrypt(
        &self,
        nonce: [u8; GCM_NONCE_BYTES],
        associated: &[u8],
        body: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), WrongTag> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .open_in_place_separate_tag(nonce, Aad::from(associated), (*tag).into(), body, 0..)
            .map_err(|_| WrongTag)?;
        Ok(())
    }
}

const FITS: &str = "nothing that fits in memory here comes near 64 GiB";
