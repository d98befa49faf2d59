//! Copies of chunks that were found missing or damaged, kept for the next mount.
//!
//! A bad copy never satisfies deduplication and is tried last when the chunk is loaded, whichever
//! process found it. Wrongly remembered ones cost a chunk stored once more, never data: they are still
//! tried when there is no other copy, and a check that reads everything begins the list anew.
//!
//! `state/bad-copies` is an append-only file of records of 72 bytes: epoch and hash of the chunk's id,
//! digest of its pack, CRC-32C of these. An id of zeros stands for the pack as a whole, which has
//! other bytes than its name says. Not synced; a torn record is passed over. Several processes
//! may append at once.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_crypto::{ChunkId, Digest};
use parking_lot::{Mutex, RwLock};

use crate::home::replace_file;

const RECORD: usize = 72;

/// Stands for the pack itself.
const WHOLE: ChunkId = ChunkId {
    epoch: 0,
    hash: [0; 32],
};

/// A chunk and a pack whose copy of it is bad.
pub(crate) type BadCopy = (ChunkId, Digest);

/// Which copies are bad.
pub(crate) struct BadCopies {
    path: PathBuf,
    copies: RwLock<BTreeSet<BadCopy>>,
    file: Mutex<Option<File>>,
    /// A chunk with a bad copy was stored again since this was last asked.
    mended: AtomicBool,
}

impl BadCopies {
    /// What the file knows.
    pub(crate) fn open(path: PathBuf) -> Self {
        let copies = read(&path);
        // Whoever stored one of them again may have died before a commit chose that copy.
        let mended = AtomicBool::new(!copies.is_empty());
        Self {
            path,
            copies: RwLock::new(copies),
            file: Mutex::default(),
            mended,
        }
    }

    /// Takes in what other processes have found.
    pub(crate) fn reload(&self) {
        self.copies.write().append(&mut read(&self.path));
    }

    /// Whether this copy of a chunk is bad.
    pub(crate) fn contains(&self, id: &ChunkId, pack: &Digest) -> bool {
        self.copies.read().contains(&(*id, *pack))
    }

    /// Whether any copy of a chunk is bad.
    fn has_any(&self, id: &ChunkId) -> bool {
        let copies = self.copies.read();
        let range = (*id, Digest([0; 32]))..=(*id, Digest([0xff; 32]));
        copies.range(range).next().is_some()
    }

    /// The packs with a bad copy.
    pub(crate) fn packs(&self) -> BTreeSet<Digest> {
        self.copies.read().iter().map(|(_, pack)| *pack).collect()
    }

    /// All bad copies of chunks.
    pub(crate) fn all(&self) -> Vec<BadCopy> {
        let copies = self.copies.read();
        copies
            .iter()
            .filter(|(id, _)| *id != WHOLE)
            .copied()
            .collect()
    }

    /// Remembers a bad copy.
    pub(crate) fn add(&self, id: &ChunkId, pack: &Digest) {
        if self.copies.write().insert((*id, *pack)) {
            self.append(&encode(&(*id, *pack)));
        }
    }

    /// After everything was read: these copies are bad, these packs have other bytes than their names
    /// say, and nothing else is known.
    pub(crate) fn replace(&self, copies: BTreeSet<BadCopy>, damaged: &BTreeSet<Digest>) {
        let mut copies = copies;
        copies.extend(damaged.iter().map(|pack| (WHOLE, *pack)));
        if *self.copies.read() == copies {
            return;
        }
        let bytes: Vec<u8> = copies.iter().flat_map(encode).collect();
        *self.copies.write() = copies;
        *self.file.lock() = None;
        if let Err(error) = replace_file(&self.path, &bytes) {
            tracing::warn!(%error, "which chunks are damaged could not be written down");
        }
    }

    /// Notes that a stored pack has these chunks.
    pub(crate) fn stored<'a>(&self, mut ids: impl Iterator<Item = &'a ChunkId>) {
        if !self.copies.read().is_empty() && ids.any(|id| self.has_any(id)) {
            self.mended.store(true, Ordering::Release);
        }
    }

    /// Whether a chunk with a bad copy was stored again since this was last asked.
    pub(crate) fn take_mended(&self) -> bool {
        self.mended.swap(false, Ordering::AcqRel)
    }

    fn append(&self, record: &[u8]) {
        let mut file = self.file.lock();
        let written = match &mut *file {
            Some(file) => file.write_all(record),
            None => self.open_file().and_then(|mut opened| {
                opened.write_all(record)?;
                *file = Some(opened);
                Ok(())
            }),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "a damaged chunk could not be written down; the next mount finds it out again");
        }
    }

    fn open_file(&self) -> io::Result<File> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)
    }
}

fn encode((id, pack): &BadCopy) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..4].copy_from_slice(&id.epoch.to_le_bytes());
    record[4..36].copy_from_slice(&id.hash);
    record[36..68].copy_from_slice(&pack.0);
    let sum = crc32c::crc32c(&record[..68]);
    record[68..].copy_from_slice(&sum.to_le_bytes());
    record
}

fn decode(record: &[u8; RECORD]) -> Option<BadCopy> {
    let (epoch, rest) = record.split_first_chunk::<4>()?;
    let (hash, rest) = rest.split_first_chunk::<32>()?;
    let (pack, sum) = rest.split_first_chunk::<32>()?;
    let epoch = u32::from_le_bytes(*epoch);
    let is_whole = crc32c::crc32c(&record[..68]).to_le_bytes() == *sum;
    is_whole.then_some((ChunkId { epoch, hash: *hash }, Digest(*pack)))
}

fn read(path: &std::path::Path) -> BTreeSet<BadCopy> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "which chunks are damaged is not known");
            Vec::new()
        }
    };
    bytes
        .as_chunks::<RECORD>()
        .0
        .iter()
        .filter_map(decode)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ChunkId {
        ChunkId {
            epoch: 1,
            hash: [n; 32],
        }
    }

    #[test]
    fn what_is_bad_is_known_again_and_a_torn_record_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad-copies");
        let bad = BadCopies::open(path.clone());
        let pack = Digest([9; 32]);
        bad.add(&id(1), &pack);
        bad.add(&id(2), &pack);
        bad.add(&id(2), &pack);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * RECORD as u64);
        let again = BadCopies::open(path.clone());
        assert!(again.contains(&id(1), &pack) && again.contains(&id(2), &pack));
        assert!(!again.contains(&id(1), &Digest([8; 32])));

        let mut bytes = std::fs::read(&path).unwrap();
        bytes[10] ^= 1;
        bytes.extend([1, 2, 3]);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(BadCopies::open(path).all(), [(id(2), pack)]);
    }

    #[test]
    fn another_process_sees_what_this_one_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad-copies");
        let (one, other) = (BadCopies::open(path.clone()), BadCopies::open(path));
        one.add(&id(1), &Digest([1; 32]));
        other.add(&id(2), &Digest([2; 32]));
        one.reload();
        assert_eq!(one.packs().len(), 2);
        one.replace(BTreeSet::new(), &BTreeSet::from([Digest([3; 32])]));
        assert_eq!(one.packs(), BTreeSet::from([Digest([3; 32])]));
        assert!(one.all().is_empty());
    }

    #[test]
    fn a_chunk_that_is_stored_again_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let bad = BadCopies::open(folder.path().join("bad-copies"));
        bad.add(&id(1), &Digest([1; 32]));
        bad.stored([&id(5)].into_iter());
        assert!(!bad.take_mended());
        bad.stored([&id(5), &id(1)].into_iter());
        assert!(bad.take_mended() && !bad.take_mended());
    }
}
