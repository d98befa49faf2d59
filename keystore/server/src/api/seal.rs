//! `POST /v1/seal`: forgets the keys at once.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;

use super::access::Caller;
use super::error::ApiError;
use super::json::JsonBody;
use super::refusals::Refusals;
use super::unseal::Nothing;
use crate::audit::event::SealReason;
use crate::server::Server;

/// Forgets the keys at once.
#[utoipa::path(
    post,
    path = "/v1/seal",
    tag = "ceremonies",
    request_body = Nothing,
    responses((status = 204, description = "Sealed"), Refusals)
)]
pub async fn seal(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(Nothing {}): JsonBody<Nothing>,
) -> Result<StatusCode, ApiError> {
    let seal = move |server: &Server| server.seal(&caller.actor(), SealReason::Asked);
    server.blocking(seal).await?;
    Ok(StatusCode::NO_CONTENT)
}
