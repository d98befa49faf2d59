//! Puts new packs and index objects in the place of bad ones, so that gc keeps them for whoever needs
//! the old ones.

use std::collections::BTreeSet;

use holdfast_backend::layout::ObjectName;
use holdfast_backend::marks::{Marks, Moved, Text};
use holdfast_crypto::{ChunkKind, Digest};

use super::{HealError, Healer, Moves, Patient, Wanted};
use crate::archive::{ArchiveError, now_seconds};
use crate::check::Checked;

impl Healer<'_> {
    /// Makes index objects that cannot be read anew. Whether anything has changed in the store.
    pub(super) fn indexes(&mut self, checked: &Checked) -> Result<bool, HealError> {
        if checked.bad_indexes.is_empty() {
            return Ok(false);
        }
        let places = &self.archive.places;
        let mut known: BTreeSet<Digest> = BTreeSet::new();
        let (mut has_read, mut has_all) = (false, true);
        for name in checked.stock.needed() {
            let ObjectName::Pack(pack) = name else {
                continue;
            };
            if places.pack(&pack).is_none() {
                match self.read_table(&checked.stock, pack)? {
                    Some(chunks) => {
                        places.add_pack(&chunks)?;
                        has_read = true;
                    }
                    None => {
                        has_all = false;
                        continue;
                    }
                }
            }
            known.insert(pack);
        }
        let was_moved = |index: &Digest| {
            let marks = checked.stock.marks().map(Marks::moved).unwrap_or_default();
            marks
                .iter()
                .any(|mark| mark.moves.contains_key(&ObjectName::Index(*index)))
        };
        if known.is_empty() || !has_all && !has_read && checked.bad_indexes.iter().all(was_moved) {
            return Ok(false);
        }
        for index in &checked.bad_indexes {
            let name = ObjectName::Index(*index);
            self.report.replaced.insert(name.to_string());
        }
        if self.request.is_dry {
            return Ok(false);
        }
        places.drop_objects(&checked.bad_indexes)?;
        let new = self.archive.store_index(&known)?;
        let old = checked.bad_indexes.iter().copied().map(ObjectName::Index);
        let moves: Moves = old.map(|old| (old, new.clone())).collect();
        let seen = if has_all {
            self.kept_refs(checked)
        } else {
            BTreeSet::new()
        };
        self.store_moved(seen, moves)?;
        // Bytes that are not those of their name are of no use to anybody, and every device that opens
        // the archive would stumble over them.
        for index in &checked.bad_indexes {
            let name = ObjectName::Index(*index);
            if checked.stock.has(&name) {
                self.archive.ask(self.archive.store.delete(&name))?;
            }
            self.damaged.remove(&name);
        }
        Ok(true)
    }

    /// Puts what was stored again in the place of bad packs. Whether any pack is replaced now.
    pub(super) fn replace(
        &mut self,
        checked: &Checked,
        patients: &[Patient],
        recovered: &BTreeSet<Wanted>,
        before: &BTreeSet<Digest>,
    ) -> Result<bool, HealError> {
        let mut whole = Moves::new();
        let mut partly = Moves::new();
        let trees_are_whole = checked.bad_commits.is_empty()
            && checked
                .lost
                .iter()
                .all(|(_, kind)| *kind == ChunkKind::Data);
        let mut new_packs: BTreeSet<Digest> = BTreeSet::new();
        for patient in patients {
            let mut new: BTreeSet<Digest> = BTreeSet::new();
            for (id, _) in patient.wanted.intersection(recovered) {
                let places = self.archive.locate(id)?;
                let packs = places.iter().map(|place| place.pack);
                new.extend(packs.filter(|pack| !before.contains(pack)));
            }
            let mut left = patient.wanted.difference(recovered);
            // What nobody needs may go. While trees are missing it is not known what is needed.
            let is_whole = left.clone().next().is_none()
                || trees_are_whole && left.all(|chunk| !checked.lost.contains(chunk));
            let is_known = self.archive.places.pack(&patient.pack).is_some() || trees_are_whole;
            let old = ObjectName::Pack(patient.pack);
            new_packs.extend(&new);
            let replacements = if is_whole && is_known {
                patient.replacements.union(&new).copied().collect()
            } else {
                new
            };
            if replacements.is_empty() {
                continue;
            }
            let names = replacements.into_iter().map(ObjectName::Pack).collect();
            if is_whole && is_known {
                self.report.replaced.insert(old.to_string());
                whole.insert(old, names);
            } else {
                partly.insert(old, names);
            }
        }
        self.verify(&new_packs)?;
        let has_moved = !whole.is_empty();
        if !new_packs.is_empty() {
            let index = self.archive.store_index(&new_packs)?;
            for new in whole.values_mut().chain(partly.values_mut()) {
                self.add_keys(new);
                new.extend(&index);
            }
        }
        if !whole.is_empty() {
            self.store_moved(self.kept_refs(checked), whole)?;
        }
        if !partly.is_empty() {
            self.store_moved(BTreeSet::new(), partly)?;
        }
        Ok(has_moved)
    }

    /// Who needs a pack needs its keys.
    fn add_keys(&self, new: &mut BTreeSet<ObjectName>) {
        let facts: Vec<_> = new
            .iter()
            .filter_map(|name| self.archive.places.pack(&name.digest()))
            .collect();
        for facts in facts {
            new.extend(facts.keys.iter().copied().map(ObjectName::Key));
        }
    }

    /// Reads new packs back: what stands in the place of something must be whole.
    fn verify(&self, packs: &BTreeSet<Digest>) -> Result<(), HealError> {
        for pack in packs {
            self.archive
                .ask(self.archive.store.get(&ObjectName::Pack(*pack)))?;
        }
        Ok(())
    }

    /// The refs of kept commits that could be read: for them all is there that could be found.
    fn kept_refs(&self, checked: &Checked) -> BTreeSet<ObjectName> {
        let Some((survey, judgement)) = &checked.stock.judged else {
            return BTreeSet::new();
        };
        let kept = judgement.kept.difference(&checked.bad_commits);
        kept.flat_map(|commit| survey.refs.of(commit.device, commit.sequence))
            .collect()
    }

    fn store_moved(&self, seen: BTreeSet<ObjectName>, moves: Moves) -> Result<(), HealError> {
        let marks = self.archive.read_marks()?;
        let new: BTreeSet<ObjectName> = moves.values().flatten().copied().collect();
        let mark = Moved {
            device: self.archive.device(),
            n: marks.next_moved_n(),
            time: now_seconds(),
            seen,
            moves,
        };
        self.archive
            .ask(self.archive.store.put_new(&mark.to_object()))?;
        // The next mark must see this one; and a gc may have found the new packs before it.
        let marks = self.archive.read_marks()?;
        if marks.named_in_deleting(&new).is_empty() {
            return Ok(());
        }
        Err(ArchiveError::DeletedAgain.into())
    }
}
