//! `/v1/objects`: listings of the caller's archive, and the objects themselves where they are in a folder of the server's.
//!
//! Whoever has a link may make its request; who it is does not matter, as with a presigned request to a bucket. While the keystore is
//! sealed there are no links.

use std::io::SeekFrom;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::{Bytes, BytesMut};
use holdfast_backend::layout::{Folder, ObjectName};
use holdfast_backend::object::Object;
use holdfast_backend::store::{DirStore, Listed, ObjectStore, Stored};
use holdfast_protocol::calls::{ListedObject, Listing};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::access::Caller;
use super::error::{ApiError, ErrorBody, ErrorCode};
use super::json::drain;
use super::parameters::{ObjectParameter, Parameters};
use super::refusals::Refusals;
use crate::server::Server;
use crate::stores::{Act, LinkError, LinkQuery};

/// A body may take this long however short it is.
const BODY_TIME: Duration = Duration::from_secs(60);
/// Below this it holds the memory that others wait for.
const SLOWEST_BYTES_PER_SECOND: u64 = 32 << 10;
/// Read from the disk at once.
const PIECE: usize = 256 << 10;

/// Which page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    folder: String,
    after: Option<String>,
}

/// A page of a folder of the caller's archive.
#[utoipa::path(
    get,
    path = "/v1/objects",
    tag = "grants",
    params(
        ("folder" = String, Query, description = "packs, index, keys, refs, commits, pins, forgotten, condemned, deleting, moved or keyring; refs and commits of one device: refs/DEVICE"),
        ("after" = Option<String>, Query, description = "The name that the page before has ended with"),
    ),
    responses((status = 200, description = "At most 1000 objects, by name", body = Listing), Refusals)
)]
pub async fn list(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Listing>, ApiError> {
    let Query(query) =
        query.map_err(|_| ApiError::bad_request("write which folder: ?folder=packs"))?;
    let folder = Folder::named(&query.folder)
        .ok_or_else(|| ApiError::bad_request("there is no folder of this name"))?;
    let after = query.after.as_deref().map(str::parse::<ObjectName>);
    let after = after
        .transpose()
        .map_err(|_| ApiError::bad_request("after is not the name of an object"))?;
    let archive = server.open_archive(caller.device()).await?;
    let page = archive.page(folder, after.as_ref()).await?;
    Ok(Json(Listing {
        objects: page.objects.iter().map(listed).collect(),
        after: page.after.map(|name| name.to_string()),
    }))
}

fn listed(object: &Listed) -> ListedObject {
    ListedObject {
        name: object.name.to_string(),
        bytes: object.size,
        stored_at: object
            .stored_at
            .and_then(|time| Timestamp::try_from(time).ok()),
    }
}

/// Stores an object that a link allows.
#[utoipa::path(
    put,
    path = "/v1/objects/{archive}/{name}",
    tag = "grants",
    params(
        ObjectParameter,
        ("act" = String, Query, description = "put"),
        ("bytes" = u64, Query, description = "The object's length"),
        ("expires" = i64, Query, description = "When the link is over, in seconds since 1970"),
        ("signature" = String, Query, description = "The server's"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "Stored"),
        (status = 404, description = "The server has no folder of its own", body = ErrorBody),
        (status = 412, description = "It is there already", body = ErrorBody),
        (status = 507, description = "The folder is full", body = ErrorBody),
        Refusals,
    )
)]
pub async fn put(
    State(server): State<Arc<Server>>,
    Parameters(which): Parameters<ObjectParameter>,
    query: Result<Query<LinkQuery>, QueryRejection>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let checked = check(&server, &which, query);
    let (store, name, bytes) = match checked {
        Ok((store, name, Act::Put { bytes })) => (store, name, bytes),
        Ok(_) => {
            drain(request.into_body()).await;
            return Err(no_link(LinkError::Signature));
        }
        Err(error) => {
            drain(request.into_body()).await;
            return Err(error);
        }
    };
    let _room = server.stores.room(bytes).await;
    let body = read(request.into_body(), bytes).await?;
    let object = Object::from_stored(name, body).map_err(|_| {
        ApiError::bad_request("the bytes are not the ones whose SHA-256 is in the name")
    })?;
    match store.put_new(&object).await? {
        Stored::New => Ok(StatusCode::OK),
        Stored::AlreadyThere => Err(ApiError::new(
            ErrorCode::AlreadyStored,
            "this object is there already",
            "nothing is to be done: a name has one content only",
        )),
    }
}

/// Loads an object that a link allows, or a range of it.
#[utoipa::path(
    get,
    path = "/v1/objects/{archive}/{name}",
    tag = "grants",
    params(
        ObjectParameter,
        ("act" = String, Query, description = "get"),
        ("expires" = i64, Query, description = "When the link is over, in seconds since 1970"),
        ("signature" = String, Query, description = "The server's"),
        ("range" = Option<String>, Header, description = "bytes=FIRST-LAST"),
    ),
    responses(
        (status = 200, description = "The object", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, description = "The range", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, description = "There is no such object", body = ErrorBody),
        (status = 416, description = "It has no such range", body = ErrorBody),
        Refusals,
    )
)]
pub async fn get(
    State(server): State<Arc<Server>>,
    Parameters(which): Parameters<ObjectParameter>,
    query: Result<Query<LinkQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (store, name) = match check(&server, &which, query)? {
        (store, name, Act::Get) => (store, name),
        _ => return Err(no_link(LinkError::Signature)),
    };
    let (file, bytes) = store.file(&name).await?;
    let range = headers
        .get(header::RANGE)
        .and_then(|range| asked_range(range.to_str().ok()?, bytes));
    let (status, range) = match range {
        None => (StatusCode::OK, 0..bytes),
        Some(Some(range)) => (StatusCode::PARTIAL_CONTENT, range),
        Some(None) => {
            return Err(ApiError::new(
                ErrorCode::Range,
                format!("the object has {bytes} bytes, and no such range"),
                "ask for bytes that it has",
            ));
        }
    };
    let mut file = tokio::fs::File::from_std(file);
    file.seek(SeekFrom::Start(range.start))
        .await
        .map_err(|error| {
            tracing::error!(%error, %name, "an object cannot be read");
            ApiError::storage()
        })?;
    let length = range.end - range.start;
    let stream = ReaderStream::with_capacity(file.take(length), PIECE);
    let mut response = (status, Body::from_stream(stream)).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CONTENT_LENGTH, length.into());
    if status == StatusCode::PARTIAL_CONTENT {
        let of = format!("bytes {}-{}/{bytes}", range.start, range.end - 1);
        let of = of.try_into().expect("digits are good in a header");
        headers.insert(header::CONTENT_RANGE, of);
    }
    Ok(response)
}

fn check(
    server: &Server,
    which: &ObjectParameter,
    query: Result<Query<LinkQuery>, QueryRejection>,
) -> Result<(DirStore, ObjectName, Act), ApiError> {
    let Query(query) = query.map_err(|_| no_link(LinkError::Signature))?;
    let name = which
        .name
        .parse::<ObjectName>()
        .map_err(|_| no_link(LinkError::Signature))?;
    let (store, key) = server.stores.served(&which.archive).ok_or_else(|| {
        ApiError::new(
            ErrorCode::NotFound,
            "this keystore has its objects in a bucket, and serves none itself",
            "ask for grants: POST /v1/grants",
        )
    })?;
    let now = server.clock.now().as_second();
    let act = key.check(which.archive, name, &query, now);
    Ok((store, name, act.map_err(no_link)?))
}

fn no_link(error: LinkError) -> ApiError {
    ApiError::new(
        ErrorCode::Forbidden,
        error.to_string(),
        "ask for a new one: POST /v1/grants",
    )
}

/// Exactly so many bytes, in time.
async fn read(mut body: Body, bytes: u64) -> Result<Bytes, ApiError> {
    let wrong = || ApiError::bad_request(format!("the body has not {bytes} bytes, as was granted"));
    let mut read = BytesMut::with_capacity(usize::try_from(bytes).map_err(|_| wrong())?);
    let within = BODY_TIME + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND);
    let reading = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| wrong())?;
            if let Some(data) = frame.data_ref() {
                if (read.len() + data.len()) as u64 > bytes {
                    return Err(wrong());
                }
                read.extend_from_slice(data);
            }
        }
        Ok(())
    };
    match tokio::time::timeout(within, reading).await {
        Ok(Ok(())) if read.len() as u64 == bytes => Ok(read.freeze()),
        // Read on, within limits: a connection that is closed meanwhile breaks before the caller has read the refusal.
        Ok(_) => {
            drain(body).await;
            Err(wrong())
        }
        Err(_) => Err(wrong()),
    }
}

/// The one range that is asked for (RFC 9110, section 14.1.2). Outside: whether it is one that we honour; a header that is none is ignored,
/// as are several ranges. Inside: whether the object has it.
fn asked_range(header: &str, bytes: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| match text.bytes().all(|c| c.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    let range = match (first, last) {
        ("", count) => {
            let count = number(count)?;
            bytes.saturating_sub(count)..bytes
        }
        (first, "") => number(first)?..bytes,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(bytes)
        }
    };
    Some((range.start < range.end).then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_has_them() {
        let range = |header| asked_range(header, 10);
        assert_eq!(range("bytes=0-0"), Some(Some(0..1)));
        assert_eq!(range("bytes=3-5"), Some(Some(3..6)));
        assert_eq!(range("bytes=3-50"), Some(Some(3..10)));
        assert_eq!(range("bytes=3-"), Some(Some(3..10)));
        assert_eq!(range("bytes=-4"), Some(Some(6..10)));
        assert_eq!(range("bytes=-40"), Some(Some(0..10)));
        for beyond in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(range(beyond), Some(None), "{beyond}");
        }
        for none in [
            "bytes=5-3",
            "bytes=a-b",
            "bytes=1-2,4-5",
            "lines=1-2",
            "bytes=+1-2",
            "bytes=-",
            "",
        ] {
            assert_eq!(range(none), None, "{none}");
        }
    }
}
