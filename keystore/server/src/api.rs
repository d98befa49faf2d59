//! The HTTPS API under `/v1`: one file per route, each with its messages, its handler, and what it does.
//!
//! The messages are public, because the command line in this crate speaks them, too. `calls.rs` has the one table of who may
//! call what and when; `openapi.json` is made from the handlers themselves.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub mod access;
pub mod calls;
pub mod error;
pub mod json;
pub mod refusals;

pub mod health;
pub mod metrics;
pub mod openapi;
pub mod status;

pub mod init;
pub mod seal;
pub mod share;
pub mod unseal;

pub mod reshare;
pub mod rotate;

pub mod me;
pub mod operators;

pub mod audit;
pub mod snapshot;

pub mod parameters;

pub mod device;
pub mod enrol;
pub mod gc;
pub mod grants;
pub mod login;
pub mod objects;
pub mod policy;
pub mod slots;
pub mod users;

use crate::metrics::{CallLabel, RequestLabels};
use crate::server::Server;
use access::Answered;
use error::{ApiError, ErrorCode};

/// All routes and their description.
pub fn open_api_router() -> OpenApiRouter<Arc<Server>> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(health::health))
        .routes(routes!(openapi::openapi))
        .routes(routes!(metrics::metrics))
        .routes(routes!(status::status))
        .routes(routes!(init::init))
        .routes(routes!(unseal::start))
        .routes(routes!(unseal::submit))
        .routes(routes!(unseal::cancel))
        .routes(routes!(seal::seal))
        .routes(routes!(share::verify))
        .routes(routes!(reshare::start))
        .routes(routes!(reshare::submit))
        .routes(routes!(reshare::cancel))
        .routes(routes!(rotate::data_key))
        .routes(routes!(me::me))
        .routes(routes!(operators::list, operators::add))
        .routes(routes!(operators::remove))
        .routes(routes!(snapshot::save))
        .routes(routes!(snapshot::restore))
        .routes(routes!(audit::tail))
        .routes(routes!(audit::verify))
        .routes(routes!(users::list, users::add))
        .routes(routes!(users::set_state))
        .routes(routes!(users::devices))
        .routes(routes!(users::deauthorise))
        .routes(routes!(policy::get, policy::put))
        .routes(routes!(enrol::begin))
        .routes(routes!(enrol::password))
        .routes(routes!(enrol::certificate))
        .routes(routes!(enrol::account))
        .routes(routes!(enrol::authorise))
        .routes(routes!(enrol::stored))
        .routes(routes!(login::start))
        .routes(routes!(login::finish))
        .routes(routes!(slots::get, slots::put))
        .routes(routes!(login::password_start))
        .routes(routes!(login::password_finish))
        .routes(routes!(device::half))
        .routes(routes!(login::ready))
        .routes(routes!(device::certificate))
        .routes(routes!(device::watch))
        .routes(routes!(device::confirm))
        .routes(routes!(device::list))
        .routes(routes!(device::deauthorise))
        .routes(routes!(device::store))
        .routes(routes!(grants::grants))
        .routes(routes!(objects::list))
        .routes(routes!(objects::get, objects::put))
        .routes(routes!(gc::gc))
}

/// What the listener runs.
pub fn router(server: Arc<Server>) -> Router {
    let (router, _) = open_api_router().split_for_parts();
    router
        .fallback(nothing_there)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&server),
            access::gate,
        ))
        .layer(middleware::from_fn_with_state(Arc::clone(&server), count))
        .with_state(server)
}

async fn nothing_there(request: Request) -> ApiError {
    json::drain(request.into_body()).await;
    ApiError::new(
        ErrorCode::NotFound,
        "there is nothing at this path",
        "/v1/openapi.json tells what there is",
    )
}

async fn count(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let response = next.run(request).await;
    let call = response
        .extensions()
        .get::<Answered>()
        .map_or("unknown", |answered| answered.0);
    let status = response.status().as_u16();
    let labels = RequestLabels { call, status };
    server.metrics.requests.get_or_create(&labels).inc();
    let seconds = server.metrics.seconds.get_or_create(&CallLabel { call });
    seconds.observe(begun.elapsed().as_secs_f64());
    response
}
