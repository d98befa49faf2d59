//! Names and ids in the paths of calls.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::error::ApiError;
use crate::accounts::DeviceId;
use crate::names::{Id, PersonName};

/// Parameters of a path; what they cannot be is told as in a body.
pub struct Parameters<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(parameters)| Parameters(parameters))
            .map_err(|_| ApiError::bad_request("the path names something that cannot be"))
    }
}

/// A user.
#[derive(Deserialize, IntoParams)]
pub struct UserParameter {
    /// Who.
    #[param(value_type = String, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    pub name: PersonName,
}

/// A device of a user.
#[derive(Deserialize, IntoParams)]
pub struct DeviceParameter {
    /// Whose.
    #[param(value_type = String, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    pub name: PersonName,
    /// Which.
    #[param(value_type = String, pattern = "^[0-9a-f]{16}$")]
    pub device: DeviceId,
}

/// One of the caller's own devices.
#[derive(Deserialize, IntoParams)]
pub struct OwnDeviceParameter {
    /// Which.
    #[param(value_type = String, pattern = "^[0-9a-f]{16}$")]
    pub device: DeviceId,
}

/// An object in a folder of the server's.
#[derive(Deserialize, IntoParams)]
pub struct ObjectParameter {
    /// Whose archive.
    #[param(value_type = String, pattern = "^[0-9a-f]{32}$")]
    pub archive: Id,
    /// The object's name, with `%2F` for `/`.
    pub name: String,
}
