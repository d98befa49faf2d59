//! Login, a new computer, and a new password.

use serde::{Deserialize, Serialize};

use super::{Bytes64, DeviceCertificate, EscrowPolicy, SecretHex, SecretText, StoreDescription};
use crate::names::{HexBytes, Id, PersonName};

/// `POST /v1/login/start`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StartLogin {
    /// Who.
    pub user: PersonName,
    /// OPAQUE `CredentialRequest`.
    pub credential: Bytes64,
}

/// Its answer, the same for users that do not exist.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginStarted {
    /// Quoted in the call that follows, on the same connection, within two minutes.
    pub session: SecretHex,
    /// OPAQUE `CredentialResponse`.
    pub credential: Bytes64,
}

/// `POST /v1/login/finish`.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FinishLogin {
    /// The session.
    pub session: SecretHex,
    /// OPAQUE `CredentialFinalization`.
    pub credential: Bytes64,
    /// A code of the second factor.
    pub code: SecretText,
    /// The new device's id in the archive.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[0-9a-f]{16}$"))]
    pub device: HexBytes<8>,
    /// Its name.
    #[cfg_attr(feature = "schema", schema(max_length = 64))]
    pub name: String,
    /// Certificate signing request, PEM.
    #[cfg_attr(feature = "schema", schema(max_length = 16384))]
    pub request: String,
}

/// Its answer. The device is provisional until `device/ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LoggedIn {
    /// The device's certificate.
    pub certificate: DeviceCertificate,
    /// The archive's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[0-9a-f]{32}$"))]
    pub archive: Id,
    /// Which slots there are.
    pub policy: EscrowPolicy,
    /// The organisation's signed policy of recovery admins, if there is one.
    pub admins: Option<Bytes64>,
    /// Where objects are.
    pub store: StoreDescription,
}

/// `POST /v1/device/ready`: the key is in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceReady {
    /// A device of the user that this one replaces; it is deauthorised.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, pattern = "^[0-9a-f]{16}$"))]
    pub replaces: Option<HexBytes<8>>,
}

/// `POST /v1/password/start`, with a device's certificate and a login session that has just been started for it.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StartPasswordChange {
    /// A session of `login/start`.
    pub session: SecretHex,
    /// OPAQUE `CredentialFinalization`, with the old password.
    pub credential: Bytes64,
    /// A code of the second factor.
    pub code: SecretText,
    /// OPAQUE `RegistrationRequest`, with the new one.
    pub registration: Bytes64,
}

/// Its answer.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PasswordChangeStarted {
    /// Quoted in the call that follows.
    pub session: SecretHex,
    /// OPAQUE `RegistrationResponse`.
    pub registration: Bytes64,
}

/// `POST /v1/password/finish`: password and record change together or not at all.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The session of `password/start`.
    pub session: SecretHex,
    /// OPAQUE `RegistrationUpload`.
    pub registration: Bytes64,
    /// The record with slot 1 anew, one version higher.
    pub record: Bytes64,
}
