//! `POST /v1/rotate/data-key`: a new data key for what is written from now on.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};

use super::access::Caller;
use super::error::ApiError;
use super::json::JsonBody;
use super::refusals::Refusals;
use super::status::DataKeyStatus;
use super::unseal::Nothing;
use crate::server::Server;

/// A new data key; what was written under older ones stays readable.
#[utoipa::path(
    post,
    path = "/v1/rotate/data-key",
    tag = "ceremonies",
    request_body = Nothing,
    responses((status = 200, description = "The new term", body = DataKeyStatus), Refusals)
)]
pub async fn data_key(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(Nothing {}): JsonBody<Nothing>,
) -> Result<Json<DataKeyStatus>, ApiError> {
    let rotate = move |server: &Server| server.rotate_data_key(&caller.actor(), server.clock.now());
    Ok(Json(server.blocking(rotate).await?))
}
