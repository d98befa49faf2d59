//! The keystore's server: sealed and unsealed, its ceremonies over HTTPS, audit and alerts.
//!
//! The order of a call: the listener takes the connection and proves the certificate's key; the gate looks up who it is, asks the
//! table of calls, and puts the call on record; the route reads the body; the ceremony takes the vault's lock, writes
//! its line, acts. See `docs/operations.md` for running it, `docs/protocol/` for the ceremonies.
//!
//! ```text
//! listener -> tls -> api/access (who, may it, audit line) -> api/ROUTE -> ceremonies -> vault -> records
//!                                                               |
//!                                                               +-> audit (fsync) -> alerts
//! ```

#![forbid(unsafe_code)]

pub mod names;

pub mod cli;
pub mod client;
pub mod clock;

pub mod config;
pub mod data_folder;
pub mod hygiene;
pub mod serve;

pub mod listener;
pub mod tls;

pub mod api;
pub mod limits;
pub mod server;

pub mod background;
pub mod ceremonies;
pub mod collecting;
pub mod handing_out;
pub mod snapshots;
pub mod stores;
pub mod vault;

pub mod accounts;
pub mod sessions;

pub mod authority;
pub mod persons;
pub mod records;

pub mod alerts;
pub mod audit;
pub mod metrics;
