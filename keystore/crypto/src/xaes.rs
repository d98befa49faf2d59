//! XAES-256-GCM, the extended-nonce AEAD of <https://c2sp.org/XAES-256-GCM>.
//!
//! The first half of a 24-byte nonce and the key give a fresh AES-256 key (NIST SP 800-108r1
//! counter mode over AES-CMAC: two block encryptions), the second half is that key's AES-GCM
//! nonce. With 192 random bits no counter has to survive a crash or be shared between processes:
//! after 2⁸⁰ messages under one key a nonce has repeated with probability 2⁻³².
//!
//! This is the only module that names the cipher. It comes from two libraries: [`Wiped`] for what holds keys,
//! [`Bulk`] for the user's contents.

use std::marker::PhantomData;
use std::ops::Range;

use aes_gcm::aead::KeyInit;
use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::BlockCipherEncrypt;
use zeroize::Zeroize;

use crate::ciphertext::Ciphertext;
use crate::error::CryptoError;
use crate::secret::{SecretBytes, fill_random};

mod libraries;

pub(crate) use libraries::{Bulk, Wiped};
use libraries::{GCM_NONCE_BYTES, Gcm, WrongTag};

pub(crate) const NONCE_BYTES: usize = 24;
pub(crate) const TAG_BYTES: usize = 16;

/// A key ready for use: its AES key schedule and CMAC subkey are computed once, not per message.
pub(crate) struct Xaes<C = Wiped>(Box<Schedule>, PhantomData<C>);

struct Schedule {
    /// Zeroes itself (feature `zeroize` of the cipher).
    aes: Aes256,
    /// The CMAC subkey K1 of NIST SP 800-38B; K2 is never needed, the input is one whole block.
    k1: [u8; 16],
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.k1.zeroize();
    }
}

impl<C: Gcm> Xaes<C> {
    pub(crate) fn new(key: &SecretBytes) -> Self {
        let aes = Aes256::new(key.expose().into());
        let mut l = aes_gcm::aes::Block::default();
        aes.encrypt_block(&mut l);
        let k1 = double(u128::from_be_bytes(l.into())).to_be_bytes();
        l.as_mut_slice().zeroize();
        Xaes(Box::new(Schedule { aes, k1 }), PhantomData)
    }

    /// `nonce || ciphertext || tag` as a new vector of exactly that size.
    pub(crate) fn encrypt(&self, associated: &[u8], plaintext: &[u8]) -> Ciphertext {
        let mut out = Vec::with_capacity(NONCE_BYTES + plaintext.len() + TAG_BYTES);
        self.encrypt_into(associated, plaintext, &mut out);
        Ciphertext::new(out)
    }

    /// The same for a plaintext that `write` appends to a vector, of which it must leave alone what
    /// stands in it: no copy of the plaintext is made. `most` is about how long that becomes.
    pub(crate) fn encrypt_written(
        &self,
        associated: &[u8],
        most: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Ciphertext {
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce);
        let mut out = Vec::with_capacity(NONCE_BYTES + most + TAG_BYTES);
        out.extend_from_slice(&nonce);
        write(&mut out);
        assert_eq!(
            out.get(..NONCE_BYTES),
            Some(&nonce[..]),
            "whoever writes a plaintext leaves the nonce alone"
        );
        self.encrypt_in_place(&nonce, associated, NONCE_BYTES, &mut out);
        Ciphertext::new(out)
    }

    /// Appends `nonce || ciphertext || tag`.
    pub(crate) fn encrypt_into(&self, associated: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
        // Cannot repeat: 192 fresh random bits for every message, never taken from state.
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce);
        self.encrypt_with_nonce(&nonce, associated, plaintext, out);
    }

    fn encrypt_with_nonce(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) {
        out.reserve(NONCE_BYTES + plaintext.len() + TAG_BYTES);
        out.extend_from_slice(nonce);
        let start = out.len();
        out.extend_from_slice(plaintext);
        self.encrypt_in_place(nonce, associated, start, out);
    }

    /// Encrypts what stands in `out` from `start` on, and appends the tag.
    fn encrypt_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        start: usize,
        out: &mut Vec<u8>,
    ) {
        let (cipher, gcm_nonce) = self.message_cipher(nonce);
        let tag = cipher.encrypt(gcm_nonce, associated, &mut out[start..]);
        out.extend_from_slice(&tag);
    }

    /// The plaintext, in a new vector of exactly its size. No byte of it is seen unless the tag is
    /// right.
    pub(crate) fn decrypt(
        &self,
        what: &'static str,
        associated: &[u8],
        stored: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let Parts { nonce, body, tag } = parts(what, stored)?;
        let mut plaintext = stored[body].to_vec();
        self.decrypt_detached(what, associated, &nonce, &mut plaintext, &tag)?;
        Ok(plaintext)
    }

    /// The same in the room of the ciphertext; says where in it the plaintext stands. If the tag is
    /// wrong, nothing of any use stands there any more.
    pub(crate) fn decrypt_in_place(
        &self,
        what: &'static str,
        associated: &[u8],
        stored: &mut [u8],
    ) -> Result<Range<usize>, CryptoError> {
        let Parts { nonce, body, tag } = parts(what, stored)?;
        self.decrypt_detached(what, associated, &nonce, &mut stored[body.clone()], &tag)?;
        Ok(body)
    }

    fn decrypt_detached(
        &self,
        what: &'static str,
        associated: &[u8],
        nonce: &[u8; NONCE_BYTES],
        body: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), CryptoError> {
        let (cipher, gcm_nonce) = self.message_cipher(nonce);
        cipher
            .decrypt(gcm_nonce, associated, body, tag)
            .map_err(|WrongTag| CryptoError::Authentication { what })
    }

    /// Steps 3 to 6 of the specification: AES-256-GCM with the key of one message, and its nonce.
    fn message_cipher(&self, nonce: &[u8; NONCE_BYTES]) -> (C, [u8; GCM_NONCE_BYTES]) {
        let mut gcm_nonce = [0; GCM_NONCE_BYTES];
        gcm_nonce.copy_from_slice(&nonce[NONCE_BYTES - GCM_NONCE_BYTES..]);
        (C::new(&self.message_key(nonce)), gcm_nonce)
    }

    fn message_key(&self, nonce: &[u8; NONCE_BYTES]) -> SecretBytes {
        let mut key = SecretBytes::zeroed();
        for (counter, half) in (1..).zip(key.expose_mut().chunks_exact_mut(16)) {
            half[..4].copy_from_slice(&[0, counter, b'X', 0]);
            half[4..].copy_from_slice(&nonce[..12]);
            half.iter_mut()
                .zip(self.0.k1)
                .for_each(|(byte, k1)| *byte ^= k1);
            self.0
                .aes
                .encrypt_block(half.try_into().expect("half of 32 bytes is one block"));
        }
        key
    }
}

/// What a stored message consists of.
struct Parts {
    nonce: [u8; NONCE_BYTES],
    /// Where the ciphertext stands.
    body: Range<usize>,
    tag: [u8; TAG_BYTES],
}

fn parts(what: &'static str, stored: &[u8]) -> Result<Parts, CryptoError> {
    let malformed = CryptoError::Malformed { what };
    let (nonce, rest) = stored.split_first_chunk().ok_or(malformed.clone())?;
    let (body, tag) = rest.split_last_chunk().ok_or(malformed)?;
    Ok(Parts {
        nonce: *nonce,
        body: NONCE_BYTES..NONCE_BYTES + body.len(),
        tag: *tag,
    })
}

/// Multiplication by x in GF(2¹²⁸), without a branch on the secret (NIST SP 800-38B, 6.1).
fn double(l: u128) -> u128 {
    (l << 1) ^ (0x87 * (l >> 127))
}

#[cfg(test)]
pub(crate) mod tests;
