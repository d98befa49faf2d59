//! `holdfast undelete [SNAPSHOT]...`

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use holdfast_backend::gc::{self, Rules, Selection};
use holdfast_backend::marks::CommitName;
use serde_json::json;

use crate::archive::{Archive, now_seconds};
use crate::format::CommitKind;
use crate::snapshots::time_name;

use super::{CommandError, Context, Output, opening};

/// Arguments of `undelete`.
#[derive(Args)]
pub struct Undelete {
    /// Forgotten snapshots by label, time, DEVICE/NAME or name of the commit; all that can be unless given
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
}

impl Undelete {
    /// Takes forgotten snapshots back; exit code 3 if one of those that were named is lost.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let archive = opening::archive(context)?;
        let forgotten = forgotten(&archive)?;
        let chosen: Vec<CommitName> = match self.snapshots.is_empty() {
            true => forgotten.keys().copied().collect(),
            false => {
                let found = self
                    .snapshots
                    .iter()
                    .map(|wanted| choose(&forgotten, wanted));
                found.collect::<Result<_, CommandError>>()?
            }
        };
        let rules = Rules {
            grace: archive.settings().grace(),
            ..Rules::at(now_seconds())
        };
        let selection = Selection::These(chosen.into_iter().collect());
        let work = gc::undelete(&*archive.store, archive.device(), &rules, &selection);
        let report = archive
            .runtime()
            .block_on(work)
            .map_err(CommandError::from_error)?;

        let name = |commit: &CommitName| {
            forgotten
                .get(commit)
                .cloned()
                .unwrap_or_else(|| commit.to_string())
        };
        let mut text = String::new();
        for commit in &report.restorable {
            text.push_str(&format!("{} is back\n", name(commit)));
        }
        for (commit, why) in &report.lost {
            text.push_str(&format!("{} is lost: {why}\n", name(commit)));
        }
        if text.is_empty() {
            text.push_str("no snapshot is forgotten that could be taken back\n");
        }
        let json = json!({
            "restored": report.restorable.iter().map(name).collect::<Vec<_>>(),
            "lost": report.lost.iter().map(|(commit, why)| json!({ "name": name(commit), "why": why })).collect::<Vec<_>>(),
        });
        let exit = if report.lost.is_empty() { 0 } else { 3 };
        Ok(Output::new(text, json).with_exit(exit))
    }
}

/// The forgotten snapshots whose commits are still there, by what they were called.
fn forgotten(archive: &Arc<Archive>) -> Result<BTreeMap<CommitName, String>, CommandError> {
    use holdfast_backend::marks::Pin;
    let marks = archive.read_marks().map_err(CommandError::from_error)?;
    let devices: BTreeMap<_, _> = archive
        .devices()
        .into_iter()
        .map(|device| (device.id, device.name))
        .collect();
    let mut found = BTreeMap::new();
    for name in marks.forgotten_commits() {
        if marks.pin(name) == Pin::Kept {
            continue;
        }
        // What is gone, or was never this archive's, cannot be called by a name.
        let Ok(commit) = archive.load_commit(name) else {
            continue;
        };
        // Checkpoints are forgotten by themselves, and nobody has seen them.
        if commit.kind == CommitKind::Checkpoint {
            continue;
        }
        let device = devices
            .get(&name.device)
            .cloned()
            .unwrap_or_else(|| name.device.to_string());
        let called = commit
            .label
            .clone()
            .unwrap_or_else(|| time_name(commit.time));
        found.insert(*name, format!("{device}/{called}"));
    }
    Ok(found)
}

fn choose(
    forgotten: &BTreeMap<CommitName, String>,
    wanted: &str,
) -> Result<CommitName, CommandError> {
    let is_called = |(commit, name): &(&CommitName, &String)| {
        *name == wanted
            || commit.to_string() == wanted
            || name.split_once('/').is_some_and(|(_, name)| name == wanted)
    };
    let found: Vec<_> = forgotten.iter().filter(is_called).collect();
    match found.as_slice() {
        [(commit, _)] => Ok(**commit),
        [] => {
            let known: Vec<&str> = forgotten.values().map(String::as_str).collect();
            Err(CommandError::new(match known.is_empty() {
                true => format!(
                    "no forgotten snapshot is called {wanted:?}, and there is none that could be taken back"
                ),
                false => format!(
                    "no forgotten snapshot is called {wanted:?}; there are: {}",
                    known.join(", ")
                ),
            }))
        }
        several => {
            let names: Vec<String> = several
                .iter()
                .map(|(commit, name)| format!("{name} = {commit}"))
                .collect();
            Err(CommandError::new(format!(
                "several are called {wanted:?}; name the commit: {}",
                names.join(", ")
            )))
        }
    }
}
