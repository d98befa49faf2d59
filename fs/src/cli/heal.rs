//! `holdfast heal`

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use crate::archive::{Access, Archive, open_home_store};
use crate::check::Depth;
use crate::engine::{Engine, EngineOptions};
use crate::heal::{HealReport, HealRequest, Told, heal};

use super::opening::shown_bytes;
use super::{CommandError, Context, Output, check, opening};

/// Arguments of `heal`.
#[derive(Args)]
pub struct Heal {
    /// Look for lost content in this folder or file too, such as where it was backed up from
    #[arg(long, value_name = "PATH")]
    from: Vec<PathBuf>,
    /// Read every chunk first; otherwise what is missing is healed, and what earlier checks and reads
    /// found damaged
    #[arg(long)]
    read_data: bool,
    /// Change nothing; say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Heal {
    /// Stores again what can be had; exit code 3 if something is still missing or damaged.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let home = opening::home()?;
        let lock = home.lock().map_err(CommandError::from_error)?;
        let settings = opening::settings(&home, context)?;
        let store = open_home_store(&home, &settings).map_err(CommandError::from_error)?;
        let archive = Archive::open_on(store, &home, settings, Access::Write(lock))
            .map_err(CommandError::from_error)?;
        let engine = with_log(&archive);
        let progress = context.progress("healing");
        let request = HealRequest {
            from: self.from,
            depth: if self.read_data {
                Depth::ReadData
            } else {
                Depth::References
            },
            is_dry: self.dry_run,
        };
        let report = heal(&archive, &request, &|told| match told {
            Told::Read { bytes, total } => {
                progress.set_total(total);
                progress.advance(bytes);
            }
            Told::Bytes(bytes) => progress.advance(bytes),
            Told::Step(words) => progress.say(words.to_owned()),
        });
        progress.finish();
        drop(engine);
        let report = report.map_err(CommandError::from_error)?;
        let json = serde_json::to_value(&report)
            .unwrap_or_else(|error| json!({ "error": error.to_string() }));
        let exit = if report.left.is_clean() { 0 } else { 3 };
        Ok(Output::new(text(&report), json).with_exit(exit))
    }
}

/// What a drive that was not drained has in its log is a source too. A log that cannot be read is none.
fn with_log(archive: &Arc<Archive>) -> Option<Engine> {
    let segments = std::fs::read_dir(archive.home().log_dir()).ok()?;
    if segments.count() == 0 {
        return None;
    }
    let options = EngineOptions {
        automatic_snapshots: Some(false),
        ..EngineOptions::default()
    };
    let opened = Engine::open_on(Arc::clone(archive), options);
    opened
        .inspect_err(|error| tracing::warn!(%error, "healing goes on without the log"))
        .ok()
}

fn text(report: &HealReport) -> String {
    if report.found.is_empty() && report.left.is_clean() {
        return "nothing is missing or damaged\n".to_owned();
    }
    let mut text = String::new();
    let would = if report.dry_run { "would be " } else { "" };
    for name in &report.put_back {
        text.push_str(&format!("{would}put back: {name}\n"));
    }
    for name in &report.replaced {
        text.push_str(&format!("{would}replaced: {name}\n"));
    }
    text.push_str(&format!(
        "{} chunks ({}) {would}stored again, {} of them from the folders given\n",
        report.chunks,
        shown_bytes(report.bytes),
        report.chunks_from_folders
    ));
    for file in &report.unreadable {
        text.push_str(&format!("not read: {file}\n"));
    }
    if report.dry_run {
        text.push_str("nothing was changed; now it is so:\n");
    }
    text.push_str(&check::text(&report.left));
    if !report.left.is_clean() && !report.dry_run {
        text.push_str("--from a folder that still holds these files may heal more\n");
    }
    text
}
