//! What a run did, for people and for scripts.

use std::collections::BTreeSet;

use serde::Serialize;

use super::plan::condemned_since;
use super::{GcError, Rules, Run, Survey, judge};
use crate::layout::ObjectName;
use crate::marks::{CommitName, seconds};

/// How many objects, and how large they are together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Number of objects.
    pub objects: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Tally {
    pub(super) fn of<'a>(survey: &Survey, names: impl IntoIterator<Item = &'a ObjectName>) -> Self {
        let facts = names
            .into_iter()
            .filter_map(|name| survey.objects.get(name));
        facts.fold(Tally::default(), |tally, facts| Tally {
            objects: tally.objects + 1,
            bytes: tally.bytes.saturating_add(facts.size),
        })
    }
}

/// What one run of gc did, or a dry one would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Nothing was stored or deleted.
    pub dry_run: bool,
    /// Commits that are kept.
    pub kept_commits: u64,
    /// Forgotten commits that can still be undeleted.
    pub forgotten_commits: u64,
    /// What kept commits and backups under way need.
    pub needed: Tally,
    /// Condemned by this run.
    pub condemned: Tally,
    /// Condemned earlier and waiting for the end of its grace period.
    pub waiting: Tally,
    /// When the first of the waiting objects may be deleted, in seconds since 1970.
    pub next_due: Option<i64>,
    /// Deleted by this run.
    pub deleted: Tally,
    /// Condemned once, but needed again.
    pub spared: Tally,
    /// Marks without further use that were deleted.
    pub cleaned_marks: u64,
    /// Commits that are kept by name but are not there.
    pub lost_pins: BTreeSet<CommitName>,
}

impl GcReport {
    pub(super) fn new(
        survey: &Survey,
        rules: &Rules,
        run: Run,
        deleted: &BTreeSet<ObjectName>,
    ) -> Result<Self, GcError> {
        let judgement = judge(survey, rules)?;
        let is_condemned =
            |name: &&ObjectName| survey.marks.condemned_since(name, i64::MIN).is_some();
        let (spared, rest): (Vec<&ObjectName>, Vec<_>) = survey
            .objects
            .keys()
            .filter(is_condemned)
            .partition(|name| judgement.needed.contains(name));
        let waiting: Vec<_> = rest
            .into_iter()
            .filter(|name| !deleted.contains(name))
            // Released or moved since: it is condemned anew.
            .filter(|name| condemned_since(survey, name).is_some())
            .collect();
        let since = waiting
            .iter()
            .filter_map(|name| condemned_since(survey, name));
        let next_due = since
            .min()
            .map(|since| since.saturating_add(seconds(rules.grace)));
        let remaining = judgement
            .forgotten
            .iter()
            .filter(|commit| !deleted.contains(&(**commit).into()));
        Ok(GcReport {
            dry_run: run == Run::Dry,
            kept_commits: judgement.kept.len() as u64,
            forgotten_commits: remaining.count() as u64,
            needed: Tally::of(survey, &judgement.needed),
            condemned: Tally::default(),
            waiting: Tally::of(survey, waiting),
            next_due,
            deleted: Tally::of(survey, deleted),
            spared: Tally::of(survey, spared),
            cleaned_marks: 0,
            lost_pins: judgement.lost_pins,
        })
    }
}
