//! What the store holds, and what kept commits need of it.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_backend::gc::{GcError, Judgement, Rules, Survey, judge};
use holdfast_backend::layout::{Folder, ObjectName};
use holdfast_backend::marks::{Marks, MarksError};
use holdfast_crypto::Digest;

use crate::archive::{Archive, ArchiveError, now_seconds};

/// One reading of the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stock {
    /// Packs, index and key objects, each with its size.
    listed: BTreeMap<ObjectName, u64>,
    /// Refs and marks, and what they say together; none if they cannot be read.
    pub(crate) judged: Option<(Survey, Judgement)>,
    /// Why they cannot.
    pub(crate) unjudged: Option<String>,
    /// The text object that cannot be read.
    pub(crate) unreadable: Option<ObjectName>,
}

impl Stock {
    /// Lists the store and reads refs and marks.
    pub(crate) fn take(archive: &Archive) -> Result<Self, ArchiveError> {
        let rules = Rules {
            grace: archive.settings().grace(),
            ..Rules::at(now_seconds())
        };
        let survey = async { Ok(Survey::take(&*archive.store, rules.now).await) };
        let judged = archive.ask(survey)?.and_then(|survey| {
            let judgement = judge(&survey, &rules)?;
            Ok((survey, judgement))
        });
        match judged {
            Ok((survey, judgement)) => Ok(Stock {
                listed: sizes(&survey),
                judged: Some((survey, judgement)),
                ..Stock::default()
            }),
            Err(GcError::Store(error) | GcError::Marks(MarksError::Store(error))) => {
                Err(error.into())
            }
            Err(error) => Self::without_judgement(archive, &error),
        }
    }

    fn without_judgement(archive: &Archive, error: &GcError) -> Result<Self, ArchiveError> {
        let mut listed = BTreeMap::new();
        for folder in [Folder::Packs, Folder::Index, Folder::Keys] {
            let objects = archive.ask(archive.store.list(folder))?;
            listed.extend(objects.into_iter().map(|listed| (listed.name, listed.size)));
        }
        let unreadable = match error {
            GcError::Marks(MarksError::Unreadable { name, .. }) => Some(*name),
            _ => None,
        };
        // A clock that is wrong says nothing about what is there.
        let is_harmless = matches!(error, GcError::ImplausibleTime { .. });
        Ok(Stock {
            listed,
            judged: None,
            unjudged: (!is_harmless).then(|| error.to_string()),
            unreadable,
        })
    }

    /// The size of an object that is there.
    pub(crate) fn size(&self, name: &ObjectName) -> Option<u64> {
        self.listed.get(name).copied()
    }

    /// Whether the object is there.
    pub(crate) fn has(&self, name: &ObjectName) -> bool {
        self.listed.contains_key(name)
    }

    /// Whether a kept commit needs the object; yes where that is not known.
    pub(crate) fn is_needed(&self, name: &ObjectName) -> bool {
        let judgement = self.judged.as_ref().map(|(_, judgement)| judgement);
        judgement.is_none_or(|judgement| judgement.kept_needs.contains(name))
    }

    /// Everything that kept commits need, as far as known.
    pub(crate) fn needed(&self) -> BTreeSet<ObjectName> {
        let judgement = self.judged.as_ref().map(|(_, judgement)| judgement);
        judgement
            .map(|judgement| judgement.kept_needs.clone())
            .unwrap_or_default()
    }

    /// The marks, if they can be read.
    pub(crate) fn marks(&self) -> Option<&Marks> {
        self.judged.as_ref().map(|(survey, _)| &survey.marks)
    }

    /// The packs that a pack was moved to, directly or by way of others.
    pub(crate) fn replacements(&self, pack: &Digest) -> BTreeSet<Digest> {
        let mut names = BTreeSet::from([ObjectName::Pack(*pack)]);
        for mark in self.marks().map(Marks::moved).unwrap_or_default() {
            for (old, new) in &mark.moves {
                if names.contains(old) {
                    names.extend(new);
                }
            }
        }
        names.remove(&ObjectName::Pack(*pack));
        let is_pack = |name: &ObjectName| matches!(name, ObjectName::Pack(_));
        names
            .iter()
            .filter(|name| is_pack(name))
            .map(ObjectName::digest)
            .collect()
    }

    /// Whether others stand in the place of an object, so that nobody needs it.
    pub(crate) fn is_replaced(&self, name: &ObjectName) -> bool {
        let is_moved = |marks: &Marks| marks.moved().iter().any(|m| m.moves.contains_key(name));
        !self.is_needed(name) && self.marks().is_some_and(is_moved)
    }
}

fn sizes(survey: &Survey) -> BTreeMap<ObjectName, u64> {
    let objects = survey.objects.iter();
    objects.map(|(name, facts)| (*name, facts.size)).collect()
}
