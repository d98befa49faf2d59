//! `holdfast snapshots`

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::format::CommitKind;
use crate::snapshots::Snapshot;

use super::opening::{full_name, shown_bytes, shown_time};
use super::{CommandError, Context, Output, opening};

/// Arguments of `snapshots`.
#[derive(Args)]
pub struct Snapshots {
    /// Only this device's
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
}

impl Snapshots {
    /// Lists the snapshots of all devices, oldest first.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let archive = opening::archive(context)?;
        let mut snapshots = archive.snapshots().map_err(CommandError::from_error)?;
        if let Some(device) = &self.device {
            snapshots.retain(|snapshot| {
                snapshot.device == *device || snapshot.name.device.to_string() == *device
            });
        }
        let json = json!({ "snapshots": snapshots.iter().map(as_json).collect::<Vec<_>>() });
        if snapshots.is_empty() {
            return Ok(Output::new(
                "there are no snapshots yet; take one with: holdfast snapshot\n",
                json,
            ));
        }
        Ok(Output::new(table(&snapshots), json))
    }
}

fn table(snapshots: &[Snapshot]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "SNAPSHOT", "DEVICE", "TIME", "LABEL", "FILES", "SIZE", "NEW",
    ]);
    for snapshot in snapshots {
        table.add_row([
            snapshot.folder.clone(),
            snapshot.device.clone(),
            shown_time(snapshot.time),
            snapshot.label.clone().unwrap_or_default(),
            snapshot.totals.files.to_string(),
            shown_bytes(snapshot.totals.bytes),
            shown_bytes(snapshot.stored_bytes),
        ]);
    }
    for column in 4..=6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// One snapshot for a program.
pub(super) fn as_json(snapshot: &Snapshot) -> Value {
    json!({
        "name": snapshot.folder,
        "full_name": full_name(snapshot),
        "device": snapshot.device,
        "device_id": snapshot.name.device.to_string(),
        "sequence": snapshot.name.sequence,
        "commit": snapshot.name.to_string(),
        "time": shown_time(snapshot.time),
        "label": snapshot.label,
        "kind": match snapshot.kind {
            CommitKind::Checkpoint => "checkpoint",
            CommitKind::Automatic => "automatic",
            CommitKind::Requested => "requested",
        },
        "pinned": snapshot.pinned,
        "files": snapshot.totals.files,
        "folders": snapshot.totals.directories,
        "bytes": snapshot.totals.bytes,
        "stored_bytes": snapshot.stored_bytes,
    })
}
