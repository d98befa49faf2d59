//! The unmodified daemon under strace, which kills it or fails a system call at a chosen moment.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::home::text;
use holdfast_tests::{Home, program};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A daemon under strace.
pub(crate) struct Traced {
    strace: Child,
    folder: PathBuf,
    daemon: Option<Pid>,
}

impl Traced {
    /// Mounts the drive with an injection such as `fdatasync:signal=SIGKILL:when=3`; each thread counts its own
    /// calls. The injection may strike before anything is mounted.
    pub(crate) fn mount(home: &Home, injection: &str) -> Traced {
        let folder = home.path("drive");
        let _ = std::fs::create_dir(&folder);
        let calls = injection.split(':').next().expect("a name");
        let untraced = home.command(["mount", "--foreground", "--json", text(&folder)]);
        let mut strace = Command::new(program("strace", "apt-get install strace"));
        strace
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .args([&format!("trace={calls}"), "-e"])
            .args([&format!("inject={injection}"), "--"])
            .arg(untraced.get_program())
            .args(untraced.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for (name, value) in untraced.get_envs() {
            strace.env(name, value.expect("only set"));
        }
        let mut strace = strace.spawn().expect("strace can be started");
        let mut line = String::new();
        let out = strace.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("read");
        let ready = serde_json::from_str::<Value>(&line).unwrap_or_default();
        let daemon = ready["pid"].as_i64();
        Traced {
            strace,
            folder,
            daemon: daemon.and_then(|pid| Pid::from_raw(pid as i32)),
        }
    }

    /// Whether it was mounted before anything was injected.
    pub(crate) fn is_mounted(&self) -> bool {
        self.daemon.is_some()
    }

    /// The mounted folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits for the end; says whether the daemon ended by itself rather than by the injected signal.
    pub(crate) fn ended_by_itself(mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.strace.try_wait().expect("it is our child") {
                self.daemon = None;
                return status.code().is_some();
            }
            assert!(Instant::now() < until, "the daemon does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // strace ends with the daemon; killed itself it would leave it running.
        if let Some(daemon) = self.daemon {
            let _ = kill_process(daemon, Signal::KILL);
        }
        let _ = self.strace.wait();
        let flags = rustix::mount::UnmountFlags::DETACH;
        if rustix::mount::unmount(&self.folder, flags).is_err() {
            let mut unmount = Command::new("fusermount3");
            let _ = unmount.arg("-uzq").arg(&self.folder).status();
        }
    }
}
