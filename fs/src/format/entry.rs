//! Files, folders and everything else that stands in a tree: `docs/format/trees.md`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::list::ListRef;
use super::node::{Totals, TreeRef};

/// The number of a file in `current/`: a counter of the device, kept over renames and commits.
pub type FileNo = u64;

/// The root folder of `current/`.
pub const ROOT_FILE: FileNo = 1;

/// A moment, as the file system of the source had it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z; may be negative.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FileKind {
    /// A file with content.
    Regular = 1,
    /// A folder.
    Directory = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A named pipe.
    Fifo = 4,
    /// A Unix socket.
    Socket = 5,
    /// A character device node.
    CharDevice = 6,
    /// A block device node.
    BlockDevice = 7,
}

/// What stat(2) tells of a file, but for size and link count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// What it is.
    pub kind: FileKind,
    /// Permission, set-id and sticky bits: at most 0o7777.
    pub mode: u32,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the owner's group.
    pub gid: u32,
    /// Name of the owner when it was recorded; may be empty.
    pub owner: Arc<[u8]>,
    /// Name of the group when it was recorded; may be empty.
    pub group: Arc<[u8]>,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Last access, as it was at the last change of the inode (reads are not tracked).
    pub atime: Time,
    /// Number of a device node; 0 for anything else.
    pub rdev: u64,
}

/// Extended attributes by full name (`user.comment`), ACLs included.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A file, whatever its names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number in `current/`.
    pub file: FileNo,
    /// Mode, owner, times.
    pub attributes: Attributes,
    /// Extended attributes.
    pub xattrs: Arc<Xattrs>,
    /// `backup`'s fingerprint of the source file (size, times, inode); 0 where there is none.
    pub fingerprint: u64,
    /// Content; its variant always fits the kind of `attributes`.
    pub body: Body,
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A regular file.
    Regular {
        /// Length in bytes.
        size: u64,
        /// Bytes that are not in a hole.
        allocated: u64,
        /// The pieces, from offset 0. What they do not cover up to `size` is a hole.
        list: ListRef,
    },
    /// A folder; no tree means that it is empty.
    Directory {
        /// Its entries.
        tree: Option<TreeRef>,
    },
    /// A symbolic link.
    Symlink {
        /// The path that it holds.
        target: Vec<u8>,
    },
    /// FIFO, socket or device node.
    Special,
}

impl Body {
    /// Length in bytes as stat(2) tells it: content of a file, path of a symlink, else 0.
    pub fn size(&self) -> u64 {
        match self {
            Body::Regular { size, .. } => *size,
            Body::Symlink { target } => target.len() as u64,
            Body::Directory { .. } | Body::Special => 0,
        }
    }
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// 1 to 255 bytes, neither `.` nor `..`, without `/` and NUL.
    pub name: Vec<u8>,
    /// What the name stands for.
    pub target: Target,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file with this name only.
    Inline(Inode),
    /// A file with several names; its inode stands in the commit's link table.
    Linked {
        /// Its key in the link table.
        file: FileNo,
        /// Its kind, so that a folder can be listed without the table. Never a directory.
        kind: FileKind,
    },
}

impl Entry {
    /// The number of the file that the name stands for.
    pub fn file(&self) -> FileNo {
        match &self.target {
            Target::Inline(inode) => inode.file,
            Target::Linked { file, .. } => *file,
        }
    }

    /// The kind of the file that the name stands for.
    pub fn kind(&self) -> FileKind {
        match &self.target {
            Target::Inline(inode) => inode.attributes.kind,
            Target::Linked { kind, .. } => *kind,
        }
    }

    /// What this entry adds to the totals of its folder.
    ///
    /// A linked file counts once for each name, its bytes once, in the link table.
    pub fn totals(&self) -> Totals {
        let below = match &self.target {
            Target::Inline(inode) => match &inode.body {
                Body::Directory { tree } => {
                    let below = tree.as_ref().map(|tree| tree.totals).unwrap_or_default();
                    return Totals {
                        entries: 1,
                        directories: 1,
                        files: below.files,
                        bytes: below.bytes,
                    };
                }
                body => body.size(),
            },
            Target::Linked { .. } => 0,
        };
        Totals {
            entries: 1,
            directories: 0,
            files: 1,
            bytes: below,
        }
    }
}

/// A file with several names, as the link table of a commit holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedInode {
    /// The file.
    pub inode: Inode,
    /// How many names it has, at least 2 (1 where the others are gone and it was not moved back).
    pub links: u32,
}
