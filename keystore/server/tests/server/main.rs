//! The real server over real TLS.

mod sinks;
mod support;

mod access;
mod alerts;
mod audit;
mod ceremonies;
mod description;
mod hostile;
mod process;
mod snapshots;
mod thin_thread;
