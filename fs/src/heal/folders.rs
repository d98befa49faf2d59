//! Looks for lost chunks in files: each is cut as `backup` cuts it, and its list is made as `backup`
//! makes it, so that equal files give equal chunks and equal list nodes.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use holdfast_crypto::{ChunkId, ChunkKind};
use parking_lot::Mutex;
use rustix::fs::fstat;

use super::{HealError, Healer, Told, Wanted};
use crate::archive::Archive;
use crate::backup::{is_sparse, read_full, runs};
use crate::chunk::{Chunker, CutBuffer, Following, MIN_CHUNK_BYTES};
use crate::chunks::{ChunkError, ChunkSink, SinkError};
use crate::format::Piece;
use crate::list::ListBuilder;

/// Read in one call.
const READ_BYTES: usize = 1 << 20;

/// Takes every chunk of a file and stores those that are wanted.
struct Finder<'a> {
    archive: &'a Archive,
    is_dry: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wanted: BTreeSet<Wanted>,
    found: BTreeSet<Wanted>,
    bytes: u64,
}

impl ChunkSink for Finder<'_> {
    fn store(&self, kind: ChunkKind, plaintext: &[u8]) -> Result<ChunkId, SinkError> {
        let id = self.archive.keychain().chunk_id(kind, plaintext);
        let is_wanted = self.state.lock().wanted.remove(&(id, kind));
        if is_wanted {
            if !self.is_dry {
                self.archive.store_anew(kind, id, plaintext)?;
            }
            let mut state = self.state.lock();
            state.found.insert((id, kind));
            state.bytes += plaintext.len() as u64;
        }
        Ok(id)
    }
}

impl Healer<'_> {
    /// Goes through the folders given until everything is found. What cannot be read is named.
    pub(super) fn search_folders(
        &mut self,
        wanted: BTreeSet<Wanted>,
    ) -> Result<BTreeSet<Wanted>, HealError> {
        (self.tell)(Told::Step("reading the folders given"));
        let chunker = Chunker::from_gear_table(self.archive.keychain().gear_table());
        let finder = Finder {
            archive: self.archive,
            is_dry: self.request.is_dry,
            state: Mutex::new(State {
                wanted,
                ..State::default()
            }),
        };
        let mut left: Vec<PathBuf> = self.request.from.iter().rev().cloned().collect();
        while let Some(path) = left.pop() {
            if finder.state.lock().wanted.is_empty() {
                break;
            }
            match self.step(&path, &chunker, &finder, &mut left) {
                Ok(()) => {}
                Err(FileError::Archive(error)) => return Err(error),
                Err(FileError::File(error)) => {
                    self.report
                        .unreadable
                        .push(format!("{}: {error}", path.display()));
                }
            }
        }
        let state = finder.state.into_inner();
        self.report.chunks += state.found.len() as u64;
        self.report.chunks_from_folders += state.found.len() as u64;
        self.report.bytes += state.bytes;
        Ok(state.found)
    }

    /// A file is read, a folder's entries are put on the stack. Links are not followed.
    fn step(
        &self,
        path: &Path,
        chunker: &Chunker,
        finder: &Finder<'_>,
        left: &mut Vec<PathBuf>,
    ) -> Result<(), FileError> {
        let metadata = std::fs::symlink_metadata(path)?;
        let is_given = self.request.from.iter().any(|given| given == path);
        let is_link_given = is_given && metadata.is_symlink();
        let metadata = if is_link_given {
            std::fs::metadata(path)?
        } else {
            metadata
        };
        if metadata.is_dir() {
            for entry in std::fs::read_dir(path)? {
                left.push(entry?.path());
            }
        } else if metadata.is_file() && metadata.len() > 0 {
            self.file(&File::open(path)?, chunker, finder)?;
        }
        Ok(())
    }

    fn file(&self, file: &File, chunker: &Chunker, sink: &Finder<'_>) -> Result<(), FileError> {
        let stat = fstat(file).map_err(std::io::Error::from)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut buffer = vec![0; READ_BYTES];
        if size < MIN_CHUNK_BYTES as u64 && !is_sparse(&stat) {
            let length = read_full(file, &mut buffer[..MIN_CHUNK_BYTES], 0)?;
            sink.store(ChunkKind::Data, &buffer[..length])?;
            (self.tell)(Told::Bytes(length as u64));
            return Ok(());
        }
        let mut list = ListBuilder::new(sink);
        let mut at = 0;
        for run in runs(file, &stat)? {
            list.push(Piece::Hole {
                length: run.start - at,
            })?;
            at = run.start;
            let mut cutter = CutBuffer::new();
            loop {
                let wanted = (run.end - at).min(READ_BYTES as u64) as usize;
                let length = read_full(file, &mut buffer[..wanted], at)?;
                cutter.push(&buffer[..length]);
                at += length as u64;
                (self.tell)(Told::Bytes(length as u64));
                let is_end = length < wanted || at == run.end;
                let following = if is_end {
                    Following::End
                } else {
                    Following::More
                };
                while (is_end || cutter.is_full())
                    && let Some(chunk) = cutter.cut(chunker, following)
                {
                    let id = sink.store(ChunkKind::Data, &chunk)?;
                    list.push(Piece::Chunk {
                        id,
                        length: chunk.len() as u32,
                    })?;
                }
                if is_end {
                    break;
                }
            }
        }
        list.push(Piece::Hole {
            length: size.saturating_sub(at),
        })?;
        list.finish()?;
        Ok(())
    }
}

/// One file cannot be read, or nothing can be stored.
enum FileError {
    File(std::io::Error),
    Archive(HealError),
}

impl From<std::io::Error> for FileError {
    fn from(error: std::io::Error) -> Self {
        FileError::File(error)
    }
}

impl From<SinkError> for FileError {
    fn from(error: SinkError) -> Self {
        FileError::Archive(error.into())
    }
}

impl From<ChunkError> for FileError {
    fn from(error: ChunkError) -> Self {
        match error {
            ChunkError::Sink(error) => error.into(),
            ChunkError::Load(error) => FileError::Archive(error.into()),
        }
    }
}
