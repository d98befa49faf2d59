//! The unseal key, split among holders, and the root key that it wraps.
//!
//! The unseal key is random, exists only while it is split or combined, and wraps one thing: the root key. The root key wraps
//! the barrier's keyring and authenticates the seal header. Changing the shares changes both.

use std::collections::BTreeSet;

use blahaj::Sharks;
use zeroize::Zeroizing;

use crate::commitment::Committed;
use crate::derive::derive;
use crate::error::CryptoError;
use crate::secret::SecretBytes;
use crate::share::{MOST_SHARES, Share, ShareLabel};
use crate::wrapped::{WRAPPED_KEY_BYTES, unwrap_key, wrap_key};
use crate::xaes::Xaes;

const WHAT: &str = "the wrapped root key";

/// Length of a wrapped root key: nonce, key, tag, commitment.
pub const WRAPPED_ROOT_KEY_BYTES: usize = WRAPPED_KEY_BYTES;

/// 256 random bits, split among the holders.
pub struct UnsealKey(SecretBytes);

/// 256 random bits that wrap the barrier's keyring.
pub struct RootKey(SecretBytes);

impl UnsealKey {
    /// A new random key.
    pub fn generate() -> UnsealKey {
        UnsealKey(SecretBytes::generate())
    }

    /// Splits it: any `threshold` of the shares give it again, fewer say nothing about it. The numbers are 1 to `shares`.
    ///
    /// `None` unless 2 <= threshold <= shares <= 16.
    pub fn split(
        &self,
        epoch: u32,
        cluster: &[u8; 16],
        threshold: u8,
        shares: u8,
    ) -> Option<Vec<Share>> {
        if threshold < 2 || threshold > shares || shares > MOST_SHARES {
            return None;
        }
        let dealt = Sharks(threshold).dealer(self.0.expose());
        let made = dealt.take(shares.into()).map(|dealt| {
            let bytes = Zeroizing::new(Vec::from(&dealt));
            let label = ShareLabel {
                epoch,
                cluster_tag: ShareLabel::cluster_tag(cluster),
                threshold,
                number: bytes[0],
            };
            let secret = SecretBytes::from_slice(&bytes[1..]).expect("as long as the key");
            Share::new(label, secret)
        });
        Some(made.collect())
    }

    /// Combines shares. Wrong ones give a wrong key: the caller has compared each with its commitment, and the root key's
    /// wrapping finds what is left.
    pub fn combine(threshold: u8, shares: &[Share]) -> Result<UnsealKey, CryptoError> {
        let malformed = || CryptoError::Malformed {
            what: "a set of shares",
        };
        // The library counts different numbers and then interpolates over all shares: one that is there twice beside enough others
        // would give garbage.
        let numbers: BTreeSet<u8> = shares.iter().map(|share| share.label().number).collect();
        if numbers.len() != shares.len() {
            return Err(malformed());
        }
        let dealt = shares
            .iter()
            .map(|share| {
                let mut bytes = Zeroizing::new(Vec::with_capacity(33));
                bytes.push(share.label().number);
                bytes.extend_from_slice(share.secret().expose());
                blahaj::Share::try_from(bytes.as_slice()).map_err(|_| malformed())
            })
            .collect::<Result<Vec<_>, _>>()?;
        let sharks = Sharks(threshold);
        let combined = sharks.recover(&dealt).map(Zeroizing::new);
        let combined = combined.map_err(|_| malformed())?;
        SecretBytes::from_slice(&combined)
            .map(UnsealKey)
            .ok_or_else(malformed)
    }

    /// Wraps the root key; `place` says for which keystore and epoch.
    pub fn wrap_root(&self, place: &[u8], root: &RootKey) -> Vec<u8> {
        wrap_key(&self.cipher(), "root-key", place, &root.0, Committed::Root)
    }

    /// Opens what [`UnsealKey::wrap_root`] made for the same place.
    pub fn unwrap_root(&self, place: &[u8], wrapped: &[u8]) -> Result<RootKey, CryptoError> {
        let cipher = self.cipher();
        unwrap_key(&cipher, WHAT, "root-key", place, wrapped, Committed::Root).map(RootKey)
    }

    fn cipher(&self) -> Xaes {
        Xaes::new(&derive(self.0.expose(), "unseal-key/wrap"))
    }
}

impl RootKey {
    /// A new random key.
    pub fn generate() -> RootKey {
        RootKey(SecretBytes::generate())
    }

    /// Encrypts the barrier's keyring; `place` says for which keystore and epoch.
    pub(crate) fn encrypt_keyring(&self, place: &[u8], keyring: &[u8]) -> Vec<u8> {
        let cipher: Xaes = Xaes::new(&derive(self.0.expose(), "root-key/keyring"));
        cipher
            .encrypt(&associated("keyring", place), keyring)
            .into_bytes()
    }

    pub(crate) fn decrypt_keyring(
        &self,
        place: &[u8],
        stored: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let cipher: Xaes = Xaes::new(&derive(self.0.expose(), "root-key/keyring"));
        cipher
            .decrypt("the keyring", &associated("keyring", place), stored)
            .map(Zeroizing::new)
    }

    /// Authenticates the seal header (keyed BLAKE3).
    pub fn header_mac(&self, header: &[u8]) -> [u8; 32] {
        let key = derive(self.0.expose(), "root-key/header");
        *blake3::keyed_hash(key.expose(), header).as_bytes()
    }
}

/// `"holdfast/1/<label>" || suite u16 || place`
pub(crate) fn associated(label: &str, place: &[u8]) -> Vec<u8> {
    [
        b"holdfast/1/",
        label.as_bytes(),
        &crate::SUITE.to_le_bytes(),
        place,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All 10 triples of 3 of 5 open in any order, and none of the 10 pairs does.
    #[test]
    fn every_triple_opens_and_no_pair_does() {
        let (key, root) = (UnsealKey::generate(), RootKey::generate());
        let wrapped = key.wrap_root(b"here", &root);
        let shares = key.split(1, &[1; 16], 3, 5).unwrap();
        let copy = |place: usize| Share::parse(&shares[place].to_printed()).unwrap();
        for a in 0..5 {
            for b in (0..5).filter(|b| *b != a) {
                for c in (0..5).filter(|c| *c != a && *c != b) {
                    let combined = UnsealKey::combine(3, &[copy(a), copy(b), copy(c)]).unwrap();
                    let opened = combined.unwrap_root(b"here", &wrapped).unwrap();
                    assert_eq!(opened.0.expose(), root.0.expose());
                }
                assert!(UnsealKey::combine(3, &[copy(a), copy(b)]).is_err());
                let forced = UnsealKey::combine(2, &[copy(a), copy(b)]).unwrap();
                assert!(forced.unwrap_root(b"here", &wrapped).is_err());
                let twice = UnsealKey::combine(3, &[copy(a), copy(b), copy(b)]);
                assert!(twice.is_err());
                let rest = (0..5).filter(|rest| ![a, b].contains(rest)).map(copy);
                let beside: Vec<Share> = rest.chain([copy(a), copy(b), copy(b)]).collect();
                assert!(UnsealKey::combine(3, &beside).is_err());
            }
        }
        assert!(key.unwrap_root(b"there", &wrapped).is_err());
    }

    #[test]
    fn only_thresholds_that_make_sense_are_split() {
        let key = UnsealKey::generate();
        for threshold in 0..=20 {
            for shares in 0..=20 {
                let good = (2..=shares).contains(&threshold) && shares <= 16;
                let split = key.split(1, &[1; 16], threshold, shares);
                assert_eq!(
                    split.map(|split| split.len()),
                    good.then_some(shares.into())
                );
            }
        }
    }
}
