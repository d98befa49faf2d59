//! `/v1/slots`: the escrowed record.

use serde::{Deserialize, Serialize};

use super::Bytes64;

/// Which slots of the user key the keystore has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum EscrowPolicy {
    /// Password, recovery code, admin quorum.
    Standard,
    /// Password, recovery code.
    Private,
    /// None: the key stays with the user.
    Custom,
}

/// The newest record. The server can neither open nor sign it; it compares version, user and archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Slots {
    /// Its version, from 1.
    pub version: u64,
    /// The record (`docs/format/escrow.md`).
    pub record: Bytes64,
}

/// `PUT /v1/slots`: stored if the record's version is one more than the newest, and it is the caller's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutSlots {
    /// The record.
    pub record: Bytes64,
}

/// The policy of recovery admins in force, a former one, or the one to be: `GET /v1/policy?version=N`, `PUT /v1/policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// As `holdfast-keystore policy make` wrote it (`docs/format/escrow.md`).
    pub policy: Bytes64,
}
