//! Every key type and every cipher call of Holdfast.
//!
//! Nothing outside this crate names a cipher, a hash with a key, or a signature. What leaves it is
//! either a [`Ciphertext`], a wrapped key, a public key or an id; a secret leaves only through
//! `expose_secret`, which is easy to search for. Every byte made here is described in
//! `docs/format/keys.md`, well enough to be read again without this code.
//!
//! ```text
//! recovery code ── key pair ──unwraps──▶ user key ──▶ keyring key ──opens──▶ archive secret
//!                                                                              │
//!        session key ◀──unwraps── archive key pair ◀───────────────────────────┤
//!             │                                       chunk ids, cutting, names, index, commits
//!             └──▶ chunks
//! ```
//!
//! There is no state on disk here and nothing to lose in a crash: each call is a function of its
//! arguments and of the kernel's random generator.

#![forbid(unsafe_code)]

mod ids;

mod error;
mod secret;

mod derive;
mod xaes;

mod ciphertext;
mod commitment;
mod hpke_wrap;
mod wrapped;

mod printed;
mod recovery_code;
mod user_key;

mod archive;
mod session_key;

mod log_key;
mod signature;

mod share;
mod unseal_key;

mod barrier;

mod local_key;
mod password;
mod policy_key;
mod quorum;
mod second_factor;
mod slots_key;

pub use archive::{
    ArchiveKeyPair, ArchivePublicKey, ArchiveSecret, ChunkIdKey, ChunkerKey, CommitKey,
    FingerprintKey, IndexKey, NameKey, WRAPPED_SESSION_KEY_BYTES,
};
pub use barrier::{Keyring, RecordPlace};
pub use ciphertext::{CIPHERTEXT_OVERHEAD_BYTES, Ciphertext};
pub use error::CryptoError;
pub use hpke_wrap::PUBLIC_KEY_BYTES;
pub use ids::{ChunkId, ChunkKind, DeviceId, Digest, DigestBuilder, IdError};
pub use local_key::{DeviceHalf, LocalKey, LocalSecret};
pub use log_key::{LogKey, WRAPPED_LOG_KEY_BYTES};
pub use password::{
    PASSWORD_SLOT_BYTES, PasswordCost, PasswordLogin, PasswordProof, PasswordRecord,
    PasswordRegistration, PasswordSetup, PasswordSlotKey,
};
pub use policy_key::{PolicyRootKey, PolicyRootPublicKey};
pub use quorum::{
    AdminKeyPair, AdminPublicKey, MOST_ADMINS, QUORUM_KEY_BYTES, QuorumSlot, RecoveryHalf,
    RecoveryPiece, WRAPPED_PIECE_BYTES,
};
pub use recovery_code::{
    RecoveryCode, RecoveryCodeError, RecoveryKeyPair, RecoveryPublicKey, SLOT_BYTES,
};
pub use second_factor::SecondFactor;
pub use session_key::SessionKey;
pub use share::{MOST_SHARES, SHARE_CHARACTERS, Share, ShareCommitment, ShareError, ShareLabel};
pub use signature::{DeviceSigningKey, DeviceVerifyingKey};
pub use slots_key::ENCRYPTED_CODE_BYTES;
pub use unseal_key::{RootKey, UnsealKey, WRAPPED_ROOT_KEY_BYTES};
pub use user_key::{KeyringKey, UserKey};

/// Random bytes that are not secret: ids.
pub fn random_id() -> [u8; 16] {
    let mut id = [0; 16];
    secret::fill_random(&mut id);
    id
}

/// Number of the one set of algorithms of format 1. It is part of what every chunk and every
/// wrapped key authenticates, so that no byte made under one set is ever read under another.
pub const SUITE: u16 = 1;

#[cfg(test)]
mod secrecy_tests;
