//! The drive's end of the keystore: how a computer reaches it, and every call of `docs/protocol/enrol.md`.
//!
//! ```text
//! address, pin ──▶ trust ──▶ connection (TLS 1.3, HTTP/2) ──▶ calls
//!                  identity ───┘ (certificate of the device)
//! ```
//!
//! A [`Client`] has one connection, over which many calls go at once, and makes a new one when it breaks. A login needs two calls on
//! one connection, whose TLS keys go into the proof of the password: a [`LoginConnection`].
//!
//! Nothing is kept on disk here: what is to be kept, the caller is given.

#![forbid(unsafe_code)]

mod address;
mod error;
mod identity;

mod trust;

mod connection;

mod client;
mod login;

mod calls;

mod account;
mod enrolment;
mod proof;

pub use account::{AccountError, NewDevice};
pub use address::{AddressError, ServerAddress};
pub use client::Client;
pub use enrolment::{Certified, Enrolment, Escrowed};
pub use error::ClientError;
pub use identity::{DeviceKey, Identity, IdentityError};
pub use login::LoginConnection;
pub use proof::{Changing, Credentials, LoggedIn, Opened, Proof};

/// The messages.
pub use holdfast_protocol::calls as messages;
/// What the two ends do with keys.
pub use holdfast_protocol::escrow;
/// Names and ids in them.
pub use holdfast_protocol::names;
