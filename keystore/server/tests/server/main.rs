//! The real server over real TLS.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod cli;
mod sinks;
mod support;

mod access;
mod alerts;
mod audit;
mod ceremonies;
mod cli_policy;
mod cli_users;
mod clock;
mod description;
mod enrolment;
mod grants;
mod hostile;
mod process;
mod secrets;
mod snapshots;
mod thin_thread;
