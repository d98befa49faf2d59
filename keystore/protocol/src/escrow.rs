//! Escrow: the record of slots, the policy of recovery admins, key files, and the enrolment token, byte by byte as `docs/format/escrow.md` has them.
//!
//! Everything here is made on a device or on an operator's computer, and read by whoever trusts nobody: the parsers take hostile bytes,
//! and bytes and values are one to one.

mod bytes;
mod key_text;
mod policy;
mod slots;
mod token;

pub use key_text::{KeyText, KeyTextError};
pub use policy::{Admin, PolicyError, SignedPolicy};
pub use slots::{Escrowed, PinnedPolicy, SlotsError, SlotsRecord, user_place};
pub use token::{EnrolmentToken, TokenError};

/// What the two ends do with passwords, halves and second factors.
pub use holdfast_crypto::{
    AdminKeyPair, AdminPublicKey, CryptoError, DeviceHalf, Digest, PasswordCost, PasswordLogin,
    PasswordProof, PasswordRecord, PasswordRegistration, PasswordSetup, PasswordSlotKey,
    PolicyRootKey, PolicyRootPublicKey, RecoveryCode, RecoveryHalf, SecondFactor, UserKey,
};

#[cfg(test)]
mod tests;
