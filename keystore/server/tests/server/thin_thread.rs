//! From nothing to open and back, over TLS.

use holdfast_keystore::api::error::ErrorCode;
use holdfast_keystore::api::health::{Health, HealthStatus};
use holdfast_keystore::api::unseal::{Nothing, Outcome};
use holdfast_keystore::names::Role;
use holdfast_keystore::persons;
use holdfast_keystore::server::Phase;
use reqwest::Method;

use crate::support::{HOLDERS, TestServer, refused, submit};

/// serve, init by the first operator, three shares over three certificates, read, seal.
#[tokio::test(flavor = "multi_thread")]
async fn three_holders_open_it_and_an_operator_seals_it() {
    let server = TestServer::start().await;
    assert_eq!(server.status().await.phase, Phase::Uninitialised);
    let mut holders = Vec::new();
    for name in HOLDERS {
        holders.push(server.add(name, Role::Holder).await);
    }
    let shares = server.init(3, &HOLDERS).await;
    assert_eq!(shares.len(), 5);
    let operator = server.operator();
    refused(
        operator.get::<persons::Person>("/v1/me").await,
        ErrorCode::Sealed,
    );

    let ceremony = server.start_unseal().await;
    for (turn, place) in [4, 0, 2].into_iter().enumerate() {
        let client = server.client(&holders[place]);
        let submitted = submit(&client, "unseal", &ceremony, &shares[place].text)
            .await
            .unwrap();
        assert_eq!((submitted.have, submitted.need), (turn as u8 + 1, 3));
        let last = if turn == 2 {
            Outcome::Unsealed
        } else {
            Outcome::Waiting
        };
        assert_eq!(submitted.outcome, last);
    }
    let health: Health = server.anonymous().get("/v1/health").await.unwrap();
    assert_eq!(health.status, HealthStatus::Unsealed);
    let me: persons::Person = server.client(&holders[1]).get("/v1/me").await.unwrap();
    assert_eq!((me.name.as_str(), me.role), ("bob", Role::Holder));
    assert_eq!(
        server.status().await.warnings.len(),
        1,
        "only that memory is not locked in tests"
    );

    operator.post::<()>("/v1/seal", &Nothing {}).await.unwrap();
    let sealed = operator
        .call::<persons::Person>(Method::GET, "/v1/me", None::<&()>)
        .await;
    refused(sealed, ErrorCode::Sealed);
    assert_eq!(server.status().await.phase, Phase::Sealed);
}

/// The end of the server seals first, and says so before it says that it ends.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_server_seals_first() {
    let (mut server, holders, shares) = TestServer::initialised(|_| {}).await;
    server.unseal(&holders, &shares[..3]).await;
    server.stop().await;
    let log = server.audit_log();
    let events: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [.., head, sealed, ending] = events.as_slice() else {
        panic!("{log}");
    };
    assert_eq!(head["event"], "head_remembered");
    assert_eq!(
        (&sealed["event"], &sealed["reason"]),
        (&"sealed".into(), &"ending".into())
    );
    assert_eq!(ending["event"], "server_ending");
    server.run().await;
    assert_eq!(server.status().await.phase, Phase::Sealed);
}

/// Whoever speaks no TLS, or nothing at all, takes a place and nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_speak_no_tls_harm_nobody() {
    use std::io::{Read, Write};
    let server = TestServer::start().await;
    let address = server.running().address;
    let silent: Vec<_> = (0..20)
        .map(|_| std::net::TcpStream::connect(address).unwrap())
        .collect();
    let mut plain = std::net::TcpStream::connect(address).unwrap();
    plain
        .write_all(b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    // An alert of TLS, or the connection is reset; no HTTP in the clear.
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(server.status().await.phase, Phase::Uninitialised);
    drop(silent);
}
