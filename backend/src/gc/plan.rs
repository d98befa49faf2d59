//! What gc decides: pure functions of a [`Survey`] and the [`Rules`].

use std::collections::{BTreeMap, BTreeSet};

use holdfast_crypto::DeviceId;

use super::{GcError, Rules, Survey};
use crate::layout::ObjectName;
use crate::marks::{CommitName, Pin, seconds};
use crate::refs::{FIRST_SEQUENCE, RefsError};

/// Which commits are kept, and what they need.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// Not forgotten, or pinned, or the newest of their device.
    pub kept: BTreeSet<CommitName>,
    /// The other commits that are still there.
    pub forgotten: BTreeSet<CommitName>,
    /// Everything that kept commits and backups under way need: packs, index and key objects, refs, commits.
    pub needed: BTreeSet<ObjectName>,
    /// What of that kept commits need. Refs that stay behind a deleted commit (later ones build on them)
    /// count as a backup under way while they are young: gc spares what they name, but nobody misses it.
    pub kept_needs: BTreeSet<ObjectName>,
    /// The refs by which it is needed: of kept commits, of backups under way, and young ones.
    pub live: BTreeSet<ObjectName>,
    /// Commits that a pin keeps and that are not there.
    pub lost_pins: BTreeSet<CommitName>,
}

/// Judges every commit. Fails, and so stops gc, wherever the survey cannot be trusted.
pub fn judge(survey: &Survey, rules: &Rules) -> Result<Judgement, GcError> {
    check_times(survey, rules)?;
    let chains = Chains::of(survey)?;
    let (kept, forgotten): (BTreeSet<_>, _) = survey.commits().partition(|commit| {
        let newest = chains.newest(commit.device) == Some(commit.sequence);
        newest || !survey.marks.is_forgotten(commit) || survey.marks.pin(commit) == Pin::Kept
    });
    for commit in &kept {
        if survey
            .refs
            .of(commit.device, commit.sequence)
            .next()
            .is_none()
        {
            return Err(GcError::CommitWithoutRefs { commit: *commit });
        }
    }

    let pinned: BTreeSet<CommitName> = survey.marks.pinned_commits().copied().collect();
    let lost_pins: BTreeSet<CommitName> = pinned
        .into_iter()
        .filter(|commit| !survey.exists(&(*commit).into()))
        .collect();
    let protected: BTreeSet<_> = kept
        .iter()
        .chain(&lost_pins)
        .map(|commit| (commit.device, commit.sequence))
        .collect();

    let mut live = BTreeSet::new();
    let mut kept_needs: BTreeSet<ObjectName> = kept.iter().map(|commit| (*commit).into()).collect();
    let mut needed = kept_needs.clone();
    for name in survey.refs.texts().keys() {
        let ObjectName::Refs {
            device, sequence, ..
        } = *name
        else {
            continue;
        };
        let is_protected = protected.contains(&(device, sequence));
        let is_live =
            is_protected || chains.is_under_way(device, sequence) || is_young(survey, name, rules);
        if is_live && !is_superseded(survey, name) {
            live.insert(*name);
            let needs = needs_of(survey, name)?;
            if is_protected {
                kept_needs.extend(needs.iter().copied());
            }
            needed.extend(needs);
        }
    }
    Ok(Judgement {
        kept,
        forgotten,
        needed,
        kept_needs,
        live,
        lost_pins,
    })
}

/// What is to be condemned: old enough, needed by nobody, and not condemned yet.
pub fn plan_condemning(survey: &Survey, rules: &Rules) -> Result<BTreeSet<ObjectName>, GcError> {
    let judgement = judge(survey, rules)?;
    let names = survey.objects.keys().copied();
    Ok(names
        .filter(|name| !judgement.needed.contains(name))
        .filter(|name| !is_young(survey, name, rules))
        .filter(|name| condemned_since(survey, name).is_none())
        .collect())
}

/// What may be deleted: condemned for a grace period, needed by nobody, and not needed by a
/// forgotten commit whose own grace period is not over. The last rule gives every forgotten commit its
/// full time to be undeleted, also when something it needs was condemned long before.
pub fn plan_deleting(survey: &Survey, rules: &Rules) -> Result<BTreeSet<ObjectName>, GcError> {
    let judgement = judge(survey, rules)?;
    let waiting = needed_by_waiting(survey, &judgement, rules);
    let names = survey.objects.keys().copied();
    Ok(names
        .filter(|name| !judgement.needed.contains(name) && !waiting.contains(name))
        .filter(|name| is_due(survey, name, rules))
        .collect())
}

/// Marks that say nothing any more. A condemned mark: two grace periods old, and each of its objects
/// is gone or needed again. A deleting mark: two grace periods old; whoever might still rely on
/// what it names has read newer marks by then. The newest of each stays, so that numbers go on.
pub fn plan_cleaning(survey: &Survey, rules: &Rules) -> Result<BTreeSet<ObjectName>, GcError> {
    let judgement = judge(survey, rules)?;
    let is_past = |time: i64| time.saturating_add(2 * seconds(rules.grace)) <= rules.now;
    let is_settled = |name: &ObjectName| !survey.exists(name) || judgement.needed.contains(name);
    let newest_condemned = survey
        .marks
        .condemned()
        .iter()
        .map(|(_, mark)| mark.n)
        .max();
    let newest_deleting = survey.marks.deleting().iter().map(|(_, mark)| mark.n).max();

    let condemned = survey.marks.condemned().iter().filter(|(_, mark)| {
        is_past(mark.time) && mark.names.iter().all(is_settled) && Some(mark.n) != newest_condemned
    });
    let deleting = survey
        .marks
        .deleting()
        .iter()
        .filter(|(_, mark)| is_past(mark.time) && Some(mark.n) != newest_deleting);
    Ok(condemned
        .map(|(name, _)| *name)
        .chain(deleting.map(|(name, _)| *name))
        .collect())
}

/// In which order to delete; each stage is complete before the next one begins.
pub fn deletion_stages(names: &BTreeSet<ObjectName>) -> [Vec<ObjectName>; 3] {
    let stage = |name: &ObjectName| match name {
        ObjectName::Commit { .. } => 0,
        ObjectName::Refs { .. } => 1,
        _ => 2,
    };
    [0, 1, 2].map(|wanted| {
        names
            .iter()
            .copied()
            .filter(|name| stage(name) == wanted)
            .collect()
    })
}

/// Since when the object is condemned. For a commit that was pinned and released, marks from before
/// the release do not count: its time to be undeleted begins anew. Nor do marks from before a move for
/// what was moved: readers that know only the old pack get a whole grace period, and a move that
/// turns out not to hold is noticed before anything is deleted for it.
pub(super) fn condemned_since(survey: &Survey, name: &ObjectName) -> Option<i64> {
    let floor = match CommitName::try_from(*name).map(|commit| survey.marks.pin(&commit)) {
        Ok(Pin::Released { time }) => time,
        _ => survey.marks.moved_since(name).unwrap_or(i64::MIN),
    };
    survey.marks.condemned_since(name, floor)
}

fn is_due(survey: &Survey, name: &ObjectName, rules: &Rules) -> bool {
    condemned_since(survey, name)
        .is_some_and(|since| since.saturating_add(seconds(rules.grace)) <= rules.now)
}

/// What the forgotten commits need that are not due. Their refs may be damaged or have lost a base (a gc
/// died while it deleted): then what is left of them counts, since nobody relies on it.
fn needed_by_waiting(
    survey: &Survey,
    judgement: &Judgement,
    rules: &Rules,
) -> BTreeSet<ObjectName> {
    let mut needed = BTreeSet::new();
    for commit in judgement
        .forgotten
        .iter()
        .filter(|commit| !is_due(survey, &(**commit).into(), rules))
    {
        needed.insert((*commit).into());
        for refs in survey.refs.of(commit.device, commit.sequence) {
            needed.insert(refs);
            needed.extend(needs_of(survey, &refs).unwrap_or_default());
        }
    }
    needed
}

pub(super) fn needs_of(
    survey: &Survey,
    refs: &ObjectName,
) -> Result<BTreeSet<ObjectName>, RefsError> {
    survey
        .refs
        .needs(refs, survey.marks.moved(), |new| survey.exists(new))
}

/// Replaced by later refs of the same sequence. In a fork the replaced ones may be the other commit's,
/// so there they count.
fn is_superseded(survey: &Survey, name: &ObjectName) -> bool {
    let ObjectName::Refs {
        device, sequence, ..
    } = *name
    else {
        return false;
    };
    let commits = survey
        .commits()
        .filter(|commit| (commit.device, commit.sequence) == (device, sequence))
        .count();
    survey.refs.is_replaced(name) && commits < 2
}

/// Too new to be condemned; an unknown age counts as new.
fn is_young(survey: &Survey, name: &ObjectName, rules: &Rules) -> bool {
    let stored_at = survey.objects.get(name).and_then(|facts| facts.stored_at);
    stored_at
        .is_none_or(|stored_at| stored_at.saturating_add(seconds(rules.safety_age)) > rules.now)
}

/// Nothing may come from the future: then ages mean nothing.
fn check_times(survey: &Survey, rules: &Rules) -> Result<(), GcError> {
    let latest = rules.now.saturating_add(seconds(rules.clock_tolerance));
    let stored = survey
        .objects
        .iter()
        .filter_map(|(name, facts)| Some((*name, facts.stored_at?)));
    match stored
        .chain(survey.marks.latest_time())
        .find(|(_, time)| *time > latest)
    {
        Some((name, time)) => Err(GcError::ImplausibleTime {
            name,
            time,
            now: rules.now,
        }),
        None => Ok(()),
    }
}

/// The sequences of each device that are there, forgotten or under way.
struct Chains {
    newest: BTreeMap<DeviceId, u64>,
}

impl Chains {
    /// Fails at a sequence that is missing for no known reason. Devices number without gaps, so it means
    /// that a commit was lost, or that the listing hides one, and then perhaps others.
    fn of(survey: &Survey) -> Result<Self, GcError> {
        let mut explained: BTreeMap<DeviceId, BTreeSet<u64>> = BTreeMap::new();
        let mut newest = BTreeMap::new();
        for commit in survey.commits() {
            explained
                .entry(commit.device)
                .or_default()
                .insert(commit.sequence);
            let newest = newest.entry(commit.device).or_insert(commit.sequence);
            *newest = commit.sequence.max(*newest);
        }
        for commit in survey.marks.forgotten_commits() {
            explained
                .entry(commit.device)
                .or_default()
                .insert(commit.sequence);
        }
        let mut under_way: BTreeMap<DeviceId, BTreeSet<u64>> = BTreeMap::new();
        for name in survey.refs.texts().keys() {
            if let ObjectName::Refs {
                device, sequence, ..
            } = *name
            {
                under_way.entry(device).or_default().insert(sequence);
            }
        }
        for (device, sequences) in under_way {
            let explained = explained.entry(device).or_default();
            // Only the highest one can be a backup under way.
            let highest = sequences.last().copied();
            explained.extend(
                highest.filter(|highest| newest.get(&device).is_none_or(|newest| highest > newest)),
            );
            if let Some(sequence) = sequences
                .into_iter()
                .find(|sequence| !explained.contains(sequence))
            {
                return Err(GcError::Gap { device, sequence });
            }
        }
        for (device, sequences) in &explained {
            let first = sequences
                .first()
                .copied()
                .unwrap_or(FIRST_SEQUENCE)
                .min(FIRST_SEQUENCE);
            if let Some((sequence, _)) = (first..)
                .zip(sequences)
                .find(|(expected, found)| expected != *found)
            {
                return Err(GcError::Gap {
                    device: *device,
                    sequence,
                });
            }
        }
        Ok(Chains { newest })
    }

    fn newest(&self, device: DeviceId) -> Option<u64> {
        self.newest.get(&device).copied()
    }

    /// Refs stored, commit not yet.
    fn is_under_way(&self, device: DeviceId, sequence: u64) -> bool {
        self.newest(device).is_none_or(|newest| sequence > newest)
    }
}
