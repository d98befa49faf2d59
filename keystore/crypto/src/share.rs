//! A share of the unseal key: what a holder keeps, how it is printed, and what the keystore remembers of it.
//!
//! Printed as bech32m (BIP 350) with the prefix `hfs`, 81 characters in groups of four: 352 bits, of which 96 say what the
//! share is (version, epoch, cluster, threshold, number) and 256 are the share. The checksum finds up to four wrong
//! characters for certain, so a typing error is found before anything is sent.
//!
//! The keystore keeps a [`ShareCommitment`] of each share: a hash over cluster, epoch, number and content, in the clear. A share is
//! 256 bits that nobody can guess, so the hash gives nothing away, and no other content has it.

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::secret::SecretBytes;

/// Length of a printed share without dashes.
pub const SHARE_CHARACTERS: usize = 81;
/// Most shares of one key.
pub const MOST_SHARES: u8 = 16;

const VERSION: u8 = 1;
const PREFIX: &str = "hfs";
const SHARE_BYTES: usize = 12 + 32;
const CLUSTER_TAG_BYTES: usize = 6;

/// What is not secret about a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareLabel {
    /// The shares that belong together.
    pub epoch: u32,
    /// The first bytes of the cluster's id: enough to tell keystores apart.
    pub cluster_tag: [u8; CLUSTER_TAG_BYTES],
    /// Shares needed, 2 to 16.
    pub threshold: u8,
    /// Number of this share, 1 to 16.
    pub number: u8,
}

/// A share: a label, and 256 secret bits.
pub struct Share {
    label: ShareLabel,
    secret: SecretBytes,
}

/// What the keystore remembers of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareCommitment(pub [u8; 32]);

/// Not a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no share, or it is mistyped: a share begins with \"hfs1\" and has 81 characters; compare it group by group"
)]
pub struct ShareError;

impl ShareLabel {
    /// The tag of a cluster.
    pub fn cluster_tag(cluster: &[u8; 16]) -> [u8; CLUSTER_TAG_BYTES] {
        *cluster.first_chunk().expect("6 are fewer than 16")
    }
}

impl Share {
    pub(crate) fn new(label: ShareLabel, secret: SecretBytes) -> Share {
        Share { label, secret }
    }

    /// What is not secret about it.
    pub fn label(&self) -> ShareLabel {
        self.label
    }

    pub(crate) fn secret(&self) -> &SecretBytes {
        &self.secret
    }

    /// What the keystore remembers of it.
    pub fn commitment(&self, cluster: &[u8; 16]) -> ShareCommitment {
        let mut hash = blake3::Hasher::new_derive_key("holdfast/1/share-commitment");
        hash.update(cluster);
        hash.update(&self.label.epoch.to_le_bytes());
        hash.update(&[self.label.number]);
        hash.update(self.secret.expose());
        ShareCommitment(*hash.finalize().as_bytes())
    }

    /// Whether it is the share that was handed out.
    pub fn is(&self, cluster: &[u8; 16], commitment: &ShareCommitment) -> bool {
        self.commitment(cluster).0.ct_eq(&commitment.0).into()
    }

    /// For paper: groups of four with dashes between.
    pub fn to_printed(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&self.label.epoch.to_be_bytes());
        bytes[5..11].copy_from_slice(&self.label.cluster_tag);
        bytes[11] = (self.label.threshold - 1) << 4 | (self.label.number - 1);
        bytes[12..].copy_from_slice(self.secret.expose());
        let mut plain = Zeroizing::new(String::with_capacity(SHARE_CHARACTERS));
        bech32::encode_lower_to_fmt::<Bech32m, _>(&mut *plain, prefix(), bytes.as_slice())
            .expect("44 bytes are below the longest code, and a string takes everything");
        let mut printed = Zeroizing::new(String::with_capacity(SHARE_CHARACTERS * 5 / 4));
        for (place, character) in plain.chars().enumerate() {
            if place > 0 && place % 4 == 0 {
                printed.push('-');
            }
            printed.push(character);
        }
        printed
    }

    /// Reads what a person typed: any case, with dashes or white space anywhere.
    pub fn parse(typed: &str) -> Result<Share, ShareError> {
        // Longer than anything that a person types: no share, and no work.
        if typed.len() > 8 * SHARE_CHARACTERS {
            return Err(ShareError);
        }
        let mut plain = Zeroizing::new(String::with_capacity(typed.len()));
        let kept = typed.chars().filter(|c| !c.is_whitespace() && *c != '-');
        plain.extend(kept.map(|c| c.to_ascii_lowercase()));
        let checked = CheckedHrpstring::new::<Bech32m>(&plain).map_err(|_| ShareError)?;
        if plain.len() != SHARE_CHARACTERS || checked.hrp() != prefix() {
            return Err(ShareError);
        }
        let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
        bytes
            .iter_mut()
            .zip(checked.byte_iter())
            .for_each(|(byte, read)| *byte = read);
        if bytes[0] != VERSION {
            return Err(ShareError);
        }
        let label = ShareLabel {
            epoch: u32::from_be_bytes(*bytes[1..].first_chunk().expect("four follow")),
            cluster_tag: *bytes[5..].first_chunk().expect("six follow"),
            threshold: (bytes[11] >> 4) + 1,
            number: (bytes[11] & 15) + 1,
        };
        let secret = SecretBytes::from_slice(&bytes[12..]).expect("32 follow");
        Ok(Share { label, secret })
    }
}

fn prefix() -> Hrp {
    Hrp::parse(PREFIX).expect("three lower-case letters are a prefix")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share() -> Share {
        let label = ShareLabel {
            epoch: 7,
            cluster_tag: [1, 2, 3, 4, 5, 6],
            threshold: 3,
            number: 16,
        };
        Share::new(label, SecretBytes::generate())
    }

    #[test]
    fn a_printed_share_is_read_again_in_any_spelling() {
        let share = share();
        let printed = share.to_printed();
        assert_eq!(printed.replace('-', "").len(), SHARE_CHARACTERS);
        for typed in [
            printed.to_string(),
            printed.to_uppercase(),
            printed.replace('-', " "),
            format!("\n {}\t", printed.replace('-', "")),
        ] {
            let read = Share::parse(&typed).unwrap();
            assert_eq!(read.label(), share.label());
            assert_eq!(read.secret().expose(), share.secret().expose());
        }
    }

    #[test]
    fn every_single_wrong_character_is_found() {
        let printed = share().to_printed().replace('-', "");
        for place in 0..printed.len() {
            for other in ['q', 'p', 'z', '1', 'b'] {
                let mut typed = printed.clone();
                typed.replace_range(place..=place, &other.to_string());
                assert_eq!(Share::parse(&typed).is_ok(), typed == printed, "{place}");
            }
            assert!(Share::parse(&printed[..place]).is_err());
        }
    }

    #[test]
    fn a_commitment_covers_cluster_epoch_number_and_content() {
        let share = share();
        let cluster = [9; 16];
        let commitment = share.commitment(&cluster);
        assert!(share.is(&cluster, &commitment));
        assert!(!share.is(&[8; 16], &commitment));
        for change in [
            |label: &mut ShareLabel| label.epoch += 1,
            |label: &mut ShareLabel| label.number -= 1,
        ] {
            let mut label = share.label();
            change(&mut label);
            let other = Share::new(label, SecretBytes::copy_of(share.secret().expose()));
            assert!(!other.is(&cluster, &commitment));
        }
        assert!(!Share::new(share.label(), SecretBytes::generate()).is(&cluster, &commitment));
    }
}
