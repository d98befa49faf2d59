//! The mount against a null FUSE file system and the disk beside it: the same programs (cp, dd, find
//! and cat) on the same files.
//!
//! As with the tools, everything stays until the round ends; a cache is emptied by moving it away.
//!
//! Time is the program's, from its start to its end. Processor time is the program's and the
//! daemon's, memory the daemon's largest in that step.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde::Serialize;

use crate::children::{Children, Usage};
use crate::data::{self, Contents};
use crate::drive::{Drive, empty_cache};
use crate::peer_mounts::PeerMount;
use crate::scratch::{Mounted, ROUND, Scratch};
use crate::tools::Tool;

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
    /// Those whose mounts are compared, if they have any.
    pub tools: &'a [Tool],
}

/// At the end of a round: the copy on the disk, and of the drive its log, its archive and its cache before and after
/// emptying.
const COPIES: u64 = 5;

impl Plan<'_> {
    /// Room that the rounds take on the disk, about.
    pub fn needed_bytes(&self) -> u64 {
        let peers = self.tools.iter().filter_map(PeerMount::of).count() as u64;
        // The file itself, and an archive of it for each peer.
        self.big_bytes() * (1 + peers) + (self.big_bytes() + self.contents.bytes) * COPIES
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

/// What is done, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// One big file into the folder.
    CopyBig,
    /// Until the store has it.
    FlushBig,
    /// The kernel's pages of it dropped before.
    ReadBig,
    /// Many small files into the folder.
    CopyTree,
    /// Until the store has them.
    FlushTree,
    /// The kernel's pages of them dropped before.
    ReadTree,
    /// Mounted anew, with an empty cache.
    SnapshotBig,
    /// The kernel's pages of it dropped, the drive's caches as the first time left them.
    SnapshotBigCached,
    /// With what reading the big file left in the cache, and nothing of the tree.
    SnapshotTree,
    /// As with the big file.
    SnapshotTreeCached,
}

impl Work {
    const ALL: [Work; 10] = [
        Work::CopyBig,
        Work::FlushBig,
        Work::ReadBig,
        Work::CopyTree,
        Work::FlushTree,
        Work::ReadTree,
        Work::SnapshotBig,
        Work::SnapshotBigCached,
        Work::SnapshotTree,
        Work::SnapshotTreeCached,
    ];

    fn name(self) -> &'static str {
        match self {
            Work::CopyBig => "copy a big file in (cp)",
            Work::FlushBig | Work::FlushTree => "  then until it is stored",
            Work::ReadBig => "read it back (dd)",
            Work::CopyTree => "copy the tree in (cp -a)",
            Work::ReadTree => "read it back (find, cat)",
            Work::SnapshotBig => "read the big file from a snapshot, empty cache",
            Work::SnapshotBigCached => "read the big file from a snapshot, cached",
            Work::SnapshotTree => "read the tree from a snapshot, empty cache",
            Work::SnapshotTreeCached => "read the tree from a snapshot, again",
        }
    }

    fn is_of_tree(self) -> bool {
        use Work::{CopyTree, FlushTree, ReadTree, SnapshotTree, SnapshotTreeCached};
        matches!(
            self,
            CopyTree | FlushTree | ReadTree | SnapshotTree | SnapshotTreeCached
        )
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct MountReport {
    /// One for each [`Work`].
    pub steps: Vec<MountStep>,
    /// Of the peers that have a mount.
    pub peers: Vec<PeerMount>,
}

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
    report: MountReport,
}

/// Runs all rounds.
pub fn run(plan: &Plan<'_>, children: &Children, scratch: &Scratch) -> anyhow::Result<MountReport> {
    anyhow::ensure!(
        Path::new("/dev/fuse").exists(),
        "there is no /dev/fuse; as root: mknod /dev/fuse c 10 229, or modprobe fuse"
    );
    let big = scratch.path("big");
    data::random_file(&big, plan.big_mib, u64::MAX)?;
    let step = |work: Work| MountStep {
        name: work.name(),
        bytes: match work.is_of_tree() {
            true => plan.contents.bytes,
            false => plan.big_bytes(),
        },
        ..MountStep::default()
    };
    let mut bench = Bench {
        plan,
        children,
        scratch,
        big,
        report: MountReport {
            steps: Work::ALL.map(step).into(),
            peers: plan.tools.iter().filter_map(PeerMount::of).collect(),
        },
    };
    for round in 0..plan.runs {
        scratch.begin_round(children)?;
        eprintln!("round {} of {}: mounts", round + 1, plan.runs);
        bench.on_disk().context("the disk")?;
        bench.on_null().context("the null file system")?;
        bench.on_holdfast().context("the mounted drive")?;
        bench.on_peers()?;
        scratch.end_round()?;
    }
    std::fs::remove_file(&bench.big)?;
    Ok(bench.report)
}

impl Bench<'_> {
    fn on_disk(&mut self) -> anyhow::Result<()> {
        let folder = self.fresh("disk")?;
        self.copy_and_read(On::Disk, &folder, None)
    }

    fn on_null(&mut self) -> anyhow::Result<()> {
        let folder = self.fresh("null")?;
        let mounted = mount_null(&folder, self.children, self.scratch)?;
        self.copy_and_read(On::Null, &folder, Some(&mounted))
    }

    fn on_holdfast(&mut self) -> anyhow::Result<()> {
        let drive = Drive {
            program: self.plan.holdfast,
            home: self.fresh("home")?,
        };
        let store = self.fresh("archive")?;
        let folder = self.fresh("drive")?;
        let log = self.scratch.path("output");
        let mut init = drive.command(&["init"]);
        self.children.run(init.arg(&store), &log)?;
        let mounted = drive.mount(&folder)?;
        self.copy_and_read(On::Holdfast, &folder.join("current"), Some(&mounted))?;
        self.children.run(&mut drive.command(&["snapshot"]), &log)?;
        let mut unmount = drive.command(&["unmount"]);
        self.children.run(unmount.arg(&folder), &log)?;
        drop(mounted);
        empty_cache(&drive.home)?;
        let mounted = drive.mount(&folder)?;
        let snapshot = folder.join("snapshots/latest");
        let (big, tree) = (snapshot.join("big"), self.copy_of_tree(&snapshot));
        let mut on_drive =
            |work, command: &mut Command| self.measure(work, On::Holdfast, command, Some(&mounted));
        on_drive(Work::SnapshotBig, &mut read_file(&big))?;
        forget_pages(&big)?;
        on_drive(Work::SnapshotBigCached, &mut read_file(&big))?;
        on_drive(Work::SnapshotTree, &mut read_tree(&tree))?;
        forget_tree(&tree)?;
        on_drive(Work::SnapshotTreeCached, &mut read_tree(&tree))
    }

    fn on_peers(&mut self) -> anyhow::Result<()> {
        for peer in &mut self.report.peers {
            let kind = peer.kind;
            if let Some(tool) = self.plan.tools.iter().find(|tool| tool.kind == kind) {
                peer.one_turn(tool, &self.big, self.children, self.scratch)?;
            }
        }
        Ok(())
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
        let drive = Drive {
            program: self.plan.holdfast,
            home: self.scratch.path(ROUND).join("home"),
        };
        let mut copy = Command::new("cp");
        copy.arg(&self.big).arg(&big);
        self.measure(Work::CopyBig, on, &mut copy, mounted)?;
        if on == On::Holdfast {
            let mut flush = drive.command(&["flush"]);
            self.measure(Work::FlushBig, on, &mut flush, mounted)?;
        }
        self.scratch.settle()?;
        forget_pages(&big)?;
        self.measure(Work::ReadBig, on, &mut read_file(&big), mounted)?;
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.plan.folder).arg(folder);
        self.measure(Work::CopyTree, on, &mut copy, mounted)?;
        if on == On::Holdfast {
            let mut flush = drive.command(&["flush"]);
            self.measure(Work::FlushTree, on, &mut flush, mounted)?;
        }
        self.scratch.settle()?;
        forget_tree(&tree)?;
        self.measure(Work::ReadTree, on, &mut read_tree(&tree), mounted)
    }

    fn measure(
        &mut self,
        work: Work,
        on: On,
        command: &mut Command,
        mounted: Option<&Mounted>,
    ) -> anyhow::Result<()> {
        let usage = measure(command, mounted, self.children, self.scratch)?;
        let step = &mut self.report.steps[work as usize];
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
}

fn mount_null(folder: &Path, children: &Children, scratch: &Scratch) -> anyhow::Result<Mounted> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("null-drive").arg(folder);
    Mounted::by(&mut command, folder, children, &scratch.path("daemon"))
}

/// What a program took on a mounted folder: see [`measure_with`].
pub fn measure(
    command: &mut Command,
    mounted: Option<&Mounted>,
    children: &Children,
    scratch: &Scratch,
) -> anyhow::Result<Usage> {
    measure_with(mounted, scratch, || {
        children.run(command, &scratch.path("output"))
    })
}

/// Runs something, and gives its usage with the daemon's processor time added and the daemon's memory.
pub fn measure_with(
    mounted: Option<&Mounted>,
    scratch: &Scratch,
    run: impl FnOnce() -> anyhow::Result<Usage>,
) -> anyhow::Result<Usage> {
    scratch.settle()?;
    let before = mounted.map_or(0.0, Mounted::cpu_seconds);
    mounted.map_or(Ok(()), Mounted::forget_peak)?;
    let mut usage = run()?;
    if let Some(mounted) = mounted {
        usage.cpu_seconds += mounted.cpu_seconds() - before;
        usage.peak_bytes = mounted.peak_bytes();
    }
    Ok(usage)
}

/// Reads a file from its beginning to its end.
pub fn read_file(file: &Path) -> Command {
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
