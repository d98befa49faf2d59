//! `GET /v1/health`: for load balancers and watchdogs; anyone may ask.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::server::{Phase, Server};

/// How the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// In one word.
    pub status: HealthStatus,
    /// What the keystore is.
    pub phase: Phase,
    /// What is wrong, if it is degraded.
    pub sentence: Option<String>,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Open and sound.
    Unsealed,
    /// Sound and sealed.
    Sealed,
    /// Sound, and never initialised.
    Uninitialised,
    /// No audit line can be written, so nothing is done.
    Degraded,
}

/// How the server is: 200 when it is open and sound, 503 otherwise.
#[utoipa::path(
    get,
    path = "/v1/health",
    tag = "state",
    security(()),
    responses(
        (status = 200, description = "Open and sound", body = Health),
        (status = 503, description = "Sealed, uninitialised or degraded", body = Health),
    )
)]
pub async fn health(State(server): State<Arc<Server>>) -> (StatusCode, Json<Health>) {
    let health = server.blocking(look).await;
    let status = match health.status {
        HealthStatus::Unsealed => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(health))
}

fn look(server: &Server) -> Health {
    let phase = server.phase();
    let trouble = server.audit_trouble();
    let status = match (trouble, phase) {
        (Some(_), _) => HealthStatus::Degraded,
        (None, Phase::Unsealed) => HealthStatus::Unsealed,
        (None, Phase::Sealed) => HealthStatus::Sealed,
        (None, Phase::Uninitialised) => HealthStatus::Uninitialised,
    };
    Health {
        status,
        phase,
        sentence: trouble.map(|trouble| trouble.sentence().to_owned()),
    }
}
