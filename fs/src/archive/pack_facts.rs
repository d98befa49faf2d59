//! An append-only file of what is known of packs beside their chunks.
//!
//! Each record is `length u32 | CRC-32C u32 | body`. Reading ends at the first record that is not
//! whole; what follows is cut off. Not synced: after a power loss the file is short, which
//! [`super::places`] finds out and mends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use holdfast_crypto::Digest;

use super::places::holds_trees;
use crate::packer::PackedChunks;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Pack {
        pack: Digest,
        size: u64,
        chunks: u32,
        holds_trees: bool,
        keys: Vec<Digest>,
    },
    Object {
        object: Digest,
        packs: Vec<Digest>,
    },
    DropPack(Digest),
    DropObject(Digest),
}

pub(super) struct FactsFile {
    file: File,
}

const PACK: u8 = 1;
const OBJECT: u8 = 2;
const DROP_PACK: u8 = 3;
const DROP_OBJECT: u8 = 4;

impl FactsFile {
    /// Opens the file, or makes it, and reads what is whole.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<Record>)> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut records = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((record, left)) = take_record(rest) {
            records.push(record);
            rest = left;
        }
        let whole = (bytes.len() - rest.len()) as u64;
        file.set_len(whole)?;
        file.seek(SeekFrom::Start(whole))?;
        Ok((Self { file }, records))
    }

    /// An empty one.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(Self { file })
    }

    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let body = record.encode();
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let head = [length.to_le_bytes(), crc32c::crc32c(&body).to_le_bytes()].concat();
        self.file.write_all(&[head, body].concat())
    }
}

impl Record {
    pub(super) fn pack(pack: &PackedChunks) -> Self {
        Record::Pack {
            pack: pack.pack,
            size: pack.size,
            chunks: u32::try_from(pack.chunks.len()).expect("a pack is shorter than 4 GiB"),
            holds_trees: holds_trees(pack),
            keys: pack.keys(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let names = |names: &[Digest]| names.iter().flat_map(|name| name.0).collect::<Vec<u8>>();
        match self {
            Record::Pack {
                pack,
                size,
                chunks,
                holds_trees,
                keys,
            } => [
                &[PACK],
                &pack.0[..],
                &size.to_le_bytes(),
                &chunks.to_le_bytes(),
                &[u8::from(*holds_trees)],
                &names(keys),
            ]
            .concat(),
            Record::Object { object, packs } => [&[OBJECT], &object.0[..], &names(packs)].concat(),
            Record::DropPack(pack) => [&[DROP_PACK], &pack.0[..]].concat(),
            Record::DropObject(object) => [&[DROP_OBJECT], &object.0[..]].concat(),
        }
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (kind, rest) = body.split_first()?;
        let (digest, rest) = rest.split_first_chunk::<32>()?;
        let digest = Digest(*digest);
        match *kind {
            PACK => {
                let (size, rest) = rest.split_first_chunk::<8>()?;
                let (chunks, rest) = rest.split_first_chunk::<4>()?;
                let (trees, rest) = rest.split_first()?;
                Some(Record::Pack {
                    pack: digest,
                    size: u64::from_le_bytes(*size),
                    chunks: u32::from_le_bytes(*chunks),
                    holds_trees: *trees == 1,
                    keys: digests(rest)?,
                })
            }
            OBJECT => Some(Record::Object {
                object: digest,
                packs: digests(rest)?,
            }),
            DROP_PACK if rest.is_empty() => Some(Record::DropPack(digest)),
            DROP_OBJECT if rest.is_empty() => Some(Record::DropObject(digest)),
            _ => None,
        }
    }
}

fn digests(bytes: &[u8]) -> Option<Vec<Digest>> {
    let (digests, rest) = bytes.as_chunks::<32>();
    rest.is_empty()
        .then(|| digests.iter().copied().map(Digest).collect())
}

fn take_record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let whole = crc32c::crc32c(body) == u32::from_le_bytes(*crc);
    Some((Record::decode(body).filter(|_| whole)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_record_ends_the_file_and_the_rest_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("packs");
        let digest = |n| Digest([n; 32]);
        let records = [
            Record::Pack {
                pack: digest(1),
                size: 5,
                chunks: 9,
                holds_trees: true,
                keys: vec![digest(7), digest(8)],
            },
            Record::Object {
                object: digest(2),
                packs: vec![digest(1)],
            },
            Record::DropObject(digest(2)),
            Record::DropPack(digest(1)),
        ];
        let (mut file, read) = FactsFile::open(&path).unwrap();
        assert!(read.is_empty());
        records
            .iter()
            .for_each(|record| file.append(record).unwrap());
        drop(file);
        assert_eq!(FactsFile::open(&path).unwrap().1, records);

        let length = std::fs::metadata(&path).unwrap().len();
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length - 3)
            .unwrap();
        let (mut file, read) = FactsFile::open(&path).unwrap();
        assert_eq!(read, records[..3]);
        file.append(&records[3]).unwrap();
        assert_eq!(FactsFile::open(&path).unwrap().1, records);
    }
}
