//! Garbage collection: two phases, no key, no lock.
//!
//! What happens in one run ([`collect`]), and what is in the store if we die behind each step:
//!
//! 1. Survey: list objects, read refs and marks, judge which commits are kept. *Nothing changed.*
//! 2. What is condemned for a grace period and still needed by nobody is named in a new
//!    `deleting/<n>`. *The mark names objects that stand; devices avoid them; the next run begins anew.*
//! 3. Check that the listing shows the mark, and that the store's clock agrees with ours.
//! 4. Survey again, and delete what both surveys found: commits, then refs, then the rest. *Some
//!    forgotten commits are gone, or are there without some of their data; no kept one is touched.
//!    The next run deletes the rest.*
//! 5. What nobody needs and is old enough is named in a new `condemned/<n>`. *The mark stands or not.*
//! 6. Marks that are long past are deleted. *More of them stand than must.*
//!
//! Why this deletes nothing that a device is about to commit: a device stores refs, *then* reads
//! `deleting`; gc stores `deleting`, *then* reads refs. Whichever is later sees the other. The whole
//! argument is in `docs/protocol/gc.md`, and `tests/gc_model.rs` explores it exhaustively with the
//! planning functions of this module.
//!
//! | at the same time as | gc |
//! |---|---|
//! | backup on any device | safe |
//! | another gc | safe; both may delete the same object |
//! | undelete | safe; undelete says what it could not save |
//! | compact | safe; old packs wait a full grace period from when they are condemned |

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};

use crate::layout::{Folder, ObjectName};
use crate::marks::{CommitName, Condemned, Deleting, Marks, MarksError, Text};
use crate::refs::RefsError;
use crate::store::{ObjectStore, StoreError};

mod plan;
mod report;
mod survey;
mod undelete;

pub use plan::{Judgement, deletion_stages, judge, plan_cleaning, plan_condemning, plan_deleting};
pub use report::{GcReport, Tally};
pub use survey::{Facts, Survey};
pub use undelete::{
    Lost, Selection, UndeleteError, UndeletePlan, UndeleteReport, forget, pin, plan_undelete,
    release, undelete, what_is_lost,
};

/// How long a condemned object waits by default.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30 * 86_400);
/// How old an object is by default before it can be condemned: uploads under way have no refs yet.
pub const DEFAULT_SAFETY_AGE: Duration = Duration::from_secs(86_400);
/// By how much clocks may disagree by default.
pub const DEFAULT_CLOCK_TOLERANCE: Duration = Duration::from_secs(3600);

const DELETES_AT_ONCE: usize = 8;

/// The times by which gc decides; nothing here has a clock of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Seconds since 1970 in UTC.
    pub now: i64,
    /// From condemning to deleting. The same for every program that uses the archive.
    pub grace: Duration,
    /// Younger objects, and those whose age the store does not know, are left alone.
    pub safety_age: Duration,
    /// By how much the clocks of store, devices and gc may disagree.
    pub clock_tolerance: Duration,
}

impl Rules {
    /// The default periods.
    pub fn at(now: i64) -> Self {
        Rules {
            now,
            grace: DEFAULT_GRACE,
            safety_age: DEFAULT_SAFETY_AGE,
            clock_tolerance: DEFAULT_CLOCK_TOLERANCE,
        }
    }
}

/// Whether anything is stored or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Only report what a real run would condemn and delete.
    Dry,
    /// Do it.
    Real,
}

/// Why gc stopped. What it had decided to delete by then is decided anew by the next run.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A mark or refs object cannot be read, or one is missing.
    #[error(transparent)]
    Marks(#[from] MarksError),
    /// Refs of a kept commit lack their base.
    #[error("the needs of a kept commit are not known, so nothing is deleted: {0}")]
    Refs(#[from] RefsError),
    /// A commit is missing and no forgotten mark says why.
    #[error(
        "commit {sequence} of device {device} is missing and was never forgotten: it is lost or the listing is stale; nothing is deleted"
    )]
    Gap {
        /// The device.
        device: holdfast_crypto::DeviceId,
        /// The missing sequence.
        sequence: u64,
    },
    /// A kept commit has no refs.
    #[error("{commit} is kept but has no refs: nobody knows what it needs, so nothing is deleted")]
    CommitWithoutRefs {
        /// The commit.
        commit: CommitName,
    },
    /// Something was stored in the future.
    #[error(
        "{name} has the time {time}, but it is now {now}: a clock is wrong, so nothing is deleted"
    )]
    ImplausibleTime {
        /// The object.
        name: ObjectName,
        /// Its time, in seconds since 1970.
        time: i64,
        /// What was given as now.
        now: i64,
    },
    /// Our own mark does not show in a listing.
    #[error(
        "{mark} was stored but is not listed: the listing is stale, so nothing is deleted; try again later"
    )]
    StaleListing {
        /// The mark.
        mark: ObjectName,
    },
}

/// Runs gc once: deletes what is due, then condemns what nobody needs.
pub async fn collect(
    store: &dyn ObjectStore,
    rules: &Rules,
    run: Run,
) -> Result<GcReport, GcError> {
    let mut survey = Survey::take(store, rules.now).await?;
    let due = plan_deleting(&survey, rules)?;
    let mut deleted = due.clone();
    if run == Run::Real && !due.is_empty() {
        announce(store, &survey.marks, &due, rules).await?;
        survey = Survey::take(store, rules.now).await?;
        let still_due = plan_deleting(&survey, rules)?;
        deleted.retain(|name| still_due.contains(name));
        delete(store, &deleted).await?;
    }
    let mut report = GcReport::new(&survey, rules, run, &deleted)?;
    survey.forget(&deleted);

    let condemned = plan_condemning(&survey, rules)?;
    report.condemned = Tally::of(&survey, &condemned);
    let past = plan_cleaning(&survey, rules)?;
    report.cleaned_marks = past.len() as u64;
    if run == Run::Real {
        if !condemned.is_empty() {
            let mark = Condemned {
                n: survey.marks.next_condemned_n(),
                time: rules.now,
                names: condemned,
            };
            store.put_new(&mark.to_object()).await?;
        }
        delete(store, &past).await?;
    }
    Ok(report)
}

/// Stores the deleting mark, and makes sure that it is visible and that the clocks agree. Without the
/// latter a clock that is a month ahead would skip the whole grace period.
async fn announce(
    store: &dyn ObjectStore,
    marks: &Marks,
    due: &BTreeSet<ObjectName>,
    rules: &Rules,
) -> Result<(), GcError> {
    let mark = Deleting {
        n: marks.next_deleting_n(),
        time: rules.now,
        names: due.clone(),
    }
    .to_object();
    store.put_new(&mark).await?;
    let listed = store.list(Folder::Deleting).await?;
    let Some(found) = listed.into_iter().find(|listed| listed.name == mark.name()) else {
        return Err(GcError::StaleListing { mark: mark.name() });
    };
    let tolerance = crate::marks::seconds(rules.clock_tolerance);
    match found.stored_at.map(crate::marks::unix_seconds) {
        Some(time) if time.abs_diff(rules.now) > tolerance.unsigned_abs() => {
            Err(GcError::ImplausibleTime {
                name: mark.name(),
                time,
                now: rules.now,
            })
        }
        _ => Ok(()),
    }
}

/// Commits go first and are gone before anything else goes, so that a commit that stands among the
/// forgotten ones still has its refs, and `undelete` can tell what is left of it.
async fn delete(store: &dyn ObjectStore, names: &BTreeSet<ObjectName>) -> Result<(), StoreError> {
    for stage in deletion_stages(names) {
        let mut deletes = Vec::with_capacity(stage.len());
        for name in &stage {
            deletes.push(store.delete(name));
        }
        stream::iter(deletes)
            .buffer_unordered(DELETES_AT_ONCE)
            .try_collect::<()>()
            .await?;
    }
    Ok(())
}
