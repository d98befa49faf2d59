//! The five kinds of marks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use holdfast_crypto::{DeviceId, Digest};
use serde::{Serialize, Serializer};

use super::lines::{Reader, Text, TextError, Writer};
use crate::layout::ObjectName;
use crate::object::TextPlacement;

/// The name of a commit object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitName {
    /// The device that made it.
    pub device: DeviceId,
    /// Its place in the device's chain.
    pub sequence: u64,
    /// SHA-256 of the object.
    pub digest: Digest,
}

/// The name of an object that is no commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the name of a commit")]
pub struct NotACommit(pub ObjectName);

impl TryFrom<ObjectName> for CommitName {
    type Error = NotACommit;

    fn try_from(name: ObjectName) -> Result<Self, NotACommit> {
        match name {
            ObjectName::Commit {
                device,
                sequence,
                digest,
            } => Ok(CommitName {
                device,
                sequence,
                digest,
            }),
            other => Err(NotACommit(other)),
        }
    }
}

impl From<CommitName> for ObjectName {
    fn from(
        CommitName {
            device,
            sequence,
            digest,
        }: CommitName,
    ) -> ObjectName {
        ObjectName::Commit {
            device,
            sequence,
            digest,
        }
    }
}

impl fmt::Display for CommitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ObjectName::from(*self).fmt(f)
    }
}

impl Serialize for CommitName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn commit(argument: &str) -> Option<CommitName> {
    argument.parse::<ObjectName>().ok()?.try_into().ok()
}

/// What gc may delete: never a keyring, a pin or a mark, whatever a text says.
fn collectable(argument: &str) -> Option<ObjectName> {
    argument.parse().ok().filter(is_collectable)
}

pub(crate) fn is_collectable(name: &ObjectName) -> bool {
    use ObjectName::{Commit, Index, Key, Pack, Refs};
    matches!(
        name,
        Pack(_) | Index(_) | Key(_) | Refs { .. } | Commit { .. }
    )
}

/// `pins/<device>/<n>-…`: commits kept by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pins {
    /// Who wrote it.
    pub device: DeviceId,
    /// The higher number decides.
    pub n: u64,
    /// When, in seconds since 1970 in UTC.
    pub time: i64,
    /// Kept from now on.
    pub keep: BTreeSet<CommitName>,
    /// Kept no longer.
    pub release: BTreeSet<CommitName>,
}

impl Text for Pins {
    const KIND: &'static str = "pins";

    fn placement(&self) -> TextPlacement {
        TextPlacement::Pin {
            device: self.device,
            n: self.n,
        }
    }

    fn write(&self, writer: &mut Writer) {
        writer.line("device", self.device);
        writer.number("number", self.n);
        writer.line("time", self.time);
        writer.section("keep", &self.keep);
        writer.section("release", &self.release);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, TextError> {
        let pins = Pins {
            device: reader.device()?,
            n: reader.number("number")?,
            time: reader.field("time")?,
            keep: reader.section("keep", "the name of a commit", commit)?,
            release: reader.section("release", "the name of a commit", commit)?,
        };
        reader.end()?;
        Ok(pins)
    }
}

/// `forgotten/<device>/<n>-…`: commits given up. It stays for ever: it explains their absence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Forgotten {
    /// Who wrote it.
    pub device: DeviceId,
    /// Running number.
    pub n: u64,
    /// When, in seconds since 1970 in UTC.
    pub time: i64,
    /// The commits.
    pub commits: BTreeSet<CommitName>,
}

impl Text for Forgotten {
    const KIND: &'static str = "forgotten";

    fn placement(&self) -> TextPlacement {
        TextPlacement::Forgotten {
            device: self.device,
            n: self.n,
        }
    }

    fn write(&self, writer: &mut Writer) {
        writer.line("device", self.device);
        writer.number("number", self.n);
        writer.line("time", self.time);
        writer.section("forget", &self.commits);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, TextError> {
        let forgotten = Forgotten {
            device: reader.device()?,
            n: reader.number("number")?,
            time: reader.field("time")?,
            commits: reader.section("forget", "the name of a commit", commit)?,
        };
        reader.end()?;
        Ok(forgotten)
    }
}

/// `condemned/<n>-…`: objects that no kept commit needed at this time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Condemned {
    /// Running number.
    pub n: u64,
    /// When, in seconds since 1970 in UTC.
    pub time: i64,
    /// Packs, index objects, key objects, refs and commits.
    pub names: BTreeSet<ObjectName>,
}

/// `deleting/<n>-…`: objects that a gc is about to delete.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Deleting {
    /// Running number.
    pub n: u64,
    /// When, in seconds since 1970 in UTC.
    pub time: i64,
    /// Packs, index objects, key objects, refs and commits.
    pub names: BTreeSet<ObjectName>,
}

/// Condemned and deleting marks differ in their word only.
macro_rules! list_of_names {
    ($mark:ident, $kind:literal, $word:literal) => {
        impl Text for $mark {
            const KIND: &'static str = $kind;

            fn placement(&self) -> TextPlacement {
                TextPlacement::$mark { n: self.n }
            }

            fn write(&self, writer: &mut Writer) {
                writer.number("number", self.n);
                writer.line("time", self.time);
                writer.section($word, &self.names);
            }

            fn read(reader: &mut Reader<'_>) -> Result<Self, TextError> {
                let expected = "the name of a pack, index object, key object, refs or commit";
                let mark = $mark {
                    n: reader.number("number")?,
                    time: reader.field("time")?,
                    names: reader.section($word, expected, collectable)?,
                };
                reader.end()?;
                Ok(mark)
            }
        }
    };
}

list_of_names!(Condemned, "condemned", "condemn");
list_of_names!(Deleting, "deleting", "delete");

/// `moved/<device>/<n>-…`: packs and index objects that others replace, for the refs that compact had seen.
///
/// Compact drops the chunks that no commit it knows needs. Refs that it did not see may need them
/// (another device found the old pack not condemned and named it meanwhile), so for those the old
/// pack itself is still needed. This is why the refs are listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Moved {
    /// Who compacted.
    pub device: DeviceId,
    /// Running number; moves apply in its order.
    pub n: u64,
    /// When, in seconds since 1970 in UTC.
    pub time: i64,
    /// The refs whose chunks were all copied.
    pub seen: BTreeSet<ObjectName>,
    /// Old pack or index object -> what replaces it; never nothing. Key objects that the new packs
    /// need are named with them: who needs a pack needs all its keys, so that whoever finds a chunk
    /// in a pack that stands finds its key too.
    pub moves: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
}

fn refs(argument: &str) -> Option<ObjectName> {
    argument
        .parse()
        .ok()
        .filter(|name| matches!(name, ObjectName::Refs { .. }))
}

fn old_name(argument: &str) -> Option<ObjectName> {
    argument
        .parse()
        .ok()
        .filter(|name| matches!(name, ObjectName::Pack(_) | ObjectName::Index(_)))
}

fn new_name(argument: &str) -> Option<ObjectName> {
    let is_data = |name: &ObjectName| {
        matches!(
            name,
            ObjectName::Pack(_) | ObjectName::Index(_) | ObjectName::Key(_)
        )
    };
    argument.parse().ok().filter(is_data)
}

fn one_move(argument: &str) -> Option<(ObjectName, BTreeSet<ObjectName>)> {
    let mut names = argument.split(' ');
    let old = old_name(names.next()?)?;
    let new: BTreeSet<_> = names.map(new_name).collect::<Option<_>>()?;
    (!new.is_empty()).then_some((old, new))
}

impl Text for Moved {
    const KIND: &'static str = "moved";

    fn placement(&self) -> TextPlacement {
        TextPlacement::Moved {
            device: self.device,
            n: self.n,
        }
    }

    fn write(&self, writer: &mut Writer) {
        writer.line("device", self.device);
        writer.number("number", self.n);
        writer.line("time", self.time);
        writer.section("seen", &self.seen);
        writer.section(
            "move",
            self.moves.iter().map(|(old, new)| {
                let sorted: BTreeSet<String> = new.iter().map(ObjectName::to_string).collect();
                let sorted: Vec<String> = sorted.into_iter().collect();
                format!("{old} {}", sorted.join(" "))
            }),
        );
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, TextError> {
        let moved = Moved {
            device: reader.device()?,
            n: reader.number("number")?,
            time: reader.field("time")?,
            seen: reader.section("seen", "the name of refs", refs)?,
            moves: reader
                .section("move", "an old name and its new ones", one_move)?
                .into_iter()
                .collect(),
        };
        reader.end()?;
        Ok(moved)
    }
}
