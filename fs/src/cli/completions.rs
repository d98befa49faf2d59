//! `holdfast completions SHELL`

use clap::Args;
use clap_complete::Shell;

use super::{CommandError, Output, definition};

/// Arguments of `completions`.
#[derive(Args)]
pub struct Completions {
    /// The shell that will read the script
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    pub fn run(self) -> Result<Output, CommandError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut definition(), "holdfast", &mut script);
        let text = String::from_utf8_lossy(&script).into_owned();
        let json = serde_json::json!({ "shell": self.shell.to_string(), "script": text });
        Ok(Output::new(text, json))
    }
}
