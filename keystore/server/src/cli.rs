//! The command line: one file per command below `cli/`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod serve;

/// The keystore: a sealed server that holds the keys of many archives.
#[derive(Parser)]
#[command(name = "holdfast-keystore", version, max_term_width = 100)]
pub struct Arguments {
    /// Print one machine-readable JSON result on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// What to log: error, warn, info, debug, trace, or a filter such as `holdfast_keystore=debug`
    #[arg(long, global = true, value_name = "LEVEL", env = "HOLDFAST_LOG")]
    pub log_level: Option<String>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Run the server
    Serve(serve::Serve),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Serve(serve) => serve.run(arguments.json, arguments.log_level.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            refuse(&error, arguments.json);
            ExitCode::FAILURE
        }
    }
}

/// One sentence on standard error, and with `--json` the same as JSON on standard output.
fn refuse(error: &anyhow::Error, json: bool) {
    eprintln!("{error:#}");
    if json {
        println!("{}", serde_json::json!({ "error": format!("{error:#}") }));
    }
}
