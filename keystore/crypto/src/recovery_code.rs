//! The recovery code: what a person writes down, and the slot that it opens.
//!
//! 168 random bits as bech32m (BIP 350) with the prefix `hfr`, printed in groups of four:
//! `hfr1-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx`. 34 characters carry the bits and six
//! the checksum, which finds up to four wrong characters for certain and places a single one.
//! Where the mistake is gets said; what belongs there does not, because a checksum that is
//! followed blindly turns two mistakes into another person's certainty.
//!
//! 168 bits are beyond search, so there is no slow password hash here: a person's choice plays no
//! part in them.

use bech32::primitives::decode::{CheckedHrpstring, UncheckedHrpstring};
use bech32::{Bech32m, Hrp};
use zeroize::Zeroizing;

use crate::SUITE;
use crate::commitment::Committed;
use crate::derive::derive;
use crate::error::CryptoError;
use crate::hpke_wrap::{KeyPair, PublicKey, Purpose, WRAPPED_BYTES};
use crate::secret::fill_random;
use crate::user_key::UserKey;

/// Length of a slot: a user key wrapped by [`RecoveryPublicKey::wrap`].
pub const SLOT_BYTES: usize = WRAPPED_BYTES;

const CODE_BYTES: usize = 21;
const PREFIX: &str = "hfr1";
/// Prefix, 34 characters of content, six of checksum.
const CODE_CHARACTERS: usize = 44;
const ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// What a person writes down when the archive is made.
pub struct RecoveryCode(Box<Zeroizing<[u8; CODE_BYTES]>>);

impl RecoveryCode {
    /// A new random code.
    pub fn generate() -> Self {
        let mut bytes = Box::new(Zeroizing::new([0; CODE_BYTES]));
        fill_random(bytes.as_mut_slice());
        RecoveryCode(bytes)
    }

    /// For paper: lower case, groups of four with dashes between, 54 characters.
    pub fn to_printed(&self) -> Zeroizing<String> {
        let plain = self.to_plain();
        let mut printed = Zeroizing::new(String::with_capacity(CODE_CHARACTERS * 5 / 4));
        for (place, character) in plain.chars().enumerate() {
            if place > 0 && place % 4 == 0 {
                printed.push('-');
            }
            printed.push(character);
        }
        printed
    }

    /// Reads what a person typed: any case, with dashes or white space anywhere.
    pub fn parse(typed: &str) -> Result<Self, RecoveryCodeError> {
        let mut plain = Zeroizing::new(String::with_capacity(typed.len()));
        plain.extend(
            typed
                .chars()
                .filter(|c| !c.is_whitespace() && !is_dash(*c))
                .map(|c| c.to_ascii_lowercase()),
        );
        check_characters(&plain)?;
        let Ok(checked) = CheckedHrpstring::new::<Bech32m>(&plain) else {
            return Err(place_of_mistake(&plain));
        };
        let mut bytes = Box::new(Zeroizing::new([0; CODE_BYTES]));
        bytes
            .iter_mut()
            .zip(checked.byte_iter())
            .for_each(|(byte, read)| *byte = read);
        let code = RecoveryCode(bytes);
        // 34 characters carry 170 bits; we print the last two as zero, so read nothing else.
        if *code.to_plain() == *plain {
            Ok(code)
        } else {
            Err(RecoveryCodeError::Checksum)
        }
    }

    /// The key pair that this code is the private half of. There is one, and it never changes.
    pub fn key_pair(&self) -> RecoveryKeyPair {
        RecoveryKeyPair(KeyPair::from_seed(&derive(
            self.0.as_slice(),
            "recovery-key-pair",
        )))
    }

    fn to_plain(&self) -> Zeroizing<String> {
        let mut plain = Zeroizing::new(String::with_capacity(CODE_CHARACTERS));
        bech32::encode_lower_to_fmt::<Bech32m, _>(&mut *plain, prefix(), self.0.as_slice())
            .expect("21 bytes are far below the longest code, and a string takes everything");
        plain
    }
}

/// What is wrong with a code that was typed. Places count from one, without dashes and spaces.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryCodeError {
    /// Characters are missing, or there are too many.
    #[error(
        "the recovery code has {found} characters instead of {expected} (11 groups of four): \
         look for a character left out or typed twice"
    )]
    Length {
        /// Characters typed, without dashes and spaces.
        found: usize,
        /// Characters of every code.
        expected: usize,
    },
    /// It does not begin as every code does.
    #[error("a recovery code begins with \"hfr1\": check that this is a Holdfast recovery code")]
    Prefix,
    /// A character that no code contains.
    #[error(
        "character {place} of the recovery code, \"{character}\" in group {group}, is in no code: \
         after the first group there is no 1, b, i or o (look for l, 8, j or 0)"
    )]
    Character {
        /// What was typed.
        character: char,
        /// Its place in the code, from one.
        place: usize,
        /// The group of four it stands in, from one.
        group: usize,
    },
    /// The checksum does not fit, and one character alone explains it.
    #[error("character {place} of the recovery code, \"{character}\" in group {group}, is wrong")]
    WrongCharacter {
        /// What was typed.
        character: char,
        /// Its place in the code, from one.
        place: usize,
        /// The group of four it stands in, from one.
        group: usize,
    },
    /// The checksum does not fit, and more than one character is wrong.
    #[error("the recovery code is mistyped in more than one place: compare it group by group")]
    Checksum,
}

/// What the printer or a text program makes of a dash, too.
fn is_dash(character: char) -> bool {
    matches!(character, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '_')
}

fn prefix() -> Hrp {
    Hrp::parse("hfr").expect("three lower-case letters are a prefix")
}

/// Everything that can be said without the checksum.
fn check_characters(plain: &str) -> Result<(), RecoveryCodeError> {
    for (index, character) in plain.chars().enumerate().skip(PREFIX.len()) {
        if !ALPHABET.contains(character) {
            let (place, group) = place_and_group(index);
            return Err(RecoveryCodeError::Character {
                character,
                place,
                group,
            });
        }
    }
    let found = plain.chars().count();
    if found != CODE_CHARACTERS {
        return Err(RecoveryCodeError::Length {
            found,
            expected: CODE_CHARACTERS,
        });
    }
    if !plain.starts_with(PREFIX) {
        return Err(RecoveryCodeError::Prefix);
    }
    Ok(())
}

/// Tries every single change. Two codes differ in at least five characters, so at most one
/// character can explain the mistake alone.
fn place_of_mistake(plain: &str) -> RecoveryCodeError {
    for index in PREFIX.len()..plain.len() {
        for replacement in ALPHABET.chars() {
            let mut changed = Zeroizing::new(String::with_capacity(plain.len()));
            changed.push_str(&plain[..index]);
            changed.push(replacement);
            changed.push_str(&plain[index + 1..]);
            if has_valid_checksum(&changed) {
                let character = char::from(plain.as_bytes()[index]);
                let (place, group) = place_and_group(index);
                return RecoveryCodeError::WrongCharacter {
                    character,
                    place,
                    group,
                };
            }
        }
    }
    RecoveryCodeError::Checksum
}

fn has_valid_checksum(plain: &str) -> bool {
    UncheckedHrpstring::new(plain).is_ok_and(|code| code.has_valid_checksum::<Bech32m>())
}

fn place_and_group(index: usize) -> (usize, usize) {
    (index + 1, index / 4 + 1)
}

/// Opens slots.
pub struct RecoveryKeyPair(KeyPair);

impl RecoveryKeyPair {
    /// The half that is kept in the keyring, so that the slot can be built anew without typing the
    /// code again.
    pub fn public(&self) -> RecoveryPublicKey {
        RecoveryPublicKey(self.0.public().clone())
    }

    /// Opens a slot.
    pub fn unwrap(&self, slot: &[u8]) -> Result<UserKey, CryptoError> {
        with_slot_purpose(|purpose| self.0.unwrap(purpose, slot)).map(UserKey::from_secret)
    }
}

/// Makes slots. It opens none.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryPublicKey(PublicKey);

impl RecoveryPublicKey {
    /// The key with these [`crate::PUBLIC_KEY_BYTES`] bytes; an error unless they are a valid key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        PublicKey::from_bytes("a recovery public key", bytes).map(RecoveryPublicKey)
    }

    /// [`crate::PUBLIC_KEY_BYTES`] bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// A slot: [`SLOT_BYTES`] bytes that only the code's key pair opens.
    pub fn wrap(&self, user_key: &UserKey) -> Vec<u8> {
        with_slot_purpose(|purpose| self.0.wrap(purpose, user_key.secret()))
    }
}

fn with_slot_purpose<T>(act: impl FnOnce(&Purpose<'_>) -> T) -> T {
    act(&Purpose {
        what: "the recovery slot",
        info: "holdfast/1/recovery-slot",
        associated: &SUITE.to_le_bytes(),
        committed: Committed::User,
    })
}

#[cfg(test)]
mod tests;
