//! Sealing and unsealing: the state machine of the keystore, without sockets, clock or disk; and the [messages](calls) between drive and keystore.
//!
//! ```text
//! shares -> unseal key -> root key -> keyring -> records
//!           (combined)    (header)   (keyring)   (barrier, manifest)
//! ```
//!
//! [`Keystore<Sealed>`] has no key field; only [`submit`](Keystore::submit) of the last share that is needed makes a
//! [`Keystore<Unsealed>`] of it, and [`seal`](Keystore::seal) drops the keys again. Time is passed in, and so is storage: a
//! [`RecordStore`] whose [`apply`](RecordStore::apply) is atomic and durable. Everything that changes more than one
//! record is one `apply`, so a crash leaves what was there before, or all of what came after.

#![forbid(unsafe_code)]

pub mod names;
pub mod whole;

pub mod calls;
pub mod escrow;

mod path;
mod store;

mod header;
mod manifest;

mod ceremony;
mod keystore;
mod reshare;
mod unsealed;

pub use ceremony::{Ceremony, Progress, Refusal, RefusalReason, Submission};
pub use header::{HeldShare, InitPlan, PlanError, SealHeader};
/// A share, made by the crypto crate, and what is wrong with one that was typed.
pub use holdfast_crypto::{Share, ShareError};
pub use keystore::{Keystore, KeystoreError, Sealed, initialise, load};
pub use path::{PathError, RecordPath};
pub use reshare::NewSubmission;
pub use store::memory::MemoryRecords;
pub use store::{Change, RecordStore, StoreError, StoredRecord, read_record, write_record};
pub use unsealed::{RecordWrite, Unsealed};

#[cfg(feature = "testing")]
pub use store::conformance;

#[cfg(test)]
mod tests;
