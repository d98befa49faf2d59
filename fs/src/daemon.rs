//! The process behind a mounted drive.
//!
//! ```text
//! lock, log replay (Engine::open) -> control socket -> mount -> "ready" -> serve
//! end (signal, `unmount`, umount(8) from outside) -> kernel unmount -> drain -> socket gone -> lock gone
//! ```
//!
//! The socket is there before the mount and after it: `status` works while the mount hangs, and
//! `unmount` shows the queue while it drains. Where the computer is enrolled, the keystore is watched meanwhile; when it says
//! that this device is out, the keys are wiped, callers get EACCES, the drive is unmounted without waiting for the store, and the keystore is
//! told so. If we die between any two steps, the log has what the
//! store has not, and the next `holdfast mount` clears the stale mount and goes on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::control::{Answer, Listener, Reply, Request};
use crate::engine::Engine;
use crate::filesystem::{FsError, Leftover, Status};
use crate::fuse::{self, MountOptions};
use crate::keystore::{Keystore, Watch};

/// How long the end of a daemon waits for the store when a signal asked for it.
const DRAIN_AT_SIGNAL: Duration = Duration::from_secs(20);

/// How often progress is told and the session is looked at.
const TICK: Duration = Duration::from_millis(200);

/// What ends a daemon.
enum End {
    Signal,
    /// The device is out, and its keys are wiped; the keystore waits to hear that nothing is mounted any more.
    Deauthorised(Keystore),
    Request {
        timeout: Option<Duration>,
        answer: Answer,
    },
}

/// Serves `engine`'s drive at `target` until it is unmounted; `ready` is called once it answers.
///
/// What could not be stored is told; it is in the log and goes on at the next mount.
pub fn run(
    engine: Arc<Engine>,
    state: &Path,
    target: &Path,
    options: MountOptions,
    ready: impl FnOnce(),
) -> io::Result<Leftover> {
    let (ends, ended) = unbounded();
    let listener = Listener::bind(state)?;
    let drive = fuse::mount(Arc::clone(&engine.filesystem), target, options)?;
    watch_signals(ends.clone())?;
    let over = Arc::new(AtomicBool::new(false));
    let watch = watch_keystore(&engine, ends.clone())?;
    let control = Control {
        engine: Arc::clone(&engine),
        target: target.to_owned(),
        ends,
        watch: watch.clone(),
    };
    std::thread::Builder::new().name("control".into()).spawn({
        let over = Arc::clone(&over);
        move || control.serve(&listener, &over)
    })?;
    ready();
    tracing::info!("the drive is mounted");
    let end = wait(&ended, || drive.is_over());
    if let Err(error) = drive.unmount() {
        tracing::warn!(%error, "the kernel did not unmount");
    }
    let leftover = match end {
        Some(End::Deauthorised(keystore)) => {
            keystore.confirm_wiped();
            Leftover::default()
        }
        end => drain(&engine, end),
    };
    if let Some(watch) = watch {
        watch.end();
    }
    over.store(true, Ordering::Release);
    // The socket's file goes with the process's other state; a connection wakes the thread up.
    let _ = std::fs::remove_file(crate::control::socket_path(state));
    tracing::info!(left_bytes = leftover.bytes, "the drive has ended");
    Ok(leftover)
}

/// Begins to watch the keystore of an enrolled home.
fn watch_keystore(engine: &Arc<Engine>, ends: Sender<End>) -> io::Result<Option<Watch>> {
    let (home, settings) = (engine.archive.home(), engine.archive.settings());
    if settings.server.is_none() {
        return Ok(None);
    }
    let keystore = Keystore::open(home, settings).map_err(io::Error::other)?;
    let drive = Arc::clone(&engine.filesystem);
    let out = move |keystore| {
        drive.shut();
        if ends.send(End::Deauthorised(keystore)).is_err() {
            tracing::debug!("deauthorised while ending");
        }
    };
    Watch::start(keystore, out).map(Some)
}

fn wait(ended: &Receiver<End>, is_over: impl Fn() -> bool) -> Option<End> {
    loop {
        match ended.recv_timeout(TICK) {
            Ok(end) => return Some(end),
            // Unmounted from outside.
            Err(_) if is_over() => return None,
            Err(_) => {}
        }
    }
}

/// Waits for the store as long as whoever ended the daemon allows, telling what is left.
fn drain(engine: &Arc<Engine>, end: Option<End>) -> Leftover {
    let (limit, mut answer) = match end {
        Some(End::Request { timeout, answer }) => (timeout, Some(answer)),
        Some(End::Signal | End::Deauthorised(_)) | None => (Some(DRAIN_AT_SIGNAL), None),
    };
    let (done, result) = crossbeam_channel::bounded(1);
    let worker = Arc::clone(engine);
    std::thread::spawn(move || {
        done.send(
            worker
                .filesystem
                .shutdown(Some(limit.unwrap_or(Duration::MAX))),
        )
    });
    let leftover = loop {
        match result.recv_timeout(TICK) {
            Ok(leftover) => break leftover,
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                // A client that has gone (Ctrl-C) does not stop the drain.
                if let Some(client) = answer.as_mut()
                    && !client.send(&Reply::Progress(progress(&engine.filesystem.status())))
                {
                    answer = None;
                }
            }
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => break Leftover::default(),
        }
    };
    if let Some(mut client) = answer {
        client.send(&Reply::Done(json!(leftover)));
    }
    leftover
}

fn watch_signals(ends: Sender<End>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                if ends.send(End::Signal).is_err() {
                    return;
                }
            }
        })?;
    Ok(())
}

fn progress(status: &Status) -> Value {
    json!({
        "queued_bytes": status.queued_bytes,
        "bytes_per_second": status.bytes_per_second,
        "trouble": status.trouble,
    })
}

/// What is known of the store without asking it.
fn store_state(engine: &Engine) -> Value {
    match engine.archive.capabilities() {
        Some(honoured) => json!(honoured),
        None => json!({ "probed": false }),
    }
}

/// Answers the commands.
#[derive(Clone)]
struct Control {
    engine: Arc<Engine>,
    target: PathBuf,
    ends: Sender<End>,
    watch: Option<Watch>,
}

impl Control {
    fn serve(&self, listener: &Listener, over: &AtomicBool) {
        while !over.load(Ordering::Acquire) {
            match listener.accept() {
                Ok(Some((request, answer))) => {
                    let control = self.clone();
                    let name = std::thread::Builder::new().name("request".into());
                    if let Err(error) = name.spawn(move || control.answer(request, answer)) {
                        tracing::warn!(%error, "no thread for a request");
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "the control socket failed");
                    std::thread::sleep(TICK);
                }
            }
        }
    }

    fn answer(&self, request: Request, mut answer: Answer) {
        let reply = match request {
            Request::Status => Ok(self.status()),
            Request::Flush { timeout_seconds } => self.flush(timeout_seconds, &mut answer),
            Request::Snapshot { label } => self.snapshot(label.as_deref(), &mut answer),
            Request::Backup { arguments } => self.backup(arguments, &mut answer),
            Request::Unmount { timeout_seconds } => {
                let timeout = timeout_seconds.map(Duration::from_secs);
                // Nobody waits for this any more only if the daemon is on its way out already.
                if self.ends.send(End::Request { timeout, answer }).is_err() {
                    tracing::debug!("asked to unmount while ending");
                }
                return;
            }
        };
        answer.send(&match reply {
            Ok(value) => Reply::Done(value),
            Err(sentence) => Reply::Failed(sentence),
        });
    }

    fn status(&self) -> Value {
        let mut status = json!(self.engine.filesystem.status());
        status["mounted_on"] = json!(self.target);
        status["pid"] = json!(std::process::id());
        status["store_state"] = store_state(&self.engine);
        status["keystore"] = json!(self.watch.as_ref().map(Watch::state));
        status
    }

    fn flush(&self, timeout_seconds: Option<u64>, answer: &mut Answer) -> Result<Value, String> {
        let drive = &self.engine.filesystem;
        let until = timeout_seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        self.telling(
            answer,
            move |control, until| control.engine.filesystem.flush_all(Some(until)),
            until,
        )
        .map(|()| json!({ "queued_bytes": drive.status().queued_bytes }))
        .map_err(|error| self.late(&error, "flushed"))
    }

    fn snapshot(&self, label: Option<&str>, answer: &mut Answer) -> Result<Value, String> {
        let ticket = self
            .engine
            .filesystem
            .begin_snapshot(label)
            .map_err(|error| match error {
                FsError::Exists => format!(
                    "there is a snapshot named {} already; choose another label",
                    label.unwrap_or("so")
                ),
                FsError::Invalid => {
                    "a label has 1 to 255 bytes, no / and no control characters; choose another"
                        .to_owned()
                }
                error => format!("no snapshot can be taken: {error}; look at: holdfast status"),
            })?;
        self.telling(
            answer,
            move |control, until| control.engine.filesystem.wait_snapshot(ticket, Some(until)),
            None,
        )
        .map(|snapshot| json!(snapshot))
        .map_err(|error| self.late(&error, "stored"))
    }

    fn backup(&self, arguments: Value, answer: &mut Answer) -> Result<Value, String> {
        crate::backup::serve(&self.engine, arguments, &mut |progress| {
            answer.send(&Reply::Progress(progress));
        })
    }

    /// Runs a waiting call in slices, telling how far the queue is, until it ends or `until`.
    fn telling<T>(
        &self,
        answer: &mut Answer,
        wait: impl Fn(&Control, Instant) -> Result<T, FsError>,
        until: Option<Instant>,
    ) -> Result<T, FsError> {
        loop {
            let slice = Instant::now() + TICK;
            match wait(self, until.map_or(slice, |until| slice.min(until))) {
                Err(FsError::TimedOut) if until.is_none_or(|until| Instant::now() < until) => {
                    // The client has gone: nobody waits. What was asked for goes on.
                    if !answer.send(&Reply::Progress(progress(&self.engine.filesystem.status()))) {
                        return Err(FsError::TimedOut);
                    }
                }
                result => return result,
            }
        }
    }

    fn late(&self, error: &FsError, what: &str) -> String {
        let status = self.engine.filesystem.status();
        let why = status.trouble.unwrap_or_else(|| error.to_string());
        format!(
            "not everything is {what}: {} are still queued ({why}); nothing is lost, look at: holdfast status",
            indicatif::HumanBytes(status.queued_bytes)
        )
    }
}
