//! Index objects: where chunks are, for many packs at once: `docs/format/index.md`.

use holdfast_backend::object::{EnvelopedPlacement, FormatError, Header, Object, ObjectKind};
use holdfast_crypto::{ChunkId, ChunkKind, CryptoError, Digest, IndexKey};

use super::codec::{DecodeError, Decoded, Reader, Writer};

/// What an index object says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexBody {
    /// The packs that it covers, ascending by digest.
    pub packs: Vec<IndexedPack>,
    /// The key objects of the session keys that open their chunks, ascending.
    pub keys: Vec<Digest>,
    /// The chunks, ascending by id, kind, pack and offset.
    pub entries: Vec<IndexEntry>,
}

/// A pack that an index object covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexedPack {
    /// SHA-256 of the pack.
    pub digest: Digest,
    /// Its whole length in bytes.
    pub size: u64,
}

/// Where one copy of a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexEntry {
    /// The chunk.
    pub id: ChunkId,
    /// What it is a chunk of.
    pub kind: ChunkKind,
    /// Place of its pack in [`IndexBody::packs`].
    pub pack: u32,
    /// Where its ciphertext begins in the pack, in bytes.
    pub offset: u32,
    /// Length of its ciphertext with nonce and tag, in bytes.
    pub stored_length: u32,
    /// Length of its plaintext before compression, in bytes.
    pub raw_length: u32,
    /// Place of its session key in [`IndexBody::keys`].
    pub key: u32,
}

/// An index object does not open.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Not an index object of this format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Damaged, or of another archive.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Opens, but is not what the format says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl IndexBody {
    /// The plaintext. The parts must be sorted as their fields say.
    pub fn encode(&self) -> Vec<u8> {
        let room = 40 * self.packs.len() + 32 * self.keys.len() + 52 * self.entries.len();
        let mut writer = Writer::with_capacity(32 + room);
        writer.varint(self.packs.len() as u64);
        for pack in &self.packs {
            writer.raw(&pack.digest.0);
            writer.varint(pack.size);
        }
        write_keys(&mut writer, &self.keys);
        writer.varint(self.entries.len() as u64);
        self.entries
            .iter()
            .for_each(|entry| entry.write(&mut writer));
        writer.finish()
    }

    /// Reads what [`IndexBody::encode`] made.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new("index", bytes);
        let packs = read_packs(&mut reader)?;
        let keys = read_keys(&mut reader)?;
        let entries = read_entries(&mut reader, &packs, &keys)?;
        reader.finish()?;
        Ok(IndexBody {
            packs,
            keys,
            entries,
        })
    }

    /// The object to store.
    pub fn to_object(&self, epoch: u32, key: &IndexKey) -> Object {
        let header = Header {
            kind: ObjectKind::Index,
            epoch,
        }
        .encode();
        let ciphertext = key.encrypt(&header, &self.encode());
        Object::enveloped(EnvelopedPlacement::Index, epoch, &ciphertext)
    }

    /// Opens an index object. `key` belongs to the epoch of the object's header.
    pub fn from_object(object: &[u8], key: &IndexKey) -> Result<Self, IndexError> {
        let (header, stored) = Header::parse(ObjectKind::Index, object)?;
        Ok(IndexBody::decode(&key.decrypt(&header.encode(), stored)?)?)
    }
}

fn read_packs(reader: &mut Reader<'_>) -> Decoded<Vec<IndexedPack>> {
    let count = reader.count(33)?;
    let mut packs: Vec<IndexedPack> = Vec::with_capacity(count);
    for _ in 0..count {
        let pack = IndexedPack {
            digest: Digest(reader.array()?),
            size: reader.varint()?,
        };
        let ascends = packs.last().is_none_or(|last| last.digest < pack.digest);
        reader.require(ascends, "its packs are out of order")?;
        packs.push(pack);
    }
    Ok(packs)
}

pub(super) fn write_keys(writer: &mut Writer, keys: &[Digest]) {
    writer.varint(keys.len() as u64);
    keys.iter().for_each(|key| writer.raw(&key.0));
}

pub(super) fn read_keys(reader: &mut Reader<'_>) -> Decoded<Vec<Digest>> {
    let count = reader.count(32)?;
    let mut keys: Vec<Digest> = Vec::with_capacity(count);
    for _ in 0..count {
        let key = Digest(reader.array()?);
        reader.require(
            keys.last().is_none_or(|last| *last < key),
            "its keys are out of order",
        )?;
        keys.push(key);
    }
    Ok(keys)
}

fn read_entries(
    reader: &mut Reader<'_>,
    packs: &[IndexedPack],
    keys: &[Digest],
) -> Decoded<Vec<IndexEntry>> {
    let count = reader.count(42)?;
    let mut entries: Vec<IndexEntry> = Vec::with_capacity(count);
    for _ in 0..count {
        let entry = IndexEntry::read(reader)?;
        reader.require(
            entries.last().is_none_or(|last| *last < entry),
            "it is out of order",
        )?;
        let pack = packs.get(entry.pack as usize);
        let pack = pack.ok_or(reader.error("a chunk is in a pack that it does not name"))?;
        let end = u64::from(entry.offset) + u64::from(entry.stored_length);
        reader.require(end <= pack.size, "a chunk is not inside of its pack")?;
        let has_key = (entry.key as usize) < keys.len();
        reader.require(has_key, "a chunk has a key that it does not name")?;
        entries.push(entry);
    }
    Ok(entries)
}

pub(super) fn read_kind(reader: &mut Reader<'_>) -> Decoded<ChunkKind> {
    let number = reader.u8()?;
    ChunkKind::from_u8(number).ok_or(reader.error("a chunk is of no known kind"))
}

impl IndexEntry {
    fn write(&self, writer: &mut Writer) {
        writer.chunk_id(&self.id);
        writer.u8(self.kind.to_u8());
        for number in [
            self.pack,
            self.offset,
            self.stored_length,
            self.raw_length,
            self.key,
        ] {
            writer.varint(u64::from(number));
        }
    }

    fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        Ok(IndexEntry {
            id: reader.chunk_id()?,
            kind: read_kind(reader)?,
            pack: reader.varint32()?,
            offset: reader.varint32()?,
            stored_length: reader.varint32()?,
            raw_length: reader.varint32()?,
            key: reader.varint32()?,
        })
    }
}
