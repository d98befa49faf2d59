//! Reading bodies: JSON of a known shape and a bounded size, and never a copy of a share left behind where we can help it.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::error::{ApiError, ErrorCode};

/// No call takes a longer JSON document.
pub const BODY_BYTES: usize = 64 << 10;
/// So much of a refused body is read all the same.
const DRAINED_BYTES: usize = 1 << 20;
/// Between two pieces of a body.
const BODY_TIME: Duration = Duration::from_secs(10);

/// A JSON body.
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let is_json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                let kind = value.split(';').next().unwrap_or_default().trim();
                kind.eq_ignore_ascii_case("application/json")
            });
        if !is_json {
            drain(request.into_body()).await;
            return Err(ApiError::new(
                ErrorCode::MediaType,
                "the body is not marked as JSON",
                "send it with Content-Type: application/json",
            ));
        }
        let bytes = read(request.into_body()).await?;
        serde_json::from_slice(&bytes)
            .map(JsonBody)
            .map_err(|error| ApiError::bad_request(mistake(&error)))
    }
}

async fn read(mut body: Body) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    // Of its full size from the start: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(BODY_BYTES));
    loop {
        let frame = tokio::time::timeout(BODY_TIME, body.frame()).await;
        let Some(frame) = frame.map_err(|_| too_large(BODY_BYTES))? else {
            return Ok(bytes);
        };
        let frame = frame.map_err(|_| too_large(BODY_BYTES))?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > BODY_BYTES {
                drain(body).await;
                return Err(too_large(BODY_BYTES));
            }
            bytes.extend_from_slice(data);
        }
    }
}

/// Reads a body that nobody wants, within limits: closed while it is still sent, a connection breaks before the caller has
/// read the refusal.
pub async fn drain(body: Body) {
    let all = Limited::new(body, DRAINED_BYTES).collect();
    // Longer or slower than that, and the connection breaks after all.
    let _ = tokio::time::timeout(BODY_TIME, all).await;
}

/// More than a call takes, or a connection that broke.
pub fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        ErrorCode::TooLarge,
        format!("the body is longer than {limit} bytes or has not come whole"),
        "send what the call takes, as /v1/openapi.json tells",
    )
}

/// Place and kind of the mistake, and nothing of what was sent: that could be a share.
fn mistake(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "is JSON, but not what this call takes",
        _ => "is not JSON",
    };
    format!(
        "the body {what} (line {}, column {})",
        error.line(),
        error.column()
    )
}

/// A share as text, on its way through the API. It can be neither printed nor compared, and is zeroed when dropped.
#[derive(ToSchema)]
#[schema(value_type = String, max_length = 4096)]
pub struct ShareText(Zeroizing<String>);

impl ShareText {
    /// What was typed or printed.
    pub fn new(text: Zeroizing<String>) -> ShareText {
        ShareText(text)
    }

    /// The text, for whoever parses or prints it.
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

impl Serialize for ShareText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ShareText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| ShareText(Zeroizing::new(text)))
    }
}
