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
    end: End,
}

/// How a drive has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not yet: drop kills the daemon and takes the mount away.
    Open,
    /// Nothing is mounted any more, and the daemon ends by itself.
    Unmounted,
    /// The daemon is dead and its mount is still there.
    LeftMounted,
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
            end: End::Open,
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

    /// A folder that `backup` was given, in the newest snapshot.
    pub fn backed_up(&self, source: &Path) -> PathBuf {
        let below = source.strip_prefix("/").expect("an absolute path");
        self.path("snapshots/latest").join(below)
    }

    /// The daemon.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Bytes that the daemon has written to disks and sockets (`wchar` of proc_pid_io(5)).
    pub fn written_bytes(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.pid.as_raw_nonzero()))
            .expect("the daemon lives");
        io.lines()
            .find_map(|line| line.strip_prefix("wchar: "))
            .and_then(|number| number.parse().ok())
            .expect("proc_pid_io(5) has wchar")
    }

    /// Unmounts as a user does; everything must be in the store afterwards.
    #[track_caller]
    pub fn unmount(mut self) {
        self.home.ok(&["unmount", text(&self.folder.clone())]);
        self.end = End::Unmounted;
        self.wait_for_end();
    }

    /// kill -9; the stale mount is taken away, as a restart of the computer does.
    pub fn kill(self) {
        kill_process(self.pid, Signal::KILL).expect("the daemon lives");
        self.wait_for_end();
    }

    /// kill -9; the stale mount stays.
    pub fn kill_only(mut self) {
        kill_process(self.pid, Signal::KILL).expect("the daemon lives");
        self.wait_for_end();
        self.end = End::LeftMounted;
    }

    /// umount(8), without Holdfast's knowledge; waits for the daemon's end. Gives how long umount took.
    #[track_caller]
    pub fn umount_outside(mut self) -> Duration {
        let (program, options): (_, &[&str]) = match crate::trees::is_root() {
            true => ("umount", &[]),
            false => ("fusermount3", &["-u"]),
        };
        let start = Instant::now();
        let done = Command::new(program)
            .args(options)
            .arg(&self.folder)
            .status()
            .expect("umount can be started");
        let took = start.elapsed();
        assert!(done.success(), "umount failed");
        self.end = End::Unmounted;
        self.wait_for_end();
        took
    }

    /// Somebody else has unmounted: waits for the daemon's end.
    #[track_caller]
    pub fn ended(mut self) {
        self.end = End::Unmounted;
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
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.home.daemon_log());
        }
        if self.end == End::Open {
            // It may have been stopped or killed by the test.
            let _ = kill_process(self.pid, Signal::KILL);
            take_away(&self.folder);
        }
    }
}

/// Detaches whatever is mounted there.
pub(crate) fn take_away(folder: &Path) {
    let detached = rustix::mount::unmount(folder, rustix::mount::UnmountFlags::DETACH);
    if detached.is_err() {
        let _ = Command::new("fusermount3").arg("-uzq").arg(folder).status();
    }
}

fn is_zombie(pid: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z'))
    })
}
