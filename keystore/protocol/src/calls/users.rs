//! `/v1/users`: operators invite users and say what they may do.

use serde::{Deserialize, Serialize};

use super::{EscrowPolicy, SecretText};
use crate::names::{Id, PersonName};

/// What a user may do at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UserState {
    /// Has a token and is not enrolled.
    Invited,
    /// Everything.
    Active,
    /// No login and no new device; devices go on saving.
    Blocked,
    /// All devices are deauthorised; nothing is lost.
    Deauthorised,
    /// The same, and after the days for undoing it the archive may be deleted.
    Deactivated,
}

/// A user, as operators and auditors see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name.
    pub name: PersonName,
    /// What the user may do.
    pub state: UserState,
    /// Which slots there are.
    pub policy: EscrowPolicy,
    /// The archive's id, once there is one: its folder in the store.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub archive: Option<Id>,
    /// The most that may be stored; nothing = no limit.
    pub quota_bytes: Option<u64>,
    /// What is stored, as far as grants tell.
    pub used_bytes: u64,
    /// Devices that are active.
    pub devices: u32,
}

/// Everybody, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UserList {
    /// Everybody.
    pub users: Vec<User>,
}

/// `POST /v1/users`, and with the name of somebody `invited`, a new token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AddUser {
    /// The name.
    pub name: PersonName,
    /// Which slots the user will have.
    pub policy: EscrowPolicy,
    /// The most that may be stored; nothing = no limit.
    #[serde(default, deserialize_with = "crate::whole::optional")]
    pub quota_bytes: Option<u64>,
}

/// The answer.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AddedUser {
    /// As it stands now.
    pub user: User,
    /// The enrolment token, shown this once (`docs/format/escrow.md`).
    pub token: SecretText,
}

/// `PUT /v1/users/{name}/state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetUserState {
    /// `active`, `blocked`, `deauthorised` or `deactivated`.
    pub state: UserState,
}
