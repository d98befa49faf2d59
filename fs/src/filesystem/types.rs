//! What the filesystem's calls take and give: plain types, without FUSE in them.

use std::time::SystemTime;

use bytes::Bytes;
use serde::Serialize;

use crate::format::{FileKind, Time};

/// What stat(2) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number on the mount.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Blocks of 512 bytes that are not in holes.
    pub blocks: u64,
    /// Last access, as of the last change of the inode.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Number of names; of a folder: 2 + folders in it.
    pub nlink: u32,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the owner's group.
    pub gid: u32,
    /// Number of a device node.
    pub rdev: u64,
}

/// A time to set: a given one, or the moment of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The moment of the call.
    Now,
    /// This one.
    At(Time),
}

/// What setattr changes; `None` leaves a thing as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of the content.
    pub mtime: Option<SetTime>,
    /// Last change of the inode (the kernel sends it with write-back caching only).
    pub ctime: Option<Time>,
    /// The open file that ftruncate(2) was called on.
    pub handle: Option<u64>,
    /// Whether set-id bits and file capabilities go, as HANDLE_KILLPRIV_V2 asks.
    pub kill_suid: bool,
}

/// A node to make.
#[derive(Clone, Copy, Debug)]
pub struct NewNode {
    /// What it is; neither folder nor symlink.
    pub kind: FileKind,
    /// Permission bits, umask already applied.
    pub mode: u32,
    /// Number of a device node, else 0.
    pub rdev: u64,
    /// Owner.
    pub uid: u32,
    /// Group, unless the folder hands its own down.
    pub gid: u32,
}

/// Flags of renameat2(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenameFlags {
    /// Fails when the target exists.
    pub no_replace: bool,
    /// Swaps the two.
    pub exchange: bool,
}

/// Flags of open(2) that the filesystem looks at. O_TRUNC is not among them: the kernel sends it as a
/// change of the size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags {
    /// O_WRONLY or O_RDWR.
    pub write: bool,
    /// O_APPEND.
    pub append: bool,
    /// O_SYNC or O_DSYNC: each write is synced.
    pub sync: bool,
    /// O_EXCL, for `create`.
    pub exclusive: bool,
}

impl OpenFlags {
    /// From the flags of open(2).
    pub fn from_bits(flags: i32) -> Self {
        let access = flags & libc::O_ACCMODE;
        OpenFlags {
            write: access == libc::O_WRONLY || access == libc::O_RDWR,
            append: flags & libc::O_APPEND != 0,
            sync: flags & libc::O_DSYNC != 0,
            exclusive: flags & libc::O_EXCL != 0,
        }
    }
}

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Names it in later calls.
    pub handle: u64,
    /// Whether what the kernel has in its cache still holds.
    pub keep_cache: bool,
    /// Whether it may have been written to when it is closed.
    pub writes: bool,
}

/// Flags of setxattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XattrFlags {
    /// Fails when it exists.
    pub create: bool,
    /// Fails when it does not exist.
    pub replace: bool,
    /// Set-group-id goes with it (an ACL changed by somebody outside of the group).
    pub kill_sgid: bool,
}

/// What lseek(2) looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// SEEK_DATA.
    Data,
    /// SEEK_HOLE.
    Hole,
}

/// What fallocate(2) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallocate {
    /// Makes room; the file grows to the end of the range.
    Reserve,
    /// Makes room; the length stays.
    ReserveKeepSize,
    /// A hole; the length stays.
    PunchHole,
    /// Zeros; the file grows to the end of the range.
    ZeroRange,
    /// Zeros; the length stays.
    ZeroRangeKeepSize,
}

impl Fallocate {
    /// From the mode of fallocate(2); `None` where it is not offered.
    pub fn from_mode(mode: i32) -> Option<Self> {
        const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
        const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        match mode {
            0 => Some(Fallocate::Reserve),
            KEEP => Some(Fallocate::ReserveKeepSize),
            PUNCH => Some(Fallocate::PunchHole),
            ZERO => Some(Fallocate::ZeroRange),
            ZERO_KEEP => Some(Fallocate::ZeroRangeKeepSize),
            _ => None,
        }
    }
}

/// One name of a listing.
#[derive(Clone, Debug)]
pub struct DirItem<'a> {
    /// Inode number on the mount.
    pub ino: u64,
    /// What it is.
    pub kind: FileKind,
    /// Its name.
    pub name: &'a [u8],
    /// Where the listing goes on after it.
    pub cookie: u64,
    /// What stat(2) tells; in a listing of [`Listing::Plus`] only, and never of `.` and `..`.
    pub attr: Option<Attr>,
}

/// What a listing tells of each name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Name and kind.
    Names,
    /// Also attributes; each item that is taken and carries them counts as a lookup.
    Plus,
}

/// What statfs(2) tells.
#[derive(Clone, Copy, Debug)]
pub struct Statfs {
    /// Size of a block in bytes.
    pub block_bytes: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Blocks that are free.
    pub free: u64,
    /// Files in all.
    pub files: u64,
    /// Files that can still be made.
    pub files_free: u64,
    /// Longest name in bytes.
    pub name_bytes: u32,
}

/// What a snapshot that was asked for goes by until it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotTicket(pub u64);

/// A snapshot that is in the store.
#[derive(Clone, Debug, Serialize)]
pub struct StoredSnapshot {
    /// Its name, as in `snapshots/<device>/`.
    pub name: String,
    /// Its commit's sequence number.
    pub sequence: u64,
    /// Entries that are not folders.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Bytes put in the store since the snapshot before.
    pub stored_bytes: u64,
}

/// What is not in the store yet when the drive is shut down.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Leftover {
    /// Bytes in the log that the store does not have.
    pub bytes: u64,
    /// Files and folders changed since the last commit.
    pub files: u64,
    /// Snapshots asked for and not stored.
    pub snapshots: u64,
}

impl Leftover {
    /// Whether everything is in the store.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0 && self.files == 0 && self.snapshots == 0
    }
}

/// How the drive is doing: `holdfast status` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Name of this device.
    pub device: String,
    /// Where the archive is.
    pub store: String,
    /// Why nothing can be written, where nothing can.
    pub read_only: Option<String>,
    /// Bytes of chunks and extents that the store does not have.
    pub queued_bytes: u64,
    /// Files and folders changed since the last commit.
    pub changed_files: u64,
    /// Bytes stored per second, over the last ten seconds.
    pub bytes_per_second: u64,
    /// Bytes stored since the mount.
    pub stored_bytes: u64,
    /// Snapshots asked for and not stored: label or `automatic`.
    pub pending_snapshots: Vec<String>,
    /// Whether a commit is on its way.
    pub committing: bool,
    /// Why the last try to commit failed; `None` after one that went well.
    pub trouble: Option<String>,
    /// The newest snapshot of this device.
    pub last_snapshot: Option<String>,
    /// When it was taken, in seconds since 1970.
    pub last_snapshot_time: Option<i64>,
    /// Bytes of the log in use.
    pub log_bytes: u64,
    /// Bytes that the log may use.
    pub log_limit_bytes: u64,
    /// Bytes written to files and neither in the log nor in the store.
    pub memory_bytes: u64,
    /// Bytes of chunks and pack blocks cached in memory.
    pub cache_memory_bytes: u64,
    /// Bytes of trees and pack blocks cached on disk.
    pub cache_disk_bytes: u64,
    /// Open files.
    pub open_files: u64,
    /// Inodes that the kernel knows.
    pub known_inodes: u64,
}

/// Bytes of a read; may be shorter than asked at the end of a file.
pub type ReadBytes = Bytes;

/// The time now, as the filesystem writes it.
pub fn now() -> Time {
    from_system(SystemTime::now())
}

/// A moment of the system's clock.
pub fn from_system(time: SystemTime) -> Time {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Time {
            seconds: after.as_secs() as i64,
            nanos: after.subsec_nanos(),
        },
        // Before 1970: whole seconds are enough for a clock that is that wrong.
        Err(before) => Time {
            seconds: -(before.duration().as_secs() as i64),
            nanos: 0,
        },
    }
}
