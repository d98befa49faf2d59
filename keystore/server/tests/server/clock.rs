//! What ends by itself, with a clock that is moved.

use holdfast_keystore::api::health::{Health, HealthStatus};
use holdfast_keystore::client::ClientError;
use holdfast_keystore::server::Phase;
use reqwest::Method;

use crate::support::TestServer;

const HOUR: i64 = 3_600;
const YEAR: i64 = 366 * 24 * HOUR;

/// A person's certificate of ten years lets nobody in after that, though the table still has the person.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_whose_time_is_over_is_refused_in_the_handshake() {
    let server = TestServer::start().await;
    server.pass(9 * YEAR);
    assert_eq!(server.status().await.phase, Phase::Uninitialised);
    server.pass(2 * YEAR);
    let operator = server.operator();
    let error = operator
        .get::<serde_json::Value>("/v1/status")
        .await
        .unwrap_err();
    assert!(!matches!(error, ClientError::Refused(_)), "{error}");
    // Whoever shows no certificate is still answered.
    let anonymous = server.anonymous();
    let health = anonymous.request(Method::GET, "/v1/health").send().await;
    let health: Health = health.unwrap().json().await.unwrap();
    assert_eq!(health.status, HealthStatus::Uninitialised);
}

/// A ceremony that nobody finishes is over by the server's clock.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_ends_by_the_servers_clock() {
    let (server, ..) = TestServer::initialised(|_| {}).await;
    server.start_unseal().await;
    assert!(server.status().await.ceremony.is_some());
    server.pass(HOUR + 1);
    // A new one can be started only if the old one is over.
    server.start_unseal().await;
}
