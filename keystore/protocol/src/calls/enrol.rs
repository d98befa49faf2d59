//! The nine steps of enrolment.

use serde::{Deserialize, Serialize};

use super::{Bytes64, EscrowPolicy, SecretHex, SecretText};
use crate::names::{HexBytes, Id, PersonName};

/// `POST /v1/enrol/begin`.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BeginEnrolment {
    /// Who.
    pub user: PersonName,
    /// The secret of the enrolment token.
    pub secret: SecretHex,
    /// OPAQUE `RegistrationRequest`.
    pub registration: Bytes64,
}

/// Its answer.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrolmentBegun {
    /// Quoted in the calls that follow, for 15 minutes.
    pub session: SecretHex,
    /// OPAQUE `RegistrationResponse`.
    pub registration: Bytes64,
    /// Secret of the second factor as an `otpauth://` address.
    pub second_factor: SecretText,
    /// Which slots the user will have.
    pub policy: EscrowPolicy,
    /// The organisation's signed policy of recovery admins, if there is one.
    pub admins: Option<Bytes64>,
}

/// `POST /v1/enrol/password`.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrolmentPassword {
    /// The session.
    pub session: SecretHex,
    /// OPAQUE `RegistrationUpload`.
    pub registration: Bytes64,
    /// A code of the second factor, to show that it works.
    pub code: SecretText,
}

/// `POST /v1/enrol/certificate`: the user key is made; here is the device.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrolmentRequest {
    /// The session.
    pub session: SecretHex,
    /// The device's id in the archive.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[0-9a-f]{16}$"))]
    pub device: HexBytes<8>,
    /// Its name: a file's name, at most 64 bytes.
    #[cfg_attr(feature = "schema", schema(max_length = 64))]
    pub name: String,
    /// Certificate signing request, PEM.
    #[cfg_attr(feature = "schema", schema(max_length = 16384))]
    pub request: String,
}

/// `POST /v1/enrol/account`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AccountRequest {}

/// Its answer.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The archive's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[0-9a-f]{32}$"))]
    pub archive: Id,
    /// The server's half of the admin quorum's slot: for building it, then forgotten.
    pub recovery_half: SecretHex,
    /// The server's half of the local key file.
    pub device_half: SecretHex,
    /// Where objects go.
    pub store: StoreDescription,
}

/// Which store is behind the grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// A bucket.
    S3,
    /// A folder on the server, which serves the objects itself.
    Folder,
}

/// `GET /v1/store`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StoreDescription {
    /// Bucket or folder.
    pub kind: StoreKind,
    /// Where, for messages: a bucket's name, no credentials.
    pub location: String,
    /// Storing a name a second time is refused by the store.
    pub conditional_put: bool,
    /// Bytes that do not fit the announced SHA-256 are refused.
    pub checksum_enforced: bool,
    /// A range of an object can be loaded.
    pub ranges: bool,
    /// Days between condemning and deleting.
    pub grace_days: u32,
    /// The most that may be stored; nothing = no limit.
    pub quota_bytes: Option<u64>,
    /// What is stored, as far as grants tell.
    pub used_bytes: u64,
    /// Certificates in PEM of a store that the system's authorities do not know.
    pub authorities: Option<String>,
}

/// `POST /v1/enrol/authorise`: what was escrowed was read back, and every slot of it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Authorise {
    /// SHA-256 of the record.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[0-9a-f]{64}$"))]
    pub record: HexBytes<32>,
}
