//! A run: entries sorted by id in one file that never changes.
//!
//! ```text
//! header  "HFIR" | version u16 = 1 | 0 u16 | crc32c u32 of the header with this field zero | 0 u32
//!         entries u64 | filter bytes u64 | packs u32 | keys u32 | crc32c u32 of the tables | 0 [20]
//! entries 64 bytes each: hash [32] | epoch u32 | pack u32 | key u32 | offset u32 | stored u32 |
//!         raw u32 | kind u8 | 0 [3] | crc32c u32 of these 60 bytes and the entry's place u64
//! tables  fences: first eight bytes of the hash of every 64th entry, big endian
//!         filter: Bloom filter, seven bits per entry
//!         packs: digest each | keys: digest each
//! ```
//!
//! A look-up asks the filter, finds its block among the fences and reads one block of 4 KiB.
//! Every entry is checked when it is read: a damaged file is an error, never a wrong place.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use holdfast_crypto::{ChunkId, ChunkKind, Digest};

use super::{IndexEntry, IndexError, Location, put_in_place};

const MAGIC: &[u8; 8] = b"HFIR\x01\0\0\0";
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 64;
const BLOCK_ENTRIES: u64 = 64;
const FILTER_BITS_PER_ENTRY: u64 = 10;
const FILTER_HASHES: u64 = 7;
const SUFFIX: &str = ".run";
const UNFINISHED_SUFFIX: &str = ".tmp";

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}{SUFFIX}"))
}

/// True for the name of a run that does not count, and of a file that was not finished.
pub(super) fn is_leftover(name: &str, runs: &[u64]) -> bool {
    if name.ends_with(UNFINISHED_SUFFIX) {
        return true;
    }
    let digits = name.strip_suffix(SUFFIX);
    let number = digits.and_then(|digits| digits.parse::<u64>().ok());
    number.is_some_and(|number| !runs.contains(&number))
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Header {
    entries: u64,
    filter_bytes: u64,
    packs: u32,
    keys: u32,
    tables_crc: u32,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[16..24].copy_from_slice(&self.entries.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.filter_bytes.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.packs.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.keys.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.tables_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let header = Header {
            entries: u64::from_le_bytes(array(bytes, 16)),
            filter_bytes: u64::from_le_bytes(array(bytes, 24)),
            packs: u32::from_le_bytes(array(bytes, 32)),
            keys: u32::from_le_bytes(array(bytes, 36)),
            tables_crc: u32::from_le_bytes(array(bytes, 40)),
        };
        (header.encode() == *bytes).then_some(header)
    }

    fn fence_bytes(&self) -> u64 {
        self.entries.div_ceil(BLOCK_ENTRIES).saturating_mul(8)
    }

    fn tables_bytes(&self) -> u64 {
        let digests = (u64::from(self.packs) + u64::from(self.keys)) * 32;
        self.fence_bytes()
            .saturating_add(self.filter_bytes)
            .saturating_add(digests)
    }

    fn tables_offset(&self) -> u64 {
        let entries = self.entries.saturating_mul(ENTRY_BYTES as u64);
        entries.saturating_add(HEADER_BYTES as u64)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has N bytes")
}

/// An open run.
pub(super) struct Run {
    number: u64,
    path: PathBuf,
    file: File,
    entries: u64,
    fences: Vec<u64>,
    filter: Vec<u8>,
    packs: Vec<Digest>,
    keys: Vec<Digest>,
}

impl Run {
    pub(super) fn open(folder: &Path, number: u64) -> Result<Self, IndexError> {
        let path = path(folder, number);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(IndexError::damaged(&path));
            }
            Err(error) => return Err(IndexError::io("open", &path)(error)),
        };
        Self::load(number, &path, file)
    }

    fn load(number: u64, path: &Path, file: File) -> Result<Self, IndexError> {
        let damaged = || IndexError::damaged(path);
        let length = file
            .metadata()
            .map_err(IndexError::io("examine", path))?
            .len();
        let mut head = [0; HEADER_BYTES];
        read_exact_at(path, &file, &mut head, 0)?;
        let header = Header::decode(&head).ok_or_else(damaged)?;
        // Before anything is allocated: the file is as long as its header says.
        if header.tables_offset().checked_add(header.tables_bytes()) != Some(length) {
            return Err(damaged());
        }
        let mut tables = vec![0; header.tables_bytes() as usize];
        read_exact_at(path, &file, &mut tables, header.tables_offset())?;
        if crc32c::crc32c(&tables) != header.tables_crc || header.filter_bytes == 0 {
            return Err(damaged());
        }
        let (fences, rest) = tables.split_at(header.fence_bytes() as usize);
        let (filter, rest) = rest.split_at(header.filter_bytes as usize);
        let (packs, keys) = rest.split_at(header.packs as usize * 32);
        Ok(Run {
            number,
            path: path.to_owned(),
            file,
            entries: header.entries,
            fences: fences
                .chunks_exact(8)
                .map(|f| u64::from_be_bytes(array(f, 0)))
                .collect(),
            filter: filter.to_vec(),
            packs: packs
                .chunks_exact(32)
                .map(|d| Digest(array(d, 0)))
                .collect(),
            keys: keys.chunks_exact(32).map(|d| Digest(array(d, 0))).collect(),
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn len(&self) -> u64 {
        self.entries
    }

    pub(super) fn packs(&self) -> &[Digest] {
        &self.packs
    }

    /// Adds all copies of a chunk that this run knows.
    pub(super) fn locate(
        &self,
        id: &ChunkId,
        locations: &mut Vec<Location>,
    ) -> Result<(), IndexError> {
        if !filter_bits(&id.hash, self.filter.len()).all(|bit| bit_is_set(&self.filter, bit)) {
            return Ok(());
        }
        let prefix = hash_prefix(&id.hash);
        // The last block that begins below it may end with it.
        let first_block = self.fences.partition_point(|fence| *fence < prefix);
        let mut block = first_block.saturating_sub(1) as u64;
        let mut bytes = [0; BLOCK_ENTRIES as usize * ENTRY_BYTES];
        while block < self.fences.len() as u64 && self.fences[block as usize] <= prefix {
            let first = block * BLOCK_ENTRIES;
            let count = BLOCK_ENTRIES.min(self.entries - first) as usize;
            let bytes = &mut bytes[..count * ENTRY_BYTES];
            let offset = HEADER_BYTES as u64 + first * ENTRY_BYTES as u64;
            read_exact_at(&self.path, &self.file, bytes, offset)?;
            for (index, bytes) in bytes.as_chunks::<ENTRY_BYTES>().0.iter().enumerate() {
                if bytes[..8] == id.hash[..8] {
                    let entry = self.decode(bytes, first + index as u64)?;
                    locations.extend((entry.id == *id).then_some(entry.location));
                }
            }
            block += 1;
        }
        Ok(())
    }

    fn decode(&self, bytes: &[u8; ENTRY_BYTES], place: u64) -> Result<IndexEntry, IndexError> {
        self.try_decode(bytes, place)
            .ok_or_else(|| IndexError::damaged(&self.path))
    }

    fn try_decode(&self, bytes: &[u8; ENTRY_BYTES], place: u64) -> Option<IndexEntry> {
        let number = |at| u32::from_le_bytes(array(bytes, at));
        if number(60) != entry_crc(bytes, place) {
            return None;
        }
        Some(IndexEntry {
            id: ChunkId {
                epoch: number(32),
                hash: array(bytes, 0),
            },
            location: Location {
                pack: *self.packs.get(number(36) as usize)?,
                key: *self.keys.get(number(40) as usize)?,
                offset: number(44),
                stored: number(48),
                raw: number(52),
                kind: ChunkKind::from_u8(bytes[56])?,
            },
        })
    }

    /// All entries in order, through one buffer.
    pub(super) fn entries(self: &std::sync::Arc<Self>) -> Result<Entries, IndexError> {
        // A handle of its own: a position of its own.
        let file = File::open(&self.path).map_err(IndexError::io("open", &self.path))?;
        let mut reader = BufReader::with_capacity(256 << 10, file);
        reader
            .seek(SeekFrom::Start(HEADER_BYTES as u64))
            .map_err(IndexError::io("read", &self.path))?;
        Ok(Entries {
            run: self.clone(),
            reader,
            place: 0,
        })
    }
}

/// Iterator over a run. An error is the last item.
pub(super) struct Entries {
    run: std::sync::Arc<Run>,
    reader: BufReader<File>,
    place: u64,
}

impl Iterator for Entries {
    type Item = Result<IndexEntry, IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.place >= self.run.entries {
            return None;
        }
        let mut bytes = [0; ENTRY_BYTES];
        let read = self.reader.read_exact(&mut bytes);
        let entry = read
            .map_err(IndexError::io("read", &self.run.path))
            .and_then(|()| self.run.decode(&bytes, self.place));
        self.place = match entry {
            Ok(_) => self.place + 1,
            Err(_) => self.run.entries,
        };
        Some(entry)
    }
}

fn read_exact_at(
    path: &Path,
    file: &File,
    buffer: &mut [u8],
    offset: u64,
) -> Result<(), IndexError> {
    match file.read_exact_at(buffer, offset) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(IndexError::damaged(path))
        }
        result => result.map_err(IndexError::io("read", path)),
    }
}

fn entry_crc(bytes: &[u8; ENTRY_BYTES], place: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..60]), &place.to_le_bytes())
}

fn hash_prefix(hash: &[u8; 32]) -> u64 {
    u64::from_be_bytes(array(hash, 0))
}

/// Ids are keyed hashes already: their own bytes are the filter's hash functions.
fn filter_bits(hash: &[u8; 32], filter_bytes: usize) -> impl Iterator<Item = u64> {
    let bits = filter_bytes as u64 * 8;
    let start = u64::from_le_bytes(array(hash, 8));
    let step = u64::from_le_bytes(array(hash, 16)) | 1;
    (0..FILTER_HASHES).map(move |n| start.wrapping_add(step.wrapping_mul(n)) % bits)
}

fn bit_is_set(filter: &[u8], bit: u64) -> bool {
    filter[(bit / 8) as usize] >> (bit % 8) & 1 == 1
}

/// Writes a run. What is not finished is removed at the next opening.
pub(super) struct RunWriter {
    number: u64,
    temporary: PathBuf,
    path: PathBuf,
    writer: BufWriter<File>,
    entries: u64,
    fences: Vec<u64>,
    packs: Ordinals,
    keys: Ordinals,
}

/// Digests numbered in the order in which they come.
#[derive(Default)]
struct Ordinals {
    numbers: HashMap<Digest, u32>,
    digests: Vec<Digest>,
}

impl Ordinals {
    fn number(&mut self, digest: Digest) -> u32 {
        let next = self.digests.len() as u32;
        *self.numbers.entry(digest).or_insert_with(|| {
            self.digests.push(digest);
            next
        })
    }
}

impl RunWriter {
    pub(super) fn create(folder: &Path, number: u64) -> Result<Self, IndexError> {
        let path = path(folder, number);
        let temporary = path.with_extension("tmp");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .map_err(IndexError::io("create", &temporary))?;
        file.seek(SeekFrom::Start(HEADER_BYTES as u64))
            .map_err(IndexError::io("write", &temporary))?;
        Ok(RunWriter {
            number,
            temporary,
            path,
            writer: BufWriter::with_capacity(256 << 10, file),
            entries: 0,
            fences: Vec::new(),
            packs: Ordinals::default(),
            keys: Ordinals::default(),
        })
    }

    pub(super) fn push(&mut self, entry: &IndexEntry) -> Result<(), IndexError> {
        let location = &entry.location;
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..32].copy_from_slice(&entry.id.hash);
        let numbers = [
            entry.id.epoch,
            self.packs.number(location.pack),
            self.keys.number(location.key),
            location.offset,
            location.stored,
            location.raw,
        ];
        for (index, number) in numbers.iter().enumerate() {
            bytes[32 + 4 * index..36 + 4 * index].copy_from_slice(&number.to_le_bytes());
        }
        bytes[56] = location.kind.to_u8();
        let crc = entry_crc(&bytes, self.entries);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        if self.entries.is_multiple_of(BLOCK_ENTRIES) {
            self.fences.push(hash_prefix(&entry.id.hash));
        }
        self.entries += 1;
        self.writer
            .write_all(&bytes)
            .map_err(IndexError::io("write", &self.temporary))
    }

    /// The finished run, opened; none, and no file, if it has no entry.
    pub(super) fn finish(self) -> Result<Option<Run>, IndexError> {
        let temporary = self.temporary.clone();
        let failed = || IndexError::io("write", &temporary);
        if self.entries == 0 {
            std::fs::remove_file(&temporary).map_err(failed())?;
            return Ok(None);
        }
        let file = self.writer.into_inner();
        let file = file.map_err(|error| failed()(error.into_error()))?;
        let filter = build_filter(&file, self.entries).map_err(failed())?;
        let mut tables: Vec<u8> = self.fences.iter().flat_map(|f| f.to_be_bytes()).collect();
        tables.extend_from_slice(&filter);
        for digest in self.packs.digests.iter().chain(&self.keys.digests) {
            tables.extend_from_slice(&digest.0);
        }
        let header = Header {
            entries: self.entries,
            filter_bytes: filter.len() as u64,
            packs: self.packs.digests.len() as u32,
            keys: self.keys.digests.len() as u32,
            tables_crc: crc32c::crc32c(&tables),
        };
        file.write_all_at(&tables, header.tables_offset())
            .and_then(|()| file.write_all_at(&header.encode(), 0))
            .map_err(failed())?;
        put_in_place(&file, &temporary, &self.path)?;
        Run::load(self.number, &self.path, file).map(Some)
    }
}

/// Reads the entries back, now that their number is known: keeping the ids meanwhile would cost
/// more memory than everything else.
fn build_filter(file: &File, entries: u64) -> std::io::Result<Vec<u8>> {
    let bytes = (entries * FILTER_BITS_PER_ENTRY).div_ceil(8);
    let mut filter = vec![0; bytes as usize];
    let mut reader = BufReader::with_capacity(256 << 10, file);
    reader.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
    let mut entry = [0; ENTRY_BYTES];
    for _ in 0..entries {
        reader.read_exact(&mut entry)?;
        for bit in filter_bits(&array(&entry, 0), filter.len()) {
            filter[(bit / 8) as usize] |= 1 << (bit % 8);
        }
    }
    Ok(filter)
}
