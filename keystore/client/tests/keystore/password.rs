//! A new password.

use holdfast_keystore_client::escrow::SlotsRecord;
use holdfast_keystore_client::messages::{Bytes64, PutSlots};
use holdfast_keystore_client::{AccountError, NewDevice, Proof};
use zeroize::Zeroizing;

use crate::support::{Enrolled, Keystore, credentials, new_device};

async fn change(keystore: &Keystore, alice: &Enrolled, old: &str, new: &str) -> u64 {
    let client = &alice.certified.client;
    let proof = Proof::to(client, credentials("alice", old)).await.unwrap();
    let code = keystore.next_code(&alice.factor);
    let new = Zeroizing::new(new.to_owned());
    let changing = proof.start_change(code, new).await.unwrap();
    let archive = &alice.certified.archive;
    let opened = changing.open(client, archive, 1).await.unwrap();
    changing.finish(client, opened).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_password_opens_the_key_and_the_old_one_does_not() {
    let keystore = Keystore::open().await;
    let alice = keystore.enrol("alice", "correct horse").await;
    assert_eq!(
        change(&keystore, &alice, "correct horse", "battery").await,
        2
    );
    let address = keystore.address().parse().unwrap();
    let old = Proof::to_unknown(&address, credentials("alice", "correct horse")).await;
    assert!(matches!(old, Err(AccountError::WrongPassword)));
    let proof = Proof::to_unknown(&address, credentials("alice", "battery"));
    let (id, key) = new_device();
    let device = NewDevice {
        id,
        name: "desktop",
        key: &key,
    };
    let code = keystore.next_code(&alice.factor);
    let logged_in = proof
        .await
        .unwrap()
        .log_in(code, device, None)
        .await
        .unwrap();
    let opened = logged_in.open().await.unwrap();
    assert_eq!(
        opened.user_key.expose_secret(),
        alice.user_key.expose_secret()
    );
    assert_eq!(opened.record.version, 2);
    let by_code = opened.record.open_with_code(&alice.code).unwrap();
    assert_eq!(by_code.expose_secret(), alice.user_key.expose_secret());
}

/// Two changes at once: one of them holds, the other is told, and password and slot go together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_changed_in_between_stops_the_change() {
    let keystore = Keystore::open().await;
    let alice = keystore.enrol("alice", "correct horse").await;
    let client = &alice.certified.client;
    let proof = Proof::to(client, credentials("alice", "correct horse"));
    let code = keystore.next_code(&alice.factor);
    let new = Zeroizing::new("battery".to_owned());
    let changing = proof.await.unwrap().start_change(code, new).await.unwrap();
    let archive = alice.certified.archive;
    let opened = changing.open(client, &archive, 1).await.unwrap();
    // Another device of the user writes a record meanwhile.
    let slots = opened.record.escrowed.clone();
    let user = opened.record.user.clone();
    let other = SlotsRecord::sign(user, archive, 2, slots, &alice.user_key);
    let record = Bytes64(other.to_bytes());
    client.put_slots(&PutSlots { record }).await.unwrap();
    let refused = changing.finish(client, opened).await.unwrap_err();
    assert_eq!(refused.code(), Some("conflict"));
    let old = Proof::to(client, credentials("alice", "correct horse")).await;
    assert!(old.is_ok());
}

/// A server that shows an older record than a computer has seen is found out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_record_is_told() {
    let keystore = Keystore::open().await;
    let alice = keystore.enrol("alice", "correct horse").await;
    let client = &alice.certified.client;
    let proof = Proof::to(client, credentials("alice", "correct horse"));
    let code = keystore.next_code(&alice.factor);
    let new = Zeroizing::new("battery".to_owned());
    let changing = proof.await.unwrap().start_change(code, new).await.unwrap();
    let opened = changing.open(client, &alice.certified.archive, 7).await;
    assert!(matches!(opened, Err(AccountError::Slots(_))));
}
