//! A device's life behind enrolment.

use std::time::{Duration, Instant};

use holdfast_keystore_client::messages::DeviceState;

use crate::support::Keystore;

/// A device that waits learns within a second that it is out, may confirm it, and may do nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_watches_learns_at_once_that_it_is_out() {
    let keystore = Keystore::open().await;
    let alice = keystore.enrol("alice", "correct horse").await;
    let client = alice.certified.client.clone();
    let watching = tokio::spawn({
        let client = client.clone();
        async move { client.watch_device(DeviceState::Active).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    client.deauthorise_device(alice.device).await.unwrap();
    let watched = watching.await.unwrap().unwrap();
    assert_eq!(watched.state, DeviceState::Deauthorised);
    assert!(began.elapsed() < Duration::from_secs(1));
    let refused = client.device_half().await.err().unwrap();
    assert_eq!(refused.code(), Some("deauthorised"));
    client.confirm_wiped().await.unwrap();
    let watched = client.watch_device(DeviceState::Deauthorised).await;
    assert_eq!(watched.unwrap().state, DeviceState::Confirmed);
}

/// A renewed certificate is shown from then on, and the old one's end is no end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_before_its_end() {
    let keystore = Keystore::open().await;
    let alice = keystore.enrol("alice", "correct horse").await;
    let client = &alice.certified.client;
    keystore.pass(6 * 86_400);
    let renewed = client
        .device_certificate(alice.key.request())
        .await
        .unwrap();
    assert!(renewed.expires > alice.certified.certificate.expires);
    let identity = alice.key.with_certificate(&renewed.certificate).unwrap();
    client.present(&identity).await.unwrap();
    keystore.pass(10 * 86_400);
    client.devices().await.unwrap();
    // Fourteen days later this one is over, too.
    keystore.pass(14 * 86_400);
    client.present(&identity).await.unwrap();
    assert!(client.devices().await.is_err());
}
