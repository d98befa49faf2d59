//! Healing: what is missing or damaged and can still be had from somewhere is stored again.
//!
//! 1. Check, and take what it says is bad. Key objects and commits of which this computer has the
//!    bytes are put back under their names.
//! 2. Index objects that cannot be read are made anew from what is known of the packs, or from the
//!    tables in the packs themselves ([`moves`]).
//! 3. Of each bad pack every chunk that any source gives is encrypted anew and packed. Sources, in this
//!    order: memory, the log, the caches on disk, other packs, and the damaged pack itself; then the
//!    files below folders that the user names, cut as `backup` cuts them ([`folders`]).
//! 4. New packs are read back, an index object for them is stored, then a moved object says that they
//!    stand in the place of the bad pack: whoever needs that needs them. The bad pack itself stays
//!    needed as long as a chunk of it that a kept commit needs was not found anywhere.
//! 5. Check again: what is readable now may show more. Until nothing changes.
//!
//! If we die before the moved object stands, there are packs and index objects that nobody needs; gc takes
//! them, and the next heal begins anew. `docs/protocol/gc.md` has the argument.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use holdfast_backend::layout::ObjectName;
use holdfast_backend::object::Object;
use holdfast_crypto::{ChunkId, ChunkKind, Digest};
use serde::Serialize;

use crate::archive::{Archive, ArchiveError};
use crate::check::{CheckReport, Checked, Depth, check, check_again};
use crate::chunks::{LoadError, SinkError};
use crate::index::IndexError;
use crate::packer::PackerError;

mod folders;
mod moves;
mod tables;
#[cfg(test)]
mod tests;

/// What becomes readable may show more that is lost, a few levels deep.
const ROUNDS: usize = 6;

/// What to heal, and from where.
pub struct HealRequest {
    /// Folders and files that may hold lost content.
    pub from: Vec<PathBuf>,
    /// Whether every chunk is read first.
    pub depth: Depth,
    /// Only say what would be done.
    pub is_dry: bool,
}

/// What was done, and what is left.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HealReport {
    /// Nothing was changed; the numbers say what would be.
    pub dry_run: bool,
    /// Objects that were found missing or damaged.
    pub found: BTreeSet<String>,
    /// Chunks stored again.
    pub chunks: u64,
    /// Their bytes before compression.
    pub bytes: u64,
    /// Of these chunks, how many came from the folders given.
    pub chunks_from_folders: u64,
    /// Objects that were put back as they were.
    pub put_back: BTreeSet<String>,
    /// Objects in whose place others stand now.
    pub replaced: BTreeSet<String>,
    /// Files below the folders given that could not be read.
    pub unreadable: Vec<String>,
    /// What is still missing or damaged.
    pub left: CheckReport,
}

/// Why nothing, or not everything that could be, was healed. It can be run again.
#[derive(Debug, thiserror::Error)]
pub enum HealError {
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The packer.
    #[error(transparent)]
    Packer(#[from] PackerError),
    /// A chunk could not be stored.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The store is away.
    #[error("healing stopped: {0}; what was stored stays, run it again")]
    Load(#[from] LoadError),
    /// A folder that is not there.
    #[error("{} cannot be read ({source}); --from wants a folder or file that holds lost content", path.display())]
    From {
        /// As it was given.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl From<IndexError> for HealError {
    fn from(error: IndexError) -> Self {
        HealError::Archive(error.into())
    }
}

impl From<holdfast_backend::store::StoreError> for HealError {
    fn from(error: holdfast_backend::store::StoreError) -> Self {
        HealError::Archive(error.into())
    }
}

/// How far it is.
pub enum Told {
    /// Bytes read, of all in the packs.
    Read {
        /// Just now.
        bytes: u64,
        /// In all.
        total: u64,
    },
    /// What is being done.
    Step(&'static str),
    /// Bytes read from folders or stored.
    Bytes(u64),
}

/// Told how far it is.
pub type Tell<'a> = &'a (dyn Fn(Told) + Sync);

/// Stores again what can be had, in an archive that is open for writing.
pub fn heal(
    archive: &Arc<Archive>,
    request: &HealRequest,
    tell: Tell<'_>,
) -> Result<HealReport, HealError> {
    if !archive.is_writable() {
        return Err(ArchiveError::ReadOnly.into());
    }
    for path in &request.from {
        std::fs::metadata(path).map_err(|source| HealError::From {
            path: path.clone(),
            source,
        })?;
    }
    archive.catch_up()?;
    // A commit in between would name the bad packs again.
    let _one = archive.one_commit.lock();
    let mut healer = Healer {
        archive,
        request,
        tell,
        report: HealReport {
            dry_run: request.is_dry,
            ..HealReport::default()
        },
        damaged: BTreeSet::new(),
        searched: BTreeSet::new(),
    };
    healer.run()?;
    Ok(healer.report)
}

/// A chunk and what it is a chunk of.
type Wanted = (ChunkId, ChunkKind);

struct Healer<'a> {
    archive: &'a Arc<Archive>,
    request: &'a HealRequest,
    tell: Tell<'a>,
    report: HealReport,
    /// Index and key objects that are damaged: only a check that reads everything sees it.
    damaged: BTreeSet<ObjectName>,
    /// What the folders do not hold.
    searched: BTreeSet<Wanted>,
}

/// A bad pack.
struct Patient {
    pack: Digest,
    /// Packs that heal or compact has put in its place, and that stand.
    replacements: BTreeSet<Digest>,
    /// Its chunks that are in none of them.
    wanted: BTreeSet<Wanted>,
}

impl Healer<'_> {
    fn run(&mut self) -> Result<(), HealError> {
        let progress = |bytes, total| (self.tell)(Told::Read { bytes, total });
        let mut checked = check(self.archive, self.request.depth, &progress)?;
        self.report.found = checked.report.bad_objects.clone();
        let indexes = checked.bad_indexes.iter().copied().map(ObjectName::Index);
        let keys = checked.bad_keys.iter().copied().map(ObjectName::Key);
        self.damaged = indexes
            .chain(keys)
            .filter(|name| checked.stock.has(name))
            .collect();
        if self.put_back(&checked)? {
            checked = self.check_again()?;
        }
        for _ in 0..ROUNDS {
            let has_changed = self.indexes(&checked)? || self.packs(&checked)?;
            if !has_changed || self.request.is_dry {
                break;
            }
            checked = self.check_again()?;
        }
        self.report.left = checked.report;
        Ok(())
    }

    fn check_again(&self) -> Result<Checked, ArchiveError> {
        (self.tell)(Told::Step("checking again"));
        check_again(self.archive, Depth::References, &self.damaged, &|_, _| ())
    }

    /// Key objects and this device's newest commit, of which this computer has the bytes.
    fn put_back(&mut self, checked: &Checked) -> Result<bool, HealError> {
        let mut objects: Vec<Object> = Vec::new();
        for key in &checked.bad_keys {
            objects.extend(self.archive.key_object_here(key));
        }
        for commit in &checked.bad_commits {
            objects.extend(self.archive.commit_object_here(*commit));
        }
        for object in &objects {
            let name = object.name();
            self.report.put_back.insert(name.to_string());
            if self.request.is_dry {
                continue;
            }
            // Storing does not replace what stands under the name; nobody can use those bytes.
            self.archive.ask(self.archive.store.delete(&name))?;
            self.archive.ask(self.archive.store.put_new(object))?;
            self.damaged.remove(&name);
        }
        Ok(!objects.is_empty() && !self.request.is_dry)
    }

    /// Step 3 and 4. Whether anything has changed in the store.
    fn packs(&mut self, checked: &Checked) -> Result<bool, HealError> {
        let patients = self.patients(checked)?;
        let before: BTreeSet<Digest> = self.archive.packs().into_iter().collect();
        let recovered = self.recover(checked, &patients)?;
        if self.request.is_dry {
            return Ok(false);
        }
        self.archive.flush(None)?;
        let has_moved = self.replace(checked, &patients, &recovered, &before)?;
        Ok(has_moved || !recovered.is_empty())
    }

    fn patients(&self, checked: &Checked) -> Result<Vec<Patient>, HealError> {
        let places = &self.archive.places;
        let copies = &checked.copies;
        let mut patients = Vec::new();
        let mut with_a_place: BTreeSet<Wanted> = BTreeSet::new();
        let mut unknown = Vec::new();
        for pack in &checked.bad_packs {
            let stands = |new: &Digest| {
                checked.stock.has(&ObjectName::Pack(*new)) && !checked.bad_packs.contains(new)
            };
            let replacements = checked.stock.replacements(pack);
            let replacements: BTreeSet<Digest> = replacements.into_iter().filter(stands).collect();
            if places.pack(pack).is_none() {
                unknown.push((*pack, replacements));
                continue;
            }
            let chunks = places.chunks_of(&[*pack])?;
            let all: BTreeSet<Wanted> = chunks
                .iter()
                .flat_map(|pack| &pack.chunks)
                .map(|chunk| (chunk.id, chunk.kind))
                .collect();
            with_a_place.extend(all.iter().copied());
            let is_elsewhere =
                |(id, kind): &Wanted| !copies.good_packs(*kind, id).is_disjoint(&replacements);
            let wanted = all
                .into_iter()
                .filter(|chunk| !is_elsewhere(chunk))
                .collect();
            patients.push(Patient {
                pack: *pack,
                replacements,
                wanted,
            });
        }
        // Nobody knows what was in a pack that is gone with its index: it may be all that is lost.
        let orphans: BTreeSet<Wanted> = checked.lost.difference(&with_a_place).copied().collect();
        for (pack, replacements) in unknown {
            patients.push(Patient {
                pack,
                replacements,
                wanted: orphans.clone(),
            });
        }
        Ok(patients)
    }

    /// Stores again what can be had of what is wanted.
    fn recover(
        &mut self,
        checked: &Checked,
        patients: &[Patient],
    ) -> Result<BTreeSet<Wanted>, HealError> {
        (self.tell)(Told::Step("storing again"));
        let mut recovered = BTreeSet::new();
        let mut left: BTreeSet<Wanted> = BTreeSet::new();
        for (id, kind) in patients.iter().flat_map(|patient| &patient.wanted) {
            if recovered.contains(&(*id, *kind)) || left.contains(&(*id, *kind)) {
                continue;
            }
            let is_good = |place: &crate::index::Location| checked.copies.is_good(id, place);
            match self.archive.read.rescue(*kind, id, &is_good)? {
                Some(plaintext) => {
                    self.store(*kind, id, &plaintext)?;
                    recovered.insert((*id, *kind));
                }
                None => drop(left.insert((*id, *kind))),
            }
        }
        left.retain(|chunk| !self.searched.contains(chunk));
        if !left.is_empty() && !self.request.from.is_empty() {
            let found = self.search_folders(left.clone())?;
            self.searched.extend(left.difference(&found));
            recovered.extend(found);
        }
        Ok(recovered)
    }

    fn store(&mut self, kind: ChunkKind, id: &ChunkId, plaintext: &[u8]) -> Result<(), HealError> {
        self.report.chunks += 1;
        self.report.bytes += plaintext.len() as u64;
        (self.tell)(Told::Bytes(plaintext.len() as u64));
        if !self.request.is_dry {
            self.archive.store_anew(kind, *id, plaintext)?;
        }
        Ok(())
    }
}

/// Old name -> what stands in its place.
type Moves = BTreeMap<ObjectName, BTreeSet<ObjectName>>;
