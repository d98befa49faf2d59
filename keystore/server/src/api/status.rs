//! `GET /v1/status`: what any person may know, sealed or not.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::refusals::Refusals;
use crate::audit::Ceremony;
use crate::names::{Id, LineHash, PersonName};
use crate::server::{Phase, Server, Warning};

/// How the keystore is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// What it is.
    pub phase: Phase,
    /// The program's version.
    pub version: String,
    /// Its shares; nothing before it is initialised.
    pub seal: Option<SealStatus>,
    /// The ceremony that is under way.
    pub ceremony: Option<CeremonyStatus>,
    /// The data key; only while open.
    pub data_key: Option<DataKeyStatus>,
    /// What somebody should look at.
    pub warnings: Vec<Warning>,
    /// The audit log's last line.
    pub audit: AuditHead,
    /// When the newest snapshot was taken.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub newest_snapshot: Option<Timestamp>,
}

/// The shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SealStatus {
    /// Whose shares they are.
    #[schema(value_type = String, pattern = "^[0-9a-f]{32}$")]
    pub cluster: Id,
    /// Grows with each change of the shares.
    pub epoch: u64,
    /// Shares needed.
    pub threshold: u8,
    /// Who holds which.
    pub holders: Vec<HeldShare>,
    /// `trial: one person holds N shares`, if that is so.
    pub trial: Option<String>,
}

/// Who holds a share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldShare {
    /// Its number, from 1.
    pub number: u8,
    /// Its holder.
    pub holder: PersonName,
}

/// A ceremony that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CeremonyStatus {
    /// Which.
    pub kind: Ceremony,
    /// Its id; every share that is submitted quotes it.
    #[schema(value_type = String, pattern = "^[0-9a-f]{32}$")]
    pub ceremony: Id,
    /// Digest of what it is about; every share that is submitted quotes it.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub digest: LineHash,
    /// Numbers of the shares that have counted.
    pub have: Vec<u8>,
    /// Shares needed.
    pub need: u8,
    /// Reshare: numbers of the old shares whose holders have agreed.
    pub approved: Vec<u8>,
    /// Reshare: holders of old shares who have to agree.
    pub approvals_needed: u8,
    /// When it is over.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
}

/// The data key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DataKeyStatus {
    /// Its term; 1 is the first.
    pub term: u32,
    /// Generation of the database: grows with each write.
    pub generation: u64,
}

/// Where the audit log stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditHead {
    /// Number of the last line.
    pub sequence: u64,
    /// Its SHA-256.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub hash: LineHash,
    /// What is wrong with the log.
    pub trouble: Option<String>,
}

/// How the keystore is.
#[utoipa::path(
    get,
    path = "/v1/status",
    tag = "state",
    responses((status = 200, description = "How it is", body = Status), Refusals)
)]
pub async fn status(State(server): State<Arc<Server>>) -> Json<Status> {
    Json(server.blocking(look).await)
}

fn look(server: &Server) -> Status {
    let head = server.audit.head();
    let trouble = server.audit_trouble();
    let vault = server.vault.read();
    Status {
        phase: vault.phase(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seal: vault.seal_status(),
        ceremony: vault.ceremony(),
        data_key: vault.data_key(),
        warnings: server.warnings(),
        audit: AuditHead {
            sequence: head.sequence,
            hash: head.hash,
            trouble: trouble.map(|trouble| trouble.sentence().to_owned()),
        },
        newest_snapshot: crate::snapshots::newest(&server.config.snapshot_folder()),
    }
}
