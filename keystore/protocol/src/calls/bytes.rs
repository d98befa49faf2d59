//! Bytes that are not secret, as base64.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// Public bytes of any length: messages of OPAQUE, records of slots, policies.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = String, format = Byte))]
pub struct Bytes64(pub Vec<u8>);

impl TryFrom<String> for Bytes64 {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let bytes = STANDARD.decode(text);
        bytes.map(Bytes64).map_err(|_| "expected base64")
    }
}

impl From<Bytes64> for String {
    fn from(bytes: Bytes64) -> String {
        STANDARD.encode(bytes.0)
    }
}

/// Its length only: what is long and public is not worth a line in a log.
impl fmt::Debug for Bytes64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
