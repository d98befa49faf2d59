//! Stores a commit and everything that it needs.
//!
//! In this order, each step only when the one before stands:
//!
//! 1. packs (all chunks of the commit are in them, trees too);
//! 2. index objects for packs that none covers yet, trees and data apart;
//! 3. refs: exactly the packs, index and key objects that the commit needs, in clear;
//! 4. marks are read: what a gc may be deleting is stored again under a new name, and 2 to 4 are
//!    repeated with refs that replace those of the first round;
//! 5. a pin, if the snapshot has a label;
//! 6. the commit.
//!
//! If we die between any two of them, the device's newest commit is the one before and needs nothing of
//! what was stored since. Packs and index objects that stand are found by the next attempt (the log
//! knows the packs, the listing the index objects); refs of an attempt that came to nothing protect
//! what they name until the next commit, which replaces them. A pin without a commit keeps nothing.
//! Every step may be repeated: each object's name is the hash of its bytes.
//!
//! Fork: only one computer holds this device's key, so another commit of the same sequence means that
//! the key was copied. It is looked for before and after; then this device writes no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use holdfast_backend::layout::{Folder, ObjectName};
use holdfast_backend::marks::{CommitName, Pins, Text};
use holdfast_backend::refs::{FIRST_SEQUENCE, Refs, RefsTable};
use holdfast_crypto::{ChunkId, DeviceId, Digest};

use crate::archive::places::PackFacts;
use crate::archive::{Archive, ArchiveError};
use crate::chunks::{ChunkSource, LoadError};
use crate::format::commit::KeptSnapshot;
use crate::format::{Commit, CommitKind, FileNo, Inode, Time, Totals, TreeRef};
use crate::index::IndexError;
use crate::packer::{PackedChunks, index_body};
use crate::snapshots::Snapshot;

#[cfg(test)]
mod tests;

/// How often a gc may get in between.
const ROUNDS: usize = 6;
/// After so many changes full refs are stored.
const LONGEST_CHAIN: usize = 32;
/// More small index objects than this, and they are merged.
const MOST_SMALL_INDEX_OBJECTS: usize = 32;
/// About so many chunks per index object: it is made in memory, at some 100 bytes each.
pub(crate) const INDEX_CHUNKS: u32 = 50_000;

/// What a commit shows; the archive adds its place in the chain.
#[derive(Clone, Debug)]
pub struct CommitDraft {
    /// The moment that it shows.
    pub time: Time,
    /// Why it is made.
    pub kind: CommitKind,
    /// Its name, if it has one.
    pub label: Option<String>,
    /// The root folder.
    pub root: Inode,
    /// The link table.
    pub links: Option<TreeRef>,
    /// The number that the next new file gets.
    pub next_file: FileNo,
    /// Sums over everything.
    pub totals: Totals,
}

/// What [`Archive::store_commit`] did.
#[derive(Clone, Debug)]
pub enum CommitOutcome {
    /// A new commit stands.
    Stored(CommitName, Arc<Commit>),
    /// Nothing has changed since this one; nothing was stored.
    Unchanged(CommitName, Arc<Commit>),
}

impl CommitOutcome {
    /// The commit that shows the state now.
    pub fn commit(&self) -> (CommitName, &Arc<Commit>) {
        match self {
            Self::Stored(name, commit) | Self::Unchanged(name, commit) => (*name, commit),
        }
    }
}

/// The refs of this device to which the next ones are a change.
#[derive(Clone)]
pub(crate) struct RefsBase {
    pub(crate) name: ObjectName,
    pub(crate) names: BTreeSet<ObjectName>,
    pub(crate) depth: usize,
}

/// A step that has been done; tests end the world after any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Packs,
    Index,
    Refs,
    Marks,
    Pin,
    Commit,
}

impl Archive {
    /// Stores a commit. Waits for the store until the deadline; what was not stored then stays queued,
    /// and the call can be repeated.
    pub fn store_commit(
        &self,
        draft: CommitDraft,
        deadline: Option<Instant>,
    ) -> Result<CommitOutcome, ArchiveError> {
        let work = || self.store_commit_steps(draft, &mut |_| Ok(()));
        match deadline {
            Some(until) => crate::blocking::with_deadline(until, work),
            None => work(),
        }
    }

    pub(crate) fn store_commit_steps(
        &self,
        draft: CommitDraft,
        done: &mut dyn FnMut(Step) -> Result<(), ArchiveError>,
    ) -> Result<CommitOutcome, ArchiveError> {
        self.store_commit_like(draft, None, done)
    }

    /// `like` is a commit that shows the same files: it needs the same, and nothing is walked through.
    fn store_commit_like(
        &self,
        draft: CommitDraft,
        like: Option<CommitName>,
        done: &mut dyn FnMut(Step) -> Result<(), ArchiveError>,
    ) -> Result<CommitOutcome, ArchiveError> {
        if !self.is_writable() {
            return Err(ArchiveError::ReadOnly);
        }
        let _one = self.one_commit.lock();
        if let Some(label) = &draft.label {
            check_label(label)?;
        }
        self.catch_up()?;
        let before = self.head();
        if let Some((name, commit)) = before
            .as_ref()
            .filter(|(_, commit)| shows_same(&draft, commit))
        {
            return Ok(CommitOutcome::Unchanged(*name, Arc::clone(commit)));
        }
        let sequence = before
            .as_ref()
            .map_or(FIRST_SEQUENCE, |(name, _)| name.sequence + 1);
        self.check_fork(sequence, None)?;

        self.packer.flush(crate::blocking::deadline())?;
        done(Step::Packs)?;
        let refs = self.store_needed(&draft, like, sequence, done)?;

        let commit = self.complete(draft, sequence, before);
        let object = commit.to_object(
            self.keychain.current_epoch(),
            &self.keychain.current().commit,
            &self.keys.signing_key,
        );
        let name = CommitName {
            device: self.device(),
            sequence,
            digest: object.name().digest(),
        };
        if commit.label.is_some() {
            self.store_pin(BTreeSet::from([name]), BTreeSet::new())?;
            done(Step::Pin)?;
        }
        self.announce(name)?;
        self.ask(self.store.put_new(&object))?;
        done(Step::Commit)?;
        self.keep_head(name, object.bytes());
        let commit = Arc::new(commit);
        {
            let mut head = self.head.lock();
            head.commit = Some((name, Arc::clone(&commit)));
            head.refs = Some(refs);
        }
        self.note_commit(&commit);
        self.check_fork(sequence, Some(name))?;
        Ok(CommitOutcome::Stored(name, commit))
    }

    /// Steps 2 to 4.
    fn store_needed(
        &self,
        draft: &CommitDraft,
        like: Option<CommitName>,
        sequence: u64,
        done: &mut dyn FnMut(Step) -> Result<(), ArchiveError>,
    ) -> Result<RefsBase, ArchiveError> {
        self.follow_moves()?;
        let mut base = self.refs_base(sequence)?;
        let mut known = match like {
            Some(like) => self.packs_of(like)?,
            None => None,
        };
        for _ in 0..ROUNDS {
            // What was stored again stands in other packs.
            let packs = match known.take() {
                Some(packs) => packs,
                None => self.reachable_packs(draft)?,
            };
            let mut needed = self.store_index(&packs)?;
            done(Step::Index)?;
            needed.extend(packs.iter().map(|pack| ObjectName::Pack(*pack)));
            for facts in packs.iter().filter_map(|pack| self.places.pack(pack)) {
                needed.extend(facts.keys.iter().copied().map(ObjectName::Key));
            }
            let refs = self.store_refs(sequence, base.as_ref(), needed)?;
            done(Step::Refs)?;
            let marks = self.read_marks()?;
            let doomed = marks.named_in_deleting(&refs.names);
            done(Step::Marks)?;
            if doomed.is_empty() {
                return Ok(refs);
            }
            tracing::info!(
                objects = doomed.len(),
                "a gc is deleting what this commit needs; it is stored again"
            );
            self.store_again(&doomed)?;
            base = Some(refs);
        }
        Err(ArchiveError::DeletedAgain)
    }

    /// The packs that a commit needs, as its refs say; `None` where the tree must be asked: packs were moved or given up, or are not known here.
    fn packs_of(&self, commit: CommitName) -> Result<Option<BTreeSet<Digest>>, ArchiveError> {
        if !self.read_marks()?.moved().is_empty() {
            return Ok(None);
        }
        let names = self.names(Folder::Refs(Some(commit.device)))?;
        let of = names.into_iter().filter(
            |name| matches!(name, ObjectName::Refs { sequence, .. } if *sequence == commit.sequence),
        );
        let table = self.load_refs(of)?;
        let mut refs = table.of(commit.device, commit.sequence);
        let (Some(refs), None) = (refs.next(), refs.next()) else {
            return Ok(None);
        };
        let Ok(needed) = table.resolve(&refs) else {
            return Ok(None);
        };
        let packs: BTreeSet<Digest> = needed
            .iter()
            .filter_map(|name| match name {
                ObjectName::Pack(pack) => Some(*pack),
                _ => None,
            })
            .collect();
        let with_bad_copies = self.places.bad.packs();
        let good = |pack: &Digest| {
            let known = self.places.pack(pack).is_some();
            known && self.is_reliable(pack) && !with_bad_copies.contains(pack)
        };
        Ok(packs.iter().all(good).then_some(packs))
    }

    fn reachable_packs(&self, draft: &CommitDraft) -> Result<BTreeSet<Digest>, ArchiveError> {
        let pack_of = |id: &ChunkId| self.choose(id).map_err(LoadError::other);
        let mut memo = self.memo.lock();
        if self.places.bad.take_mended() {
            memo.clear();
        }
        let with_bad_copies = self.places.bad.packs();
        memo.notice(|pack| !self.is_reliable(pack) || with_bad_copies.contains(pack));
        let source: &dyn ChunkSource = self;
        Ok(memo.reachable(source, &pack_of, &draft.root, draft.links.as_ref())?)
    }

    /// The pack whose copy of a chunk counts: one that is there and not condemned, if any.
    fn choose(&self, id: &ChunkId) -> Result<Option<Digest>, IndexError> {
        let places = self.places.locate(id)?;
        let first = places.first().map(|place| place.pack);
        Ok(places
            .iter()
            .map(|place| place.pack)
            .find(|pack| self.is_reliable(pack) && !self.places.bad.contains(id, pack))
            .or(first))
    }

    /// Whether a pack is there and no gc has condemned it, as far as is known.
    fn is_reliable(&self, pack: &Digest) -> bool {
        !self.absent_packs.read().contains(pack)
            && !self.marks.is_condemned(&ObjectName::Pack(*pack))
    }

    /// Index objects that cover exactly known packs; makes those that are missing.
    pub(crate) fn store_index(
        &self,
        packs: &BTreeSet<Digest>,
    ) -> Result<BTreeSet<ObjectName>, ArchiveError> {
        let mut chosen: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        let mut uncovered: Vec<Digest> = Vec::new();
        for pack in packs {
            let objects = self
                .places
                .pack(pack)
                .map(|facts| facts.objects)
                .unwrap_or_default();
            // The widest one, and none to be merged if another need not be: after a merge the small ones fall out of use.
            let widest = objects
                .into_iter()
                .filter(|object| !self.marks.is_condemned(&ObjectName::Index(*object)))
                .max_by_key(|object| (self.places.width(object), *object));
            match widest {
                Some(object) => chosen.entry(object).or_default().push(*pack),
                None => uncovered.push(*pack),
            }
        }
        let is_small = |object: &&Digest| self.places.coverage(object).is_small();
        let small: Vec<Digest> = chosen.keys().filter(is_small).copied().collect();
        if small.len() > MOST_SMALL_INDEX_OBJECTS {
            let merged = small.iter().filter_map(|object| chosen.remove(object));
            uncovered.extend(merged.flatten());
        }
        let mut names: BTreeSet<ObjectName> = chosen.into_keys().map(ObjectName::Index).collect();
        names.extend(self.store_index_of(uncovered)?.into_keys());
        Ok(names)
    }

    /// Stores index objects that cover exactly these packs, trees and data apart; says which covers which.
    pub(crate) fn store_index_of(
        &self,
        packs: impl IntoIterator<Item = Digest>,
    ) -> Result<BTreeMap<ObjectName, Vec<Digest>>, ArchiveError> {
        let holds_trees = |pack: &Digest| {
            self.places
                .pack(pack)
                .is_some_and(|facts| facts.holds_trees)
        };
        let (trees, data): (Vec<Digest>, Vec<Digest>) = packs.into_iter().partition(holds_trees);
        let mut stored = BTreeMap::new();
        for group in [self.group(trees), self.group(data)].concat() {
            let name = self.store_one_index(&self.places.chunks_of(&group)?)?;
            stored.insert(name, group);
        }
        Ok(stored)
    }

    /// Packs in groups of about [`INDEX_CHUNKS`].
    fn group(&self, packs: Vec<Digest>) -> Vec<Vec<Digest>> {
        let mut groups: Vec<Vec<Digest>> = Vec::new();
        let mut room = 0;
        for pack in packs {
            let chunks = self.places.pack(&pack).map_or(0, |facts| facts.chunks);
            match groups.last_mut() {
                Some(group) if chunks <= room => {
                    group.push(pack);
                    room -= chunks;
                }
                _ => {
                    groups.push(vec![pack]);
                    room = INDEX_CHUNKS.saturating_sub(chunks);
                }
            }
        }
        groups
    }

    fn store_one_index(&self, packs: &[PackedChunks]) -> Result<ObjectName, ArchiveError> {
        let object = index_body(packs).to_object(
            self.keychain.current_epoch(),
            &self.keychain.current().index,
        );
        self.ask(self.store.put_new(&object))?;
        self.places.add_object(object.name().digest(), packs)?;
        Ok(object.name())
    }

    fn store_refs(
        &self,
        sequence: u64,
        base: Option<&RefsBase>,
        needed: BTreeSet<ObjectName>,
    ) -> Result<RefsBase, ArchiveError> {
        let device = self.device();
        let (refs, depth) = match base {
            Some(base) if base.depth < LONGEST_CHAIN => (
                Refs::change(device, sequence, base.name, &base.names, &needed),
                base.depth + 1,
            ),
            _ => (Refs::full(device, sequence, needed.clone()), 0),
        };
        let object = refs.to_object();
        self.ask(self.store.put_new(&object))?;
        Ok(RefsBase {
            name: object.name(),
            names: needed,
            depth,
        })
    }

    /// Refs of this sequence from an attempt that came to nothing, else those of the newest commit.
    fn refs_base(&self, sequence: u64) -> Result<Option<RefsBase>, ArchiveError> {
        let device = self.device();
        let names = self.names(Folder::Refs(Some(device)))?;
        let of = |wanted: u64| {
            names.iter().copied().filter(move |name| matches!(name, ObjectName::Refs { sequence, .. } if *sequence == wanted))
        };
        let attempts: Vec<ObjectName> = of(sequence).collect();
        if let (true, Some(base)) = (attempts.is_empty(), self.head.lock().refs.clone()) {
            return Ok(Some(base));
        }
        let table = self.load_refs(attempts.into_iter().chain(of(sequence - 1)))?;
        let newest = table
            .of(device, sequence)
            .next()
            .or_else(|| table.of(device, sequence - 1).next());
        let Some(name) = newest else { return Ok(None) };
        // A chain that does not resolve is not built upon: full refs need none.
        match (table.chain(&name), table.resolve(&name)) {
            (Ok(chain), Ok(names)) => Ok(Some(RefsBase {
                name,
                names,
                depth: chain.len() - 1,
            })),
            _ => Ok(None),
        }
    }

    /// These refs and all their bases.
    pub(crate) fn load_refs(
        &self,
        names: impl IntoIterator<Item = ObjectName>,
    ) -> Result<RefsTable, ArchiveError> {
        let mut texts: BTreeMap<ObjectName, Refs> = BTreeMap::new();
        let mut left: Vec<ObjectName> = names.into_iter().collect();
        while let Some(name) = left.pop() {
            if texts.contains_key(&name) {
                continue;
            }
            let bytes = match self.ask(self.store.get(&name)) {
                Ok(bytes) => bytes,
                Err(ArchiveError::Store(error)) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            match Refs::from_object(&name, &bytes) {
                Ok(refs) => {
                    left.extend(refs.base);
                    texts.insert(name, refs);
                }
                Err(error) => tracing::error!(%name, %error, "refs cannot be read"),
            }
        }
        Ok(texts.into_values().collect())
    }

    /// Stores the content of objects that a gc may be deleting again, under new names.
    fn store_again(&self, doomed: &BTreeSet<ObjectName>) -> Result<(), ArchiveError> {
        let is_doomed = |name: ObjectName| doomed.contains(&name);
        let packs: BTreeSet<Digest> = self
            .places
            .packs()
            .into_iter()
            .filter(|pack| {
                let of_doomed_key = |facts: PackFacts| {
                    facts
                        .keys
                        .iter()
                        .any(|key| is_doomed(ObjectName::Key(*key)))
                };
                is_doomed(ObjectName::Pack(*pack))
                    || self.places.pack(pack).is_some_and(of_doomed_key)
            })
            .collect();
        for pack in &packs {
            for chunk in self
                .places
                .chunks_of(&[*pack])?
                .into_iter()
                .flat_map(|pack| pack.chunks)
            {
                let elsewhere = self
                    .places
                    .locate(&chunk.id)?
                    .iter()
                    .any(|place| !packs.contains(&place.pack) && self.is_reliable(&place.pack));
                if elsewhere || self.packer.is_queued(&chunk.id) {
                    continue;
                }
                match self.load(chunk.kind, &chunk.id) {
                    Ok(plaintext) => self.store_anew(chunk.kind, chunk.id, &plaintext)?,
                    // Not every chunk of the pack need be reachable: the walk will say.
                    Err(error) => {
                        tracing::error!(%error, chunk = ?chunk.id, "a chunk cannot be stored again")
                    }
                }
            }
        }
        self.packer.flush(crate::blocking::deadline())?;
        self.places.drop_packs(&packs)?;
        let objects = doomed
            .iter()
            .filter(|name| matches!(name, ObjectName::Index(_)));
        self.places
            .drop_objects(&objects.map(ObjectName::digest).collect())?;
        self.memo.lock().clear();
        Ok(())
    }

    fn complete(
        &self,
        draft: CommitDraft,
        sequence: u64,
        before: Option<(CommitName, Arc<Commit>)>,
    ) -> Commit {
        let stored = self
            .packer
            .queue()
            .stored_bytes
            .wrapping_add(self.stored_base.load(Ordering::Acquire));
        let kept = before
            .as_ref()
            .map(|(name, commit)| self.kept_after(name, commit))
            .unwrap_or_default();
        Commit {
            device: self.device(),
            sequence,
            previous: before.map(|(name, _)| name.digest),
            time: draft.time,
            kind: draft.kind,
            label: draft.label,
            root: draft.root,
            links: draft.links,
            next_file: draft.next_file,
            totals: draft.totals,
            stored_bytes: stored,
            kept,
        }
    }

    fn kept_after(&self, name: &CommitName, commit: &Commit) -> Vec<KeptSnapshot> {
        let marks = self.marks.last();
        let device = self.device();
        let is_given_up = |sequence: u64, digest: Digest| {
            let name = CommitName {
                device,
                sequence,
                digest,
            };
            marks
                .as_ref()
                .is_some_and(|marks| marks.is_forgotten(&name))
        };
        let mut kept = commit.kept.clone();
        if commit.kind != CommitKind::Checkpoint {
            kept.push(KeptSnapshot {
                sequence: commit.sequence,
                digest: name.digest,
                time: commit.time,
                kind: commit.kind,
                label: commit.label.clone(),
                totals: commit.totals,
                stored_bytes: commit.stored_bytes,
            });
        }
        kept.retain(|kept| !is_given_up(kept.sequence, kept.digest));
        kept
    }

    fn note_commit(&self, commit: &Commit) {
        if commit.kind != CommitKind::Checkpoint {
            // Wrapping: the next snapshot counts from here.
            let stored = self.packer.queue().stored_bytes;
            self.stored_base
                .store(0_u64.wrapping_sub(stored), Ordering::Release);
        }
        let mut seen = self.seen.lock();
        let _ = seen.sequence(commit.device, commit.sequence);
        if let Err(error) = seen.save(&self.home) {
            tracing::warn!(%error, "what was seen of the archive could not be written down");
        }
    }

    /// Whether anybody else committed as this device.
    fn check_fork(&self, sequence: u64, own: Option<CommitName>) -> Result<(), ArchiveError> {
        if let Some(sequence) = self.head.lock().forked {
            return Err(ArchiveError::Fork { sequence });
        }
        let foreign = |name: &ObjectName| {
            matches!(name, ObjectName::Commit { sequence: found, .. } if *found >= sequence)
                && own.is_none_or(|own| *name != ObjectName::from(own))
        };
        let names = self.names(Folder::Commits(Some(self.device())))?;
        if let Some(ObjectName::Commit { sequence, .. }) = names.into_iter().find(foreign) {
            self.head.lock().forked = Some(sequence);
            return Err(ArchiveError::Fork { sequence });
        }
        Ok(())
    }

    /// Stores a pin mark: these commits are kept by name, those no longer.
    pub fn store_pin(
        &self,
        keep: BTreeSet<CommitName>,
        release: BTreeSet<CommitName>,
    ) -> Result<(), ArchiveError> {
        let marks = match self.marks.last() {
            Some(marks) => marks,
            None => self.read_marks()?,
        };
        let time = crate::archive::now_seconds();
        let pins = Pins {
            device: self.device(),
            n: marks.next_pins_n(),
            time,
            keep,
            release,
        };
        self.ask(self.store.put_new(&pins.to_object()))?;
        // Numbers have no gaps: the next mark must see this one.
        self.read_marks().map(drop)
    }

    /// Begins this device's chain with the newest that another device has stored: a snapshot, or a
    /// checkpoint of a later flush. Where that cannot be read, its newest snapshot.
    pub(crate) fn start_from(&self, device: DeviceId) -> Result<(), ArchiveError> {
        let newest = self.newest_commits()?;
        let newest = newest.into_iter().find(|name| name.device == device);
        let mut like = newest;
        let commit = match newest.map(|name| self.load_commit(&name)) {
            None => return Ok(()),
            Some(Err(error @ ArchiveError::BadCommit { .. })) => {
                tracing::error!(%error, "the newest commit of the device is passed over");
                let snapshots = self.snapshots()?;
                let of_device = |snapshot: &Snapshot| snapshot.name.device == device;
                let Some(snapshot) = snapshots.into_iter().rfind(of_device) else {
                    return Err(error);
                };
                like = Some(snapshot.name);
                self.load_commit(&snapshot.name)?
            }
            Some(loaded) => loaded?,
        };
        let draft = CommitDraft {
            time: commit.time,
            kind: CommitKind::Checkpoint,
            label: None,
            root: commit.root.clone(),
            links: commit.links,
            next_file: commit.next_file,
            totals: commit.totals,
        };
        self.store_commit_like(draft, like, &mut |_| Ok(()))
            .map(drop)
    }
}

fn shows_same(draft: &CommitDraft, commit: &Commit) -> bool {
    // Somebody who asks for a snapshot gets one, whatever has changed.
    let same = draft.root == commit.root && draft.links == commit.links;
    same && draft.label.is_none()
        && (draft.kind == CommitKind::Checkpoint || draft.kind == commit.kind)
        && draft.kind != CommitKind::Requested
}

pub(crate) fn check_label(label: &str) -> Result<(), ArchiveError> {
    if crate::format::entry::is_entry_name(label.as_bytes()) && !label.contains('/') {
        return Ok(());
    }
    Err(ArchiveError::BadName {
        name: label.to_owned(),
    })
}
