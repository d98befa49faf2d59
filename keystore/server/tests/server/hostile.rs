//! Bodies that nobody should send.

use holdfast_keystore::api::error::{ErrorBody, ErrorCode};
use holdfast_keystore::api::json::BODY_BYTES;
use reqwest::StatusCode;

use crate::support::TestServer;

async fn post(
    server: &TestServer,
    path: &str,
    kind: &str,
    body: Vec<u8>,
) -> (StatusCode, ErrorBody) {
    let request = server.operator().request(reqwest::Method::POST, path);
    let response = request
        .header("content-type", kind)
        .body(body)
        .send()
        .await
        .unwrap();
    (response.status(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_json_is_refused_with_one_sentence_and_nothing_of_it_is_repeated() {
    let server = TestServer::start().await;
    let planted = "planted-secret-9f3a";
    let mut bodies: Vec<Vec<u8>> = [
        "",
        "null",
        "[]",
        "{}",
        "{\"threshold\":3}",
        "{\"threshold\":-1,\"holders\":[]}",
        "{\"threshold\":3,\"threshold\":3,\"holders\":[]}",
        "{\"threshold\":1e400,\"holders\":[]}",
        "{\"threshold\":3,\"holders\":[],\"more\":\"planted-secret-9f3a\"}",
        "{\"threshold\":\"planted-secret-9f3a\",\"holders\":[]}",
        "{\"threshold\":3,\"holders\":[{\"name\":\"planted-secret-9f3A\"}]}",
        "{\"threshold\":3,\"holders\":[{\"name\":\"a\\u0000b\"}]}",
        "{\"threshold\":3,\"holders\":",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    bodies.push(vec![0xff; 100]);
    bodies.push("[".repeat(BODY_BYTES - 1).into_bytes());
    bodies.push("{\"a\":".repeat(10_000).into_bytes());
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let (status, error) = post(&server, "/v1/init", "application/json", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{shown}");
        assert_eq!(error.code, ErrorCode::BadRequest, "{shown}");
        assert_eq!(error.sentence.lines().count(), 1);
        assert!(!error.sentence.contains(planted), "{}", error.sentence);
    }
    assert!(!server.audit_log().contains(planted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_long_or_of_another_kind_is_refused() {
    let server = TestServer::start().await;
    let long = vec![b' '; BODY_BYTES + 1];
    let (status, error) = post(&server, "/v1/init", "application/json", long).await;
    assert_eq!(
        (status, error.code),
        (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge)
    );
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "",
    ] {
        let (status, error) = post(&server, "/v1/init", kind, b"{}".to_vec()).await;
        assert_eq!(
            (status, error.code),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::MediaType)
        );
    }
    let (status, _) = post(
        &server,
        "/v1/init",
        "application/json; charset=utf-8",
        b"{}".to_vec(),
    )
    .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let kind = "application/octet-stream";
    for body in [
        Vec::new(),
        b"nonsense".to_vec(),
        vec![0; 1 << 20],
        b"holdfast keystore snapshot 1\n\xff\xff\xff\xff".to_vec(),
    ] {
        let (status, error) = post(&server, "/v1/snapshot/restore", kind, body).await;
        assert_eq!(
            (status, error.code),
            (StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::Unfit)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_name_of_a_person_and_no_number_of_lines_is_refused() {
    let server = TestServer::start().await;
    let operator = server.operator();
    for name in ["A", "%00", "a%2Fb", "..%2f..", "%ff", &"a".repeat(65)] {
        let request = operator.request(reqwest::Method::DELETE, &format!("/v1/operators/{name}"));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{name}");
        let _: ErrorBody = response.json().await.unwrap();
    }
}
