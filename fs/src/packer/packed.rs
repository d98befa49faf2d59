//! What is in a stored pack, as the log and the index want it.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_crypto::{ChunkId, ChunkKind, Digest};

use crate::format::codec::DecodeError;
use crate::format::index::{IndexBody, IndexEntry, IndexedPack};

/// Where a chunk is in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedChunk {
    /// The chunk.
    pub id: ChunkId,
    /// What it is a chunk of.
    pub kind: ChunkKind,
    /// Where its ciphertext begins.
    pub offset: u32,
    /// Length of its ciphertext.
    pub stored_length: u32,
    /// Length of its plaintext before compression.
    pub raw_length: u32,
    /// Key object of its session key.
    pub key: Digest,
}

/// A stored pack and its chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedChunks {
    /// SHA-256 of the pack.
    pub pack: Digest,
    /// Its whole length in bytes.
    pub size: u64,
    /// Its chunks.
    pub chunks: Vec<PackedChunk>,
}

impl PackedChunks {
    /// The key objects that its chunks need, ascending.
    pub fn keys(&self) -> Vec<Digest> {
        self.chunks
            .iter()
            .map(|chunk| chunk.key)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Bytes for the log: an index body of one pack.
    pub fn encode(&self) -> Vec<u8> {
        index_body([self]).encode()
    }

    /// Reads what [`PackedChunks::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let problem = "it does not hold one pack";
        let mut packs = split(&IndexBody::decode(bytes)?);
        match (packs.pop(), packs.is_empty()) {
            (Some(pack), true) => Ok(pack),
            _ => Err(DecodeError {
                what: "stored pack",
                problem,
            }),
        }
    }
}

/// The index body that covers these packs.
pub fn index_body<'a>(packs: impl IntoIterator<Item = &'a PackedChunks>) -> IndexBody {
    let packs: BTreeMap<Digest, &PackedChunks> =
        packs.into_iter().map(|pack| (pack.pack, pack)).collect();
    let keys: BTreeSet<Digest> = packs
        .values()
        .flat_map(|pack| pack.chunks.iter().map(|chunk| chunk.key))
        .collect();
    let keys: Vec<Digest> = keys.into_iter().collect();
    let mut entries: Vec<IndexEntry> = Vec::new();
    for (number, pack) in packs.values().enumerate() {
        entries.extend(pack.chunks.iter().map(|chunk| {
            IndexEntry {
                id: chunk.id,
                kind: chunk.kind,
                pack: number as u32,
                offset: chunk.offset,
                stored_length: chunk.stored_length,
                raw_length: chunk.raw_length,
                key: keys
                    .binary_search(&chunk.key)
                    .expect("every key was collected") as u32,
            }
        }));
    }
    entries.sort_unstable();
    entries.dedup();
    let packs = packs
        .values()
        .map(|pack| IndexedPack {
            digest: pack.pack,
            size: pack.size,
        })
        .collect();
    IndexBody {
        packs,
        keys,
        entries,
    }
}

/// The packs of an index body, each with its chunks.
pub fn split(body: &IndexBody) -> Vec<PackedChunks> {
    let empty = |pack: &IndexedPack| PackedChunks {
        pack: pack.digest,
        size: pack.size,
        chunks: Vec::new(),
    };
    let mut packs: Vec<PackedChunks> = body.packs.iter().map(empty).collect();
    for entry in &body.entries {
        // Decoding has checked both numbers.
        packs[entry.pack as usize].chunks.push(PackedChunk {
            id: entry.id,
            kind: entry.kind,
            offset: entry.offset,
            stored_length: entry.stored_length,
            raw_length: entry.raw_length,
            key: body.keys[entry.key as usize],
        });
    }
    packs
}
