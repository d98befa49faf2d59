//! Checking with the key: every reference of every kept snapshot, and on demand every chunk.
//!
//! 1. What kept commits need, by their refs, against what the store lists; the packs that the index
//!    knows against their sizes.
//! 2. With [`Depth::ReadData`]: every pack is read, past all caches, every chunk opened and its id
//!    computed again; every index and key object is read. What is bad is written down for later
//!    ([`crate::archive::bad_copies`]).
//! 3. The trees of all snapshots and of all other kept commits: every tree and list chunk is loaded,
//!    and for every chunk there must be a copy in the store that is not bad. A folder that was found
//!    clean is not entered again for the next snapshot; one that is not is, so that every path that
//!    uses something damaged is named.
//!
//! Objects that others have replaced (compact, heal) count neither as there nor as missing. Nothing in
//! the store is changed.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use holdfast_backend::layout::ObjectName;
use holdfast_backend::marks::CommitName;
use holdfast_backend::store::StoreErrorKind;
use holdfast_crypto::{ChunkId, ChunkKind, Digest};
use serde::Serialize;

use crate::archive::{Archive, ArchiveError};
use crate::chunks::LoadError;
use crate::format::{Body, FileKind, Inode, ListRef, Piece, Target};
use crate::walk::{self, SnapshotTree};

pub(crate) mod copies;
mod read;
pub(crate) mod stock;
#[cfg(test)]
pub(crate) mod tests;

use copies::Copies;
use stock::Stock;

/// So many paths are named; the rest is counted.
const NAMED_AT_MOST: usize = 10_000;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Snapshots that were gone through.
    pub snapshots: u64,
    /// Packs that the index knows.
    pub packs: u64,
    /// Chunks that were read and computed again.
    pub chunks_read: u64,
    /// Bytes of their packs.
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
    /// Why it is not known what the commits need, if so.
    pub unjudged: Option<String>,
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
        self.bad_objects.is_empty()
            && self.bad_snapshots.is_empty()
            && self.damaged_paths == 0
            && self.unjudged.is_none()
    }
}

/// Chunks that no copy gives, and what they are chunks of.
pub type Lost = BTreeSet<(ChunkId, ChunkKind)>;

/// What a check found, and what is needed to mend it.
pub struct Checked {
    /// For a person and for a program.
    pub report: CheckReport,
    /// The chunks that kept commits need and no copy gives.
    pub lost: Lost,
    /// Packs that are needed and missing, or have bad bytes.
    pub bad_packs: BTreeSet<Digest>,
    /// Index objects that are needed and missing, or cannot be read.
    pub bad_indexes: BTreeSet<Digest>,
    /// Key objects that are needed and missing, or damaged.
    pub bad_keys: BTreeSet<Digest>,
    pub(crate) bad_commits: BTreeSet<CommitName>,
    pub(crate) stock: Stock,
    pub(crate) copies: Arc<Copies>,
}

/// Whether every chunk is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// References only, and what was found bad before.
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
    check_again(archive, depth, &BTreeSet::new(), progress)
}

/// The same; these key and index objects are known to be damaged.
pub(crate) fn check_again(
    archive: &Arc<Archive>,
    depth: Depth,
    damaged: &BTreeSet<ObjectName>,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Checked, ArchiveError> {
    // Packs before the listing, index objects behind it: what another device stores meanwhile is
    // neither missing nor unreadable.
    let packs = archive.packs();
    let stock = Stock::take(archive)?;
    archive.sync_index()?;
    archive.places.bad.reload();
    let mut found = Found {
        archive,
        stock,
        damaged: damaged.clone(),
        report: CheckReport {
            packs: packs.len() as u64,
            ..CheckReport::default()
        },
        unusable_packs: BTreeSet::new(),
    };
    found.compare_packs(&packs);
    if depth == Depth::ReadData {
        found.read(&packs, progress)?;
    }
    let mut work = found.finish(&packs);
    work.snapshots()?;
    Ok(work.checked)
}

/// What is known of objects, before the trees are gone through.
struct Found<'a> {
    archive: &'a Arc<Archive>,
    stock: Stock,
    damaged: BTreeSet<ObjectName>,
    report: CheckReport,
    unusable_packs: BTreeSet<Digest>,
}

impl<'a> Found<'a> {
    fn compare_packs(&mut self, packs: &[Digest]) {
        for pack in packs {
            let name = ObjectName::Pack(*pack);
            let is_whole = self.stock.size(&name) == self.archive.places.size_of(pack);
            if !is_whole || self.stock.is_replaced(&name) {
                self.unusable_packs.insert(*pack);
            }
        }
    }

    fn read(
        &mut self,
        packs: &[Digest],
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(), ArchiveError> {
        let usable = |pack: &&Digest| !self.unusable_packs.contains(pack);
        let usable: Vec<Digest> = packs.iter().filter(usable).copied().collect();
        let read = read::packs(self.archive, &usable, progress)?;
        self.report.chunks_read = read.chunks;
        self.report.bytes_read = read.bytes;
        let known = &self.archive.places.bad;
        let mut bad = read.bad;
        let unread = known.all();
        bad.extend(
            unread
                .into_iter()
                .filter(|(_, pack)| self.unusable_packs.contains(pack)),
        );
        known.replace(bad, &read.damaged);
        let needed = self.stock.needed();
        let small = |name: &&ObjectName| matches!(name, ObjectName::Index(_) | ObjectName::Key(_));
        for name in needed
            .iter()
            .filter(small)
            .filter(|name| self.stock.has(name))
        {
            match self.archive.ask(self.archive.store.get(name)) {
                Ok(_) => {}
                Err(ArchiveError::Store(error))
                    if error.is_not_found() || error.kind() == StoreErrorKind::Damaged =>
                {
                    self.damaged.insert(*name);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Puts together which objects are bad.
    fn finish(mut self, packs: &[Digest]) -> Work<'a> {
        let (archive, stock) = (self.archive, &self.stock);
        let with_bad_copies = archive.places.bad.packs();
        let mut bad_packs: BTreeSet<Digest> = packs
            .iter()
            .filter(|pack| {
                let name = ObjectName::Pack(**pack);
                // One that is gone and that nobody needs was deleted by gc.
                let is_missing = self.unusable_packs.contains(*pack) && stock.is_needed(&name);
                let is_bad = with_bad_copies.contains(*pack) && stock.has(&name);
                (is_missing || is_bad) && !stock.is_replaced(&name)
            })
            .copied()
            .collect();
        let needed = stock.needed();
        let is_gone = |name: &&ObjectName| !stock.has(name);
        let of_packs = needed
            .iter()
            .filter(|name| matches!(name, ObjectName::Pack(_)));
        bad_packs.extend(of_packs.filter(is_gone).map(ObjectName::digest));
        let bad_indexes: BTreeSet<Digest> = needed
            .iter()
            .filter(|name| matches!(name, ObjectName::Index(_)))
            .filter(|name| {
                is_gone(name)
                    || self.damaged.contains(name)
                    || !archive.places.has_object(&name.digest())
            })
            .map(ObjectName::digest)
            .collect();
        // Of keys only those count that a pack uses which is not replaced: refs name others too.
        let mut bad_keys = BTreeSet::new();
        for pack in packs {
            let name = ObjectName::Pack(*pack);
            if !stock.is_needed(&name) || stock.is_replaced(&name) {
                continue;
            }
            for key in archive
                .places
                .pack(pack)
                .iter()
                .flat_map(|facts| &*facts.keys)
            {
                let name = ObjectName::Key(*key);
                if !stock.has(&name) || self.damaged.contains(&name) {
                    bad_keys.insert(*key);
                    bad_packs.insert(*pack);
                }
            }
        }
        let report = &mut self.report;
        let objects = bad_indexes.iter().copied().map(ObjectName::Index);
        let objects = objects.chain(bad_keys.iter().copied().map(ObjectName::Key));
        let objects = objects.chain(stock.unreadable);
        report
            .bad_objects
            .extend(objects.map(|name| name.to_string()));
        // A pack whose key is lost is whole.
        let is_itself_bad = |pack: &&Digest| {
            self.unusable_packs.contains(*pack)
                || with_bad_copies.contains(*pack)
                || !stock.has(&ObjectName::Pack(**pack))
        };
        let packs = bad_packs.iter().filter(is_itself_bad);
        report
            .bad_objects
            .extend(packs.map(|pack| ObjectName::Pack(*pack).to_string()));
        report.unjudged = stock.unjudged.clone();
        let copies = Arc::new(Copies {
            archive: Arc::clone(archive),
            unusable_packs: self.unusable_packs,
            bad_keys: bad_keys.clone(),
        });
        Work {
            archive,
            clean: HashSet::new(),
            checked: Checked {
                report: self.report,
                lost: Lost::new(),
                bad_packs,
                bad_indexes,
                bad_keys,
                bad_commits: BTreeSet::new(),
                stock: self.stock,
                copies,
            },
        }
    }
}

struct Work<'a> {
    archive: &'a Arc<Archive>,
    /// Trees with everything below them, and the link table if they need one.
    clean: HashSet<(ChunkId, Option<ChunkId>)>,
    checked: Checked,
}

/// What is below a folder.
struct Below {
    is_clean: bool,
    has_links: bool,
}

impl Work<'_> {
    fn snapshots(&mut self) -> Result<(), ArchiveError> {
        let snapshots = self.archive.snapshots()?;
        let mut seen = BTreeSet::new();
        for snapshot in snapshots {
            self.checked.report.snapshots += 1;
            seen.insert(snapshot.name);
            let name = format!("{}/{}", snapshot.device, snapshot.folder);
            self.commit(snapshot.name, &name);
        }
        // Commits between snapshots; and snapshots of a device whose newest commit cannot be read.
        let judged = self.checked.stock.judged.as_ref();
        let kept = judged.map(|(_, judgement)| judgement.kept.clone());
        for commit in kept.unwrap_or_default().difference(&seen) {
            let devices = self.archive.devices();
            let Some(device) = devices.iter().find(|device| device.id == commit.device) else {
                continue;
            };
            let name = format!("{}/commit {}", device.name, commit.sequence);
            self.commit(*commit, &name);
        }
        Ok(())
    }

    fn commit(&mut self, commit: CommitName, name: &str) {
        match self.archive.load_commit(&commit) {
            Ok(found) => {
                let tree = SnapshotTree::new(Arc::clone(&self.checked.copies) as _, found);
                let root = tree.root().clone();
                self.folder(&tree, name, &root, &mut Vec::new());
            }
            Err(error) => {
                self.checked.bad_commits.insert(commit);
                let report = &mut self.checked.report;
                report
                    .bad_objects
                    .insert(ObjectName::from(commit).to_string());
                report.bad_snapshots.push(Damage {
                    snapshot: name.to_owned(),
                    path: "/".to_owned(),
                    why: error.to_string(),
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
                        && !self.checked.copies.has_piece(&id, length)
                    {
                        lost += 1;
                        self.checked.lost.insert((id, ChunkKind::Data));
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

    fn lose(&mut self, error: &LoadError) {
        if let LoadError::Missing { kind, id } | LoadError::Damaged { kind, id, .. } = error {
            self.checked.lost.insert((*id, *kind));
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
