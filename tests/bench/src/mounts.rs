//! The mount against a null FUSE file system and the disk beside it: the same programs (cp, dd, find
//! and cat) on the same files.
//!
//! As with the tools, everything stays until the round ends; a cache is emptied by moving it away.
//!
//! Time is the program's, from its start to its end. Processor time is the program's and the
//! daemon's, memory the daemon's largest in that step.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::Pid;
use serde::Serialize;

use crate::children::{Children, Usage};
use crate::data::{self, Contents};
use crate::scratch::{Mounted, ROUND, Scratch, take_away};

/// What is run.
pub struct Plan<'a> {
    /// The program.
    pub holdfast: &'a Path,
    /// The tree with many small files.
    pub folder: &'a Path,
    /// What is in it.
    pub contents: Contents,
    /// How often.
    pub runs: u32,
    /// Size of the big file.
    pub big_mib: u64,
}

/// At the end of a round: the copy on the disk, and of the drive its log, its archive and its cache before and after
/// emptying.
const COPIES: u64 = 5;

impl Plan<'_> {
    /// Room that the rounds take on the disk, about.
    pub fn needed_bytes(&self) -> u64 {
        self.big_bytes() + (self.big_bytes() + self.contents.bytes) * COPIES
    }

    fn big_bytes(&self) -> u64 {
        self.big_mib << 20
    }
}

/// One step on each of the three, one entry a round; nothing where there is no such step.
#[derive(Debug, Default, Serialize)]
pub struct MountStep {
    /// What is done.
    pub name: &'static str,
    /// Bytes that are moved.
    pub bytes: u64,
    /// On the disk.
    pub disk: Vec<Usage>,
    /// On the null file system.
    pub null: Vec<Usage>,
    /// On the drive.
    pub holdfast: Vec<Usage>,
}

const COPY_BIG: &str = "copy a big file in (cp)";
const FLUSH_BIG: &str = "  then until it is stored";
const READ_BIG: &str = "read it back (dd)";
const COPY_TREE: &str = "copy the tree in (cp -a)";
const FLUSH_TREE: &str = "  then until it is stored";
const READ_TREE: &str = "read it back (find, cat)";
const SNAPSHOT_BIG: &str = "read the big file from a snapshot, empty cache";
const SNAPSHOT_TREE: &str = "read the tree from a snapshot, empty cache";

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Disk,
    Null,
    Holdfast,
}

struct Bench<'a> {
    plan: &'a Plan<'a>,
    children: &'a Children,
    scratch: &'a Scratch,
    big: PathBuf,
    steps: Vec<MountStep>,
}

/// Runs all rounds.
pub fn run(
    plan: &Plan<'_>,
    children: &Children,
    scratch: &Scratch,
) -> anyhow::Result<Vec<MountStep>> {
    anyhow::ensure!(
        Path::new("/dev/fuse").exists(),
        "there is no /dev/fuse; as root: mknod /dev/fuse c 10 229, or modprobe fuse"
    );
    let big = scratch.path("big");
    data::random_file(&big, plan.big_mib, u64::MAX)?;
    let (big_bytes, tree_bytes) = (plan.big_bytes(), plan.contents.bytes);
    let step = |(name, bytes)| MountStep {
        name,
        bytes,
        ..MountStep::default()
    };
    let steps = [
        (COPY_BIG, big_bytes),
        (FLUSH_BIG, big_bytes),
        (READ_BIG, big_bytes),
        (COPY_TREE, tree_bytes),
        (FLUSH_TREE, tree_bytes),
        (READ_TREE, tree_bytes),
        (SNAPSHOT_BIG, big_bytes),
        (SNAPSHOT_TREE, tree_bytes),
    ];
    let mut bench = Bench {
        plan,
        children,
        scratch,
        big,
        steps: steps.map(step).into(),
    };
    for round in 0..plan.runs {
        scratch.begin_round(children)?;
        eprintln!("round {} of {}: mounts", round + 1, plan.runs);
        bench.on_disk().context("the disk")?;
        bench.on_null().context("the null file system")?;
        bench.on_holdfast().context("the mounted drive")?;
        scratch.end_round()?;
    }
    std::fs::remove_file(&bench.big)?;
    Ok(bench.steps)
}

impl Bench<'_> {
    fn on_disk(&mut self) -> anyhow::Result<()> {
        let folder = self.fresh("disk")?;
        self.copy_and_read(On::Disk, &folder, None)
    }

    fn on_null(&mut self) -> anyhow::Result<()> {
        let folder = self.fresh("null")?;
        let mounted = mount_null(&folder)?;
        self.copy_and_read(On::Null, &folder, Some(&mounted))
    }

    fn on_holdfast(&mut self) -> anyhow::Result<()> {
        let home = self.fresh("home")?;
        let store = self.fresh("archive")?;
        let folder = self.fresh("drive")?;
        let log = self.scratch.path("output");
        let mut init = self.holdfast(&home, &["init"]);
        self.children.run(init.arg(&store), &log)?;
        let mounted = self.mount_holdfast(&home, &folder)?;
        self.copy_and_read(On::Holdfast, &folder.join("current"), Some(&mounted))?;
        self.children
            .run(&mut self.holdfast(&home, &["snapshot"]), &log)?;
        let mut unmount = self.holdfast(&home, &["unmount"]);
        self.children.run(unmount.arg(&folder), &log)?;
        drop(mounted);
        std::fs::rename(home.join("cache"), home.join("cache-before"))?;
        let mounted = self.mount_holdfast(&home, &folder)?;
        let snapshot = folder.join("snapshots/latest");
        let (big, tree) = (snapshot.join("big"), self.copy_of_tree(&snapshot));
        self.measure(6, On::Holdfast, &mut read_file(&big), Some(&mounted))?;
        self.measure(7, On::Holdfast, &mut read_tree(&tree), Some(&mounted))
    }

    fn fresh(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.scratch.fresh(&format!("{ROUND}/{name}"))
    }

    fn copy_and_read(
        &mut self,
        on: On,
        folder: &Path,
        mounted: Option<&Mounted>,
    ) -> anyhow::Result<()> {
        let (big, tree) = (folder.join("big"), self.copy_of_tree(folder));
        let home = self.scratch.path(ROUND).join("home");
        let mut copy = Command::new("cp");
        copy.arg(&self.big).arg(&big);
        self.measure(0, on, &mut copy, mounted)?;
        if on == On::Holdfast {
            let mut flush = self.holdfast(&home, &["flush"]);
            self.measure(1, on, &mut flush, mounted)?;
        }
        self.scratch.settle()?;
        forget_pages(&big)?;
        self.measure(2, on, &mut read_file(&big), mounted)?;
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.plan.folder).arg(folder);
        self.measure(3, on, &mut copy, mounted)?;
        if on == On::Holdfast {
            let mut flush = self.holdfast(&home, &["flush"]);
            self.measure(4, on, &mut flush, mounted)?;
        }
        self.scratch.settle()?;
        forget_tree(&tree)?;
        self.measure(5, on, &mut read_tree(&tree), mounted)
    }

    /// One step on one of them.
    fn measure(
        &mut self,
        step: usize,
        on: On,
        command: &mut Command,
        mounted: Option<&Mounted>,
    ) -> anyhow::Result<()> {
        self.scratch.settle()?;
        let before = mounted.map_or(0.0, Mounted::cpu_seconds);
        mounted.map_or(Ok(()), Mounted::forget_peak)?;
        let mut usage = self.children.run(command, &self.scratch.path("output"))?;
        if let Some(mounted) = mounted {
            usage.cpu_seconds += mounted.cpu_seconds() - before;
            usage.peak_bytes = mounted.peak_bytes();
        }
        let step = &mut self.steps[step];
        match on {
            On::Disk => step.disk.push(usage),
            On::Null => step.null.push(usage),
            On::Holdfast => step.holdfast.push(usage),
        }
        Ok(())
    }

    fn copy_of_tree(&self, folder: &Path) -> PathBuf {
        folder.join(self.plan.folder.file_name().unwrap_or_default())
    }

    fn holdfast(&self, home: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(self.plan.holdfast);
        command.env("HOLDFAST_HOME", home).args(words);
        command
    }

    fn mount_holdfast(&self, home: &Path, folder: &Path) -> anyhow::Result<Mounted> {
        let mut command = self.holdfast(home, &["mount", "--json"]);
        let output = command.arg(folder).stdin(Stdio::null()).output()?;
        let told: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
        let pid = told.and_then(|told| Pid::from_raw(told["pid"].as_i64()? as i32));
        let Some(daemon) = pid else {
            // It may have been ended in the middle: a daemon that nobody has heard of ends with its mount.
            take_away(folder);
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        };
        Ok(Mounted {
            folder: folder.to_owned(),
            daemon,
        })
    }
}

fn mount_null(folder: &Path) -> anyhow::Result<Mounted> {
    let before = std::fs::metadata(folder)?.dev();
    // A group of its own: Ctrl-C is for us, and we unmount.
    let child = Command::new(std::env::current_exe()?)
        .arg("null-drive")
        .arg(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let mounted = Mounted {
        folder: folder.to_owned(),
        daemon: Pid::from_child(&child),
    };
    let until = Instant::now() + Duration::from_secs(10);
    while std::fs::metadata(folder)?.dev() == before {
        if Instant::now() > until || !mounted.is_running() {
            let mut why = String::new();
            if let Some(errors) = child.stderr {
                BufReader::new(errors).read_line(&mut why)?;
            }
            bail!("it was not mounted: {}", why.trim());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(mounted)
}

fn read_file(file: &Path) -> Command {
    let mut command = Command::new("dd");
    let mut from = std::ffi::OsString::from("if=");
    from.push(file);
    command.arg(from).args(["of=/dev/null", "bs=1M"]);
    command
}

fn read_tree(folder: &Path) -> Command {
    let mut command = Command::new("sh");
    let script = r#"exec find "$1" -type f -exec sh -c 'exec cat "$@" > /dev/null' sh {} +"#;
    command.args(["-c", script, "sh"]).arg(folder);
    command
}

/// Makes the kernel ask the file system again. What is not on the disk yet stays: settle first.
fn forget_pages(file: &Path) -> anyhow::Result<()> {
    let file = File::open(file)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}

fn forget_tree(folder: &Path) -> anyhow::Result<()> {
    data::files_below(folder, &mut |file| forget_pages(file).map(|()| 0)).map(drop)
}
