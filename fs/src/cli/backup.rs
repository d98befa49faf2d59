//! `holdfast backup PATH...`

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{CommandError, Context, Output, Progress};
use crate::backup::{self, BackupProgress, BackupReport, BackupRequest};
use crate::control::{self, ControlError, Request};
use crate::engine::{Engine, EngineOptions};
use crate::home::Home;

/// Exit code of a backup that could not read everything.
const INCOMPLETE: u8 = 3;

/// Arguments of `backup`.
#[derive(Args)]
pub struct Backup {
    /// Folders and files to bring in, each under its own absolute path
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Bring them into this folder of the drive instead, each under its last name
    #[arg(long, value_name = "FOLDER")]
    to: Option<OsString>,
    /// Leave out what matches: a name (`*.o`), the end of a path (`target/debug`), a whole path
    /// (`/home/*/.cache`); `**` matches `/` too, a final `/` folders only
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Leave out what matches a line of this file
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Leave out what is in folders that a CACHEDIR.TAG marks as caches
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out other file systems that are mounted below the paths
    #[arg(long)]
    one_file_system: bool,
}

impl Backup {
    /// Mirrors the paths into `current/`, takes a snapshot and waits until it is stored. Goes through
    /// the running drive if there is one.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let request = self.request()?;
        let home = Home::locate().map_err(CommandError::from_error)?;
        let bar = Bar {
            progress: context.progress("backing up"),
            read_bytes: parking_lot::Mutex::new(0),
        };
        let asked = Request::Backup {
            arguments: json!(request),
        };
        let report = match control::ask(home.state_dir(), &asked, |line| bar.show(line)) {
            Err(ControlError::NotRunning) => run_here(home, context, &request, &bar)?,
            report => serde_json::from_value(report.map_err(CommandError::from_error)?).map_err(
                |error| CommandError::because("the running drive is of another version", error),
            )?,
        };
        bar.progress.finish();
        let exit = if report.is_complete() { 0 } else { INCOMPLETE };
        Ok(Output::new(text_of(&report), json!(report)).with_exit(exit))
    }

    fn request(self) -> Result<BackupRequest, CommandError> {
        let mut exclude = self.exclude;
        for file in &self.exclude_file {
            let text = std::fs::read_to_string(file).map_err(|error| {
                CommandError::because(format!("cannot read {}", file.display()), error)
            })?;
            exclude.extend(backup::patterns_of(&text));
        }
        let absolute = |path: &PathBuf| {
            std::path::absolute(path)
                .map(PathBuf::into_os_string)
                .map_err(|error| {
                    CommandError::because(format!("{} is no path", path.display()), error)
                })
        };
        Ok(BackupRequest {
            paths: self.paths.iter().map(absolute).collect::<Result<_, _>>()?,
            to: self.to,
            exclude,
            exclude_caches: self.exclude_caches,
            one_file_system: self.one_file_system,
        })
    }
}

fn run_here(
    home: Home,
    context: &Context,
    request: &BackupRequest,
    bar: &Bar,
) -> Result<BackupReport, CommandError> {
    let options = EngineOptions {
        limit_upload: context.limit_upload,
        limit_download: context.limit_download,
        automatic_snapshots: Some(false),
        ..EngineOptions::default()
    };
    let engine = Engine::open(home, options).map_err(CommandError::from_error)?;
    let report = backup::run(&engine, request, &|progress| bar.tell(&progress));
    engine.filesystem.shutdown(None);
    report.map_err(CommandError::from_error)
}

/// A progress bar of what is read.
struct Bar {
    progress: Progress,
    read_bytes: parking_lot::Mutex<u64>,
}

impl Bar {
    fn show(&self, line: &Value) {
        if let Ok(progress) = serde_json::from_value(line.clone()) {
            self.tell(&progress);
        }
    }

    fn tell(&self, state: &BackupProgress) {
        let mut read_bytes = self.read_bytes.lock();
        self.progress
            .advance(state.read_bytes.saturating_sub(*read_bytes));
        *read_bytes = state.read_bytes;
        self.progress.say(match state.is_storing {
            true => "storing the snapshot".to_owned(),
            false => format!("{} files, read", state.files),
        });
    }
}

fn text_of(report: &BackupReport) -> String {
    let mut lines = vec![
        format!("snapshot {}", report.snapshot),
        format!("{} files, {}", report.files, bytes(report.bytes)),
        format!(
            "{} new or changed, {} unchanged, {} removed; {} read, {} stored in {:.1} s",
            report.copied,
            report.unchanged,
            report.removed,
            bytes(report.read_bytes),
            bytes(report.stored_bytes),
            report.seconds,
        ),
    ];
    lines.extend(
        report
            .torn
            .iter()
            .map(|path| format!("changed while it was read: {path}")),
    );
    lines.extend(
        report
            .unreadable
            .iter()
            .map(|problem| format!("not backed up: {}: {}", problem.path, problem.why)),
    );
    lines.join("\n")
}

fn bytes(number: u64) -> String {
    indicatif::HumanBytes(number).to_string()
}
