//! What a person may do. Names and ids are the protocol's, since clients speak them, too.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use holdfast_protocol::names::{Fingerprint, HexBytes, Id, LineHash, NameError, PersonName};

/// What a person may do; the table of calls is in `api/calls.rs`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Starts and cancels ceremonies, adds and removes persons; may hold a share.
    Operator,
    /// Holds a share and submits it; nothing else.
    Holder,
    /// Reads status, metrics and the audit log.
    Auditor,
    /// Sees who the recovery admins are, and what the keystore is.
    RecoveryAdmin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Operator => "operator",
            Role::Holder => "holder",
            Role::Auditor => "auditor",
            Role::RecoveryAdmin => "recovery-admin",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "operator" => Ok(Role::Operator),
            "holder" => Ok(Role::Holder),
            "auditor" => Ok(Role::Auditor),
            "recovery-admin" => Ok(Role::RecoveryAdmin),
            _ => Err("a role is operator, holder, auditor or recovery-admin".to_owned()),
        }
    }
}
