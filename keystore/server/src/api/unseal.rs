//! `/v1/unseal`: start, submit, cancel.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::error::ApiError;
use super::json::{JsonBody, ShareText};
use super::refusals::Refusals;
use super::status::CeremonyStatus;
use crate::names::{Id, LineHash};
use crate::server::Server;

/// A call that says nothing more than its name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// One share for a ceremony.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitShare {
    /// The ceremony's id, as its start or the status tells.
    #[schema(value_type = String, pattern = "^[0-9a-f]{32}$")]
    pub ceremony: Id,
    /// Its digest, as its start or the status tells.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub digest: LineHash,
    /// The share as it was printed.
    #[schema(value_type = String, max_length = 4096)]
    pub share: ShareText,
}

/// Which ceremony is given up.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelCeremony {
    /// Its id.
    #[schema(value_type = String, pattern = "^[0-9a-f]{32}$")]
    pub ceremony: Id,
}

/// What came of a share that counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submitted {
    /// Whether it was the last one.
    pub outcome: Outcome,
    /// The share's number.
    pub share: u8,
    /// Shares that have counted.
    pub have: u8,
    /// Shares needed.
    pub need: u8,
}

/// Whether a share was the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// More are needed.
    Waiting,
    /// The keystore is open.
    Unsealed,
    /// The new shares have taken the old ones' place.
    Reshared,
}

/// Starts to unseal; holders quote what it answers.
#[utoipa::path(
    post,
    path = "/v1/unseal/start",
    tag = "ceremonies",
    request_body = Nothing,
    responses((status = 201, description = "Started", body = CeremonyStatus), Refusals)
)]
pub async fn start(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(Nothing {}): JsonBody<Nothing>,
) -> Result<(StatusCode, Json<CeremonyStatus>), ApiError> {
    let started = server
        .blocking(move |server| server.start_unseal(&caller.actor()))
        .await?;
    Ok((StatusCode::CREATED, Json(started)))
}

/// Submits one share over its holder's certificate.
#[utoipa::path(
    post,
    path = "/v1/unseal/submit",
    tag = "ceremonies",
    request_body = SubmitShare,
    responses(
        (status = 200, description = "It counted", body = Submitted),
        Refusals,
    )
)]
pub async fn submit(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(share): JsonBody<SubmitShare>,
) -> Result<Json<Submitted>, ApiError> {
    let submitted = server
        .blocking(move |server| server.submit_unseal(&caller, &share))
        .await?;
    Ok(Json(submitted))
}

/// Gives it up; shares that have counted are forgotten.
#[utoipa::path(
    post,
    path = "/v1/unseal/cancel",
    tag = "ceremonies",
    request_body = CancelCeremony,
    responses((status = 204, description = "Given up"), Refusals)
)]
pub async fn cancel(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(which): JsonBody<CancelCeremony>,
) -> Result<StatusCode, ApiError> {
    let cancel = move |server: &Server| server.cancel_unseal(&caller.actor(), which.ceremony);
    server.blocking(cancel).await?;
    Ok(StatusCode::NO_CONTENT)
}
