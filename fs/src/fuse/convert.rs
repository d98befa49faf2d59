//! Plain types to FUSE's and back.

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use crate::filesystem::{Attr, SetTime};
use crate::format::{FileKind, Time};

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// The kind in a mode of mknod(2); 0 means a regular file, as the call has it.
pub(super) fn kind_of_mode(mode: u32) -> Option<FileKind> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Some(FileKind::Regular),
        libc::S_IFIFO => Some(FileKind::Fifo),
        libc::S_IFSOCK => Some(FileKind::Socket),
        libc::S_IFCHR => Some(FileKind::CharDevice),
        libc::S_IFBLK => Some(FileKind::BlockDevice),
        _ => None,
    }
}

pub(super) fn attributes(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: SystemTime::UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev as u32,
        blksize: 4096,
        flags: 0,
    }
}

fn system_time(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let second = if time.seconds >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    };
    // A time that the system cannot hold comes out as 1970; the archive keeps what was set.
    second
        .and_then(|second| second.checked_add(Duration::from_nanos(time.nanos.into())))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(super) fn time(time: SystemTime) -> Time {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Time {
            seconds: after.as_secs() as i64,
            nanos: after.subsec_nanos(),
        },
        Err(before) => {
            let before = before.duration();
            let seconds = -(before.as_secs() as i64);
            match before.subsec_nanos() {
                0 => Time { seconds, nanos: 0 },
                nanos => Time {
                    seconds: seconds - 1,
                    nanos: 1_000_000_000 - nanos,
                },
            }
        }
    }
}

/// A time that the kernel sets. fuser 0.18 counts the nanoseconds of a time before 1970 backwards
/// (`system_time_from_time`): they are turned round here.
pub(super) fn set_time(value: TimeOrNow) -> SetTime {
    match value {
        TimeOrNow::SpecificTime(at) => {
            SetTime::At(match at.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(_) => time(at),
                Err(before) => Time {
                    seconds: -(before.duration().as_secs() as i64),
                    nanos: before.duration().subsec_nanos(),
                },
            })
        }
        TimeOrNow::Now => SetTime::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        for (seconds, nanos) in [(0, 0), (-1, 999_999_999), (-2, 1), (5, 7), (-86_400, 0)] {
            let given = Time { seconds, nanos };
            assert_eq!(time(system_time(given)), given);
        }
    }
}
