//! A segment: one file of the log, its name and its header (`docs/format/log.md`).

use std::path::{Path, PathBuf};

use super::record::{array_at, u32_at, u64_at};

/// Random, new for every segment: bytes of one segment are never taken for bytes of another.
pub(crate) type SegmentId = [u8; 16];

/// Length of a segment's header; the first record begins here.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;

const MAGIC: &[u8; 4] = b"HFLG";
const VERSION: u16 = 1;
const SUITE: u16 = holdfast_crypto::SUITE;
const SUFFIX: &str = ".log";

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub id: SegmentId,
    pub number: u64,
    /// Sequence number of the first record; what stands in earlier segments from here on is void.
    pub first_sequence: u64,
    /// Last sequence number known to be on disk when the segment was made.
    pub synced: u64,
}

/// Why a segment's first bytes are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Not written completely, or damaged.
    Invalid,
    /// Whole, and made by a later program.
    NewerFormat { found: u16 },
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..4].copy_from_slice(MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6..8].copy_from_slice(&SUITE.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.id);
        bytes[32..40].copy_from_slice(&self.number.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.synced.to_le_bytes());
        let crc = crc(&bytes);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<Self, BadHeader> {
        if &bytes[0..4] != MAGIC || u32_at(bytes, 8) != crc(bytes) {
            return Err(BadHeader::Invalid);
        }
        let version = u16::from_le_bytes(array_at(bytes, 4));
        let suite = u16::from_le_bytes(array_at(bytes, 6));
        if version > VERSION || suite > SUITE {
            return Err(BadHeader::NewerFormat { found: version });
        }
        let header = SegmentHeader {
            id: array_at(bytes, 16),
            number: u64_at(bytes, 32),
            first_sequence: u64_at(bytes, 40),
            synced: u64_at(bytes, 48),
        };
        match header.encode() == *bytes {
            true => Ok(header),
            false => Err(BadHeader::Invalid),
        }
    }
}

/// Over the header without the checksum's own four bytes.
fn crc(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..8]), &bytes[12..])
}

/// `<folder>/<number, 10 digits>.log`
pub(crate) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}{SUFFIX}"))
}

/// The number in a segment's name; `None` for any other file.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let number = digits.parse().ok()?;
    (format!("{number:010}") == digits).then_some(number)
}
