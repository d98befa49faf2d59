//! The clear records of retention and garbage collection, and what they say together.
//!
//! Pins and forgotten marks say which commits are kept; condemned and deleting marks are the two
//! phases of gc; moved marks are compact's. All are small text objects that anybody can read
//! (`docs/format/marks.md`), and none is ever changed: what holds is computed from all of them. The
//! protocol that they carry, with its argument, is `docs/protocol/gc.md`.
//!
//! A device that backs up uses [`Marks`] so:
//!
//! 1. [`Marks::read`]. As long as [`Marks::is_current`] says so, a chunk counts as known if its pack is
//!    not [`Marks::is_condemned`]. This also holds for packs that it stored itself and has not yet
//!    committed. Then the marks are read again.
//! 2. Packs, index and key objects are stored, then the refs.
//! 3. [`Marks::read`] again; what [`Marks::must_be_stored_again`] gives is stored again *under new
//!    names* (encrypted anew: a gc that is under way may delete the old name at any time), with
//!    [`crate::refs::Refs::replacing`] instead of the first refs, and step 3 is repeated.
//! 4. The commit is stored.
//!
//! If it dies before 4, no commit names what it stored; the refs protect it until the device's next
//! commit, and the next commit of that sequence begins its refs with `replacing`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};

use crate::layout::{Folder, ObjectName};
use crate::store::{ObjectStore, StoreError, StoreErrorKind};

mod kinds;
pub(crate) mod lines;
#[cfg(test)]
mod tests;

pub(crate) use kinds::is_collectable;
pub use kinds::{CommitName, Condemned, Deleting, Forgotten, Moved, NotACommit, Pins};
pub use lines::{Text, TextError};

/// How many small objects are loaded at once.
const LOADS_AT_ONCE: usize = 8;

/// Why the marks of an archive cannot be used. Nothing may be deleted then.
#[derive(Debug, thiserror::Error)]
pub enum MarksError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A text object that this program cannot read.
    #[error(
        "{name} cannot be read, so nothing is deleted; `holdfast scrub` says whether it is damaged"
    )]
    Unreadable {
        /// The object.
        name: ObjectName,
        /// What is wrong with it.
        source: TextError,
    },
    /// Marks are numbered without gaps; one is missing.
    #[error(
        "{folder} has no number {n} although it has a higher one: a mark is lost or the listing is stale"
    )]
    Gap {
        /// Where.
        folder: Folder,
        /// The missing number.
        n: u64,
    },
}

/// Whether a commit is kept by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// No pin names it.
    None,
    /// The deciding pin keeps it.
    Kept,
    /// It was kept, and the deciding pin released it at this time.
    Released {
        /// Seconds since 1970 in UTC.
        time: i64,
    },
}

/// All marks of an archive, read at one time.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    read_at: i64,
    pins: Vec<Pins>,
    forgotten: Vec<Forgotten>,
    condemned: Vec<(ObjectName, Condemned)>,
    deleting: Vec<(ObjectName, Deleting)>,
    moved: Vec<Moved>,
    decided: BTreeMap<CommitName, Pin>,
    forgotten_commits: BTreeSet<CommitName>,
    condemned_times: BTreeMap<ObjectName, BTreeSet<i64>>,
    in_deleting: BTreeSet<ObjectName>,
    moved_since: BTreeMap<ObjectName, i64>,
    spared: BTreeSet<ObjectName>,
}

/// Marks before they are put together; the one way to make [`Marks`] without a store.
#[derive(Debug, Clone, Default)]
pub struct MarkTexts {
    /// All pins.
    pub pins: Vec<Pins>,
    /// All forgotten marks.
    pub forgotten: Vec<Forgotten>,
    /// All condemned marks, each with the time from which its grace period is counted.
    pub condemned: Vec<(Condemned, i64)>,
    /// All deleting marks.
    pub deleting: Vec<Deleting>,
    /// All moved marks, each with the time from which it holds.
    pub moved: Vec<(Moved, i64)>,
}

impl Marks {
    /// Reads all marks. `now` is remembered as the time of reading.
    pub async fn read(store: &dyn ObjectStore, now: i64) -> Result<Self, MarksError> {
        let texts = MarkTexts {
            pins: load(store, Folder::Pins)
                .await?
                .into_iter()
                .map(first)
                .collect(),
            forgotten: load(store, Folder::Forgotten)
                .await?
                .into_iter()
                .map(first)
                .collect(),
            // The later one of the mark's own time and the store's: a clock that was behind when the
            // mark was written must not shorten the grace period.
            condemned: load(store, Folder::Condemned)
                .await?
                .into_iter()
                .map(|(mark, stored_at): (Condemned, _)| {
                    let since = stored_at.map_or(mark.time, |stored_at| stored_at.max(mark.time));
                    (mark, since)
                })
                .collect(),
            deleting: load(store, Folder::Deleting)
                .await?
                .into_iter()
                .map(first)
                .collect(),
            // By the store's clock where it has one: a device's may be wrong by years.
            moved: load(store, Folder::Moved)
                .await?
                .into_iter()
                .map(|(mark, stored_at): (Moved, _)| {
                    let since = stored_at.unwrap_or(mark.time);
                    (mark, since)
                })
                .collect(),
        };
        Self::from_texts(texts, now)
    }

    /// Puts marks together that were read at `now`.
    pub fn from_texts(mut texts: MarkTexts, now: i64) -> Result<Self, MarksError> {
        no_gap(Folder::Pins, texts.pins.iter().map(|mark| mark.n))?;
        no_gap(Folder::Forgotten, texts.forgotten.iter().map(|mark| mark.n))?;
        no_gap(Folder::Moved, texts.moved.iter().map(|(mark, _)| mark.n))?;
        texts.pins.sort_by_key(|mark| (mark.n, mark.device));
        texts.moved.sort_by_key(|(mark, _)| (mark.n, mark.device));

        let mut condemned_times: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (mark, since) in &texts.condemned {
            for name in &mark.names {
                condemned_times.entry(*name).or_default().insert(*since);
            }
        }
        let mut moved_since: BTreeMap<ObjectName, i64> = BTreeMap::new();
        for (mark, since) in &texts.moved {
            for old in mark.moves.keys() {
                let latest = moved_since.entry(*old).or_insert(*since);
                *latest = (*latest).max(*since);
            }
        }
        Ok(Marks {
            read_at: now,
            decided: decide_pins(&texts.pins),
            forgotten_commits: texts
                .forgotten
                .iter()
                .flat_map(|mark| mark.commits.iter().copied())
                .collect(),
            condemned_times,
            in_deleting: texts
                .deleting
                .iter()
                .flat_map(|mark| mark.names.iter().copied())
                .collect(),
            moved_since,
            spared: BTreeSet::new(),
            pins: texts.pins,
            forgotten: texts.forgotten,
            condemned: texts
                .condemned
                .into_iter()
                .map(|(mark, _)| (mark.to_object().name(), mark))
                .collect(),
            deleting: texts
                .deleting
                .into_iter()
                .map(|mark| (mark.to_object().name(), mark))
                .collect(),
            moved: texts.moved.into_iter().map(first).collect(),
        })
    }

    /// Whether these marks may still be relied on: they were read within half the grace period.
    pub fn is_current(&self, now: i64, grace: Duration) -> bool {
        let age = now.saturating_sub(self.read_at);
        (0..=seconds(grace) / 2).contains(&age)
    }

    /// Whether a device must not rely on this object: it is condemned, about to be deleted, or its
    /// chunks were moved elsewhere. Conservative until [`Marks::spare`] is told what is needed.
    pub fn is_condemned(&self, name: &ObjectName) -> bool {
        let condemned = self.condemned_times.contains_key(name) && !self.spared.contains(name);
        condemned || self.in_deleting.contains(name) || self.is_moved(name)
    }

    /// Whether compact has put other objects in the place of this pack or index object. It may still
    /// be needed, by refs that compact had not seen.
    pub fn is_moved(&self, name: &ObjectName) -> bool {
        self.moved_since.contains_key(name)
    }

    /// When it was moved, for the last time.
    pub fn moved_since(&self, name: &ObjectName) -> Option<i64> {
        self.moved_since.get(name).copied()
    }

    /// Whether any condemned mark names the object, needed or not, or a deleting mark does.
    pub fn was_ever_condemned(&self, name: &ObjectName) -> bool {
        self.condemned_times.contains_key(name) || self.in_deleting.contains(name)
    }

    /// Objects that kept commits need are condemned no longer, whatever an older mark says.
    pub fn spare(&mut self, needed: impl IntoIterator<Item = ObjectName>) {
        self.spared.extend(needed);
    }

    /// Those of `names` that a gc may be deleting now.
    pub fn named_in_deleting<'a>(
        &self,
        names: impl IntoIterator<Item = &'a ObjectName>,
    ) -> BTreeSet<ObjectName> {
        names
            .into_iter()
            .filter(|name| self.in_deleting.contains(name))
            .copied()
            .collect()
    }

    /// Step 3 of a backup. `self` was read after the refs were stored, `first` is what the backup relied on
    /// when it placed its chunks: which of the objects that the refs name must be stored again, under
    /// new names?
    ///
    /// Those that a gc may be deleting; and if `first` is too old by now (the computer was suspended, the
    /// network slow), also those that are condemned or gone: the deleting mark may be cleaned already.
    pub fn must_be_stored_again<'a>(
        &self,
        first: &Marks,
        now: i64,
        grace: Duration,
        named: impl IntoIterator<Item = &'a ObjectName>,
        exists: impl Fn(&ObjectName) -> bool,
    ) -> BTreeSet<ObjectName> {
        let is_old = !first.is_current(now, grace);
        let named = named.into_iter().copied();
        named
            .filter(|name| {
                self.in_deleting.contains(name)
                    || is_old && (self.is_condemned(name) || !exists(name))
            })
            .collect()
    }

    /// Whether the commit is given up (a pin may keep it nevertheless).
    pub fn is_forgotten(&self, commit: &CommitName) -> bool {
        self.forgotten_commits.contains(commit)
    }

    /// The commits that are given up.
    pub fn forgotten_commits(&self) -> &BTreeSet<CommitName> {
        &self.forgotten_commits
    }

    /// Whether the commit is kept by name.
    pub fn pin(&self, commit: &CommitName) -> Pin {
        self.decided.get(commit).copied().unwrap_or(Pin::None)
    }

    /// The commits that a pin keeps.
    pub fn pinned_commits(&self) -> impl Iterator<Item = &CommitName> {
        self.decided
            .iter()
            .filter(|(_, pin)| **pin == Pin::Kept)
            .map(|(commit, _)| commit)
    }

    /// Since when the object is condemned, counting only marks from `floor` on.
    pub fn condemned_since(&self, name: &ObjectName, floor: i64) -> Option<i64> {
        self.condemned_times
            .get(name)?
            .range(floor..)
            .next()
            .copied()
    }

    /// The condemned marks and the names of their objects.
    pub fn condemned(&self) -> &[(ObjectName, Condemned)] {
        &self.condemned
    }

    /// The deleting marks and the names of their objects.
    pub fn deleting(&self) -> &[(ObjectName, Deleting)] {
        &self.deleting
    }

    /// The moved marks, in the order in which they apply.
    pub fn moved(&self) -> &[Moved] {
        &self.moved
    }

    /// The number of the next pins object: above all that exist, on whatever device, because the
    /// higher number decides.
    pub fn next_pins_n(&self) -> u64 {
        next(self.pins.iter().map(|mark| mark.n))
    }

    /// The number of the next forgotten mark.
    pub fn next_forgotten_n(&self) -> u64 {
        next(self.forgotten.iter().map(|mark| mark.n))
    }

    /// The number of the next condemned mark.
    pub fn next_condemned_n(&self) -> u64 {
        next(self.condemned.iter().map(|(_, mark)| mark.n))
    }

    /// The number of the next deleting mark.
    pub fn next_deleting_n(&self) -> u64 {
        next(self.deleting.iter().map(|(_, mark)| mark.n))
    }

    /// The number of the next moved mark: above all that exist, because moves apply in this order.
    pub fn next_moved_n(&self) -> u64 {
        next(self.moved.iter().map(|mark| mark.n))
    }

    /// The latest time in any mark that gc wrote.
    pub(crate) fn latest_time(&self) -> Option<(ObjectName, i64)> {
        let condemned = self.condemned.iter().map(|(name, mark)| (*name, mark.time));
        let deleting = self.deleting.iter().map(|(name, mark)| (*name, mark.time));
        condemned.chain(deleting).max_by_key(|(_, time)| *time)
    }
}

/// Whole seconds of a duration, as times are counted here.
pub(crate) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn first<A, B>((first, _): (A, B)) -> A {
    first
}

fn next(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.max().map_or(1, |highest| highest + 1)
}

/// Numbers begin with 1 and leave none out; two devices may have taken the same one.
fn no_gap(folder: Folder, numbers: impl Iterator<Item = u64>) -> Result<(), MarksError> {
    let present: BTreeSet<u64> = numbers.filter(|n| *n > 0).collect();
    match (1..)
        .zip(&present)
        .find(|(expected, found)| expected != *found)
    {
        Some((n, _)) => Err(MarksError::Gap { folder, n }),
        None => Ok(()),
    }
}

/// The object with the highest number decides about a commit; between equal numbers, keeping does.
fn decide_pins(sorted: &[Pins]) -> BTreeMap<CommitName, Pin> {
    let mut decided: BTreeMap<CommitName, (u64, Pin)> = BTreeMap::new();
    for mark in sorted {
        for commit in &mark.release {
            let kept_by_equal = decided
                .get(commit)
                .is_some_and(|(n, pin)| *n == mark.n && *pin == Pin::Kept);
            if !kept_by_equal {
                decided.insert(*commit, (mark.n, Pin::Released { time: mark.time }));
            }
        }
        for commit in &mark.keep {
            decided.insert(*commit, (mark.n, Pin::Kept));
        }
    }
    decided
        .into_iter()
        .map(|(commit, (_, pin))| (commit, pin))
        .collect()
}

/// Loads every text object of a folder, with the time at which the store received it.
pub(crate) async fn load<T: Text + Send>(
    store: &dyn ObjectStore,
    folder: Folder,
) -> Result<Vec<(T, Option<i64>)>, MarksError> {
    let listed = store.list(folder).await?;
    let loads = listed.into_iter().map(|listed| async move {
        let bytes = match store.get(&listed.name).await {
            Ok(bytes) => bytes,
            // Condemned and deleting marks are cleaned when they are long past; see `gc::plan_cleaning`.
            Err(error) if error.kind() == StoreErrorKind::NotFound && is_cleaned(folder) => {
                return Ok(None);
            }
            Err(error) => return Err(MarksError::Store(error)),
        };
        let text = T::from_object(&listed.name, &bytes);
        let text = text.map_err(|source| MarksError::Unreadable {
            name: listed.name,
            source,
        })?;
        Ok(Some((text, listed.stored_at.map(unix_seconds))))
    });
    let loaded: Vec<Option<_>> = stream::iter(loads)
        .buffer_unordered(LOADS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(loaded.into_iter().flatten().collect())
}

fn is_cleaned(folder: Folder) -> bool {
    matches!(
        folder,
        Folder::Condemned | Folder::Deleting | Folder::Refs(_)
    )
}

/// A store's time as times are counted here.
pub(crate) fn unix_seconds(time: std::time::SystemTime) -> i64 {
    match time.duration_since(std::time::UNIX_EPOCH) {
        Ok(since) => seconds(since),
        Err(before) => -seconds(before.duration()),
    }
}
