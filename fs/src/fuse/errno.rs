//! The one place where a failure becomes an errno.

use fuser::Errno;

use crate::filesystem::FsError;

/// The errno that a caller of the drive sees; exhaustive on purpose.
pub(super) fn to_errno(error: &FsError) -> Errno {
    Errno::from_i32(match error {
        FsError::NotFound => libc::ENOENT,
        FsError::Exists => libc::EEXIST,
        FsError::NotEmpty => libc::ENOTEMPTY,
        FsError::IsDirectory => libc::EISDIR,
        FsError::NotDirectory => libc::ENOTDIR,
        FsError::NameTooLong => libc::ENAMETOOLONG,
        // A thread that may wait for room never sees NoRoomYet.
        FsError::NoSpace | FsError::NoRoomYet => libc::ENOSPC,
        FsError::Quota => libc::EDQUOT,
        FsError::ReadOnly => libc::EROFS,
        FsError::Access => libc::EACCES,
        FsError::Perm => libc::EPERM,
        FsError::Invalid => libc::EINVAL,
        FsError::BadHandle => libc::EBADF,
        FsError::NoData => libc::ENODATA,
        FsError::NoMoreData => libc::ENXIO,
        FsError::Range => libc::ERANGE,
        FsError::TooBig => libc::E2BIG,
        FsError::FileTooBig => libc::EFBIG,
        FsError::TooManyLinks => libc::EMLINK,
        FsError::CrossDevice => libc::EXDEV,
        FsError::Io { .. } => libc::EIO,
        // A thread that may wait never sees WouldBlock; if one did, waiting too long is what it means.
        FsError::TimedOut | FsError::WouldBlock => libc::ETIMEDOUT,
        FsError::Unsupported => libc::EOPNOTSUPP,
        FsError::Stale => libc::ESTALE,
    })
}
