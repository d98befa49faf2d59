//! `POST /v1/share/verify`: whether a share is good, without unsealing anything.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::error::ApiError;
use super::json::{JsonBody, ShareText};
use super::refusals::Refusals;
use crate::names::PersonName;
use crate::server::Server;

/// A share to be looked at.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyShare {
    /// As it was printed.
    #[schema(value_type = String, max_length = 4096)]
    pub share: ShareText,
}

/// A share that is good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GoodShare {
    /// Its number.
    pub number: u8,
    /// Its holder.
    pub holder: PersonName,
    /// Its epoch, which is the present one.
    pub epoch: u64,
}

/// Whether a share is good; nothing is unsealed, and nothing counts.
#[utoipa::path(
    post,
    path = "/v1/share/verify",
    tag = "ceremonies",
    request_body = VerifyShare,
    responses(
        (status = 200, description = "It is good", body = GoodShare),
        Refusals,
    )
)]
pub async fn verify(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(share): JsonBody<VerifyShare>,
) -> Result<Json<GoodShare>, ApiError> {
    let good = server
        .blocking(move |server| server.verify_share(&caller, &share.share))
        .await?;
    Ok(Json(good))
}
