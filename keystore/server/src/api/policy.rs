//! `/v1/policy`: who the organisation's recovery admins are, signed by a root that is not here.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use holdfast_protocol::calls::Bytes64;
pub use holdfast_protocol::calls::PolicyDocument;
use holdfast_protocol::escrow::{PolicyError, SignedPolicy};
use serde::Deserialize;

use super::access::Caller;
use super::error::{ApiError, ErrorBody, ErrorCode};
use super::json::JsonBody;
use super::refusals::Refusals;
use crate::audit::Event;
use crate::names::HexBytes;
use crate::server::Server;
use crate::vault::Vault;

const CURRENT: &str = "policy/current";

/// Which one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyQuery {
    version: Option<u64>,
}

/// The policy in force, or one that was: a client that has missed some walks from the one that it knows.
#[utoipa::path(
    get,
    path = "/v1/policy",
    tag = "escrow",
    params(("version" = Option<u64>, Query, description = "Which one; the one in force otherwise")),
    responses(
        (status = 200, description = "The policy", body = PolicyDocument),
        (status = 404, description = "There is none yet, or none of this version", body = ErrorBody),
        Refusals,
    )
)]
pub async fn get(
    State(server): State<Arc<Server>>,
    query: Result<Query<PolicyQuery>, QueryRejection>,
) -> Result<Json<PolicyDocument>, ApiError> {
    let Query(query) =
        query.map_err(|_| ApiError::bad_request("a version is a number: ?version=1"))?;
    let read = move |server: &Server| {
        let vault = server.vault.read();
        match query.version {
            Some(version) => vault.former_policy(version),
            None => vault.policy(),
        }
    };
    let policy = server.blocking(read).await?;
    match policy {
        Some(policy) => Ok(Json(document(&policy))),
        None => Err(ApiError::new(
            ErrorCode::NotFound,
            match query.version {
                Some(_) => "there is no policy of recovery admins with this version",
                None => "there is no policy of recovery admins yet",
            },
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
    let records = [path(), version_path(policy.version())];
    let records = records.map(|path| (path, published.clone()));
    vault.put_all(&records.into_iter().collect())?;
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

impl Vault {
    fn former_policy(&self, version: u64) -> Result<Option<SignedPolicy>, ApiError> {
        let document = self.get::<PolicyDocument>(&version_path(version))?;
        Ok(document
            .map(|document| SignedPolicy::parse(&document.policy.0))
            .transpose()?)
    }
}

fn document(policy: &SignedPolicy) -> PolicyDocument {
    PolicyDocument {
        policy: Bytes64(policy.as_bytes().to_vec()),
    }
}

fn version_path(version: u64) -> holdfast_protocol::RecordPath {
    let path = format!("policy/{version}");
    path.parse().expect("a number is a segment of a path")
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
