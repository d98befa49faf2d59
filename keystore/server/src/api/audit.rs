//! `/v1/audit`: the end of the log, and a walk through the whole of it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::error::ApiError;
use super::refusals::Refusals;
use crate::audit::verify::{Report, Wrong};
use crate::names::LineHash;
use crate::server::Server;

/// Lines that are given if nobody says how many.
const LINES: u32 = 20;
/// Lines that are given at most.
const MOST_LINES: u32 = 1000;

/// How many lines.
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TailQuery {
    /// How many.
    #[param(minimum = 1, maximum = 1000)]
    pub lines: Option<u32>,
}

/// The end of the log.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditTail {
    /// Oldest first, each as it stands in the log.
    #[schema(value_type = Vec<Object>)]
    pub lines: Vec<Value>,
}

/// What a walk through the whole log has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditReport {
    /// Whether every line is there as it was written.
    pub good: bool,
    /// Number of good lines from the beginning on.
    pub lines: u64,
    /// SHA-256 of the last good line: keep it elsewhere, and compare.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub head: LineHash,
    /// The first bad line.
    pub first_bad: Option<u64>,
    /// What is wrong with it.
    pub wrong: Option<WrongLine>,
    /// The same for persons.
    pub sentence: String,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WrongLine {
    /// It is not what was written.
    Changed,
    /// It is not there.
    Missing,
    /// It stands somewhere else, or twice.
    Moved,
}

/// The last lines.
#[utoipa::path(
    get,
    path = "/v1/audit/tail",
    tag = "audit",
    params(TailQuery),
    responses((status = 200, description = "Oldest first", body = AuditTail), Refusals)
)]
pub async fn tail(
    State(server): State<Arc<Server>>,
    RawQuery(query): RawQuery,
) -> Result<Json<AuditTail>, ApiError> {
    let count = lines(query.as_deref().unwrap_or_default())?;
    let read = server
        .blocking(move |server| server.audit.tail(count as usize))
        .await;
    let lines = read.map_err(|error| {
        tracing::error!(%error, "the audit log cannot be read");
        ApiError::storage()
    })?;
    let json = |line| serde_json::to_value(line).expect("a line is always JSON");
    let lines = lines.iter().map(json).collect();
    Ok(Json(AuditTail { lines }))
}

/// Walks the whole log and names the first line that was changed, is missing or was moved.
#[utoipa::path(
    get,
    path = "/v1/audit/verify",
    tag = "audit",
    responses((status = 200, description = "What was found", body = AuditReport), Refusals)
)]
pub async fn verify(State(server): State<Arc<Server>>) -> Result<Json<AuditReport>, ApiError> {
    let walked = server.blocking(|server| server.audit.verify()).await;
    let report = walked.map_err(|error| {
        tracing::error!(%error, "the audit log cannot be read");
        ApiError::storage()
    })?;
    Ok(Json(AuditReport::from(report)))
}

/// `lines=N` and nothing else.
fn lines(query: &str) -> Result<u32, ApiError> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let count = match pairs.next() {
        None => return Ok(LINES),
        Some((key, value)) if key == "lines" && pairs.next().is_none() => value.parse().ok(),
        Some(_) => None,
    };
    count
        .filter(|count| (1..=MOST_LINES).contains(count))
        .ok_or_else(|| {
            ApiError::bad_request(format!("only lines=N is known, from 1 to {MOST_LINES}"))
        })
}

impl From<Report> for AuditReport {
    fn from(report: Report) -> Self {
        let sentence = match &report.finding {
            Some(finding) => finding.to_string(),
            None => format!(
                "all {} lines are as they were written",
                report.head.sequence
            ),
        };
        AuditReport {
            good: report.finding.is_none(),
            lines: report.head.sequence,
            head: report.head.hash,
            first_bad: report.finding.map(|finding| finding.line),
            wrong: report.finding.map(|finding| finding.wrong.into()),
            sentence,
        }
    }
}

impl From<Wrong> for WrongLine {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Changed => WrongLine::Changed,
            Wrong::Missing => WrongLine::Missing,
            Wrong::Moved => WrongLine::Moved,
        }
    }
}
