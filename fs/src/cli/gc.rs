//! `holdfast gc`

use std::time::Duration;

use clap::Args;
use holdfast_backend::gc::{GcReport, Rules, Run, Tally, collect};
use serde_json::json;

use crate::archive::{now_seconds, open_store, runtime};
use crate::format::Time;

use super::opening::{shown_bytes, shown_time};
use super::store_arguments::KeylessStore;
use super::{CommandError, Context, Output};

/// Arguments of `gc`.
#[derive(Args)]
pub struct Gc {
    #[command(flatten)]
    store: KeylessStore,
    /// Time between condemning and deleting (30d, 12h, 90m, 45s), the settings' unless given. Every
    /// device relies on what it has read for half of it: the same for all, and longer than any backup
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    grace: Option<Duration>,
    /// Leave objects alone that are younger than this: a backup under way has not named them yet
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    safety_age: Option<Duration>,
    /// Change nothing; say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Gc {
    /// Condemns and deletes once.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let settings = self.store.settings(context)?;
        if settings.server.is_some() {
            return Err(CommandError::new(
                "the keystore deletes what nobody needs, every day; its operators can run `holdfast-keystore gc`",
            ));
        }
        let store = open_store(&settings).map_err(CommandError::from_error)?;
        let mut rules = Rules::at(now_seconds());
        rules.grace = self.grace.unwrap_or_else(|| settings.grace());
        rules.safety_age = self.safety_age.unwrap_or(rules.safety_age);
        let run = if self.dry_run { Run::Dry } else { Run::Real };
        let report = runtime::handle().block_on(collect(&*store, &rules, run));
        let report = report.map_err(CommandError::from_error)?;
        let json = serde_json::to_value(&report)
            .unwrap_or_else(|error| json!({ "error": error.to_string() }));
        Ok(Output::new(text(&report), json))
    }
}

fn text(report: &GcReport) -> String {
    let line = |what: &str, tally: &Tally| {
        format!(
            "{what:<34} {:>8} objects  {:>12}\n",
            tally.objects,
            shown_bytes(tally.bytes)
        )
    };
    let would = if report.dry_run { "would be " } else { "" };
    let mut text = line("needed", &report.needed);
    text.push_str(&line(&format!("{would}deleted"), &report.deleted));
    text.push_str(&line(&format!("{would}condemned"), &report.condemned));
    text.push_str(&line("condemned earlier, waiting", &report.waiting));
    if report.spared.objects > 0 {
        text.push_str(&line("condemned once, needed again", &report.spared));
    }
    if let Some(due) = report.next_due {
        let due = shown_time(Time {
            seconds: due,
            nanos: 0,
        });
        text.push_str(&format!(
            "the first of what waits may be deleted from {due}; until then: holdfast undelete\n"
        ));
    }
    for commit in &report.lost_pins {
        text.push_str(&format!("kept by name but not there: {commit}\n"));
    }
    text
}

/// `30d`, `12h`, `90m`, `45s`.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write a number with s, m, h, d or w, such as 30d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        "" if digits == "0" => 1,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number
        .checked_mul(unit)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(parse_time("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(parse_time("0"), Ok(Duration::ZERO));
        assert!(parse_time("30").is_err() && parse_time("d").is_err() && parse_time("1y").is_err());
        assert!(parse_time("99999999999999999999d").is_err());
    }
}
