//! `GET /v1/me`: what the keystore keeps of the caller, read through the barrier.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};

use super::access::Caller;
use super::error::ApiError;
use super::refusals::Refusals;
use crate::persons::Person;
use crate::server::Server;

/// The caller's own record.
#[utoipa::path(
    get,
    path = "/v1/me",
    tag = "persons",
    responses((status = 200, description = "As the barrier has it", body = Person), Refusals)
)]
pub async fn me(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Person>, ApiError> {
    let read = move |server: &Server| server.vault.read().person(caller.person());
    Ok(Json(server.blocking(read).await?))
}
