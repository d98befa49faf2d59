//! Refs: what a commit needs, in clear, so that gc and scrub need no key.
//!
//! Refs are stored before their commit and name the packs, index and key objects that the commit needs,
//! either all of them or as a change to earlier refs of the device (`base`). They belong to
//! a sequence, not to one commit: where a fork gave two commits one sequence, the refs of that
//! sequence hold for both. Refs whose base has the *same* sequence replace that base; a device
//! writes such ones when it stored something again before its commit (`docs/protocol/gc.md`).
//!
//! What refs say is read through the moved marks: see [`RefsTable::needs`].

use std::collections::{BTreeMap, BTreeSet};

use holdfast_crypto::DeviceId;

use crate::layout::{Folder, ObjectName};
use crate::marks::lines::{Reader, Text, TextError, Writer};
use crate::marks::{self, MarksError, Moved};
use crate::object::TextPlacement;
use crate::store::ObjectStore;

#[cfg(test)]
mod tests;

/// The longest chain of bases; a device stores full refs long before.
pub const MAX_CHAIN: usize = 256;

/// The first sequence of a device's chain.
pub const FIRST_SEQUENCE: u64 = 1;

/// What one commit needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refs {
    /// The device whose commit it is.
    pub device: DeviceId,
    /// The commit's sequence.
    pub sequence: u64,
    /// Earlier refs to which this is a change; none = these refs are full.
    pub base: Option<ObjectName>,
    /// Needed, and not in the base.
    pub add: BTreeSet<ObjectName>,
    /// In the base, and needed no longer. Empty in full refs.
    pub drop: BTreeSet<ObjectName>,
}

impl Refs {
    /// Refs that name everything.
    pub fn full(device: DeviceId, sequence: u64, needed: BTreeSet<ObjectName>) -> Self {
        Refs {
            device,
            sequence,
            base: None,
            add: needed,
            drop: BTreeSet::new(),
        }
    }

    /// Refs that name the difference to earlier ones, whose resolved names are `before`.
    pub fn change(
        device: DeviceId,
        sequence: u64,
        base: ObjectName,
        before: &BTreeSet<ObjectName>,
        needed: &BTreeSet<ObjectName>,
    ) -> Self {
        let add = needed.difference(before).copied().collect();
        let drop = before.difference(needed).copied().collect();
        Refs {
            device,
            sequence,
            base: Some(base),
            add,
            drop,
        }
    }

    /// Refs that replace these ones, of the same sequence, before the commit is stored.
    pub fn replacing(&self, drop: BTreeSet<ObjectName>, add: BTreeSet<ObjectName>) -> Self {
        let base = Some(self.to_object().name());
        Refs {
            device: self.device,
            sequence: self.sequence,
            base,
            add,
            drop,
        }
    }

    /// The refs that these ones replace.
    fn replaces(&self) -> Option<ObjectName> {
        self.base.filter(
            |base| matches!(base, ObjectName::Refs { sequence, .. } if *sequence == self.sequence),
        )
    }
}

fn needed_name(argument: &str) -> Option<ObjectName> {
    argument.parse().ok().filter(|name| {
        matches!(
            name,
            ObjectName::Pack(_) | ObjectName::Index(_) | ObjectName::Key(_)
        )
    })
}

impl Text for Refs {
    const KIND: &'static str = "refs";

    fn placement(&self) -> TextPlacement {
        TextPlacement::Refs {
            device: self.device,
            sequence: self.sequence,
        }
    }

    fn write(&self, writer: &mut Writer) {
        writer.line("device", self.device);
        writer.number("sequence", self.sequence);
        if let Some(base) = self.base {
            writer.line("base", base);
        }
        writer.section("add", &self.add);
        writer.section("drop", &self.drop);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, TextError> {
        let expected = "the name of a pack, index object or key object";
        let device = reader.device()?;
        let sequence = reader.number("sequence")?;
        let base = match reader.optional("base") {
            None => None,
            Some(argument) => Some(
                base_name(argument, device, sequence)
                    .ok_or_else(|| reader.error("earlier refs of the same device"))?,
            ),
        };
        let refs = Refs {
            device,
            sequence,
            base,
            add: reader.section("add", expected, needed_name)?,
            drop: reader.section("drop", expected, needed_name)?,
        };
        if refs.base.is_none() && !refs.drop.is_empty() {
            return Err(reader.error("the end: full refs drop nothing"));
        }
        reader.end()?;
        Ok(refs)
    }
}

fn base_name(argument: &str, device: DeviceId, sequence: u64) -> Option<ObjectName> {
    let name = argument.parse().ok()?;
    let ObjectName::Refs {
        device: of,
        sequence: earlier,
        ..
    } = name
    else {
        return None;
    };
    (of == device && earlier <= sequence).then_some(name)
}

/// Why refs do not say what a commit needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefsError {
    /// A base is not there.
    #[error("{refs} are a change to {base}, which is missing")]
    MissingBase {
        /// The refs.
        refs: ObjectName,
        /// Their base.
        base: ObjectName,
    },
    /// More bases than any program writes.
    #[error("{refs} have a chain of more than {MAX_CHAIN} bases")]
    ChainTooLong {
        /// The refs.
        refs: ObjectName,
    },
}

/// All refs of an archive, or those of one device.
#[derive(Debug, Clone, Default)]
pub struct RefsTable {
    texts: BTreeMap<ObjectName, Refs>,
    replaced: BTreeSet<ObjectName>,
}

impl FromIterator<Refs> for RefsTable {
    fn from_iter<I: IntoIterator<Item = Refs>>(texts: I) -> Self {
        let texts: BTreeMap<_, _> = texts
            .into_iter()
            .map(|refs| (refs.to_object().name(), refs))
            .collect();
        let replaced = texts.values().filter_map(Refs::replaces).collect();
        RefsTable { texts, replaced }
    }
}

impl RefsTable {
    /// Loads refs: `Folder::Refs` of one device, or of all.
    pub async fn load(
        store: &dyn ObjectStore,
        device: Option<DeviceId>,
    ) -> Result<Self, MarksError> {
        let texts: Vec<(Refs, _)> = marks::load(store, Folder::Refs(device)).await?;
        Ok(texts.into_iter().map(|(refs, _)| refs).collect())
    }

    /// The texts by name.
    pub fn texts(&self) -> &BTreeMap<ObjectName, Refs> {
        &self.texts
    }

    /// The names of the refs of one sequence, without those that others of them replace.
    pub fn of(&self, device: DeviceId, sequence: u64) -> impl Iterator<Item = ObjectName> {
        let lowest = holdfast_crypto::Digest([0; 32]);
        let highest = holdfast_crypto::Digest([0xff; 32]);
        let range = ObjectName::Refs {
            device,
            sequence,
            digest: lowest,
        }..=ObjectName::Refs {
            device,
            sequence,
            digest: highest,
        };
        self.texts
            .range(range)
            .map(|(name, _)| *name)
            .filter(|name| !self.replaced.contains(name))
    }

    /// Whether other refs of the same sequence replace these ones.
    pub fn is_replaced(&self, name: &ObjectName) -> bool {
        self.replaced.contains(name)
    }

    /// The refs and all their bases, from these ones down to full ones.
    pub fn chain(&self, name: &ObjectName) -> Result<Vec<ObjectName>, RefsError> {
        let mut chain = vec![*name];
        let mut refs = *name;
        while let Some(base) = self.texts.get(&refs).and_then(|text| text.base) {
            if !self.texts.contains_key(&base) {
                return Err(RefsError::MissingBase { refs, base });
            }
            if chain.len() > MAX_CHAIN {
                return Err(RefsError::ChainTooLong { refs: *name });
            }
            chain.push(base);
            refs = base;
        }
        Ok(chain)
    }

    /// The packs, index and key objects that these refs name, as they were written.
    pub fn resolve(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>, RefsError> {
        let mut names = BTreeSet::new();
        for link in self.chain(name)?.iter().rev() {
            if let Some(text) = self.texts.get(link) {
                names.retain(|name| !text.drop.contains(name));
                names.extend(&text.add);
            }
        }
        Ok(names)
    }

    /// Everything that must stay so that these refs hold: the refs, their bases, and what they name,
    /// read through the moved marks in their order.
    ///
    /// What a move replaces is needed no longer only if compact had seen these very refs and all
    /// that replaces it is there, or was replaced in this way by later moves; the new objects are
    /// needed in any case.
    pub fn needs(
        &self,
        name: &ObjectName,
        moved: &[Moved],
        exists: impl Fn(&ObjectName) -> bool,
    ) -> Result<BTreeSet<ObjectName>, RefsError> {
        let mut names = self.resolve(name)?;
        for (place, mark) in moved.iter().enumerate() {
            let later = &moved[place + 1..];
            for (old, new) in &mark.moves {
                if !names.contains(old) {
                    continue;
                }
                names.extend(new);
                let stands = |new: &ObjectName| is_there(name, new, later, &exists);
                if mark.seen.contains(name) && new.iter().all(stands) && !new.contains(old) {
                    names.remove(old);
                }
            }
        }
        names.extend(self.chain(name)?);
        Ok(names)
    }
}

/// Whether these refs find in the store what `object` holds for them: the object itself, or what
/// `later` moves that saw them put in its place. Without the latter, a move would stop to count when
/// its new pack is compacted once more and deleted.
fn is_there(
    refs: &ObjectName,
    object: &ObjectName,
    later: &[Moved],
    exists: &dyn Fn(&ObjectName) -> bool,
) -> bool {
    exists(object)
        || later.iter().enumerate().any(|(place, mark)| {
            let rest = &later[place + 1..];
            let replaced = |new: &BTreeSet<ObjectName>| {
                new.iter().all(|new| is_there(refs, new, rest, exists))
            };
            mark.seen.contains(refs) && mark.moves.get(object).is_some_and(replaced)
        })
}
