//! The nine steps, and a new computer.

use holdfast_keystore_client::escrow::{RecoveryCode, SecondFactor, UserKey};
use holdfast_keystore_client::messages::{DeviceState, EscrowPolicy};
use holdfast_keystore_client::{AccountError, Enrolment, NewDevice, Proof};
use zeroize::Zeroizing;

use crate::support::{Keystore, credentials, new_device};

/// In the audit log the nine steps stand in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nine_steps_stand_in_the_audit_log() {
    let keystore = Keystore::open().await;
    keystore.enrol("alice", "correct horse").await;
    let log = keystore.audit_log();
    let steps: Vec<u64> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line.to_string().contains("enrolment_step"))
        .map(|line| step_of(&line))
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6, 7, 8, 9], "{log}");
}

fn step_of(line: &serde_json::Value) -> u64 {
    fn find(value: &serde_json::Value) -> Option<u64> {
        match value {
            serde_json::Value::Object(fields) => fields
                .get("step")
                .and_then(serde_json::Value::as_u64)
                .or_else(|| fields.values().find_map(find)),
            _ => None,
        }
    }
    find(line).unwrap()
}

/// A computer that dies before step 8 enrols again with the same token; behind it the token is worth nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_works_until_the_device_is_authorised() {
    let keystore = Keystore::open().await;
    let token = keystore.invite("alice", EscrowPolicy::Private).await;
    let (user_key, code) = (UserKey::generate(), RecoveryCode::generate());
    // Dies behind step 6, then behind step 7.
    keystore.certify(&token, "first").await.unwrap();
    let (second, ..) = keystore.certify(&token, "second").await.unwrap();
    second.escrow(&user_key, &code).await.unwrap();
    let (third, ..) = keystore.certify(&token, "third").await.unwrap();
    let escrowed = third.escrow(&user_key, &code).await.unwrap();
    escrowed.authorise().await.unwrap();
    // The answer may have got lost.
    escrowed.authorise().await.unwrap();
    let again = keystore.certify(&token, "fourth").await;
    assert_eq!(again.err().unwrap().code(), Some("login_failed"));
    // The devices of the tries before are nobody's any more.
    assert!(second.client.slots().await.is_err());
    let devices = third.client.devices().await.unwrap().devices;
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].state, DeviceState::Active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_is_wrong_can_be_typed_again() {
    let keystore = Keystore::open().await;
    let token = keystore.invite("alice", EscrowPolicy::Private).await;
    let password = Zeroizing::new("correct horse".to_owned());
    let cost = credentials("alice", "").cost;
    let enrolment = Enrolment::begin(&token, password, cost).await.unwrap();
    let factor = SecondFactor::from_address(enrolment.second_factor()).unwrap();
    let wrong = enrolment.confirm(Zeroizing::new("000000".to_owned())).await;
    assert_eq!(wrong.unwrap_err().code(), Some("second_factor"));
    enrolment
        .confirm(keystore.next_code(&factor))
        .await
        .unwrap();
}

/// With the password and a code a computer that knows nothing gets the user key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_computer_gets_the_key_with_password_and_code() {
    let keystore = Keystore::open().await;
    let alice = keystore.enrol("alice", "correct horse").await;
    let address = keystore.address().parse().unwrap();
    let proof = Proof::to_unknown(&address, credentials("alice", "correct horse"))
        .await
        .unwrap();
    let (id, key) = new_device();
    let device = NewDevice {
        id,
        name: "desktop",
        key: &key,
    };
    let code = keystore.next_code(&alice.factor);
    let logged_in = proof.log_in(code, device, None).await.unwrap();
    assert_eq!(logged_in.archive, alice.certified.archive);
    assert_eq!(logged_in.client.pin(), alice.certified.client.pin());
    let opened = logged_in.open().await.unwrap();
    assert_eq!(
        opened.user_key.expose_secret(),
        alice.user_key.expose_secret()
    );
    let shown = opened.record.recovery_code(&opened.user_key).unwrap();
    assert_eq!(*shown.to_printed(), *alice.code.to_printed());
    let half = logged_in.device_half().await.unwrap();
    assert_ne!(
        half.expose_secret(),
        alice.certified.device_half.expose_secret()
    );
    // It takes the laptop's place.
    logged_in.ready(Some(alice.device)).await.unwrap();
    let gone = alice.certified.client.devices().await.unwrap_err();
    assert_eq!(gone.code(), Some("deauthorised"));
    assert!(logged_in.client.devices().await.is_ok());
}

/// Wrong password and unknown user fail at the client, in the same words; a wrong code fails at the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_know_the_password_learns_nothing() {
    let keystore = Keystore::open().await;
    let alice = keystore.enrol("alice", "correct horse").await;
    let address = keystore.address().parse().unwrap();
    for (user, password) in [("alice", "wrong"), ("nobody", "correct horse")] {
        let proof = Proof::to_unknown(&address, credentials(user, password)).await;
        assert!(matches!(proof, Err(AccountError::WrongPassword)), "{user}");
    }
    let proof = Proof::to_unknown(&address, credentials("alice", "correct horse"));
    let (id, key) = new_device();
    let device = NewDevice {
        id,
        name: "desktop",
        key: &key,
    };
    let wrong = Zeroizing::new("000000".to_owned());
    let refused = proof.await.unwrap().log_in(wrong, device, None).await;
    assert_eq!(refused.err().unwrap().code(), Some("login_failed"));
    assert!(alice.certified.client.devices().await.is_ok());
}

/// The keystore cannot have a standard user enrolled without admins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_needs_admins() {
    let keystore = Keystore::open().await;
    let token = keystore.invite("alice", EscrowPolicy::Standard).await;
    assert!(keystore.certify(&token, "correct horse").await.is_err());
}

/// `custom`: the record has no slots, and the password opens nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_escrows_nothing() {
    let keystore = Keystore::open().await;
    let token = keystore.invite("alice", EscrowPolicy::Custom).await;
    let (certified, ..) = keystore.certify(&token, "correct horse").await.unwrap();
    let (user_key, code) = (UserKey::generate(), RecoveryCode::generate());
    let escrowed = certified.escrow(&user_key, &code).await.unwrap();
    escrowed.authorise().await.unwrap();
    let stored = certified.client.slots().await.unwrap();
    assert!(stored.record.0.len() < 200);
}
