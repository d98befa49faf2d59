//! The table at the end of a pack: what is in it, should every index be lost:
//! `docs/format/index.md`, "Tables of packs".

use holdfast_backend::object::{Header, ObjectKind};
use holdfast_backend::pack::Trailer;
use holdfast_crypto::{ChunkId, ChunkKind, Ciphertext, CryptoError, Digest, IndexKey};

use super::codec::{Decoded, Reader, Writer};
use super::index::{read_keys, read_kind, write_keys};

/// What is in a pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackTable {
    /// The key objects of the session keys that open its chunks, ascending.
    pub keys: Vec<Digest>,
    /// The chunks in the order of their places, which have no gaps between them; the first begins
    /// right after the pack's header.
    pub entries: Vec<PackEntry>,
}

/// One chunk of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// What it is a chunk of.
    pub kind: ChunkKind,
    /// The chunk.
    pub id: ChunkId,
    /// Length of its ciphertext with nonce and tag, in bytes.
    pub stored_length: u32,
    /// Length of its plaintext before compression, in bytes.
    pub raw_length: u32,
    /// Place of its session key in [`PackTable::keys`].
    pub key: u32,
}

impl PackTable {
    /// The plaintext.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        write_keys(&mut writer, &self.keys);
        writer.varint(self.entries.len() as u64);
        self.entries
            .iter()
            .for_each(|entry| entry.write(&mut writer));
        writer.finish()
    }

    /// Reads what [`PackTable::encode`] made.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new("pack table", bytes);
        let keys = read_keys(&mut reader)?;
        let count = reader.count(40)?;
        let mut entries = Vec::with_capacity(count);
        let mut end = Header::LENGTH as u64;
        for _ in 0..count {
            let entry = PackEntry::read(&mut reader)?;
            let has_key = (entry.key as usize) < keys.len();
            reader.require(has_key, "a chunk has a key that it does not name")?;
            end += u64::from(entry.stored_length);
            entries.push(entry);
        }
        reader.require(end <= u64::from(u32::MAX), "its chunks do not fit a pack")?;
        reader.finish()?;
        Ok(PackTable { keys, entries })
    }

    /// The entries with the offset of each in the pack.
    pub fn places(&self) -> impl Iterator<Item = (u32, &PackEntry)> {
        let mut next = Header::LENGTH as u32;
        self.entries.iter().map(move |entry| {
            let offset = next;
            next = next.saturating_add(entry.stored_length);
            (offset, entry)
        })
    }

    /// The table as it stands in a pack of this epoch.
    pub fn encrypt(&self, epoch: u32, key: &IndexKey) -> Ciphertext {
        key.encrypt(&bound(epoch, b"table"), &self.encode())
    }
}

/// Opens the table of a pack of this epoch; [`PackTable::decode`] reads what comes out.
pub fn decrypt_table(epoch: u32, key: &IndexKey, stored: &[u8]) -> Result<Vec<u8>, CryptoError> {
    key.decrypt(&bound(epoch, b"table"), stored)
}

/// The trailer as it stands in a pack of this epoch.
pub fn encrypt_trailer(epoch: u32, key: &IndexKey, trailer: &Trailer) -> Ciphertext {
    key.encrypt(&bound(epoch, b"trailer"), &trailer.encode())
}

/// Opens the trailer of a pack of this epoch; [`Trailer::decode`] reads what comes out.
pub fn decrypt_trailer(epoch: u32, key: &IndexKey, stored: &[u8]) -> Result<Vec<u8>, CryptoError> {
    key.decrypt(&bound(epoch, b"trailer"), stored)
}

/// The pack's header and which part of it: a table is not a trailer.
fn bound(epoch: u32, part: &[u8]) -> Vec<u8> {
    [
        &Header {
            kind: ObjectKind::Pack,
            epoch,
        }
        .encode(),
        part,
    ]
    .concat()
}

impl PackEntry {
    fn write(&self, writer: &mut Writer) {
        writer.u8(self.kind.to_u8());
        writer.chunk_id(&self.id);
        for number in [self.stored_length, self.raw_length, self.key] {
            writer.varint(u64::from(number));
        }
    }

    fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        Ok(PackEntry {
            kind: read_kind(reader)?,
            id: reader.chunk_id()?,
            stored_length: reader.varint32()?,
            raw_length: reader.varint32()?,
            key: reader.varint32()?,
        })
    }
}
