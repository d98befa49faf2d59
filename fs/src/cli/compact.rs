//! `holdfast compact`

use clap::Args;
use serde_json::json;

use crate::archive::{Access, Archive, open_home_store};
use crate::compact::{CompactReport, CompactRequest, run};

use super::opening::{self, shown_bytes};
use super::{CommandError, Context, Output, parse_bytes};

/// Arguments of `compact`.
#[derive(Args)]
pub struct Compact {
    /// Copy out of packs where at least this share of the bytes is used by no snapshot
    #[arg(long, value_name = "PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u8).range(0..=100))]
    unused: u8,
    /// Copy about so much at the most (suffixes k, M, G); what frees most goes first
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    max_bytes: Option<u64>,
    /// Change nothing; say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Compact {
    /// Compacts; exit code 3 if something was damaged and left as it is. The drive must not be mounted.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let home = opening::home()?;
        let lock = home.lock().map_err(CommandError::from_error)?;
        let settings = opening::settings(&home, context)?;
        let store = open_home_store(&home, &settings).map_err(CommandError::from_error)?;
        let archive = Archive::open_on(store, &home, settings, Access::Write(lock))
            .map_err(CommandError::from_error)?;
        let request = CompactRequest {
            unused_percent: self.unused,
            most_bytes: self.max_bytes,
            dry_run: self.dry_run,
        };
        let progress = context.progress("compacting");
        let report = run(&archive, &request, &|bytes, total| {
            progress.set_total(total);
            progress.advance(bytes);
        });
        progress.finish();
        let report = report.map_err(CommandError::from_error)?;
        let exit = if report.is_complete() { 0 } else { 3 };
        Ok(Output::new(text(&report), json!(report)).with_exit(exit))
    }
}

fn text(report: &CompactReport) -> String {
    let mut text = format!(
        "{} packs, {}; {} in them are used by no snapshot\n",
        report.packs,
        shown_bytes(report.pack_bytes),
        shown_bytes(report.unused_bytes)
    );
    match (report.dry_run, report.old_packs) {
        (_, 0) => text.push_str("nothing is worth copying\n"),
        (true, old) => text.push_str(&format!(
            "{old} packs, {}, would be copied from\n",
            shown_bytes(report.old_bytes)
        )),
        (false, old) => text.push_str(&format!(
            "{old} packs, {}, are replaced by {}, {}; `holdfast gc` frees them after the grace period\n",
            shown_bytes(report.old_bytes),
            report.new_packs,
            shown_bytes(report.new_bytes)
        )),
    }
    if report.held_packs > 0 {
        text.push_str(&format!(
            "{} packs stay as they are: backups under way or snapshots that cannot be read need them\n",
            report.held_packs
        ));
    }
    for pack in &report.damaged {
        text.push_str(&format!("damaged, left as it is: {pack}\n"));
    }
    for (commit, why) in &report.unread {
        text.push_str(&format!("cannot be read: {commit}: {why}\n"));
    }
    text
}
