//! What the protocol asks of a database: versioned values, and changes that happen all together or not at all.

use std::io::{self, Read, Write};

use crate::path::RecordPath;

pub mod memory;

#[cfg(feature = "testing")]
pub mod conformance;

/// Longest value.
const VALUE_BYTES: u32 = 64 << 20;

/// A value with its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Chosen by the writer.
    pub version: u64,
    /// Opaque.
    pub value: Vec<u8>,
}

/// One change of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which record.
    pub path: RecordPath,
    /// The version that must be there; `None`: there must be no such record.
    pub expected: Option<u64>,
    /// What is there afterwards; `None`: nothing.
    pub put: Option<StoredRecord>,
}

/// What a database cannot do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another version is there than was expected; nothing was changed.
    #[error("the record {path} is not in the version that was expected")]
    Conflict {
        /// Which.
        path: RecordPath,
    },
    /// The disk or the database.
    #[error("the database cannot be read or written: {0}")]
    Io(String),
    /// There is something already.
    #[error("the database is not empty")]
    NotEmpty,
    /// A stream of records that is none.
    #[error("these are not the records of a snapshot: {0}")]
    Malformed(&'static str),
}

/// A database. Synchronous: the server runs it where waiting is allowed.
pub trait RecordStore: Send + Sync {
    /// One record.
    fn get(&self, path: &RecordPath) -> Result<Option<StoredRecord>, StoreError>;

    /// All changes, or none; durable when it returns. Compares every expected version first.
    fn apply(&self, changes: &[Change]) -> Result<(), StoreError>;

    /// At most `limit` paths that begin with `prefix`, in order, after `after`.
    fn scan(
        &self,
        prefix: &str,
        after: Option<&RecordPath>,
        limit: usize,
    ) -> Result<Vec<RecordPath>, StoreError>;

    /// All records as they are at one moment, as [`write_record`] writes them, ended by an empty path.
    fn snapshot(&self, out: &mut dyn Write) -> Result<(), StoreError>;

    /// Takes what [`RecordStore::snapshot`] wrote into an empty database: all of it, or nothing.
    fn restore(&self, from: &mut dyn Read) -> Result<(), StoreError>;
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        StoreError::Io(error.to_string())
    }
}

/// `u16 length | path | u64 version | u32 length | value`, little endian; `None` is the end: a length of 0.
pub fn write_record(
    out: &mut dyn Write,
    record: Option<(&RecordPath, &StoredRecord)>,
) -> Result<(), StoreError> {
    let Some((path, record)) = record else {
        return Ok(out.write_all(&[0, 0])?);
    };
    let path = path.as_str().as_bytes();
    let path_length = u16::try_from(path.len()).expect("a path has at most 200 bytes");
    let value_length = u32::try_from(record.value.len())
        .ok()
        .filter(|length| *length <= VALUE_BYTES)
        .ok_or(StoreError::Malformed("a value is too long"))?;
    out.write_all(&path_length.to_le_bytes())?;
    out.write_all(path)?;
    out.write_all(&record.version.to_le_bytes())?;
    out.write_all(&value_length.to_le_bytes())?;
    Ok(out.write_all(&record.value)?)
}

/// Reads what [`write_record`] wrote. Hostile bytes are an error, and cost no more memory than there are bytes.
pub fn read_record(from: &mut dyn Read) -> Result<Option<(RecordPath, StoredRecord)>, StoreError> {
    let path_length = u16::from_le_bytes(array(from)?);
    if path_length == 0 {
        return Ok(None);
    }
    let path = bytes(from, path_length.into())?;
    let path = String::from_utf8(path)
        .ok()
        .and_then(|path| path.parse().ok())
        .ok_or(StoreError::Malformed("a path that is none"))?;
    let version = u64::from_le_bytes(array(from)?);
    let value_length = u32::from_le_bytes(array(from)?);
    if value_length > VALUE_BYTES {
        return Err(StoreError::Malformed("a value is too long"));
    }
    let value = bytes(from, value_length.into())?;
    Ok(Some((path, StoredRecord { version, value })))
}

fn array<const N: usize>(from: &mut dyn Read) -> Result<[u8; N], StoreError> {
    let mut array = [0; N];
    from.read_exact(&mut array).map_err(cut)?;
    Ok(array)
}

fn bytes(from: &mut dyn Read, length: u64) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let read = from.take(length).read_to_end(&mut bytes)?;
    if read as u64 == length {
        Ok(bytes)
    } else {
        Err(StoreError::Malformed("it ends too early"))
    }
}

fn cut(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => StoreError::Malformed("it ends too early"),
        _ => error.into(),
    }
}
