//! A copy of the database on an empty node.

use std::fs;

use holdfast_keystore::api::error::ErrorCode;
use holdfast_keystore::api::snapshot::Restored;
use holdfast_keystore::audit::event::ShareRefusal;
use holdfast_keystore::client::ClientError;
use holdfast_keystore::names::Role;
use holdfast_keystore::persons;
use holdfast_keystore::server::{Phase, Warning};
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;

use crate::support::{TestServer, files, refused, submit};

async fn save(server: &TestServer) -> Vec<u8> {
    let operator = server.operator();
    let request = operator.request(Method::GET, "/v1/snapshot");
    operator
        .send(request)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap()
        .to_vec()
}

async fn restore(server: &TestServer, bytes: Vec<u8>) -> Result<Restored, ClientError> {
    let operator = server.operator();
    let request = operator
        .request(Method::POST, "/v1/snapshot/restore")
        .header("content-type", "application/octet-stream")
        .body(bytes);
    let response = operator.send(request).await?;
    Ok(response.json().await.unwrap())
}

/// An empty node takes it, the holders' old certificates and shares open it, and what was in it is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_restored_on_an_empty_node_with_the_shares_of_its_epoch() {
    let (server, holders, shares) = TestServer::initialised(|_| {}).await;
    server.unseal(&holders, &shares[..3]).await;
    let snapshot = save(&server).await;
    for share in &shares {
        let plain = share.text.as_bytes();
        assert!(!snapshot.windows(plain.len()).any(|window| window == plain));
    }
    refused(
        restore(&server, snapshot.clone()).await,
        ErrorCode::AlreadyInitialised,
    );

    let mut node = TestServer::start().await;
    let restored = restore(&node, snapshot).await.unwrap();
    assert_eq!(
        (restored.epoch, restored.threshold, restored.shares),
        (1, 3, 5)
    );
    assert_eq!(node.status().await.phase, Phase::Sealed);
    // The old certificates are from another authority; the server's own is trusted by its own clients.
    let alice = node.client_of_elsewhere(&holders[0]);
    let ceremony = node.start_unseal().await;
    submit(&alice, "unseal", &ceremony, &shares[0].text)
        .await
        .unwrap();
    node.restart().await;
    let ceremony = node.start_unseal().await;
    for place in [0, 1, 4] {
        let holder = node.client_of_elsewhere(&holders[place]);
        submit(&holder, "unseal", &ceremony, &shares[place].text)
            .await
            .unwrap();
    }
    let me: persons::Person = node
        .client_of_elsewhere(&holders[3])
        .get("/v1/me")
        .await
        .unwrap();
    assert_eq!(me.name.as_str(), "dave");
}

/// Shares of another epoch are refused with the number of the one that is needed.
#[tokio::test(flavor = "multi_thread")]
async fn the_message_names_the_epoch_whose_shares_are_needed() {
    use holdfast_keystore::api::reshare::ReshareStarted;
    let (server, holders, first) = TestServer::initialised(|_| {}).await;
    server.unseal(&holders, &first[..3]).await;
    let snapshot = save(&server).await;
    let wanted = crate::support::init_request(3, &crate::support::HOLDERS);
    let started: ReshareStarted = server
        .operator()
        .post("/v1/reshare/start", &wanted)
        .await
        .unwrap();
    let second = crate::support::shares(started.shares);
    let agreeing = holders.iter().zip(&first).take(3);
    for (holder, share) in agreeing.chain(holders.iter().zip(&second)) {
        submit(
            &server.client(holder),
            "reshare",
            &started.ceremony,
            &share.text,
        )
        .await
        .unwrap();
    }
    let node = TestServer::start().await;
    restore(&node, snapshot).await.unwrap();
    let ceremony = node.start_unseal().await;
    let alice = node.client_of_elsewhere(&holders[0]);
    let newer = submit(&alice, "unseal", &ceremony, &second[0].text).await;
    let body = refused(newer, ErrorCode::ShareRefused);
    assert_eq!(body.reason, Some(ShareRefusal::OtherEpoch));
    assert!(
        body.sentence.contains("epoch 2") && body.next_step.contains("epoch 1"),
        "{body:?}"
    );
}

/// Every byte of a snapshot that is changed or missing is found before anything is restored.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_refused_and_leaves_the_node_empty() {
    let (server, holders, shares) = TestServer::initialised(|_| {}).await;
    server.unseal(&holders, &shares[..3]).await;
    let snapshot = save(&server).await;
    let node = TestServer::start().await;
    for place in (0..snapshot.len()).step_by(snapshot.len() / 40) {
        let mut changed = snapshot.clone();
        changed[place] ^= 1;
        refused(restore(&node, changed).await, ErrorCode::Unfit);
        refused(
            restore(&node, snapshot[..place].to_vec()).await,
            ErrorCode::Unfit,
        );
    }
    assert_eq!(node.status().await.phase, Phase::Uninitialised);
    assert!(
        !files(&node.data())
            .iter()
            .any(|path| path.to_string_lossy().contains(".restore-"))
    );
    restore(&node, snapshot).await.unwrap();
}

/// Whoever was removed after the snapshot stays out when it is restored beside the audit log that says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_does_not_let_somebody_in_again() {
    let (mut server, holders, shares) = TestServer::initialised(|_| {}).await;
    let thief = server
        .add_unsealed("thief", Role::Operator, &holders, &shares)
        .await;
    let snapshot = save(&server).await;
    let remove = server
        .operator()
        .request(Method::DELETE, "/v1/operators/thief");
    server.operator().send(remove).await.unwrap();
    server.stop().await;
    // The database is lost; the folder with the audit log is not.
    fs::remove_file(server.data().join("keystore.redb")).unwrap();
    server.run().await;
    restore(&server, snapshot).await.unwrap();
    let tried = server.client(&thief).get::<()>("/v1/status").await;
    refused(tried, ErrorCode::UnknownCertificate);
    server.unseal(&holders, &shares[..3]).await;
}

/// The schedule takes one when one is due, keeps as many as configured, and says once when it cannot.
#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_taken_on_schedule_and_the_oldest_deleted() {
    let (server, holders, shares) = TestServer::initialised(|config| {
        config.snapshots.every_hours = 6;
        config.snapshots.keep = 2;
    })
    .await;
    server.unseal(&holders, &shares[..3]).await;
    let folder = server.data().join("snapshots");
    let start = Timestamp::from_second(Timestamp::now().as_second()).unwrap()
        + SignedDuration::from_hours(7);
    let at = |hours| start + SignedDuration::from_hours(hours);
    for (hours, newest) in [(0, 0), (5, 0), (6, 6), (11, 6), (13, 13), (40, 40)] {
        server.tick(at(hours)).await;
        assert_eq!(
            server.status().await.newest_snapshot,
            Some(at(newest)),
            "{hours}"
        );
    }
    let names = || -> Vec<String> {
        let entries = fs::read_dir(&folder).unwrap().flatten();
        entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    };
    assert_eq!(names().len(), 2, "{:?}", names());
    // The newest file is a whole snapshot.
    let newest = names().into_iter().max().unwrap();
    let node = TestServer::start().await;
    restore(&node, fs::read(folder.join(newest)).unwrap())
        .await
        .unwrap();
    // A folder that is none: it is told, once.
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "in the way").unwrap();
    for hours in [50, 51] {
        server.tick(at(hours)).await;
        assert!(
            server
                .status()
                .await
                .warnings
                .contains(&Warning::SnapshotOverdue)
        );
    }
    assert_eq!(server.audit_log().matches("snapshot_overdue").count(), 1);
}
