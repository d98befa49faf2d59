//! A mounted drive, ended whatever happens.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::Home;
use crate::home::text;

/// A drive of one home.
pub struct Drive<'a> {
    home: &'a Home,
    folder: PathBuf,
    pid: Pid,
    over: bool,
}

impl<'a> Drive<'a> {
    /// Mounts it on a new folder of the home.
    #[track_caller]
    pub fn mount(home: &'a Home, options: &[&str]) -> Drive<'a> {
        crate::require_fuse();
        let folder = home.path("drive");
        // It may be there, and may be a stale mount that the next one has to clear.
        let _ = std::fs::create_dir(&folder);
        let mut arguments = vec!["mount", text(&folder)];
        arguments.extend(options);
        let told = home.json(&arguments);
        let pid = told["pid"]
            .as_i64()
            .and_then(|pid| Pid::from_raw(pid as i32))
            .expect("mount tells the daemon's pid");
        Drive {
            home,
            folder,
            pid,
            over: false,
        }
    }

    /// A path on the drive.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    /// A path in `current/`.
    pub fn current(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join("current").join(name)
    }

    /// A path in a snapshot of a device.
    pub fn snapshot(&self, device: &str, snapshot: &str) -> PathBuf {
        self.folder.join("snapshots").join(device).join(snapshot)
    }

    /// The daemon.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Unmounts as a user does; everything must be in the store afterwards.
    #[track_caller]
    pub fn unmount(mut self) {
        self.home.ok(&["unmount", text(&self.folder.clone())]);
        self.over = true;
        self.wait_for_end();
    }

    /// kill -9.
    pub fn kill(mut self) {
        kill_process(self.pid, Signal::KILL).expect("the daemon lives");
        self.over = true;
        self.wait_for_end();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the daemon lives");
    }

    fn wait_for_end(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        while test_kill_process(self.pid).is_ok() && !is_zombie(self.pid) {
            assert!(
                Instant::now() < until,
                "the daemon does not end:\n{}",
                self.home.daemon_log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Drive<'_> {
    fn drop(&mut self) {
        if !self.over {
            if std::thread::panicking() {
                eprintln!("the daemon's log:\n{}", self.home.daemon_log());
            }
            let _ = kill_process(self.pid, Signal::KILL);
        }
        // Gone already after `unmount`; stale after a kill.
        let detached = rustix::mount::unmount(&self.folder, rustix::mount::UnmountFlags::DETACH);
        if detached.is_err() {
            let _ = Command::new("fusermount3")
                .arg("-uzq")
                .arg(&self.folder)
                .status();
        }
    }
}

fn is_zombie(pid: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z'))
    })
}
