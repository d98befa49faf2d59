//! Commits: one state of a device's drive, signed: `docs/format/commits.md`.

use holdfast_crypto::{DeviceId, Digest};

use super::entry::{FileNo, Inode, Time};
use super::node::{Totals, TreeRef};

/// Why a commit was made, which decides how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum CommitKind {
    /// To free the log; not a snapshot, given up with the next commit.
    Checkpoint = 1,
    /// A snapshot on schedule; thinned out.
    Automatic = 2,
    /// A snapshot that somebody asked for.
    Requested = 3,
}

/// One state of everything in `current/` of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The device whose `current/` it is.
    pub device: DeviceId,
    /// 1, 2, 3, ... per device.
    pub sequence: u64,
    /// SHA-256 of the device's commit object before this one; none at sequence 1.
    pub previous: Option<Digest>,
    /// The moment that it shows, by the device's clock.
    pub time: Time,
    /// Why it was made.
    pub kind: CommitKind,
    /// The name that somebody gave it.
    pub label: Option<String>,
    /// The root folder.
    pub root: Inode,
    /// Files with several names, keyed by file number.
    pub links: Option<TreeRef>,
    /// The number that the next new file gets.
    pub next_file: FileNo,
    /// Sums over root and link table (bytes of linked files once).
    pub totals: Totals,
    /// Bytes newly put in the store since the snapshot before.
    pub stored_bytes: u64,
    /// Earlier snapshots of this device that are still kept, by ascending sequence.
    pub kept: Vec<KeptSnapshot>,
}

/// An earlier snapshot, as later commits of its device list it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSnapshot {
    /// Its sequence number.
    pub sequence: u64,
    /// SHA-256 of its commit object.
    pub digest: Digest,
    /// Its time.
    pub time: Time,
    /// Why it was made.
    pub kind: CommitKind,
    /// The name that somebody gave it.
    pub label: Option<String>,
    /// Its totals.
    pub totals: Totals,
    /// Its newly stored bytes.
    pub stored_bytes: u64,
}
