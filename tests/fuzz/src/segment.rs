//! A segment of the log that a disk gives back, over a disk in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use holdfast::log::{Disk, DiskFile, Log, LogError, LogLimits, Record, RecordRef, Space};
use holdfast_crypto::{LogKey, UserKey};

const HEADER: usize = 64;
const RECORD: usize = 32;

/// Opens a log with this one segment, as it is and with its checksums put right, and goes on in it:
/// what was replayed is replayed again, with the new record behind it.
pub fn log_segment(bytes: &[u8]) {
    open_twice(bytes.to_vec());
    open_twice(with_checksums(bytes.to_vec()));
}

fn open_twice(segment: Vec<u8>) {
    let disk = Arc::new(MemoryDisk::default());
    disk.put(Path::new("/log/0000000001.log"), segment);
    let user = UserKey::generate();
    let wrapped = LogKey::generate().wrap(&user);
    let Ok((log, found)) = open(&disk, &user, &wrapped) else {
        return;
    };
    let Some(found) = found else { return };
    let new = RecordRef::Operation(b"new");
    let Ok(position) = log.append(&new) else {
        return;
    };
    log.sync().expect("this disk does not fail");
    drop(log);
    let (_, again) = open(&disk, &user, &wrapped).expect("it was opened before");
    let again = again.expect("it was whole before");
    assert_eq!(again.len(), found.len() + 1);
    assert_eq!(again[..found.len()], found);
    assert_eq!(again[found.len()].0, position.sequence);
    assert_eq!(again[found.len()].1, Record::Operation(b"new".to_vec()));
}

/// Sequence and content of each record.
type Replayed = Vec<(u64, Record)>;

/// The log and what it replays; `None` where it is damaged.
fn open(
    disk: &Arc<MemoryDisk>,
    user: &UserKey,
    wrapped: &[u8],
) -> Result<(Log, Option<Replayed>), LogError> {
    let key = LogKey::unwrap(user, wrapped).expect("it was wrapped for this key");
    let limits = LogLimits {
        bytes: Some(8 << 20),
        ..LogLimits::default()
    };
    let (log, replay) = Log::open_without_background(Path::new("/log"), key, limits, disk.clone())?;
    let found = replay
        .map(|item| item.map(|(position, record)| (position.sequence, record)))
        .collect();
    Ok((log, Result::ok(found)))
}

/// Bytes at random have no right checksum: gives the header and the records behind it theirs
/// (`docs/format/log.md`).
fn with_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() < HEADER {
        return bytes;
    }
    bytes[..8].copy_from_slice(b"HFLG\x01\0\x01\0");
    bytes[12..16].fill(0);
    // The number in its name.
    bytes[32..40].copy_from_slice(&1_u64.to_le_bytes());
    bytes[56..64].fill(0);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..8]), &bytes[12..HEADER]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    let mut at = HEADER;
    while at + RECORD <= bytes.len() {
        let (before, record) = bytes.split_at_mut(at);
        let (header, payload) = record.split_at_mut(RECORD);
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if length > payload.len() {
            break;
        }
        let crc = crc32c::crc32c(&payload[..length]);
        header[8..12].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&before[16..32]), &header[..12]);
        let crc = crc32c::crc32c_append(crc, &header[16..]);
        header[12..16].copy_from_slice(&crc.to_le_bytes());
        at = (at + RECORD + length).next_multiple_of(8);
    }
    bytes
}

#[derive(Default)]
struct MemoryDisk {
    files: Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>,
}

struct MemoryFile(Mutex<Vec<u8>>);

impl MemoryDisk {
    fn put(&self, path: &Path, bytes: Vec<u8>) -> Arc<MemoryFile> {
        let file = Arc::new(MemoryFile(Mutex::new(bytes)));
        self.files().insert(path.to_owned(), file.clone());
        file
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<MemoryFile>>> {
        self.files.lock().expect("nothing panics with it held")
    }
}

impl MemoryFile {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().expect("nothing panics with it held")
    }
}

impl Disk for MemoryDisk {
    fn list(&self, _folder: &Path) -> io::Result<Vec<String>> {
        let name = |path: &PathBuf| path.file_name()?.to_str().map(str::to_owned);
        Ok(self.files().keys().filter_map(name).collect())
    }

    fn create(&self, path: &Path, size_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let exists = self.files().contains_key(path);
        match exists {
            true => Err(io::ErrorKind::AlreadyExists.into()),
            false => Ok(self.put(path, vec![0; size_bytes as usize])),
        }
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        match self.files().get(path) {
            Some(file) => Ok(file.clone()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files().remove(path);
        Ok(())
    }

    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        Ok(())
    }

    fn space(&self, _folder: &Path) -> io::Result<Space> {
        Ok(Space {
            total: 1 << 40,
            available: 1 << 40,
        })
    }

    fn random_id(&self) -> io::Result<[u8; 16]> {
        // As good as random for a log of few segments.
        Ok([self.files().len() as u8; 16])
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.bytes();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_all_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let (mut bytes, new) = (self.bytes(), parts.concat());
        let end = offset as usize + new.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset as usize..end].copy_from_slice(&new);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        self.bytes().resize(size_bytes as usize, 0);
        Ok(())
    }
}
