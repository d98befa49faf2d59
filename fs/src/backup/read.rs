//! Reads one source file into chunks: read -> cut -> id -> known? -> compress -> encrypt -> packer.
//!
//! Holds no more than [`memory_for`] says, however long the file, and twice that where idle workers
//! help. Chunks end where a hole begins, exactly as
//! `rechunk` cuts a file that was copied in by hand, so both ways give the same list.
//!
//! A file that changes while it is read is read again; after three times it is kept as it was read
//! last, and named.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use holdfast_crypto::ChunkKind;
use rustix::fs::{Mode, OFlags, SeekFrom, Stat, fstat, openat, seek};
use rustix::io::Errno;

use super::sink::DirectSink;
use super::source::{is_same, kind_of, xattrs_of_file};
use crate::archive::Archive;
use crate::chunk::{Chunker, CutBuffer, Following, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES};
use crate::chunks::{ChunkError, ChunkSink};
use crate::format::{FileKind, ListRef, Piece, Xattrs};
use crate::list::ListBuilder;
use crate::packer::Ticket;
use crate::rechunk::{MIN_HOLE_BYTES, memory_for, store_chunks};

/// How often a file that changes is read.
const READS: usize = 3;
/// Read in one call.
const READ_BYTES: usize = 1 << 20;
/// From this length on, idle workers help with a file's chunks.
const SHARED_FROM_BYTES: i64 = 16 << 20;

/// A file as it was read.
pub(super) struct ReadFile {
    pub(super) stat: Stat,
    pub(super) size: u64,
    pub(super) allocated: u64,
    pub(super) list: ListRef,
    pub(super) xattrs: Arc<Xattrs>,
    /// Packs that have to be stored before the list may be named.
    pub(super) tickets: Vec<Ticket>,
    /// When the last reading began.
    pub(super) looked: SystemTime,
    /// Whether it changed under every reading.
    pub(super) is_torn: bool,
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The source: this file is named, the rest goes on.
    #[error(transparent)]
    Source(#[from] io::Error),
    /// The archive: nothing goes on.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The backup has ended already.
    #[error("the backup was stopped")]
    Stopped,
}

impl From<Errno> for ReadError {
    fn from(errno: Errno) -> Self {
        ReadError::Source(errno.into())
    }
}

/// What reading needs besides the file; one for each worker.
pub(super) struct Reader<'a> {
    pub(super) archive: &'a Archive,
    pub(super) chunker: &'a Chunker,
    /// Workers in all, and those that read a file at the moment.
    pub(super) workers: usize,
    pub(super) busy: &'a AtomicUsize,
    pub(super) read_bytes: &'a AtomicU64,
    pub(super) stop: &'a AtomicBool,
    pub(super) buffer: Vec<u8>,
}

impl Reader<'_> {
    pub(super) fn read(&mut self, folder: &OwnedFd, name: &[u8]) -> Result<ReadFile, ReadError> {
        let file = open(folder, name)?;
        for again in (0..READS).rev() {
            let looked = SystemTime::now();
            let before = fstat(&file)?;
            if kind_of(&before) != Some(FileKind::Regular) {
                return Err(io::Error::other("it was replaced while it was looked at").into());
            }
            let memory = memory_for(before.st_size as u64);
            let _memory = self.archive.stages().store.take(memory);
            let _busy = Busy::new(self.busy);
            let sink = DirectSink::new(self.archive);
            let (list, size, allocated) = self.content(&file, &before, &sink)?;
            let xattrs = xattrs_of_file(&file)?;
            let is_torn = !is_same(&before, &fstat(&file)?) || size != before.st_size as u64;
            if !is_torn || again == 0 {
                let tickets = sink.into_tickets();
                return Ok(ReadFile {
                    stat: before,
                    size,
                    allocated,
                    list,
                    xattrs,
                    tickets,
                    looked,
                    is_torn,
                });
            }
        }
        unreachable!("the last reading returns")
    }

    fn content(
        &mut self,
        file: &File,
        stat: &Stat,
        sink: &DirectSink<'_>,
    ) -> Result<(ListRef, u64, u64), ReadError> {
        if stat.st_size < MIN_CHUNK_BYTES as i64 && !is_sparse(stat) {
            return self.small(file, sink);
        }
        let mut builder = ListBuilder::new(sink);
        let mut allocated = 0;
        let mut at = 0;
        let size = stat.st_size as u64;
        for run in runs(file, stat)? {
            builder.push(Piece::Hole {
                length: run.start - at,
            })?;
            let read = self.run(file, run.start, run.end, stat.st_size, sink, &mut builder)?;
            allocated += read;
            at = run.start + read;
            if at < run.end {
                // It became shorter.
                return Ok((builder.finish()?, at, allocated));
            }
        }
        builder.push(Piece::Hole { length: size - at })?;
        Ok((builder.finish()?, size, allocated))
    }

    /// This one, and its part of the workers that have no file, or wait for memory for theirs.
    fn threads(&self) -> usize {
        let busy = self.busy.load(Ordering::Relaxed).max(1);
        1 + self.workers.saturating_sub(busy) / busy
    }

    /// One chunk, read in one go.
    fn small(
        &mut self,
        file: &File,
        sink: &DirectSink<'_>,
    ) -> Result<(ListRef, u64, u64), ReadError> {
        self.buffer.resize(MIN_CHUNK_BYTES, 0);
        let length = read_full(file, &mut self.buffer, 0)?;
        self.read_bytes.fetch_add(length as u64, Ordering::Relaxed);
        if length == 0 {
            return Ok((ListRef::empty(), 0, 0));
        }
        let id = sink
            .store(ChunkKind::Data, &self.buffer[..length])
            .map_err(ChunkError::from)?;
        let list = ListRef::Inline(Arc::from([Piece::Chunk {
            id,
            length: length as u32,
        }]));
        Ok((list, length as u64, length as u64))
    }

    /// A run of data; gives how long it really was.
    fn run(
        &mut self,
        file: &File,
        start: u64,
        end: u64,
        size: i64,
        sink: &DirectSink<'_>,
        builder: &mut ListBuilder<'_>,
    ) -> Result<u64, ReadError> {
        let mut cutter = CutBuffer::new();
        let mut waiting: Vec<Bytes> = Vec::new();
        let mut at = start;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ReadError::Stopped);
            }
            let wanted = (end - at).min(READ_BYTES as u64) as usize;
            self.buffer.resize(READ_BYTES, 0);
            let length = read_full(file, &mut self.buffer[..wanted], at)?;
            self.read_bytes.fetch_add(length as u64, Ordering::Relaxed);
            cutter.push(&self.buffer[..length]);
            at += length as u64;
            let is_end = length < wanted || at == end;
            let following = if is_end {
                Following::End
            } else {
                Following::More
            };
            while (is_end || cutter.is_full())
                && let Some(chunk) = cutter.cut(self.chunker, following)
            {
                waiting.push(chunk);
            }
            let threads = if size >= SHARED_FROM_BYTES {
                self.threads()
            } else {
                1
            };
            let bytes: usize = waiting.iter().map(Bytes::len).sum();
            if is_end || threads == 1 || bytes >= 2 * MAX_CHUNK_BYTES {
                store(sink, &mut waiting, threads, builder)?;
            }
            if is_end {
                return Ok(at - start);
            }
        }
    }
}

/// A worker that reads a file.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Busy(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn store(
    sink: &DirectSink<'_>,
    waiting: &mut Vec<Bytes>,
    threads: usize,
    builder: &mut ListBuilder<'_>,
) -> Result<(), ReadError> {
    let ids = store_chunks(sink, waiting, threads).map_err(ChunkError::from)?;
    for (id, bytes) in ids.into_iter().zip(waiting.drain(..)) {
        builder.push(Piece::Chunk {
            id,
            length: bytes.len() as u32,
        })?;
    }
    Ok(())
}

/// Opens a file without following a symlink, waiting for a FIFO's other end, or changing its time of
/// access where that can be helped (only its owner and root may ask for it).
fn open(folder: &OwnedFd, name: &[u8]) -> Result<File, ReadError> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = match openat(folder, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(folder, name, flags, Mode::empty()),
        opened => opened,
    };
    Ok(File::from(opened?))
}

pub(crate) fn is_sparse(stat: &Stat) -> bool {
    stat.st_blocks * 512 < stat.st_size
}

/// Runs of data with holes between them that are worth being holes.
pub(crate) fn runs(file: &File, stat: &Stat) -> io::Result<Vec<Range<u64>>> {
    let size = stat.st_size as u64;
    if !is_sparse(stat) {
        return Ok(vec![Range {
            start: 0,
            end: size,
        }]);
    }
    let mut runs: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            // A file system that knows no holes: everything is data.
            Err(Errno::INVAL) => at,
            Err(error) => return Err(error.into()),
        };
        let end = seek(file, SeekFrom::Hole(start)).unwrap_or(size).min(size);
        if end <= start {
            break;
        }
        match runs.last_mut() {
            Some(last) if start - last.end < MIN_HOLE_BYTES => last.end = end,
            None if start < MIN_HOLE_BYTES => runs.push(Range { start: 0, end }),
            _ => runs.push(Range { start, end }),
        }
        at = end;
    }
    // A short hole at the end is zeros as well.
    if let Some(last) = runs
        .last_mut()
        .filter(|last| size - last.end < MIN_HOLE_BYTES)
    {
        last.end = size;
    } else if runs.is_empty() && size < MIN_HOLE_BYTES {
        runs.push(Range {
            start: 0,
            end: size,
        });
    }
    Ok(runs)
}

/// Fills the buffer; short only at the end of the file.
pub(crate) fn read_full(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], at + done as u64) {
            Ok(0) => break,
            Ok(length) => done += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
