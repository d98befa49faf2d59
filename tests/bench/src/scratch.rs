//! The temporary folder, and what must not be left behind in it: mounts and their daemons.

use std::cell::Cell;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::children::{Children, last_lines};

/// A folder of everything that one round makes.
pub const ROUND: &str = "round";

/// ext4 passes over inodes that were deleted within the last 360 s (`recently_deleted` in fs/ext4/ialloc.c:
/// `RECENTCY_MIN`, and `RECENTCY_DIRTY` where a neighbour in the table was made since), and searches on for each file
/// that is made. Whoever comes after a large removal makes files several times slower.
const UNTIL_INODES_ARE_FREE: Duration = Duration::from_secs(361);

/// f_type of a file system in memory (statfs(2)).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// A temporary folder, removed with everything in it.
pub struct Scratch {
    folder: tempfile::TempDir,
    removed_at: Cell<Option<Instant>>,
    /// What the disk had free when the round began: bytes, inodes.
    at_begin: Cell<(u64, u64)>,
    /// Rounds that were not removed.
    kept: Cell<u32>,
}

impl Scratch {
    /// Makes one in `place`.
    pub fn new(place: &Path) -> anyhow::Result<Scratch> {
        let folder = tempfile::Builder::new()
            .prefix("holdfast-bench-")
            .tempdir_in(place)
            .with_context(|| format!("no folder can be made in {}", place.display()))?;
        Ok(Scratch {
            folder,
            removed_at: Cell::new(None),
            at_begin: Cell::default(),
            kept: Cell::new(0),
        })
    }

    /// An error if the disk has less room than this, with what to do about it.
    pub fn require_free(&self, bytes: u64) -> anyhow::Result<()> {
        let (free, _) = self.free()?;
        anyhow::ensure!(
            free >= bytes,
            "the disk of {} has {:.1} GB free and this run needs about {:.1} GB; take less data, fewer tools (--only) or another disk (--scratch)",
            self.folder.path().display(),
            free as f64 / 1e9,
            bytes as f64 / 1e9,
        );
        Ok(())
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same for inodes, where the file system counts them.
    pub fn require_inodes(&self, inodes: u64) -> anyhow::Result<()> {
        let (_, free) = self.free()?;
        anyhow::ensure!(
            free >= inodes,
            "the disk of {} has {} inodes free and this run needs about {inodes}; take fewer files or another disk (--scratch)",
            self.folder.path().display(),
            free,
        );
        Ok(())
    }

    /// Makes a folder that is not there yet.
    pub fn fresh(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        let make = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::create_dir(&path)
        };
        make().with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Before a round: waits until ext4 gives away again the inodes of what `end_round` removed.
    pub fn begin_round(&self, children: &Children) -> anyhow::Result<()> {
        if let Some(removed_at) = self.removed_at.take() {
            let left = UNTIL_INODES_ARE_FREE.saturating_sub(removed_at.elapsed());
            if !left.is_zero() && !self.is_in_memory()? {
                eprintln!(
                    "waiting {:.0} s: ext4 does not use inodes again that were just deleted",
                    left.as_secs_f64()
                );
                children.sleep(left)?;
            }
        }
        self.at_begin.set(self.free()?);
        Ok(())
    }

    /// After a round: puts the folder [`ROUND`] aside if the disk has room for another one, and removes all rounds
    /// if it has not. Not earlier, as the next tool would pay for it.
    pub fn end_round(&self) -> anyhow::Result<()> {
        let path = self.path(ROUND);
        let ((bytes, inodes), (had_bytes, had_inodes)) = (self.free()?, self.at_begin.get());
        // A quarter more than this one took.
        let suffices = |free: u64, had: u64| free / 5 * 4 >= had.saturating_sub(free);
        if suffices(bytes, had_bytes) && suffices(inodes, had_inodes) {
            let aside = self.aside(self.kept.get());
            std::fs::rename(&path, &aside).with_context(|| aside.display().to_string())?;
            self.kept.set(self.kept.get() + 1);
            return Ok(());
        }
        for folder in (0..self.kept.replace(0))
            .map(|number| self.aside(number))
            .chain([path])
        {
            std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        self.settle()?;
        self.removed_at.set(Some(Instant::now()));
        Ok(())
    }

    fn aside(&self, number: u32) -> PathBuf {
        self.path(&format!("{ROUND}-{number}"))
    }

    /// Bytes and inodes that the disk has free; no end of inodes where the file system does not count them.
    fn free(&self) -> anyhow::Result<(u64, u64)> {
        let disk = rustix::fs::statvfs(self.folder.path())?;
        let inodes = match disk.f_files {
            0 => u64::MAX,
            _ => disk.f_favail,
        };
        Ok((disk.f_bavail * disk.f_frsize, inodes))
    }

    fn is_in_memory(&self) -> anyhow::Result<bool> {
        Ok(rustix::fs::statfs(self.folder.path())?.f_type == TMPFS_MAGIC)
    }

    /// Waits until the disk has what was written, so that nobody pays for what ran before.
    pub fn settle(&self) -> anyhow::Result<()> {
        rustix::fs::syncfs(std::fs::File::open(self.folder.path())?)?;
        Ok(())
    }
}

/// A mounted folder with the daemon behind it; both are gone when this is dropped.
pub struct Mounted {
    /// Where it is mounted.
    pub folder: PathBuf,
    /// The daemon.
    pub daemon: Pid,
}

impl Mounted {
    /// Starts a daemon that stays in the foreground, and waits until it has mounted something there. What it says goes to
    /// the file `log`.
    pub fn by(
        command: &mut Command,
        folder: &Path,
        children: &Children,
        log: &Path,
    ) -> anyhow::Result<Mounted> {
        let before = std::fs::metadata(folder)?.dev();
        let output = std::fs::File::create(log)?;
        // A group of its own: Ctrl-C is for us, and we unmount.
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        let mounted = Mounted {
            folder: folder.to_owned(),
            daemon: Pid::from_child(&child),
        };
        let until = Instant::now() + Duration::from_secs(30);
        while std::fs::metadata(folder)?.dev() == before {
            if Instant::now() > until || !mounted.is_running() {
                bail!("it was not mounted: {}", last_lines(log));
            }
            children.sleep(Duration::from_millis(10))?;
        }
        Ok(mounted)
    }

    /// Largest resident set of the daemon since `forget_peak`, in bytes (`VmHWM` of proc_pid_status(5)).
    pub fn peak_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.daemon.as_raw_nonzero());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// From now on `peak_bytes` counts anew (proc_pid_clear_refs(5)).
    pub fn forget_peak(&self) -> anyhow::Result<()> {
        let path = format!("/proc/{}/clear_refs", self.daemon.as_raw_nonzero());
        std::fs::write(&path, "5").context(path)
    }

    /// Whether the daemon lives.
    pub fn is_running(&self) -> bool {
        is_running(self.daemon)
    }

    /// User and system time of the daemon so far (fields 14 and 15 of proc_pid_stat(5)).
    pub fn cpu_seconds(&self) -> f64 {
        let path = format!("/proc/{}/stat", self.daemon.as_raw_nonzero());
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok());
        // SAFETY: it only reads a constant of the system.
        ticks.sum::<f64>() / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
    }

    /// Waits for the daemon's end.
    fn wait_for_end(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while self.is_running() {
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        take_away(&self.folder);
        if !self.wait_for_end(Duration::from_secs(2)) {
            let _ = kill_process(self.daemon, Signal::KILL);
            self.wait_for_end(Duration::from_secs(10));
        }
    }
}

/// Detaches whatever is mounted there.
pub fn take_away(folder: &Path) {
    if unmount(folder, UnmountFlags::DETACH).is_err() {
        // Not root: the setuid helper. It also fails, silently, where nothing is mounted.
        let _ = Command::new("fusermount3").arg("-uzq").arg(folder).status();
    }
}

fn is_running(process: Pid) -> bool {
    // A child of ours is reaped here.
    let _ = rustix::process::waitpid(Some(process), rustix::process::WaitOptions::NOHANG);
    test_kill_process(process).is_ok()
}
