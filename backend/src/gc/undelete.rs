//! Forgetting, keeping by name, and taking a forgotten commit back, all without a key.
//!
//! Undelete, and what is in the store if we die behind each step:
//!
//! 1. Survey; choose the forgotten commits that are complete and named in no deleting mark.
//! 2. Store pins that keep them. *They are kept. If a gc had already decided to delete some of their
//!    objects, they may be incomplete: repeat undelete, which finds out.*
//! 3. Survey again. A commit that is no longer complete, or now named in a deleting mark, is released, and
//!    reported as lost.
//!
//! gc stores its deleting mark, then reads pins; we store pins, then read deleting marks: whichever is
//! later sees the other.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_crypto::DeviceId;
use serde::Serialize;

use super::plan::{judge, needs_of};
use super::{GcError, Rules, Survey};
use crate::layout::ObjectName;
use crate::marks::{CommitName, Forgotten, Marks, MarksError, Pins, Text};
use crate::store::{ObjectStore, StoreError};

/// Which forgotten commits to take back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All that can be.
    All,
    /// These.
    These(BTreeSet<CommitName>),
}

/// Why a forgotten commit cannot be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// The commit object is gone.
    Gone,
    /// The commit is there, but some of what it needs is gone.
    Incomplete,
    /// A gc has announced that it deletes some of what it needs.
    BeingDeleted,
    /// It was never forgotten.
    NotForgotten,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Lost::Gone => "it is deleted",
            Lost::Incomplete => "some of its data is deleted",
            Lost::BeingDeleted => "its data is being deleted",
            Lost::NotForgotten => "it was not forgotten",
        })
    }
}

/// Which commits come back, and which cannot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UndeletePlan {
    /// Complete: a pin keeps them.
    pub restorable: BTreeSet<CommitName>,
    /// Why the others stay forgotten.
    #[serde(serialize_with = "as_list")]
    pub lost: BTreeMap<CommitName, Lost>,
}

/// What undelete did.
pub type UndeleteReport = UndeletePlan;

fn as_list<S: serde::Serializer>(
    lost: &BTreeMap<CommitName, Lost>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(lost)
}

/// Why undelete stopped.
#[derive(Debug, thiserror::Error)]
pub enum UndeleteError {
    /// The archive could not be surveyed.
    #[error(transparent)]
    Survey(#[from] GcError),
    /// Pins could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Decides about each selected commit.
pub fn plan_undelete(
    survey: &Survey,
    rules: &Rules,
    selection: &Selection,
) -> Result<UndeletePlan, GcError> {
    let forgotten = judge(survey, rules)?.forgotten;
    let selected = match selection {
        // Forgotten and gone ones would only be noise here: they are gone for long.
        Selection::All => &forgotten,
        Selection::These(commits) => commits,
    };
    let mut plan = UndeletePlan::default();
    for commit in selected {
        let verdict = match forgotten.contains(commit) {
            true => what_is_lost(survey, commit),
            false if survey.exists(&(*commit).into()) => Some(Lost::NotForgotten),
            false => Some(Lost::Gone),
        };
        match verdict {
            None => plan.restorable.insert(*commit),
            Some(lost) => plan.lost.insert(*commit, lost).is_none(),
        };
    }
    Ok(plan)
}

/// Whether something that the commit needs is gone or going; `None` = it is complete and safe to keep.
pub fn what_is_lost(survey: &Survey, commit: &CommitName) -> Option<Lost> {
    let mut needed = BTreeSet::from([ObjectName::from(*commit)]);
    let mut refs = survey.refs.of(commit.device, commit.sequence).peekable();
    if !survey.exists(&(*commit).into()) {
        return Some(Lost::Gone);
    }
    if refs.peek().is_none() {
        return Some(Lost::Incomplete);
    }
    for refs in refs {
        match needs_of(survey, &refs) {
            Ok(needs) => needed.extend(needs),
            Err(_) => return Some(Lost::Incomplete),
        }
    }
    if needed.iter().any(|name| !survey.exists(name)) {
        return Some(Lost::Incomplete);
    }
    (!survey.marks.named_in_deleting(&needed).is_empty()).then_some(Lost::BeingDeleted)
}

/// Takes forgotten commits back, in the name of `device`.
pub async fn undelete(
    store: &dyn ObjectStore,
    device: DeviceId,
    rules: &Rules,
    selection: &Selection,
) -> Result<UndeleteReport, UndeleteError> {
    let survey = Survey::take(store, rules.now).await?;
    let mut report = plan_undelete(&survey, rules, selection)?;
    if report.restorable.is_empty() {
        return Ok(report);
    }
    store_pins(
        store,
        &survey.marks,
        device,
        rules.now,
        report.restorable.clone(),
        BTreeSet::new(),
    )
    .await?;

    let survey = Survey::take(store, rules.now).await?;
    let lost: BTreeMap<_, _> = report
        .restorable
        .iter()
        .filter_map(|commit| Some((*commit, what_is_lost(&survey, commit)?)))
        .collect();
    if !lost.is_empty() {
        let release: BTreeSet<_> = lost.keys().copied().collect();
        report.restorable.retain(|commit| !release.contains(commit));
        store_pins(
            store,
            &survey.marks,
            device,
            rules.now,
            BTreeSet::new(),
            release,
        )
        .await?;
        report.lost.extend(lost);
    }
    Ok(report)
}

/// Keeps commits by name, in the name of `device`. For commits that are not forgotten; forgotten ones are
/// taken back with [`undelete`].
pub async fn pin(
    store: &dyn ObjectStore,
    device: DeviceId,
    now: i64,
    commits: BTreeSet<CommitName>,
) -> Result<(), MarksError> {
    let marks = Marks::read(store, now).await?;
    Ok(store_pins(store, &marks, device, now, commits, BTreeSet::new()).await?)
}

/// Ends keeping commits by name.
pub async fn release(
    store: &dyn ObjectStore,
    device: DeviceId,
    now: i64,
    commits: BTreeSet<CommitName>,
) -> Result<(), MarksError> {
    let marks = Marks::read(store, now).await?;
    Ok(store_pins(store, &marks, device, now, BTreeSet::new(), commits).await?)
}

async fn store_pins(
    store: &dyn ObjectStore,
    marks: &Marks,
    device: DeviceId,
    now: i64,
    keep: BTreeSet<CommitName>,
    release: BTreeSet<CommitName>,
) -> Result<(), StoreError> {
    let pins = Pins {
        device,
        n: marks.next_pins_n(),
        time: now,
        keep,
        release,
    };
    store.put_new(&pins.to_object()).await.map(drop)
}

/// Gives commits up, in the name of `device`. A pin still keeps what it names, and the newest commit of a
/// device stays in any case.
pub async fn forget(
    store: &dyn ObjectStore,
    device: DeviceId,
    now: i64,
    commits: BTreeSet<CommitName>,
) -> Result<(), MarksError> {
    let marks = Marks::read(store, now).await?;
    let mark = Forgotten {
        device,
        n: marks.next_forgotten_n(),
        time: now,
        commits,
    };
    store.put_new(&mark.to_object()).await?;
    Ok(())
}
