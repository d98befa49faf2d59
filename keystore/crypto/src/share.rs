//! A share of the unseal key: what a holder keeps, how it is printed, and what the keystore remembers of it.
//!
//! Printed as bech32m (BIP 350) with the prefix `hfs`, 81 characters in groups of four: 352 bits, of which 96 say what the
//! share is (version, epoch, cluster, threshold, number) and 256 are the share. The checksum finds up to four wrong
//! characters for certain and places a single one, so a typing error is found before anything is sent. Every byte is described in
//! `docs/format/keystore.md`.
//!
//! The keystore keeps a [`ShareCommitment`] of each share: a hash over cluster, epoch, number and content, in the clear. A share is
//! 256 bits that nobody can guess, so the hash gives nothing away, and no other content has it.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::printed::{Form, Mistake};
use crate::secret::SecretBytes;

/// Length of a printed share without dashes.
pub const SHARE_CHARACTERS: usize = 81;
/// Most shares of one key.
pub const MOST_SHARES: u8 = 16;

const VERSION: u8 = 1;
const FORM: Form = Form {
    prefix: "hfs",
    characters: SHARE_CHARACTERS,
};
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

/// What is wrong with a share that was typed. Places count from one, without dashes and spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// Characters are missing, or there are too many.
    #[error(
        "the share has {found} characters instead of {SHARE_CHARACTERS} (20 groups of four and one more): \
         look for a character left out or typed twice"
    )]
    Length {
        /// Characters typed, without dashes and spaces.
        found: usize,
    },
    /// It does not begin as every share does.
    #[error("a share begins with \"hfs1\": check that this is a share of a Holdfast keystore")]
    Prefix,
    /// A character that is in no share.
    #[error(
        "character {place} of the share, \"{character}\" in group {group}, is in no share: \
         after the first group there is no 1, b, i or o (look for l, 8, j or 0)"
    )]
    Character {
        /// What was typed.
        character: char,
        /// Its place in the share, from one.
        place: usize,
        /// The group of four it stands in, from one.
        group: usize,
    },
    /// The checksum does not fit, and one character alone explains it.
    #[error("character {place} of the share, \"{character}\" in group {group}, is wrong")]
    WrongCharacter {
        /// What was typed.
        character: char,
        /// Its place in the share, from one.
        place: usize,
        /// The group of four it stands in, from one.
        group: usize,
    },
    /// The checksum does not fit, and more than one character is wrong.
    #[error("the share is mistyped in more than one place: compare it group by group")]
    Checksum,
    /// Typed as it was printed, but not by this version.
    #[error("the share has a form that this version does not know: use a newer Holdfast")]
    Version,
}

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
        FORM.grouped(self.to_bytes().as_slice())
    }

    /// For a QR code: the same in capitals without dashes, which such a code holds in its denser alphanumeric mode. It is read by
    /// [`Share::parse`], too.
    pub fn to_qr_text(&self) -> Zeroizing<String> {
        let mut text = FORM.plain(self.to_bytes().as_slice());
        text.make_ascii_uppercase();
        text
    }

    fn to_bytes(&self) -> Zeroizing<[u8; SHARE_BYTES]> {
        let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&self.label.epoch.to_be_bytes());
        bytes[5..11].copy_from_slice(&self.label.cluster_tag);
        bytes[11] = (self.label.threshold - 1) << 4 | (self.label.number - 1);
        bytes[12..].copy_from_slice(self.secret.expose());
        bytes
    }

    /// Reads what a person typed: any case, with dashes or white space anywhere.
    pub fn parse(typed: &str) -> Result<Share, ShareError> {
        // Longer than anything that a person types: no share, and no work.
        if typed.len() > 8 * SHARE_CHARACTERS {
            return Err(ShareError::Length { found: typed.len() });
        }
        let bytes = FORM.read::<SHARE_BYTES>(typed)?;
        let threshold = (bytes[11] >> 4) + 1;
        if bytes[0] != VERSION || threshold < 2 {
            return Err(ShareError::Version);
        }
        let label = ShareLabel {
            epoch: u32::from_be_bytes(*bytes[1..].first_chunk().expect("four follow")),
            cluster_tag: *bytes[5..].first_chunk().expect("six follow"),
            threshold,
            number: (bytes[11] & 15) + 1,
        };
        let secret = SecretBytes::from_slice(&bytes[12..]).expect("32 follow");
        Ok(Share { label, secret })
    }
}

impl From<Mistake> for ShareError {
    fn from(mistake: Mistake) -> Self {
        match mistake {
            Mistake::Length { found } => ShareError::Length { found },
            Mistake::Prefix => ShareError::Prefix,
            Mistake::Character {
                character,
                place,
                group,
            } => ShareError::Character {
                character,
                place,
                group,
            },
            Mistake::WrongCharacter {
                character,
                place,
                group,
            } => ShareError::WrongCharacter {
                character,
                place,
                group,
            },
            Mistake::Checksum => ShareError::Checksum,
        }
    }
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

    fn error(typed: &str) -> ShareError {
        Share::parse(typed).err().expect("refused")
    }

    #[test]
    fn every_single_wrong_character_is_placed() {
        let printed = share().to_printed().replace('-', "");
        for index in 4..printed.len() {
            for character in ['q', 'p', 'z', 'l', '1', 'b', 'O'] {
                let mut typed = printed.clone();
                typed.replace_range(index..=index, &character.to_string());
                if typed == printed {
                    continue;
                }
                let character = character.to_ascii_lowercase();
                let (place, group) = (index + 1, index / 4 + 1);
                let said = match character {
                    '1' | 'b' | 'o' => ShareError::Character {
                        character,
                        place,
                        group,
                    },
                    _ => ShareError::WrongCharacter {
                        character,
                        place,
                        group,
                    },
                };
                assert_eq!(error(&typed), said);
            }
            let found = index;
            assert_eq!(error(&printed[..index]), ShareError::Length { found });
        }
        assert_eq!(error(&printed.replace("hfs", "hfr")), ShareError::Prefix);
        assert_eq!(error(&"q".repeat(81)), ShareError::Prefix);
        let found = 10_000;
        assert_eq!(error(&"q".repeat(found)), ShareError::Length { found });
    }

    /// Three spare bits in the last content character, a version to come, a threshold of one: right checksums do not excuse them.
    #[test]
    fn a_share_has_one_printed_form() {
        use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
        use bech32::{Bech32m, Fe32, Hrp};
        let print = |bytes: &[u8], spare: u8| -> String {
            let mut symbols: Vec<Fe32> = bytes.iter().copied().bytes_to_fes().collect();
            let last = symbols.last_mut().unwrap();
            *last = Fe32::try_from(last.to_u8() | spare).unwrap();
            symbols
                .into_iter()
                .with_checksum::<Bech32m>(&Hrp::parse("hfs").unwrap())
                .chars()
                .collect()
        };
        let share = share();
        let mut bytes = share.to_bytes();
        let right = print(bytes.as_slice(), 0);
        assert_eq!(right, share.to_printed().replace('-', ""));
        assert_eq!(right.to_uppercase(), *share.to_qr_text());
        for spare in 1..8 {
            assert_eq!(error(&print(bytes.as_slice(), spare)), ShareError::Checksum);
        }
        bytes[0] = 2;
        assert_eq!(error(&print(bytes.as_slice(), 0)), ShareError::Version);
        bytes[0] = VERSION;
        bytes[11] &= 15;
        assert_eq!(error(&print(bytes.as_slice(), 0)), ShareError::Version);
    }

    proptest::proptest! {
        /// Every share is read again as it was, from paper and from a QR code.
        #[test]
        fn shares_are_one_to_one(
            epoch in proptest::num::u32::ANY,
            cluster_tag in proptest::array::uniform6(proptest::num::u8::ANY),
            threshold in 2_u8..=16,
            number in 1_u8..=16,
            secret in proptest::array::uniform32(proptest::num::u8::ANY),
        ) {
            let label = ShareLabel { epoch, cluster_tag, threshold, number };
            let share = Share::new(label, SecretBytes::copy_of(&secret));
            for text in [share.to_printed(), share.to_qr_text()] {
                let read = Share::parse(&text).unwrap();
                proptest::prop_assert_eq!(read.label(), label);
                proptest::prop_assert_eq!(read.secret().expose(), &secret);
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,200}", tail in "[02-9ac-hj-np-z]{77}") {
            let _ = Share::parse(&text);
            let typed = format!("hfs1{tail}");
            if let Ok(share) = Share::parse(&typed) {
                proptest::prop_assert_eq!(share.to_printed().replace('-', ""), typed);
            }
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
