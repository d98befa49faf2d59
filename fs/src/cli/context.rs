//! What every command is given: the global options, and whether a person is watching.

use std::io::IsTerminal;

use super::{Arguments, Progress};

/// Global options and the terminal.
pub struct Context {
    /// `--json`
    pub json: bool,
    /// `--log-level`
    pub log_level: Option<String>,
    /// `--limit-upload`, bytes per second; `None` leaves the setting as it is.
    pub limit_upload: Option<u64>,
    /// `--limit-download`, bytes per second.
    pub limit_download: Option<u64>,
}

impl Context {
    /// Takes the global options out of the arguments.
    pub fn new(arguments: &Arguments) -> Context {
        Context {
            json: arguments.json,
            log_level: arguments.log_level.clone(),
            limit_upload: arguments.limit_upload,
            limit_download: arguments.limit_download,
        }
    }

    /// A progress line on standard error, if a person is watching; it appears after one second.
    pub fn progress(&self, what: &'static str) -> Progress {
        if std::io::stderr().is_terminal() && !self.json {
            Progress::shown(what)
        } else {
            Progress::hidden()
        }
    }

    /// Clears what a progress line may have left.
    pub fn quiet(&self) {}

    /// The global options again, for a process that this one starts.
    pub fn as_arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                arguments.extend([name.to_owned(), value]);
            }
        };
        option("--log-level", self.log_level.clone());
        option(
            "--limit-upload",
            self.limit_upload.map(|rate| rate.to_string()),
        );
        option(
            "--limit-download",
            self.limit_download.map(|rate| rate.to_string()),
        );
        arguments
    }
}
