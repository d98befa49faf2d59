//! `GET /v1/openapi.json`: the API's description, made from the handlers.

use std::sync::LazyLock;

use axum::Json;
use serde_json::Value;
use utoipa::openapi::security::SecurityScheme;
use utoipa::{Modify, OpenApi};

/// What stands at the top of the description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast keystore",
        description = "The sealed server: ceremonies, persons, audit, snapshots. Every call but two needs a client certificate."
    ),
    modifiers(&Certificate),
    security(("certificate" = []))
)]
pub struct Document;

struct Certificate;

impl Modify for Certificate {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::MutualTls {
            description: Some("A certificate that the keystore has issued".to_owned()),
            extensions: None,
            deprecated: None,
        };
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("certificate", scheme);
    }
}

/// Made once: it does not change while the server runs.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let (_, document) = super::open_api_router().split_for_parts();
    serde_json::to_value(document).expect("a description is always JSON")
});

/// This description.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    tag = "state",
    security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub async fn openapi() -> Json<&'static Value> {
    Json(&DOCUMENT)
}
