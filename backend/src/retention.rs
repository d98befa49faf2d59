//! Which commits a retention policy keeps, and why.
//!
//! Pure: no store, no clock, no key. The caller gives the commits of **one device** in the order of
//! their sequence, and the time that counts as now; a dry run and the real run therefore see the same
//! set. Buckets (hours, days, ISO weeks, months, years) are cut in UTC.
//!
//! Two choices make it hard for a forged commit to push an honest one out:
//!
//! - Of each bucket the *first* commit is kept, not the last: whatever is stored later cannot take its
//!   place. The choice is also stable: the first of a month is the first of its day and of its hour,
//!   so that it is still there when the coarser rule comes to need it.
//! - A commit with an implausible time (in the future, or out of its device's order) takes part in no
//!   rule: it is kept and reported, and fills no bucket and no count. Who forgets without a
//!   person watching calls [`Retention::refuse_implausible`] first.
//!
//! What a count rule (`last`, `Keep::Newest`) keeps can be pushed out by whoever may store many
//! commits; the default policy therefore uses spans of time.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

mod calendar;
#[cfg(test)]
mod tests;

use calendar::Bucket;

/// By how many seconds a clock may be wrong before a time counts as implausible.
pub const CLOCK_TOLERANCE_SECONDS: i64 = 3600;

const DAY_SECONDS: i64 = 86_400;

/// How far back one bucket rule reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The rule keeps nothing.
    Nothing,
    /// The first commit of each of the newest so many buckets that hold a commit.
    Newest(u32),
    /// The first commit of each bucket, where that commit is at most so many seconds older than the
    /// newest commit.
    WithinSeconds(i64),
    /// The first commit of every bucket.
    Forever,
}

/// A text that is no [`Keep`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no retention rule: write a count (24), a span (36h, 7d, 8w, 1y), `all` or `none`"
)]
pub struct KeepParseError {
    /// What was given.
    pub text: String,
}

impl FromStr for Keep {
    type Err = KeepParseError;

    /// `24` (buckets), `36h`, `7d`, `8w`, `1y` (spans), `all`, `none`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || KeepParseError {
            text: text.to_owned(),
        };
        match text {
            "all" => return Ok(Keep::Forever),
            "none" | "0" => return Ok(Keep::Nothing),
            _ => {}
        }
        if !text.is_ascii() || !text.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(error());
        }
        let unit = match text.as_bytes().last() {
            Some(b'h') => 3600,
            Some(b'd') => DAY_SECONDS,
            Some(b'w') => 7 * DAY_SECONDS,
            Some(b'y') => 366 * DAY_SECONDS,
            _ => return text.parse().map(Keep::Newest).map_err(|_| error()),
        };
        let count: i64 = text[..text.len() - 1].parse().map_err(|_| error())?;
        let seconds = count.checked_mul(unit).ok_or_else(error)?;
        Ok(Keep::WithinSeconds(seconds))
    }
}

/// Which commits to keep. The default: all of 24 hours, hourly for 7 days, daily for 30 days, weekly for
/// a year, monthly for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// The newest so many commits.
    pub last: u32,
    /// Every commit at most so many seconds older than the newest one.
    pub all_within_seconds: i64,
    /// First commit of an hour.
    pub hourly: Keep,
    /// First commit of a day.
    pub daily: Keep,
    /// First commit of an ISO week (from Monday).
    pub weekly: Keep,
    /// First commit of a month.
    pub monthly: Keep,
    /// First commit of a year.
    pub yearly: Keep,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            last: 0,
            all_within_seconds: DAY_SECONDS,
            hourly: Keep::WithinSeconds(7 * DAY_SECONDS),
            daily: Keep::WithinSeconds(30 * DAY_SECONDS),
            weekly: Keep::WithinSeconds(366 * DAY_SECONDS),
            monthly: Keep::Forever,
            yearly: Keep::Nothing,
        }
    }
}

impl Policy {
    /// A policy that keeps only what no policy may drop; rules are then set one by one.
    pub fn nothing() -> Self {
        Policy {
            last: 0,
            all_within_seconds: -1,
            hourly: Keep::Nothing,
            daily: Keep::Nothing,
            weekly: Keep::Nothing,
            monthly: Keep::Nothing,
            yearly: Keep::Nothing,
        }
    }

    fn rules(&self) -> [(Keep, Bucket, Reason); 5] {
        [
            (self.hourly, Bucket::Hour, Reason::Hourly),
            (self.daily, Bucket::Day, Reason::Daily),
            (self.weekly, Bucket::Week, Reason::Weekly),
            (self.monthly, Bucket::Month, Reason::Monthly),
            (self.yearly, Bucket::Year, Reason::Yearly),
        ]
    }
}

/// One commit as retention sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<Id> {
    /// Seconds since 1970 in UTC: when the server received the commit, or else the commit's own time.
    pub time: i64,
    /// It carries a label that the user gave; never dropped.
    pub labelled: bool,
    /// The caller's name for it.
    pub id: Id,
}

/// Why a commit is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The device's newest commit.
    Newest,
    /// The user gave it a label.
    Labelled,
    /// Its time cannot be right; no rule is applied to it.
    ImplausibleTime,
    /// Among the newest few (`last`).
    Last,
    /// Younger than the span in which all are kept.
    AllWithin,
    /// First of its hour.
    Hourly,
    /// First of its day.
    Daily,
    /// First of its week.
    Weekly,
    /// First of its month.
    Monthly,
    /// First of its year.
    Yearly,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Newest => "newest",
            Reason::Labelled => "labelled",
            Reason::ImplausibleTime => "implausible time",
            Reason::Last => "last",
            Reason::AllWithin => "all within",
            Reason::Hourly => "hourly",
            Reason::Daily => "daily",
            Reason::Weekly => "weekly",
            Reason::Monthly => "monthly",
            Reason::Yearly => "yearly",
        })
    }
}

/// What the policy says of one commit: kept for these reasons, forgotten where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision<Id> {
    /// The caller's name for the commit.
    pub id: Id,
    /// The time that was used.
    pub time: i64,
    /// Why it is kept; empty = it is forgotten.
    pub reasons: BTreeSet<Reason>,
}

impl<Id> Decision<Id> {
    /// Whether the commit is kept.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// The policy's answer for all commits of one device, in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retention<Id> {
    /// One decision for each candidate.
    pub decisions: Vec<Decision<Id>>,
}

/// Commits whose times cannot be right: nothing should be forgotten before a person has looked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{count} commits have implausible times, so nothing is forgotten; look at them with `holdfast snapshots`"
)]
pub struct ImplausibleTimes {
    /// How many.
    pub count: usize,
}

impl<Id> Retention<Id> {
    /// The kept commits, in order.
    pub fn kept(&self) -> impl Iterator<Item = &Decision<Id>> {
        self.decisions.iter().filter(|decision| decision.is_kept())
    }

    /// The forgotten commits, in order.
    pub fn forgotten(&self) -> impl Iterator<Item = &Decision<Id>> {
        self.decisions.iter().filter(|decision| !decision.is_kept())
    }

    /// Passes the answer on only if every time is plausible.
    pub fn refuse_implausible(self) -> Result<Self, ImplausibleTimes> {
        let count = self
            .decisions
            .iter()
            .filter(|decision| decision.reasons.contains(&Reason::ImplausibleTime))
            .count();
        match count {
            0 => Ok(self),
            count => Err(ImplausibleTimes { count }),
        }
    }
}

/// Applies the policy to the commits of one device, oldest sequence first.
pub fn decide<Id: Clone>(policy: &Policy, now: i64, candidates: &[Candidate<Id>]) -> Retention<Id> {
    let times: Vec<i64> = candidates.iter().map(|candidate| candidate.time).collect();
    let implausible = calendar::implausible(&times, now, CLOCK_TOLERANCE_SECONDS);
    let mut reasons = vec![BTreeSet::new(); candidates.len()];

    for (index, candidate) in candidates.iter().enumerate() {
        if candidate.labelled {
            reasons[index].insert(Reason::Labelled);
        }
        if implausible[index] {
            reasons[index].insert(Reason::ImplausibleTime);
        }
    }
    if let Some(newest) = reasons.last_mut() {
        newest.insert(Reason::Newest);
    }

    let plausible: Vec<usize> = (0..candidates.len())
        .filter(|&index| !implausible[index])
        .collect();
    for &index in plausible.iter().rev().take(policy.last as usize) {
        reasons[index].insert(Reason::Last);
    }
    let newest_time = plausible
        .iter()
        .map(|&index| times[index])
        .max()
        .unwrap_or(now);
    for &index in &plausible {
        if newest_time.saturating_sub(times[index]) <= policy.all_within_seconds {
            reasons[index].insert(Reason::AllWithin);
        }
    }
    for (keep, bucket, reason) in policy.rules() {
        for index in first_of_each(keep, bucket, newest_time, &plausible, &times) {
            reasons[index].insert(reason);
        }
    }

    let decisions = candidates.iter().zip(reasons);
    let decisions = decisions.map(|(candidate, reasons)| Decision {
        id: candidate.id.clone(),
        time: candidate.time,
        reasons,
    });
    Retention {
        decisions: decisions.collect(),
    }
}

/// The first commit of each bucket that the rule reaches.
fn first_of_each(
    keep: Keep,
    bucket: Bucket,
    newest_time: i64,
    plausible: &[usize],
    times: &[i64],
) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let mut firsts: Vec<usize> = plausible
        .iter()
        .copied()
        .filter(|&index| seen.insert(bucket.of(times[index])))
        .collect();
    match keep {
        Keep::Nothing => firsts.clear(),
        Keep::Forever => {}
        Keep::WithinSeconds(span) => {
            firsts.retain(|&index| newest_time.saturating_sub(times[index]) <= span)
        }
        Keep::Newest(count) => {
            firsts.sort_by_key(|&index| std::cmp::Reverse(bucket.of(times[index])));
            firsts.truncate(count as usize);
        }
    }
    firsts
}
