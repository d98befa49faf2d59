//! Who is taken for the keystore, and what is told when it does not answer.

use holdfast_keystore_client::messages::{BeginEnrolment, Bytes64, SecretHex};
use holdfast_keystore_client::names::HexBytes;
use holdfast_keystore_client::{Client, ClientError};

use crate::support::Keystore;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_pinned_authority_makes_a_keystore() {
    let keystore = Keystore::open().await;
    let address = keystore.address().parse().unwrap();
    let stranger = Client::new(address, HexBytes([7; 32]), None).unwrap();
    let error = stranger.store().await.unwrap_err();
    assert!(matches!(error, ClientError::Untrusted { .. }), "{error}");
    assert!(!error.is_away());
}

/// The certificate is for `localhost`; the same server under another name is not taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_must_be_for_the_host_that_is_called() {
    let keystore = Keystore::open().await;
    let alice = keystore.enrol("alice", "correct horse").await;
    let pin = alice.certified.client.pin();
    let address = keystore
        .address()
        .replace("localhost", "localhost.localdomain");
    let elsewhere = Client::new(address.parse().unwrap(), pin, None).unwrap();
    let error = elsewhere.store().await.unwrap_err();
    let is_right = matches!(
        error,
        ClientError::Untrusted { .. } | ClientError::Unreachable { .. }
    );
    assert!(is_right, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_away() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let address = format!("https://127.0.0.1:{port}").parse().unwrap();
    let client = Client::new(address, HexBytes([0; 32]), None).unwrap();
    let error = client.store().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert!(error.is_away());
}

/// Sealed, it says so; open again, the same client goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_keystore_is_told_from_one_that_refuses() {
    let keystore = Keystore::open().await;
    let alice = keystore.enrol("alice", "correct horse").await;
    let client = &alice.certified.client;
    keystore.seal().await;
    let error = client.devices().await.unwrap_err();
    assert!(matches!(error, ClientError::Sealed(_)), "{error}");
    assert!(error.is_away());
    keystore.unseal().await;
    client.devices().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_has_its_code() {
    let keystore = Keystore::open().await;
    let alice = keystore.enrol("alice", "correct horse").await;
    let client = &alice.certified.client;
    let nobody = BeginEnrolment {
        user: "bob".parse().unwrap(),
        secret: SecretHex::copy_of(&[0; 32]),
        registration: Bytes64(vec![0; 32]),
    };
    let error = client.enrol_begin(&nobody).await.err().unwrap();
    assert_eq!(error.code(), Some("login_failed"));
    assert!(!error.is_away());
}

/// Many calls at once go over one connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_side_by_side() {
    let keystore = Keystore::open().await;
    let alice = keystore.enrol("alice", "correct horse").await;
    let client = &alice.certified.client;
    let calls = (0..100).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.store().await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
}
