//! The drive as plain functions, without FUSE types: the shell translates, tests call these.
//!
//! Every call takes and returns plain values and an [`FsError`]. A call that needs a chunk which
//! is only in the store says [`FsError::WouldBlock`], before it has changed anything, when its
//! thread may not wait (the module `blocking`).

use std::time::{Duration, Instant};

pub mod error;
pub mod types;

pub use error::FsError;
pub use types::*;

/// The result of a call.
pub type FsResult<T> = Result<T, FsError>;

/// The mounted drive.
pub struct Filesystem {}

/// `/`
pub const ROOT_INO: u64 = 1;
/// `/current`
pub const CURRENT_INO: u64 = VIRTUAL | 1;
/// `/snapshots`
pub const SNAPSHOTS_INO: u64 = VIRTUAL | 2;
/// `/snapshots/latest`
pub const LATEST_INO: u64 = VIRTUAL | 3;
/// Inode numbers of what stands in no tree begin with this.
pub const VIRTUAL: u64 = 0xFF << 56;

#[allow(unused_variables)]
impl Filesystem {
    /// Finds a name; what is found counts one lookup more, which [`Filesystem::forget`] takes back.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> FsResult<Attr> {
        Err(FsError::Unsupported)
    }
    /// The kernel forgets `count` lookups.
    pub fn forget(&self, ino: u64, count: u64) {}
    /// What stat(2) tells.
    pub fn getattr(&self, ino: u64) -> FsResult<Attr> {
        Err(FsError::Unsupported)
    }
    /// chmod, chown, truncate, utimens.
    pub fn setattr(&self, ino: u64, change: SetAttr) -> FsResult<Attr> {
        Err(FsError::Unsupported)
    }
    /// Where a symlink points to.
    pub fn readlink(&self, ino: u64) -> FsResult<Vec<u8>> {
        Err(FsError::Unsupported)
    }
    /// Makes a file that is neither folder nor symlink; counts a lookup, as all that make one do.
    pub fn mknod(&self, parent: u64, name: &[u8], node: NewNode) -> FsResult<Attr> {
        Err(FsError::Unsupported)
    }
    /// Makes a folder; in `snapshots/<this device>/` takes a snapshot of that name.
    pub fn mkdir(&self, parent: u64, name: &[u8], mode: u32, uid: u32, gid: u32) -> FsResult<Attr> {
        Err(FsError::Unsupported)
    }
    /// Makes a symlink.
    pub fn symlink(
        &self,
        parent: u64,
        name: &[u8],
        target: &[u8],
        uid: u32,
        gid: u32,
    ) -> FsResult<Attr> {
        Err(FsError::Unsupported)
    }
    /// Gives a file one more name.
    pub fn link(&self, ino: u64, parent: u64, name: &[u8]) -> FsResult<Attr> {
        Err(FsError::Unsupported)
    }
    /// Removes a name of what is no folder.
    pub fn unlink(&self, parent: u64, name: &[u8]) -> FsResult<()> {
        Err(FsError::Unsupported)
    }
    /// Removes an empty folder.
    pub fn rmdir(&self, parent: u64, name: &[u8]) -> FsResult<()> {
        Err(FsError::Unsupported)
    }
    /// Moves a name.
    pub fn rename(
        &self,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> FsResult<()> {
        Err(FsError::Unsupported)
    }
    /// Opens a file.
    pub fn open(&self, ino: u64, flags: OpenFlags) -> FsResult<Opened> {
        Err(FsError::Unsupported)
    }
    /// Makes a file and opens it.
    pub fn create(
        &self,
        parent: u64,
        name: &[u8],
        mode: u32,
        uid: u32,
        gid: u32,
        flags: OpenFlags,
    ) -> FsResult<(Attr, Opened)> {
        Err(FsError::Unsupported)
    }
    /// Reads; short only at the end of the file.
    pub fn read(&self, ino: u64, handle: u64, offset: u64, size: u32) -> FsResult<ReadBytes> {
        Err(FsError::Unsupported)
    }
    /// Writes all of `data`.
    pub fn write(
        &self,
        ino: u64,
        handle: u64,
        offset: u64,
        data: &[u8],
        kill_suid: bool,
    ) -> FsResult<u32> {
        Err(FsError::Unsupported)
    }
    /// close(2): the file is in the log when this returns.
    pub fn flush(&self, ino: u64, handle: u64) -> FsResult<()> {
        Err(FsError::Unsupported)
    }
    /// The last descriptor of a handle is gone.
    pub fn release(&self, ino: u64, handle: u64) {}
    /// Survives power loss when this returns; of the root folder: is in the store.
    pub fn fsync(&self, ino: u64, data_only: bool) -> FsResult<()> {
        Err(FsError::Unsupported)
    }
    /// The same of a folder.
    pub fn fsyncdir(&self, ino: u64, data_only: bool) -> FsResult<()> {
        Err(FsError::Unsupported)
    }
    /// Opens a folder.
    pub fn opendir(&self, ino: u64) -> FsResult<Opened> {
        Err(FsError::Unsupported)
    }
    /// Lists a folder from a cookie on (0: from the beginning). `take` says whether it took the
    /// item; the first that it does not take ends the listing and is not counted.
    pub fn readdir(
        &self,
        ino: u64,
        handle: u64,
        cookie: u64,
        listing: Listing,
        take: &mut dyn FnMut(DirItem<'_>) -> bool,
    ) -> FsResult<()> {
        Err(FsError::Unsupported)
    }
    /// Closes a folder.
    pub fn releasedir(&self, ino: u64, handle: u64) {}
    /// Room of the log and of the disk that it is on.
    pub fn statfs(&self) -> FsResult<Statfs> {
        Err(FsError::Unsupported)
    }
    /// Sets an extended attribute.
    pub fn setxattr(&self, ino: u64, name: &[u8], value: &[u8], flags: XattrFlags) -> FsResult<()> {
        Err(FsError::Unsupported)
    }
    /// Reads an extended attribute.
    pub fn getxattr(&self, ino: u64, name: &[u8]) -> FsResult<Vec<u8>> {
        Err(FsError::Unsupported)
    }
    /// Names of the extended attributes.
    pub fn listxattr(&self, ino: u64) -> FsResult<Vec<Vec<u8>>> {
        Err(FsError::Unsupported)
    }
    /// Removes an extended attribute.
    pub fn removexattr(&self, ino: u64, name: &[u8]) -> FsResult<()> {
        Err(FsError::Unsupported)
    }
    /// Makes room, holes or zeros.
    pub fn fallocate(&self, ino: u64, mode: Fallocate, offset: u64, length: u64) -> FsResult<()> {
        Err(FsError::Unsupported)
    }
    /// Finds data or a hole.
    pub fn lseek(&self, ino: u64, offset: u64, whence: Whence) -> FsResult<u64> {
        Err(FsError::Unsupported)
    }
    /// Copies within the drive without moving data; returns how much was copied.
    pub fn copy_file_range(
        &self,
        from: u64,
        from_offset: u64,
        to: u64,
        to_offset: u64,
        length: u64,
    ) -> FsResult<u64> {
        Err(FsError::Unsupported)
    }

    /// Fixes the moment of a snapshot and returns; [`Filesystem::wait_snapshot`] waits for the store.
    pub fn begin_snapshot(&self, label: Option<&str>) -> FsResult<SnapshotTicket> {
        Err(FsError::Unsupported)
    }
    /// Waits until a snapshot is stored; `TimedOut` at the deadline (it goes on).
    pub fn wait_snapshot(
        &self,
        ticket: SnapshotTicket,
        deadline: Option<Instant>,
    ) -> FsResult<StoredSnapshot> {
        Err(FsError::Unsupported)
    }
    /// Waits until everything done before is in the store.
    pub fn flush_all(&self, deadline: Option<Instant>) -> FsResult<()> {
        Err(FsError::Unsupported)
    }
    /// How the drive is doing; never waits.
    pub fn status(&self) -> Status {
        unreachable_status()
    }
    /// Ends: takes the last automatic snapshot, waits at most `drain` for the store (`None`: not
    /// at all), syncs the log. What is left is in the log and goes on at the next mount.
    pub fn shutdown(&self, drain: Option<Duration>) -> Leftover {
        Leftover::default()
    }
}

fn unreachable_status() -> Status {
    Status {
        device: String::new(),
        store: String::new(),
        read_only: None,
        queued_bytes: 0,
        changed_files: 0,
        bytes_per_second: 0,
        stored_bytes: 0,
        pending_snapshots: Vec::new(),
        committing: false,
        trouble: None,
        last_snapshot: None,
        last_snapshot_time: None,
        log_bytes: 0,
        log_limit_bytes: 0,
        memory_bytes: 0,
        open_files: 0,
        known_inodes: 0,
    }
}
