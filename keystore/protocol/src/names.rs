//! Names and ids as they go through the server: parsed once, and wrong no more after that.
//!
//! They are what the audit log may hold: none of them can carry a secret, a line end or a text of somebody's choice
//! longer than a name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a person.
const NAME_CHARACTERS: usize = 64;

/// A person known to the keystore: 1 to 64 of `a-z 0-9 . _ -`, beginning with a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$", example = "alice"))]
pub struct PersonName(String);

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has 1 to 64 small letters, digits, dots, dashes and underscores and begins with a letter or a digit"
)]
pub struct NameError;

impl PersonName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PersonName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let bytes = text.as_bytes();
        let good = (1..=NAME_CHARACTERS).contains(&bytes.len())
            && plain(bytes[0])
            && bytes.iter().all(|c| plain(*c) || b"._-".contains(c));
        if good {
            Ok(PersonName(text.to_owned()))
        } else {
            Err(NameError)
        }
    }
}

impl TryFrom<String> for PersonName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<PersonName> for String {
    fn from(name: PersonName) -> String {
        name.0
    }
}

impl fmt::Display for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `N` bytes that are not secret, as small hexadecimal digits in every text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexBytes<const N: usize>(pub [u8; N]);

/// SHA-256 of a certificate's DER bytes.
pub type Fingerprint = HexBytes<32>;
/// SHA-256 of a line of the audit log.
pub type LineHash = HexBytes<32>;
/// A cluster, a ceremony.
pub type Id = HexBytes<16>;

impl<const N: usize> FromStr for HexBytes<N> {
    type Err = HexError<N>;

    fn from_str(text: &str) -> Result<Self, HexError<N>> {
        let small = text.bytes().all(|c| !c.is_ascii_uppercase());
        let mut bytes = [0; N];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if small => Ok(HexBytes(bytes)),
            _ => Err(HexError),
        }
    }
}

/// Not that many hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {} small hexadecimal digits", N * 2)]
pub struct HexError<const N: usize>;

impl<const N: usize> TryFrom<String> for HexBytes<N> {
    type Error = HexError<N>;

    fn try_from(text: String) -> Result<Self, HexError<N>> {
        text.parse()
    }
}

impl<const N: usize> From<HexBytes<N>> for String {
    fn from(bytes: HexBytes<N>) -> String {
        hex::encode(bytes.0)
    }
}

impl<const N: usize> fmt::Display for HexBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl<const N: usize> fmt::Debug for HexBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_nothing_but_small_letters_digits_and_marks() {
        for good in [
            "a",
            "alice",
            "0x",
            "first-operator",
            "a.b_c-d",
            &"a".repeat(64),
        ] {
            assert!(good.parse::<PersonName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "Alice",
            "-a",
            ".",
            "a b",
            "a\n",
            "é",
            "a/b",
            &"a".repeat(65),
        ] {
            assert!(bad.parse::<PersonName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hexadecimal_bytes_have_one_spelling() {
        let id: Id = "00112233445566778899aabbccddeeff".parse().unwrap();
        assert_eq!(id.to_string(), "00112233445566778899aabbccddeeff");
        for bad in [
            "",
            "00",
            "00112233445566778899AABBCCDDEEFF",
            "00112233445566778899aabbccddeefg",
        ] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
    }
}
