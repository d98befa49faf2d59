//! Copies chunks, as they are stored, into new packs.
//!
//! A pack is loaded as a whole, which checks it against its name, and so that the store does not learn
//! where its chunks begin. Each chunk that is copied is opened once to see that it is what its id says;
//! what is stored is its old ciphertext. A pack with a chunk that does not open is left alone: `heal`
//! may have another copy of what is damaged.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use holdfast_backend::layout::ObjectName;
use holdfast_backend::object::Object;
use holdfast_backend::pack::PackBuilder;
use holdfast_backend::store::{StoreError, StoreErrorKind};
use holdfast_crypto::{ChunkId, Ciphertext, Digest};

use super::used::Used;
use crate::archive::{Archive, ArchiveError, Location};
use crate::chunks::LoadError;
use crate::memory::MemoryBudget;
use crate::packer::{PackedChunk, PackedChunks, PackerLimits, finish_pack};

/// Session keys of one new pack at the most: a moved object names them for each old pack.
pub(super) const MOST_KEYS: usize = 32;
/// The index is asked for packs with about so many chunks at once.
const CHUNKS_AT_ONCE: u32 = 100_000;

/// Old pack -> the packs that hold what is used of it.
pub(super) type Copies = BTreeMap<Digest, BTreeSet<Digest>>;

/// What copying has brought.
#[derive(Default)]
pub(super) struct Copied {
    pub(super) copies: Copies,
    /// Old packs that are missing or damaged; they stay as they are.
    pub(super) damaged: BTreeSet<Digest>,
    /// The new packs.
    pub(super) new: BTreeSet<Digest>,
    pub(super) new_bytes: u64,
    pub(super) chunks: u64,
    pub(super) chunk_bytes: u64,
}

/// Where copies may be found instead of made, and what they are made of.
pub(super) struct Copier<'a> {
    archive: &'a Archive,
    used: &'a Used,
    /// Packs that are needed, stand, and stay.
    stable: &'a BTreeSet<Digest>,
    limits: PackerLimits,
    /// Chunks copied in this run: where.
    placed: HashMap<ChunkId, Placed>,
    done: Copied,
    open: Option<Open>,
}

#[derive(Clone, Copy)]
enum Placed {
    /// In the pack that is being filled.
    Open,
    In(Digest),
}

struct Open {
    builder: PackBuilder,
    chunks: Vec<PackedChunk>,
    keys: BTreeSet<Digest>,
    target_bytes: u32,
    /// Old packs that wait for its name.
    waiting: BTreeSet<Digest>,
}

impl<'a> Copier<'a> {
    pub(super) fn new(archive: &'a Archive, used: &'a Used, stable: &'a BTreeSet<Digest>) -> Self {
        Self {
            archive,
            used,
            stable,
            limits: PackerLimits::within(MemoryBudget::new(archive.settings.memory_bytes())),
            placed: HashMap::new(),
            done: Copied::default(),
            open: None,
        }
    }

    /// Copies what is used of these packs, trees and data apart. `progress` is told the bytes of each
    /// old pack when it is done.
    pub(super) fn copy(
        mut self,
        packs: &[Digest],
        progress: &dyn Fn(u64),
    ) -> Result<Copied, ArchiveError> {
        let holds_trees = |pack: &Digest| {
            self.archive
                .places
                .pack(pack)
                .is_some_and(|facts| facts.holds_trees)
        };
        let (trees, data): (Vec<Digest>, Vec<Digest>) =
            packs.iter().copied().partition(holds_trees);
        for class in [trees, data] {
            for group in self.groups(class) {
                for pack in self.archive.places.chunks_of(&group)? {
                    self.pack(&pack)?;
                    progress(pack.size);
                }
            }
            self.close()?;
        }
        Ok(self.done)
    }

    fn groups(&self, packs: Vec<Digest>) -> Vec<Vec<Digest>> {
        let mut groups: Vec<Vec<Digest>> = Vec::new();
        let mut room = 0;
        for pack in packs {
            let facts = self.archive.places.pack(&pack);
            let chunks = facts.map_or(0, |facts| facts.chunks);
            match groups.last_mut() {
                Some(group) if chunks <= room => {
                    group.push(pack);
                    room -= chunks;
                }
                _ => {
                    groups.push(vec![pack]);
                    room = CHUNKS_AT_ONCE.saturating_sub(chunks);
                }
            }
        }
        groups
    }

    fn pack(&mut self, old: &PackedChunks) -> Result<(), ArchiveError> {
        let used: Vec<&PackedChunk> = old
            .chunks
            .iter()
            .filter(|chunk| self.used.contains(&chunk.id))
            .collect();
        let mut elsewhere = BTreeSet::new();
        let mut left = Vec::new();
        for chunk in used {
            match self.elsewhere(old.pack, &chunk.id)? {
                Some(Placed::In(pack)) => drop(elsewhere.insert(pack)),
                Some(Placed::Open) => left.push((chunk, true)),
                None => left.push((chunk, false)),
            }
        }
        if left.iter().any(|(_, is_open)| !is_open) {
            let Some(bytes) = self.load(old, left.iter().filter(|(_, open)| !open))? else {
                self.done.damaged.insert(old.pack);
                return Ok(());
            };
            self.done.copies.entry(old.pack).or_default();
            for (chunk, _) in left {
                // The pack that was open may be closed by now, or the chunk may be in twice.
                match self.placed.get(&chunk.id) {
                    Some(Placed::In(pack)) => drop(elsewhere.insert(*pack)),
                    Some(Placed::Open) => self.wait(old.pack),
                    None => self.append(old.pack, chunk, &bytes)?,
                }
            }
        } else if !left.is_empty() {
            self.wait(old.pack);
        }
        self.done
            .copies
            .entry(old.pack)
            .or_default()
            .extend(elsewhere);
        Ok(())
    }

    fn elsewhere(&self, old: Digest, id: &ChunkId) -> Result<Option<Placed>, ArchiveError> {
        if let Some(placed) = self.placed.get(id) {
            return Ok(Some(*placed));
        }
        let places = self.archive.places.locate(id)?;
        let stands = |place: &&Location| {
            place.pack != old
                && self.stable.contains(&place.pack)
                && !self.archive.places.bad.contains(id, &place.pack)
        };
        let found = places.iter().find(stands);
        Ok(found.map(|place| Placed::In(place.pack)))
    }

    /// The pack's bytes, if all these chunks of it are whole.
    fn load<'c>(
        &self,
        old: &PackedChunks,
        mut chunks: impl Iterator<Item = &'c (&'c PackedChunk, bool)>,
    ) -> Result<Option<bytes::Bytes>, ArchiveError> {
        let name = ObjectName::Pack(old.pack);
        let bytes = match self.archive.ask(self.archive.store.get(&name)) {
            Ok(bytes) => bytes,
            Err(ArchiveError::Store(error)) if is_damage(&error) => {
                tracing::error!(%error, "a pack is left alone");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let is_bad = chunks.try_fold(false, |bad, (chunk, _)| {
            let place = Location {
                pack: old.pack,
                offset: chunk.offset,
                stored: chunk.stored_length,
                raw: chunk.raw_length,
                key: chunk.key,
                kind: chunk.kind,
            };
            let opens = match stored(&bytes, chunk) {
                Some(stored) => self.archive.read.verify(&chunk.id, &place, stored)?,
                None => false,
            };
            Ok::<bool, LoadError>(bad || !opens)
        })?;
        if is_bad {
            tracing::error!(pack = %name, "a pack has a damaged chunk and is left alone");
        }
        Ok((!is_bad).then_some(bytes))
    }

    fn append(
        &mut self,
        old: Digest,
        chunk: &PackedChunk,
        bytes: &[u8],
    ) -> Result<(), ArchiveError> {
        let is_full = |open: &Open| {
            open.builder.len() >= open.target_bytes
                || open.keys.len() >= MOST_KEYS && !open.keys.contains(&chunk.key)
        };
        if self.open.as_ref().is_some_and(is_full) {
            self.close()?;
        }
        let stored = stored(bytes, chunk).expect("the pack was checked to hold it");
        let stored = Ciphertext::from_stored(stored.to_vec()).expect("it was checked to open");
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(Open::new(self.archive, &self.limits)),
        };
        let place = open.builder.append(&stored);
        open.chunks.push(PackedChunk {
            offset: place.start,
            ..*chunk
        });
        open.keys.insert(chunk.key);
        open.waiting.insert(old);
        self.placed.insert(chunk.id, Placed::Open);
        self.done.chunks += 1;
        self.done.chunk_bytes += u64::from(chunk.stored_length);
        Ok(())
    }

    fn wait(&mut self, old: Digest) {
        if let Some(open) = &mut self.open {
            open.waiting.insert(old);
        }
    }

    /// Stores the open pack, and reads it back.
    fn close(&mut self) -> Result<(), ArchiveError> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let (object, packed) = finish_pack(open.builder, open.chunks, &self.archive.keychain);
        store_and_verify(self.archive, &object)?;
        self.archive.places.add_pack(&packed)?;
        for chunk in &packed.chunks {
            self.placed.insert(chunk.id, Placed::In(packed.pack));
        }
        for old in open.waiting {
            let copies = self.done.copies.entry(old).or_default();
            copies.insert(packed.pack);
        }
        self.done.new.insert(packed.pack);
        self.done.new_bytes += packed.size;
        Ok(())
    }
}

impl Open {
    fn new(archive: &Archive, limits: &PackerLimits) -> Self {
        let range = limits.target_bytes.clone();
        let target_bytes = range.start + rand::random::<u32>() % (range.end - range.start).max(1);
        let epoch = archive.keychain.current_epoch();
        Self {
            builder: PackBuilder::with_capacity(epoch, target_bytes as usize),
            chunks: Vec::new(),
            keys: BTreeSet::new(),
            target_bytes,
            waiting: BTreeSet::new(),
        }
    }
}

/// Stores an object, then reads it back, which checks every byte of it against its name.
pub(super) fn store_and_verify(archive: &Archive, object: &Object) -> Result<(), ArchiveError> {
    archive.ask(archive.store.put_new(object))?;
    archive.ask(archive.store.get(&object.name())).map(drop)
}

fn is_damage(error: &StoreError) -> bool {
    matches!(
        error.kind(),
        StoreErrorKind::NotFound | StoreErrorKind::Damaged
    )
}

fn stored<'b>(pack: &'b [u8], chunk: &PackedChunk) -> Option<&'b [u8]> {
    let start = chunk.offset as usize;
    pack.get(start..start + chunk.stored_length as usize)
}
