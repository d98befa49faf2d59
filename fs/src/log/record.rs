//! One record: what it may be, and its bytes (`docs/format/log.md`).
//!
//! A record is a header of [`HEADER_BYTES`] and a payload, at a multiple of eight bytes. The header
//! has a checksum of its own, bound to the segment's random id, so that it can be found again
//! behind a damaged payload and cannot be forged by what somebody writes into a file.

use holdfast_crypto::{ChunkId, ChunkKind, Digest, LogKey};

use super::segment::SegmentId;

/// Length of a record's header.
pub(crate) const HEADER_BYTES: usize = 32;
/// Records begin at multiples of this.
pub(crate) const ALIGNMENT: u64 = 8;
/// Longest payload that is accepted: four times the largest chunk.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 16 << 20;

const CHUNK_PREFIX_BYTES: usize = 1 + 4 + 32 + 4 + 32;

/// What one record holds, as replay gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The wrapped session key of the chunks that follow: an object ready to be stored.
    SessionKey {
        /// SHA-256 of the object.
        digest: Digest,
        /// The object's whole bytes.
        object: Vec<u8>,
    },
    /// A chunk in the form in which it will be uploaded.
    Chunk {
        /// Name of the chunk.
        id: ChunkId,
        /// What the chunk holds.
        kind: ChunkKind,
        /// Length of the plaintext in bytes.
        raw_length: u32,
        /// Key object of the session key it is encrypted with.
        key: Digest,
        /// As the session key made it.
        ciphertext: Vec<u8>,
    },
    /// Bytes of a file that are not in a chunk yet.
    Extent {
        /// Number of the file.
        file: u64,
        /// Where in the file the bytes begin.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// A change of the namespace, in the namespace's own encoding.
    Operation(Vec<u8>),
    /// A pack is in the store.
    PackStored(Vec<u8>),
    /// A commit is in the store.
    Committed(Vec<u8>),
}

/// The same, borrowed, as it is given to [`super::Log::append`].
#[derive(Clone, Copy)]
pub enum RecordRef<'a> {
    /// See [`Record::SessionKey`].
    SessionKey {
        /// SHA-256 of the object.
        digest: Digest,
        /// The object's whole bytes.
        object: &'a [u8],
    },
    /// See [`Record::Chunk`].
    Chunk {
        /// Name of the chunk.
        id: ChunkId,
        /// What the chunk holds.
        kind: ChunkKind,
        /// Length of the plaintext in bytes.
        raw_length: u32,
        /// Key object of the session key it is encrypted with.
        key: Digest,
        /// As the session key made it.
        ciphertext: &'a [u8],
    },
    /// See [`Record::Extent`].
    Extent {
        /// Number of the file.
        file: u64,
        /// Where in the file the bytes begin.
        offset: u64,
        /// The bytes.
        data: &'a [u8],
    },
    /// See [`Record::Operation`].
    Operation(&'a [u8]),
    /// See [`Record::PackStored`].
    PackStored(&'a [u8]),
    /// See [`Record::Committed`].
    Committed(&'a [u8]),
}

impl Record {
    /// Borrows the record.
    pub fn as_ref(&self) -> RecordRef<'_> {
        match self {
            Record::SessionKey { digest, object } => RecordRef::SessionKey {
                digest: *digest,
                object,
            },
            Record::Chunk {
                id,
                kind,
                raw_length,
                key,
                ciphertext,
            } => RecordRef::Chunk {
                id: *id,
                kind: *kind,
                raw_length: *raw_length,
                key: *key,
                ciphertext,
            },
            Record::Extent { file, offset, data } => RecordRef::Extent {
                file: *file,
                offset: *offset,
                data,
            },
            Record::Operation(bytes) => RecordRef::Operation(bytes),
            Record::PackStored(bytes) => RecordRef::PackStored(bytes),
            Record::Committed(bytes) => RecordRef::Committed(bytes),
        }
    }
}

/// Number of a record's type. Zero is never one: unwritten disk reads as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RecordType {
    SessionKey = 1,
    Chunk = 2,
    Extent = 3,
    Operation = 4,
    PackStored = 5,
    Committed = 6,
}

impl RecordType {
    fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::SessionKey,
            2 => Self::Chunk,
            3 => Self::Extent,
            4 => Self::Operation,
            5 => Self::PackStored,
            6 => Self::Committed,
            _ => return None,
        })
    }

    fn is_encrypted(self) -> bool {
        !matches!(self, Self::SessionKey | Self::Chunk)
    }
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub record_type: RecordType,
    pub payload_bytes: u32,
    pub payload_crc: u32,
    pub sequence: u64,
    /// Every record up to this sequence number was known to be on disk when this one was written.
    pub synced: u64,
}

impl Header {
    pub(crate) fn encode(&self, segment: &SegmentId) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[4] = self.record_type as u8;
        bytes[8..12].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.synced.to_le_bytes());
        let crc = header_crc(segment, &bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` when these bytes are no header of this segment.
    pub(crate) fn decode(segment: &SegmentId, bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let record_type = RecordType::from_u8(bytes[4])?;
        let payload_bytes = u32_at(bytes, 0);
        let plausible = bytes[5..8] == [0; 3] && payload_bytes as usize <= MAX_PAYLOAD_BYTES;
        if !plausible || u32_at(bytes, 12) != header_crc(segment, bytes) {
            return None;
        }
        Some(Header {
            record_type,
            payload_bytes,
            payload_crc: u32_at(bytes, 8),
            sequence: u64_at(bytes, 16),
            synced: u64_at(bytes, 24),
        })
    }

    /// Header and payload, rounded up to where the next record begins.
    pub(crate) fn stored_bytes(&self) -> u64 {
        stored_bytes(self.payload_bytes as usize)
    }
}

/// Room that a payload of this length takes in a segment.
pub(crate) fn stored_bytes(payload_bytes: usize) -> u64 {
    ((HEADER_BYTES + payload_bytes) as u64).next_multiple_of(ALIGNMENT)
}

fn header_crc(segment: &SegmentId, header: &[u8; HEADER_BYTES]) -> u32 {
    let crc = crc32c::crc32c(segment);
    let crc = crc32c::crc32c_append(crc, &header[..12]);
    crc32c::crc32c_append(crc, &header[16..])
}

/// A payload before its sequence number is known: what can be done outside the log's lock is done.
pub(crate) struct Draft<'a> {
    pub record_type: RecordType,
    /// Clear: the payload's beginning. Encrypted: the whole plaintext but `body`.
    prefix: Vec<u8>,
    body: &'a [u8],
    /// Of a clear payload.
    crc: u32,
}

/// A payload as it is written: two parts, so that a chunk is not copied.
pub(crate) struct Payload<'a> {
    pub parts: [std::borrow::Cow<'a, [u8]>; 2],
    pub crc: u32,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(record: &RecordRef<'a>) -> Self {
        let (record_type, prefix, body) = split(record);
        let crc = match record_type.is_encrypted() {
            true => 0,
            false => crc32c::crc32c_append(crc32c::crc32c(&prefix), body),
        };
        Draft {
            record_type,
            prefix,
            body,
            crc,
        }
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        let overhead = match self.record_type.is_encrypted() {
            true => holdfast_crypto::CIPHERTEXT_OVERHEAD_BYTES,
            false => 0,
        };
        self.prefix.len() + self.body.len() + overhead
    }

    /// Encrypts what has to be; the associated data says where the record stands.
    pub(crate) fn finish(&self, key: &LogKey, segment: &SegmentId, sequence: u64) -> Payload<'_> {
        if !self.record_type.is_encrypted() {
            return Payload {
                parts: [(&self.prefix[..]).into(), self.body.into()],
                crc: self.crc,
            };
        }
        let associated = associated_data(segment, self.record_type, sequence);
        let mut stored = Vec::new();
        match self.prefix.is_empty() {
            true => key.encrypt_into(&associated, self.body, &mut stored),
            false => {
                let plaintext = [&self.prefix[..], self.body].concat();
                key.encrypt_into(&associated, &plaintext, &mut stored);
            }
        }
        Payload {
            crc: crc32c::crc32c(&stored),
            parts: [stored.into(), (&[][..]).into()],
        }
    }
}

fn split<'a>(record: &RecordRef<'a>) -> (RecordType, Vec<u8>, &'a [u8]) {
    match *record {
        RecordRef::SessionKey { digest, object } => {
            (RecordType::SessionKey, digest.0.to_vec(), object)
        }
        RecordRef::Chunk {
            id,
            kind,
            raw_length,
            key,
            ciphertext,
        } => {
            let mut prefix = Vec::with_capacity(CHUNK_PREFIX_BYTES);
            prefix.push(kind.to_u8());
            prefix.extend_from_slice(&id.epoch.to_le_bytes());
            prefix.extend_from_slice(&id.hash);
            prefix.extend_from_slice(&raw_length.to_le_bytes());
            prefix.extend_from_slice(&key.0);
            (RecordType::Chunk, prefix, ciphertext)
        }
        RecordRef::Extent { file, offset, data } => {
            let prefix = [file.to_le_bytes(), offset.to_le_bytes()].concat();
            (RecordType::Extent, prefix, data)
        }
        RecordRef::Operation(bytes) => (RecordType::Operation, Vec::new(), bytes),
        RecordRef::PackStored(bytes) => (RecordType::PackStored, Vec::new(), bytes),
        RecordRef::Committed(bytes) => (RecordType::Committed, Vec::new(), bytes),
    }
}

/// `"holdfast/1/log" || segment id || type || sequence`: a record read at another place, or moved
/// into another segment, does not open.
fn associated_data(segment: &SegmentId, record_type: RecordType, sequence: u64) -> Vec<u8> {
    let mut bytes = b"holdfast/1/log".to_vec();
    bytes.extend_from_slice(segment);
    bytes.push(record_type as u8);
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes
}

/// Opens a payload whose checksum was right. `None` when it does not authenticate or is malformed.
pub(crate) fn decode(
    key: &LogKey,
    segment: &SegmentId,
    header: &Header,
    payload: Vec<u8>,
) -> Option<Record> {
    if header.record_type.is_encrypted() {
        let associated = associated_data(segment, header.record_type, header.sequence);
        let plaintext = key.decrypt(&associated, &payload).ok()?;
        return decode_encrypted(header.record_type, plaintext);
    }
    match header.record_type {
        RecordType::SessionKey => {
            let (digest, object) = payload.split_first_chunk::<32>()?;
            Some(Record::SessionKey {
                digest: Digest(*digest),
                object: object.to_vec(),
            })
        }
        _ => decode_chunk(payload),
    }
}

fn decode_encrypted(record_type: RecordType, mut plaintext: Vec<u8>) -> Option<Record> {
    Some(match record_type {
        RecordType::Extent => {
            let (file, rest) = plaintext.split_first_chunk::<8>()?;
            let (offset, _) = rest.split_first_chunk::<8>()?;
            let (file, offset) = (u64::from_le_bytes(*file), u64::from_le_bytes(*offset));
            plaintext.drain(..16);
            Record::Extent {
                file,
                offset,
                data: plaintext,
            }
        }
        RecordType::Operation => Record::Operation(plaintext),
        RecordType::PackStored => Record::PackStored(plaintext),
        RecordType::Committed => Record::Committed(plaintext),
        RecordType::SessionKey | RecordType::Chunk => return None,
    })
}

fn decode_chunk(mut payload: Vec<u8>) -> Option<Record> {
    let prefix: &[u8; CHUNK_PREFIX_BYTES] = payload.first_chunk()?;
    let kind = ChunkKind::from_u8(prefix[0])?;
    let id = ChunkId {
        epoch: u32_at(prefix, 1),
        hash: array_at(prefix, 5),
    };
    let raw_length = u32_at(prefix, 37);
    let key = Digest(array_at(prefix, 41));
    payload.drain(..CHUNK_PREFIX_BYTES);
    Some(Record::Chunk {
        id,
        kind,
        raw_length,
        key,
        ciphertext: payload,
    })
}

pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has N bytes")
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}
