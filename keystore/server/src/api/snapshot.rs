//! `/v1/snapshot`: a copy of the database, and putting one back on an empty node.

use std::io::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::io::ReaderStream;
use utoipa::ToSchema;

use super::access::Caller;
use super::error::{ApiError, ErrorCode};
use super::json::{drain, too_large};
use super::refusals::Refusals;
use crate::audit::Event;
use crate::names::Id;
use crate::server::Server;
use crate::snapshots::{self, SnapshotError};

/// A longer snapshot is not taken: far more than 256 persons and their records come to.
const SNAPSHOT_BYTES: usize = 4 << 30;
const BYTES: &str = "application/octet-stream";

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    /// Its cluster.
    #[schema(value_type = String, pattern = "^[0-9a-f]{32}$")]
    pub cluster: Id,
    /// The epoch of the shares that it needs.
    pub epoch: u64,
    /// How many it needs.
    pub threshold: u8,
    /// How many there are.
    pub shares: u8,
    /// When it was taken.
    #[schema(value_type = String, format = DateTime)]
    pub taken: Timestamp,
}

/// A copy of the database: ciphertext.
#[utoipa::path(
    get,
    path = "/v1/snapshot",
    tag = "snapshots",
    responses(
        (status = 200, description = "The snapshot", body = Vec<u8>, content_type = "application/octet-stream"),
        Refusals,
    )
)]
pub async fn save(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    let saved = server
        .blocking(move |server| {
            let saved =
                snapshots::save(server, &server.config.snapshot_folder(), server.clock.now())?;
            let event = Event::SnapshotSaved {
                epoch: saved.header.epoch,
                bytes: saved.bytes,
            };
            server.record_now(&caller.actor(), event)?;
            saved.file.reopen().map_err(|error| {
                tracing::error!(%error, "the snapshot cannot be read back");
                ApiError::storage()
            })
        })
        .await?;
    let stream = ReaderStream::new(tokio::fs::File::from_std(saved));
    Ok(([(header::CONTENT_TYPE, BYTES)], Body::from_stream(stream)).into_response())
}

/// Puts a snapshot on an empty node. It is sealed then, and needs the shares of the snapshot's epoch.
#[utoipa::path(
    post,
    path = "/v1/snapshot/restore",
    tag = "snapshots",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "Restored, and sealed", body = Restored), Refusals)
)]
pub async fn restore(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Json<Restored>, ApiError> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind.as_bytes() != BYTES.as_bytes()) {
        drain(request.into_body()).await;
        return Err(ApiError::new(
            ErrorCode::MediaType,
            "the body is not marked as bytes",
            "send it with Content-Type: application/octet-stream",
        ));
    }
    let file = receive(&server, request.into_body()).await?;
    let restored = server
        .blocking(move |server| {
            let mut opened = file.reopen().map_err(|error| {
                tracing::error!(%error, "the snapshot cannot be read back");
                ApiError::storage()
            })?;
            let header = snapshots::restore(server, &mut opened, file.path())?;
            let event = Event::SnapshotRestored {
                cluster: header.cluster,
                epoch: header.epoch,
            };
            server.record_now(&caller.actor(), event)?;
            Ok::<_, ApiError>(header)
        })
        .await?;
    Ok(Json(Restored {
        cluster: restored.cluster,
        epoch: restored.epoch,
        threshold: restored.threshold,
        shares: restored.shares,
        taken: restored.taken,
    }))
}

/// Puts the body into a temporary file, deleted when dropped.
async fn receive(
    server: &Arc<Server>,
    mut body: Body,
) -> Result<tempfile::NamedTempFile, ApiError> {
    let disk = |error: std::io::Error| {
        tracing::error!(%error, "the snapshot cannot be put into the data folder");
        ApiError::storage()
    };
    let folder = server.config.data.clone();
    let mut file = tempfile::Builder::new()
        .prefix(".restore-")
        .tempfile_in(folder)
        .map_err(disk)?;
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| too_large(SNAPSHOT_BYTES))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        received += data.len();
        if received > SNAPSHOT_BYTES {
            return Err(too_large(SNAPSHOT_BYTES));
        }
        file.write_all(data).map_err(disk)?;
    }
    Ok(file)
}

impl From<SnapshotError> for ApiError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::NotASnapshot | SnapshotError::Damaged => ApiError::unfit(
                error.to_string(),
                "send a file that snapshot save or the schedule has made",
            ),
            SnapshotError::Nothing => ApiError::uninitialised(),
            SnapshotError::Io { .. } | SnapshotError::Audit(_) | SnapshotError::Records(_) => {
                tracing::error!(%error, "a snapshot");
                ApiError::storage()
            }
        }
    }
}
