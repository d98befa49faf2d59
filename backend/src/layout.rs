//! How objects are named; the only file that spells an object's name.
//!
//! Every name ends in the SHA-256 of the object's bytes, so that anybody with the bucket can check
//! an object without a key, and so that storing is idempotent: one name can only ever hold one
//! content. Names come from the store, from grants and from other devices, so they are parsed into
//! [`ObjectName`] and never handled as strings. Each name has one spelling: parsing and printing
//! give the same bytes. Specified in `docs/format/objects.md`.

use std::{fmt, str::FromStr};

use holdfast_crypto::{DeviceId, Digest};
use thiserror::Error;

/// Decimal digits of a sequence, `n` or version in a name: names of one folder sort by number.
const NUMBER_DIGITS: usize = 10;

/// The largest sequence, `n` or version that a name can carry.
pub const MAX_NUMBER: u64 = 9_999_999_999;

/// The name of one stored object, relative to the archive's prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// `packs/<sha256>`: encrypted chunks and a table of them.
    Pack(Digest),
    /// `index/<sha256>`: where the chunks of many packs are.
    Index(Digest),
    /// `keys/<sha256>`: one session key, wrapped.
    Key(Digest),
    /// `refs/<device>/<sequence>-<sha256>`: what a commit needs, in clear.
    Refs {
        /// The device that stored it.
        device: DeviceId,
        /// The sequence of the commit that it belongs to.
        sequence: u64,
        /// SHA-256 of the object.
        digest: Digest,
    },
    /// `commits/<device>/<sequence>-<sha256>`.
    Commit {
        /// The device that stored it.
        device: DeviceId,
        /// Place in the device's chain.
        sequence: u64,
        /// SHA-256 of the object.
        digest: Digest,
    },
    /// `pins/<device>/<n>-<sha256>`: commits kept by name.
    Pin {
        /// The device that stored it.
        device: DeviceId,
        /// Running number.
        n: u64,
        /// SHA-256 of the object.
        digest: Digest,
    },
    /// `forgotten/<device>/<n>-<sha256>`: commits given up.
    Forgotten {
        /// The device that stored it.
        device: DeviceId,
        /// Running number.
        n: u64,
        /// SHA-256 of the object.
        digest: Digest,
    },
    /// `condemned/<n>-<sha256>`: objects that a gc found unused.
    Condemned {
        /// Running number.
        n: u64,
        /// SHA-256 of the object.
        digest: Digest,
    },
    /// `deleting/<n>-<sha256>`: objects that a gc is about to delete.
    Deleting {
        /// Running number.
        n: u64,
        /// SHA-256 of the object.
        digest: Digest,
    },
    /// `moved/<device>/<n>-<sha256>`: old packs and the packs that replace them.
    Moved {
        /// The device that compacted.
        device: DeviceId,
        /// Running number.
        n: u64,
        /// SHA-256 of the object.
        digest: Digest,
    },
    /// `keyring/<version>-<sha256>`: the archive secrets, wrapped.
    Keyring {
        /// Version of the keyring; the highest one counts.
        version: u64,
        /// SHA-256 of the object.
        digest: Digest,
    },
}

impl ObjectName {
    /// SHA-256 of the bytes that this name stands for.
    pub fn digest(&self) -> Digest {
        match *self {
            Self::Pack(digest) | Self::Index(digest) | Self::Key(digest) => digest,
            Self::Refs { digest, .. }
            | Self::Commit { digest, .. }
            | Self::Pin { digest, .. }
            | Self::Forgotten { digest, .. }
            | Self::Condemned { digest, .. }
            | Self::Deleting { digest, .. }
            | Self::Moved { digest, .. }
            | Self::Keyring { digest, .. } => digest,
        }
    }

    /// Its number, if no other content may ever stand under the same number of the same device.
    pub fn number(&self) -> Option<u64> {
        match *self {
            Self::Pack(_) | Self::Index(_) | Self::Key(_) => None,
            Self::Refs { sequence: n, .. }
            | Self::Commit { sequence: n, .. }
            | Self::Pin { n, .. }
            | Self::Forgotten { n, .. }
            | Self::Condemned { n, .. }
            | Self::Deleting { n, .. }
            | Self::Moved { n, .. }
            | Self::Keyring { version: n, .. } => Some(n),
        }
    }

    /// The device in whose folder it stands.
    pub fn device(&self) -> Option<DeviceId> {
        match *self {
            Self::Refs { device, .. }
            | Self::Commit { device, .. }
            | Self::Pin { device, .. }
            | Self::Forgotten { device, .. }
            | Self::Moved { device, .. } => Some(device),
            _ => None,
        }
    }

    /// The narrowest folder that lists this object.
    pub fn folder(&self) -> Folder {
        match *self {
            Self::Pack(_) => Folder::Packs,
            Self::Index(_) => Folder::Index,
            Self::Key(_) => Folder::Keys,
            Self::Refs { device, .. } => Folder::Refs(Some(device)),
            Self::Commit { device, .. } => Folder::Commits(Some(device)),
            Self::Pin { .. } => Folder::Pins,
            Self::Forgotten { .. } => Folder::Forgotten,
            Self::Condemned { .. } => Folder::Condemned,
            Self::Deleting { .. } => Folder::Deleting,
            Self::Moved { .. } => Folder::Moved,
            Self::Keyring { .. } => Folder::Keyring,
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pack(digest) => write!(f, "packs/{digest}"),
            Self::Index(digest) => write!(f, "index/{digest}"),
            Self::Key(digest) => write!(f, "keys/{digest}"),
            Self::Refs {
                device,
                sequence,
                digest,
            } => owned(f, "refs", device, *sequence, digest),
            Self::Commit {
                device,
                sequence,
                digest,
            } => owned(f, "commits", device, *sequence, digest),
            Self::Pin { device, n, digest } => owned(f, "pins", device, *n, digest),
            Self::Forgotten { device, n, digest } => owned(f, "forgotten", device, *n, digest),
            Self::Condemned { n, digest } => write!(f, "condemned/{n:010}-{digest}"),
            Self::Deleting { n, digest } => write!(f, "deleting/{n:010}-{digest}"),
            Self::Moved { device, n, digest } => owned(f, "moved", device, *n, digest),
            Self::Keyring { version, digest } => write!(f, "keyring/{version:010}-{digest}"),
        }
    }
}

fn owned(
    f: &mut fmt::Formatter<'_>,
    folder: &str,
    device: &DeviceId,
    n: u64,
    digest: &Digest,
) -> fmt::Result {
    write!(f, "{folder}/{device}/{n:010}-{digest}")
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A string that is not the name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name:?} is not the name of an object")]
pub struct NameError {
    /// What was read, cut to a printable length.
    pub name: String,
}

impl FromStr for ObjectName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        parse(name).ok_or_else(|| NameError {
            name: name.chars().take(160).collect(),
        })
    }
}

fn parse(name: &str) -> Option<ObjectName> {
    let (folder, rest) = name.split_once('/')?;
    Some(match folder {
        "packs" => ObjectName::Pack(rest.parse().ok()?),
        "index" => ObjectName::Index(rest.parse().ok()?),
        "keys" => ObjectName::Key(rest.parse().ok()?),
        "condemned" => {
            let (n, digest) = numbered(rest)?;
            ObjectName::Condemned { n, digest }
        }
        "deleting" => {
            let (n, digest) = numbered(rest)?;
            ObjectName::Deleting { n, digest }
        }
        "keyring" => {
            let (version, digest) = numbered(rest)?;
            ObjectName::Keyring { version, digest }
        }
        _ => {
            let (device, rest) = rest.split_once('/')?;
            let device = device.parse::<DeviceId>().ok()?;
            let (n, digest) = numbered(rest)?;
            match folder {
                "refs" => ObjectName::Refs {
                    device,
                    sequence: n,
                    digest,
                },
                "commits" => ObjectName::Commit {
                    device,
                    sequence: n,
                    digest,
                },
                "pins" => ObjectName::Pin { device, n, digest },
                "forgotten" => ObjectName::Forgotten { device, n, digest },
                "moved" => ObjectName::Moved { device, n, digest },
                _ => return None,
            }
        }
    })
}

fn numbered(rest: &str) -> Option<(u64, Digest)> {
    let (number, sha) = rest.split_once('-')?;
    let decimal = number.len() == NUMBER_DIGITS && number.bytes().all(|b| b.is_ascii_digit());
    decimal.then_some(())?;
    Some((number.parse().ok()?, sha.parse().ok()?))
}

/// What a listing asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// All packs.
    Packs,
    /// All index objects.
    Index,
    /// All wrapped session keys.
    Keys,
    /// Refs of one device, or of all.
    Refs(Option<DeviceId>),
    /// Commits of one device, or of all.
    Commits(Option<DeviceId>),
    /// Pins of all devices.
    Pins,
    /// Forgotten marks of all devices.
    Forgotten,
    /// Condemned marks.
    Condemned,
    /// Deleting marks.
    Deleting,
    /// Moved records of all devices.
    Moved,
    /// Keyrings.
    Keyring,
}

impl Folder {
    /// Every folder, each with all its devices.
    pub const ALL: [Self; 11] = [
        Self::Packs,
        Self::Index,
        Self::Keys,
        Self::Refs(None),
        Self::Commits(None),
        Self::Pins,
        Self::Forgotten,
        Self::Condemned,
        Self::Deleting,
        Self::Moved,
        Self::Keyring,
    ];

    /// The prefix that all names of this folder have, and no other name; ends in `/`.
    pub fn prefix(&self) -> String {
        match self {
            Self::Packs => "packs/".into(),
            Self::Index => "index/".into(),
            Self::Keys => "keys/".into(),
            Self::Refs(None) => "refs/".into(),
            Self::Refs(Some(device)) => format!("refs/{device}/"),
            Self::Commits(None) => "commits/".into(),
            Self::Commits(Some(device)) => format!("commits/{device}/"),
            Self::Pins => "pins/".into(),
            Self::Forgotten => "forgotten/".into(),
            Self::Condemned => "condemned/".into(),
            Self::Deleting => "deleting/".into(),
            Self::Moved => "moved/".into(),
            Self::Keyring => "keyring/".into(),
        }
    }

    /// The folder of this name, which is its prefix without the `/` at the end.
    pub fn named(name: &str) -> Option<Self> {
        let all = Self::ALL.into_iter();
        let mut whole = all.filter(|folder| folder.prefix().trim_end_matches('/') == name);
        whole.next().or_else(|| {
            let (folder, device) = name.split_once('/')?;
            let device = Some(device.parse().ok()?);
            match folder {
                "refs" => Some(Self::Refs(device)),
                "commits" => Some(Self::Commits(device)),
                _ => None,
            }
        })
    }

    /// Whether a listing of this folder contains `name`.
    pub fn contains(&self, name: &ObjectName) -> bool {
        match self {
            Self::Refs(None) => matches!(name, ObjectName::Refs { .. }),
            Self::Commits(None) => matches!(name, ObjectName::Commit { .. }),
            _ => name.folder() == *self,
        }
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefix())
    }
}

#[cfg(test)]
mod tests;
