//! Running a program to its end, with what it took: time, processor, memory.
//!
//! A signal that would end this program ends the child first; the caller then gets an error and
//! removes what it has made on its way out.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// What a program took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Usage {
    /// From its start to its end.
    pub seconds: f64,
    /// User and system time of it and its children.
    pub cpu_seconds: f64,
    /// Largest resident set of it or of one of its children.
    pub peak_bytes: u64,
}

/// Called with a line of output and the seconds since the start.
pub type OnLine<'a> = dyn FnMut(&str, f64) + 'a;

/// The one child that runs at a time, and whether this program is to end.
#[derive(Clone)]
pub struct Children {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_stopped: bool,
    running: Option<Pid>,
}

impl Children {
    /// From now on Ctrl-C and the like end the child, and the next call is an error.
    pub fn watch_signals() -> anyhow::Result<Children> {
        let state = Arc::new(Mutex::new(State::default()));
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let shared = Arc::clone(&state);
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for _ in signals.forever() {
                    let mut state = shared.lock();
                    state.is_stopped = true;
                    if let Some(child) = state.running {
                        // ESRCH: it is ending by itself, and the next call sees that we stop.
                        let _ = kill_process_group(child, Signal::KILL);
                    }
                }
            })?;
        Ok(Children { state })
    }

    /// Between two steps of our own that take long.
    pub fn go_on(&self) -> anyhow::Result<()> {
        if self.state.lock().is_stopped {
            bail!("stopped");
        }
        Ok(())
    }

    /// Sleeps; an error as soon as this program is to end.
    pub fn sleep(&self, duration: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + duration;
        loop {
            self.go_on()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(200)));
        }
    }

    /// Runs a program, whose output goes to the end of the file `log`, and which must succeed.
    pub fn run(&self, command: &mut Command, log: &Path) -> anyhow::Result<Usage> {
        self.run_and_maybe_read(command, log, None)
    }

    /// The same, but each line that it prints, and the seconds since its start, go to `on_line`.
    pub fn run_and_read(
        &self,
        command: &mut Command,
        log: &Path,
        on_line: &mut OnLine<'_>,
    ) -> anyhow::Result<Usage> {
        self.run_and_maybe_read(command, log, Some(on_line))
    }

    fn run_and_maybe_read(
        &self,
        command: &mut Command,
        log: &Path,
        on_line: Option<&mut OnLine<'_>>,
    ) -> anyhow::Result<Usage> {
        let name = command.get_program().to_string_lossy().into_owned();
        let measured = self.measure(command, log, on_line);
        let (status, usage) = measured.context(name.clone())?;
        self.go_on()?;
        if !status.success() {
            bail!("{name} failed ({status}):\n{}", last_lines(log));
        }
        Ok(usage)
    }

    fn measure(
        &self,
        command: &mut Command,
        log: &Path,
        on_line: Option<&mut OnLine<'_>>,
    ) -> anyhow::Result<(ExitStatus, Usage)> {
        let output = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(match on_line {
                Some(_) => Stdio::piped(),
                None => output.try_clone()?.into(),
            })
            .stderr(output)
            .process_group(0);
        self.go_on()?;
        let started = Instant::now();
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        self.set_running(Some(pid));
        let read = match (on_line, child.stdout.take()) {
            (Some(on_line), Some(output)) => read_lines(output, started, on_line),
            _ => Ok(()),
        };
        let ended = wait_for(pid);
        let seconds = started.elapsed().as_secs_f64();
        // Its number is not free before it is reaped, so no other process can be hit by a signal.
        self.set_running(None);
        ended?;
        read?;
        let (status, usage) = reap(child)?;
        Ok((status, Usage { seconds, ..usage }))
    }

    fn set_running(&self, child: Option<Pid>) {
        let mut state = self.state.lock();
        state.running = child;
        if let (true, Some(child)) = (state.is_stopped, child) {
            let _ = kill_process_group(child, Signal::KILL);
        }
    }
}

/// Until the end of the output; the pipe is closed then, so that the child cannot wait for us.
fn read_lines(
    output: ChildStdout,
    started: Instant,
    on_line: &mut OnLine<'_>,
) -> anyhow::Result<()> {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    while output.read_line(&mut line)? > 0 {
        on_line(&line, started.elapsed().as_secs_f64());
        line.clear();
    }
    Ok(())
}

/// Waits for the end of a child and leaves it there to be reaped.
fn wait_for(child: Pid) -> anyhow::Result<()> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    loop {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(child), options) {
            Err(rustix::io::Errno::INTR) => (),
            ended => return Ok(ended.map(drop)?),
        }
    }
}

/// wait4(2), for what std's wait does not tell.
fn reap(child: Child) -> anyhow::Result<(ExitStatus, Usage)> {
    let mut status = 0;
    // SAFETY: an rusage of zeros is one; the kernel fills it in.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right type, and the child is ours.
    let reaped = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    if reaped < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let seconds = |time: libc::timeval| {
        Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000).as_secs_f64()
    };
    let usage = Usage {
        seconds: 0.0,
        cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        peak_bytes: usage.ru_maxrss as u64 * 1024,
    };
    Ok((ExitStatus::from_raw(status), usage))
}

/// The end of what programs said.
pub fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
