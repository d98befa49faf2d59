//! `GET /metrics`: for Prometheus, with a certificate as every other call.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::refusals::Refusals;
use crate::server::Server;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Counters and gauges as OpenMetrics text.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "state",
    responses(
        (status = 200, description = "OpenMetrics text", body = String,
            content_type = "application/openmetrics-text"),
        Refusals,
    )
)]
pub async fn metrics(State(server): State<Arc<Server>>) -> impl IntoResponse {
    server.metrics.seal_state.set(server.phase() as i64);
    (
        [(header::CONTENT_TYPE, OPEN_METRICS)],
        server.metrics.text(),
    )
}
