//! Files, folders and everything else that stands in a tree: `docs/format/trees.md`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::codec::{DecodeError, Decoded, Reader, Writer};
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

impl FileKind {
    /// The kind with this number.
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => FileKind::Regular,
            2 => FileKind::Directory,
            3 => FileKind::Symlink,
            4 => FileKind::Fifo,
            5 => FileKind::Socket,
            6 => FileKind::CharDevice,
            7 => FileKind::BlockDevice,
            _ => return None,
        })
    }

    fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        let number = reader.u8()?;
        FileKind::from_u8(number).ok_or(reader.error("there is no such kind of file"))
    }
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

impl Time {
    /// Seconds, then nanoseconds.
    pub fn write(&self, writer: &mut Writer) {
        writer.signed(self.seconds);
        writer.varint(u64::from(self.nanos));
    }

    /// Reads what [`Time::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        let time = Time {
            seconds: reader.signed()?,
            nanos: reader.varint32()?,
        };
        reader.require(
            time.nanos < 1_000_000_000,
            "a time has too many nanoseconds",
        )?;
        Ok(time)
    }
}

impl Inode {
    /// An inode's bytes, as `docs/format/trees.md` has them.
    pub fn write(&self, writer: &mut Writer) {
        let attributes = &self.attributes;
        writer.varint(self.file);
        writer.u8(attributes.kind as u8);
        writer.varint(u64::from(attributes.mode));
        writer.varint(u64::from(attributes.uid));
        writer.varint(u64::from(attributes.gid));
        writer.bytes(&attributes.owner);
        writer.bytes(&attributes.group);
        attributes.mtime.write(writer);
        attributes.ctime.write(writer);
        attributes.atime.write(writer);
        writer.varint(attributes.rdev);
        writer.varint(self.xattrs.len() as u64);
        for (name, value) in self.xattrs.iter() {
            writer.bytes(name);
            writer.bytes(value);
        }
        writer.u64(self.fingerprint);
        self.body.write(writer);
    }

    /// Reads what [`Inode::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        let file = reader.varint()?;
        let attributes = Attributes {
            kind: FileKind::read(reader)?,
            mode: reader.varint32()?,
            uid: reader.varint32()?,
            gid: reader.varint32()?,
            owner: reader.bytes()?.into(),
            group: reader.bytes()?.into(),
            mtime: Time::read(reader)?,
            ctime: Time::read(reader)?,
            atime: Time::read(reader)?,
            rdev: reader.varint()?,
        };
        reader.require(
            attributes.mode <= 0o7777,
            "a mode has bits that do not exist",
        )?;
        Ok(Inode {
            file,
            xattrs: Arc::new(read_xattrs(reader)?),
            fingerprint: reader.u64()?,
            body: Body::read(attributes.kind, reader)?,
            attributes,
        })
    }

    /// The inode alone, for records of the log.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        self.write(&mut writer);
        writer.finish()
    }

    /// Reads what [`Inode::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("inode", bytes);
        let inode = Inode::read(&mut reader)?;
        reader.finish()?;
        Ok(inode)
    }
}

fn read_xattrs(reader: &mut Reader<'_>) -> Decoded<Xattrs> {
    let mut xattrs = Xattrs::new();
    for _ in 0..reader.count(2)? {
        let name = reader.bytes()?;
        let ascends = xattrs
            .last_key_value()
            .is_none_or(|(last, _)| last.as_slice() < name);
        reader.require(
            ascends && !name.is_empty(),
            "extended attributes are out of order",
        )?;
        xattrs.insert(name.to_vec(), reader.bytes()?.to_vec());
    }
    Ok(xattrs)
}

impl Body {
    fn write(&self, writer: &mut Writer) {
        match self {
            Body::Regular {
                size,
                allocated,
                list,
            } => {
                writer.varint(*size);
                writer.varint(*allocated);
                list.write(writer);
            }
            Body::Directory { tree } => {
                writer.option(tree.as_ref(), |writer, tree| tree.write(writer));
            }
            Body::Symlink { target } => writer.bytes(target),
            Body::Special => {}
        }
    }

    fn read(kind: FileKind, reader: &mut Reader<'_>) -> Decoded<Self> {
        Ok(match kind {
            FileKind::Regular => Body::Regular {
                size: reader.varint()?,
                allocated: reader.varint()?,
                list: ListRef::read(reader)?,
            },
            FileKind::Directory => Body::Directory {
                tree: reader.option(TreeRef::read)?,
            },
            FileKind::Symlink => Body::Symlink {
                target: reader.bytes()?.to_vec(),
            },
            FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                Body::Special
            }
        })
    }
}

/// Whether a folder may have an entry of this name.
pub fn is_entry_name(name: &[u8]) -> bool {
    let special = name == b"." || name == b"..";
    let bad_byte = name.iter().any(|byte| matches!(byte, 0 | b'/'));
    (1..=255).contains(&name.len()) && !special && !bad_byte
}

const INLINE: u8 = 0;
const LINKED: u8 = 1;

impl Entry {
    /// An entry's bytes.
    pub fn write(&self, writer: &mut Writer) {
        writer.bytes(&self.name);
        match &self.target {
            Target::Inline(inode) => {
                writer.u8(INLINE);
                inode.write(writer);
            }
            Target::Linked { file, kind } => {
                writer.u8(LINKED);
                writer.varint(*file);
                writer.u8(*kind as u8);
            }
        }
    }

    /// Reads what [`Entry::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        let name = reader.bytes()?;
        // A name with a slash in it would let an archive write outside of a restore's target.
        reader.require(is_entry_name(name), "a folder has an impossible name in it")?;
        let target = match reader.u8()? {
            INLINE => Target::Inline(Inode::read(reader)?),
            LINKED => {
                let (file, kind) = (reader.varint()?, FileKind::read(reader)?);
                reader.require(kind != FileKind::Directory, "a folder has several names")?;
                Target::Linked { file, kind }
            }
            _ => return Err(reader.error("an entry is of no known kind")),
        };
        Ok(Entry {
            name: name.to_vec(),
            target,
        })
    }
}

impl LinkedInode {
    /// Its bytes: link count, then inode.
    pub fn write(&self, writer: &mut Writer) {
        writer.varint(u64::from(self.links));
        self.inode.write(writer);
    }

    /// Reads what [`LinkedInode::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        let links = reader.varint32()?;
        let inode = Inode::read(reader)?;
        reader.require(links >= 1, "a file in the link table has no names")?;
        let directory = inode.attributes.kind == FileKind::Directory;
        reader.require(!directory, "a folder has several names")?;
        Ok(LinkedInode { inode, links })
    }

    /// What it adds to the totals of the link table: bytes only, its names are counted in folders.
    pub fn totals(&self) -> Totals {
        Totals {
            entries: 1,
            directories: 0,
            files: 0,
            bytes: self.inode.body.size(),
        }
    }
}
