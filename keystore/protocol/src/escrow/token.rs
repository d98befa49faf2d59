//! The enrolment token: what an operator gives a user, on a way that both trust.
//!
//! `hfe1-` and base64url without padding of
//! `secret 32 | authority 32 | policy root 32 (zeros: none) | user | address | checksum 4`, each text after its length in one byte.
//! The checksum is the beginning of the SHA-256 of what stands before it: a token that was cut off or mistyped is told
//! before anything is sent.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_crypto::Digest;
use zeroize::Zeroizing;

use super::bytes::{Reader, put_text};
use crate::calls::SecretHex;
use crate::names::{Fingerprint, HexBytes, PersonName};

const PREFIX: &str = "hfe1-";
const CHECKSUM_BYTES: usize = 4;
const MOST_CHARACTERS: usize = 1024;

/// What a computer is enrolled with.
pub struct EnrolmentToken {
    /// Known to the server by its SHA-256.
    pub secret: SecretHex,
    /// SHA-256 of the certificate of the keystore's authority.
    pub authority: Fingerprint,
    /// Fingerprint of the organisation's policy root, if it has one.
    pub policy_root: Option<Digest>,
    /// Whose.
    pub user: PersonName,
    /// `https://HOST:PORT`
    pub address: String,
}

/// Not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else.
    #[error("an enrolment token begins with \"hfe1-\"; copy it whole from what the operator sent")]
    Prefix,
    /// Not all of it.
    #[error(
        "the enrolment token is cut off or mistyped; copy it whole from what the operator sent"
    )]
    Checksum,
}

impl EnrolmentToken {
    /// To be given to the user, once.
    pub fn to_printed(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(512));
        bytes.extend_from_slice(self.secret.expose_secret());
        bytes.extend_from_slice(&self.authority.0);
        bytes.extend_from_slice(&self.policy_root.map_or([0; 32], |root| root.0));
        put_text(&mut bytes, self.user.as_str());
        put_text(&mut bytes, &self.address);
        let checksum = Digest::of(&bytes).0;
        bytes.extend_from_slice(&checksum[..CHECKSUM_BYTES]);
        let mut printed = Zeroizing::new(String::with_capacity(MOST_CHARACTERS));
        printed.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut printed);
        printed
    }
}

impl FromStr for EnrolmentToken {
    type Err = TokenError;

    /// Reads what was pasted: with white space anywhere.
    fn from_str(text: &str) -> Result<EnrolmentToken, TokenError> {
        if text.len() > 4 * MOST_CHARACTERS {
            return Err(TokenError::Prefix);
        }
        let mut plain = Zeroizing::new(String::with_capacity(text.len()));
        plain.extend(text.chars().filter(|c| !c.is_whitespace()));
        let coded = plain.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let bytes = URL_SAFE_NO_PAD.decode(coded).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| TokenError::Checksum)?;
        read(&bytes).ok_or(TokenError::Checksum)
    }
}

fn read(bytes: &[u8]) -> Option<EnrolmentToken> {
    let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    (Digest::of(content).0[..CHECKSUM_BYTES] == checksum[..]).then_some(())?;
    let mut reader = Reader::new(content);
    let secret = SecretHex::copy_of(reader.take(32)?.try_into().ok()?);
    let authority = HexBytes(reader.array()?);
    let policy_root = reader.array::<32>()?;
    let user = reader.text()?.parse().ok()?;
    let address = reader.text()?.to_owned();
    reader.end()?;
    let policy_root = (policy_root != [0; 32]).then_some(Digest(policy_root));
    Some(EnrolmentToken {
        secret,
        authority,
        policy_root,
        user,
        address,
    })
}

/// Without the secret.
impl fmt::Debug for EnrolmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnrolmentToken({} at {})", self.user, self.address)
    }
}
