//! Changes of the namespace as the log records them.
//!
//! An operation says what is there afterwards, not what was done, so that applying it a second time
//! changes nothing and replay needs neither the store nor the last commit's trees: the first
//! operation on a file after a commit is [`Operation::Inode`] with its whole state, and that of the
//! folders above it. One record of the log is a group: all of it or nothing of it is done.
//!
//! The same operations change the namespace while it runs (`Namespace::apply`), so what is replayed
//! is what was done.

use std::sync::Arc;

use crate::content::Placed;
use crate::format::codec::{DecodeError, Decoded, Reader, Writer};
use crate::format::{Attributes, FileKind, FileNo, Inode, ListRef, Time};

use super::state::{Child, Name};

/// Why a view of the whole drive is frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub time: Time,
    /// `Some` for a snapshot that was asked for by that name; empty: by none.
    pub label: Option<Vec<u8>>,
    /// Number of the request.
    pub ticket: u64,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// A file as the last commit has it, or a new one.
    Inode {
        /// Folder of one of its names.
        parent: FileNo,
        /// That name.
        name: Name,
        /// How many names.
        links: u32,
        /// Whether it stands in the link table.
        linked: bool,
        /// Everything else.
        inode: Inode,
    },
    /// Mode, owner, times.
    Attributes(FileNo, Attributes),
    /// One extended attribute, or that it is gone.
    Xattr(FileNo, Vec<u8>, Option<Vec<u8>>),
    /// `backup`'s fingerprint.
    Fingerprint(FileNo, u64),
    /// What a name of a folder stands for, and what the folder holds then.
    Entry {
        /// The folder.
        folder: FileNo,
        /// The name.
        name: Name,
        /// The file, or that the name is gone.
        child: Option<Child>,
        /// Entries in the folder.
        entries: u64,
        /// Folders in the folder.
        directories: u64,
    },
    /// Where a file is found and how many names it has; none: it goes with its last handle.
    Names {
        /// The file.
        file: FileNo,
        /// Folder of one of its names.
        parent: FileNo,
        /// That name.
        name: Name,
        /// How many names.
        links: u32,
        /// Whether it stands in the link table.
        linked: bool,
    },
    /// A length.
    Size(FileNo, u64),
    /// A hole; the length stays.
    Hole(FileNo, u64, u64),
    /// Chunks and holes in the place of what was there.
    Place(FileNo, u64, Vec<Placed>),
    /// The whole content, as a list.
    List {
        /// The file.
        file: FileNo,
        /// Length in bytes.
        size: u64,
        /// Bytes that are not holes.
        allocated: u64,
        /// The pieces.
        list: ListRef,
    },
    /// A snapshot was asked for here.
    Freeze(Moment),
}

const INODE: u8 = 1;
const ATTRIBUTES: u8 = 2;
const XATTR: u8 = 3;
const FINGERPRINT: u8 = 4;
const ENTRY: u8 = 5;
const NAMES: u8 = 6;
const SIZE: u8 = 7;
const HOLE: u8 = 8;
const PLACE: u8 = 9;
const LIST: u8 = 10;
const FREEZE: u8 = 11;

/// The bytes of a group.
pub fn encode_group(operations: &[Operation]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.varint(operations.len() as u64);
    for operation in operations {
        operation.write(&mut writer);
    }
    writer.finish()
}

/// A group from its bytes.
pub fn decode_group(bytes: &[u8]) -> Result<Vec<Operation>, DecodeError> {
    let mut reader = Reader::new("an operation record", bytes);
    let count = reader.count(2)?;
    let mut operations = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        operations.push(Operation::read(&mut reader)?);
    }
    reader.finish()?;
    Ok(operations)
}

impl Operation {
    fn write(&self, writer: &mut Writer) {
        match self {
            Operation::Inode {
                parent,
                name,
                links,
                linked,
                inode,
            } => {
                writer.u8(INODE);
                write_names(writer, inode.file, *parent, name, *links, *linked);
                inode.write(writer);
            }
            Operation::Attributes(file, attributes) => {
                writer.u8(ATTRIBUTES);
                writer.varint(*file);
                write_attributes(writer, attributes);
            }
            Operation::Xattr(file, name, value) => {
                writer.u8(XATTR);
                writer.varint(*file);
                writer.bytes(name);
                writer.option(value.as_ref(), |writer, value| writer.bytes(value));
            }
            Operation::Fingerprint(file, fingerprint) => {
                writer.u8(FINGERPRINT);
                writer.varint(*file);
                writer.u64(*fingerprint);
            }
            Operation::Entry {
                folder,
                name,
                child,
                entries,
                directories,
            } => {
                writer.u8(ENTRY);
                writer.varint(*folder);
                writer.bytes(name);
                writer.option(*child, |writer, child| {
                    writer.varint(child.file);
                    writer.u8(child.kind as u8);
                });
                writer.varint(*entries);
                writer.varint(*directories);
            }
            Operation::Names {
                file,
                parent,
                name,
                links,
                linked,
            } => {
                writer.u8(NAMES);
                write_names(writer, *file, *parent, name, *links, *linked);
            }
            Operation::Size(file, size) => {
                writer.u8(SIZE);
                writer.varint(*file);
                writer.varint(*size);
            }
            Operation::Hole(file, offset, length) => {
                writer.u8(HOLE);
                writer.varint(*file);
                writer.varint(*offset);
                writer.varint(*length);
            }
            Operation::Place(file, offset, placed) => {
                writer.u8(PLACE);
                writer.varint(*file);
                writer.varint(*offset);
                writer.varint(placed.len() as u64);
                placed
                    .iter()
                    .for_each(|placed| write_placed(writer, placed));
            }
            Operation::List {
                file,
                size,
                allocated,
                list,
            } => {
                writer.u8(LIST);
                writer.varint(*file);
                writer.varint(*size);
                writer.varint(*allocated);
                list.write(writer);
            }
            Operation::Freeze(moment) => {
                writer.u8(FREEZE);
                moment.time.write(writer);
                writer.option(moment.label.as_ref(), |writer, label| writer.bytes(label));
                writer.varint(moment.ticket);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        Ok(match reader.u8()? {
            INODE => {
                let (file, parent, name, links, linked) = read_names(reader)?;
                let inode = Inode::read(reader)?;
                reader.require(inode.file == file, "two numbers for one file")?;
                Operation::Inode {
                    parent,
                    name,
                    links,
                    linked,
                    inode,
                }
            }
            ATTRIBUTES => Operation::Attributes(reader.varint()?, read_attributes(reader)?),
            XATTR => {
                let file = reader.varint()?;
                let name = reader.bytes()?.to_vec();
                Operation::Xattr(
                    file,
                    name,
                    reader.option(|reader| Ok(reader.bytes()?.to_vec()))?,
                )
            }
            FINGERPRINT => Operation::Fingerprint(reader.varint()?, reader.u64()?),
            ENTRY => {
                let folder = reader.varint()?;
                let name = Arc::from(reader.bytes()?);
                let child = reader.option(|reader| {
                    let file = reader.varint()?;
                    let kind = reader.u8()?;
                    let kind =
                        FileKind::from_u8(kind).ok_or(reader.error("an unknown kind of file"))?;
                    Ok(Child { file, kind })
                })?;
                Operation::Entry {
                    folder,
                    name,
                    child,
                    entries: reader.varint()?,
                    directories: reader.varint()?,
                }
            }
            NAMES => {
                let (file, parent, name, links, linked) = read_names(reader)?;
                Operation::Names {
                    file,
                    parent,
                    name,
                    links,
                    linked,
                }
            }
            SIZE => Operation::Size(reader.varint()?, reader.varint()?),
            HOLE => Operation::Hole(reader.varint()?, reader.varint()?, reader.varint()?),
            PLACE => {
                let (file, offset) = (reader.varint()?, reader.varint()?);
                let count = reader.count(2)?;
                let placed = (0..count)
                    .map(|_| read_placed(reader))
                    .collect::<Decoded<_>>()?;
                Operation::Place(file, offset, placed)
            }
            LIST => Operation::List {
                file: reader.varint()?,
                size: reader.varint()?,
                allocated: reader.varint()?,
                list: ListRef::read(reader)?,
            },
            FREEZE => {
                let time = Time::read(reader)?;
                let label = reader.option(|reader| Ok(reader.bytes()?.to_vec()))?;
                Operation::Freeze(Moment {
                    time,
                    label,
                    ticket: reader.varint()?,
                })
            }
            _ => {
                return Err(
                    reader.error("an unknown operation; was it written by a newer version?")
                );
            }
        })
    }
}

fn write_names(
    writer: &mut Writer,
    file: FileNo,
    parent: FileNo,
    name: &[u8],
    links: u32,
    linked: bool,
) {
    writer.varint(file);
    writer.varint(parent);
    writer.bytes(name);
    writer.varint(links.into());
    writer.u8(linked.into());
}

fn read_names(reader: &mut Reader<'_>) -> Decoded<(FileNo, FileNo, Name, u32, bool)> {
    let (file, parent) = (reader.varint()?, reader.varint()?);
    let name = Arc::from(reader.bytes()?);
    Ok((file, parent, name, reader.varint32()?, reader.flag()?))
}

const CHUNK: u8 = 1;
const GAP: u8 = 2;

fn write_placed(writer: &mut Writer, placed: &Placed) {
    match placed {
        Placed::Chunk {
            id,
            chunk_length,
            skip,
            length,
        } => {
            writer.u8(CHUNK);
            writer.chunk_id(id);
            writer.varint((*chunk_length).into());
            writer.varint((*skip).into());
            writer.varint((*length).into());
        }
        Placed::Hole { length } => {
            writer.u8(GAP);
            writer.varint(*length);
        }
        // An extent has a record of its own; who copies one places chunks.
        Placed::Logged { .. } => unreachable!("extents are copied as bytes"),
    }
}

fn read_placed(reader: &mut Reader<'_>) -> Decoded<Placed> {
    match reader.u8()? {
        CHUNK => {
            let id = reader.chunk_id()?;
            let (chunk_length, skip, length) =
                (reader.varint32()?, reader.varint32()?, reader.varint32()?);
            let end = skip.checked_add(length);
            reader.require(
                end.is_some_and(|end| end <= chunk_length),
                "a place outside of its chunk",
            )?;
            Ok(Placed::Chunk {
                id,
                chunk_length,
                skip,
                length,
            })
        }
        GAP => Ok(Placed::Hole {
            length: reader.varint()?,
        }),
        _ => Err(reader.error("an unknown piece")),
    }
}

fn write_attributes(writer: &mut Writer, attributes: &Attributes) {
    writer.u8(attributes.kind as u8);
    writer.varint(attributes.mode.into());
    writer.varint(attributes.uid.into());
    writer.varint(attributes.gid.into());
    writer.bytes(&attributes.owner);
    writer.bytes(&attributes.group);
    [attributes.mtime, attributes.ctime, attributes.atime]
        .iter()
        .for_each(|time| time.write(writer));
    writer.varint(attributes.rdev);
}

fn read_attributes(reader: &mut Reader<'_>) -> Decoded<Attributes> {
    let kind = reader.u8()?;
    Ok(Attributes {
        kind: FileKind::from_u8(kind).ok_or(reader.error("an unknown kind of file"))?,
        mode: reader.varint32()?,
        uid: reader.varint32()?,
        gid: reader.varint32()?,
        owner: Arc::from(reader.bytes()?),
        group: Arc::from(reader.bytes()?),
        mtime: Time::read(reader)?,
        ctime: Time::read(reader)?,
        atime: Time::read(reader)?,
        rdev: reader.varint()?,
    })
}
