//! The local log: what survives a crash of the daemon, or of the computer.
//!
//! Everything that is not in the store yet stands here, in order: chunks as they will be uploaded,
//! extents of files, operations of the namespace. A record gets a sequence number and one `pwrite`
//! before [`Log::append`] returns, so it outlives the process; after [`Log::sync_to`] it outlives
//! the computer. Bytes on disk: `docs/format/log.md`.
//!
//! Order, and what is on disk if we die between any two lines:
//!
//! 1. A segment is created with its full size, its header is written. Until the folder is synced a
//!    power loss may take the file: nothing in it has been promised yet, because
//! 2. a sync first syncs every segment with unsynced records, then the folder, and only then calls
//!    them synced.
//! 3. Each record carries the last sequence number known to be synced. A bad record above all these
//!    marks is where a crash struck: what follows it is void. A bad one at or below a mark is
//!    damage: nothing is removed, nothing written, [`Log::read_only_reason`] says so.
//! 4. [`Log::open`] removes the void segments, syncs what it is going to believe, and goes on in a
//!    new segment whose header says with which sequence number it begins: this voids the torn
//!    record in the old one for every later replay.
//! 5. [`Log::release`] removes segments from the oldest on, syncing the folder after each, so that
//!    what is left is always without a gap.
//!
//! A failed `fdatasync` or `pwrite` makes the log read-only until the process ends: the kernel may
//! have dropped the pages, so a second sync that succeeds proves nothing. No space is not such a
//! failure; its half-written record is overwritten by the next.

mod background;
mod disk;
mod open;
mod record;
mod replay;
mod segment;
mod sync;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use holdfast_crypto::LogKey;
use lru::LruCache;
use parking_lot::Mutex;

pub use disk::{Disk, DiskFile, RealDisk, Space};
pub use record::{Record, RecordRef};
pub use replay::Replay;

use record::{Draft, HEADER_BYTES, Header, MAX_PAYLOAD_BYTES};
use segment::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId};

/// Where a record stands. Stays valid until the record is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// Number of the record; the next one has the next number.
    pub sequence: u64,
    /// Number of the segment.
    pub segment: u64,
    /// Where in the segment the record begins.
    pub offset: u32,
    /// Length of its stored payload.
    pub length: u32,
}

/// How much of the disk the log may take.
#[derive(Clone, Copy, Debug)]
pub struct LogLimits {
    /// Bytes; `None` for a tenth of the file system.
    pub bytes: Option<u64>,
    /// Part of the file system that the log leaves free.
    pub keep_free_fraction: f64,
}

impl Default for LogLimits {
    fn default() -> Self {
        LogLimits {
            bytes: None,
            keep_free_fraction: 0.05,
        }
    }
}

/// How full the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in use.
    pub bytes: u64,
    /// Bytes that may be in use, with what the file system has left taken into account.
    pub limit: u64,
    /// The same without what is held back for deletes, renames and truncates.
    pub ordinary_limit: u64,
}

/// Why nothing can be appended any more in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOnlyReason {
    /// The disk did not confirm a sync.
    SyncFailed(String),
    /// The disk did not take a write.
    WriteFailed(String),
    /// A record that was known to be on disk is bad.
    Damaged {
        /// File name of the segment.
        segment: PathBuf,
        /// Where in it.
        offset: u64,
        /// The sequence number that should stand there.
        sequence: u64,
    },
    /// Somebody else writes as this device: what is appended here would never be stored.
    Forked(String),
}

impl fmt::Display for ReadOnlyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SyncFailed(error) => write!(
                f,
                "the local disk failed to sync the log ({error}); check the disk, then mount again"
            ),
            Self::WriteFailed(error) => write!(
                f,
                "the local disk failed to write the log ({error}); check the disk, then mount again"
            ),
            Self::Damaged {
                segment,
                offset,
                sequence,
            } => write!(
                f,
                "log file {} is damaged at byte {offset} (record {sequence}); the log is kept as \
                 it is",
                segment.display()
            ),
            Self::Forked(why) => f.write_str(why),
        }
    }
}

/// Why the log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system is full.
    #[error("no space left for the log in {}", .folder.display())]
    NoSpace {
        /// Folder of the log.
        folder: PathBuf,
    },
    /// The log has reached its limit; it empties as packs are stored.
    #[error("the log has reached its limit of {limit} bytes")]
    Full {
        /// The limit in bytes.
        limit: u64,
    },
    /// Nothing can be appended until the next mount.
    #[error("the log is read-only: {0}")]
    ReadOnly(ReadOnlyReason),
    /// A record is longer than any record may be.
    #[error("a record of {bytes} bytes is too long")]
    TooLong {
        /// Length of the payload.
        bytes: usize,
    },
    /// The record has been released.
    #[error("record {} is no longer in the log", .0.sequence)]
    Released(LogPosition),
    /// The bytes at this place are not the record that was written there.
    #[error("record {} of the log is damaged", .0.sequence)]
    Damaged(LogPosition),
    /// The log was written by a later version of this program.
    #[error("log file {} has format {found}; a newer version is needed", .segment.display())]
    NewerFormat {
        /// File name of the segment.
        segment: PathBuf,
        /// Its format number.
        found: u16,
    },
    /// The local disk failed.
    #[error("cannot {operation} {}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// File or folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

impl LogError {
    fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        LogError::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}

/// What may be appended when the log is full.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Ordinary,
    /// Deletes, renames and truncates: they must work on a full log, or it never empties.
    Reserved,
}

/// Open segments kept for reading.
const OPEN_SEGMENTS: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");
const MIN_SEGMENT_BYTES: u64 = 1 << 20;
const MAX_SEGMENT_BYTES: u64 = 64 << 20;

/// The log, open for appending. Shared by reference; all methods may be called from any thread.
pub struct Log {
    inner: Arc<Inner>,
    background: Option<background::BackgroundSync>,
}

struct Inner {
    folder: PathBuf,
    key: LogKey,
    disk: Arc<dyn Disk>,
    limits: LogLimits,
    segment_bytes: u64,
    tail: Mutex<Tail>,
    /// Segments before the active one, oldest first.
    sealed: Mutex<BTreeMap<u64, Sealed>>,
    readers: Mutex<LruCache<u64, Arc<dyn DiskFile>>>,
    sync: sync::GroupCommit,
    used: AtomicU64,
    /// Taken from the file system for the active segment, and not used yet.
    preallocated: AtomicU64,
    limit: AtomicU64,
    read_only: OnceLock<ReadOnlyReason>,
}

/// Where the next record goes.
struct Tail {
    next_sequence: u64,
    next_segment: u64,
    active: Option<Active>,
    /// Segments with records that are not known to be on disk, oldest first.
    dirty: Vec<(u64, Arc<dyn DiskFile>)>,
    /// A segment was created since the folder was synced.
    folder_dirty: bool,
}

struct Active {
    number: u64,
    id: SegmentId,
    file: Arc<dyn DiskFile>,
    offset: u64,
    capacity: u64,
}

/// A segment that is no longer appended to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sealed {
    id: SegmentId,
    /// Sequence number behind its last record.
    end_sequence: u64,
    bytes: u64,
}

impl Log {
    /// Opens the log in a folder, which must exist, and gives what it holds in order.
    ///
    /// What is given by [`Replay`] is synced already. Damage makes the log read-only and ends the
    /// replay with an error after the last good record.
    pub fn open(
        folder: &Path,
        key: LogKey,
        limits: LogLimits,
        disk: Arc<dyn Disk>,
    ) -> Result<(Log, Replay), LogError> {
        let (mut log, replay) = Self::open_without_background(folder, key, limits, disk)?;
        log.background = Some(background::BackgroundSync::start(log.inner.clone())?);
        Ok((log, replay))
    }

    /// The same without the thread that syncs from time to time: what is synced, and when, is up
    /// to the caller.
    pub fn open_without_background(
        folder: &Path,
        key: LogKey,
        limits: LogLimits,
        disk: Arc<dyn Disk>,
    ) -> Result<(Log, Replay), LogError> {
        let (inner, plan) = open::open(folder, key, limits, disk)?;
        let inner = Arc::new(inner);
        let replay = Replay::new(inner.clone(), plan);
        let log = Log {
            inner,
            background: None,
        };
        Ok((log, replay))
    }

    /// Writes a record behind the last one. When this returns, the record survives the death of
    /// this process.
    pub fn append(&self, record: &RecordRef<'_>) -> Result<LogPosition, LogError> {
        self.append_with(record, Room::Ordinary)
    }

    /// The same out of the room held back for deletes, renames and truncates.
    pub fn append_reserved(&self, record: &RecordRef<'_>) -> Result<LogPosition, LogError> {
        self.append_with(record, Room::Reserved)
    }

    fn append_with(&self, record: &RecordRef<'_>, room: Room) -> Result<LogPosition, LogError> {
        let draft = Draft::new(record);
        let bytes = draft.payload_bytes();
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(LogError::TooLong { bytes });
        }
        let position = self.inner.append(&draft, room)?;
        let urgency = self.inner.sync.wrote(record::stored_bytes(bytes));
        if let Some(background) = &self.background {
            background.wrote(urgency);
        }
        Ok(position)
    }

    /// Data of an extent, ciphertext of a chunk, or the bytes of any other record.
    pub fn read(&self, position: &LogPosition) -> Result<Vec<u8>, LogError> {
        Ok(match self.inner.read_record(position)? {
            Record::SessionKey { object, .. } => object,
            Record::Chunk { ciphertext, .. } => ciphertext,
            Record::Extent { data, .. } => data,
            Record::Operation(bytes) | Record::PackStored(bytes) | Record::Committed(bytes) => {
                bytes
            }
        })
    }

    /// The whole record.
    pub fn read_record(&self, position: &LogPosition) -> Result<Record, LogError> {
        self.inner.read_record(position)
    }

    /// Returns when every record up to this sequence number is on disk. Callers that come together
    /// share one sync.
    pub fn sync_to(&self, sequence: u64) -> Result<(), LogError> {
        self.inner.sync_to(sequence)
    }

    /// Returns when everything appended so far is on disk.
    pub fn sync(&self) -> Result<(), LogError> {
        self.inner.sync_to(self.last_sequence())
    }

    /// Sequence number of the last record; zero when there never was one.
    pub fn last_sequence(&self) -> u64 {
        self.inner.tail.lock().next_sequence - 1
    }

    /// Every record up to this sequence number is on disk.
    pub fn synced_sequence(&self) -> u64 {
        self.inner.sync.synced()
    }

    /// Frees what is needed no longer: every segment with no record above this sequence number.
    /// The newest segment stays.
    pub fn release(&self, sequence: u64) -> Result<(), LogError> {
        self.inner.release(sequence)
    }

    /// How full the log is.
    pub fn usage(&self) -> Usage {
        let limit = self.inner.limit.load(Ordering::Relaxed);
        Usage {
            bytes: self.inner.used.load(Ordering::Relaxed),
            limit,
            ordinary_limit: limit - reserve_bytes(limit),
        }
    }

    /// True when nothing can be appended until the next mount.
    pub fn is_read_only(&self) -> bool {
        self.inner.read_only.get().is_some()
    }

    /// Takes nothing more until the next mount, for a reason that is not the log's own.
    pub fn stop(&self, reason: ReadOnlyReason) {
        self.inner.poison(reason);
    }

    /// Why, if so.
    pub fn read_only_reason(&self) -> Option<ReadOnlyReason> {
        self.inner.read_only.get().cloned()
    }
}

impl Inner {
    fn append(&self, draft: &Draft<'_>, room: Room) -> Result<LogPosition, LogError> {
        let stored = record::stored_bytes(draft.payload_bytes());
        let mut tail = self.tail.lock();
        self.check_writable()?;
        self.make_room(&mut tail, stored, room)?;
        let sequence = tail.next_sequence;
        let active = tail.active.as_mut().expect("make_room leaves a segment");
        let payload = draft.finish(&self.key, &active.id, sequence);
        let header = Header {
            record_type: draft.record_type,
            payload_bytes: draft.payload_bytes() as u32,
            payload_crc: payload.crc,
            sequence,
            synced: self.sync.synced(),
        };
        let [first, second] = &payload.parts;
        active
            .file
            .write_all_at(active.offset, &[&header.encode(&active.id), first, second])
            .map_err(|error| self.write_failed(active, error))?;
        let position = LogPosition {
            sequence,
            segment: active.number,
            offset: active.offset as u32,
            length: header.payload_bytes,
        };
        active.offset += stored;
        let dirty = (active.number, active.file.clone());
        if tail.dirty.last().is_none_or(|last| last.0 != dirty.0) {
            tail.dirty.push(dirty);
        }
        tail.next_sequence += 1;
        self.used.fetch_add(stored, Ordering::Relaxed);
        self.preallocated.fetch_sub(stored, Ordering::Relaxed);
        Ok(position)
    }

    fn check_writable(&self) -> Result<(), LogError> {
        match self.read_only.get() {
            None => Ok(()),
            Some(reason) => Err(LogError::ReadOnly(reason.clone())),
        }
    }

    fn poison(&self, reason: ReadOnlyReason) -> LogError {
        if self.read_only.set(reason.clone()).is_ok() {
            tracing::error!("the log is read-only: {reason}");
        }
        // The first reason is the one that counts.
        LogError::ReadOnly(self.read_only.get().cloned().unwrap_or(reason))
    }

    /// A full disk leaves the tail where it was. The half-written record is wiped: were its missing
    /// end already there from an earlier attempt, replay would believe what the caller was told
    /// had failed.
    fn write_failed(&self, active: &Active, error: io::Error) -> LogError {
        let wiped = is_no_space(&error)
            && active
                .file
                .write_all_at(active.offset, &[&[0; HEADER_BYTES]])
                .is_ok();
        match wiped {
            true => self.no_space(),
            false => self.poison(ReadOnlyReason::WriteFailed(error.to_string())),
        }
    }

    fn no_space(&self) -> LogError {
        LogError::NoSpace {
            folder: self.folder.clone(),
        }
    }

    /// Sees to it that the active segment has room for a record of this size.
    fn make_room(&self, tail: &mut Tail, stored: u64, room: Room) -> Result<(), LogError> {
        let limit = self.limit.load(Ordering::Relaxed);
        let used = self.used.load(Ordering::Relaxed);
        let over = |limit| used + stored > limit;
        if room == Room::Ordinary && over(limit.saturating_sub(reserve_bytes(limit))) {
            return Err(LogError::Full { limit });
        }
        if let Some(active) = &tail.active {
            // The last part of a segment, whose space is already taken from the disk, is held back.
            let held_back = match room {
                Room::Ordinary => active.capacity / 16,
                Room::Reserved => 0,
            };
            if active.offset + stored + held_back <= active.capacity {
                return Ok(());
            }
        }
        self.roll(tail, stored, room)
    }

    /// Starts a new segment; the old one is sealed once the new one stands.
    fn roll(&self, tail: &mut Tail, stored: u64, room: Room) -> Result<(), LogError> {
        let least = SEGMENT_HEADER_BYTES as u64 + stored;
        let capacity = self.segment_bytes.max(least + least / 8);
        if room == Room::Ordinary && !self.leaves_enough_free(capacity)? {
            return Err(self.no_space());
        }
        let number = tail.next_segment;
        let path = segment::path(&self.folder, number);
        let id = self.disk.random_id();
        let id = id.map_err(|error| LogError::io("draw a random number for", &path, error))?;
        let header = SegmentHeader {
            id,
            number,
            first_sequence: tail.next_sequence,
            synced: self.sync.synced(),
        };
        let file = self.create_segment(&path, capacity, &header)?;
        // Never used again, even if the header was the last thing that could be written.
        tail.next_segment += 1;
        tail.folder_dirty = true;
        if let Some(old) = tail.active.take() {
            // Gives back what was taken and not used; failing that it is only waste.
            let _ = old.file.set_len(old.offset);
            self.sealed.lock().insert(
                old.number,
                Sealed {
                    id: old.id,
                    end_sequence: tail.next_sequence,
                    bytes: old.offset,
                },
            );
        }
        let header_bytes = SEGMENT_HEADER_BYTES as u64;
        self.used.fetch_add(header_bytes, Ordering::Relaxed);
        self.preallocated
            .store(capacity - header_bytes, Ordering::Relaxed);
        self.readers.lock().put(number, file.clone());
        // Even if it never gets a record: later marks will rest on its header.
        tail.dirty.push((number, file.clone()));
        tail.active = Some(Active {
            number,
            id,
            file,
            offset: SEGMENT_HEADER_BYTES as u64,
            capacity,
        });
        Ok(())
    }

    fn create_segment(
        &self,
        path: &Path,
        capacity: u64,
        header: &SegmentHeader,
    ) -> Result<Arc<dyn DiskFile>, LogError> {
        let failed = |error: io::Error| match is_no_space(&error) {
            true => self.no_space(),
            false => self.poison(ReadOnlyReason::WriteFailed(error.to_string())),
        };
        let file = self.disk.create(path, capacity).map_err(failed)?;
        if let Err(error) = file.write_all_at(0, &[&header.encode()]) {
            // The next attempt uses the same number.
            let _ = self.disk.remove(path);
            return Err(failed(error));
        }
        Ok(file)
    }

    fn leaves_enough_free(&self, capacity: u64) -> Result<bool, LogError> {
        let space = self.refresh_limit()?;
        Ok(space.available >= capacity.saturating_add(self.kept_free(&space)))
    }

    fn kept_free(&self, space: &Space) -> u64 {
        (space.total as f64 * self.limits.keep_free_fraction) as u64
    }

    /// The limit follows what the file system has left.
    fn refresh_limit(&self) -> Result<Space, LogError> {
        let space = self.disk.space(&self.folder);
        let space = space.map_err(|error| LogError::io("examine", &self.folder, error))?;
        let wanted = self.limits.bytes.unwrap_or(space.total / 10);
        let free = space.available.saturating_sub(self.kept_free(&space));
        let used = self.used.load(Ordering::Relaxed);
        let ours = used.saturating_add(self.preallocated.load(Ordering::Relaxed));
        self.limit
            .store(wanted.min(ours.saturating_add(free)), Ordering::Relaxed);
        Ok(space)
    }

    fn read_record(&self, position: &LogPosition) -> Result<Record, LogError> {
        let (file, id) = self.reader(position)?;
        let length = HEADER_BYTES + (position.length as usize).min(MAX_PAYLOAD_BYTES);
        let mut bytes = vec![0; length];
        let path = || segment::path(&self.folder, position.segment);
        let count = file
            .read_at(position.offset.into(), &mut bytes)
            .map_err(|error| LogError::io("read", &path(), error))?;
        let payload = bytes.split_off(HEADER_BYTES);
        let header = record::array_at(&bytes, 0);
        Header::decode(&id, &header)
            .filter(|header| {
                count == length
                    && header.sequence == position.sequence
                    && header.payload_bytes == position.length
                    && header.payload_crc == crc32c::crc32c(&payload)
            })
            .and_then(|header| record::decode(&self.key, &id, &header, payload))
            .ok_or(LogError::Damaged(*position))
    }

    fn reader(&self, position: &LogPosition) -> Result<(Arc<dyn DiskFile>, SegmentId), LogError> {
        let number = position.segment;
        let id = self.segment_id(number);
        let id = id.ok_or(LogError::Released(*position))?;
        if let Some(file) = self.readers.lock().get(&number) {
            return Ok((file.clone(), id));
        }
        let path = segment::path(&self.folder, number);
        let file = self.disk.open(&path).map_err(|error| match error.kind() {
            // Released between the two lines above.
            io::ErrorKind::NotFound => LogError::Released(*position),
            _ => LogError::io("open", &path, error),
        })?;
        self.readers.lock().put(number, file.clone());
        Ok((file, id))
    }

    fn segment_id(&self, number: u64) -> Option<SegmentId> {
        if let Some(sealed) = self.sealed.lock().get(&number) {
            return Some(sealed.id);
        }
        let tail = self.tail.lock();
        if let Some(active) = tail
            .active
            .as_ref()
            .filter(|active| active.number == number)
        {
            return Some(active.id);
        }
        // It may have been sealed between the two looks.
        self.sealed.lock().get(&number).map(|sealed| sealed.id)
    }

    fn release(&self, sequence: u64) -> Result<(), LogError> {
        self.check_writable()?;
        while let Some((number, segment)) = self.oldest_released(sequence) {
            let path = segment::path(&self.folder, number);
            self.disk
                .remove(&path)
                .map_err(|error| LogError::io("remove", &path, error))?;
            self.readers.lock().pop(&number);
            self.sealed.lock().remove(&number);
            self.used.fetch_sub(segment.bytes, Ordering::Relaxed);
            // One by one: were a later removal durable before an earlier one, replay would find a
            // gap and call it damage.
            self.disk
                .sync_folder(&self.folder)
                .map_err(|error| self.poison(ReadOnlyReason::SyncFailed(error.to_string())))?;
        }
        self.refresh_limit().map(drop)
    }

    fn oldest_released(&self, sequence: u64) -> Option<(u64, Sealed)> {
        let has_active = self.tail.lock().active.is_some();
        let sealed = self.sealed.lock();
        let (number, segment) = sealed.first_key_value()?;
        // Sequence numbers go on from the newest segment after a restart.
        let newest = !has_active && sealed.len() == 1;
        (segment.end_sequence <= sequence.saturating_add(1) && !newest)
            .then_some((*number, *segment))
    }
}

/// Held back for deletes, renames and truncates.
fn reserve_bytes(limit: u64) -> u64 {
    (limit / 16).min(16 << 20)
}

fn segment_bytes(limit: u64) -> u64 {
    (limit / 8)
        .next_multiple_of(4096)
        .clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES)
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
