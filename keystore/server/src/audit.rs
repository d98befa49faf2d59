//! The audit log: JSON lines, each with the hash of the one before, and no act without its line.
//!
//! What: one file, only ever appended to. A line is on disk (fsync) before the act it speaks of; a line that cannot be
//! written stops the act. The log is the one place that tells afterwards who did what, so a server that could act
//! without it would be worth attacking by filling its disk.
//!
//! Before each line the file is looked at: it must be the same file (device, inode) with the same length as after the line
//! before. Deleted, replaced, cut or written by somebody else, the log is in trouble, health is red, and stays so until
//! the server is started again and somebody has looked; a full disk is trouble until a line can be written again.
//!
//! If we die between any two lines of [`append`](AuditLog::append): before the write, nothing happened and nobody was told;
//! in the middle of it, the last line is torn, was acknowledged to nobody, and is removed at the next start with a
//! line that says so; after it, the line stands for an act that may not have followed. Lines are therefore worded
//! as what is let in or about to be, and what came of it has a line of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use parking_lot::Mutex;

pub mod event;
pub mod line;
pub mod tail;
pub mod verify;

pub use event::{Actor, Ceremony, Event};
pub use line::{Head, Line};

use crate::names::LineHash;
use verify::Finding;

/// The open log.
pub struct AuditLog {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: File,
    size_bytes: u64,
    head: Head,
    trouble: Option<Trouble>,
}

/// Why no line can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The file is gone.
    Deleted,
    /// Another file has its name.
    Replaced,
    /// It has not the length that the last line left.
    ChangedByOthers,
    /// The disk is full.
    NoSpace,
    /// The disk does not take it for another reason.
    Unwritable,
}

impl Trouble {
    /// Whether it may end by itself.
    fn may_pass(self) -> bool {
        matches!(self, Trouble::NoSpace | Trouble::Unwritable)
    }

    /// What is wrong, for a person.
    pub fn sentence(self) -> &'static str {
        match self {
            Trouble::Deleted => "the audit log was deleted under the running server",
            Trouble::Replaced => "the audit log was replaced by another file",
            Trouble::ChangedByOthers => {
                "the audit log was cut or written to by somebody else than the server"
            }
            Trouble::NoSpace => "the disk of the audit log is full",
            Trouble::Unwritable => "the audit log cannot be written",
        }
    }

    /// What to do about it.
    pub fn next_step(self) -> &'static str {
        match self {
            Trouble::NoSpace => "free space on it; nothing is done until a line can be written",
            Trouble::Unwritable => "look at the disk; nothing is done until a line can be written",
            Trouble::Deleted | Trouble::Replaced | Trouble::ChangedByOthers => {
                "find out who did it, put the file back if there is a copy, and start the server again"
            }
        }
    }
}

/// A line was not written, so what it speaks of must not happen.
#[derive(Debug, thiserror::Error)]
#[error("{}; {}", .trouble.sentence(), .trouble.next_step())]
pub struct AuditError {
    /// What is wrong with the log.
    pub trouble: Trouble,
    #[source]
    source: Option<io::Error>,
}

/// The log cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not readable or not to be made.
    #[error("{} cannot be opened: {source}; check the folder and its owner", .path.display())]
    Io {
        /// The log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The chain is broken.
    #[error(
        "{}: {finding}; put the file back from a copy, or keep it as evidence under another name and start again: \
         a new log begins, and the next unseal says that the old one is gone", .path.display()
    )]
    Broken {
        /// The log.
        path: PathBuf,
        /// The first bad line.
        finding: Finding,
    },
}

impl AuditLog {
    /// Opens the log, or begins one; walks the whole chain first.
    pub fn open(path: &Path) -> Result<AuditLog, OpenError> {
        let io = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        let file = open_file(path).map_err(io)?;
        let mut read = io::BufReader::new(file.try_clone().map_err(io)?);
        let walked = verify::walk(&mut read).map_err(io)?;
        if let Some(finding) = walked.finding {
            return Err(OpenError::Broken {
                path: path.to_owned(),
                finding,
            });
        }
        if walked.torn_bytes > 0 {
            file.set_len(walked.whole_bytes).map_err(io)?;
            file.sync_all().map_err(io)?;
        }
        let log = AuditLog {
            path: path.to_owned(),
            state: Mutex::new(State {
                file,
                size_bytes: walked.whole_bytes,
                head: walked.head,
                trouble: None,
            }),
        };
        if walked.torn_bytes > 0 {
            let bytes = walked.torn_bytes;
            log.append(&Actor::SERVER, Event::TornLineRemoved { bytes })
                .map_err(|error| io(io::Error::other(error)))?;
        }
        Ok(log)
    }

    /// Puts one line on disk and gives it back. Only after `Ok` may happen what the line speaks of.
    pub fn append(&self, actor: &Actor, event: Event) -> Result<Line, AuditError> {
        let mut state = self.state.lock();
        state.look(&self.path)?;
        let line = Line::after(&state.head, Timestamp::now(), actor, event);
        let mut bytes = line.to_bytes();
        let hash = line::hash(&bytes);
        bytes.push(b'\n');
        if let Err(error) = state.write(&bytes) {
            // What was written of the line must not stand before the next one.
            let _ = state.file.set_len(state.size_bytes);
            return Err(state.trouble(trouble_of(&error), Some(error)));
        }
        state.size_bytes += bytes.len() as u64;
        state.head = Head {
            sequence: line.sequence,
            hash,
        };
        state.trouble = None;
        Ok(line)
    }

    /// Looks at the file as it would be before a line, and says what is wrong with it.
    pub fn trouble(&self) -> Option<Trouble> {
        let mut state = self.state.lock();
        match state.look(&self.path) {
            Err(error) => Some(error.trouble),
            Ok(()) => state.trouble,
        }
    }

    /// Where the chain stands.
    pub fn head(&self) -> Head {
        self.state.lock().head
    }

    /// Walks the whole chain as it is on disk and compares its end with what the server knows.
    pub fn verify(&self) -> io::Result<verify::Report> {
        // Taken first: lines that come while we walk are after it.
        let head = self.head();
        verify::file(&self.path, Some(head))
    }

    /// The last `count` lines, oldest first.
    pub fn tail(&self, count: usize) -> io::Result<Vec<Line>> {
        tail::last_lines(&self.path, count)
    }

    /// Whether there is a line of that number and hash.
    pub fn has(&self, sequence: u64, hash: &LineHash) -> io::Result<bool> {
        tail::has(&self.path, sequence, hash)
    }

    /// The highest generation of the database that a line tells of.
    pub fn newest_generation(&self) -> io::Result<u64> {
        let lines = tail::after(&self.path, 0, &Head::EMPTY.hash)?;
        let told = lines.into_iter().filter_map(|line| match line.event {
            Event::Unsealed { generation, .. } | Event::HeadRemembered { generation, .. } => {
                Some(generation)
            }
            _ => None,
        });
        Ok(told.max().unwrap_or(0))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl State {
    /// Whether the file is still the one that the last line was written to.
    fn look(&mut self, path: &Path) -> Result<(), AuditError> {
        if let Some(lasting) = self.trouble.filter(|trouble| !trouble.may_pass()) {
            return Err(self.trouble(lasting, None));
        }
        let (named, ours) = match (fs::symlink_metadata(path), self.file.metadata()) {
            (Ok(named), Ok(ours)) => (named, ours),
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.trouble(Trouble::Deleted, Some(error)));
            }
            (Err(error), _) | (_, Err(error)) => {
                return Err(self.trouble(Trouble::Unwritable, Some(error)));
            }
        };
        if (named.dev(), named.ino()) != (ours.dev(), ours.ino()) {
            return Err(self.trouble(Trouble::Replaced, None));
        }
        if ours.len() != self.size_bytes {
            return Err(self.trouble(Trouble::ChangedByOthers, None));
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.size_bytes)?;
        self.file.sync_data()
    }

    fn trouble(&mut self, trouble: Trouble, source: Option<io::Error>) -> AuditError {
        self.trouble = Some(trouble);
        AuditError { trouble, source }
    }
}

fn trouble_of(error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Trouble::NoSpace,
        _ => Trouble::Unwritable,
    }
}

/// Opens or makes the file; a new one is in its folder for good before the first line.
fn open_file(path: &Path) -> io::Result<File> {
    let open = |new: bool| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(new)
            .mode(0o600)
            .open(path)
    };
    match open(false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut file = open(true)?;
            file.flush()?;
            file.sync_all()?;
            let folder = path.parent().expect("a file lies in a folder");
            File::open(folder)?.sync_all()?;
            Ok(file)
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests;
