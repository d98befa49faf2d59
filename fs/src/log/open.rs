//! Opening: finds where the log ends, and says whether that is a crash's doing or damage.
//!
//! Every segment is read once, a buffer at a time. The good records are a run of consecutive
//! sequence numbers from the oldest segment on; a segment ends where the next one begins. Where the
//! run ends, everything behind it is searched for a mark that says that more was on disk once.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use holdfast_crypto::LogKey;
use lru::LruCache;
use parking_lot::Mutex;

use super::disk::{Disk, DiskFile};
use super::record::{ALIGNMENT, HEADER_BYTES, Header, array_at};
use super::segment::{self, BadHeader, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::sync::GroupCommit;
use super::{
    Inner, LogError, LogLimits, OPEN_SEGMENTS, ReadOnlyReason, Sealed, Tail, segment_bytes,
};

const BUFFER_BYTES: usize = 1 << 20;

/// What replay reads.
pub(super) struct Plan {
    pub segments: VecDeque<PlannedSegment>,
    /// Reported behind the last good record.
    pub damage: Option<ReadOnlyReason>,
}

/// The good part of one segment.
pub(super) struct PlannedSegment {
    pub header: SegmentHeader,
    pub end_offset: u64,
}

struct Found {
    number: u64,
    file: Arc<dyn DiskFile>,
    header: Option<SegmentHeader>,
}

struct Survey {
    good: Vec<(SegmentHeader, Sealed)>,
    next_sequence: u64,
    /// Highest mark of any good record.
    synced: u64,
    /// Segments behind the end.
    void: Vec<u64>,
    damage: Option<ReadOnlyReason>,
}

pub(super) fn open(
    folder: &Path,
    key: LogKey,
    limits: LogLimits,
    disk: Arc<dyn Disk>,
) -> Result<(Inner, Plan), LogError> {
    let found = find_segments(folder, &*disk)?;
    let next_segment = found.last().map_or(1, |last| last.number + 1);
    let survey = survey(folder, &found)?;
    if survey.damage.is_none() {
        settle(folder, &*disk, &found, &survey)?;
    }
    let used: u64 = survey.good.iter().map(|(_, sealed)| sealed.bytes).sum();
    let inner = Inner {
        folder: folder.to_owned(),
        key,
        disk,
        limits,
        segment_bytes: 0,
        tail: Mutex::new(Tail {
            next_sequence: survey.next_sequence,
            next_segment,
            active: None,
            dirty: Vec::new(),
            folder_dirty: false,
        }),
        sealed: Mutex::new(BTreeMap::from_iter(
            survey
                .good
                .iter()
                .map(|(header, sealed)| (header.number, *sealed)),
        )),
        readers: Mutex::new(LruCache::new(OPEN_SEGMENTS)),
        sync: GroupCommit::new(survey.next_sequence - 1),
        used: AtomicU64::new(used),
        preallocated: AtomicU64::new(0),
        limit: AtomicU64::new(0),
        read_only: OnceLock::new(),
    };
    let space = inner.refresh_limit()?;
    let wanted = limits.bytes.unwrap_or(space.total / 10);
    let inner = Inner {
        segment_bytes: segment_bytes(wanted),
        ..inner
    };
    if let Some(damage) = &survey.damage {
        inner.poison(damage.clone());
    }
    let segments = survey.good.iter().map(|(header, sealed)| PlannedSegment {
        header: *header,
        end_offset: sealed.bytes,
    });
    let plan = Plan {
        segments: segments.collect(),
        damage: survey.damage,
    };
    Ok((inner, plan))
}

/// All segments of the folder, oldest first.
fn find_segments(folder: &Path, disk: &dyn Disk) -> Result<Vec<Found>, LogError> {
    let names = disk.list(folder);
    let names = names.map_err(|error| LogError::io("list", folder, error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|n| segment::number_of(n)).collect();
    numbers.sort_unstable();
    numbers
        .into_iter()
        .map(|number| find_segment(folder, disk, number))
        .collect()
}

fn find_segment(folder: &Path, disk: &dyn Disk, number: u64) -> Result<Found, LogError> {
    let path = segment::path(folder, number);
    let file = disk.open(&path);
    let file = file.map_err(|error| LogError::io("open", &path, error))?;
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    file.read_at(0, &mut bytes)
        .map_err(|error| LogError::io("read", &path, error))?;
    let header = match SegmentHeader::decode(&bytes) {
        Ok(header) => Some(header).filter(|header| header.number == number),
        Err(BadHeader::Invalid) => None,
        Err(BadHeader::NewerFormat { found }) => {
            return Err(LogError::NewerFormat {
                segment: path,
                found,
            });
        }
    };
    Ok(Found {
        number,
        file,
        header,
    })
}

/// Follows the good records to their end.
fn survey(folder: &Path, found: &[Found]) -> Result<Survey, LogError> {
    let mut survey = Survey {
        good: Vec::new(),
        next_sequence: 1,
        synced: 0,
        void: Vec::new(),
        damage: None,
    };
    for (index, segment) in found.iter().enumerate() {
        let path = segment::path(folder, segment.number);
        let first = survey.good.is_empty();
        let header = segment
            .header
            .filter(|header| first || header.first_sequence == survey.next_sequence);
        let mut end_offset = 0;
        if let Some(header) = header {
            survey.next_sequence = header.first_sequence;
            survey.synced = survey.synced.max(header.synced);
            let limit = found[index + 1..].iter().find_map(|next| next.header);
            let limit = limit.map_or(u64::MAX, |next| next.first_sequence);
            end_offset = follow(&mut survey, segment, &header, limit)
                .map_err(|error| LogError::io("read", &path, error))?;
            if survey.next_sequence == limit {
                continue;
            }
        }
        // Here the run ends, or at a clean end in the newest segment.
        let mark = highest_mark(&found[index..], end_offset)
            .map_err(|error| LogError::io("read", &path, error))?;
        if mark.max(survey.synced) >= survey.next_sequence {
            survey.damage = Some(ReadOnlyReason::Damaged {
                segment: path,
                offset: end_offset,
                sequence: survey.next_sequence,
            });
        }
        let keep = if header.is_some() { index + 1 } else { index };
        survey.void = found[keep..].iter().map(|segment| segment.number).collect();
        break;
    }
    Ok(survey)
}

/// Reads the good records of a segment up to the sequence number where the next one begins.
fn follow(
    survey: &mut Survey,
    segment: &Found,
    header: &SegmentHeader,
    limit: u64,
) -> std::io::Result<u64> {
    let mut reader = SegmentReader::new(segment.file.clone(), SEGMENT_HEADER_BYTES as u64);
    let mut end_offset = reader.offset();
    while survey.next_sequence < limit {
        let Some(record) = reader.next_header(header)? else {
            break;
        };
        if record.sequence != survey.next_sequence || !reader.payload_is_good(&record)? {
            break;
        }
        survey.next_sequence += 1;
        survey.synced = survey.synced.max(record.synced);
        end_offset = reader.offset();
    }
    let sealed = Sealed {
        id: header.id,
        end_sequence: survey.next_sequence,
        bytes: end_offset,
    };
    survey.good.push((*header, sealed));
    Ok(end_offset)
}

/// The highest mark in any whole header behind the end, whatever stands between.
fn highest_mark(found: &[Found], end_offset: u64) -> std::io::Result<u64> {
    let mut highest = 0;
    for (index, segment) in found.iter().enumerate() {
        let Some(header) = &segment.header else {
            continue;
        };
        // The first one's own header was looked at already if records were read from it.
        let start = match index {
            0 if end_offset > 0 => end_offset,
            _ => SEGMENT_HEADER_BYTES as u64,
        };
        highest = highest.max(header.synced);
        highest = highest.max(highest_mark_in(segment, header, start)?);
    }
    Ok(highest)
}

fn highest_mark_in(segment: &Found, header: &SegmentHeader, start: u64) -> std::io::Result<u64> {
    let mut highest = 0;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = start;
    loop {
        let count = segment.file.read_at(offset, &mut buffer)?;
        for at in (0..(count + 1).saturating_sub(HEADER_BYTES)).step_by(ALIGNMENT as usize) {
            // Cheap enough for a whole segment: nearly everything fails the first comparison.
            if buffer[at + 4] == 0 {
                continue;
            }
            if let Some(found) = Header::decode(&header.id, &array_at(&buffer, at)) {
                highest = highest.max(found.synced);
            }
        }
        if count < buffer.len() {
            return Ok(highest);
        }
        // A header may lie across the border.
        offset += (count - HEADER_BYTES) as u64;
    }
}

/// Makes the disk agree with what will be believed: void segments are gone, good records durable.
fn settle(
    folder: &Path,
    disk: &dyn Disk,
    found: &[Found],
    survey: &Survey,
) -> Result<(), LogError> {
    for number in &survey.void {
        let path = segment::path(folder, *number);
        tracing::info!("removing {}: nothing in it was synced", path.display());
        disk.remove(&path)
            .map_err(|error| LogError::io("remove", &path, error))?;
    }
    // What a killed process left in the page cache may not be on disk yet: records, or only the
    // header of a segment that has none.
    for (segment, (_, sealed)) in found.iter().zip(&survey.good) {
        if sealed.end_sequence > survey.synced {
            let path = segment::path(folder, segment.number);
            let synced = segment.file.sync_data();
            synced.map_err(|error| LogError::io("sync", &path, error))?;
        }
    }
    disk.sync_folder(folder)
        .map_err(|error| LogError::io("sync", folder, error))
}

/// Reads a segment from front to back through one buffer.
pub(super) struct SegmentReader {
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    /// Where in the segment the buffer begins.
    buffer_offset: u64,
    /// Next byte to give, within the buffer.
    at: usize,
}

impl SegmentReader {
    pub(super) fn new(file: Arc<dyn DiskFile>, offset: u64) -> Self {
        SegmentReader {
            file,
            buffer: Vec::new(),
            buffer_offset: offset,
            at: 0,
        }
    }

    pub(super) fn offset(&self) -> u64 {
        self.buffer_offset + self.at as u64
    }

    /// The next bytes, or fewer at the end of the file.
    fn peek(&mut self, length: usize) -> std::io::Result<&[u8]> {
        if self.buffer.len() - self.at < length {
            self.buffer_offset = self.offset();
            self.at = 0;
            self.buffer.resize(BUFFER_BYTES.max(length), 0);
            let count = self.file.read_at(self.buffer_offset, &mut self.buffer)?;
            self.buffer.truncate(count);
        }
        let end = self.buffer.len().min(self.at + length);
        Ok(&self.buffer[self.at..end])
    }

    /// The header of the record that stands here; `None` when none does.
    pub(super) fn next_header(
        &mut self,
        segment: &SegmentHeader,
    ) -> std::io::Result<Option<Header>> {
        let bytes = self.peek(HEADER_BYTES)?;
        Ok(bytes
            .first_chunk()
            .and_then(|bytes| Header::decode(&segment.id, bytes)))
    }

    /// Steps over the record whose header was seen and gives its payload, if that is good.
    pub(super) fn payload(&mut self, header: &Header) -> std::io::Result<Option<&[u8]>> {
        let length = HEADER_BYTES + header.payload_bytes as usize;
        let stored = header.stored_bytes() as usize;
        if self.peek(stored)?.len() < length {
            return Ok(None);
        }
        let begin = self.at;
        self.at = self.buffer.len().min(begin + stored);
        let payload = &self.buffer[begin + HEADER_BYTES..begin + length];
        Ok((crc32c::crc32c(payload) == header.payload_crc).then_some(payload))
    }

    fn payload_is_good(&mut self, header: &Header) -> std::io::Result<bool> {
        Ok(self.payload(header)?.is_some())
    }
}
