//! Putting owner, extended attributes, mode and times on what was restored.
//!
//! The order matters: a change of owner clears set-id bits and file capabilities, user attributes need
//! a writable mode, an ACL rewrites the mode's group bits, and anything but reading moves the times. So:
//! owner, attributes, mode, ACLs, times.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::format::{FileKind, Inode, Time};

/// What could not be put on a file although its content is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Somebody who is not root cannot give files away, nor set trusted and security attributes.
    pub for_lack_of_root: bool,
    /// Anything else, in words.
    pub named: Vec<String>,
}

/// Something that was restored: an open file or folder, or a name in a folder.
pub(super) enum Place<'a> {
    /// A file or folder.
    Open(BorrowedFd<'a>),
    /// A symbolic link or special file, never followed.
    Named(BorrowedFd<'a>, &'a [u8]),
}

/// Gives `place` what `inode` says of it.
pub(super) fn apply(place: &Place<'_>, inode: &Inode) -> Lost {
    let mut lost = Lost::default();
    let attributes = &inode.attributes;
    lost.unless(chown(place, attributes.uid, attributes.gid), "owner", true);
    for acl in [false, true] {
        if acl && attributes.kind != FileKind::Symlink {
            lost.unless(chmod(place, attributes.mode), "mode", false);
        }
        for (name, value) in inode.xattrs.iter().filter(|(name, _)| is_acl(name) == acl) {
            let privileged = !name.starts_with(b"user.") && !acl;
            let what = String::from_utf8_lossy(name);
            lost.unless(set_xattr(place, name, value), &what, privileged);
        }
    }
    lost.unless(
        set_times(place, attributes.atime, attributes.mtime),
        "times",
        false,
    );
    lost
}

impl Lost {
    fn unless(&mut self, done: rustix::io::Result<()>, what: &str, privileged: bool) {
        match done {
            Ok(()) => {}
            Err(Errno::PERM | Errno::ACCESS) if privileged && !is_root() => {
                self.for_lack_of_root = true
            }
            Err(error) => self.named.push(format!(
                "{what} could not be set: {}",
                io::Error::from(error)
            )),
        }
    }
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_acl(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_")
}

fn chown(place: &Place<'_>, uid: u32, gid: u32) -> rustix::io::Result<()> {
    let (Some(uid), Some(gid)) = (owner(uid), owner(gid)) else {
        return Err(Errno::INVAL);
    };
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    match place {
        Place::Open(file) => rustix::fs::fchown(file, uid, gid),
        Place::Named(folder, name) => {
            rustix::fs::chownat(folder, *name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        }
    }
}

/// The highest number means "no change" to the kernel and is no owner.
fn owner(number: u32) -> Option<u32> {
    (number != u32::MAX).then_some(number)
}

fn chmod(place: &Place<'_>, mode: u32) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(mode & 0o7777);
    match place {
        Place::Open(file) => rustix::fs::fchmod(file, mode),
        Place::Named(folder, name) => {
            // fchmodat follows symbolic links; by way of a descriptor nothing is followed.
            use rustix::fs::OFlags;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(folder, *name, flags, Mode::empty())?;
            rustix::fs::chmod(by_descriptor(file.as_fd()), mode)
        }
    }
}

fn set_xattr(place: &Place<'_>, name: &[u8], value: &[u8]) -> rustix::io::Result<()> {
    match place {
        Place::Open(file) => rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()),
        Place::Named(folder, entry) => {
            let path = [by_descriptor(*folder).as_bytes(), b"/", entry].concat();
            rustix::fs::lsetxattr(path.as_slice(), name, value, XattrFlags::empty())
        }
    }
}

fn by_descriptor(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn set_times(place: &Place<'_>, atime: Time, mtime: Time) -> rustix::io::Result<()> {
    let times = Timestamps {
        last_access: timespec(atime),
        last_modification: timespec(mtime),
    };
    match place {
        Place::Open(file) => rustix::fs::futimens(file, &times),
        Place::Named(folder, name) => {
            rustix::fs::utimensat(folder, *name, &times, AtFlags::SYMLINK_NOFOLLOW)
        }
    }
}

fn timespec(time: Time) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: i64::from(time.nanos) as _,
    }
}
