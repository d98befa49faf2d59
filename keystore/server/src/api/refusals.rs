//! The refusals that every call can answer, for the API's description.

use utoipa::IntoResponses;

use super::error::ErrorBody;

/// Of a call that needs a person.
#[derive(IntoResponses)]
pub enum Refusals {
    /// Not what the call takes.
    #[response(status = 400)]
    BadRequest(ErrorBody),
    /// No client certificate.
    #[response(status = 401)]
    NoCertificate(ErrorBody),
    /// Nobody who may come in, or not with this role.
    #[response(status = 403)]
    Forbidden(ErrorBody),
    /// Not as things are.
    #[response(status = 409)]
    Conflict(ErrorBody),
    /// More bytes than the call takes.
    #[response(status = 413)]
    TooLarge(ErrorBody),
    /// Not the kind of body that the call takes.
    #[response(status = 415)]
    MediaType(ErrorBody),
    /// Of the right shape, and yet it cannot be; a share that does not count.
    #[response(status = 422)]
    Unfit(ErrorBody),
    /// Too many tries.
    #[response(status = 429)]
    TooOften(ErrorBody),
    /// Sealed, uninitialised, or without a working audit log or database.
    #[response(status = 503)]
    Unavailable(ErrorBody),
}
