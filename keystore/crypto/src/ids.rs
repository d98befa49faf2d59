//! Names of things: none of these is a secret.
//!
//! Each has one printed form, lower-case hexadecimal, and reads back exactly that form.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// What a chunk holds. The number is part of the chunk's id and of what its ciphertext
/// authenticates, so a piece of a file can never be read as a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ChunkKind {
    /// A piece of a file's content.
    Data = 1,
    /// A page of a folder listing.
    Tree = 2,
    /// A page of the list of chunks of a long file.
    List = 3,
}

impl ChunkKind {
    /// The number stored for this kind.
    pub fn to_u8(self) -> u8 {
        self as u8
    }

    /// The kind with this number, if there is one.
    pub fn from_u8(number: u8) -> Option<Self> {
        [Self::Data, Self::Tree, Self::List]
            .into_iter()
            .find(|kind| kind.to_u8() == number)
    }
}

/// Name of a chunk: a keyed hash of its kind and its plaintext, and the epoch whose key made it.
///
/// Equal content under one key has one id, which is what deduplication rests on; without the key
/// an id says nothing about the content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId {
    /// Epoch of the chunk-id key, which may be older than the epoch of the key it is encrypted with.
    pub epoch: u32,
    /// BLAKE3 under the chunk-id key.
    pub hash: [u8; 32],
}

/// `<epoch>-<64 hex digits>`
impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.epoch)?;
        write_hex(f, &self.hash)
    }
}

/// The first eight hex digits: enough for a log line.
impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.hash[..4])
    }
}

impl FromStr for ChunkId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = IdError {
            what: "a chunk id",
            form: "<epoch>-<64 lower-case hex digits>",
        };
        let (epoch, hash) = text.split_once('-').ok_or(error)?;
        let id = ChunkId {
            epoch: epoch.parse().map_err(|_| error)?,
            hash: parse_hex(hash).ok_or(error)?,
        };
        // One printed form only: "+1" and "01" parse as numbers but are not what we print.
        if epoch != id.epoch.to_string() {
            Err(error)
        } else {
            Ok(id)
        }
    }
}

/// Name of an enrolled computer: eight random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub [u8; 8]);

impl DeviceId {
    /// A new random name. Two devices of one archive share one with probability 2⁻⁶⁴.
    pub fn generate() -> Self {
        let mut bytes = [0; 8];
        crate::secret::fill_random(&mut bytes);
        DeviceId(bytes)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl FromStr for DeviceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_hex(text).map(DeviceId).ok_or(IdError {
            what: "a device id",
            form: "16 lower-case hex digits",
        })
    }
}

/// SHA-256 of an object's whole bytes: the last part of its name. Anybody can check it with
/// `sha256sum`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl FromStr for Digest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_hex(text).map(Digest).ok_or(IdError {
            what: "a SHA-256 digest",
            form: "64 lower-case hex digits",
        })
    }
}

/// A [`Digest`] of bytes that arrive in pieces.
#[derive(Clone, Default)]
pub struct DigestBuilder(Sha256);

impl DigestBuilder {
    /// No bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces together.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// A text is not the printed form of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {what}: expected {form}")]
pub struct IdError {
    what: &'static str,
    form: &'static str,
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
