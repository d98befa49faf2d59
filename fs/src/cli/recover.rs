//! `holdfast recover STORE`

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use holdfast_crypto::RecoveryCode;
use serde_json::json;
use zeroize::Zeroizing;

use crate::archive::{Archive, ArchiveError, open_store};
use crate::format::{DeviceRecord, Time};
use crate::snapshots::Snapshot;

use super::store_arguments::{StoreArguments, computer_name};
use super::{CommandError, Context, Output, opening};

/// Arguments of `recover`.
#[derive(Args)]
pub struct Recover {
    #[command(flatten)]
    store: StoreArguments,
    /// Start current/ with what this device stored last; empty unless given
    #[arg(long, value_name = "DEVICE")]
    from: Option<String>,
    /// What this computer is called in snapshots/; its host name unless given
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Read the recovery code from this file (`-` is standard input) instead of asking for it
    #[arg(long, value_name = "FILE")]
    recovery_code_file: Option<PathBuf>,
}

impl Recover {
    /// Joins an archive as a new device.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let home = opening::home()?;
        home.check_unused().map_err(CommandError::from_error)?;
        let settings = self.store.settings(context)?;
        let location = settings.store.clone();
        let store = open_store(&settings).map_err(CommandError::from_error)?;
        let code = read_code(self.recovery_code_file.as_deref())?;
        let devices =
            Archive::devices_with_code(&store, &code).map_err(CommandError::from_error)?;
        let asks = self.from.is_none() && self.recovery_code_file.is_none();
        let from = if asks {
            ask_for_device(&devices)?
        } else {
            self.from
        };
        let device = self.device.unwrap_or_else(computer_name);
        let archive = Archive::recover(store, &home, settings, &code, &device, from.as_deref())
            .map_err(CommandError::from_error)?;
        let start = start_of(&archive, from.as_deref()).map_err(CommandError::from_error)?;
        let device = archive.device_record().name;
        let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
        let text = format!(
            "This computer is now the device {device:?} of the archive in {location}.\n\
             current/ starts {}.\n\
             Devices of the archive before: {}\n\n\
             Next: holdfast snapshots, holdfast mount DIR\n",
            told(from.as_deref(), start.as_ref()),
            names.join(", "),
        );
        let json = json!({
            "store": location,
            "device": device,
            "device_id": archive.device().to_string(),
            "from": from,
            "from_time": start.as_ref().map(|start| opening::shown_time(start.time)),
            "from_snapshot": start.as_ref().and_then(|start| start.snapshot.as_deref()),
            "devices": names,
        });
        Ok(Output::new(text, json))
    }
}

/// What `current/` starts with.
struct Start {
    time: Time,
    /// The snapshot that it is; a flush leaves what is none.
    snapshot: Option<String>,
}

fn start_of(archive: &Archive, from: Option<&str>) -> Result<Option<Start>, ArchiveError> {
    let (Some(from), Some((_, commit))) = (from, archive.head()) else {
        return Ok(None);
    };
    let snapshots = archive.snapshots()?;
    let is_it = |snapshot: &Snapshot| {
        let device = snapshot.device == from || snapshot.name.device.to_string() == from;
        device && snapshot.time == commit.time
    };
    let snapshot = snapshots.into_iter().rfind(is_it);
    Ok(Some(Start {
        time: commit.time,
        snapshot: snapshot.map(|snapshot| snapshot.folder),
    }))
}

fn told(from: Option<&str>, start: Option<&Start>) -> String {
    match (from, start) {
        (None, _) => {
            "empty (--from DEVICE would have started it with what that device stored last)".into()
        }
        (Some(from), None) => format!("empty: {from:?} has stored nothing yet"),
        (Some(from), Some(start)) => {
            let time = opening::shown_time(start.time);
            match &start.snapshot {
                Some(name) => format!("as the snapshot {name:?} of {from:?}, its newest ({time})"),
                None => format!(
                    "with what {from:?} stored last ({time}), which is newer than its snapshots"
                ),
            }
        }
    }
}

fn read_code(file: Option<&Path>) -> Result<RecoveryCode, CommandError> {
    let typed = match file {
        Some(file) if file == Path::new("-") => read_line(),
        Some(file) => std::fs::read_to_string(file).map(Zeroizing::new),
        None if std::io::stdin().is_terminal() => {
            rpassword::prompt_password("Recovery code: ").map(Zeroizing::new)
        }
        None => {
            return Err(CommandError::new(
                "the recovery code is asked for on a terminal; use --recovery-code-file FILE without one",
            ));
        }
    };
    let typed = typed
        .map_err(|error| CommandError::because("the recovery code could not be read", error))?;
    RecoveryCode::parse(typed.trim()).map_err(CommandError::from_error)
}

fn read_line() -> std::io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(256));
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}

fn ask_for_device(devices: &[DeviceRecord]) -> Result<Option<String>, CommandError> {
    let mut terminal = std::io::stderr();
    let ask = |terminal: &mut std::io::Stderr| -> std::io::Result<String> {
        writeln!(terminal, "Devices of this archive:")?;
        for device in devices {
            writeln!(terminal, "  {}", device.name)?;
        }
        write!(
            terminal,
            "Start current/ with what was stored last by (nothing: start empty): "
        )?;
        terminal.flush()?;
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        Ok(line.trim().to_owned())
    };
    let answer = ask(&mut terminal)
        .map_err(|error| CommandError::because("the device could not be asked for", error))?;
    Ok((!answer.is_empty()).then_some(answer))
}
