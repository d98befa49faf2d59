//! `/v1/reshare`: new shares, in two phases.
//!
//! Start makes the new shares and hands them out; the old ones still hold. Each new share is then submitted once by its holder, and as
//! many old ones as open the keystore by theirs, who agree with that;
//! only when all of that has been is the old header replaced, in one write. If we die anywhere before it, or the ceremony is
//! given up, the old shares hold.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::error::ApiError;
use super::init::{InitRequest, NewShare};
use super::json::JsonBody;
use super::refusals::Refusals;
use super::status::CeremonyStatus;
use super::unseal::{CancelCeremony, SubmitShare, Submitted};
use crate::server::Server;

/// The new shares, this once, and what their holders quote.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReshareStarted {
    /// What holders quote.
    pub ceremony: CeremonyStatus,
    /// The new epoch.
    pub epoch: u64,
    /// All new shares.
    pub shares: Vec<NewShare>,
}

/// Makes new shares; the old ones hold until every new one has been submitted.
#[utoipa::path(
    post,
    path = "/v1/reshare/start",
    tag = "ceremonies",
    request_body = InitRequest,
    responses((status = 201, description = "The new shares, this once", body = ReshareStarted), Refusals)
)]
pub async fn start(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(wanted): JsonBody<InitRequest>,
) -> Result<(StatusCode, Json<ReshareStarted>), ApiError> {
    let start = move |server: &Server| server.start_reshare(&caller.actor(), &wanted);
    let started = server.blocking(start).await?;
    Ok((StatusCode::CREATED, Json(started)))
}

/// Submits one share over its holder's certificate: a new one, or an old one to agree.
#[utoipa::path(
    post,
    path = "/v1/reshare/submit",
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
        .blocking(move |server| server.submit_reshare(&caller, &share))
        .await?;
    Ok(Json(submitted))
}

/// Gives it up; the old shares hold, the new ones are worth nothing.
#[utoipa::path(
    post,
    path = "/v1/reshare/cancel",
    tag = "ceremonies",
    request_body = CancelCeremony,
    responses((status = 204, description = "Given up"), Refusals)
)]
pub async fn cancel(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(which): JsonBody<CancelCeremony>,
) -> Result<StatusCode, ApiError> {
    let cancel = move |server: &Server| server.cancel_reshare(&caller.actor(), which.ceremony);
    server.blocking(cancel).await?;
    Ok(StatusCode::NO_CONTENT)
}
