//! Where every chunk is: pack, offset, lengths, session key; and of every pack which index objects
//! cover it.
//!
//! A cache: everything in it also stands in the store's index objects, or, for packs that no index
//! object covers yet, in the log.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use holdfast_crypto::{ChunkId, ChunkKind, Digest};
use parking_lot::RwLock;

use crate::packer::{PackedChunk, PackedChunks};

/// One copy of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its pack.
    pub pack: Digest,
    /// Where its ciphertext begins.
    pub offset: u32,
    /// Length of its ciphertext.
    pub stored: u32,
    /// Length of its plaintext before compression.
    pub raw: u32,
    /// Key object of its session key.
    pub key: Digest,
    /// What it is a chunk of.
    pub kind: ChunkKind,
}

/// What is known of a pack beside its chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackFacts {
    /// Its whole length in bytes.
    pub size: u64,
    /// Key objects that its chunks need.
    pub keys: Vec<Digest>,
    /// Index objects that cover it.
    pub objects: BTreeSet<Digest>,
}

/// All known chunks and packs.
#[derive(Default)]
pub struct Places {
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    chunks: HashMap<ChunkId, Vec<Location>>,
    packs: BTreeMap<Digest, Pack>,
    objects: BTreeMap<Digest, Vec<Digest>>,
}

struct Pack {
    facts: PackFacts,
    chunks: Vec<PackedChunk>,
}

impl Table {
    fn add_pack(&mut self, pack: &PackedChunks) -> &mut Pack {
        let known = self.packs.entry(pack.pack).or_insert_with(|| Pack {
            facts: PackFacts { size: pack.size, keys: Vec::new(), objects: BTreeSet::new() },
            chunks: Vec::new(),
        });
        if known.chunks.is_empty() {
            known.facts.keys = pack.keys();
            known.chunks = pack.chunks.clone();
            for chunk in &pack.chunks {
                self.chunks.entry(chunk.id).or_default().push(Location {
                    pack: pack.pack,
                    offset: chunk.offset,
                    stored: chunk.stored_length,
                    raw: chunk.raw_length,
                    key: chunk.key,
                    kind: chunk.kind,
                });
            }
        }
        known
    }
}

impl Places {
    /// Every copy of a chunk.
    pub fn locate(&self, id: &ChunkId) -> Vec<Location> {
        self.table.read().chunks.get(id).cloned().unwrap_or_default()
    }

    /// Takes in a pack that this device has just stored.
    pub fn add_pack(&self, pack: &PackedChunks) {
        self.table.write().add_pack(pack);
    }

    /// Takes in an index object.
    pub fn add_object(&self, object: Digest, packs: &[PackedChunks]) {
        let mut table = self.table.write();
        for pack in packs {
            table.add_pack(pack).facts.objects.insert(object);
        }
        table.objects.insert(object, packs.iter().map(|pack| pack.pack).collect());
    }

    /// Whether this index object has been taken in.
    pub fn has_object(&self, object: &Digest) -> bool {
        self.table.read().objects.contains_key(object)
    }

    /// What is known of a pack.
    pub fn pack(&self, pack: &Digest) -> Option<PackFacts> {
        self.table.read().packs.get(pack).map(|pack| pack.facts.clone())
    }

    /// A pack's chunks.
    pub fn chunks_of(&self, pack: &Digest) -> Option<PackedChunks> {
        self.table.read().packs.get(pack).map(|known| PackedChunks {
            pack: *pack,
            size: known.facts.size,
            chunks: known.chunks.clone(),
        })
    }

    /// Every pack.
    pub fn packs(&self) -> Vec<Digest> {
        self.table.read().packs.keys().copied().collect()
    }

    /// The packs that an index object covers.
    pub fn packs_of_object(&self, object: &Digest) -> Vec<Digest> {
        self.table.read().objects.get(object).cloned().unwrap_or_default()
    }

    /// Forgets packs and their chunks.
    pub fn drop_packs(&self, packs: &BTreeSet<Digest>) {
        let mut table = self.table.write();
        for pack in packs {
            let Some(dropped) = table.packs.remove(pack) else { continue };
            for chunk in dropped.chunks {
                if let Some(locations) = table.chunks.get_mut(&chunk.id) {
                    locations.retain(|location| location.pack != *pack);
                    if locations.is_empty() {
                        table.chunks.remove(&chunk.id);
                    }
                }
            }
        }
    }

    /// These index objects cover nothing any more: they are gone, or about to be.
    pub fn drop_objects(&self, objects: &BTreeSet<Digest>) {
        let mut table = self.table.write();
        for object in objects {
            for pack in table.objects.remove(object).unwrap_or_default() {
                if let Some(pack) = table.packs.get_mut(&pack) {
                    pack.facts.objects.remove(object);
                }
            }
        }
    }
}
