//! Where every chunk is, and what is known of every pack.
//!
//! Chunks are in the local index ([`crate::index`]), on disk. Of each pack a few facts are kept in
//! memory and in an append-only file beside the index: size, key objects, and which index objects
//! cover it.
//!
//! All of it is a cache: it also stands in the store's index objects, or, for packs that none covers
//! yet, in the log. A pack goes into the index first and into the file of facts second; if the two do
//! not agree when they are opened (a crash between, a torn file), both are made anew.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use holdfast_crypto::{ChunkId, ChunkKind, Digest};
use parking_lot::RwLock;

use super::bad_copies::BadCopies;
use super::pack_facts::{FactsFile, Record};
use crate::home::CacheSlot;
use crate::index::{Index, IndexEntry, IndexError, IndexSource, Location};
use crate::packer::{PackedChunk, PackedChunks};
use crate::store_commit::INDEX_CHUNKS;

/// An index object of so many packs is not small, however few chunks they hold.
const SMALL_INDEX_PACKS: usize = 32;

/// Chunks of packs that no index object covers yet, kept in memory for the next index object. What is
/// beyond is read from the index again.
const MOST_RECENT_CHUNKS: usize = 1 << 16;

/// What is known of a pack beside its chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackFacts {
    /// Its whole length in bytes.
    pub size: u64,
    /// How many chunks it holds.
    pub chunks: u32,
    /// Key objects that its chunks need.
    pub keys: Arc<[Digest]>,
    /// Whether it holds trees and lists.
    pub holds_trees: bool,
    /// Index objects that cover it.
    pub objects: BTreeSet<Digest>,
}

/// How much an index object covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coverage {
    /// How many packs.
    pub packs: usize,
    /// And chunks in them.
    pub chunks: u64,
}

impl Coverage {
    /// Whether it is to be merged with others. One that covers few packs may be full nevertheless: packs of small
    /// files hold thousands of chunks. Merging such ones would make the same again, at each commit.
    pub(crate) fn is_small(self) -> bool {
        self.packs < SMALL_INDEX_PACKS && self.chunks < u64::from(INDEX_CHUNKS / 2)
    }
}

/// All known chunks and packs.
pub(crate) struct Places {
    /// Copies that are not what they should be.
    pub(crate) bad: BadCopies,
    index: Index,
    state: RwLock<State>,
    /// Packs that are gone, or going: their copies are tried last.
    set_aside: RwLock<HashSet<Digest>>,
}

struct State {
    file: FactsFile,
    packs: BTreeMap<Digest, PackFacts>,
    objects: BTreeMap<Digest, Vec<Digest>>,
    key_sets: HashSet<Arc<[Digest]>>,
    recent: HashMap<Digest, PackedChunks>,
    recent_chunks: usize,
}

impl Places {
    /// Opens what is in a cache slot, or makes it anew.
    pub(crate) fn open(slot: &CacheSlot, bad: BadCopies) -> Result<Self, IndexError> {
        let folder = slot.index_dir();
        if let Err(error) = std::fs::create_dir_all(&folder) {
            return Err(IndexError::Io {
                operation: "make the folder",
                path: folder,
                source: error,
            });
        }
        let facts = slot.file("packs");
        let io = |source| IndexError::Io {
            operation: "open",
            path: facts.clone(),
            source,
        };
        let opened = Index::open(&folder);
        if let Ok(index) = opened {
            let (file, records) = FactsFile::open(&facts).map_err(io)?;
            let mut state = State::new(file);
            records.into_iter().for_each(|record| state.apply(record));
            if state.agrees_with(&index) {
                return Ok(Self {
                    bad,
                    index,
                    state: RwLock::new(state),
                    set_aside: RwLock::default(),
                });
            }
            tracing::info!("the local index is incomplete and is built anew");
        }
        let index = Index::create_empty(&folder)?;
        let file = FactsFile::create(&facts).map_err(io)?;
        Ok(Self {
            bad,
            index,
            state: RwLock::new(State::new(file)),
            set_aside: RwLock::default(),
        })
    }

    /// Every copy of a chunk; those in packs that are set aside, and those that were found bad, come last.
    pub(crate) fn locate(&self, id: &ChunkId) -> Result<Vec<Location>, IndexError> {
        let mut places = self.index.locate(id)?;
        if places.len() > 1 {
            let set_aside = self.set_aside.read();
            places.sort_by_key(|place| {
                let is_bad = self.bad.contains(id, &place.pack);
                (is_bad, set_aside.contains(&place.pack))
            });
        }
        Ok(places)
    }

    /// These packs were moved, or are not there: of a chunk's copies another one is tried first.
    pub(crate) fn set_aside(&self, packs: impl IntoIterator<Item = Digest>) {
        self.set_aside.write().extend(packs);
    }

    /// Takes in a pack that this device has just stored.
    pub(crate) fn add_pack(&self, pack: &PackedChunks) -> Result<(), IndexError> {
        if self.state.read().packs.contains_key(&pack.pack) {
            return Ok(());
        }
        self.index
            .add(IndexSource::Local(pack.pack), entries_of(pack))?;
        self.bad.stored(pack.chunks.iter().map(|chunk| &chunk.id));
        let mut state = self.state.write();
        state.record(Record::pack(pack));
        if state.recent_chunks + pack.chunks.len() <= MOST_RECENT_CHUNKS {
            state.recent_chunks += pack.chunks.len();
            state.recent.insert(pack.pack, pack.clone());
        }
        Ok(())
    }

    /// Takes in an index object.
    pub(crate) fn add_object(
        &self,
        object: Digest,
        packs: &[PackedChunks],
    ) -> Result<(), IndexError> {
        let new: Vec<&PackedChunks> = {
            let state = self.state.read();
            packs
                .iter()
                .filter(|pack| !state.packs.contains_key(&pack.pack))
                .collect()
        };
        if new.is_empty() {
            self.index
                .cover(object, &packs.iter().map(|pack| pack.pack).collect())?;
        } else {
            let entries = new.iter().flat_map(|pack| entries_of(pack)).collect();
            self.index.add(IndexSource::Object(object), entries)?;
            let ids = new.iter().flat_map(|pack| &pack.chunks);
            self.bad.stored(ids.map(|chunk| &chunk.id));
        }
        let mut state = self.state.write();
        for pack in new {
            state.record(Record::pack(pack));
        }
        state.record(Record::Object {
            object,
            packs: packs.iter().map(|pack| pack.pack).collect(),
        });
        for pack in packs {
            if let Some(recent) = state.recent.remove(&pack.pack) {
                state.recent_chunks -= recent.chunks.len();
            }
        }
        Ok(())
    }

    /// Whether this index object has been taken in.
    pub(crate) fn has_object(&self, object: &Digest) -> bool {
        self.state.read().objects.contains_key(object)
    }

    /// Every index object that has been taken in.
    pub(crate) fn objects(&self) -> BTreeSet<Digest> {
        self.state.read().objects.keys().copied().collect()
    }

    /// What is known of a pack.
    pub(crate) fn pack(&self, pack: &Digest) -> Option<PackFacts> {
        self.state.read().packs.get(pack).cloned()
    }

    /// The length of a pack.
    pub(crate) fn size_of(&self, pack: &Digest) -> Option<u64> {
        self.state.read().packs.get(pack).map(|facts| facts.size)
    }

    /// The chunks of packs, each pack's in the order of their places. Packs that are not known are
    /// passed over.
    pub(crate) fn chunks_of(&self, wanted: &[Digest]) -> Result<Vec<PackedChunks>, IndexError> {
        let mut found: BTreeMap<Digest, PackedChunks> = BTreeMap::new();
        let mut left: HashSet<Digest> = HashSet::new();
        {
            let state = self.state.read();
            for pack in wanted {
                if let Some(recent) = state.recent.get(pack) {
                    found.insert(*pack, recent.clone());
                } else if let Some(facts) = state.packs.get(pack) {
                    left.insert(*pack);
                    found.insert(
                        *pack,
                        PackedChunks {
                            pack: *pack,
                            size: facts.size,
                            chunks: Vec::new(),
                        },
                    );
                }
            }
        }
        if !left.is_empty() {
            self.index.chunks_of_packs(&left, |entry| {
                if let Some(pack) = found.get_mut(&entry.location.pack) {
                    pack.chunks.push(packed(&entry));
                }
            })?;
        }
        let mut packs: Vec<PackedChunks> = found.into_values().collect();
        for pack in &mut packs {
            pack.chunks
                .sort_unstable_by_key(|chunk| (chunk.offset, chunk.id, chunk.kind));
            pack.chunks.dedup();
        }
        Ok(packs)
    }

    /// Calls `found` with every chunk of these packs and its pack, in one pass over the index.
    pub(crate) fn each_chunk(
        &self,
        packs: &HashSet<Digest>,
        mut found: impl FnMut(&Digest, &PackedChunk),
    ) -> Result<(), IndexError> {
        self.index
            .chunks_of_packs(packs, |entry| found(&entry.location.pack, &packed(&entry)))
    }

    /// The packs that an index object covers.
    pub(crate) fn covered_by(&self, object: &Digest) -> Vec<Digest> {
        let state = self.state.read();
        state.objects.get(object).cloned().unwrap_or_default()
    }

    /// Every pack.
    pub(crate) fn packs(&self) -> Vec<Digest> {
        self.state.read().packs.keys().copied().collect()
    }

    /// Whether an index object is left as it is, and how many packs it covers. Asked for each pack at each commit: of a small one
    /// only are the packs gone through.
    pub(crate) fn width(&self, object: &Digest) -> (bool, usize) {
        let packs = self.state.read().objects.get(object).map_or(0, Vec::len);
        let stays = packs >= SMALL_INDEX_PACKS || !self.coverage(object).is_small();
        (stays, packs)
    }

    /// How much an index object covers.
    pub(crate) fn coverage(&self, object: &Digest) -> Coverage {
        let state = self.state.read();
        let packs = state.objects.get(object).map_or(&[][..], Vec::as_slice);
        let chunks = |pack: &Digest| state.packs.get(pack).map_or(0, |facts| facts.chunks);
        Coverage {
            packs: packs.len(),
            chunks: packs.iter().map(|pack| u64::from(chunks(pack))).sum(),
        }
    }

    /// Forgets packs and their chunks.
    pub(crate) fn drop_packs(&self, packs: &BTreeSet<Digest>) -> Result<(), IndexError> {
        if packs.is_empty() {
            return Ok(());
        }
        self.index.drop_packs(&packs.iter().copied().collect())?;
        let mut state = self.state.write();
        packs
            .iter()
            .for_each(|pack| state.record(Record::DropPack(*pack)));
        Ok(())
    }

    /// These index objects cover nothing any more: they are gone, or about to be.
    pub(crate) fn drop_objects(&self, objects: &BTreeSet<Digest>) -> Result<(), IndexError> {
        if objects.is_empty() {
            return Ok(());
        }
        self.index.forget_objects(objects)?;
        let mut state = self.state.write();
        objects
            .iter()
            .for_each(|object| state.record(Record::DropObject(*object)));
        Ok(())
    }
}

impl State {
    fn new(file: FactsFile) -> Self {
        Self {
            file,
            packs: BTreeMap::new(),
            objects: BTreeMap::new(),
            key_sets: HashSet::new(),
            recent: HashMap::new(),
            recent_chunks: 0,
        }
    }

    fn record(&mut self, record: Record) {
        if let Err(error) = self.file.append(&record) {
            // The next opening finds file and index disagreeing and makes both anew.
            tracing::warn!(%error, "facts of a pack could not be written down");
        }
        self.apply(record);
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Pack {
                pack,
                size,
                chunks,
                holds_trees,
                keys,
            } => {
                let keys: Arc<[Digest]> = keys.into();
                // Most packs have the same keys: one copy of each set.
                let keys = match self.key_sets.get(&keys) {
                    Some(known) => Arc::clone(known),
                    None => {
                        self.key_sets.insert(Arc::clone(&keys));
                        keys
                    }
                };
                let facts = PackFacts {
                    size,
                    chunks,
                    keys,
                    holds_trees,
                    objects: BTreeSet::new(),
                };
                self.packs.entry(pack).or_insert(facts);
            }
            Record::Object { object, packs } => {
                for pack in &packs {
                    if let Some(facts) = self.packs.get_mut(pack) {
                        facts.objects.insert(object);
                    }
                }
                self.objects.insert(object, packs);
            }
            Record::DropPack(pack) => {
                self.packs.remove(&pack);
                if let Some(recent) = self.recent.remove(&pack) {
                    self.recent_chunks -= recent.chunks.len();
                }
            }
            Record::DropObject(object) => {
                for pack in self.objects.remove(&object).unwrap_or_default() {
                    if let Some(facts) = self.packs.get_mut(&pack) {
                        facts.objects.remove(&object);
                    }
                }
            }
        }
    }

    fn agrees_with(&self, index: &Index) -> bool {
        let with_chunks = index.packs();
        let objects: BTreeSet<Digest> = self.objects.keys().copied().collect();
        with_chunks.iter().all(|pack| self.packs.contains_key(pack))
            && self.packs.len() == with_chunks.len()
            && objects == index.objects()
    }
}

fn entries_of(pack: &PackedChunks) -> Vec<IndexEntry> {
    let entry = |chunk: &PackedChunk| IndexEntry {
        id: chunk.id,
        location: Location {
            pack: pack.pack,
            offset: chunk.offset,
            stored: chunk.stored_length,
            raw: chunk.raw_length,
            key: chunk.key,
            kind: chunk.kind,
        },
    };
    pack.chunks.iter().map(entry).collect()
}

fn packed(entry: &IndexEntry) -> PackedChunk {
    PackedChunk {
        id: entry.id,
        kind: entry.location.kind,
        offset: entry.location.offset,
        stored_length: entry.location.stored,
        raw_length: entry.location.raw,
        key: entry.location.key,
    }
}

/// Whether a pack is one of trees and lists; the packer never mixes them with data.
pub(super) fn holds_trees(pack: &PackedChunks) -> bool {
    pack.chunks
        .first()
        .is_some_and(|chunk| chunk.kind != ChunkKind::Data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_index_object_is_not_small_for_covering_few_packs() {
        let is_small = |packs, chunks| Coverage { packs, chunks }.is_small();
        assert!(is_small(1, 10));
        assert!(is_small(31, 24_999));
        assert!(!is_small(32, 32));
        // Two packs of files of some bytes each.
        assert!(!is_small(2, 50_000));
    }
}
