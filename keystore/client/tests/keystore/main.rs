//! The client against the real keystore, over real TLS.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod support;

mod connection;
mod devices;
mod enrolment;
mod password;
