//! Commits: what is frozen becomes trees in the store.
//!
//! One at a time, the oldest frozen view first:
//!
//! 1. freeze: the overlay becomes a layer; the log up to here is in the view;
//! 2. contents that are not lists yet are chunked (chunks straight to the packer: until the commit
//!    stands, the log has the bytes);
//! 3. chunks of the log that the view needs, or that newer content needs from the part of the log
//!    that is about to go, are given to the packer;
//! 4. folders from the deepest up, then the link table, become trees;
//! 5. `store_commit`: packs, index, refs, commit;
//! 6. `Committed` is logged, with what newer layers stand over; the commit becomes the base;
//! 7. the log is synced, then freed up to the view.
//!
//! If we die before 5 is through, the store has chunks that nothing names, and replay has the whole
//! log. Between 5 and 6 the store has a commit that the log does not know: replay starts from the
//! one before, and the next commit has the same content under the next number. Behind 6 replay
//! starts from the new commit, whether or not the log was freed.
//!
//! A failure changes nothing here: the layer stays, the reason is told in the status, and it is
//! tried again.

mod build;
mod queue;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::archive::ArchiveError;
use crate::chunks::{ChunkError, LoadError};
use crate::filesystem::{Filesystem, FsError, FsResult, StoredSnapshot};
use crate::format::{CommitKind, FileNo, Inode};
use crate::log::{LogError, RecordRef};
use crate::namespace::operation::{Moment, Operation, encode_group};
use crate::namespace::{Base, Reason, Slot, States};
use crate::replay::Committed;
use crate::snapshots::time_name;
use crate::store_commit::CommitDraft;

use build::Build;
pub use queue::Commits;

/// The overlay may have so many files before a checkpoint is made.
const OVERLAY_FILES: usize = 32_000;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A commit did not come about; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The archive or its store.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A chunk of a changed file or folder.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A folder names a file of which nothing is known: never committed.
    #[error("folder {folder} names file {file}, of which nothing is known")]
    Inconsistent {
        /// The folder.
        folder: FileNo,
        /// The file.
        file: FileNo,
    },
}

impl From<LoadError> for CommitError {
    fn from(error: LoadError) -> Self {
        CommitError::Chunk(error.into())
    }
}

impl Filesystem {
    /// Fixes the view of the drive as it is now.
    ///
    /// Of open files what was written is in the view. For a snapshot that was asked for it is in
    /// the log before, so that the snapshot outlives this process.
    pub(crate) fn freeze(&self, reason: Reason) -> FsResult<()> {
        if matches!(reason, Reason::Requested(_)) {
            self.log_everything()?;
        }
        let _logging = self.write.logging.write();
        let mut namespace = self.namespace.lock();
        if let Reason::Requested(moment) = &reason {
            self.log_rest(&mut namespace)?;
            let bytes = encode_group(&[Operation::Freeze(moment.clone())]);
            self.log.append(&RecordRef::Operation(&bytes))?;
        }
        let sequence = self.log.last_sequence();
        namespace.freeze(sequence, reason);
        self.write.frozen(sequence);
        drop(namespace);
        self.commits.wake();
        Ok(())
    }

    /// The thread that commits.
    pub(crate) fn run_commits(&self) {
        let mut pause = FIRST_PAUSE;
        while !self.commits.has_ended() {
            if self.namespace.lock().layers().is_empty() {
                if !self.wants_commit() {
                    self.commits.wait_for_work();
                    continue;
                }
                if let Err(error) = self.freeze(Reason::Checkpoint) {
                    tracing::warn!(%error, "cannot freeze a view");
                    self.commits.sleep(pause);
                    continue;
                }
            }
            match self.commit_oldest() {
                Ok(()) => {
                    self.commits.went_well();
                    pause = FIRST_PAUSE;
                    crate::memory::give_back_gaps();
                }
                Err(error) => {
                    tracing::warn!(%error, "a commit failed; it is tried again");
                    self.commits.failed(error.to_string());
                    self.commits.sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn wants_commit(&self) -> bool {
        let asked = self.commits.take_checkpoint();
        let files = self.namespace.lock().overlay_len();
        files > OVERLAY_FILES || asked && files > 0
    }

    /// Brings the oldest frozen view into the store.
    pub(crate) fn commit_oldest(&self) -> Result<(), CommitError> {
        let (states, base, sequence, next_file, reason) = {
            let namespace = self.namespace.lock();
            let Some(layer) = namespace.layers().front() else {
                return Ok(());
            };
            (
                layer.states.clone(),
                namespace.base().clone(),
                layer.sequence,
                layer.next_file,
                layer.reason.clone(),
            )
        };
        self.commits.started();
        let build = Build {
            filesystem: self,
            states: &states,
            base: &base,
        };
        let built = build.build(sequence)?;
        let next = Base {
            root: built.root.clone(),
            links: built.links,
            next_file,
        };
        if self.is_said_already(&reason, &base, &next) {
            return Ok(self.stand_on(next, &built.inodes, sequence)?);
        }
        let draft = CommitDraft {
            time: moment_of(&reason),
            kind: kind_of(&reason),
            label: label_of(&reason),
            root: built.root,
            links: built.links,
            next_file,
            totals: built.totals,
        };
        let outcome = self.archive.store_commit(draft, None)?;
        self.stand_on(next, &built.inodes, sequence)?;
        let (name, commit) = outcome.commit();
        if !matches!(reason, Reason::Checkpoint)
            && let Err(error) = self.refresh_snapshots()
        {
            tracing::debug!(%error, "the new snapshot is listed later");
            self.snapshots.refresh_soon();
        }
        // Two of one second differ by a suffix, which only the list knows.
        let listed = self.snapshots.folder_of(name.sequence);
        let named = || commit.label.clone();
        let stored = StoredSnapshot {
            name: listed
                .or_else(named)
                .unwrap_or_else(|| time_name(commit.time)),
            sequence: name.sequence,
            files: commit.totals.files,
            bytes: commit.totals.bytes,
            stored_bytes: commit.stored_bytes,
        };
        self.commits
            .stored(&reason, stored, commit.totals, commit.time);
        Ok(())
    }

    /// Whether a commit that nobody asked for would hold what the last one holds: content that was in
    /// that one while its file was open is cut once more when the file is closed.
    fn is_said_already(&self, reason: &Reason, last: &Base, next: &Base) -> bool {
        let is_same = last.root == next.root && last.links == next.links;
        match reason {
            Reason::Requested(_) => false,
            Reason::Automatic => is_same && !self.commits.has_checkpoint(),
            Reason::Checkpoint => is_same,
        }
    }

    /// The commit stands: from now on everything stands over it, here and at replay.
    fn stand_on(
        &self,
        base: Base,
        inodes: &HashMap<FileNo, Inode>,
        sequence: u64,
    ) -> Result<(), LogError> {
        let position = {
            let mut namespace = self.namespace.lock();
            let raised = namespace.raised_files();
            let raised = raised.iter().filter_map(|state| {
                let inode = inodes.get(&state.file)?.clone();
                Some(Operation::Inode {
                    parent: state.parent,
                    name: state.name.clone(),
                    links: state.links,
                    linked: state.linked,
                    inode,
                })
            });
            let raised = raised.collect();
            let committed = Committed {
                sequence,
                base: base.clone(),
                raised: namespace.raise_again(raised),
            };
            let position = self
                .log
                .append_reserved(&RecordRef::Committed(&committed.encode()))?;
            namespace.rebase(base, inodes);
            for file in inodes
                .keys()
                .filter(|file| !namespace.overlay().contains_key(file))
            {
                self.write.set_memory(*file, 0);
            }
            position
        };
        self.log.sync_to(position.sequence)?;
        self.write.release(sequence);
        self.log.release(sequence)
    }

    /// Brings what every file has in memory into the log.
    pub(crate) fn log_everything(&self) -> FsResult<()> {
        let files: Vec<FileNo> = {
            let namespace = self.namespace.lock();
            namespace.overlay().keys().copied().collect()
        };
        for file in files {
            self.log_file(file)?;
        }
        Ok(())
    }

    /// The same for what was written since, with everybody else kept out.
    fn log_rest(&self, namespace: &mut crate::namespace::Namespace) -> FsResult<()> {
        let files: Vec<(FileNo, Vec<crate::content::Unlogged>)> = namespace
            .overlay()
            .iter()
            .filter_map(|(file, slot)| match slot {
                Slot::Here(state) if state.links > 0 => Some((*file, state.content()?.unlogged())),
                _ => None,
            })
            .collect();
        for (file, unlogged) in files {
            for extent in unlogged {
                let record = RecordRef::Extent {
                    file,
                    offset: extent.offset,
                    data: &extent.bytes,
                };
                let position = self.log.append(&record)?;
                if let Some(content) = namespace
                    .state_mut(file)
                    .and_then(|state| state.content_mut())
                {
                    content.mark_logged(&extent, position);
                }
            }
            self.log_times(namespace, file)?;
        }
        Ok(())
    }

    /// Waits until everything done before is in the store.
    pub fn flush_all(&self, deadline: Option<Instant>) -> FsResult<()> {
        // A snapshot is done when it is listed, which is a moment after its view has left the layers.
        let asked = self.commits.pending_tickets();
        if self.namespace.lock().overlay_len() > 0 {
            self.freeze(Reason::Checkpoint)?;
        }
        let sequence = self
            .namespace
            .lock()
            .layers()
            .back()
            .map(|layer| layer.sequence);
        let stands = || {
            let layers_stand = sequence.is_none_or(|sequence| {
                self.namespace
                    .lock()
                    .layers()
                    .front()
                    .is_none_or(|layer| layer.sequence > sequence)
            });
            layers_stand && !self.commits.is_any_pending(&asked)
        };
        // A log that takes nothing more never learns that a commit stands: what the last try can save is in
        // the store, and nobody is told that it is.
        let stuck = || self.log.is_read_only() && self.commits.progress().1.is_some();
        self.commits.wait_until(deadline, || stands() || stuck())?;
        match stands() {
            true => Ok(()),
            false => Err(FsError::ReadOnly),
        }
    }
}

fn moment_of(reason: &Reason) -> crate::format::Time {
    match reason {
        Reason::Requested(moment) => moment.time,
        Reason::Checkpoint | Reason::Automatic => crate::filesystem::now(),
    }
}

fn kind_of(reason: &Reason) -> CommitKind {
    match reason {
        Reason::Checkpoint => CommitKind::Checkpoint,
        Reason::Automatic => CommitKind::Automatic,
        Reason::Requested(_) => CommitKind::Requested,
    }
}

fn label_of(reason: &Reason) -> Option<String> {
    match reason {
        Reason::Requested(Moment {
            label: Some(label), ..
        }) => Some(String::from_utf8_lossy(label).into_owned()),
        _ => None,
    }
}

/// Files of a view that are there.
pub(crate) fn here(
    states: &States,
) -> impl Iterator<Item = &Arc<crate::namespace::state::InodeState>> {
    states.values().filter_map(|slot| match slot {
        Slot::Here(state) => Some(state),
        Slot::Gone { .. } => None,
    })
}
