//! Devices: their certificates, their half of the local key, and how they learn that they are out.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SecretHex;
use crate::names::{Fingerprint, HexBytes};

/// What a device may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Is being set up; forgotten after an hour.
    Provisional,
    /// Everything.
    Active,
    /// Nothing any more; it has not said yet that its key is gone.
    Deauthorised,
    /// Nothing any more, and its key is gone.
    Confirmed,
}

/// How long the server half may stay on the computer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Lease {
    /// In memory only, fetched at each start.
    Boot,
    /// On disk for so many days; honoured by honest software only.
    Days(u16),
    /// There is no half.
    Off,
}

/// A device, as its user and operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceRecord {
    /// Its id, the same as in the archive.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[0-9a-f]{16}$"))]
    pub id: HexBytes<8>,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub state: DeviceState,
    /// Of its certificate.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[0-9a-f]{64}$"))]
    pub fingerprint: Fingerprint,
    /// End of its certificate.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub expires: Timestamp,
    /// When it called last, to the minute; not kept over restarts of the server.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub last_seen: Option<Timestamp>,
}

/// `GET /v1/devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceList {
    /// The caller's devices, by name.
    pub devices: Vec<DeviceRecord>,
}

/// `GET /v1/device/half`.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceHalf {
    /// The server half of the local key's wrapping.
    pub half: SecretHex,
}

/// `POST /v1/device/certificate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// Certificate signing request, PEM; only its public key is taken.
    #[cfg_attr(feature = "schema", schema(max_length = 16384))]
    pub request: String,
}

/// A certificate for a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceCertificate {
    /// PEM.
    pub certificate: String,
    /// Its end; a new one is asked for when a third of its time is over.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub expires: Timestamp,
}

/// The query of `GET /v1/device/watch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceWatch {
    /// The state that the caller knows of.
    pub seen: DeviceState,
}

/// Its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Watched {
    /// The state now.
    pub state: DeviceState,
}
