//! The recovery code: what a person writes down, and the slot that it opens.
//!
//! 168 random bits as bech32m (BIP 350) with the prefix `hfr`, printed in groups of four:
//! `hfr1-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx`. 34 characters carry the bits and six
//! the checksum, which finds up to four wrong characters for certain and places a single one
//! ([`crate::printed`]).
//!
//! 168 bits are beyond search, so there is no slow password hash here: a person's choice plays no
//! part in them.

use zeroize::Zeroizing;

use crate::SUITE;
use crate::commitment::Committed;
use crate::derive::derive;
use crate::error::CryptoError;
use crate::hpke_wrap::{KeyPair, PublicKey, Purpose, WRAPPED_BYTES};
use crate::printed::{Form, Mistake};
use crate::secret::fill_random;
use crate::user_key::UserKey;

/// Length of a slot: a user key wrapped by [`RecoveryPublicKey::wrap`].
pub const SLOT_BYTES: usize = WRAPPED_BYTES;

const CODE_BYTES: usize = 21;
/// Prefix, 34 characters of content, six of checksum.
const CODE_CHARACTERS: usize = 44;
const FORM: Form = Form {
    prefix: "hfr",
    characters: CODE_CHARACTERS,
};

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
        FORM.grouped(self.0.as_slice())
    }

    /// Reads what a person typed: any case, with dashes or white space anywhere.
    pub fn parse(typed: &str) -> Result<Self, RecoveryCodeError> {
        Ok(RecoveryCode(FORM.read(typed)?))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// `None` unless there are as many as in every code.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut code = Box::new(Zeroizing::new([0; CODE_BYTES]));
        (bytes.len() == CODE_BYTES).then(|| code.copy_from_slice(bytes))?;
        Some(RecoveryCode(code))
    }

    /// The key pair that this code is the private half of. There is one, and it never changes.
    pub fn key_pair(&self) -> RecoveryKeyPair {
        RecoveryKeyPair(KeyPair::from_seed(&derive(
            self.0.as_slice(),
            "recovery-key-pair",
        )))
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

impl From<Mistake> for RecoveryCodeError {
    fn from(mistake: Mistake) -> Self {
        match mistake {
            Mistake::Length { found } => RecoveryCodeError::Length {
                found,
                expected: CODE_CHARACTERS,
            },
            Mistake::Prefix => RecoveryCodeError::Prefix,
            Mistake::Character {
                character,
                place,
                group,
            } => RecoveryCodeError::Character {
                character,
                place,
                group,
            },
            Mistake::WrongCharacter {
                character,
                place,
                group,
            } => RecoveryCodeError::WrongCharacter {
                character,
                place,
                group,
            },
            Mistake::Checksum => RecoveryCodeError::Checksum,
        }
    }
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
