//! `holdfast compact`: copies what is still used out of packs that are mostly unused, and merges small
//! ones, without encrypting anything anew.
//!
//! In this order, each step only when the one before stands:
//!
//! 1. survey, as gc does it; then every kept commit of every device is walked: used chunks, `seen` refs;
//! 2. new packs ([`copy`]), each read back and so checked against its name;
//! 3. index objects of the new packs, and of what stays of index objects that name old packs;
//! 4. `moved/<device>/<n>`: old name -> new packs, their index objects and keys, for the refs `seen`;
//! 5. marks are read: if a gc is deleting something new, it is copied once more.
//!
//! If we die before 4, there are packs and index objects that no refs name: gc condemns them, and until
//! then a device may find chunks in them as in any pack. After 4 the old packs are needed by nobody;
//! gc deletes them a grace period later. The argument is in `docs/protocol/gc.md`.
//!
//! | at the same time as | compact |
//! |---|---|
//! | backup, on any device | safe; refs that were not seen keep the old packs |
//! | gc, undelete | safe |
//! | another compact | safe; the move with the lower number counts, the other's packs are condemned |

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use holdfast_backend::gc::{Judgement, Rules, Survey, judge};
use holdfast_backend::layout::ObjectName;
use holdfast_backend::marks::{Moved, Text};
use holdfast_crypto::Digest;
use serde::{Deserialize, Serialize};

use crate::archive::runtime::wait_for;
use crate::archive::{Archive, ArchiveError, now_seconds};

mod choice;
mod copy;
#[cfg(test)]
mod tests;
mod used;

use choice::{PackUse, choose};
use copy::{Copied, Copier, Copies};
use used::Used;

/// How often a gc may get in between.
const ROUNDS: usize = 4;
/// From so many small index objects on they are merged.
const SMALL_INDEX_OBJECTS: usize = 8;

/// What to compact.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CompactRequest {
    /// Packs are copied from where at least so many percent of the bytes are used by no snapshot.
    pub unused_percent: u8,
    /// About so many bytes are copied at the most.
    pub most_bytes: Option<u64>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What compact did, or a dry run would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactReport {
    /// Nothing was stored.
    pub dry_run: bool,
    /// Packs that snapshots need.
    pub packs: u64,
    /// Bytes in them.
    pub pack_bytes: u64,
    /// Bytes of chunks in them that no snapshot uses.
    pub unused_bytes: u64,
    /// Packs that were copied from.
    pub old_packs: u64,
    /// Bytes in them: gc frees them after the grace period.
    pub old_bytes: u64,
    /// Packs that took their place.
    pub new_packs: u64,
    /// Bytes in them.
    pub new_bytes: u64,
    /// Chunks that were copied.
    pub copied_chunks: u64,
    /// Index objects that others replace.
    pub old_index: u64,
    /// Packs that backups under way or unreadable snapshots need, and that stay as they are.
    pub held_packs: u64,
    /// Packs that are missing or damaged, and stay as they are.
    pub damaged: BTreeSet<String>,
    /// Commits that could not be read, and why.
    pub unread: BTreeMap<String, String>,
}

impl CompactReport {
    /// Whether everything could be looked at.
    pub fn is_complete(&self) -> bool {
        self.damaged.is_empty() && self.unread.is_empty()
    }
}

/// Compacts. `progress` is told bytes of old packs that are done, of all that were chosen.
pub fn run(
    archive: &Archive,
    request: &CompactRequest,
    progress: &dyn Fn(u64, u64),
) -> Result<CompactReport, ArchiveError> {
    if !archive.is_writable() {
        return Err(ArchiveError::ReadOnly);
    }
    archive.catch_up()?;
    // A commit in between would name the old packs again.
    let _one = archive.one_commit.lock();
    let mut report = CompactReport {
        dry_run: request.dry_run,
        ..CompactReport::default()
    };
    let mut doomed = BTreeSet::new();
    for _ in 0..ROUNDS {
        doomed =
            Round::begin(archive, &mut report)?.run(request, &doomed, &mut report, progress)?;
        if doomed.is_empty() {
            return Ok(report);
        }
        tracing::info!("a gc is deleting what compact has stored; it is copied once more");
    }
    Err(ArchiveError::DeletedAgain)
}

struct Round<'a> {
    archive: &'a Archive,
    survey: Survey,
    judgement: Judgement,
    used: Used,
    /// What refs need that were not seen.
    held: BTreeSet<ObjectName>,
}

impl<'a> Round<'a> {
    fn begin(archive: &'a Archive, report: &mut CompactReport) -> Result<Self, ArchiveError> {
        let now = now_seconds();
        let work = Survey::take(&*archive.store, now);
        let survey = wait_for(&archive.runtime, crate::blocking::deadline(), work);
        let survey = survey.ok_or(ArchiveError::TimedOut)??;
        // After the survey: what its commits need is in the index then.
        archive.sync_index()?;
        let rules = Rules {
            grace: archive.settings.grace(),
            // Young refs of forgotten commits hold packs back for a day only.
            safety_age: std::time::Duration::ZERO,
            ..Rules::at(now)
        };
        let judgement = judge(&survey, &rules)?;
        let used = Used::walk(archive, &survey, &judgement, &|| ());
        let held = used::held(&survey, &judgement, &used.seen)
            .map_err(holdfast_backend::gc::GcError::from)?;
        report.unread = used
            .unread
            .iter()
            .map(|(commit, why)| (commit.to_string(), why.clone()))
            .collect();
        Ok(Self {
            archive,
            survey,
            judgement,
            used,
            held,
        })
    }

    /// Gives what a gc is deleting of what was put in the place of old objects.
    fn run(
        &self,
        request: &CompactRequest,
        doomed: &BTreeSet<ObjectName>,
        report: &mut CompactReport,
        progress: &dyn Fn(u64, u64),
    ) -> Result<BTreeSet<ObjectName>, ArchiveError> {
        let packs = self.pack_uses(doomed, report)?;
        let chosen = choose(&packs, request.unused_percent, request.most_bytes);
        let total: u64 = packs
            .iter()
            .filter(|pack| chosen.contains(&pack.pack))
            .map(|pack| pack.size)
            .sum();
        if request.dry_run || chosen.is_empty() {
            report.old_packs += chosen.len() as u64;
            report.old_bytes += total;
            return Ok(BTreeSet::new());
        }
        let stable = self.stable(&chosen, doomed);
        let mut ordered: Vec<Digest> = chosen.iter().copied().collect();
        let stored_at = |pack: &Digest| {
            let facts = self.survey.objects.get(&ObjectName::Pack(*pack));
            facts.and_then(|facts| facts.stored_at)
        };
        // What was stored together is read together.
        ordered.sort_by_key(|pack| (stored_at(pack), *pack));
        let copied = Copier::new(self.archive, &self.used, &stable)
            .copy(&ordered, &|bytes| progress(bytes, total))?;
        let mark = self.moves(&copied, doomed)?;
        self.tell(&copied, &mark, report);
        if mark.is_empty() {
            return Ok(BTreeSet::new());
        }
        self.store_mark(mark)
    }
}

impl Round<'_> {
    /// The packs that commits need, that stand, and that no refs hold that were not seen.
    fn pack_uses(
        &self,
        doomed: &BTreeSet<ObjectName>,
        report: &mut CompactReport,
    ) -> Result<Vec<PackUse>, ArchiveError> {
        let mut uses: HashMap<Digest, PackUse> = HashMap::new();
        (report.packs, report.pack_bytes, report.held_packs) = (0, 0, 0);
        for name in &self.judgement.needed {
            let (ObjectName::Pack(pack), Some(listed)) = (name, self.survey.objects.get(name))
            else {
                continue;
            };
            report.packs += 1;
            report.pack_bytes += listed.size;
            if self.held.contains(name) {
                report.held_packs += 1;
                continue;
            }
            let Some(facts) = self.archive.places.pack(pack) else {
                continue;
            };
            if facts.size != listed.size {
                report.damaged.insert(name.to_string());
                continue;
            }
            let pack_use = PackUse {
                pack: *pack,
                size: facts.size,
                holds_trees: facts.holds_trees,
                keys: facts.keys.len(),
                chunk_bytes: 0,
                used_bytes: 0,
                is_doomed: doomed.contains(name),
            };
            uses.insert(*pack, pack_use);
        }
        let packs: HashSet<Digest> = uses.keys().copied().collect();
        self.archive.places.each_chunk(&packs, |pack, chunk| {
            let bytes = u64::from(chunk.stored_length);
            let is_used = self.used.contains(&chunk.id);
            if let Some(pack) = uses.get_mut(pack) {
                pack.chunk_bytes += bytes;
                pack.used_bytes += if is_used { bytes } else { 0 };
            }
        })?;
        report.unused_bytes = uses.values().map(PackUse::unused_bytes).sum();
        Ok(uses.into_values().collect())
    }

    /// Whether an object is needed, stands, and was never named by gc or moved.
    fn is_stable(&self, name: &ObjectName) -> bool {
        self.judgement.needed.contains(name)
            && self.survey.exists(name)
            && !self.survey.marks.was_ever_condemned(name)
            && !self.survey.marks.is_moved(name)
    }

    /// Packs in which a copy may be found instead of made.
    fn stable(&self, chosen: &BTreeSet<Digest>, doomed: &BTreeSet<ObjectName>) -> BTreeSet<Digest> {
        let packs = self.judgement.needed.iter().filter_map(|name| match name {
            ObjectName::Pack(pack) if self.is_stable(name) && !doomed.contains(name) => Some(*pack),
            _ => None,
        });
        packs.filter(|pack| !chosen.contains(pack)).collect()
    }

    /// Stores index objects, and says what takes the place of what.
    fn moves(
        &self,
        copied: &Copied,
        doomed: &BTreeSet<ObjectName>,
    ) -> Result<BTreeMap<ObjectName, BTreeSet<ObjectName>>, ArchiveError> {
        let places = &self.archive.places;
        let stale = self.stale_index(&copied.copies, doomed);
        // What stays of them, and what is new, is covered anew.
        let stays = |pack: &Digest| {
            let name = ObjectName::Pack(*pack);
            !copied.copies.contains_key(pack)
                && self.judgement.needed.contains(&name)
                && self.survey.exists(&name)
        };
        let mut to_cover: BTreeSet<Digest> = copied.new.clone();
        for object in &stale {
            to_cover.extend(places.covered_by(object).into_iter().filter(stays));
        }
        // A pack in which a copy was found needs an index object that stays.
        let mut covers: BTreeMap<Digest, ObjectName> = BTreeMap::new();
        for pack in copied.copies.values().flatten() {
            if to_cover.contains(pack) {
                continue;
            }
            let objects = places
                .pack(pack)
                .map(|facts| facts.objects)
                .unwrap_or_default();
            let found = objects.into_iter().find(|object| {
                !stale.contains(object) && self.is_stable(&ObjectName::Index(*object))
            });
            match found {
                Some(object) => drop(covers.insert(*pack, ObjectName::Index(object))),
                None => drop(to_cover.insert(*pack)),
            }
        }
        let stored = self.archive.store_index_of(to_cover)?;
        for (object, packs) in &stored {
            self.archive.ask(self.archive.store.get(object))?;
            covers.extend(packs.iter().map(|pack| (*pack, *object)));
        }
        let Some(any) = stored.keys().next().copied() else {
            return Ok(BTreeMap::new());
        };
        let new_of = |packs: &BTreeSet<Digest>| {
            let mut new: BTreeSet<ObjectName> = BTreeSet::new();
            for pack in packs {
                new.insert(ObjectName::Pack(*pack));
                new.extend(covers.get(pack).copied());
                let keys = places.pack(pack).map(|facts| facts.keys);
                new.extend(
                    keys.iter()
                        .flat_map(|keys| keys.iter())
                        .map(|key| ObjectName::Key(*key)),
                );
            }
            // Nothing of it is used: but a move has a new name.
            if new.is_empty() {
                new.insert(any);
            }
            new
        };
        let mut moves: BTreeMap<ObjectName, BTreeSet<ObjectName>> = copied
            .copies
            .iter()
            .map(|(old, packs)| (ObjectName::Pack(*old), new_of(packs)))
            .collect();
        for object in stale {
            let mut new: BTreeSet<ObjectName> = BTreeSet::new();
            for pack in places.covered_by(&object) {
                new.extend(covers.get(&pack).copied());
                for copy in copied.copies.get(&pack).into_iter().flatten() {
                    new.extend(covers.get(copy).copied());
                }
            }
            if new.is_empty() {
                new.insert(any);
            }
            if !new.contains(&ObjectName::Index(object)) {
                moves.insert(ObjectName::Index(object), new);
            }
        }
        Ok(moves)
    }

    /// Index objects that name an old pack, and small ones where there are several.
    fn stale_index(&self, copies: &Copies, doomed: &BTreeSet<ObjectName>) -> BTreeSet<Digest> {
        let places = &self.archive.places;
        let mut stale = BTreeSet::new();
        let mut small = Vec::new();
        for name in &self.judgement.needed {
            let ObjectName::Index(object) = name else {
                continue;
            };
            if self.held.contains(name) || !places.has_object(object) {
                continue;
            }
            let packs = places.covered_by(object);
            if doomed.contains(name) || packs.iter().any(|pack| copies.contains_key(pack)) {
                stale.insert(*object);
            } else if places.coverage(object).is_small() {
                small.push(*object);
            }
        }
        if small.len() >= SMALL_INDEX_OBJECTS {
            stale.extend(small);
        }
        stale
    }

    fn tell(
        &self,
        copied: &Copied,
        moves: &BTreeMap<ObjectName, BTreeSet<ObjectName>>,
        report: &mut CompactReport,
    ) {
        let size = |pack: &Digest| self.archive.places.size_of(pack).unwrap_or(0);
        report.old_packs += copied.copies.len() as u64;
        report.old_bytes += copied.copies.keys().map(size).sum::<u64>();
        report.new_packs += copied.new.len() as u64;
        report.new_bytes += copied.new_bytes;
        report.copied_chunks += copied.chunks;
        let is_index = |name: &&ObjectName| matches!(name, ObjectName::Index(_));
        report.old_index += moves.keys().filter(is_index).count() as u64;
        let damaged = copied.damaged.iter();
        report
            .damaged
            .extend(damaged.map(|pack| ObjectName::Pack(*pack).to_string()));
    }

    fn store_mark(
        &self,
        moves: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    ) -> Result<BTreeSet<ObjectName>, ArchiveError> {
        let mark = Moved {
            device: self.archive.device(),
            n: self.archive.read_marks()?.next_moved_n(),
            time: now_seconds(),
            seen: self.used.seen.clone(),
            moves,
        };
        self.archive
            .ask(self.archive.store.put_new(&mark.to_object()))?;
        let marks = self.archive.read_marks()?;
        self.archive.memo.lock().clear();
        Ok(marks.named_in_deleting(mark.moves.values().flatten()))
    }
}
