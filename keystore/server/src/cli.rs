//! The command line: one file per command below `cli/`.
//!
//! Every command speaks to a running server, as one person, over that person's certificate; but for `serve`, `audit verify FILE`, and those of
//! `policy` that make keys and sign with them, which belong on a computer without a network.
//! Shares come by prompt or from a file, never as an argument or from the environment, where other programs could see them.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use serde_json::json;

mod answer;
mod connection;
mod new_file;
mod size;
mod typed_share;

mod gc;
mod hand_out;
mod share_page;

mod audit;
mod init;
mod operator;
mod policy;
mod reshare;
mod rotate;
mod seal;
mod serve;
mod share;
mod snapshot;
mod status;
mod unseal;
mod user;

use crate::client::ClientError;
use crate::config::LockMemory;
use crate::hygiene;
use answer::Answer;
use connection::Connection;

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
    #[command(flatten)]
    connection: Connection,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Tell how the keystore is
    Status,
    /// Make the keys, and hand out their shares
    Init(init::Init),
    /// Start to open the keystore, or enter a share
    Unseal(unseal::Unseal),
    /// Forget the keys at once
    Seal,
    /// Look at a share without unsealing anything
    #[command(subcommand)]
    Share(share::Share),
    /// Give out new shares in place of the old ones
    #[command(subcommand)]
    Reshare(reshare::Reshare),
    /// Change a key
    #[command(subcommand)]
    Rotate(rotate::Rotate),
    /// Delete what no user's archive needs any more; the server does it by itself every day
    Gc(gc::Gc),
    /// Copy the database, or put a copy on an empty server
    #[command(subcommand)]
    Snapshot(snapshot::Snapshot),
    /// Say who may come in
    #[command(subcommand)]
    Operator(operator::Operator),
    /// Invite users, and say what they may do
    #[command(subcommand)]
    User(user::User),
    /// Say who the recovery admins are
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Read and check the audit log
    #[command(subcommand)]
    Audit(audit::Audit),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    let done = match arguments.command {
        Command::Serve(serve) => serve.run(json, arguments.log_level.as_deref()),
        command => ask(command, &arguments.connection).and_then(|answer| answer.print(json)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            refuse(&error, json);
            ExitCode::FAILURE
        }
    }
}

/// Everything that a server is asked for.
fn ask(command: Command, connection: &Connection) -> anyhow::Result<Answer> {
    // A share that is typed must not come out by a core dump either.
    hygiene::protect(LockMemory::Try)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the command cannot be run")?;
    runtime.block_on(async {
        match command {
            Command::Serve(_) => unreachable!("it is no question to a server"),
            Command::Status => status::run(connection).await,
            Command::Init(init) => init.run(connection).await,
            Command::Unseal(unseal) => unseal.run(connection).await,
            Command::Seal => seal::run(connection).await,
            Command::Share(share) => share.run(connection).await,
            Command::Reshare(reshare) => reshare.run(connection).await,
            Command::Rotate(rotate) => rotate.run(connection).await,
            Command::Gc(gc) => gc.run(connection).await,
            Command::Snapshot(snapshot) => snapshot.run(connection).await,
            Command::Operator(operator) => operator.run(connection).await,
            Command::User(user) => user.run(connection).await,
            Command::Policy(policy) => policy.run(connection).await,
            Command::Audit(audit) => audit.run(connection).await,
        }
    })
}

/// One sentence on standard error, and with `--json` the same as JSON on standard output.
fn refuse(error: &anyhow::Error, json: bool) {
    eprintln!("{error:#}");
    if json {
        let mut told = json!({ "error": format!("{error:#}") });
        if let Some(ClientError::Refused(body)) = error.downcast_ref() {
            told["refused"] = json!(body);
        }
        // Nobody reads it any more if this fails, and the exit code tells all the same.
        let _ = writeln!(std::io::stdout(), "{told}");
    }
}
