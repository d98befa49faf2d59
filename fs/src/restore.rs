//! Restoring from a snapshot into a folder, without the mount.
//!
//! ```text
//! walker: folders, names, filters -> batches -> lots of one folder or a few -> workers, one a core:
//!         load -> temporary name -> owner, attributes, mode, times -> real name
//! ```
//!
//! One thread goes through the tree, a page at a time, and asks the archive for a batch of files before
//! it hands them over; a large file asks for its own chunks ahead. What is in memory: one batch, a
//! short queue, a chunk for each worker, and the path of each file with several names.
//!
//! Nothing that stands in the target is touched, unless overwriting is asked for; a file gets its name
//! when it is whole. If we die, there are files that are whole, folders that have not got their mode and
//! times yet, and at most one `.holdfast-restore-…` a worker. A file that fails is named, and the rest
//! goes on.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use holdfast_crypto::ChunkKind;

use crate::chunks::LoadError;
use crate::format::{Body, Entry, FileKind, Inode, ListRef, Piece};
use crate::walk::{self, FolderEntries, SnapshotSource, SnapshotTree, WalkError};

mod attributes;
mod file;
mod filter;
mod folder;
mod links;
mod report;
#[cfg(test)]
mod tests;

pub use file::{ContentError, read_content};
pub use filter::{Filter, PatternError, Verdict};
pub use report::{Failure, RestoreReport};

use file::{FileError, Manner};
use folder::{Folder, Refusal};
use links::{LinkKey, Links, Role, Waiting};
use report::Shared;

/// What to restore: one snapshot, or a part of it.
#[derive(Clone)]
pub struct Selected {
    /// The snapshot.
    pub tree: SnapshotTree,
    /// A path in it. The top, or a path that ends in `/`: what is in that folder goes into the target.
    /// Any other: it goes into the target under its own name.
    pub path: Vec<u8>,
}

/// How to restore.
#[derive(Clone, Default)]
pub struct RestoreOptions {
    /// What of it.
    pub filter: Filter,
    /// Replace files that are there. Folders are never replaced.
    pub overwrite: bool,
    /// Write nothing; report what would be done.
    pub dry_run: bool,
    /// Read each file back from the disk and compare.
    pub verify: bool,
    /// Worker threads; 0 = one a core.
    pub threads: usize,
}

/// Why it ended before everything was tried.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Stopped {
    /// The target is full.
    #[error("the target has no space left; free some and run the command again")]
    NoSpace,
    /// The store is away.
    #[error("{0}; run the command again when it answers")]
    Store(LoadError),
}

/// A restore could not begin, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A path is not in the snapshot.
    #[error(transparent)]
    Path(#[from] WalkError),
    /// The target cannot be used.
    #[error("{target} cannot be used as the target: {source}")]
    Target {
        /// The target.
        target: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ended early.
    #[error("{why} ({} files were restored before)", report.files)]
    Stopped {
        /// What was done by then.
        report: Box<RestoreReport>,
        /// Why.
        why: Stopped,
    },
}

/// Files in one batch at the most.
const BATCH_FILES: usize = 128;
/// Bytes that are asked for ahead, together.
const AHEAD_BYTES: u64 = 18 << 20;
/// A worker takes so many files at once, or so many bytes: neighbours, because two workers that make
/// files in one folder wait for each other in the kernel (a tenth of the time, measured).
const LOT_FILES: usize = 32;
const LOT_BYTES: u64 = 1 << 20;
/// Lots between the walker and the workers.
const LOTS: usize = 4;

/// Restores what is selected into `target`. `progress` is told the bytes that were written.
pub fn restore(
    selected: &[Selected],
    target: &Path,
    options: RestoreOptions,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<RestoreReport, RestoreError> {
    let found: Vec<Found> = selected
        .iter()
        .map(find)
        .collect::<Result<_, WalkError>>()?;
    let failed = |source| RestoreError::Target {
        target: target.display().to_string(),
        source,
    };
    let opened = folder::open_target(target, options.dry_run).map_err(failed)?;
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        threads => threads,
    };
    raise_open_files();
    let shared = Arc::new(Shared::new(options));
    let whole = match found.as_slice() {
        [
            Found {
                is_contents: true,
                inode,
                ..
            },
        ] => Some(inode.clone()),
        _ => None,
    };
    let (top, file) = match opened {
        Some((file, is_new)) => {
            let copy = file.try_clone().map_err(failed)?;
            let inode = whole.filter(|_| is_new || shared.options.overwrite);
            (Folder::top(Arc::clone(&shared), file, inode), Some(copy))
        }
        None => (Folder::absent(Arc::clone(&shared)), None),
    };
    let run = Run {
        shared: Arc::clone(&shared),
        links: Links::default(),
        top: file.as_ref().map(std::os::fd::AsFd::as_fd),
        manner: Manner {
            overwrite: shared.options.overwrite,
            verify: shared.options.verify,
            ahead_bytes: AHEAD_BYTES / (threads as u64 + 1),
        },
        progress,
    };
    std::thread::scope(|scope| {
        let (sender, lots) = bounded::<Vec<Job>>(LOTS);
        for _ in 0..threads {
            let (lots, run) = (lots.clone(), &run);
            scope.spawn(move || run.work(&lots));
        }
        drop(lots);
        let mut walker = Walker {
            run: &run,
            sender,
            batch: Vec::new(),
            batch_bytes: 0,
        };
        for (number, found) in found.into_iter().enumerate() {
            walker.walk(number, found, &top);
        }
        walker.hand_over();
        drop(top);
    });
    match shared.finish() {
        (report, None) => Ok(report),
        (report, Some(why)) => Err(RestoreError::Stopped {
            report: Box::new(report),
            why,
        }),
    }
}

/// How many bytes there are to restore, for a progress bar; filters are not counted in.
pub fn total_bytes(selected: &[Selected]) -> Result<u64, WalkError> {
    let sizes = selected
        .iter()
        .map(|selected| Ok(bytes_of(&find(selected)?.inode)));
    sizes.sum()
}

fn bytes_of(inode: &Inode) -> u64 {
    match &inode.body {
        Body::Directory { tree } => tree.as_ref().map_or(0, |tree| tree.totals.bytes),
        body => body.size(),
    }
}

struct Found {
    tree: SnapshotTree,
    path: Vec<u8>,
    inode: Inode,
    is_linked: bool,
    is_contents: bool,
}

fn find(selected: &Selected) -> Result<Found, WalkError> {
    let found = selected.tree.find(&selected.path)?;
    let mut path = Vec::new();
    walk::components(&selected.path).for_each(|name| walk::join(&mut path, name));
    let is_folder = found.inode.attributes.kind == FileKind::Directory;
    let wants_contents = path.is_empty() || selected.path.ends_with(b"/");
    if wants_contents && !is_folder {
        return Err(WalkError::NotAFolder {
            path: walk::printed(&path),
        });
    }
    Ok(Found {
        tree: selected.tree.clone(),
        path,
        inode: found.inode,
        is_linked: found.links > 1,
        is_contents: wants_contents,
    })
}

/// Each folder under way holds a descriptor.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it, very deep trees are refused by the system and named.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// A file to restore.
struct Job {
    source: Arc<dyn SnapshotSource>,
    folder: Arc<Folder>,
    name: Vec<u8>,
    inode: Inode,
    link: Option<LinkKey>,
}

struct Run<'a> {
    shared: Arc<Shared>,
    links: Links,
    top: Option<BorrowedFd<'a>>,
    manner: Manner,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Run<'_> {
    fn work(&self, lots: &Receiver<Vec<Job>>) {
        for job in lots.iter().flatten() {
            // A queue that is stopped is emptied, so that the walker does not wait for it.
            if !self.shared.is_stopped() {
                self.restore(job);
            }
        }
    }

    fn restore(&self, mut job: Job) {
        loop {
            let is_made = self.restore_one(&job);
            let Some(key) = job.link else { return };
            if is_made {
                let path = walk::joined(&job.folder.path, &job.name);
                for waiting in self.links.made(key, path.clone()) {
                    self.link(&waiting, &path);
                }
                return;
            }
            match self.links.failed(key) {
                Some(Waiting { folder, name }) => (job.folder, job.name) = (folder, name),
                None => return,
            }
        }
    }

    fn restore_one(&self, job: &Job) -> bool {
        let path = walk::joined(&job.folder.path, &job.name);
        let restored = self.try_one(job);
        match restored {
            Ok(lost) => {
                self.count(&job.inode);
                self.shared.lost(&path, lost);
                true
            }
            Err(FileError::Target(Refusal::WouldBeMade)) => {
                self.count(&job.inode);
                true
            }
            Err(error) => {
                if let Some(why) = error.stops() {
                    self.shared.stop(why);
                }
                match error {
                    FileError::Target(refusal) => self.shared.refuse(&path, &refusal),
                    FileError::Load(error) => self.shared.fail(&path, error),
                    FileError::Other(why) => self.shared.fail(&path, why),
                }
                false
            }
        }
    }

    fn try_one(&self, job: &Job) -> Result<attributes::Lost, FileError> {
        let folder = job.folder.open().map_err(FileError::Target)?;
        self.check_free(folder, &job.name)?;
        if self.shared.options.dry_run {
            return Err(FileError::Target(Refusal::WouldBeMade));
        }
        file::restore(
            &*job.source,
            folder,
            &job.name,
            &job.inode,
            self.manner,
            self.progress,
        )
    }

    /// Looks before loading anything; what appears later is refused when the file gets its name.
    fn check_free(&self, folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), FileError> {
        use rustix::fs::{AtFlags, FileType};
        match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(stat) => {
                let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                let gives_way = self.manner.overwrite && !is_folder;
                if gives_way {
                    Ok(())
                } else {
                    Err(FileError::Target(Refusal::Exists))
                }
            }
        }
    }

    fn link(&self, waiting: &Waiting, path: &[u8]) {
        let linked = (|| {
            let folder = waiting.folder.open()?;
            match self.top {
                Some(top) if !self.shared.options.dry_run => {
                    links::link(top, path, folder, &waiting.name, self.manner.overwrite)
                }
                _ => Err(Refusal::WouldBeMade),
            }
        })();
        match linked {
            Ok(()) | Err(Refusal::WouldBeMade) => {
                self.shared.count(|report| report.hard_links += 1)
            }
            Err(refusal) => self
                .shared
                .refuse(&walk::joined(&waiting.folder.path, &waiting.name), &refusal),
        }
    }

    fn count(&self, inode: &Inode) {
        let verified = u64::from(self.manner.verify && !self.shared.options.dry_run);
        self.shared.count(|report| match inode.attributes.kind {
            FileKind::Regular => {
                report.files += 1;
                report.bytes += inode.body.size();
                report.verified += verified;
            }
            _ => report.others += 1,
        });
    }
}

struct Walker<'a, 'r> {
    run: &'a Run<'r>,
    sender: Sender<Vec<Job>>,
    batch: Vec<Job>,
    batch_bytes: u64,
}

/// A folder that is being walked.
struct Level<'a> {
    entries: FolderEntries<'a>,
    folder: Arc<Folder>,
    /// In the snapshot.
    path: Vec<u8>,
    verdict: Verdict,
}

impl Walker<'_, '_> {
    fn walk(&mut self, number: usize, found: Found, top: &Arc<Folder>) {
        let Found {
            tree,
            path,
            inode,
            is_linked,
            is_contents,
        } = found;
        let filter = &self.run.shared.options.filter;
        let mut above = Vec::new();
        let mut verdict = filter.start();
        for name in walk::components(&path) {
            walk::join(&mut above, name);
            verdict = filter.judge(verdict, &above);
        }
        if verdict == Verdict::Skip {
            return;
        }
        let mut levels = Vec::new();
        let name = walk::components(&path).last().unwrap_or_default().to_vec();
        if is_contents {
            levels.push(Level {
                entries: tree.entries(&inode),
                folder: Arc::clone(top),
                path,
                verdict,
            });
        } else if inode.attributes.kind == FileKind::Directory {
            let folder = top.child(name, inode.clone());
            levels.extend(Self::enter(&tree, folder, &inode, path, verdict));
        } else if verdict == Verdict::Take {
            let link = is_linked.then_some((number, inode.file));
            self.take(&tree, Arc::clone(top), name, inode, link);
        }
        while let Some(level) = levels.last_mut() {
            if self.run.shared.is_stopped() {
                return;
            }
            match level.entries.next() {
                None => drop(levels.pop()),
                Some(Err(error)) => self.run.shared.fail(&level.folder.path, error),
                Some(Ok(entry)) => {
                    let next = self.meet(number, &tree, level, entry);
                    levels.extend(next);
                }
            }
        }
    }

    fn meet<'t>(
        &mut self,
        number: usize,
        tree: &'t SnapshotTree,
        level: &Level<'_>,
        entry: Entry,
    ) -> Option<Level<'t>> {
        let path = walk::joined(&level.path, &entry.name);
        let verdict = self.run.shared.options.filter.judge(level.verdict, &path);
        let is_folder = entry.kind() == FileKind::Directory;
        if verdict == Verdict::Skip || (verdict == Verdict::Search && !is_folder) {
            return None;
        }
        let Entry { name, target } = entry;
        let found = match tree.inode(target) {
            Ok(found) => found,
            Err(error) => {
                self.run
                    .shared
                    .fail(&walk::joined(&level.folder.path, &name), error);
                return None;
            }
        };
        if is_folder {
            let folder = level.folder.child(name, found.inode.clone());
            return Self::enter(tree, folder, &found.inode, path, verdict);
        }
        let link = (found.links > 1).then_some((number, found.inode.file));
        self.take(tree, Arc::clone(&level.folder), name, found.inode, link);
        None
    }

    /// A folder that is only searched is made when something in it is taken.
    fn enter<'t>(
        tree: &'t SnapshotTree,
        folder: Arc<Folder>,
        inode: &Inode,
        path: Vec<u8>,
        verdict: Verdict,
    ) -> Option<Level<'t>> {
        if verdict == Verdict::Take {
            match folder.open() {
                Ok(_) | Err(Refusal::WouldBeMade) => {}
                Err(_) => return None,
            }
        }
        Some(Level {
            entries: tree.entries(inode),
            folder,
            path,
            verdict,
        })
    }

    fn take(
        &mut self,
        tree: &SnapshotTree,
        folder: Arc<Folder>,
        name: Vec<u8>,
        inode: Inode,
        link: Option<LinkKey>,
    ) {
        let source = Arc::clone(tree.source());
        let first = match link {
            None => Waiting { folder, name },
            Some(key) => match self.run.links.meet(key, Waiting { folder, name }) {
                Role::First(name) => name,
                Role::Link(name, path) => return self.run.link(&name, &path),
                Role::Later => return,
            },
        };
        let Waiting { folder, name } = first;
        self.batch_bytes = self.batch_bytes.saturating_add(inode.body.size());
        self.batch.push(Job {
            source,
            folder,
            name,
            inode,
            link,
        });
        if self.batch.len() >= BATCH_FILES || self.batch_bytes >= AHEAD_BYTES / 2 {
            self.hand_over();
        }
    }

    /// Asks for the batch's chunks and gives it to the workers, folder by folder, each in the order of
    /// the packs.
    fn hand_over(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        batch.sort_by_cached_key(|job| {
            let place = first_chunk(&job.inode).and_then(|id| job.source.place(&id));
            (Arc::as_ptr(&job.folder) as usize, place)
        });
        if let Some(job) = batch.first().filter(|_| !self.run.shared.options.dry_run) {
            let wanted: Vec<_> = batch
                .iter()
                .flat_map(|job| small_chunks(&job.inode))
                .collect();
            if wanted.len() > 1 {
                job.source.prefetch(&wanted);
            }
        }
        for lot in lots(batch) {
            // Workers live until the walker's end of the queue is gone.
            if self.sender.send(lot).is_err() {
                return;
            }
        }
    }
}

/// Cuts a batch into lots. One ends where a folder does, if that is not far.
fn lots(batch: Vec<Job>) -> Vec<Vec<Job>> {
    let mut lots: Vec<Vec<Job>> = Vec::new();
    let mut bytes = 0;
    for job in batch {
        let size = job.inode.body.size();
        let fits = lots.last().is_some_and(|lot: &Vec<Job>| {
            let is_neighbour = lot
                .last()
                .is_some_and(|last| Arc::ptr_eq(&last.folder, &job.folder));
            let files = if is_neighbour {
                LOT_FILES * 2
            } else {
                LOT_FILES
            };
            lot.len() < files && size.saturating_add(bytes) <= LOT_BYTES
        });
        match lots.last_mut().filter(|_| fits) {
            Some(lot) => {
                bytes += size;
                lot.push(job);
            }
            None => {
                bytes = size;
                lots.push(vec![job]);
            }
        }
    }
    lots
}

fn inline_chunks(inode: &Inode) -> impl Iterator<Item = holdfast_crypto::ChunkId> + '_ {
    let pieces: &[Piece] = match &inode.body {
        Body::Regular {
            list: ListRef::Inline(pieces),
            ..
        } => pieces,
        _ => &[],
    };
    pieces.iter().filter_map(|piece| match piece {
        Piece::Chunk { id, .. } => Some(*id),
        Piece::Hole { .. } => None,
    })
}

fn first_chunk(inode: &Inode) -> Option<holdfast_crypto::ChunkId> {
    inline_chunks(inode).next()
}

/// A file with more content asks for it itself, when it is its turn.
fn small_chunks(inode: &Inode) -> Vec<(ChunkKind, holdfast_crypto::ChunkId)> {
    match inode.body.size() {
        0..=4_194_304 => inline_chunks(inode)
            .map(|id| (ChunkKind::Data, id))
            .collect(),
        _ => Vec::new(),
    }
}
