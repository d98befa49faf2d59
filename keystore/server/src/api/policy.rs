//! `/v1/policy`: who the organisation's recovery admins are, signed by a root that is not here.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use holdfast_protocol::calls::Bytes64;
use holdfast_protocol::escrow::{PolicyError, SignedPolicy};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::error::{ApiError, ErrorBody, ErrorCode};
use super::json::JsonBody;
use super::refusals::Refusals;
use crate::audit::Event;
use crate::names::HexBytes;
use crate::server::Server;
use crate::vault::Vault;

const CURRENT: &str = "policy/current";

/// The policy in force, or the one to be.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// As `holdfast-keystore policy make` wrote it (`docs/format/escrow.md`).
    pub policy: Bytes64,
}

/// The policy in force.
#[utoipa::path(
    get,
    path = "/v1/policy",
    tag = "escrow",
    responses(
        (status = 200, description = "In force", body = PolicyDocument),
        (status = 404, description = "There is none yet", body = ErrorBody),
        Refusals,
    )
)]
pub async fn get(State(server): State<Arc<Server>>) -> Result<Json<PolicyDocument>, ApiError> {
    let policy = server
        .blocking(|server| server.vault.read().policy())
        .await?;
    match policy {
        Some(policy) => Ok(Json(document(&policy))),
        None => Err(ApiError::new(
            ErrorCode::NotFound,
            "there is no policy of recovery admins yet",
            "an operator publishes one: holdfast-keystore policy publish",
        )),
    }
}

/// Puts a policy in force that follows the one before, or the first one.
#[utoipa::path(
    put,
    path = "/v1/policy",
    tag = "escrow",
    request_body = PolicyDocument,
    responses((status = 200, description = "In force from now on", body = PolicyDocument), Refusals)
)]
pub async fn put(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(wanted): JsonBody<PolicyDocument>,
) -> Result<Json<PolicyDocument>, ApiError> {
    let publish = move |server: &Server| publish(server, &caller, &wanted);
    Ok(Json(server.blocking(publish).await?))
}

fn publish(
    server: &Server,
    caller: &Caller,
    wanted: &PolicyDocument,
) -> Result<PolicyDocument, ApiError> {
    let policy = SignedPolicy::parse(&wanted.policy.0)?;
    let mut vault = server.vault.write();
    match vault.policy()? {
        Some(known) => policy.expect_after(&known)?,
        None if policy.version() != 1 => {
            return Err(ApiError::unfit(
                "the first policy has version 1",
                "publish the policies in their order",
            ));
        }
        None => {}
    }
    let event = Event::PolicyPublished {
        version: policy.version(),
        threshold: policy.threshold(),
        digest: HexBytes(policy.digest().0),
        root: HexBytes(policy.root().fingerprint().0),
    };
    server.record_now(&caller.actor(), event)?;
    let published = document(&policy);
    vault.put(&path(), &published)?;
    Ok(published)
}

impl Vault {
    /// The policy in force.
    pub fn policy(&self) -> Result<Option<SignedPolicy>, ApiError> {
        let Some(document) = self.get::<PolicyDocument>(&path())? else {
            return Ok(None);
        };
        Ok(Some(SignedPolicy::parse(&document.policy.0)?))
    }
}

fn document(policy: &SignedPolicy) -> PolicyDocument {
    PolicyDocument {
        policy: Bytes64(policy.as_bytes().to_vec()),
    }
}

fn path() -> holdfast_protocol::RecordPath {
    CURRENT
        .parse()
        .expect("a path in the program is a good one")
}

impl From<PolicyError> for ApiError {
    fn from(error: PolicyError) -> Self {
        let next = "look at it with: holdfast-keystore policy show FILE";
        match error {
            PolicyError::Malformed | PolicyError::Threshold => {
                ApiError::unfit(error.to_string(), next)
            }
            PolicyError::Root { .. } | PolicyError::Chain { .. } => {
                ApiError::new(ErrorCode::Conflict, error.to_string(), next)
            }
        }
    }
}
