//! `POST /v1/init`: makes the keys and their shares.
//!
//! The answer is the only place where the shares ever stand. If it is lost, the keystore has never been opened, and an operator
//! initialises it again.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::error::ApiError;
use super::json::{JsonBody, ShareText};
use super::refusals::Refusals;
use crate::names::{Id, PersonName};
use crate::server::Server;

/// How the keystore is to be opened from now on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InitRequest {
    /// Shares needed: 3 if nothing is said.
    #[serde(
        default = "three",
        deserialize_with = "holdfast_protocol::whole::number"
    )]
    #[schema(minimum = 2, maximum = 16, default = 3)]
    pub threshold: u8,
    /// Who holds which share, the first one share 1. They must stand in the table of persons. A trial may name one person
    /// several times.
    #[schema(min_items = 2, max_items = 16)]
    pub holders: Vec<Holder>,
}

fn three() -> u8 {
    3
}

/// Who is to hold a share.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Its name in the table of persons.
    pub name: PersonName,
    /// Its age recipient (`age1...`): then nobody but the holder sees the share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096)]
    pub age: Option<String>,
}

/// The shares, this once.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InitResponse {
    /// Whose shares they are.
    #[schema(value_type = String, pattern = "^[0-9a-f]{32}$")]
    pub cluster: Id,
    /// Their epoch.
    pub epoch: u64,
    /// How many are needed.
    pub threshold: u8,
    /// All of them.
    pub shares: Vec<NewShare>,
}

/// One share on its way to its holder: in the clear or encrypted, never both.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewShare {
    /// Its number, from 1.
    pub number: u8,
    /// Its holder.
    pub holder: PersonName,
    /// To be printed and handed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub share: Option<ShareText>,
    /// The same encrypted to its holder (age, armoured).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<String>,
}

/// Makes the keys and their shares. The answer is the only place where the shares ever stand.
#[utoipa::path(
    post,
    path = "/v1/init",
    tag = "ceremonies",
    request_body = InitRequest,
    responses((status = 201, description = "The shares, this once", body = InitResponse), Refusals)
)]
pub async fn init(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(wanted): JsonBody<InitRequest>,
) -> Result<(axum::http::StatusCode, Json<InitResponse>), ApiError> {
    let made = server
        .blocking(move |server| server.init(&caller.actor(), &wanted))
        .await?;
    Ok((axum::http::StatusCode::CREATED, Json(made)))
}
