//! Encrypted bytes kept on the local disk, up to a number of bytes.
//!
//! Entries stand one behind the other in segments, `<number>.segment`, and are only ever appended:
//! a tree is a few kilobytes, and a file of its own for each of them cost a commit more than the
//! tree did (measured). Nothing is synced; each entry has a checksum, so a crash or a bad disk costs
//! what it has damaged. What follows a header that is none is given up with the rest of its segment.
//!
//! ```text
//! "HFCA" | version u16 = 2 | kind u8 | 0 u8 | crc32c of what follows u32 | length u32 | key [32] | bytes
//! ```
//!
//! When there is no room the oldest segment goes as a whole. What is used of a segment that will go
//! soon is appended again, so what stays is roughly what was used last.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

const HEAD: &[u8; 6] = b"HFCA\x02\0";
const HEADER_BYTES: usize = 16 + 32;
const SUFFIX: &str = ".segment";
/// A segment is about this part of the limit. Each is an open file, so there are no more for a large cache.
const SEGMENTS: u64 = 32;

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
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Key, Place>,
    /// The oldest first.
    segments: VecDeque<Segment>,
    used_bytes: u64,
}

#[derive(Clone, Copy)]
struct Place {
    segment: u64,
    offset: u64,
    length: u32,
}

struct Segment {
    number: u64,
    file: Arc<File>,
    bytes: u64,
}

impl State {
    fn segment(&self, number: u64) -> Option<(usize, &Segment)> {
        let at = self
            .segments
            .binary_search_by_key(&number, |segment| segment.number)
            .ok()?;
        Some((at, &self.segments[at]))
    }
}

impl DiskCache {
    /// Opens the cache in a folder, which is made if it is not there. Files in it that are no
    /// segments are removed: earlier versions had one for each entry.
    pub fn open(folder: &Path, limit_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut state = State::default();
        for (number, path) in find_segments(folder)? {
            let file = File::options().read(true).write(true).open(&path)?;
            let bytes = scan(&file, |key, offset, length| {
                let segment = number;
                let place = Place {
                    segment,
                    offset,
                    length,
                };
                state.entries.insert(key, place);
            })?;
            file.set_len(bytes)?;
            state.used_bytes += bytes;
            state.segments.push_back(Segment {
                number,
                file: Arc::new(file),
                bytes,
            });
        }
        let cache = DiskCache {
            folder: folder.to_owned(),
            limit_bytes,
            state: Mutex::new(state),
        };
        cache.shrink(&mut cache.state.lock());
        Ok(cache)
    }

    /// The bytes kept under a key. Damaged ones are dropped.
    pub fn get(&self, kind: CacheKind, key: &[u8; 32]) -> Option<Vec<u8>> {
        let (place, file, goes_soon) = {
            let state = self.state.lock();
            let place = *state.entries.get(&(kind, *key))?;
            let (at, segment) = state.segment(place.segment)?;
            let is_nearly_full = state.used_bytes > self.limit_bytes / 4 * 3;
            let goes_soon = is_nearly_full && at < state.segments.len() / 4;
            (place, Arc::clone(&segment.file), goes_soon)
        };
        match read_entry(&file, place, kind, key) {
            Some(bytes) => {
                if goes_soon {
                    self.put(kind, key, &bytes);
                }
                Some(bytes)
            }
            None => {
                tracing::debug!("dropping a damaged entry of {}", self.folder.display());
                self.remove(kind, key);
                None
            }
        }
    }

    /// True if something is kept under a key; it may turn out to be damaged.
    pub fn contains(&self, kind: CacheKind, key: &[u8; 32]) -> bool {
        self.state.lock().entries.contains_key(&(kind, *key))
    }

    /// Keeps bytes under a key.
    pub fn put(&self, kind: CacheKind, key: &[u8; 32], bytes: &[u8]) {
        let Ok(length) = u32::try_from(bytes.len()) else {
            return;
        };
        let size = entry_bytes(length);
        if size > self.limit_bytes {
            return;
        }
        let entry = encode(kind, key, bytes);
        let mut state = self.state.lock();
        match self.append(&mut state, &entry) {
            Ok((segment, offset)) => {
                let place = Place {
                    segment,
                    offset,
                    length,
                };
                state.entries.insert((kind, *key), place);
                self.shrink(&mut state);
            }
            Err(error) => tracing::debug!("not cached: {error}"),
        }
    }

    /// Forgets what is kept under a key.
    pub fn remove(&self, kind: CacheKind, key: &[u8; 32]) {
        self.state.lock().entries.remove(&(kind, *key));
    }

    /// Bytes in use on the disk.
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes
    }

    /// Writes behind the last entry, with the lock held: an entry stands behind whole ones only.
    fn append(&self, state: &mut State, entry: &[u8]) -> io::Result<(u64, u64)> {
        let full = self.limit_bytes / SEGMENTS;
        if state.segments.back().is_none_or(|last| last.bytes >= full) {
            let number = state.segments.back().map_or(1, |last| last.number + 1);
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(self.path(number))?;
            state.segments.push_back(Segment {
                number,
                file: Arc::new(file),
                bytes: 0,
            });
        }
        let last = state.segments.back_mut().expect("one was just made");
        last.file.write_all_at(entry, last.bytes)?;
        let offset = last.bytes;
        last.bytes += entry.len() as u64;
        state.used_bytes += entry.len() as u64;
        Ok((last.number, offset))
    }

    /// Oldest segments go until the rest is within the limit.
    fn shrink(&self, state: &mut State) {
        while state.used_bytes > self.limit_bytes {
            let Some(oldest) = state.segments.pop_front() else {
                break;
            };
            state.used_bytes -= oldest.bytes;
            state
                .entries
                .retain(|_, place| place.segment != oldest.number);
            let _ = fs::remove_file(self.path(oldest.number));
        }
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.folder.join(format!("{segment:08}{SUFFIX}"))
    }
}

fn entry_bytes(length: u32) -> u64 {
    HEADER_BYTES as u64 + u64::from(length)
}

fn encode(kind: CacheKind, key: &[u8; 32], bytes: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(HEADER_BYTES + bytes.len());
    entry.extend_from_slice(HEAD);
    entry.extend_from_slice(&[kind as u8, 0, 0, 0, 0, 0]);
    entry.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    entry.extend_from_slice(key);
    entry.extend_from_slice(bytes);
    let crc = crc32c::crc32c(&entry[12..]);
    entry[8..12].copy_from_slice(&crc.to_le_bytes());
    entry
}

/// Key and length that a header tells of.
fn decode_header(header: &[u8; HEADER_BYTES]) -> Option<(Key, u32)> {
    let kind = CacheKind::from_u8(header[6])?;
    let length = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    let key = *header.last_chunk::<32>()?;
    (header[..6] == *HEAD && header[7] == 0).then_some(((kind, key), length))
}

fn read_entry(file: &File, place: Place, kind: CacheKind, key: &[u8; 32]) -> Option<Vec<u8>> {
    let mut entry = vec![0; usize::try_from(entry_bytes(place.length)).ok()?];
    file.read_exact_at(&mut entry, place.offset).ok()?;
    let header: &[u8; HEADER_BYTES] = entry.first_chunk()?;
    let crc = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    let is_whole = decode_header(header)? == ((kind, *key), place.length)
        && crc32c::crc32c(&entry[12..]) == crc;
    is_whole.then(|| {
        entry.drain(..HEADER_BYTES);
        entry
    })
}

/// Tells of every entry; how far they go.
fn scan(file: &File, mut found: impl FnMut(Key, u64, u32)) -> io::Result<u64> {
    let end = file.metadata()?.len();
    let (mut at, mut header) = (0, [0; HEADER_BYTES]);
    while at + HEADER_BYTES as u64 <= end {
        file.read_exact_at(&mut header, at)?;
        let Some((key, length)) = decode_header(&header) else {
            break;
        };
        let next = at + entry_bytes(length);
        if next > end {
            break;
        }
        found(key, at, length);
        at = next;
    }
    Ok(at)
}

/// The segments, the oldest first. Everything else in the folder is removed.
fn find_segments(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(SUFFIX))
            .and_then(|number| number.parse().ok());
        match number {
            Some(number) => segments.push((number, entry.path())),
            None if entry.file_type()?.is_dir() => fs::remove_dir_all(entry.path())?,
            None => fs::remove_file(entry.path())?,
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

#[cfg(test)]
mod tests;
