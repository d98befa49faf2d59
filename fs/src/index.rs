//! Where every chunk of the archive lies: a sorted local file, not heap.
//!
//! The index is a cache of the store's index objects, and of packs of this device that no stored
//! index object names yet. It may be thrown away at any time: [`IndexError::Damaged`] tells the
//! caller to call [`Index::create_empty`] and add everything again.
//!
//! On disk: a folder of **runs** (`run.rs`), each sorted by chunk id and never changed, and one
//! **manifest** that names the runs that count. In memory: a Bloom filter of ten bits per entry, one
//! number per 64 entries, and the pack digests.
//!
//! 1. A run is written under a temporary name, synced, renamed.
//! 2. The manifest is replaced the same way. Before that the old state stands, after it the new one.
//! 3. Runs that the manifest does not name are removed, here or at the next opening.

mod manifest;
mod merge;
mod run;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_crypto::{ChunkId, ChunkKind, Digest};
use parking_lot::{Mutex, RwLock};

use manifest::Manifest;
use run::{Run, RunWriter};

/// Merging begins above this; each look-up asks every run's filter.
const MAX_RUNS: usize = 8;

/// One stored copy of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The pack that holds it.
    pub pack: Digest,
    /// Where in the pack's object its ciphertext begins.
    pub offset: u32,
    /// Length of the ciphertext in bytes.
    pub stored: u32,
    /// Length of the plaintext in bytes.
    pub raw: u32,
    /// Key object of the session key it is encrypted with.
    pub key: Digest,
    /// What the chunk holds.
    pub kind: ChunkKind,
}

impl Location {
    /// The bytes of the pack that are its ciphertext.
    pub fn range(&self) -> std::ops::Range<u64> {
        let start = u64::from(self.offset);
        start..start + u64::from(self.stored)
    }
}

/// A chunk and one place where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IndexEntry {
    /// Name of the chunk.
    pub id: ChunkId,
    /// Where it lies.
    pub location: Location,
}

impl IndexEntry {
    /// Runs are in this order.
    fn order(&self) -> ([u8; 32], u32, Digest, u32) {
        let location = &self.location;
        (self.id.hash, self.id.epoch, location.pack, location.offset)
    }
}

/// Where entries come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IndexSource {
    /// The index object with this digest.
    Object(Digest),
    /// A pack of this device that no stored index object names yet.
    Local(Digest),
}

/// Why the index did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The files are not what was written: create the index again from the archive.
    #[error("the local index is damaged ({}); it has to be rebuilt", .path.display())]
    Damaged {
        /// The bad file.
        path: PathBuf,
    },
    /// The local disk failed.
    #[error("cannot {operation} {}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// File or folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

impl IndexError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| IndexError::Io {
            operation,
            path,
            source,
        }
    }

    fn damaged(path: &Path) -> Self {
        IndexError::Damaged {
            path: path.to_owned(),
        }
    }
}

/// The index. Look-ups go on while one thread adds.
pub struct Index {
    folder: PathBuf,
    /// What look-ups see; replaced as a whole.
    view: RwLock<Arc<View>>,
    /// One change at a time.
    changing: Mutex<()>,
}

struct View {
    manifest: Manifest,
    runs: Vec<Arc<Run>>,
}

impl Index {
    /// Opens the index in a folder, which must exist; a folder without one gives an empty index.
    pub fn open(folder: &Path) -> Result<Self, IndexError> {
        let manifest = Manifest::load(folder)?;
        let mut runs = Vec::new();
        for number in &manifest.runs {
            runs.push(Arc::new(Run::open(folder, *number)?));
        }
        remove_others(folder, &manifest)?;
        Ok(Index {
            folder: folder.to_owned(),
            view: RwLock::new(Arc::new(View { manifest, runs })),
            changing: Mutex::new(()),
        })
    }

    /// Throws away whatever the folder holds, and opens an empty index.
    pub fn create_empty(folder: &Path) -> Result<Self, IndexError> {
        // The manifest goes first: from here on the index is empty.
        Manifest::remove(folder)?;
        Self::open(folder)
    }

    fn view(&self) -> Arc<View> {
        self.view.read().clone()
    }

    /// All places where a chunk lies.
    pub fn locate(&self, id: &ChunkId) -> Result<Vec<Location>, IndexError> {
        let mut locations = Vec::new();
        for run in &self.view().runs {
            run.locate(id, &mut locations)?;
        }
        // A pack can come in twice, by itself and with its index object.
        locations.sort_unstable();
        locations.dedup();
        Ok(locations)
    }

    /// True if the chunk lies anywhere.
    pub fn contains(&self, id: &ChunkId) -> Result<bool, IndexError> {
        Ok(!self.locate(id)?.is_empty())
    }

    /// Takes in the entries of an index object or of a pack of this device.
    pub fn add(&self, source: IndexSource, entries: Vec<IndexEntry>) -> Result<(), IndexError> {
        self.add_many(&[source], entries)
    }

    /// The same for several sources at once: one run, one sync.
    pub fn add_many(
        &self,
        sources: &[IndexSource],
        mut entries: Vec<IndexEntry>,
    ) -> Result<(), IndexError> {
        let _changing = self.changing.lock();
        let view = self.view();
        let mut next = view.change();
        for source in sources {
            match source {
                IndexSource::Object(digest) => next.manifest.objects.insert(*digest),
                IndexSource::Local(pack) => next.manifest.local_packs.insert(*pack),
            };
        }
        if !entries.is_empty() {
            entries.sort_unstable_by_key(IndexEntry::order);
            entries.dedup();
            let run = self.write_run(&mut next, entries.into_iter().map(Ok))?;
            next.runs.extend(run);
        }
        while next.runs.len() > MAX_RUNS {
            self.merge(&mut next)?;
        }
        self.install(next)
    }

    /// An index object now names these packs of this device: they are no longer local.
    pub fn cover(&self, object: Digest, packs: &BTreeSet<Digest>) -> Result<(), IndexError> {
        self.change_manifest(|manifest| {
            manifest.objects.insert(object);
            manifest.local_packs.retain(|pack| !packs.contains(pack));
        })
    }

    /// These index objects are in the store no longer. Their entries stay.
    pub fn forget_objects(&self, objects: &BTreeSet<Digest>) -> Result<(), IndexError> {
        self.change_manifest(|manifest| manifest.objects.retain(|o| !objects.contains(o)))
    }

    fn change_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Result<(), IndexError> {
        let _changing = self.changing.lock();
        let mut next = self.view().change();
        change(&mut next.manifest);
        self.install(next)
    }

    /// Index objects that are in.
    pub fn objects(&self) -> BTreeSet<Digest> {
        self.view().manifest.objects.clone()
    }

    /// Packs of this device that no stored index object names yet.
    pub fn local_packs(&self) -> BTreeSet<Digest> {
        self.view().manifest.local_packs.clone()
    }

    /// All packs that hold any chunk.
    pub fn packs(&self) -> BTreeSet<Digest> {
        let view = self.view();
        let packs = view.runs.iter().flat_map(|run| run.packs());
        packs.copied().collect()
    }

    /// Number of entries; copies that two runs both name are counted twice.
    pub fn len(&self) -> u64 {
        self.view().runs.iter().map(|run| run.len()).sum()
    }

    /// True if no chunk is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `found` with every entry that lies in one of these packs, in the order of ids within
    /// a run; an entry may come twice.
    pub fn chunks_of_packs(
        &self,
        packs: &HashSet<Digest>,
        mut found: impl FnMut(IndexEntry),
    ) -> Result<(), IndexError> {
        for run in &self.view().runs {
            if !run.packs().iter().any(|pack| packs.contains(pack)) {
                continue;
            }
            for entry in run.entries()? {
                let entry = entry?;
                if packs.contains(&entry.location.pack) {
                    found(entry);
                }
            }
        }
        Ok(())
    }

    /// Forgets everything that lies in these packs.
    pub fn drop_packs(&self, packs: &HashSet<Digest>) -> Result<(), IndexError> {
        let _changing = self.changing.lock();
        let view = self.view();
        let mut next = view.change();
        next.manifest
            .local_packs
            .retain(|pack| !packs.contains(pack));
        next.runs.clear();
        for run in &view.runs {
            if !run.packs().iter().any(|pack| packs.contains(pack)) {
                next.runs.push(run.clone());
                continue;
            }
            let kept = run.entries()?.filter(|entry| match entry {
                Ok(entry) => !packs.contains(&entry.location.pack),
                Err(_) => true,
            });
            let rest = self.write_run(&mut next, kept)?;
            next.runs.extend(rest);
        }
        self.install(next)
    }

    /// Merges the smallest runs, as long as the next one is not much larger: so each entry is
    /// rewritten a logarithmic number of times.
    fn merge(&self, next: &mut View) -> Result<(), IndexError> {
        next.runs.sort_by_key(|run| run.len());
        let mut count = 2;
        let mut sum = next.runs[0].len() + next.runs[1].len();
        while count < next.runs.len() && next.runs[count].len() <= 2 * sum {
            sum += next.runs[count].len();
            count += 1;
        }
        let parts: Vec<Arc<Run>> = next.runs.drain(..count).collect();
        let merged = self.write_run(next, merge::merge(&parts)?)?;
        next.runs.extend(merged);
        Ok(())
    }

    /// Writes entries that are in order; none for no entries.
    fn write_run(
        &self,
        next: &mut View,
        entries: impl Iterator<Item = Result<IndexEntry, IndexError>>,
    ) -> Result<Option<Arc<Run>>, IndexError> {
        let number = next.manifest.next_run;
        next.manifest.next_run += 1;
        let mut writer = RunWriter::create(&self.folder, number)?;
        for entry in entries {
            writer.push(&entry?)?;
        }
        Ok(writer.finish()?.map(Arc::new))
    }

    /// Makes a new state the one that counts, on disk and then for look-ups.
    fn install(&self, mut next: View) -> Result<(), IndexError> {
        next.manifest.runs = next.runs.iter().map(|run| run.number()).collect();
        next.manifest.store(&self.folder)?;
        let manifest = next.manifest.clone();
        *self.view.write() = Arc::new(next);
        remove_others(&self.folder, &manifest)
    }
}

impl View {
    fn change(&self) -> View {
        View {
            manifest: self.manifest.clone(),
            runs: self.runs.clone(),
        }
    }
}

/// Removes runs that do not count, and unfinished files. Look-ups under way keep theirs open.
fn remove_others(folder: &Path, manifest: &Manifest) -> Result<(), IndexError> {
    let list = || IndexError::io("list", folder);
    for entry in fs::read_dir(folder).map_err(list())? {
        let path = entry.map_err(list())?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let ours = name.is_some_and(|name| run::is_leftover(name, &manifest.runs));
        if ours {
            fs::remove_file(&path).map_err(IndexError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Syncs a finished temporary file and gives it its name.
fn put_in_place(file: &fs::File, temporary: &Path, path: &Path) -> Result<(), IndexError> {
    file.sync_data()
        .map_err(IndexError::io("sync", temporary))?;
    fs::rename(temporary, path).map_err(IndexError::io("rename", temporary))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(IndexError::io("sync", folder))
}

#[cfg(test)]
mod tests;
