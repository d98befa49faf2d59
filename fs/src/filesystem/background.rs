//! What runs behind the calls: cutting files while they are written, chunking those that are quiet,
//! feeding the packer.

use std::collections::HashSet;
use std::thread::JoinHandle;

use holdfast_crypto::{ChunkId, ChunkKind};
use parking_lot::Condvar;

use super::files::CUT_FROM_BYTES;
use super::*;
use crate::chunk::CutBuffer;
use crate::chunks::{ChunkSink, SinkError};
use crate::content::{Content, Cut, Placed};
use crate::known::MOST_KNOWN;
use crate::log::ReadOnlyReason;
use crate::namespace::Slot;
use crate::namespace::state::Name;
use crate::rechunk::{Rechunked, Rechunker};

/// A file is chunked when it was left alone for so long.
const QUIET: Duration = Duration::from_secs(1);
/// How often settled chunks are handed to the packer.
const FEED_EVERY: Duration = Duration::from_millis(250);
/// So many names of each table the kernel is asked to forget at once, and again behind that.
const FORGET_AT_ONCE: usize = 8_192;
const FORGET_AGAIN: Duration = Duration::from_millis(20);
const FORGET_LATER: Duration = Duration::from_secs(5);
/// What is cut in one go, per thread.
const CUT_BYTES: u64 = 4 << 20;
/// Held while that is cut: the bytes, and what they become.
const CUT_MEMORY: u64 = 12 << 20;
/// Threads that chunk.
const WORKERS: usize = 2;

/// What is to be done behind the calls.
#[derive(Default)]
pub(crate) struct Work {
    state: Mutex<WorkState>,
    wake: Condvar,
}

#[derive(Default)]
struct WorkState {
    to_cut: Vec<FileNo>,
    cutting: HashSet<FileNo>,
    /// Last change of files that may have content to chunk.
    touched: HashMap<FileNo, Instant>,
    ended: bool,
}

enum Job {
    Cut(FileNo),
    Chunk(FileNo),
}

impl Work {
    /// A file was written or closed.
    pub(crate) fn touched(&self, file: FileNo) {
        self.state.lock().touched.insert(file, Instant::now());
    }

    /// A file has enough to be cut.
    pub(crate) fn cut(&self, file: FileNo) {
        let mut state = self.state.lock();
        if !state.cutting.contains(&file) && !state.to_cut.contains(&file) {
            state.to_cut.push(file);
            self.wake.notify_one();
        }
    }

    /// Whether a file is being cut or waits for it.
    pub(crate) fn is_cutting(&self, file: FileNo) -> bool {
        let state = self.state.lock();
        state.cutting.contains(&file) || state.to_cut.contains(&file)
    }

    /// Ends the workers.
    pub(crate) fn end(&self) {
        self.state.lock().ended = true;
        self.wake.notify_all();
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if state.ended {
                return None;
            }
            if let Some(file) = state.to_cut.pop() {
                state.cutting.insert(file);
                return Some(Job::Cut(file));
            }
            let quiet =
                |(file, since): (&FileNo, &Instant)| (since.elapsed() >= QUIET).then_some(*file);
            if let Some(file) = state.touched.iter().find_map(quiet) {
                state.touched.remove(&file);
                if state.cutting.insert(file) {
                    return Some(Job::Chunk(file));
                }
                continue;
            }
            self.wake.wait_for(&mut state, FEED_EVERY);
        }
    }

    fn done(&self, file: FileNo) {
        self.state.lock().cutting.remove(&file);
    }
}

/// The threads behind a drive; they end when it is shut down.
pub struct Threads {
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts them.
    pub fn start(filesystem: &Arc<Filesystem>) -> std::io::Result<Self> {
        let mut threads = Vec::new();
        for _ in 0..WORKERS {
            threads.push(spawn("chunk", filesystem, Filesystem::run_worker)?);
        }
        threads.push(spawn("feed", filesystem, Filesystem::run_feed)?);
        threads.push(spawn("forget", filesystem, Filesystem::run_forget)?);
        threads.push(spawn("commit", filesystem, Filesystem::run_commits)?);
        threads.push(spawn("snapshots", filesystem, Filesystem::run_snapshots)?);
        Ok(Threads { threads })
    }

    /// Waits for their end, which [`Filesystem::shutdown`] has asked for.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the drive panicked");
            }
        }
    }
}

fn spawn(
    name: &str,
    filesystem: &Arc<Filesystem>,
    run: fn(&Filesystem),
) -> std::io::Result<JoinHandle<()>> {
    let filesystem = filesystem.clone();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || run(&filesystem))
}

impl Filesystem {
    /// Ends the threads.
    pub(crate) fn end(&self) {
        self.work.end();
        self.commits.end();
    }

    /// Content of one file, then its times, into the log.
    pub(crate) fn log_file(&self, file: FileNo) -> FsResult<()> {
        self.log_content(file, Room::Ordinary)
    }

    /// Times of one file into the log.
    pub(crate) fn log_times(&self, namespace: &mut Namespace, file: FileNo) -> FsResult<()> {
        self.log_attributes(namespace, file, Room::Ordinary)
    }

    /// Content of all files into the log, as far as there is room.
    pub(crate) fn log_open_files(&self) {
        if let Err(error) = self.log_everything() {
            tracing::error!(%error, "what was written to open files is not all in the log");
        }
    }

    fn run_worker(&self) {
        while let Some(job) = self.work.next() {
            let (file, done) = match job {
                Job::Cut(file) => (file, self.cut_file(file)),
                Job::Chunk(file) => (file, self.chunk_file(file)),
            };
            self.work.done(file);
            if let Err(error) = done {
                // The content stays as it is: in memory, then in the log. The commit chunks it.
                tracing::debug!(file, %error, "a file is not chunked yet");
            }
        }
    }

    fn run_feed(&self) {
        while !self.commits.has_ended() {
            if let Err(error) = self.write.feed() {
                tracing::warn!(%error, "cannot hand chunks to the packer");
            }
            self.archive.refresh_marks();
            self.stop_if_forked();
            if self.wants_checkpoint() {
                self.commits.ask_checkpoint();
            }
            self.commits.sleep(FEED_EVERY);
        }
    }

    /// Asks the kernel to forget what is too much to be known. On a thread of its own and without a lock: the kernel waits for calls
    /// that are under way in the folder, and these may wait for any other thread.
    fn run_forget(&self) {
        let (mut asked, mut before, mut pause) = (0, 0, FEED_EVERY);
        while !self.commits.has_ended() {
            let (names, forgotten) = self.surplus_names();
            pause = match names.len() {
                0 => FEED_EVERY,
                _ if forgotten - before >= asked / 2 => FORGET_AGAIN,
                // What is in use stays known, and is not asked for all the time.
                _ => (pause * 2).min(FORGET_LATER),
            };
            (asked, before) = (names.len() as u64, forgotten);
            for (folder, name) in names {
                self.ask_to_forget(folder, &name);
            }
            self.commits.sleep(pause);
        }
    }

    /// Names that the kernel is to forget, with their folders, and how many files it has forgotten so far.
    fn surplus_names(&self) -> (Vec<(u64, Name)>, u64) {
        let (mut names, forgotten) = {
            let known = &mut self.namespace.lock().known;
            let names = known.surplus(MOST_KNOWN, FORGET_AT_ONCE);
            (names, known.forgotten())
        };
        for (parent, _) in &mut names {
            *parent = ino_of(*parent);
        }
        let (of_snapshots, there) = self.snapshots.surplus_names(MOST_KNOWN, FORGET_AT_ONCE);
        names.extend(of_snapshots);
        (names, forgotten + there)
    }

    /// What is written after a fork would never be stored: the drive is read-only from then on.
    fn stop_if_forked(&self) {
        if !self.log.is_read_only()
            && let Some(fork) = self.archive.fork()
        {
            self.log.stop(ReadOnlyReason::Forked(fork.to_string()));
        }
    }

    /// Cuts what a file has ready, and puts the chunks in place of the bytes that are still the same.
    fn cut_file(&self, file: FileNo) -> FsResult<()> {
        let mut buffer = CutBuffer::new();
        loop {
            let content = {
                let namespace = self.namespace.lock();
                match namespace.changed(file) {
                    Some(Slot::Here(state)) => state.content().cloned(),
                    _ => None,
                }
            };
            let Some(content) = content.filter(|content| content.uncut_bytes() >= CUT_FROM_BYTES)
            else {
                return Ok(());
            };
            let limit = CUT_BYTES * WORKERS as u64;
            let _memory = self.archive.stages().log.take(CUT_MEMORY);
            let run = content.cut_ready(
                &self.archive,
                &*self.write,
                &self.write.chunker,
                limit,
                &mut buffer,
            )?;
            drop(content);
            if run.cuts.is_empty() {
                return Ok(());
            }
            let ids = self.store_cuts(file, &run.cuts)?;
            let _logging = self.write.logging.read_recursive();
            let _order = self.write.order(file);
            let mut namespace = self.namespace.lock();
            let Some(content) = namespace.state_mut(file).and_then(InodeState::content_mut) else {
                return Ok(());
            };
            let mut with_chunks = content.clone();
            let replaced = with_chunks.replace_with_chunks(&run, &ids);
            if replaced == 0 {
                return Ok(());
            }
            let placed = run.cuts.iter().zip(&ids).take(replaced).map(|(cut, id)| {
                let length = cut.bytes.len() as u32;
                Placed::Chunk {
                    id: *id,
                    chunk_length: length,
                    skip: 0,
                    length,
                }
            });
            let operation = Operation::Place(file, run.cuts[0].range.start, placed.collect());
            let bytes = encode_group(&[operation]);
            self.log.append(&RecordRef::Operation(&bytes))?;
            if let Some(content) = namespace.state_mut(file).and_then(InodeState::content_mut) {
                *content = with_chunks;
                self.write.set_memory(file, content.memory_bytes());
            }
        }
    }

    /// Compresses and encrypts chunks on all workers' cores.
    fn store_cuts(&self, file: FileNo, cuts: &[Cut]) -> FsResult<Vec<ChunkId>> {
        let sink = self.write.sink(file);
        let store = |cuts: &[Cut]| -> Result<Vec<ChunkId>, SinkError> {
            cuts.iter()
                .map(|cut| sink.store(ChunkKind::Data, &cut.bytes))
                .collect()
        };
        let halves = cuts.split_at(cuts.len() / WORKERS);
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(|| store(halves.0));
            let second = store(halves.1);
            (first.join().expect("a sink does not panic"), second)
        });
        let mut ids = first?;
        ids.extend(second?);
        Ok(ids)
    }

    /// Makes a list of a quiet file's content.
    fn chunk_file(&self, file: FileNo) -> FsResult<()> {
        let frozen = {
            let mut namespace = self.namespace.lock();
            match namespace.overlay().get(&file) {
                Some(Slot::Here(state)) if state.links > 0 => (),
                // A frozen one is chunked by its commit.
                _ => return Ok(()),
            }
            let Some(content) = namespace.state_mut(file).and_then(InodeState::content_mut) else {
                return Ok(());
            };
            if content.is_chunked() {
                return Ok(());
            }
            content.freeze()
        };
        let sink = self.write.sink(file);
        let memory = crate::rechunk::memory_for(frozen.size());
        let _memory = self.archive.stages().log.take(memory);
        let rechunker = Rechunker {
            source: &self.archive,
            sink: &sink,
            extents: &*self.write,
            chunker: &self.write.chunker,
            threads: 1,
        };
        let Rechunked {
            list,
            size,
            allocated,
        } = rechunker.rechunk(&frozen)?;
        let _logging = self.write.logging.read_recursive();
        let _order = self.write.order(file);
        let mut namespace = self.namespace.lock();
        if !matches!(namespace.overlay().get(&file), Some(Slot::Here(_))) {
            // A view was frozen meanwhile: its commit has the content as it was.
            return Ok(());
        }
        let Some(content) = namespace.state_mut(file).and_then(InodeState::content_mut) else {
            return Ok(());
        };
        if is_still(content, &frozen) {
            let group = [Operation::List {
                file,
                size,
                allocated,
                list,
            }];
            self.commit_group(&mut namespace, &group, Room::Ordinary)?;
        } else {
            // The log has the bytes below as extents still; only memory is freed.
            content.rebase(&frozen, &list, allocated);
        }
        if let Some(content) = namespace.state_mut(file).and_then(InodeState::content_mut) {
            self.write.set_memory(file, content.memory_bytes());
        }
        Ok(())
    }
}

/// Whether nothing was changed since the content was frozen.
fn is_still(content: &Content, frozen: &Arc<Content>) -> bool {
    Arc::ptr_eq(&content.clone().freeze(), frozen)
}
