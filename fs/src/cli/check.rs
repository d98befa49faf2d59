//! `holdfast check`

use clap::Args;
use serde_json::json;

use crate::check::{CheckReport, Depth, check};

use super::opening::shown_bytes;
use super::{CommandError, Context, Output, opening};

/// So many paths are printed for a person; `--json` has more.
const SHOWN_AT_MOST: usize = 100;

/// Arguments of `check`.
#[derive(Args)]
pub struct Check {
    /// Read every chunk, open it and compute its id again
    #[arg(long)]
    read_data: bool,
}

impl Check {
    /// Checks; exit code 3 if anything is damaged.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let archive = opening::archive(context)?;
        let depth = if self.read_data {
            Depth::ReadData
        } else {
            Depth::References
        };
        let progress = context.progress("checking");
        let checked = check(&archive, depth, &|bytes, total| {
            progress.set_total(total);
            progress.advance(bytes);
        });
        progress.finish();
        let report = checked.map_err(CommandError::from_error)?.report;
        let json = serde_json::to_value(&report)
            .unwrap_or_else(|error| json!({ "error": error.to_string() }));
        let exit = if report.is_clean() { 0 } else { 3 };
        Ok(Output::new(text(&report), json).with_exit(exit))
    }
}

pub(super) fn text(report: &CheckReport) -> String {
    let mut text = format!(
        "{} snapshots, {} files, {} packs checked",
        report.snapshots, report.files, report.packs
    );
    if report.chunks_read > 0 {
        text.push_str(&format!(
            ", {} chunks read ({})",
            report.chunks_read,
            shown_bytes(report.bytes_read)
        ));
    }
    text.push('\n');
    if report.is_clean() {
        text.push_str("nothing is missing or damaged\n");
        return text;
    }
    if let Some(why) = &report.unjudged {
        text.push_str(&format!("what is needed is not known: {why}\n"));
    }
    for object in &report.bad_objects {
        text.push_str(&format!("damaged or missing: {object}\n"));
    }
    for damage in report
        .bad_snapshots
        .iter()
        .chain(&report.damage)
        .take(SHOWN_AT_MOST)
    {
        text.push_str(&format!(
            "{}:{}: {}\n",
            damage.snapshot, damage.path, damage.why
        ));
    }
    let all = report.bad_snapshots.len() as u64 + report.damaged_paths;
    if all > SHOWN_AT_MOST as u64 {
        text.push_str(&format!(
            "and {} more (--json names them)\n",
            all - SHOWN_AT_MOST as u64
        ));
    }
    if all == 0 {
        text.push_str("no snapshot uses what is damaged\n");
    } else {
        text.push_str("everything else can be restored\n");
    }
    text
}
