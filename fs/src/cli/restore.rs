//! `holdfast restore SNAPSHOT[:PATH]... TARGET`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::restore::{Filter, RestoreOptions, RestoreReport, Selected, restore, total_bytes};

use super::opening::{shown_bytes, split_path};
use super::{CommandError, Context, Output, opening};

/// So many paths are printed for a person; `--json` has more.
const SHOWN_AT_MOST: usize = 50;

/// Arguments of `restore`.
#[derive(Args)]
pub struct Restore {
    /// A snapshot, and with :PATH a part of it. What is in the snapshot goes into TARGET, a PATH under
    /// its own name; PATH/ is what is in that folder
    #[arg(value_name = "SNAPSHOT[:PATH]", required = true)]
    places: Vec<String>,
    /// The folder that everything goes into; made if it is not there
    target: PathBuf,
    /// Restore only what matches; a pattern without / is for names, one with / for whole paths
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leave out what matches, and what is below it
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Replace files that are there already; they are refused otherwise
    #[arg(long)]
    overwrite: bool,
    /// Write nothing; say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Read every file back from the disk and compare
    #[arg(long)]
    verify: bool,
}

impl Restore {
    /// Restores; exit code 3 if anything was refused or failed.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let filter = Filter::new(&self.include, &self.exclude).map_err(CommandError::from_error)?;
        let archive = opening::archive(context)?;
        let mut selected = Vec::new();
        for place in &self.places {
            let (name, path) = split_path(place);
            let (_, tree) = opening::snapshot(&archive, name)?;
            selected.push(Selected {
                tree,
                path: path.to_vec(),
            });
        }
        let progress = context.progress("restoring");
        progress.set_total(total_bytes(&selected).map_err(CommandError::from_error)?);
        let options = RestoreOptions {
            filter,
            overwrite: self.overwrite,
            dry_run: self.dry_run,
            verify: self.verify,
            threads: 0,
        };
        let report = restore(&selected, &self.target, options, &|bytes| {
            progress.advance(bytes)
        });
        progress.finish();
        let report = report.map_err(CommandError::from_error)?;
        let json = serde_json::to_value(&report)
            .unwrap_or_else(|error| json!({ "error": error.to_string() }));
        let exit = if report.is_complete() { 0 } else { 3 };
        Ok(Output::new(self.text(&report), json).with_exit(exit))
    }

    fn text(&self, report: &RestoreReport) -> String {
        let verb = if report.dry_run {
            "would be restored"
        } else {
            "restored"
        };
        let mut text = format!(
            "{} files ({}), {} folders, {} links and special files {verb} into {}\n",
            report.files,
            shown_bytes(report.bytes),
            report.folders,
            report.hard_links + report.others,
            self.target.display(),
        );
        if report.verified > 0 {
            text.push_str(&format!(
                "{} files were read back and are the same\n",
                report.verified
            ));
        }
        if report.without_owner > 0 {
            text.push_str(&format!(
                "{} have another owner or lack privileged attributes, because only root may set those\n",
                report.without_owner
            ));
        }
        if report.refused > 0 {
            text.push_str(&format!(
                "{} were left alone because something is there already (--overwrite replaces files):\n",
                report.refused
            ));
            push_some(
                &mut text,
                report.refused_paths.iter().map(String::as_str),
                report.refused,
            );
        }
        if report.failed > 0 {
            text.push_str(&format!("{} could not be restored whole:\n", report.failed));
            let failures: Vec<String> = report
                .failures
                .iter()
                .map(|failure| format!("{}: {}", failure.path, failure.why))
                .collect();
            push_some(
                &mut text,
                failures.iter().map(String::as_str),
                report.failed,
            );
        }
        text
    }
}

fn push_some<'a>(text: &mut String, lines: impl Iterator<Item = &'a str>, of: u64) {
    let mut shown = 0;
    for line in lines.take(SHOWN_AT_MOST) {
        text.push_str(&format!("  {line}\n"));
        shown += 1;
    }
    if of > shown {
        text.push_str(&format!("  and {} more (--json names them)\n", of - shown));
    }
}
