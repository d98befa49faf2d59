//! `holdfast forget`

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use holdfast_backend::marks::CommitName;
use holdfast_backend::retention::{Candidate, Keep, KeepParseError, Policy, decide};
use serde_json::{Value, json};

use crate::archive::{Archive, now_seconds};
use crate::snapshots::Snapshot;

use super::opening::full_name;
use super::snapshots::as_json;
use super::{CommandError, Context, Output, opening};

/// Arguments of `forget`.
#[derive(Args)]
pub struct Forget {
    /// Give up these, whatever the rules say
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Keep the newest so many
    #[arg(long, value_name = "COUNT")]
    keep_last: Option<u32>,
    /// Keep the first of an hour: of so many hours (24), within a span (7d, 8w, 1y), `all` or `none`
    #[arg(long, value_name = "RULE", value_parser = keep)]
    keep_hourly: Option<Keep>,
    /// Keep the first of a day
    #[arg(long, value_name = "RULE", value_parser = keep)]
    keep_daily: Option<Keep>,
    /// Keep the first of a week
    #[arg(long, value_name = "RULE", value_parser = keep)]
    keep_weekly: Option<Keep>,
    /// Keep the first of a month
    #[arg(long, value_name = "RULE", value_parser = keep)]
    keep_monthly: Option<Keep>,
    /// Keep the first of a year
    #[arg(long, value_name = "RULE", value_parser = keep)]
    keep_yearly: Option<Keep>,
    /// Keep every one that is at most so much older than the newest (36h, 7d)
    #[arg(long, value_name = "SPAN", value_parser = keep)]
    keep_within: Option<Keep>,
    /// Apply the rules to this device's snapshots; to this computer's unless given
    #[arg(long, value_name = "NAME", conflicts_with = "all_devices")]
    device: Option<String>,
    /// Apply the rules to every device, each for itself
    #[arg(long)]
    all_devices: bool,
    /// Change nothing; say what would be given up
    #[arg(long)]
    dry_run: bool,
}

/// What happens to one snapshot, and why.
struct Decided<'a> {
    snapshot: &'a Snapshot,
    kept_for: Option<String>,
}

impl Forget {
    /// Gives up snapshots by name, or by rules.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let policy = self.policy()?;
        if policy.is_none() && self.snapshots.is_empty() {
            return Err(CommandError::new(
                "say what to give up: snapshots by name, or rules such as --keep-daily 30d (see: holdfast forget --help)",
            ));
        }
        let archive = opening::archive(context)?;
        let all = archive.snapshots().map_err(CommandError::from_error)?;
        let mut decided = match policy {
            Some(policy) => self.by_rules(&archive, &policy, &all)?,
            None => Vec::new(),
        };
        self.by_name(&archive, &all, &mut decided)?;
        let given_up: BTreeSet<CommitName> = decided
            .iter()
            .filter(|one| one.kept_for.is_none())
            .map(|one| one.snapshot.name)
            .collect();
        if !self.dry_run {
            archive
                .forget(&given_up)
                .map_err(CommandError::from_error)?;
        }
        Ok(self.output(&decided))
    }

    fn policy(&self) -> Result<Option<Policy>, CommandError> {
        let rules = [
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
            self.keep_within,
        ];
        if self.keep_last.is_none() && rules.iter().all(Option::is_none) {
            return Ok(None);
        }
        let within = match self.keep_within {
            None => -1,
            Some(Keep::WithinSeconds(seconds)) => seconds,
            Some(_) => {
                return Err(CommandError::new(
                    "--keep-within takes a span, such as 36h or 7d",
                ));
            }
        };
        let [hourly, daily, weekly, monthly, yearly, _] =
            rules.map(|rule| rule.unwrap_or(Keep::Nothing));
        let last = self.keep_last.unwrap_or(0);
        Ok(Some(Policy {
            last,
            all_within_seconds: within,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
        }))
    }

    fn by_rules<'a>(
        &self,
        archive: &Archive,
        policy: &Policy,
        all: &'a [Snapshot],
    ) -> Result<Vec<Decided<'a>>, CommandError> {
        let own = archive.device();
        let is_meant = |snapshot: &Snapshot| match &self.device {
            Some(device) => {
                snapshot.device == *device || snapshot.name.device.to_string() == *device
            }
            None => self.all_devices || snapshot.name.device == own,
        };
        let mut devices: BTreeMap<_, Vec<&Snapshot>> = BTreeMap::new();
        for snapshot in all.iter().filter(|snapshot| is_meant(snapshot)) {
            devices
                .entry(snapshot.name.device)
                .or_default()
                .push(snapshot);
        }
        if let (Some(device), true) = (&self.device, devices.is_empty()) {
            return Err(CommandError::new(format!(
                "the device {device:?} has no snapshots; see: holdfast snapshots"
            )));
        }
        let mut decided = Vec::new();
        for mut snapshots in devices.into_values() {
            snapshots.sort_by_key(|snapshot| snapshot.name.sequence);
            let candidates: Vec<Candidate<usize>> = snapshots
                .iter()
                .enumerate()
                .map(|(id, snapshot)| Candidate {
                    time: snapshot.time.seconds,
                    labelled: snapshot.label.is_some() || snapshot.pinned,
                    id,
                })
                .collect();
            for decision in decide(policy, now_seconds(), &candidates).decisions {
                let reasons: Vec<String> = decision
                    .reasons
                    .iter()
                    .map(|reason| format!("{reason}"))
                    .collect();
                let kept_for = (!reasons.is_empty()).then(|| reasons.join(", "));
                decided.push(Decided {
                    snapshot: snapshots[decision.id],
                    kept_for,
                });
            }
        }
        Ok(decided)
    }

    /// What is named is given up, but for the newest of its device: gc keeps that one anyway.
    fn by_name<'a>(
        &self,
        archive: &Archive,
        all: &'a [Snapshot],
        decided: &mut Vec<Decided<'a>>,
    ) -> Result<(), CommandError> {
        let newest = archive.newest_commits().map_err(CommandError::from_error)?;
        for name in &self.snapshots {
            let wanted = archive.resolve(name).map_err(CommandError::from_error)?;
            if newest.contains(&wanted.name) {
                return Err(CommandError::new(format!(
                    "{} is the newest of its device, which always stays; take another one first",
                    full_name(&wanted)
                )));
            }
            let Some(snapshot) = all.iter().find(|snapshot| snapshot.name == wanted.name) else {
                continue;
            };
            decided.retain(|one| one.snapshot.name != wanted.name);
            decided.push(Decided {
                snapshot,
                kept_for: None,
            });
        }
        Ok(())
    }

    fn output(&self, decided: &[Decided<'_>]) -> Output {
        let (kept, given_up): (Vec<_>, Vec<_>) =
            decided.iter().partition(|one| one.kept_for.is_some());
        let mut text = String::new();
        for one in decided {
            match &one.kept_for {
                Some(reasons) => text.push_str(&format!(
                    "keep    {}  ({reasons})\n",
                    full_name(one.snapshot)
                )),
                None => text.push_str(&format!("forget  {}\n", full_name(one.snapshot))),
            }
        }
        text.push_str(&match (self.dry_run, given_up.len()) {
            (true, count) => format!("{count} would be forgotten\n"),
            (false, 0) => "nothing was forgotten\n".to_owned(),
            (false, count) => format!(
                "{count} forgotten; `holdfast gc` deletes their data after the grace period, `holdfast undelete` takes them back until then\n"
            ),
        });
        let value = |one: &&Decided<'_>| {
            let mut value = as_json(one.snapshot);
            value["kept_for"] = one
                .kept_for
                .as_ref()
                .map_or(Value::Null, |reasons| json!(reasons));
            value
        };
        let json = json!({
            "dry_run": self.dry_run,
            "forgotten": given_up.iter().map(value).collect::<Vec<_>>(),
            "kept": kept.iter().map(value).collect::<Vec<_>>(),
        });
        Output::new(text, json)
    }
}

fn keep(text: &str) -> Result<Keep, KeepParseError> {
    text.parse()
}
