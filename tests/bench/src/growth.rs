//! What Holdfast takes for more and more small files: time and memory per file are to stay flat.
//!
//! For each number of files: first backup, again, restore, and `ls -lR` of the snapshot through a mount with an empty cache.
//! One run each, as the sizes are compared with one another. Nothing is removed before the end, see `scratch`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Serialize;

use crate::children::{Children, Usage};
use crate::data;
use crate::drive::{Drive, empty_cache};
use crate::mounts::measure_with;
use crate::scratch::Scratch;
use crate::tools::{Place, Step, Tool};

/// Numbers of files, each ten times the one before.
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];
/// No folder has more entries than this.
const PER_FOLDER: u64 = 100;
const FILE_BYTES: usize = 1024;
/// On the disk, for each file: itself and its copy in a block of 4 KiB each, and in archive, caches and folders.
const DISK_BYTES_PER_FILE: u64 = 12 << 10;
/// The log of a mounted drive.
const DISK_BYTES_PER_SIZE: u64 = 64 << 20;

/// What is run.
pub struct Plan<'a> {
    /// Holdfast.
    pub tool: &'a Tool,
    /// The largest number of files.
    pub largest: u64,
}

/// What one number of files took.
#[derive(Debug, Serialize)]
pub struct Grown {
    /// How many.
    pub files: u64,
    /// Into an empty archive.
    pub first: Usage,
    /// Again, nothing changed.
    pub again: Usage,
    /// Out of it.
    pub restore: Usage,
    /// Through the mount.
    pub list: Listed,
    /// Bytes of the archive.
    pub archive_bytes: u64,
}

/// What listing a snapshot took, with an empty cache.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Until the drive was mounted.
    pub mount_seconds: f64,
    /// From the start of `ls -lR` until it has printed an entry.
    pub first_entry_seconds: f64,
    /// All of it: the time of ls, processor time of it and the daemon, memory of the daemon.
    pub whole: Usage,
}

impl Plan<'_> {
    /// Room on the disk, about.
    pub fn needed_bytes(&self) -> u64 {
        self.sizes()
            .map(|files| files * DISK_BYTES_PER_FILE + DISK_BYTES_PER_SIZE)
            .sum()
    }

    /// Inodes: every file and its copy, and one in a hundred for folders.
    pub fn needed_inodes(&self) -> u64 {
        self.sizes().sum::<u64>() * 2 * (PER_FOLDER + 2) / PER_FOLDER
    }

    /// The usual ones up to the largest, and that one.
    fn sizes(&self) -> impl Iterator<Item = u64> {
        let largest = self.largest;
        let usual = SIZES.into_iter().filter(move |size| *size < largest);
        usual.chain([largest])
    }
}

/// Runs all sizes, the smallest first.
pub fn run(plan: &Plan<'_>, children: &Children, scratch: &Scratch) -> anyhow::Result<Vec<Grown>> {
    plan.sizes()
        .map(|files| {
            eprintln!("{files} files");
            one_size(plan, files, children, scratch).with_context(|| format!("{files} files"))
        })
        .collect()
}

fn one_size(
    plan: &Plan<'_>,
    files: u64,
    children: &Children,
    scratch: &Scratch,
) -> anyhow::Result<Grown> {
    let fresh = |name: &str| scratch.fresh(&format!("growth/{files}/{name}"));
    let place = Place {
        home: fresh("home")?,
        archive: fresh("archive")?,
        target: fresh("target")?,
        folder: fresh("files")?,
        bucket: None,
    };
    make_files(&place.folder, files, children)?;
    let log = scratch.path("output");
    if let Some(mut command) = plan.tool.prepare(&place)? {
        children.run(&mut command, &log)?;
    }
    let run = |step| -> anyhow::Result<Usage> {
        let mut command = plan
            .tool
            .step(step, &place)
            .context("there is no such step")?;
        scratch.settle()?;
        children.run(&mut command, &log)
    };
    let (first, again) = (run(Step::First)?, run(Step::Again)?);
    let archive_bytes = data::contents(&place.archive)?.bytes;
    let restore = run(Step::Restore)?;
    let restored = data::contents(&place.target)?.files;
    anyhow::ensure!(restored == files, "{restored} files were restored");
    empty_cache(&place.home)?;
    let list = list_snapshot(plan, &place, files, children, scratch)?;
    Ok(Grown {
        files,
        first,
        again,
        restore,
        list,
        archive_bytes,
    })
}

fn list_snapshot(
    plan: &Plan<'_>,
    place: &Place,
    files: u64,
    children: &Children,
    scratch: &Scratch,
) -> anyhow::Result<Listed> {
    let mounted_on = scratch.fresh(&format!("growth/{files}/drive"))?;
    let drive = Drive {
        program: &plan.tool.program,
        home: place.home.clone(),
    };
    let started = Instant::now();
    let mounted = drive.mount(&mounted_on)?;
    let mount_seconds = started.elapsed().as_secs_f64();
    let snapshot = mounted_on.join("snapshots/latest");
    let copy = snapshot.join(place.folder.strip_prefix("/").unwrap_or(&place.folder));
    // Without stdbuf it would keep some 60 lines back.
    let mut list = Command::new("stdbuf");
    list.args(["-oL", "ls", "-lR"])
        .arg(&copy)
        .env("LC_ALL", "C");
    let mut listed = 0;
    let mut first_entry = None;
    let whole = measure_with(Some(&mounted), scratch, || {
        children.run_and_read(&mut list, &scratch.path("output"), &mut |line, seconds| {
            // -rw-r--r--, after the heading of a folder and its total.
            let is_file = line.starts_with('-');
            if is_file || line.starts_with('d') {
                first_entry.get_or_insert(seconds);
            }
            listed += u64::from(is_file);
        })
    })?;
    anyhow::ensure!(listed == files, "ls listed {listed} files of {files}");
    Ok(Listed {
        mount_seconds,
        first_entry_seconds: first_entry.context("ls has printed no entry")?,
        whole,
    })
}

/// So many files of text, 100 in a folder, and folders 100 in a folder.
fn make_files(folder: &Path, files: u64, children: &Children) -> anyhow::Result<()> {
    for first in (0..files).step_by(PER_FOLDER as usize) {
        children.go_on()?;
        let folder = folder.join(folder_of(first / PER_FOLDER, files.div_ceil(PER_FOLDER)));
        std::fs::create_dir_all(&folder)?;
        for number in first..files.min(first + PER_FOLDER) {
            let mut file = File::create(folder.join(format!("file-{number:07}.txt")))?;
            file.write_all(&text(number))?;
        }
    }
    Ok(())
}

/// `42/17` of up to 10,000 folders, and `00/42/17` of more.
fn folder_of(mut number: u64, folders: u64) -> PathBuf {
    let mut names = Vec::new();
    let mut left = folders;
    loop {
        names.push(format!("{:02}", number % PER_FOLDER));
        number /= PER_FOLDER;
        left = left.div_ceil(PER_FOLDER);
        if left <= 1 {
            return names.iter().rev().collect();
        }
    }
}

/// Lines of words of random letters, the same for the same number: it compresses as text does, and no two are equal.
fn text(number: u64) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(number);
    (0..FILE_BYTES)
        .map(|at| match random.random_range(0..32) {
            _ if at % 64 == 63 => b'\n',
            // About as often as in a language, and some letters more often than others.
            0..6 => b' ',
            letter @ 6..19 => b"etaoinshrdlcu"[letter - 6],
            letter => b'a' + (letter - 6) as u8,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_folder_has_more_than_a_hundred() {
        assert_eq!(folder_of(7, 100), Path::new("07"));
        assert_eq!(folder_of(1234, 10_000), Path::new("12/34"));
        assert_eq!(folder_of(1234, 10_001), Path::new("00/12/34"));
    }

    #[test]
    fn text_is_the_same_for_the_same_number() {
        assert_eq!(text(3), text(3));
        assert_ne!(text(3), text(4));
        assert_eq!(text(3).len(), FILE_BYTES);
        assert!(text(3).is_ascii());
    }
}
