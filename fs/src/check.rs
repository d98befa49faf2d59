//! Checking with the key: every reference of every kept snapshot, and on demand every chunk.
//!
//! 1. The packs and session keys that the store lists, against the index.
//! 2. With `read_data`: every chunk of every pack is loaded, opened and its id computed again, some
//!    packs at a time. What is kept of it are the copies that are bad.
//! 3. The trees of all snapshots: every tree and list chunk is loaded, and for every data chunk there
//!    must be a copy that is not bad. A folder that was found clean is not entered again for the next
//!    snapshot; one that is not is, so that every path that uses something damaged is named.
//!
//! Nothing is changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_backend::layout::{Folder, ObjectName};
use holdfast_crypto::{ChunkId, ChunkKind, Digest};
use parking_lot::Mutex;
use serde::Serialize;

use crate::archive::{Archive, ArchiveError, Location};
use crate::chunks::LoadError;
use crate::format::{Body, FileKind, Inode, ListRef, Piece, Target};
use crate::packer::{PackedChunk, PackedChunks};
use crate::snapshots::Snapshot;
use crate::walk::{self, SnapshotTree};

#[cfg(test)]
mod tests;

/// So many paths are named; the rest is counted.
const NAMED_AT_MOST: usize = 10_000;
/// The index tells where the chunks of so many packs are in one go.
const PACKS_AT_ONCE: usize = 64;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Snapshots that were gone through.
    pub snapshots: u64,
    /// Packs that the index knows.
    pub packs: u64,
    /// Chunks that were read and computed again.
    pub chunks_read: u64,
    /// Bytes of them.
    pub bytes_read: u64,
    /// Files that were looked at; what did not change between snapshots counts once.
    pub files: u64,
    /// Objects that are missing, cut off or damaged.
    pub bad_objects: BTreeSet<String>,
    /// Snapshots whose commit cannot be read.
    pub bad_snapshots: Vec<Damage>,
    /// How many paths use something that is damaged, in all snapshots together.
    pub damaged_paths: u64,
    /// The first of them.
    pub damage: Vec<Damage>,
}

/// Something that cannot be restored whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The snapshot, as `DEVICE/NAME`.
    pub snapshot: String,
    /// The path in it; `/` is the top.
    pub path: String,
    /// What is wrong.
    pub why: String,
}

impl CheckReport {
    /// Whether everything can be restored.
    pub fn is_clean(&self) -> bool {
        self.bad_objects.is_empty() && self.bad_snapshots.is_empty() && self.damaged_paths == 0
    }
}

/// A chunk that no copy gives, and what it is a chunk of.
pub type Lost = BTreeSet<(ChunkId, u8)>;

/// What a check found, and what is needed to mend it.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// For a person and for a program.
    pub report: CheckReport,
    /// The chunks that snapshots need and no copy gives.
    pub lost: Lost,
    /// Packs that are missing or have bad chunks.
    pub bad_packs: BTreeSet<Digest>,
}

/// Whether every chunk is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// References only.
    References,
    /// Every chunk of every pack too.
    ReadData,
}

/// Checks the archive. `progress` is told bytes that were read, of all in the packs.
pub fn check(
    archive: &Arc<Archive>,
    depth: Depth,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Checked, ArchiveError> {
    let listed = archive.ask(archive.store.list(Folder::Packs))?;
    let listed: HashMap<Digest, u64> = listed
        .into_iter()
        .map(|listed| (listed.name.digest(), listed.size))
        .collect();
    let keys = archive.ask(archive.store.list(Folder::Keys))?;
    let keys = keys
        .into_iter()
        .map(|listed| listed.name.digest())
        .collect();
    let mut work = Work {
        archive,
        keys,
        bad: BTreeMap::new(),
        clean: HashSet::new(),
        checked: Checked::default(),
    };
    work.compare_packs(&listed);
    if depth == Depth::ReadData {
        work.read_packs(progress)?;
    }
    for snapshot in archive.snapshots()? {
        work.snapshot(&snapshot);
    }
    Ok(work.checked)
}

struct Work<'a> {
    archive: &'a Arc<Archive>,
    /// The session keys that are there.
    keys: HashSet<Digest>,
    /// Bad copies: pack and offset; a missing pack has none.
    bad: BTreeMap<Digest, BadPack>,
    /// Trees with everything below them, and the link table if they need one.
    clean: HashSet<(ChunkId, Option<ChunkId>)>,
    checked: Checked,
}

enum BadPack {
    Missing,
    Chunks(BTreeSet<u32>),
}

/// What is below a folder.
struct Below {
    is_clean: bool,
    has_links: bool,
}

impl Work<'_> {
    fn compare_packs(&mut self, listed: &HashMap<Digest, u64>) {
        let packs = self.archive.packs();
        self.checked.report.packs = packs.len() as u64;
        for pack in packs {
            if listed.get(&pack).copied() != self.size(&pack) {
                self.bad_pack(pack, BadPack::Missing);
            }
        }
    }

    fn size(&self, pack: &Digest) -> Option<u64> {
        self.archive.places.size_of(pack)
    }

    fn bad_pack(&mut self, pack: Digest, bad: BadPack) {
        self.checked
            .report
            .bad_objects
            .insert(ObjectName::Pack(pack).to_string());
        self.checked.bad_packs.insert(pack);
        self.bad.insert(pack, bad);
    }

    /// Reads every chunk. The index is asked for some packs at a time, of which each worker takes the next.
    fn read_packs(&mut self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<(), ArchiveError> {
        let packs: Vec<Digest> = self
            .archive
            .packs()
            .into_iter()
            .filter(|pack| !self.bad.contains_key(pack))
            .collect();
        let total: u64 = packs.iter().filter_map(|pack| self.size(pack)).sum();
        for group in packs.chunks(PACKS_AT_ONCE) {
            let chunks = self.archive.places.chunks_of(group)?;
            for (pack, bad) in self.read_group(&chunks, &|bytes| progress(bytes, total)) {
                self.bad_pack(pack, BadPack::Chunks(bad));
            }
            for pack in &chunks {
                self.checked.report.chunks_read += pack.chunks.len() as u64;
                self.checked.report.bytes_read += pack.size;
            }
        }
        Ok(())
    }

    fn read_group(
        &self,
        packs: &[PackedChunks],
        progress: &(dyn Fn(u64) + Sync),
    ) -> BTreeMap<Digest, BTreeSet<u32>> {
        let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let bad = self.read_pack(pack);
                        if !bad.is_empty() {
                            found.lock().insert(pack.pack, bad);
                        }
                        progress(pack.size);
                    }
                });
            }
        });
        found.into_inner()
    }

    /// The offsets of the chunks that do not open.
    fn read_pack(&self, pack: &PackedChunks) -> BTreeSet<u32> {
        let mut chunks: Vec<_> = pack.chunks.iter().collect();
        chunks.sort_by_key(|chunk| chunk.offset);
        let is_bad = |chunk: &&&PackedChunk| {
            let place = Location {
                pack: pack.pack,
                offset: chunk.offset,
                stored: chunk.stored_length,
                raw: chunk.raw_length,
                key: chunk.key,
                kind: chunk.kind,
            };
            self.archive.load_stored(&chunk.id, &place).is_err()
        };
        chunks
            .iter()
            .filter(is_bad)
            .map(|chunk| chunk.offset)
            .collect()
    }

    fn snapshot(&mut self, snapshot: &Snapshot) {
        self.checked.report.snapshots += 1;
        let name = format!("{}/{}", snapshot.device, snapshot.folder);
        match self.archive.load_commit(&snapshot.name) {
            Ok(commit) => {
                let tree = SnapshotTree::new(Arc::clone(self.archive) as _, commit);
                let root = tree.root().clone();
                self.folder(&tree, &name, &root, &mut Vec::new());
            }
            Err(error) => {
                let why = error.to_string();
                self.checked
                    .report
                    .bad_objects
                    .insert(snapshot.name.to_string());
                self.checked.report.bad_snapshots.push(Damage {
                    snapshot: name,
                    path: "/".to_owned(),
                    why,
                });
            }
        }
    }

    /// Depth of recursion is the depth of folders, at a few hundred bytes each.
    fn folder(
        &mut self,
        tree: &SnapshotTree,
        snapshot: &str,
        folder: &Inode,
        path: &mut Vec<u8>,
    ) -> Below {
        let Body::Directory { tree: Some(root) } = &folder.body else {
            return Below {
                is_clean: true,
                has_links: false,
            };
        };
        let links = tree.commit().links.as_ref().map(|links| links.id);
        if self.clean.contains(&(root.id, None)) {
            return Below {
                is_clean: true,
                has_links: false,
            };
        }
        if self.clean.contains(&(root.id, links)) {
            return Below {
                is_clean: true,
                has_links: true,
            };
        }
        let mut below = Below {
            is_clean: true,
            has_links: false,
        };
        for entry in tree.entries(folder) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    below.is_clean = false;
                    self.name(
                        snapshot,
                        path,
                        &format!("some of this folder's entries are lost: {error}"),
                    );
                    self.lose(&error);
                    continue;
                }
            };
            let length = path.len();
            walk::join(path, &entry.name);
            let is_linked = matches!(entry.target, Target::Linked { .. });
            let inner = self.entry(tree, snapshot, entry.target, path);
            path.truncate(length);
            below.is_clean &= inner.is_clean;
            below.has_links |= inner.has_links || is_linked;
        }
        if below.is_clean {
            self.clean
                .insert((root.id, links.filter(|_| below.has_links)));
        }
        below
    }

    fn entry(
        &mut self,
        tree: &SnapshotTree,
        snapshot: &str,
        target: Target,
        path: &mut Vec<u8>,
    ) -> Below {
        let found = match tree.inode(target) {
            Ok(found) => found,
            Err(error) => {
                self.name(snapshot, path, &error.to_string());
                self.lose(&error);
                return Below {
                    is_clean: false,
                    has_links: true,
                };
            }
        };
        if found.inode.attributes.kind == FileKind::Directory {
            return self.folder(tree, snapshot, &found.inode, path);
        }
        self.checked.report.files += 1;
        let problem = match &found.inode.body {
            Body::Regular { size, list, .. } => self.content(tree, *size, list),
            _ => None,
        };
        if let Some(why) = &problem {
            self.name(snapshot, path, why);
        }
        Below {
            is_clean: problem.is_none(),
            has_links: false,
        }
    }

    /// What is wrong with a file's content.
    fn content(&mut self, tree: &SnapshotTree, size: u64, list: &ListRef) -> Option<String> {
        let mut lost = 0;
        let mut end = 0;
        for piece in crate::list::pieces_from(&**tree.source(), list, 0) {
            match piece {
                Ok((offset, piece)) => {
                    end = offset + piece.length();
                    if let Piece::Chunk { id, length } = piece
                        && !self.has_copy(&id, length)
                    {
                        lost += 1;
                        self.checked.lost.insert((id, ChunkKind::Data.to_u8()));
                    }
                }
                Err(error) => {
                    self.lose(&error);
                    return Some(error.to_string());
                }
            }
        }
        if end > size {
            return Some("its pieces are longer than the file".to_owned());
        }
        (lost > 0).then(|| format!("{lost} of its chunks are missing or damaged"))
    }

    fn has_copy(&self, id: &ChunkId, length: u32) -> bool {
        let is_good = |place: &Location| {
            place.kind == ChunkKind::Data
                && place.raw == length
                && self.keys.contains(&place.key)
                && match self.bad.get(&place.pack) {
                    None => true,
                    Some(BadPack::Missing) => false,
                    Some(BadPack::Chunks(offsets)) => !offsets.contains(&place.offset),
                }
        };
        // An index that does not answer has no copies; the report then names everything.
        self.archive
            .locate(id)
            .is_ok_and(|places| places.iter().any(is_good))
    }

    fn lose(&mut self, error: &LoadError) {
        if let LoadError::Missing { kind, id } | LoadError::Damaged { kind, id, .. } = error {
            self.checked.lost.insert((*id, kind.to_u8()));
        }
        if let LoadError::Damaged {
            object: Some(object),
            ..
        } = error
        {
            self.checked.report.bad_objects.insert(object.clone());
        }
    }

    fn name(&mut self, snapshot: &str, path: &[u8], why: &str) {
        let report = &mut self.checked.report;
        report.damaged_paths += 1;
        if report.damage.len() < NAMED_AT_MOST {
            let (snapshot, path, why) = (snapshot.to_owned(), walk::printed(path), why.to_owned());
            report.damage.push(Damage {
                snapshot,
                path,
                why,
            });
        }
    }
}
