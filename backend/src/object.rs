//! An object and its name, made together so that they cannot disagree.
//!
//! There is a constructor for each sort of object and no general one: what reaches a store is
//! ciphertext, a wrapped key, or a clear text of names. Binary objects begin with a [`Header`],
//! which is part of the associated data of everything behind it; text objects begin with the line
//! `holdfast <kind> 1`. Specified in `docs/format/objects.md`.

use std::fmt;

use bytes::Bytes;
pub use holdfast_crypto::SUITE;
use holdfast_crypto::{Ciphertext, DeviceId, Digest};
use thiserror::Error;

use crate::layout::ObjectName;

/// The format that this program writes, and the newest that it reads.
pub const FORMAT: u16 = 1;

/// One object, ready to be stored. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Object {
    name: ObjectName,
    bytes: Bytes,
}

impl Object {
    /// An index object or a commit: header, then one ciphertext.
    pub fn enveloped(placement: EnvelopedPlacement, epoch: u32, body: &Ciphertext) -> Self {
        let header = Header {
            kind: placement.kind(),
            epoch,
        };
        Self::new(
            |digest| placement.name(digest),
            headed(header, body.as_bytes()),
        )
    }

    /// A session key that is wrapped to the archive's public key.
    pub fn key(epoch: u32, wrapped: &[u8]) -> Self {
        let header = Header {
            kind: ObjectKind::Key,
            epoch,
        };
        Self::new(ObjectName::Key, headed(header, wrapped))
    }

    /// A keyring; `body` is what stands behind the header, wrapped by the crypto crate.
    pub fn keyring(version: u64, epoch: u32, body: &[u8]) -> Self {
        let header = Header {
            kind: ObjectKind::Keyring,
            epoch,
        };
        Self::new(
            |digest| ObjectName::Keyring { version, digest },
            headed(header, body),
        )
    }

    /// A clear list of names.
    pub fn text(placement: TextPlacement, text: &str) -> Self {
        Self::new(|digest| placement.name(digest), text.as_bytes().to_vec())
    }

    /// Only [`crate::pack::PackBuilder`] has the bytes of a pack.
    pub(crate) fn pack(bytes: Vec<u8>) -> Self {
        Self::new(ObjectName::Pack, bytes)
    }

    /// What a store gave back for `name`, to be stored again (repair, copying between stores).
    pub fn from_stored(name: ObjectName, bytes: Bytes) -> Result<Self, DigestMismatch> {
        check_digest(&name, &bytes)?;
        Ok(Self { name, bytes })
    }

    fn new(name: impl FnOnce(Digest) -> ObjectName, bytes: Vec<u8>) -> Self {
        Self {
            name: name(Digest::of(&bytes)),
            bytes: Bytes::from(bytes),
        }
    }

    /// Its name.
    pub fn name(&self) -> ObjectName {
        self.name
    }

    /// Its bytes; the SHA-256 of them is in the name.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Number of bytes. No object is empty.
    #[expect(
        clippy::len_without_is_empty,
        reason = "no constructor makes an empty object"
    )]
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.bytes.len())
    }
}

fn headed(header: Header, body: &[u8]) -> Vec<u8> {
    [&header.encode(), body].concat()
}

/// Whether these are the bytes that `name` stands for.
pub fn check_digest(name: &ObjectName, bytes: &[u8]) -> Result<(), DigestMismatch> {
    let found = Digest::of(bytes);
    if found == name.digest() {
        Ok(())
    } else {
        Err(DigestMismatch { name: *name, found })
    }
}

/// Bytes that are not the ones that a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{name} holds other bytes: their SHA-256 is {found}")]
pub struct DigestMismatch {
    /// The name under which the bytes were found.
    pub name: ObjectName,
    /// Their SHA-256.
    pub found: Digest,
}

/// The place of an object with one ciphertext behind its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopedPlacement {
    /// `index/`.
    Index,
    /// `commits/<device>/<sequence>-`.
    Commit {
        /// The device that commits.
        device: DeviceId,
        /// Place in its chain.
        sequence: u64,
    },
}

impl EnvelopedPlacement {
    fn kind(self) -> ObjectKind {
        match self {
            Self::Index => ObjectKind::Index,
            Self::Commit { .. } => ObjectKind::Commit,
        }
    }

    fn name(self, digest: Digest) -> ObjectName {
        match self {
            Self::Index => ObjectName::Index(digest),
            Self::Commit { device, sequence } => ObjectName::Commit {
                device,
                sequence,
                digest,
            },
        }
    }
}

/// The place of a text object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextPlacement {
    /// `refs/<device>/<sequence>-`.
    Refs {
        /// The device that commits.
        device: DeviceId,
        /// Sequence of the commit.
        sequence: u64,
    },
    /// `pins/<device>/<n>-`.
    Pin {
        /// The device that pins.
        device: DeviceId,
        /// Running number.
        n: u64,
    },
    /// `forgotten/<device>/<n>-`.
    Forgotten {
        /// The device that forgets.
        device: DeviceId,
        /// Running number.
        n: u64,
    },
    /// `condemned/<n>-`.
    Condemned {
        /// Running number.
        n: u64,
    },
    /// `deleting/<n>-`.
    Deleting {
        /// Running number.
        n: u64,
    },
    /// `moved/<device>/<n>-`.
    Moved {
        /// The device that compacted.
        device: DeviceId,
        /// Running number.
        n: u64,
    },
}

impl TextPlacement {
    fn name(self, digest: Digest) -> ObjectName {
        match self {
            Self::Refs { device, sequence } => ObjectName::Refs {
                device,
                sequence,
                digest,
            },
            Self::Pin { device, n } => ObjectName::Pin { device, n, digest },
            Self::Forgotten { device, n } => ObjectName::Forgotten { device, n, digest },
            Self::Condemned { n } => ObjectName::Condemned { n, digest },
            Self::Deleting { n } => ObjectName::Deleting { n, digest },
            Self::Moved { device, n } => ObjectName::Moved { device, n, digest },
        }
    }
}

/// The sorts of binary objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// `HFPK`.
    Pack,
    /// `HFIX`.
    Index,
    /// `HFKY`.
    Key,
    /// `HFCM`.
    Commit,
    /// `HFKR`.
    Keyring,
}

impl ObjectKind {
    /// The first four bytes of such an object.
    pub const fn magic(self) -> [u8; 4] {
        match self {
            Self::Pack => *b"HFPK",
            Self::Index => *b"HFIX",
            Self::Key => *b"HFKY",
            Self::Commit => *b"HFCM",
            Self::Keyring => *b"HFKR",
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pack => "pack",
            Self::Index => "index object",
            Self::Key => "key object",
            Self::Commit => "commit",
            Self::Keyring => "keyring",
        })
    }
}

/// The clear beginning of a binary object: magic, format, suite, epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the object is.
    pub kind: ObjectKind,
    /// The epoch whose archive secret opens it.
    pub epoch: u32,
}

impl Header {
    /// Bytes of a header.
    pub const LENGTH: usize = 12;

    /// The twelve bytes; associated data of what follows them.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..4].copy_from_slice(&self.kind.magic());
        bytes[4..6].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[6..8].copy_from_slice(&SUITE.to_le_bytes());
        bytes[8..].copy_from_slice(&self.epoch.to_le_bytes());
        bytes
    }

    /// The header of an object that should be a `kind`, and the bytes behind it.
    pub fn parse(kind: ObjectKind, bytes: &[u8]) -> Result<(Self, &[u8]), FormatError> {
        let (header, rest) = bytes
            .split_first_chunk::<{ Self::LENGTH }>()
            .ok_or(FormatError::Truncated { kind })?;
        let [m0, m1, m2, m3, f0, f1, s0, s1, e0, e1, e2, e3] = *header;
        if [m0, m1, m2, m3] != kind.magic() {
            return Err(FormatError::NotThisKind { kind });
        }
        match u16::from_le_bytes([f0, f1]) {
            FORMAT => {}
            0 => return Err(FormatError::NotThisKind { kind }),
            found => return Err(FormatError::NewerFormat { kind, found }),
        }
        let found = u16::from_le_bytes([s0, s1]);
        if found != SUITE {
            return Err(FormatError::UnknownSuite { kind, found });
        }
        Ok((
            Self {
                kind,
                epoch: u32::from_le_bytes([e0, e1, e2, e3]),
            },
            rest,
        ))
    }
}

/// Why bytes are not an object that this program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// Another magic.
    #[error("this is not a {kind}")]
    NotThisKind {
        /// What was expected.
        kind: ObjectKind,
    },
    /// Written by a later version of the program.
    #[error("this {kind} has format {found}, newer than this program reads: update the program")]
    NewerFormat {
        /// What it is.
        kind: ObjectKind,
        /// Its format.
        found: u16,
    },
    /// Format 1 has suite 1 only.
    #[error("this {kind} has the unknown suite {found}")]
    UnknownSuite {
        /// What it is.
        kind: ObjectKind,
        /// Its suite.
        found: u16,
    },
    /// Ends before its content does.
    #[error("this {kind} is cut off")]
    Truncated {
        /// What it is.
        kind: ObjectKind,
    },
    /// Lengths or offsets that contradict each other.
    #[error("this {kind} contradicts itself: {what}")]
    Malformed {
        /// What it is.
        kind: ObjectKind,
        /// What is wrong.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests;
