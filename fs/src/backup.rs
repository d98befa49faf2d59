//! `holdfast backup`: brings folders into `current/` without the kernel in between.
//!
//! ```text
//! walk (1 thread) --items in order--------------------------------> apply (the caller) -> snapshot
//!       `--files to read--> read, chunk, encrypt (a worker a core) --results--^
//!                                   `-> packer -> store
//! ```
//!
//! Chunks go straight to the packer, round the log: what is lost when we die is read again from its
//! source. So a file enters the namespace only once every pack that its chunks went into is stored,
//! in the order of the walk; its operations are logged as any others. If we die before that, the
//! store has chunks that nothing names and gc takes them; behind it the log has the file, and the
//! next backup finds it by its fingerprint and goes on where this one was. Long backups make
//! checkpoint commits on the way, as the overlay and the log grow.
//!
//! Memory: workers take what they hold of files from one gate ([`crate::memory`]), the packer has its
//! own part, and files that wait for their packs are at most [`apply::WAITING`] entries.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::chunks::{ChunkError, LoadError, SinkError};
use crate::engine::Engine;
use crate::filesystem::{FsError, StoredSnapshot};
use crate::packer::PackerError;

mod apply;
mod exclude;
mod read;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod walk;

pub use exclude::{ExcludeError, patterns_of};
pub(crate) use read::{is_sparse, read_full, runs};

/// Files that wait for a worker. Each keeps its folder's descriptor open.
const JOBS: usize = 128;
/// Items between the walk and the caller.
const ITEMS: usize = 4096;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// What to back up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BackupRequest {
    /// Absolute paths.
    pub paths: Vec<OsString>,
    /// A folder of `current/` to bring them into, each under its last name, instead of under their
    /// own absolute paths.
    pub to: Option<OsString>,
    /// Patterns of what to leave out.
    pub exclude: Vec<String>,
    /// Whether folders with a CACHEDIR.TAG are left out, but for that file.
    pub exclude_caches: bool,
    /// Whether file systems mounted below the paths are left out.
    pub one_file_system: bool,
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct BackupProgress {
    /// Files found so far, unchanged ones included.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes read so far.
    pub read_bytes: u64,
    /// Whether everything is read, and only the snapshot is waited for.
    pub is_storing: bool,
}

/// What was not backed up, or not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where.
    pub path: String,
    /// Why.
    pub why: String,
}

/// What a backup did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BackupReport {
    /// Name of the snapshot.
    pub snapshot: String,
    /// Everything found that is no folder.
    pub files: u64,
    /// Folders found.
    pub folders: u64,
    /// Bytes of the files found.
    pub bytes: u64,
    /// Files that were as at an earlier backup, and not read.
    pub unchanged: u64,
    /// Files brought in anew.
    pub copied: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Files that are gone from the source, and so from `current/`.
    pub removed: u64,
    /// Bytes put in the store since the snapshot before.
    pub stored_bytes: u64,
    /// What could not be read.
    pub unreadable: Vec<Problem>,
    /// What changed while it was read, each time.
    pub torn: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl BackupReport {
    /// Whether everything is in the snapshot.
    pub fn is_complete(&self) -> bool {
        self.unreadable.is_empty()
    }
}

/// A backup did not come about. What it brought in stays, and the next one goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is nothing to back up.
    #[error("none of these exists: {0}; name at least one folder or file that does")]
    NothingThere(String),
    /// Two sources would have one place.
    #[error("{0} would be there twice; back the two up one after the other with different --to")]
    Twice(String),
    /// `--to` leads out of `current/`.
    #[error("--to {0} is no folder of current/; give a path without . and ..")]
    NoFolder(String),
    /// The source is Holdfast's own.
    #[error("{path} lies in {inside}, which holds Holdfast's own files; back up something else")]
    Own {
        /// The source.
        path: PathBuf,
        /// Store, state, cache or a mounted drive.
        inside: PathBuf,
    },
    /// A pattern.
    #[error(transparent)]
    Exclude(#[from] ExcludeError),
    /// The drive.
    #[error(
        "the backup stopped: {0}; what it brought in stays, and the next backup goes on from there"
    )]
    Drive(#[from] FsError),
    /// The store.
    #[error(
        "the backup stopped: {0}; what it brought in stays, and the next backup goes on from there"
    )]
    Store(#[from] PackerError),
    /// A chunk could not be stored.
    #[error("the backup stopped: {}; what it brought in stays, and the next backup goes on from there", cause(.0))]
    Chunk(#[from] ChunkError),
    /// A thread could not be started.
    #[error("the backup could not start its threads: {0}")]
    Threads(#[source] io::Error),
    /// It was stopped from elsewhere.
    #[error("the backup was stopped; the next one goes on from there")]
    Stopped,
}

/// What a person has to know of a chunk's error stands in its source.
fn cause(error: &ChunkError) -> String {
    match error {
        ChunkError::Load(LoadError::Other(source)) | ChunkError::Sink(SinkError::Other(source)) => {
            source.to_string()
        }
        error => error.to_string(),
    }
}

/// One path of a request.
struct Root {
    source: PathBuf,
    /// Names from `current/` down to it; none for `/` under its own path.
    target: Vec<Vec<u8>>,
}

/// What all threads of a backup see.
struct Shared<'a> {
    engine: &'a Engine,
    request: &'a BackupRequest,
    report: Mutex<BackupReport>,
    read_bytes: AtomicU64,
    /// Workers that read a file at the moment.
    busy: AtomicUsize,
    stop: AtomicBool,
}

impl Shared<'_> {
    fn count(&self, change: impl FnOnce(&mut BackupReport)) {
        change(&mut self.report.lock());
    }

    fn unreadable(&self, path: &Path, error: io::Error) {
        tracing::debug!(path = %path.display(), %error, "not backed up");
        let problem = Problem {
            path: path.display().to_string(),
            why: plain(&error),
        };
        self.count(|report| report.unreadable.push(problem));
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn progress(&self, is_storing: bool) -> BackupProgress {
        let report = self.report.lock();
        let read_bytes = self.read_bytes.load(Ordering::Relaxed);
        BackupProgress {
            files: report.files,
            bytes: report.bytes,
            read_bytes,
            is_storing,
        }
    }
}

/// An error without `(os error 13)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Brings everything into `current/`, takes a snapshot and waits until it is stored.
pub fn run(
    engine: &Engine,
    request: &BackupRequest,
    tell: &dyn Fn(BackupProgress),
) -> Result<BackupReport, BackupError> {
    let started = Instant::now();
    let exclude = exclude::Exclude::new(&request.exclude)?;
    let roots = roots(engine, request)?;
    let shared = Shared {
        engine,
        request,
        report: Mutex::default(),
        read_bytes: AtomicU64::new(0),
        busy: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    };
    raise_descriptor_limit();
    bring_in(&shared, &exclude, &roots, tell)?;
    let filesystem = &engine.filesystem;
    let ticket = filesystem.begin_snapshot(None)?;
    let stored = wait_for(engine, ticket, || tell(shared.progress(true)))?;
    let mut report = shared.report.into_inner();
    report.read_bytes = shared.read_bytes.load(Ordering::Relaxed);
    report.snapshot = stored.name;
    report.stored_bytes = stored.stored_bytes;
    report
        .unreadable
        .sort_by(|one, other| one.path.cmp(&other.path));
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// Waits for a snapshot as long as there is hope, telling how far it is.
fn wait_for(
    engine: &Engine,
    ticket: crate::filesystem::SnapshotTicket,
    tell: impl Fn(),
) -> Result<StoredSnapshot, BackupError> {
    loop {
        match engine
            .filesystem
            .wait_snapshot(ticket, Some(Instant::now() + TELL_EVERY))
        {
            Err(FsError::TimedOut) => {
                // What retrying does not mend: a command says so; the log and the store keep what is there.
                if let Some(error) = engine.filesystem.archive.packer().trouble() {
                    return Err(BackupError::Store(PackerError::Refused(error)));
                }
                tell();
            }
            stored => return Ok(stored?),
        }
    }
}

fn bring_in(
    shared: &Shared<'_>,
    exclude: &exclude::Exclude,
    roots: &[Root],
    tell: &dyn Fn(BackupProgress),
) -> Result<(), BackupError> {
    let owners = source::Owners::load();
    let filesystem = &shared.engine.filesystem;
    let workers = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, 8);
    let (item_sender, items) = bounded(ITEMS);
    let (job_sender, jobs) = bounded(JOBS);
    std::thread::scope(|scope| {
        let threads = || -> io::Result<()> {
            for number in 0..workers {
                let jobs = jobs.clone();
                let builder = std::thread::Builder::new().name(format!("read {number}"));
                builder.spawn_scoped(scope, move || work(shared, &jobs, workers))?;
            }
            let mut walker = walk::Walker::new(shared, exclude, &owners, item_sender, job_sender);
            std::thread::Builder::new()
                .name("walk".into())
                .spawn_scoped(scope, move || {
                    // Who stopped the walk knows why.
                    let _ = roots.iter().try_for_each(|root| walker.root(root));
                })?;
            Ok(())
        };
        threads().map_err(BackupError::Threads)?;
        drop(jobs);
        let done = apply::Applier::new(filesystem, shared).run(&items, tell);
        if done.is_err() {
            shared.stop.store(true, Ordering::Relaxed);
        }
        // A walk that waits for room in here ends.
        drop(items);
        done
    })
}

/// One worker: reads files until there are no more.
fn work(shared: &Shared<'_>, jobs: &Receiver<walk::Job>, workers: usize) {
    let archive = &*shared.engine.filesystem.archive;
    let mut reader = read::Reader {
        archive,
        chunker: &shared.engine.filesystem.write.chunker,
        workers,
        busy: &shared.busy,
        read_bytes: &shared.read_bytes,
        stop: &shared.stop,
        buffer: Vec::new(),
    };
    for job in jobs {
        if shared.is_stopped() {
            continue;
        }
        let read = reader.read(&job.folder, &job.name);
        // Nobody listens when the backup has ended.
        let _ = job.result.send(read);
    }
}

/// Every folder on the way and in the queue of files has a descriptor; the usual 1024 may be too few.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const WANTED: u64 = 16_384;
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(WANTED, |maximum| maximum.min(WANTED));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
}

/// Where each path of the request is, and where it goes.
fn roots(engine: &Engine, request: &BackupRequest) -> Result<Vec<Root>, BackupError> {
    let to = match &request.to {
        Some(to) => Some(below_current(to)?),
        None => None,
    };
    let own = own_places(engine);
    let mut roots: Vec<Root> = Vec::new();
    for path in &request.paths {
        let source = resolve(Path::new(path));
        if let Some(inside) = own.iter().find(|own| source.starts_with(own)) {
            return Err(BackupError::Own {
                path: source,
                inside: inside.clone(),
            });
        }
        let names = names_of(&source);
        let target = match &to {
            None => names,
            Some(to) => to.iter().cloned().chain(names.last().cloned()).collect(),
        };
        match roots.iter().find(|root| root.target == target) {
            Some(root) if root.source == source => continue,
            Some(_) => return Err(BackupError::Twice(source.display().to_string())),
            None => roots.push(Root { source, target }),
        }
    }
    // A path below another one is in it already.
    let covered = |root: &Root| {
        roots.iter().any(|other| {
            other.target.len() < root.target.len() && root.target.starts_with(&other.target)
        })
    };
    let keep: Vec<bool> = roots
        .iter()
        .map(|root| to.is_some() || !covered(root))
        .collect();
    let mut keep = keep.into_iter();
    roots.retain(|_| keep.next().unwrap_or(true));
    if !roots
        .iter()
        .any(|root| root.source.symlink_metadata().is_ok())
    {
        let names: Vec<String> = roots
            .iter()
            .map(|root| root.source.display().to_string())
            .collect();
        return Err(BackupError::NothingThere(names.join(", ")));
    }
    Ok(roots)
}

fn names_of(path: &Path) -> Vec<Vec<u8>> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.as_bytes().to_vec()),
        _ => None,
    });
    names.collect()
}

fn below_current(to: &OsString) -> Result<Vec<Vec<u8>>, BackupError> {
    let path = Path::new(to);
    match path.components().any(|part| part == Component::ParentDir) {
        true => Err(BackupError::NoFolder(path.display().to_string())),
        false => Ok(names_of(path)),
    }
}

/// A path without symlinks above its last name, which may be one itself.
fn resolve(path: &Path) -> PathBuf {
    let resolved = match (path.parent(), path.file_name()) {
        // `..` at the end is a matter of where it leads.
        (Some(parent), Some(name)) => parent.canonicalize().map(|parent| parent.join(name)),
        _ => path.canonicalize(),
    };
    resolved.unwrap_or_else(|_| path.to_owned())
}

/// Holdfast's own places, which are never backed up.
fn own_places(engine: &Engine) -> Vec<PathBuf> {
    let archive = &engine.filesystem.archive;
    let home = archive.home();
    let store = PathBuf::from(&archive.settings().store);
    let folders = home
        .folders()
        .into_iter()
        .map(Path::to_owned)
        .chain([store]);
    let mut own: Vec<PathBuf> = folders
        .filter_map(|folder| folder.canonicalize().ok())
        .collect();
    own.extend(crate::mountpoint::drives().unwrap_or_default());
    own
}

/// A backup for the running daemon: request and report as JSON, an error as one sentence.
pub fn serve(
    engine: &Arc<Engine>,
    arguments: serde_json::Value,
    progress: &mut dyn FnMut(serde_json::Value),
) -> Result<serde_json::Value, String> {
    let request: BackupRequest = serde_json::from_value(arguments)
        .map_err(|error| format!("the running drive does not understand this backup ({error}); is it another version? Unmount and mount again"))?;
    let progress = Mutex::new(progress);
    let tell = |state: BackupProgress| (progress.lock())(serde_json::json!(state));
    let report = run(engine, &request, &tell).map_err(|error| error.to_string())?;
    Ok(serde_json::json!(report))
}
