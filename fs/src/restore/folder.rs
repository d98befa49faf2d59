//! The folders of the target.
//!
//! Every step is one name relative to an open folder and follows no symbolic link, so whatever stands
//! in the target, nothing is written outside it. A folder is made private and gets its owner, mode and
//! times when the last file in it is done, which is when the last reference to it goes: a read-only
//! folder can be filled, and filling it does not move its times.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{self, Place};
use super::report::Shared;
use crate::format::Inode;
use crate::walk;

/// A folder of the target; it is made when something is to go into it.
pub(super) struct Folder {
    shared: Arc<Shared>,
    parent: Option<Arc<Folder>>,
    name: Vec<u8>,
    /// From the target down; for messages and for finding it again.
    pub path: Vec<u8>,
    /// What it shall be; none where it is not ours to change.
    inode: Option<Inode>,
    state: OnceLock<Result<Opened, Refusal>>,
}

struct Opened {
    file: OwnedFd,
    is_new: bool,
}

/// Why something was not restored.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// Something is there already.
    Exists,
    /// A dry run: the folder would have been made.
    WouldBeMade,
    /// The folder above failed, and has been named.
    Above,
    /// The operating system refused.
    Failed(Errno),
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Refusal {
        Refusal::Failed(error)
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Folder {
    /// The target itself.
    pub(super) fn top(shared: Arc<Shared>, file: OwnedFd, inode: Option<Inode>) -> Arc<Folder> {
        let opened = Opened {
            file,
            is_new: inode.is_some(),
        };
        let state = OnceLock::from(Ok(opened));
        Arc::new(Folder {
            shared,
            parent: None,
            name: Vec::new(),
            path: Vec::new(),
            inode,
            state,
        })
    }

    /// A target that is not there, in a dry run.
    pub(super) fn absent(shared: Arc<Shared>) -> Arc<Folder> {
        let state = OnceLock::from(Err(Refusal::WouldBeMade));
        Arc::new(Folder {
            shared,
            parent: None,
            name: Vec::new(),
            path: Vec::new(),
            inode: None,
            state,
        })
    }

    /// A folder in this one; not made yet.
    pub(super) fn child(self: &Arc<Self>, name: Vec<u8>, inode: Inode) -> Arc<Folder> {
        Arc::new(Folder {
            shared: Arc::clone(&self.shared),
            parent: Some(Arc::clone(self)),
            path: walk::joined(&self.path, &name),
            name,
            inode: Some(inode),
            state: OnceLock::new(),
        })
    }

    /// The open folder; the first call makes it, and names what went wrong.
    pub(super) fn open(&self) -> Result<BorrowedFd<'_>, Refusal> {
        let state = self.state.get_or_init(|| {
            let made = self.make();
            if let Err(refusal) = &made {
                self.shared.refuse(&self.path, refusal);
            }
            made
        });
        match state {
            Ok(opened) => Ok(opened.file.as_fd()),
            Err(Refusal::WouldBeMade) => Err(Refusal::WouldBeMade),
            Err(_) => Err(Refusal::Above),
        }
    }

    fn make(&self) -> Result<Opened, Refusal> {
        let options = &self.shared.options;
        let name = self.name.as_slice();
        let parent = match self
            .parent
            .as_ref()
            .expect("the target is open from the start")
            .open()
        {
            Err(Refusal::WouldBeMade) => {
                self.shared.count(|report| report.folders += 1);
                return Err(Refusal::WouldBeMade);
            }
            parent => parent?,
        };
        if options.dry_run {
            return match rustix::fs::openat(parent, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
            {
                Ok(file) => Ok(Opened {
                    file,
                    is_new: false,
                }),
                Err(Errno::NOENT) => {
                    self.shared.count(|report| report.folders += 1);
                    Err(Refusal::WouldBeMade)
                }
                Err(_) if options.overwrite => Err(Refusal::WouldBeMade),
                Err(_) => Err(Refusal::Exists),
            };
        }
        let is_new = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => self.take_existing(parent)?,
            Err(error) => return Err(error.into()),
        };
        let file = rustix::fs::openat(parent, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        if is_new {
            self.shared.count(|report| report.folders += 1);
        }
        Ok(Opened { file, is_new })
    }

    /// Something is there: a folder is used as it is, anything else gives way only if it may.
    fn take_existing(&self, parent: BorrowedFd<'_>) -> Result<bool, Refusal> {
        let name = self.name.as_slice();
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(false);
        }
        if !self.shared.options.overwrite {
            return Err(Refusal::Exists);
        }
        rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
        rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
        Ok(true)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let (Some(inode), Some(Ok(opened))) = (&self.inode, self.state.get()) else {
            return;
        };
        let ours = opened.is_new || self.shared.options.overwrite;
        if ours && !self.shared.options.dry_run {
            let lost = attributes::apply(&Place::Open(opened.file.as_fd()), inode);
            self.shared.lost(&self.path, lost);
        }
    }
}

/// Opens, or makes, the folder that everything goes into. Symbolic links in its own path are the
/// user's and are followed.
pub(super) fn open_target(
    target: &std::path::Path,
    dry_run: bool,
) -> io::Result<Option<(OwnedFd, bool)>> {
    let open = || rustix::fs::open(target, FOLDER, Mode::empty());
    match open() {
        Ok(file) => return Ok(Some((file, false))),
        Err(Errno::NOENT) if dry_run => return Ok(None),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    std::fs::create_dir_all(target)?;
    Ok(Some((open()?, true)))
}
