//! `holdfast snapshot [LABEL]`

use clap::Args;
use serde_json::{Value, json};

use super::{CommandError, Context, Output};
use crate::control::{self, ControlError, Request};
use crate::engine::{Engine, EngineOptions};
use crate::home::Home;

/// Arguments of `snapshot`.
#[derive(Args)]
pub struct Snapshot {
    /// A name; snapshots that have one are kept until they are forgotten by name
    label: Option<String>,
}

impl Snapshot {
    /// Takes a snapshot of `current/` and waits until it is stored; prints its name.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let home = Home::locate().map_err(CommandError::from_error)?;
        let progress = context.progress("storing the snapshot");
        let request = Request::Snapshot {
            label: self.label.clone(),
        };
        let taken = match control::ask(home.state_dir(), &request, |line| {
            super::unmount::show_queue(&progress, line)
        }) {
            Err(ControlError::NotRunning) => self.take_unmounted(home, context)?,
            taken => taken?,
        };
        progress.finish();
        let name = taken["name"].as_str().unwrap_or_default().to_owned();
        Ok(Output::new(name, taken))
    }

    fn take_unmounted(&self, home: Home, context: &Context) -> Result<Value, CommandError> {
        let options = EngineOptions {
            limit_upload: context.limit_upload,
            limit_download: context.limit_download,
            automatic_snapshots: Some(false),
            ..EngineOptions::default()
        };
        let engine = Engine::open(home, options).map_err(CommandError::from_error)?;
        let drive = &engine.filesystem;
        let taken = drive
            .begin_snapshot(self.label.as_deref())
            .and_then(|ticket| drive.wait_snapshot(ticket, None))
            .map_err(|error| CommandError::because("no snapshot was taken", error));
        drive.shutdown(None);
        Ok(json!(taken?))
    }
}
