//! Secrets on their way through the API: neither printed nor compared, zeroed when dropped.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A secret text: a code of the second factor, an enrolment token.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = String, max_length = 4096))]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// What was typed, or made.
    pub fn new(text: Zeroizing<String>) -> SecretText {
        SecretText(text)
    }

    /// The text.
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| SecretText(Zeroizing::new(text)))
    }
}

/// 32 secret bytes as small hexadecimal digits.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[0-9a-f]{64}$"))]
pub struct SecretHex(Box<Zeroizing<[u8; 32]>>);

impl SecretHex {
    /// A copy of these bytes.
    pub fn copy_of(bytes: &[u8; 32]) -> SecretHex {
        let mut secret = Box::new(Zeroizing::new([0; 32]));
        secret.copy_from_slice(bytes);
        SecretHex(secret)
    }

    /// The bytes.
    pub fn expose_secret(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Serialize for SecretHex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = Zeroizing::new(hex::encode(self.expose_secret()));
        serializer.serialize_str(&digits)
    }
}

impl<'de> Deserialize<'de> for SecretHex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer).map(Zeroizing::new)?;
        let mut secret = Box::new(Zeroizing::new([0; 32]));
        hex::decode_to_slice(digits.as_bytes(), secret.as_mut_slice())
            .map_err(|_| D::Error::custom("expected 64 hexadecimal digits"))?;
        Ok(SecretHex(secret))
    }
}
