//! `holdfast status`

use clap::Args;
use serde_json::{Value, json};

use super::opening::shown_time;
use super::{CommandError, Output};
use crate::control::{self, ControlError, Request};
use crate::format::Time;
use crate::home::Home;

/// Arguments of `status`.
#[derive(Args)]
pub struct StatusCommand {}

impl StatusCommand {
    /// Asks the running daemon; without one, tells what the home says.
    pub fn run(self) -> Result<Output, CommandError> {
        let home = Home::locate().map_err(CommandError::from_error)?;
        let settings = home.settings().map_err(CommandError::from_error)?;
        let mut status = match control::ask(home.state_dir(), &Request::Status, |_| ()) {
            Ok(status) => status,
            Err(ControlError::NotRunning) => json!({ "mounted_on": null, "store": settings.store }),
            Err(error) => return Err(error.into()),
        };
        let overdue = super::schedule::overdue(&home, crate::archive::now_seconds());
        let exit = if overdue.is_some() { 4 } else { 0 };
        status["backup_overdue"] = json!(overdue);
        let text = describe(&status);
        Ok(Output::new(text, status).with_exit(exit))
    }
}

fn describe(status: &Value) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    let bytes = |name: &str| indicatif::HumanBytes(status[name].as_u64().unwrap_or(0)).to_string();
    row("store", text(&status["store"]));
    if status["mounted_on"].is_null() {
        row(
            "drive",
            "not mounted; mount it with: holdfast mount DIR".into(),
        );
    } else {
        row("drive", text(&status["mounted_on"]));
        row("device", text(&status["device"]));
        row(
            "to store",
            format!(
                "{}, {} changed files",
                bytes("queued_bytes"),
                status["changed_files"]
            ),
        );
        row(
            "rate",
            format!(
                "{}/s, {} since the mount",
                bytes("bytes_per_second"),
                bytes("stored_bytes")
            ),
        );
        row("last snapshot", last_snapshot(status));
        row(
            "log",
            format!("{} of {}", bytes("log_bytes"), bytes("log_limit_bytes")),
        );
        row(
            "memory",
            format!("{} of file content on its way", bytes("memory_bytes")),
        );
        row(
            "cache",
            format!(
                "{} in memory, {} on disk",
                bytes("cache_memory_bytes"),
                bytes("cache_disk_bytes")
            ),
        );
        for (name, key) in [("trouble", "trouble"), ("read-only", "read_only")] {
            if !status[key].is_null() {
                row(name, text(&status[key]));
            }
        }
        keystore_rows(&status["keystore"], &mut row);
        for (name, value) in status["store_state"].as_object().into_iter().flatten() {
            row(&format!("store: {}", name.replace('_', " ")), text(value));
        }
    }
    if !status["backup_overdue"].is_null() {
        table.add_row(["backup".to_owned(), text(&status["backup_overdue"])]);
    }
    table.to_string()
}

/// Nothing for a home without a keystore.
fn keystore_rows(keystore: &Value, row: &mut impl FnMut(&str, String)) {
    if keystore.is_null() {
        return;
    }
    row("keystore", text(&keystore["address"]));
    if let Some(since) = keystore["trouble_since"].as_i64() {
        let since = shown_time(Time {
            seconds: since,
            nanos: 0,
        });
        let trouble = text(&keystore["trouble"]);
        row(
            "keystore: trouble",
            format!("since {since}: {trouble}. Writes go on into the log and are stored later"),
        );
    }
    if let Some(admins) = keystore["admins"].as_str() {
        row("keystore: ADMINS", admins.to_owned());
    }
    row("keystore: device", text(&keystore["device"]));
    row("keystore: lease", lease(&keystore["lease"]));
}

fn lease(lease: &Value) -> String {
    match lease["days"].as_u64() {
        Some(days) => format!("{days} days, renewed while the keystore answers"),
        None => text(lease),
    }
}

/// The newest snapshot of this device and those that are on their way.
fn last_snapshot(status: &Value) -> String {
    let mut told = text(&status["last_snapshot"]);
    if let Some(seconds) = status["last_snapshot_time"].as_i64() {
        told.push_str(&format!(", {}", shown_time(Time { seconds, nanos: 0 })));
    }
    let pending: Vec<String> = status["pending_snapshots"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();
    if !pending.is_empty() {
        told.push_str(&format!("; being stored: {}", pending.join(", ")));
    }
    told
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".into(),
        other => other.to_string(),
    }
}
