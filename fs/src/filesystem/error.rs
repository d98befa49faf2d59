//! Why a call failed; the shell turns each into one errno.

use crate::chunks::{ChunkError, LoadError, Outage, SinkError};

/// A call on the filesystem failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FsError {
    /// ENOENT
    #[error("no such file or folder")]
    NotFound,
    /// EEXIST
    #[error("it exists already")]
    Exists,
    /// ENOTEMPTY
    #[error("the folder is not empty")]
    NotEmpty,
    /// EISDIR
    #[error("it is a folder")]
    IsDirectory,
    /// ENOTDIR
    #[error("it is not a folder")]
    NotDirectory,
    /// ENAMETOOLONG
    #[error("the name is longer than 255 bytes")]
    NameTooLong,
    /// ENOSPC
    #[error("no space is left in the log on this computer")]
    NoSpace,
    /// EDQUOT
    #[error("the store's quota is used up")]
    Quota,
    /// EROFS
    #[error("it is read-only")]
    ReadOnly,
    /// EACCES
    #[error("the archive is locked: the user key is not there")]
    Access,
    /// EPERM
    #[error("not permitted")]
    Perm,
    /// EINVAL
    #[error("invalid argument")]
    Invalid,
    /// EBADF
    #[error("not an open file")]
    BadHandle,
    /// ENODATA
    #[error("no such attribute")]
    NoData,
    /// ENXIO: no data or hole after the offset.
    #[error("nothing after this offset")]
    NoMoreData,
    /// ERANGE: the buffer for an attribute is too small.
    #[error("the buffer is too small")]
    Range,
    /// E2BIG: an attribute is too large.
    #[error("the attribute is too large")]
    TooBig,
    /// EFBIG
    #[error("the file would be too large")]
    FileTooBig,
    /// EMLINK
    #[error("the file has too many names")]
    TooManyLinks,
    /// EXDEV
    #[error("the two are not in one tree")]
    CrossDevice,
    /// EIO; logged where it happened.
    #[error("{what}")]
    Io {
        /// What went wrong, for a person; names no key and no content.
        what: String,
    },
    /// ETIMEDOUT
    #[error("the store did not answer in time")]
    TimedOut,
    /// The log has no room and the calling thread may not wait for it: run it again where it may.
    #[error("the call has to wait for room in the log")]
    NoRoomYet,
    /// The call needs the store and the calling thread may not wait: run it again where it may.
    #[error("the call has to wait for the store")]
    WouldBlock,
    /// EOPNOTSUPP
    #[error("not offered")]
    Unsupported,
    /// ESTALE: a number that the filesystem does not know.
    #[error("unknown inode number")]
    Stale,
}

impl FsError {
    /// An EIO with a sentence.
    pub fn io(what: impl std::fmt::Display) -> Self {
        FsError::Io {
            what: what.to_string(),
        }
    }
}

impl From<LoadError> for FsError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::WouldBlock => FsError::WouldBlock,
            LoadError::Locked => FsError::Access,
            LoadError::Unavailable {
                outage: Outage::TimedOut | Outage::BreakerOpen,
            } => FsError::TimedOut,
            other => FsError::io(other),
        }
    }
}

impl From<SinkError> for FsError {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::NoSpace => FsError::NoSpace,
            SinkError::Quota => FsError::Quota,
            SinkError::ReadOnly { .. } => FsError::ReadOnly,
            other => FsError::io(other),
        }
    }
}

impl From<ChunkError> for FsError {
    fn from(error: ChunkError) -> Self {
        match error {
            ChunkError::Load(error) => error.into(),
            ChunkError::Sink(error) => error.into(),
        }
    }
}
