//! Files with several names: the first name to be reached gets the content, the others are linked to it.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::folder::{Folder, Refusal};
use crate::format::FileNo;
use crate::walk;

/// Which of the selected, and which file of it.
pub(super) type LinkKey = (usize, FileNo);

/// A name that waits for the file that it shall be linked to.
pub(super) struct Waiting {
    pub folder: Arc<Folder>,
    pub name: Vec<u8>,
}

enum State {
    UnderWay(Vec<Waiting>),
    Made { path: Vec<u8> },
}

/// What to do with a name.
pub(super) enum Role {
    /// Restore the content under it.
    First(Waiting),
    /// Link it to this path.
    Link(Waiting, Vec<u8>),
    /// Whoever restores the content will link it.
    Later,
}

/// The linked files that were met so far.
#[derive(Default)]
pub(super) struct Links(Mutex<HashMap<LinkKey, State>>);

impl Links {
    /// A name of a linked file.
    pub(super) fn meet(&self, key: LinkKey, name: Waiting) -> Role {
        let mut links = self.0.lock();
        match links.get_mut(&key) {
            None => {
                links.insert(key, State::UnderWay(Vec::new()));
                Role::First(name)
            }
            Some(State::UnderWay(waiting)) => {
                waiting.push(name);
                Role::Later
            }
            Some(State::Made { path }) => Role::Link(name, path.clone()),
        }
    }

    /// The content stands at `path`; gives back who waited for it.
    pub(super) fn made(&self, key: LinkKey, path: Vec<u8>) -> Vec<Waiting> {
        match self.0.lock().insert(key, State::Made { path }) {
            Some(State::UnderWay(waiting)) => waiting,
            _ => Vec::new(),
        }
    }

    /// The content could not be put there; gives back the next name to try.
    pub(super) fn failed(&self, key: LinkKey) -> Option<Waiting> {
        let mut links = self.0.lock();
        let next = match links.get_mut(&key) {
            Some(State::UnderWay(waiting)) => waiting.pop(),
            _ => None,
        };
        if next.is_none() {
            links.remove(&key);
        }
        next
    }
}

/// Links `name` in `folder` to what was restored at `path` below `top`. No step follows a symbolic link.
pub(super) fn link(
    top: BorrowedFd<'_>,
    path: &[u8],
    folder: BorrowedFd<'_>,
    name: &[u8],
    overwrite: bool,
) -> Result<(), Refusal> {
    let mut names: Vec<&[u8]> = walk::components(path).collect();
    let last = names.pop().ok_or(Errno::INVAL)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut opened: Option<OwnedFd> = None;
    for step in names {
        let from = opened.as_ref().map_or(top, |file| file.as_fd());
        let next = rustix::fs::openat(from, step, flags, Mode::empty())?;
        opened = Some(next);
    }
    let from = opened.as_ref().map_or(top, |file| file.as_fd());
    match rustix::fs::linkat(from, last, folder, name, AtFlags::empty()) {
        Err(Errno::EXIST) if overwrite => {
            rustix::fs::unlinkat(folder, name, AtFlags::empty())?;
            Ok(rustix::fs::linkat(
                from,
                last,
                folder,
                name,
                AtFlags::empty(),
            )?)
        }
        Err(Errno::EXIST) => Err(Refusal::Exists),
        done => Ok(done?),
    }
}
