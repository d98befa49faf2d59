//! Writes a whole archive by hand: the format's parts put together without the drive.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;
use holdfast::chunks::{ChunkSink, ChunkSource, LoadError, SinkError};
use holdfast::encrypt::encrypt;
use holdfast::format::{
    Commit, DeviceRecord, EpochSecret, IndexBody, IndexEntry, IndexedPack, Keyring, PackEntry,
    PackTable, Time, pack_table,
};
use holdfast_backend::object::Object;
use holdfast_backend::pack::{PackBuilder, Trailer};
use holdfast_crypto::{
    ArchiveSecret, ChunkId, ChunkKind, Ciphertext, DeviceId, DeviceSigningKey, Digest,
    RecoveryCode, SessionKey, UserKey,
};
use zeroize::Zeroizing;

pub const EPOCH: u32 = 1;

/// An archive in a folder, being written by one device.
pub struct ArchiveWriter {
    folder: PathBuf,
    pub secret: ArchiveSecret,
    pub device: DeviceId,
    signer: DeviceSigningKey,
    session: SessionKey,
    session_digest: Digest,
    chunks: Mutex<Chunks>,
}

#[derive(Default)]
struct Chunks {
    plain: HashMap<(ChunkKind, ChunkId), Bytes>,
    unpacked: Vec<(ChunkKind, ChunkId, u32, Ciphertext)>,
}

impl ArchiveWriter {
    /// A new archive with one device; its recovery code is the second value.
    pub fn create(folder: &Path) -> (Self, Zeroizing<String>) {
        let (code, user_key) = (RecoveryCode::generate(), UserKey::generate());
        let (secret, signer) = (ArchiveSecret::generate(), DeviceSigningKey::generate());
        let device = DeviceId::generate();
        let recovery = code.key_pair().public();
        let keyring = Keyring {
            version: 1,
            epochs: vec![EpochSecret {
                number: EPOCH,
                id_epoch: EPOCH,
                chunker: 1,
                secret: Zeroizing::new(*secret.expose_secret()),
            }],
            devices: vec![DeviceRecord {
                id: device,
                number: 1,
                name: "laptop".to_owned(),
                key: signer.verifying_key().to_bytes(),
                first_sequence: 1,
                last_sequence: None,
                added: Time::default(),
            }],
            recovery_key: recovery.to_bytes(),
        };
        let session = SessionKey::generate();
        let wrapped = secret.archive_key_pair().public().wrap(EPOCH, &session);
        let key_object = Object::key(EPOCH, &wrapped);
        let writer = ArchiveWriter {
            folder: folder.to_owned(),
            device,
            signer,
            session,
            session_digest: Digest::of(key_object.bytes()),
            chunks: Mutex::default(),
            secret,
        };
        writer.put(&keyring.to_object(&recovery.wrap(&user_key), &user_key.keyring_key()));
        writer.put(&key_object);
        (writer, code.to_printed())
    }

    fn put(&self, object: &Object) {
        let path = self.folder.join(object.name().to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, object.bytes()).unwrap();
    }

    /// Packs and indexes what was stored, then commits; returns the commit object's digest.
    pub fn commit(&self, commit: &Commit) -> Digest {
        let unpacked = std::mem::take(&mut self.chunks.lock().unwrap().unpacked);
        let key = self.secret.index_key();
        let mut pack = PackBuilder::new(EPOCH);
        let (mut table, mut entries) = (PackTable::default(), Vec::new());
        table.keys.push(self.session_digest);
        for (kind, id, raw_length, stored) in &unpacked {
            let place = pack.append(stored);
            let stored_length = place.end - place.start;
            table.entries.push(PackEntry {
                kind: *kind,
                id: *id,
                stored_length,
                raw_length: *raw_length,
                key: 0,
            });
            entries.push(IndexEntry {
                id: *id,
                kind: *kind,
                pack: 0,
                offset: place.start,
                stored_length,
                raw_length: *raw_length,
                key: 0,
            });
        }
        let encrypted = table.encrypt(EPOCH, &key);
        let trailer = Trailer {
            table_offset: pack.len(),
            table_length: encrypted.len() as u32,
        };
        let pack = pack.finish(
            &encrypted,
            &pack_table::encrypt_trailer(EPOCH, &key, &trailer),
        );
        entries.sort();
        let index = IndexBody {
            packs: vec![IndexedPack {
                digest: Digest::of(pack.bytes()),
                size: pack.len(),
            }],
            keys: vec![self.session_digest],
            entries,
        };
        let commit = commit.to_object(EPOCH, &self.secret.commit_key(), &self.signer);
        self.put(&pack);
        self.put(&index.to_object(EPOCH, &key));
        self.put(&commit);
        Digest::of(commit.bytes())
    }

    /// Puts a file's content in chunks of at most 1000 bytes; runs of zeros as long become holes.
    pub fn pieces(&self, content: &[u8]) -> Vec<holdfast::format::Piece> {
        use holdfast::format::Piece;
        let piece = |part: &[u8]| match part.iter().all(|byte| *byte == 0) {
            true => Piece::Hole {
                length: part.len() as u64,
            },
            false => Piece::Chunk {
                id: self.store(ChunkKind::Data, part).unwrap(),
                length: part.len() as u32,
            },
        };
        content.chunks(1000).map(piece).collect()
    }
}

impl ChunkSink for ArchiveWriter {
    fn store(&self, kind: ChunkKind, plaintext: &[u8]) -> Result<ChunkId, SinkError> {
        let id = self.secret.chunk_id_key().id(EPOCH, kind, plaintext);
        let mut chunks = self.chunks.lock().unwrap();
        if chunks
            .plain
            .insert((kind, id), Bytes::copy_from_slice(plaintext))
            .is_none()
        {
            let stored = encrypt(&self.session, kind, &id, plaintext);
            let raw_length = plaintext.len() as u32;
            chunks.unpacked.push((kind, id, raw_length, stored));
        }
        Ok(id)
    }
}

impl ChunkSource for ArchiveWriter {
    fn load(&self, kind: ChunkKind, id: &ChunkId) -> Result<Bytes, LoadError> {
        let chunks = self.chunks.lock().unwrap();
        let chunk = chunks.plain.get(&(kind, *id)).cloned();
        chunk.ok_or(LoadError::Missing { kind, id: *id })
    }
}

/// Entries of a folder under construction.
pub type Changes = BTreeMap<(u64, Vec<u8>), Option<holdfast::format::Entry>>;
