//! `holdfast scrub`

use clap::Args;
use holdfast_backend::gc::Rules;
use holdfast_backend::scrub::{Fault, Options, ScrubReport, scrub};
use serde_json::json;

use crate::archive::now_seconds;
use crate::archive::runtime;

use super::opening::shown_bytes;
use super::store_arguments::KeylessStore;
use super::{CommandError, Context, Output};

/// Arguments of `scrub`.
#[derive(Args)]
pub struct Scrub {
    #[command(flatten)]
    store: KeylessStore,
}

impl Scrub {
    /// Reads every object; exit code 3 if anything is wrong.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let settings = self.store.settings(context)?;
        let store = self.store.open(&settings)?;
        let rules = Rules {
            grace: settings.grace(),
            ..Rules::at(now_seconds())
        };
        let progress = context.progress("scrubbing");
        let mut before = 0;
        let scrubbed = scrub(&*store, &rules, Options::default(), |now| {
            progress.set_total(now.total_bytes);
            progress.advance(now.bytes - before);
            before = now.bytes;
        });
        let report = runtime::handle().block_on(scrubbed);
        progress.finish();
        let report = report.map_err(CommandError::from_error)?;
        let json = serde_json::to_value(&report)
            .unwrap_or_else(|error| json!({ "error": error.to_string() }));
        let exit = if report.is_clean() { 0 } else { 3 };
        Ok(Output::new(text(&report), json).with_exit(exit))
    }
}

fn text(report: &ScrubReport) -> String {
    let checked = &report.checked;
    let mut text = format!(
        "{} objects ({}) checked\n",
        checked.objects,
        shown_bytes(checked.bytes)
    );
    for (name, fault) in &report.faults {
        let (Fault::Damaged(why) | Fault::Malformed(why) | Fault::Unreadable(why)) = fault;
        text.push_str(&format!("{name}: {why}\n"));
    }
    for name in &report.missing {
        text.push_str(&format!("{name}: it is missing\n"));
    }
    if let Some(why) = &report.unjudged {
        text.push_str(&format!("what is missing could not be found out: {why}\n"));
    }
    match report.is_clean() {
        true => text.push_str("nothing is missing or damaged\n"),
        false => text.push_str("`holdfast check --read-data` names the files that use it\n"),
    }
    text
}
