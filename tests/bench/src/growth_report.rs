//! The table of `--growth`, and what `--json` has of it.

use serde::Serialize;

use crate::children::Usage;
use crate::growth::Grown;
use crate::report::{Machine, megabytes, table};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct GrowthReport {
    version: String,
    machine: Machine,
    /// Of each number of files.
    pub growth: Vec<Grown>,
}

type Of<T> = fn(&Grown) -> T;

impl GrowthReport {
    /// Nothing is measured yet.
    pub fn new(version: &str) -> GrowthReport {
        GrowthReport {
            version: version.to_owned(),
            machine: Machine::this(),
            growth: Vec::new(),
        }
    }

    /// What is measured, and where.
    pub fn heading(&self) -> String {
        format!(
            "holdfast {}: files of 1 KiB of text, 100 in a folder, an archive in a folder; one run; {}\n",
            self.version,
            self.machine.heading()
        )
    }

    /// Step by step, each with all numbers of files: what stays flat is seen below one another.
    pub fn table(&self) -> String {
        let mut table = table(&[
            "step",
            "files",
            "s",
            "us per file",
            "cpu s",
            "cpu us per file",
            "peak MB",
        ]);
        let steps: [(&str, Of<Usage>); 4] = [
            ("first backup", |grown| grown.first),
            ("again", |grown| grown.again),
            ("restore", |grown| grown.restore),
            ("ls -lR, empty cache, whole", |grown| grown.list.whole),
        ];
        for (name, usage) in steps {
            for grown in &self.growth {
                let usage = usage(grown);
                let per_file = |seconds: f64| format!("{:.1}", seconds * 1e6 / grown.files as f64);
                table.add_row([
                    name.to_owned(),
                    grown.files.to_string(),
                    format!("{:.2}", usage.seconds),
                    per_file(usage.seconds),
                    format!("{:.2}", usage.cpu_seconds),
                    per_file(usage.cpu_seconds),
                    format!("{:.0}", megabytes(usage.peak_bytes)),
                ]);
            }
        }
        let moments: [(&str, Of<f64>); 2] = [
            ("mount, empty cache", |grown| grown.list.mount_seconds),
            ("  then ls -lR until the first entry", |grown| {
                grown.list.first_entry_seconds
            }),
        ];
        for (name, seconds) in moments {
            for grown in &self.growth {
                let seconds = format!("{:.3}", seconds(grown));
                table.add_row([name, &grown.files.to_string(), &seconds]);
            }
        }
        format!("\n{table}\nOf ls: processor time of it and the daemon, peak of the daemon.\n")
    }
}
