//! `/v1/gc`: deletes what nobody needs any more, in all archives or in one.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use holdfast_backend::gc::{GcReport, Run, Tally};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::error::{ApiError, ErrorBody, ErrorCode};
use super::json::JsonBody;
use super::refusals::Refusals;
use crate::collecting::{self, Collected};
use crate::names::PersonName;
use crate::server::Server;

/// Where, and whether really.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Collect {
    /// Whose archive; nothing = everybody's.
    pub user: Option<PersonName>,
    /// Only tell what would be done.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectedList {
    /// Archive by archive.
    pub archives: Vec<CollectedArchive>,
}

/// One archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectedArchive {
    /// Whose.
    pub user: PersonName,
    /// What was done; nothing if gc has stopped.
    pub done: Option<Done>,
    /// Why it has stopped.
    pub stopped: Option<String>,
}

/// What one run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// Needed, and left alone.
    pub needed: Objects,
    /// Condemned by this run.
    pub condemned: Objects,
    /// Condemned earlier, and waiting for the end of the grace period.
    pub waiting: Objects,
    /// Deleted by this run.
    pub deleted: Objects,
}

/// How many, and how large together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    /// Number.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Runs gc; answers when it is done.
#[utoipa::path(
    post,
    path = "/v1/gc",
    tag = "grants",
    request_body = Collect,
    responses(
        (status = 200, description = "Archive by archive", body = CollectedList),
        (status = 404, description = "There is no such user", body = ErrorBody),
        Refusals,
    )
)]
pub async fn gc(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(wanted): JsonBody<Collect>,
) -> Result<Json<CollectedList>, ApiError> {
    let Ok(_held) = server.collecting.try_lock() else {
        return Err(ApiError::new(
            ErrorCode::Conflict,
            "gc runs already",
            "wait until it is done",
        ));
    };
    let run = match wanted.dry_run {
        true => Run::Dry,
        false => Run::Real,
    };
    let collected = collecting::collect(&server, wanted.user, run, &caller.actor()).await?;
    Ok(Json(CollectedList {
        archives: collected.into_iter().map(CollectedArchive::from).collect(),
    }))
}

impl From<Collected> for CollectedArchive {
    fn from(collected: Collected) -> Self {
        let (done, stopped) = match collected.outcome {
            Ok(report) => (Some(Done::from(&report)), None),
            Err(sentence) => (None, Some(sentence)),
        };
        CollectedArchive {
            user: collected.user,
            done,
            stopped,
        }
    }
}

impl From<&GcReport> for Done {
    fn from(report: &GcReport) -> Self {
        Done {
            needed: report.needed.into(),
            condemned: report.condemned.into(),
            waiting: report.waiting.into(),
            deleted: report.deleted.into(),
        }
    }
}

impl From<Tally> for Objects {
    fn from(tally: Tally) -> Self {
        Objects {
            objects: tally.objects,
            bytes: tally.bytes,
        }
    }
}
