//! Medians, ratios and tables.

use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::children::Usage;
use crate::data::Contents;
use crate::mounts::{MountReport, MountStep, Work};
use crate::peer_mounts::PeerMount;
use crate::rounds::Measured;
use crate::tools::{Found, Kind, Store};

/// Everything that was measured, as `--json` has it.
#[derive(Debug, Serialize)]
pub struct Report {
    folder: String,
    contents: Contents,
    runs: u32,
    store: Store,
    machine: Machine,
    missing: Vec<String>,
    left_out: Vec<String>,
    /// Of each tool.
    pub tools: Vec<Measured>,
    mounts: Vec<MountStep>,
    peer_mounts: Vec<PeerMount>,
}

/// What it was measured on.
#[derive(Debug, Serialize)]
pub struct Machine {
    cores: usize,
    processor: String,
    /// Load average of the last minute when the run began; the machine's, not only ours.
    load: f64,
}

impl Report {
    /// Nothing is measured yet.
    pub fn new(
        folder: &Path,
        contents: Contents,
        runs: u32,
        store: Store,
        found: &Found,
    ) -> Report {
        Report {
            folder: folder.display().to_string(),
            contents,
            runs,
            store,
            machine: Machine::this(),
            missing: found.missing.clone(),
            left_out: found.left_out.clone(),
            tools: Vec::new(),
            mounts: Vec::new(),
            peer_mounts: Vec::new(),
        }
    }

    /// What is measured, where, and who is missing.
    pub fn heading(&self) -> String {
        let mut text = format!(
            "{}: {} files, {:.0} MB; {} runs, medians; {}\n",
            self.folder,
            self.contents.files,
            megabytes(self.contents.bytes),
            self.runs,
            self.machine.heading(),
        );
        if self.store == Store::S3 {
            text += "Archives in a SeaweedFS on this computer, a fresh one for each turn; its processor time is not counted. No mounts.\n";
        }
        if !self.left_out.is_empty() {
            text += &format!(
                "Not measured with this store: {}\n",
                self.left_out.join(", ")
            );
        }
        if !self.missing.is_empty() {
            text += &format!(
                "NOT on PATH, and so not measured: {}\n",
                self.missing.join(", ")
            );
        }
        text
    }

    /// Every tool with its times, and how many times Holdfast's they are.
    pub fn tools_table(&self) -> String {
        let mut table = table(&[
            "tool",
            "first s",
            "again s",
            "restore s",
            "archive MB",
            "peak MB",
            "first cpu s",
            "again cpu s",
            "restore cpu s",
        ]);
        let base = self.of(Kind::Holdfast);
        for tool in &self.tools {
            let times = |steps: fn(&Measured) -> &Vec<Usage>, value: fn(&Usage) -> f64| {
                let mine = median(steps(tool).iter().map(value));
                let base = base.and_then(|base| median(steps(base).iter().map(value)));
                with_ratio(mine, base, 2)
            };
            let archive = |tool: &Measured| median(tool.archive_bytes.iter().map(|b| *b as f64));
            let first: fn(&Measured) -> &Vec<Usage> = |tool| &tool.first;
            let again: fn(&Measured) -> &Vec<Usage> = |tool| &tool.again;
            let restore: fn(&Measured) -> &Vec<Usage> = |tool| &tool.restore;
            table.add_row([
                format!("{} {}", tool.kind.name(), tool.version),
                times(first, seconds),
                times(again, seconds),
                times(restore, seconds),
                with_ratio(
                    archive(tool).map(|bytes| bytes / 1e6),
                    base.and_then(archive).map(|bytes| bytes / 1e6),
                    1,
                ),
                tool.peaks(),
                times(first, cpu_seconds),
                times(again, cpu_seconds),
                times(restore, cpu_seconds),
            ]);
        }
        format!(
            "\n{table}\nIn brackets: as a multiple of holdfast's. Peak MB: first / again / restore.\n{}",
            self.against_peers()
        )
    }

    /// Holdfast as a fraction of whoever is best in each step.
    fn against_peers(&self) -> String {
        let Some(holdfast) = self.of(Kind::Holdfast) else {
            return String::new();
        };
        let mut text = String::new();
        let mut line = |what: &str, value: &dyn Fn(&Measured) -> Option<f64>| {
            let peers = self.tools.iter().filter(|tool| tool.kind.is_peer());
            let best = peers
                .filter_map(|tool| Some((value(tool)?, tool.kind.name())))
                .min_by(|one, other| one.0.total_cmp(&other.0));
            if let (Some(mine), Some((best, name))) = (value(holdfast), best) {
                text += &format!(
                    "holdfast {what}: {:.2} of the best peer's ({name})\n",
                    mine / best
                );
            }
        };
        line("first", &|tool| median(tool.first.iter().map(seconds)));
        line("again", &|tool| median(tool.again.iter().map(seconds)));
        line("restore", &|tool| median(tool.restore.iter().map(seconds)));
        line("archive", &|tool| {
            median(tool.archive_bytes.iter().map(|bytes| *bytes as f64))
        });
        let limit = self.of(Kind::Tar);
        if let (Some(mine), Some(limit)) = (
            median(holdfast.first.iter().map(seconds)),
            limit.and_then(|tar| median(tar.first.iter().map(seconds))),
        ) {
            text += &format!("holdfast first: {:.2} of tar | zstd\n", mine / limit);
        }
        text
    }

    /// Takes in what was measured of the mounts.
    pub fn add_mounts(&mut self, report: MountReport) {
        self.mounts = report.steps;
        self.peer_mounts = report.peers;
    }

    /// Every step on the disk, the null file system and the drive.
    pub fn mounts_table(&self) -> String {
        let mut table = table(&[
            "step",
            "MB",
            "disk s",
            "null FUSE s",
            "holdfast s",
            "of disk",
            "of null",
            "MB/s",
            "cpu s",
            "daemon peak MB",
        ]);
        for step in &self.mounts {
            let time = |usages: &[Usage]| median(usages.iter().map(seconds));
            let (disk, null) = (time(&step.disk), time(&step.null));
            let holdfast = time(&step.holdfast);
            let ratio = |of: Option<f64>| number(Some(holdfast? / of?), 2);
            table.add_row([
                step.name.to_owned(),
                format!("{:.0}", megabytes(step.bytes)),
                number(disk, 2).unwrap_or_default(),
                number(null, 2).unwrap_or_default(),
                number(holdfast, 2).unwrap_or_default(),
                ratio(disk).unwrap_or_default(),
                ratio(null).unwrap_or_default(),
                number(holdfast.map(|time| megabytes(step.bytes) / time), 0).unwrap_or_default(),
                number(median(step.holdfast.iter().map(cpu_seconds)), 2).unwrap_or_default(),
                peak(&step.holdfast).unwrap_or_default(),
            ]);
        }
        format!(
            "\n{table}\ncp to the disk ends in the page cache; the drive has it in its log. Cpu s: program and daemon.\n{}{}",
            self.against_null(),
            self.peer_mounts_table(),
        )
    }

    /// The drive's caches against a file system that has nothing to look up.
    fn against_null(&self) -> String {
        let time = |usages: &Vec<Usage>| median(usages.iter().map(seconds));
        let step = |work: Work| self.mounts.get(work as usize);
        let null = step(Work::ReadBig).and_then(|step| time(&step.null));
        let cached = step(Work::SnapshotBigCached).and_then(|step| time(&step.holdfast));
        match (null, cached) {
            (Some(null), Some(cached)) => format!(
                "a snapshot's big file, cached: {:.2} of the throughput of null FUSE\n",
                null / cached
            ),
            _ => String::new(),
        }
    }

    /// The big file of a snapshot out of the store, through the mounts of those that have one.
    fn peer_mounts_table(&self) -> String {
        let Some(holdfast) = self.mounts.get(Work::SnapshotBig as usize) else {
            return String::new();
        };
        let mut table = table(&[
            "read a snapshot's big file from the store, empty cache",
            "s",
            "MB/s",
            "cpu s",
            "daemon peak MB",
        ]);
        let base = median(holdfast.holdfast.iter().map(seconds));
        let mut add = |name: String, usages: &[Usage]| {
            let time = median(usages.iter().map(seconds));
            table.add_row([
                name,
                with_ratio(time, base, 2),
                number(time.map(|time| megabytes(holdfast.bytes) / time), 0).unwrap_or_default(),
                number(median(usages.iter().map(cpu_seconds)), 2).unwrap_or_default(),
                peak(usages).unwrap_or_default(),
            ]);
        };
        add("holdfast mount".into(), &holdfast.holdfast);
        let mut failures = String::new();
        for peer in &self.peer_mounts {
            match &peer.failure {
                Some(failure) => {
                    let first_line = failure.lines().next().unwrap_or_default();
                    failures +=
                        &format!("NOT measured: {} mount ({first_line})\n", peer.kind.name());
                }
                None => add(
                    format!("{} mount {}", peer.kind.name(), peer.version),
                    &peer.read_big,
                ),
            }
        }
        format!("\n{table}\n{failures}")
    }

    fn of(&self, kind: Kind) -> Option<&Measured> {
        self.tools.iter().find(|tool| tool.kind == kind)
    }
}

impl Measured {
    fn peaks(&self) -> String {
        let steps = [&self.first, &self.again, &self.restore];
        let peaks = steps.map(|usages| peak(usages).unwrap_or_else(|| "-".into()));
        peaks.join(" / ")
    }
}

impl Machine {
    /// In a few words.
    pub fn heading(&self) -> String {
        format!(
            "{} cores ({}), load {:.1} at the start",
            self.cores, self.processor, self.load
        )
    }

    /// This one, now.
    pub fn this() -> Machine {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let name = processors
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = read("/proc/loadavg");
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: name.map_or_else(|| "unknown".into(), |(_, name)| name.to_owned()),
            load: load
                .split(' ')
                .next()
                .and_then(|number| number.parse().ok())
                .unwrap_or(0.0),
        }
    }
}

/// Numbers to the right of a column of names.
pub fn table(heading: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_header(heading.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn seconds(usage: &Usage) -> f64 {
    usage.seconds
}

fn cpu_seconds(usage: &Usage) -> f64 {
    usage.cpu_seconds
}

/// Of 1,000,000 bytes.
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The largest of all rounds: a bound that holds only sometimes is none.
fn peak(usages: &[Usage]) -> Option<String> {
    let bytes = usages.iter().map(|usage| usage.peak_bytes).max()?;
    Some(format!("{:.0}", megabytes(bytes)))
}

fn number(value: Option<f64>, digits: usize) -> Option<String> {
    value.map(|value| format!("{value:.digits$}"))
}

fn with_ratio(mine: Option<f64>, base: Option<f64>, digits: usize) -> String {
    match (mine, base) {
        (Some(mine), Some(base)) if base > 0.0 => {
            format!("{mine:.digits$} ({:.2})", mine / base)
        }
        (Some(mine), _) => format!("{mine:.digits$}"),
        (None, _) => "-".into(),
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_one() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
    }
}
