//! One file, link or special file: made under a name of its own, finished, then given its name.
//!
//! If we die in between, a `.holdfast-restore-…` is left in the folder, and nothing half under a real
//! name. The last step refuses to replace anything unless replacing is asked for.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use holdfast_crypto::{ChunkId, ChunkKind};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::Stopped;
use super::attributes::{self, Lost, Place};
use super::folder::Refusal;
use crate::chunks::LoadError;
use crate::format::{Body, FileKind, Inode, ListRef, Piece};
use crate::walk::SnapshotSource;

/// Why a file is not there.
#[derive(Debug)]
pub(crate) enum FileError {
    /// The target refused.
    Target(Refusal),
    /// Content could not be loaded.
    Load(LoadError),
    /// Anything else, in words.
    Other(String),
}

impl From<Errno> for FileError {
    fn from(error: Errno) -> FileError {
        FileError::Target(Refusal::Failed(error))
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> FileError {
        match error.raw_os_error() {
            Some(number) => Errno::from_raw_os_error(number).into(),
            None => FileError::Other(error.to_string()),
        }
    }
}

impl From<LoadError> for FileError {
    fn from(error: LoadError) -> FileError {
        FileError::Load(error)
    }
}

impl FileError {
    /// What makes going on useless.
    pub(super) fn stops(&self) -> Option<Stopped> {
        match self {
            FileError::Load(error @ (LoadError::Unavailable { .. } | LoadError::Locked)) => {
                Some(Stopped::Store(error.clone()))
            }
            _ => None,
        }
    }
}

/// How a file is put into place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Whether what is there gives way.
    pub overwrite: bool,
    /// Whether the content is read back and compared.
    pub verify: bool,
    /// Bytes to ask for ahead of what is being written.
    pub ahead_bytes: u64,
}

/// Restores what is no folder as `name` in `folder`.
pub(super) fn restore(
    source: &dyn SnapshotSource,
    folder: BorrowedFd<'_>,
    name: &[u8],
    inode: &Inode,
    manner: Manner,
    progress: &dyn Fn(u64),
) -> Result<Lost, FileError> {
    let beside = format!(".holdfast-restore-{:016x}", rand::random::<u64>());
    let beside = beside.as_bytes();
    let done = make(source, folder, beside, inode, manner, progress)
        .and_then(|lost| give_name(folder, beside, name, manner.overwrite).map(|()| lost));
    if done.is_err() {
        // Its name says what it is, should even this fail.
        let _ = rustix::fs::unlinkat(folder, beside, AtFlags::empty());
    }
    done
}

fn make(
    source: &dyn SnapshotSource,
    folder: BorrowedFd<'_>,
    name: &[u8],
    inode: &Inode,
    manner: Manner,
    progress: &dyn Fn(u64),
) -> Result<Lost, FileError> {
    let special =
        |kind, device| rustix::fs::mknodat(folder, name, kind, Mode::RUSR | Mode::WUSR, device);
    let device = inode.attributes.rdev;
    match (&inode.body, inode.attributes.kind) {
        (Body::Regular { size, list, .. }, FileKind::Regular) => {
            return regular(source, folder, name, inode, (*size, list), manner, progress);
        }
        (Body::Symlink { target }, FileKind::Symlink) => {
            rustix::fs::symlinkat(target.as_slice(), folder, name)?
        }
        (Body::Special, FileKind::Fifo) => special(FileType::Fifo, 0)?,
        (Body::Special, FileKind::Socket) => special(FileType::Socket, 0)?,
        (Body::Special, FileKind::CharDevice) => special(FileType::CharacterDevice, device)?,
        (Body::Special, FileKind::BlockDevice) => special(FileType::BlockDevice, device)?,
        _ => {
            return Err(FileError::Other(
                "its kind contradicts its content".to_owned(),
            ));
        }
    }
    Ok(attributes::apply(&Place::Named(folder, name), inode))
}

fn regular(
    source: &dyn SnapshotSource,
    folder: BorrowedFd<'_>,
    name: &[u8],
    inode: &Inode,
    (size, list): (u64, &ListRef),
    manner: Manner,
    progress: &dyn Fn(u64),
) -> Result<Lost, FileError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(
        folder,
        name,
        flags,
        Mode::RUSR | Mode::WUSR,
    )?);
    let mut written = blake3::Hasher::new();
    let mut end = 0;
    each_piece(source, list, manner.ahead_bytes, &mut |offset, bytes| {
        if offset + bytes.len() as u64 > size {
            return Err(FileError::Other(
                "its pieces are longer than the file".to_owned(),
            ));
        }
        file.write_all_at(bytes, offset)?;
        end = offset + bytes.len() as u64;
        if manner.verify {
            written.update(bytes);
        }
        progress(bytes.len() as u64);
        Ok(())
    })?;
    // What no piece covers is a hole, at the end too.
    if end != size {
        file.set_len(size)?;
    }
    if manner.verify && read_back(source, list, size, &file)? != written.finalize() {
        return Err(FileError::Other(
            "what was read back is not what was written; check this disk".to_owned(),
        ));
    }
    Ok(attributes::apply(&Place::Open(file.as_fd()), inode))
}

/// Takes the offset and bytes of a piece.
type EachPiece<'a> = dyn FnMut(u64, &[u8]) -> Result<(), FileError> + 'a;

/// Calls `each` with the offset and bytes of every piece that is no hole.
pub(crate) fn each_piece(
    source: &dyn SnapshotSource,
    list: &ListRef,
    ahead_bytes: u64,
    each: &mut EachPiece<'_>,
) -> Result<(), FileError> {
    let mut pieces = crate::list::pieces_from(source, list, 0);
    let mut window: VecDeque<(u64, ChunkId, u32)> = VecDeque::new();
    let (mut window_bytes, mut asked) = (0, 0);
    loop {
        while window_bytes <= ahead_bytes {
            let Some(piece) = pieces.next() else { break };
            if let (offset, Piece::Chunk { id, length }) = piece? {
                window.push_back((offset, id, length));
                window_bytes += u64::from(length);
            }
        }
        if asked == 0 && window.len() > 1 {
            let wanted: Vec<_> = window
                .iter()
                .map(|(_, id, _)| (ChunkKind::Data, *id))
                .collect();
            source.prefetch(&wanted);
            // Asked again when half of it is used up.
            asked = window.len().div_ceil(2);
        }
        let Some((offset, id, length)) = window.pop_front() else {
            return Ok(());
        };
        window_bytes -= u64::from(length);
        asked = asked.saturating_sub(1);
        let bytes = source.load(ChunkKind::Data, &id)?;
        if bytes.len() != length as usize {
            return Err(LoadError::Damaged {
                kind: ChunkKind::Data,
                id,
                object: None,
            }
            .into());
        }
        each(offset, &bytes)?;
    }
}

/// Hashes from the disk what was written to it.
fn read_back(
    source: &dyn SnapshotSource,
    list: &ListRef,
    size: u64,
    file: &File,
) -> Result<blake3::Hash, FileError> {
    file.sync_data()?;
    // Only then does reading tell what the disk has, rather than memory.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    if file.metadata()?.len() != size {
        return Err(FileError::Other(
            "what was read back has another length".to_owned(),
        ));
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    for piece in crate::list::pieces_from(source, list, 0) {
        let (offset, Piece::Chunk { length, .. }) = piece? else {
            continue;
        };
        let mut done = 0;
        while done < u64::from(length) {
            let part = (u64::from(length) - done).min(buffer.len() as u64) as usize;
            file.read_exact_at(&mut buffer[..part], offset + done)?;
            hasher.update(&buffer[..part]);
            done += part as u64;
        }
    }
    Ok(hasher.finalize())
}

fn give_name(
    folder: BorrowedFd<'_>,
    from: &[u8],
    name: &[u8],
    overwrite: bool,
) -> Result<(), FileError> {
    if overwrite {
        return rustix::fs::renameat(folder, from, folder, name).map_err(|error| match error {
            // A folder is never removed with all that is in it.
            Errno::ISDIR | Errno::NOTEMPTY => FileError::Target(Refusal::Exists),
            error => error.into(),
        });
    }
    match rustix::fs::renameat_with(folder, from, folder, name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(FileError::Target(Refusal::Exists)),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            give_name_by_link(folder, from, name)
        }
        Err(error) => Err(error.into()),
    }
}

/// For file systems without RENAME_NOREPLACE.
fn give_name_by_link(folder: BorrowedFd<'_>, from: &[u8], name: &[u8]) -> Result<(), FileError> {
    match rustix::fs::linkat(folder, from, folder, name, AtFlags::empty()) {
        Ok(()) => Ok(rustix::fs::unlinkat(folder, from, AtFlags::empty())?),
        Err(Errno::EXIST) => Err(FileError::Target(Refusal::Exists)),
        // No hard links either (FAT): nothing is left but to look first.
        Err(_) => match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(rustix::fs::renameat(folder, from, folder, name)?),
            Ok(_) => Err(FileError::Target(Refusal::Exists)),
            Err(error) => Err(error.into()),
        },
    }
}

/// A file's content could not be read or written out.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// It could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It could not be written out.
    #[error(transparent)]
    Out(#[from] io::Error),
    /// The list contradicts the file's length.
    #[error("its pieces do not fit its length; `holdfast check` says what else is damaged")]
    Length,
}

impl ContentError {
    /// Whether nobody reads what is written out.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, ContentError::Out(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Reads a file from the beginning, holes as zeros, a chunk at a time.
pub fn read_content(
    source: &dyn SnapshotSource,
    size: u64,
    list: &ListRef,
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), ContentError> {
    let mut at = 0;
    let zeros_to = |from: u64, to: u64, out: &mut dyn FnMut(&[u8]) -> io::Result<()>| {
        let mut left = to.saturating_sub(from);
        while left > 0 {
            let part = left.min(ZEROS.len() as u64);
            out(&ZEROS[..part as usize])?;
            left -= part;
        }
        Ok::<(), io::Error>(())
    };
    let mut failed = None;
    let read = each_piece(source, list, 4 << 20, &mut |offset, bytes| {
        let end = offset + bytes.len() as u64;
        let written = if end > size || offset < at {
            Err(ContentError::Length)
        } else {
            zeros_to(at, offset, out)
                .and_then(|()| out(bytes))
                .map_err(ContentError::from)
        };
        at = end;
        written.map_err(|error| {
            failed = Some(error);
            FileError::Other(String::new())
        })
    });
    match (read, failed) {
        (_, Some(error)) => Err(error),
        (Ok(()), None) => Ok(zeros_to(at, size, out)?),
        (Err(FileError::Load(error)), None) => Err(error.into()),
        (Err(_), None) => Err(ContentError::Length),
    }
}
