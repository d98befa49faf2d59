//! Encrypted bytes kept on the local disk, up to a number of bytes.
//!
//! One file per entry, `<two hex digits>/<kind><64 hex digits>`, never synced: a header with a
//! checksum says whether its bytes are whole. It is written under a temporary name and renamed, so
//! a crash leaves the old entry, the new one or a file that is dropped when it is read.
//!
//! ```text
//! "HFCA" | version u16 = 1 | kind u8 | 0 u8 | crc32c of what follows u32 | length u32 | key [32] | bytes
//! ```
//!
//! What was used last is known from the files' modification times, which are renewed once per
//! process: roughly right is enough.

use std::fs::{self, File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use lru::LruCache;
use parking_lot::Mutex;

const HEAD: &[u8; 6] = b"HFCA\x01\0";
const HEADER_BYTES: usize = 16 + 32;
const TEMPORARY_PREFIX: &str = "tmp-";
/// Files take whole blocks.
const BLOCK_BYTES: u64 = 4096;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CacheKind {
    /// A tree or list chunk, encrypted as in the store.
    Chunk = b'c',
    /// A block of a pack.
    Block = b'b',
}

impl CacheKind {
    fn from_u8(number: u8) -> Option<Self> {
        match number {
            b'c' => Some(Self::Chunk),
            b'b' => Some(Self::Block),
            _ => None,
        }
    }
}

type Key = (CacheKind, [u8; 32]);

/// The cache. Its calls do not fail: what cannot be read is not there, what cannot be written is
/// not kept.
pub struct DiskCache {
    folder: PathBuf,
    limit_bytes: u64,
    next_temporary: AtomicU64,
    state: Mutex<State>,
}

struct State {
    entries: LruCache<Key, Entry>,
    used_bytes: u64,
}

struct Entry {
    bytes: u64,
    /// Its modification time was renewed by this process.
    renewed: bool,
}

impl DiskCache {
    /// Opens the cache in a folder, which is made if it is not there.
    pub fn open(folder: &Path, limit_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut found = find_entries(folder)?;
        found.sort_by_key(|(modified, ..)| *modified);
        let mut state = State {
            entries: LruCache::unbounded(),
            used_bytes: 0,
        };
        for (_, key, bytes) in found {
            state.used_bytes += bytes;
            let renewed = false;
            state.entries.put(key, Entry { bytes, renewed });
        }
        let cache = DiskCache {
            folder: folder.to_owned(),
            limit_bytes,
            next_temporary: AtomicU64::new(0),
            state: Mutex::new(state),
        };
        cache.shrink();
        Ok(cache)
    }

    /// The bytes kept under a key. Damaged ones are dropped.
    pub fn get(&self, kind: CacheKind, key: &[u8; 32]) -> Option<Vec<u8>> {
        let renew = {
            let mut state = self.state.lock();
            let entry = state.entries.get_mut(&(kind, *key))?;
            !std::mem::replace(&mut entry.renewed, true)
        };
        let path = self.path(&(kind, *key));
        match fs::read(&path)
            .ok()
            .and_then(|file| decode(kind, key, file))
        {
            Some(bytes) => {
                if renew {
                    renew_time(&path);
                }
                Some(bytes)
            }
            None => {
                tracing::debug!("dropping the damaged cache entry {}", path.display());
                self.remove(kind, key);
                None
            }
        }
    }

    /// True if something is kept under a key; it may turn out to be damaged.
    pub fn contains(&self, kind: CacheKind, key: &[u8; 32]) -> bool {
        self.state.lock().entries.contains(&(kind, *key))
    }

    /// Keeps bytes under a key.
    pub fn put(&self, kind: CacheKind, key: &[u8; 32], bytes: &[u8]) {
        let size = entry_bytes(bytes.len() as u64);
        if size > self.limit_bytes || u32::try_from(bytes.len()).is_err() {
            return;
        }
        let key = (kind, *key);
        if let Err(error) = self.write(&key, bytes) {
            tracing::debug!("not cached: {error}");
            return;
        }
        {
            let mut state = self.state.lock();
            let entry = Entry {
                bytes: size,
                renewed: true,
            };
            state.used_bytes += size;
            if let Some(old) = state.entries.put(key, entry) {
                state.used_bytes -= old.bytes;
            }
        }
        self.shrink();
    }

    /// Forgets what is kept under a key.
    pub fn remove(&self, kind: CacheKind, key: &[u8; 32]) {
        let key = (kind, *key);
        let mut state = self.state.lock();
        if let Some(old) = state.entries.pop(&key) {
            state.used_bytes -= old.bytes;
            let _ = fs::remove_file(self.path(&key));
        }
    }

    /// Bytes in use on the disk.
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes
    }

    /// The lock is held, so that nobody puts the same entry meanwhile and loses its file.
    fn shrink(&self) {
        let mut state = self.state.lock();
        while state.used_bytes > self.limit_bytes {
            let Some((key, old)) = state.entries.pop_lru() else {
                break;
            };
            state.used_bytes -= old.bytes;
            let _ = fs::remove_file(self.path(&key));
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        let hex = hex::encode(key.1);
        let kind = key.0 as u8 as char;
        self.folder.join(&hex[..2]).join(format!("{kind}{hex}"))
    }

    fn write(&self, key: &Key, bytes: &[u8]) -> io::Result<()> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("{TEMPORARY_PREFIX}{number}"));
        let path = self.path(key);
        let written = fs::write(&temporary, encode(key, bytes)).and_then(|()| {
            let renamed = fs::rename(&temporary, &path);
            renamed.or_else(|_| {
                // Most likely the first entry in its folder.
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::rename(&temporary, &path)
            })
        });
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

fn entry_bytes(length: u64) -> u64 {
    (length + HEADER_BYTES as u64).next_multiple_of(BLOCK_BYTES)
}

fn renew_time(path: &Path) {
    let times = FileTimes::new().set_modified(SystemTime::now());
    // Only the order of leaving rests on it.
    let _ = File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_times(times));
}

fn encode(key: &Key, bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER_BYTES + bytes.len());
    file.extend_from_slice(HEAD);
    file.extend_from_slice(&[key.0 as u8, 0, 0, 0, 0, 0]);
    file.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    file.extend_from_slice(&key.1);
    file.extend_from_slice(bytes);
    let crc = crc32c::crc32c(&file[12..]);
    file[8..12].copy_from_slice(&crc.to_le_bytes());
    file
}

fn decode(kind: CacheKind, key: &[u8; 32], mut file: Vec<u8>) -> Option<Vec<u8>> {
    let header: &[u8; HEADER_BYTES] = file.first_chunk()?;
    let crc = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    let length = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    let good = header[..6] == *HEAD
        && header[6..8] == [kind as u8, 0]
        && header[16..] == *key
        && file.len() == HEADER_BYTES + length as usize
        && crc32c::crc32c(&file[12..]) == crc;
    good.then(|| file.split_off(HEADER_BYTES))
}

type FoundEntry = (SystemTime, Key, u64);

/// All entries; temporary files of a process that died are removed.
fn find_entries(folder: &Path) -> io::Result<Vec<FoundEntry>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            for entry in fs::read_dir(entry.path())? {
                found.extend(found_entry(&entry?));
            }
        } else if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(TEMPORARY_PREFIX.as_bytes())
        {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(found)
}

fn found_entry(entry: &fs::DirEntry) -> Option<FoundEntry> {
    let name = entry.file_name();
    let (kind, hex) = name.as_encoded_bytes().split_first()?;
    let mut key = [0; 32];
    hex::decode_to_slice(hex, &mut key).ok()?;
    let metadata = entry.metadata().ok()?;
    let size = entry_bytes(metadata.len().saturating_sub(HEADER_BYTES as u64));
    Some((
        metadata.modified().ok()?,
        (CacheKind::from_u8(*kind)?, key),
        size,
    ))
}

#[cfg(test)]
mod tests;
