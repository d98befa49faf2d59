//! Does to `current/` what the walk found, in its order, as soon as the chunks are stored.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::read::{ReadError, ReadFile};
use super::source::{self, Owners, SourceId};
use super::walk::{Item, Step};
use super::{BackupError, BackupProgress, Problem, Shared, TELL_EVERY};
use crate::filesystem::{Filesystem, FsError, Imported, ImportedBody, ImportedName, ImportedNode};
use crate::format::{FileKind, FileNo, ROOT_FILE};
use crate::packer::Ticket;

/// So many items wait for their packs, then open packs are closed early.
pub(super) const WAITING: usize = 65_536;
/// Files brought in by one record of the log.
const BATCH: usize = 64;
/// Files changed and in no commit that stands; beyond that the commit is waited for.
const CHANGED_FILES: usize = 80_000;
/// A commit is asked for that often: what an interrupted backup brought in has a place in the store.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(600);

/// A step that waits until what it refers to is stored.
struct Ready {
    step: Step,
    /// Packs that have to be stored before.
    tickets: Vec<Ticket>,
}

/// See the module.
pub(super) struct Applier<'a> {
    filesystem: &'a Filesystem,
    shared: &'a Shared<'a>,
    owners: Owners,
    /// Folders from `current/` down to where we are, and which of them are new.
    folders: Vec<(FileNo, bool)>,
    /// Files with several names that came before.
    links: HashMap<SourceId, FileNo>,
    linked: HashSet<FileNo>,
    /// The same, kept findable.
    held: Vec<FileNo>,
    waiting: VecDeque<Ready>,
    batch: Vec<(ImportedName, PathBuf, Option<SourceId>)>,
    checkpoint: Instant,
}

impl<'a> Applier<'a> {
    pub(super) fn new(filesystem: &'a Filesystem, shared: &'a Shared<'a>) -> Self {
        Applier {
            filesystem,
            shared,
            owners: Owners::load(),
            folders: vec![(ROOT_FILE, false)],
            links: HashMap::new(),
            linked: HashSet::new(),
            held: Vec::new(),
            waiting: VecDeque::new(),
            batch: Vec::new(),
            checkpoint: Instant::now(),
        }
    }

    /// Works until the walk has ended and everything it found is in `current/`.
    pub(super) fn run(
        mut self,
        items: &Receiver<Item>,
        tell: &dyn Fn(BackupProgress),
    ) -> Result<(), BackupError> {
        let mut told = Instant::now();
        loop {
            match items.recv_timeout(TELL_EVERY) {
                Ok(item) => self.take(item)?,
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if told.elapsed() >= TELL_EVERY {
                tell(self.shared.progress(false));
                told = Instant::now();
            }
            self.apply_stored()?;
            if self.waiting.len() >= WAITING {
                self.flush(tell)?;
            }
        }
        self.flush(tell)
    }

    /// Waits for an item's file to be read. Of how it was read nothing is kept: tens of thousands may wait for one pack.
    fn take(&mut self, item: Item) -> Result<(), BackupError> {
        let (step, tickets) = match item {
            Item::Step(step) => (step, Vec::new()),
            Item::File {
                name,
                path,
                result,
                link,
            } => match result.recv() {
                Ok(Ok(file)) => {
                    if file.is_torn {
                        let path = path.display().to_string();
                        self.shared.count(|report| report.torn.push(path));
                    }
                    let (node, tickets) = self.node_of(file);
                    let node = Box::new(node);
                    let step = Step::Node {
                        name,
                        path,
                        node,
                        link,
                    };
                    (step, tickets)
                }
                Ok(Err(ReadError::Source(error))) => {
                    // What an earlier backup kept of it stays.
                    self.shared.unreadable(&path, error);
                    return Ok(());
                }
                Ok(Err(ReadError::Chunk(error))) => return Err(error.into()),
                Ok(Err(ReadError::Stopped)) | Err(_) => return Err(BackupError::Stopped),
            },
        };
        self.waiting.push_back(Ready { step, tickets });
        Ok(())
    }

    fn node_of(&self, file: ReadFile) -> (ImportedNode, Vec<Ticket>) {
        let keychain = self.filesystem.archive.keychain();
        let fingerprint = match file.is_torn {
            // It is read again the next time.
            true => source::fingerprint_to_keep(keychain, &file.stat, std::time::UNIX_EPOCH),
            false => source::fingerprint_to_keep(keychain, &file.stat, file.looked),
        };
        let node = ImportedNode {
            attributes: source::attributes(&self.owners, &file.stat, FileKind::Regular),
            xattrs: file.xattrs,
            fingerprint,
            body: ImportedBody::File {
                size: file.size,
                allocated: file.allocated,
                list: file.list,
            },
        };
        (node, file.tickets)
    }

    /// Has everything stored that was read, and applies it.
    fn flush(&mut self, tell: &dyn Fn(BackupProgress)) -> Result<(), BackupError> {
        let archive = &self.filesystem.archive;
        while !self.waiting.iter().all(|ready| self.is_stored(ready)) {
            match archive.flush(Some(Instant::now() + TELL_EVERY)) {
                Ok(()) | Err(crate::packer::PackerError::TimedOut) => {
                    tell(self.shared.progress(false))
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.apply_stored()
    }

    fn is_stored(&self, ready: &Ready) -> bool {
        ready
            .tickets
            .iter()
            .all(|ticket| self.filesystem.archive.packer().is_stored(*ticket))
    }

    fn apply_stored(&mut self) -> Result<(), BackupError> {
        while let Some(ready) = self.waiting.front()
            && self.is_stored(ready)
            && let Some(ready) = self.waiting.pop_front()
        {
            self.apply(ready.step)?;
        }
        self.apply_batch()?;
        if self.checkpoint.elapsed() >= CHECKPOINT_EVERY {
            self.checkpoint = Instant::now();
            self.filesystem.commits.ask_checkpoint();
        }
        Ok(())
    }

    fn apply(&mut self, step: Step) -> Result<(), BackupError> {
        if !matches!(step, Step::Node { .. }) || self.batch.len() >= BATCH {
            self.apply_batch()?;
        }
        let (folder, _) = *self.folders.last().expect("current/ itself is never left");
        match step {
            Step::Node {
                name,
                path,
                node,
                link,
            } => {
                let name = ImportedName {
                    name,
                    node: *node,
                    is_linked: link.is_some(),
                };
                self.batch.push((name, path, link));
            }
            Step::Enter { name, node } => {
                let made = self.filesystem.import_folder(folder, &name, &node)?;
                self.folders.push((made.file, made.is_new));
            }
            Step::Leave { node, path } => {
                let (folder, is_new) = self
                    .folders
                    .pop()
                    .expect("each folder that is left was entered");
                let done = match node.filter(|_| !is_new) {
                    Some(node) => self.named(&path, |filesystem| {
                        filesystem.import_attributes(folder, &node)
                    }),
                    None => Ok(()),
                };
                self.filesystem.import_close(folder);
                done?;
            }
            Step::Same { name, file, link } => self.keep_link(folder, &name, file, link)?,
            Step::Link { name, path, to } => match self.links.get(&to).copied() {
                Some(file) => {
                    // A name made by link(2) changes its folder's times: they are set when it is left.
                    if let Some((_, is_new)) = self.folders.last_mut() {
                        *is_new = false;
                    }
                    self.named(&path, |filesystem| {
                        filesystem.import_link(folder, &name, file)
                    })?;
                    self.shared.count(|report| report.copied += 1);
                }
                // The first name of this file could not be read; neither can this one.
                None => self.problem(&path, "another name of this file could not be read"),
            },
            Step::Remove { name, path } => {
                let mut removed = 0;
                self.named(&path, |filesystem| {
                    removed = filesystem.import_remove(folder, &name)?;
                    Ok(())
                })?;
                self.shared.count(|report| report.removed += removed);
            }
        }
        Ok(())
    }

    fn apply_batch(&mut self) -> Result<(), BackupError> {
        // Not only when all that is stored was applied: one pack can hold several times so many.
        self.filesystem.import_pause(CHANGED_FILES)?;
        if self.batch.is_empty() {
            return Ok(());
        }
        let (folder, _) = *self.folders.last().expect("current/ itself is never left");
        let mut batch = std::mem::take(&mut self.batch);
        let (names, rest): (Vec<_>, Vec<_>) = batch
            .drain(..)
            .map(|(name, path, link)| (name, (path, link)))
            .unzip();
        let imported = self.filesystem.import_files(folder, &names, &self.linked)?;
        for ((name, (path, link)), imported) in names.into_iter().zip(rest).zip(imported) {
            let file = match imported {
                Imported::Is(file) => Some(file),
                Imported::FolderInTheWay => self.replace_folder(folder, &name, &path)?,
            };
            let Some(file) = file else { continue };
            self.shared.count(|report| report.copied += 1);
            if let Some(link) = link {
                self.keep_link(folder, &name.name, file, link)?;
            }
        }
        Ok(())
    }

    /// Other names of this file may come.
    fn keep_link(
        &mut self,
        folder: FileNo,
        name: &[u8],
        file: FileNo,
        link: SourceId,
    ) -> Result<(), BackupError> {
        if self.filesystem.import_open(folder, name)? == Some(file) {
            self.held.push(file);
        }
        self.links.insert(link, file);
        self.linked.insert(file);
        Ok(())
    }

    /// Where the source has a file, an earlier backup may have brought a folder.
    fn replace_folder(
        &self,
        folder: FileNo,
        name: &ImportedName,
        path: &std::path::Path,
    ) -> Result<Option<FileNo>, BackupError> {
        let removed = self.filesystem.import_remove(folder, &name.name)?;
        self.shared.count(|report| report.removed += removed);
        let again =
            self.filesystem
                .import_files(folder, std::slice::from_ref(name), &self.linked)?;
        match again.as_slice() {
            [Imported::Is(file)] => Ok(Some(*file)),
            _ => {
                self.problem(path, "a folder of this name with files put there by hand stands in current/; move it away");
                Ok(None)
            }
        }
    }

    /// What concerns one file only is named, and the rest goes on.
    fn named(
        &self,
        path: &std::path::Path,
        work: impl FnOnce(&Filesystem) -> Result<(), FsError>,
    ) -> Result<(), BackupError> {
        match work(self.filesystem) {
            Err(
                error @ (FsError::TooManyLinks
                | FsError::NotEmpty
                | FsError::IsDirectory
                | FsError::NotFound),
            ) => {
                self.problem(path, &error.to_string());
                Ok(())
            }
            done => Ok(done?),
        }
    }

    fn problem(&self, path: &std::path::Path, why: &str) {
        let problem = Problem {
            path: path.display().to_string(),
            why: why.to_owned(),
        };
        self.shared.count(|report| report.unreadable.push(problem));
    }
}

impl Drop for Applier<'_> {
    fn drop(&mut self) {
        let folders = self.folders.iter().map(|(folder, _)| *folder);
        folders
            .chain(self.held.drain(..))
            .for_each(|file| self.filesystem.import_close(file));
    }
}
