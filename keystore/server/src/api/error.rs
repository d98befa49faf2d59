//! The one shape of every refusal: a code for programs, a sentence for persons, and what to do next.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use holdfast_backend::store::{StoreError, StoreErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::audit::event::ShareRefusal;
use crate::audit::{AuditError, Trouble};

/// What every refused call answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorBody {
    /// For programs.
    pub code: ErrorCode,
    /// For persons.
    pub sentence: String,
    /// What to do.
    pub next_step: String,
    /// The refused share's number, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u8>,
    /// Why the share was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ShareRefusal>,
}

/// Each kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 503: the keystore is sealed.
    Sealed,
    /// 503: the keystore was never initialised.
    Uninitialised,
    /// 409: the keystore is open already.
    AlreadyUnsealed,
    /// 409: the keystore is initialised already.
    AlreadyInitialised,
    /// 503: the audit log cannot be written, so nothing is done.
    AuditFailed,
    /// 503: the database does not answer as it should.
    StorageFailed,
    /// 401: no client certificate.
    NoCertificate,
    /// 403: a certificate of nobody who may come in.
    UnknownCertificate,
    /// 403: not this role.
    Role,
    /// 429: too many tries.
    TooOften,
    /// 400: not what the call takes.
    BadRequest,
    /// 413: more bytes than the call takes.
    TooLarge,
    /// 415: not JSON, or not bytes.
    MediaType,
    /// 404: nothing there.
    NotFound,
    /// 405: not with this method.
    Method,
    /// 409: not as things are.
    Conflict,
    /// 422: of the right shape, and yet it cannot be.
    Unfit,
    /// 422: a share that does not count.
    ShareRefused,
    /// 403: token, user name, password or code is wrong.
    LoginFailed,
    /// 403: not the code that is shown now.
    SecondFactor,
    /// 409: the enrolment, login or change of a password is over.
    SessionOver,
    /// 403: the device was deauthorised.
    Deauthorised,
    /// 403: the device is not as far as this call is for, or further.
    DeviceState,
    /// 507: the user's quota is used up.
    Quota,
    /// 403: not this object.
    Forbidden,
    /// 412: an object of this name is there already.
    AlreadyStored,
    /// 416: the object has no such range.
    Range,
    /// 503: the store of the archives does not answer as it should.
    StoreFailed,
}

impl ErrorCode {
    /// As it stands in an answer.
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            _ => unreachable!("a variant without fields is a string"),
        }
    }
}

/// A refusal on its way out.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

impl ApiError {
    /// A refusal with its sentence and the next step.
    pub fn new(code: ErrorCode, sentence: impl Into<String>, next_step: impl Into<String>) -> Self {
        ApiError {
            status: status(code),
            body: ErrorBody {
                code,
                sentence: sentence.into(),
                next_step: next_step.into(),
                share: None,
                reason: None,
            },
        }
    }

    /// A share that does not count.
    pub fn share(
        share: Option<u8>,
        reason: ShareRefusal,
        sentence: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Self {
        let mut error = ApiError::new(ErrorCode::ShareRefused, sentence, next_step);
        error.body.share = share;
        error.body.reason = Some(reason);
        error
    }

    /// What is told.
    pub fn body(&self) -> &ErrorBody {
        &self.body
    }

    /// Sealed, and how to change that.
    pub fn sealed() -> Self {
        ApiError::new(
            ErrorCode::Sealed,
            "the keystore is sealed",
            "an operator starts to unseal it, and the holders submit their shares",
        )
    }

    /// Never initialised.
    pub fn uninitialised() -> Self {
        ApiError::new(
            ErrorCode::Uninitialised,
            "the keystore was never initialised",
            "an operator initialises it, or restores a snapshot",
        )
    }

    /// Open already.
    pub fn already_unsealed() -> Self {
        ApiError::new(
            ErrorCode::AlreadyUnsealed,
            "the keystore is open already",
            "nothing is to be done; seal it first if that is what you want",
        )
    }

    /// Initialised already.
    pub fn already_initialised() -> Self {
        ApiError::new(
            ErrorCode::AlreadyInitialised,
            "the keystore is initialised already",
            "unseal it with its shares; a new keystore needs an empty data folder",
        )
    }

    /// A body or parameter that the call does not take.
    pub fn bad_request(sentence: impl Into<String>) -> Self {
        ApiError::new(
            ErrorCode::BadRequest,
            sentence,
            "/v1/openapi.json tells what the call takes",
        )
    }

    /// A body of the right shape whose content cannot be.
    pub fn unfit(sentence: impl Into<String>, next_step: impl Into<String>) -> Self {
        ApiError::new(ErrorCode::Unfit, sentence, next_step)
    }

    /// The database failed. The reason is in the server's log, not in the answer.
    pub fn storage() -> Self {
        ApiError::new(
            ErrorCode::StorageFailed,
            "the database does not answer as it should",
            "look at the server's log and at its disk",
        )
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.is_not_found() {
            return ApiError::new(
                ErrorCode::NotFound,
                "there is no such object",
                "list the folder to see what there is",
            );
        }
        tracing::error!(%error, "the store of the archives");
        match error.kind() {
            StoreErrorKind::NoSpace => ApiError::new(
                ErrorCode::Quota,
                "the store of the archives is full",
                "an operator makes room",
            ),
            _ => ApiError::new(
                ErrorCode::StoreFailed,
                "the store of the archives does not answer as it should",
                "try again later; an operator looks at the server's log",
            ),
        }
    }
}

impl From<AuditError> for ApiError {
    fn from(error: AuditError) -> Self {
        ApiError::audit(error.trouble)
    }
}

impl ApiError {
    /// No line, no act.
    pub fn audit(trouble: Trouble) -> Self {
        ApiError::new(
            ErrorCode::AuditFailed,
            trouble.sentence(),
            trouble.next_step(),
        )
    }
}

/// The one mapping from kinds to HTTP.
fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Sealed
        | ErrorCode::Uninitialised
        | ErrorCode::AuditFailed
        | ErrorCode::StorageFailed
        | ErrorCode::StoreFailed => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::AlreadyUnsealed
        | ErrorCode::AlreadyInitialised
        | ErrorCode::SessionOver
        | ErrorCode::Conflict => StatusCode::CONFLICT,
        ErrorCode::NoCertificate => StatusCode::UNAUTHORIZED,
        ErrorCode::UnknownCertificate
        | ErrorCode::Role
        | ErrorCode::LoginFailed
        | ErrorCode::SecondFactor
        | ErrorCode::Deauthorised
        | ErrorCode::DeviceState
        | ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::Quota => StatusCode::INSUFFICIENT_STORAGE,
        ErrorCode::AlreadyStored => StatusCode::PRECONDITION_FAILED,
        ErrorCode::Range => StatusCode::RANGE_NOT_SATISFIABLE,
        ErrorCode::TooOften => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::Method => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::Unfit | ErrorCode::ShareRefused => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
            }
            // RFC 9110 wants a challenge; there is no registered name for a client certificate.
            StatusCode::UNAUTHORIZED => {
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("ClientCertificate"),
                );
            }
            _ => {}
        }
        response
    }
}
