//! The command line: one file per command below `cli/`, each with its arguments and a `run`.
//!
//! A command returns an [`Output`]: text for a person, one JSON value for a program, and the exit
//! code. Nothing else in the program writes to standard output, so that `--json` is always exactly
//! one JSON document. Progress goes to standard error.
//!
//! Exit codes: 0 done; 1 refused or failed, with one sentence; 2 wrong arguments (clap's);
//! 3 done, but some files could not be read, restored or verified; 4 a backup is overdue (`status`).

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod command_error;
mod context;
mod progress;

pub use command_error::CommandError;
pub use context::Context;
pub use progress::Progress;

mod backup;
mod cat;
mod check;
mod compact;
mod completions;
mod devices;
mod diff;
mod enrol;
mod find;
mod flush;
mod forget;
mod gc;
mod heal;
mod init;
mod joining;
mod key;
mod listing;
mod login;
mod logout;
mod ls;
mod man;
mod mount;
mod opening;
mod password;
mod proving;
mod recover;
mod restore;
mod schedule;
mod scrub;
mod secrets;
mod snapshot;
mod snapshots;
mod status;
mod store_arguments;
mod undelete;
mod unmount;

/// Encrypted backup drive: mount a folder, copy files in, browse dated snapshots to restore.
#[derive(Parser)]
#[command(name = "holdfast", version, max_term_width = 100)]
pub struct Arguments {
    /// Print one machine-readable JSON result on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// What to log: error, warn, info, debug, trace, or a filter such as `holdfast=debug`
    #[arg(long, global = true, value_name = "LEVEL", env = "HOLDFAST_LOG")]
    pub log_level: Option<String>,
    /// Upload at most this many bytes per second (suffixes k, M, G; 0 = no limit)
    #[arg(long, global = true, value_name = "RATE", value_parser = parse_bytes)]
    pub limit_upload: Option<u64>,
    /// Download at most this many bytes per second (suffixes k, M, G; 0 = no limit)
    #[arg(long, global = true, value_name = "RATE", value_parser = parse_bytes)]
    pub limit_download: Option<u64>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands. The order is the one in which a new user meets them.
#[derive(Subcommand)]
pub enum Command {
    /// Make an archive in a folder or bucket, and print its recovery code
    Init(init::Init),
    /// Join an archive from a new computer, with its recovery code
    Recover(recover::Recover),
    /// Enrol at a keystore with a token from its operator, and print the recovery code
    Enrol(enrol::Enrol),
    /// Make this computer a device of somebody who is enrolled, with password and second factor
    Login(login::Login),
    /// Mount the drive on an empty folder
    Mount(mount::Mount),
    /// Unmount the drive and wait until everything is in the store
    Unmount(unmount::Unmount),
    /// Show the queue, the store and the last snapshot
    Status(status::StatusCommand),
    /// Wait until everything written before is in the store
    Flush(flush::Flush),
    /// Take a snapshot of current/ and wait until it is stored
    Snapshot(snapshot::Snapshot),
    /// List the snapshots of all devices
    Snapshots(snapshots::Snapshots),
    /// List a folder of a snapshot
    Ls(ls::Ls),
    /// Print a file of a snapshot
    Cat(cat::Cat),
    /// Look for a name in all snapshots
    Find(find::Find),
    /// List what differs between two snapshots
    Diff(diff::Diff),
    /// Restore a snapshot, or a part of it, into a folder
    Restore(restore::Restore),
    /// Run a backup by itself: every hour, day or week (systemd)
    Schedule(schedule::Schedule),
    /// Check every reference, and with --read-data every chunk; names the files that are damaged
    Check(check::Check),
    /// Check every object in the store against its name; needs no key
    Scrub(scrub::Scrub),
    /// Store again what is missing or damaged and can still be had: from the log, the caches, other packs,
    /// or a folder given with --from
    Heal(heal::Heal),
    /// Give up snapshots; their data stays until gc deletes it
    Forget(forget::Forget),
    /// Delete what no kept snapshot needs, a grace period after saying so; needs no key
    Gc(gc::Gc),
    /// Take forgotten snapshots back, as long as their data is there
    Undelete(undelete::Undelete),
    /// Copy what is used out of packs that are mostly unused, so that gc can free them
    Compact(compact::Compact),
    /// Bring folders into the drive, without the mount, and take a snapshot
    Backup(backup::Backup),
    /// List your devices at the keystore
    Devices(devices::Devices),
    /// Take a device its access: it wipes its key when it hears of it, and cannot open it again otherwise
    Deauthorise(devices::Deauthorise),
    /// Set a new password
    Password(password::Password),
    /// Show or export the recovery code, after password and second factor
    Key(key::Key),
    /// Deauthorise this computer and wipe its keys
    Logout(logout::Logout),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Print the manual page, or write one page per command into a folder
    Man(man::Man),
}

/// What a command has to say.
pub struct Output {
    /// For a person; empty when there is nothing to add.
    pub text: String,
    /// For a program (`--json`).
    pub json: serde_json::Value,
    /// 0, or 3 and 4 as described in the module.
    pub exit: u8,
    /// Whether everything has been said already.
    pub silent: bool,
}

impl Output {
    /// A success with a text and its JSON form.
    pub fn new(text: impl Into<String>, json: serde_json::Value) -> Output {
        Output {
            text: text.into(),
            json,
            exit: 0,
            silent: false,
        }
    }

    /// The same, with nothing printed as JSON: a command that runs on has given its result already.
    #[must_use]
    pub fn silent(self) -> Output {
        Output {
            silent: true,
            ..self
        }
    }

    /// The same with another exit code.
    #[must_use]
    pub fn with_exit(self, exit: u8) -> Output {
        Output { exit, ..self }
    }
}

/// Parses the arguments, runs the command, prints its result.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    match run(arguments) {
        Ok(output) => finish(&output, json),
        Err(error) => fail(&error, json),
    }
}

fn run(arguments: Arguments) -> Result<Output, CommandError> {
    let context = Context::new(&arguments);
    match arguments.command {
        Command::Init(command) => command.run(&context),
        Command::Recover(command) => command.run(&context),
        Command::Enrol(command) => command.run(&context),
        Command::Login(command) => command.run(&context),
        Command::Mount(command) => command.run(&context),
        Command::Unmount(command) => command.run(&context),
        Command::Status(command) => command.run(),
        Command::Flush(command) => command.run(&context),
        Command::Snapshot(command) => command.run(&context),
        Command::Snapshots(command) => command.run(&context),
        Command::Ls(command) => command.run(&context),
        Command::Cat(command) => command.run(&context),
        Command::Find(command) => command.run(&context),
        Command::Diff(command) => command.run(&context),
        Command::Restore(command) => command.run(&context),
        Command::Schedule(command) => command.run(&context),
        Command::Check(command) => command.run(&context),
        Command::Scrub(command) => command.run(&context),
        Command::Heal(command) => command.run(&context),
        Command::Forget(command) => command.run(&context),
        Command::Gc(command) => command.run(&context),
        Command::Undelete(command) => command.run(&context),
        Command::Compact(command) => command.run(&context),
        Command::Backup(command) => command.run(&context),
        Command::Devices(command) => command.run(&context),
        Command::Deauthorise(command) => command.run(&context),
        Command::Password(command) => command.run(&context),
        Command::Key(command) => command.run(&context),
        Command::Logout(command) => command.run(&context),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    }
    .inspect_err(|_| context.quiet())
}

fn finish(output: &Output, json: bool) -> ExitCode {
    if json && output.silent {
        return ExitCode::from(output.exit);
    }
    let mut line = if json {
        output.json.to_string()
    } else {
        output.text.clone()
    };
    if !line.is_empty() && !line.ends_with('\n') {
        line.push('\n');
    }
    // A reader that has gone (`holdfast ls | head`) is no failure of the command.
    let _ = std::io::stdout().write_all(line.as_bytes());
    ExitCode::from(output.exit)
}

fn fail(error: &CommandError, json: bool) -> ExitCode {
    if json {
        let document = serde_json::json!({ "error": error.to_string() });
        let _ = writeln!(std::io::stdout(), "{document}");
    }
    let _ = writeln!(std::io::stderr(), "holdfast: {error}");
    ExitCode::from(1)
}

/// `10M` and the like: bytes, with decimal suffixes as the field uses them for rates.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "B" => 1,
        "k" | "K" | "kB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "T" | "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => {
            return Err(format!(
                "`{other}` is no unit; use k, M, G, T or KiB, MiB, GiB"
            ));
        }
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("`{digits}` is no whole number"))?;
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("{text} is too large"))
}

/// The clap definition, for completions and manual pages.
pub(crate) fn definition() -> clap::Command {
    Arguments::command()
}
