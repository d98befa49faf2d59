//! Shares over HTTP: who may, what counts, what is refused by name, and what survives a wrong one.

use holdfast_keystore::api::error::{ErrorBody, ErrorCode};
use holdfast_keystore::api::init::InitResponse;
use holdfast_keystore::api::json::ShareText;
use holdfast_keystore::api::reshare::ReshareStarted;
use holdfast_keystore::api::share::{GoodShare, VerifyShare};
use holdfast_keystore::api::status::{CeremonyStatus, DataKeyStatus};
use holdfast_keystore::api::unseal::{CancelCeremony, Nothing, Outcome};
use holdfast_keystore::audit::event::ShareRefusal;
use holdfast_keystore::client::{Client, ClientError};
use holdfast_keystore::names::{HexBytes, Role};
use holdfast_keystore::server::{Phase, Warning};
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use crate::support::{HOLDERS, TestServer, init_request, refused, shares, submit};

fn why<T>(result: Result<T, ClientError>) -> (Option<u8>, ShareRefusal) {
    let body: ErrorBody = refused(result, ErrorCode::ShareRefused);
    (
        body.share,
        body.reason.expect("a refused share has its reason"),
    )
}

async fn verify(client: &Client, share: &str) -> Result<GoodShare, ClientError> {
    let share = ShareText::new(Zeroizing::new(share.to_owned()));
    client
        .post("/v1/share/verify", &VerifyShare { share })
        .await
}

/// Wrong, foreign, repeated and other people's shares are refused by number and reason, and those that had counted still do.
#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_is_refused_takes_nothing_away() {
    let (server, holders, own) = TestServer::initialised(|_| {}).await;
    let (_other, _, foreign) = TestServer::initialised(|_| {}).await;
    let ceremony = server.start_unseal().await;
    let clients: Vec<Client> = holders.iter().map(|holder| server.client(holder)).collect();
    let first = submit(&clients[0], "unseal", &ceremony, &own[0].text)
        .await
        .unwrap();
    assert_eq!((first.have, first.outcome), (1, Outcome::Waiting));
    let again = submit(&clients[0], "unseal", &ceremony, &own[0].text).await;
    assert_eq!(why(again), (Some(1), ShareRefusal::Repeated));
    let others = submit(&clients[0], "unseal", &ceremony, &own[1].text).await;
    assert_eq!(why(others), (Some(2), ShareRefusal::OtherHolder));
    let strange = submit(&clients[1], "unseal", &ceremony, &foreign[1].text).await;
    assert_eq!(why(strange).1, ShareRefusal::Foreign);
    for text in ["", "nonsense", &own[1].text[1..], &"x".repeat(4096)] {
        let unreadable = submit(&clients[1], "unseal", &ceremony, text).await;
        assert_eq!(why(unreadable).1, ShareRefusal::Unreadable, "{text}");
    }
    let mut other = ceremony.clone();
    other.ceremony = HexBytes([7; 16]);
    let wrong_id = submit(&clients[1], "unseal", &other, &own[1].text).await;
    assert_eq!(why(wrong_id).1, ShareRefusal::NoSuchCeremony);
    let mut other = ceremony.clone();
    other.digest = HexBytes([7; 32]);
    let wrong_digest = submit(&clients[1], "unseal", &other, &own[1].text).await;
    assert_eq!(why(wrong_digest).1, ShareRefusal::NoSuchCeremony);
    assert_eq!(server.status().await.ceremony.unwrap().have, [1]);
    for (place, have) in [(3, 2), (2, 3)] {
        let submitted = submit(&clients[place], "unseal", &ceremony, &own[place].text)
            .await
            .unwrap();
        assert_eq!(submitted.have, have);
    }
    assert_eq!(server.status().await.phase, Phase::Unsealed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_verified_without_unsealing_anything() {
    let (server, holders, own) = TestServer::initialised(|_| {}).await;
    let bob = server.client(&holders[1]);
    let good = verify(&bob, &own[1].text).await.unwrap();
    assert_eq!((good.number, good.holder.as_str()), (2, "bob"));
    assert_eq!(
        why(verify(&bob, &own[0].text).await),
        (Some(1), ShareRefusal::OtherHolder)
    );
    assert_eq!(
        why(verify(&bob, "nonsense").await),
        (None, ShareRefusal::Unreadable)
    );
    let status = server.status().await;
    assert_eq!((status.phase, status.ceremony), (Phase::Sealed, None));
    server.unseal(&holders, &own[..3]).await;
    assert_eq!(verify(&bob, &own[1].text).await.unwrap().number, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_is_started_once_cancelled_and_forgotten() {
    let (server, holders, own) = TestServer::initialised(|_| {}).await;
    let first = server.start_unseal().await;
    let operator = server.operator();
    let again = operator
        .post::<CeremonyStatus>("/v1/unseal/start", &Nothing {})
        .await;
    refused(again, ErrorCode::Conflict);
    submit(&server.client(&holders[0]), "unseal", &first, &own[0].text)
        .await
        .unwrap();
    let wrong = CancelCeremony {
        ceremony: HexBytes([1; 16]),
    };
    refused(
        operator.post::<()>("/v1/unseal/cancel", &wrong).await,
        ErrorCode::Conflict,
    );
    let cancel = CancelCeremony {
        ceremony: first.ceremony,
    };
    operator
        .post::<()>("/v1/unseal/cancel", &cancel)
        .await
        .unwrap();
    assert_eq!(server.status().await.ceremony, None);
    let late = submit(&server.client(&holders[1]), "unseal", &first, &own[1].text).await;
    assert_eq!(why(late).1, ShareRefusal::NoSuchCeremony);
    let second = server.start_unseal().await;
    assert_ne!(second.ceremony, first.ceremony);
    assert_eq!(second.have, Vec::<u8>::new());
}

/// A holder of a name that is not in the table, too few, too many, a threshold that cannot be.
#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_cannot_be_is_refused_and_a_lost_answer_can_be_repeated() {
    let server = TestServer::start().await;
    for name in HOLDERS {
        server.add(name, Role::Holder).await;
    }
    server.add("audrey", Role::Auditor).await;
    let operator = server.operator();
    let many: Vec<&str> = HOLDERS.iter().cycle().take(17).copied().collect();
    for wanted in [
        init_request(3, &["alice", "bob", "nobody"]),
        init_request(2, &["alice", "audrey"]),
        init_request(1, &["alice", "bob"]),
        init_request(0, &HOLDERS),
        init_request(6, &HOLDERS),
        init_request(2, &["alice"]),
        init_request(2, &[]),
        init_request(3, &many),
    ] {
        refused(
            operator.post::<()>("/v1/init", &wanted).await,
            ErrorCode::Unfit,
        );
        assert_eq!(server.status().await.phase, Phase::Uninitialised);
    }
    let lost = server.init(3, &HOLDERS).await;
    let made = server.init(2, &HOLDERS[..3]).await;
    assert_ne!(lost[0].text, made[0].text);
    assert_eq!(server.status().await.seal.unwrap().threshold, 2);
}

/// Once it was open, it is never initialised again.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_keystore_is_not_initialised_again_even_when_it_is_sealed() {
    let (server, holders, own) = TestServer::initialised(|_| {}).await;
    server.unseal(&holders, &own[..3]).await;
    let operator = server.operator();
    let wanted = init_request(3, &HOLDERS);
    refused(
        operator.post::<()>("/v1/init", &wanted).await,
        ErrorCode::AlreadyInitialised,
    );
    operator.post::<()>("/v1/seal", &Nothing {}).await.unwrap();
    refused(
        operator.post::<()>("/v1/init", &wanted).await,
        ErrorCode::AlreadyInitialised,
    );
    server.unseal(&holders, &own[2..]).await;
}

/// A trial: one person holds all shares, and status says so.
#[tokio::test(flavor = "multi_thread")]
async fn one_person_may_hold_all_shares_in_a_trial() {
    let server = TestServer::start().await;
    let one = ["first-operator"; 5];
    let own = server.init(3, &one).await;
    let trial = server.status().await.seal.unwrap().trial.unwrap();
    assert!(trial.contains("one person holds 5 shares"), "{trial}");
    let ceremony = server.start_unseal().await;
    for share in &own[1..4] {
        submit(&server.operator(), "unseal", &ceremony, &share.text)
            .await
            .unwrap();
    }
    assert_eq!(server.status().await.phase, Phase::Unsealed);
}

/// New shares hold only after every one of them was submitted and three holders of old ones have agreed; then the old ones are refused as old.
#[tokio::test(flavor = "multi_thread")]
async fn reshare_in_two_phases() {
    let (server, holders, old) = TestServer::initialised(|_| {}).await;
    server.unseal(&holders, &old[..3]).await;
    let operator = server.operator();
    let wanted = init_request(2, &["carol", "dave", "eve"]);
    let started: ReshareStarted = operator.post("/v1/reshare/start", &wanted).await.unwrap();
    let cancel = CancelCeremony {
        ceremony: started.ceremony.ceremony,
    };
    operator
        .post::<()>("/v1/reshare/cancel", &cancel)
        .await
        .unwrap();
    let started: ReshareStarted = operator.post("/v1/reshare/start", &wanted).await.unwrap();
    assert!(started.shares.iter().map(|share| share.number).eq(1..=3));
    let (ceremony, new) = (started.ceremony, shares(started.shares));
    for (place, share) in new.iter().chain(&old[..3]).enumerate() {
        let holder = holders
            .iter()
            .find(|holder| holder.name == share.holder)
            .unwrap();
        let submitted = submit(&server.client(holder), "reshare", &ceremony, &share.text)
            .await
            .unwrap();
        let last = if place == 5 {
            Outcome::Reshared
        } else {
            Outcome::Waiting
        };
        assert_eq!(
            (submitted.have, submitted.need, submitted.outcome),
            (place as u8 + 1, 6, last)
        );
    }
    let seal = server.status().await.seal.unwrap();
    assert_eq!(
        (seal.threshold, seal.holders.len(), seal.epoch),
        (2, 3, started.epoch)
    );
    operator.post::<()>("/v1/seal", &Nothing {}).await.unwrap();
    let ceremony = server.start_unseal().await;
    let carol = server.client(&holders[2]);
    let outdated = submit(&carol, "unseal", &ceremony, &old[2].text).await;
    assert_eq!(why(outdated).1, ShareRefusal::OtherEpoch);
    submit(&carol, "unseal", &ceremony, &new[0].text)
        .await
        .unwrap();
    submit(
        &server.client(&holders[4]),
        "unseal",
        &ceremony,
        &new[2].text,
    )
    .await
    .unwrap();
    assert_eq!(server.status().await.phase, Phase::Unsealed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_key_is_rotated_and_what_was_written_before_stays_readable() {
    let (server, holders, own) = TestServer::initialised(|_| {}).await;
    server.unseal(&holders, &own[..3]).await;
    let operator = server.operator();
    let before = server.status().await.data_key.unwrap();
    let after: DataKeyStatus = operator
        .post("/v1/rotate/data-key", &Nothing {})
        .await
        .unwrap();
    assert_eq!(after.term, before.term + 1);
    let me: holdfast_keystore::persons::Person =
        server.client(&holders[0]).get("/v1/me").await.unwrap();
    assert_eq!(me.name.as_str(), "alice");
}

/// Somebody has written himself into the table while the server was off.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_persons_that_was_changed_outside_is_told() {
    let (mut server, holders, own) = TestServer::initialised(|_| {}).await;
    server.unseal(&holders, &own[..3]).await;
    server.restart().await;
    server.unseal(&holders, &own[..3]).await;
    assert!(
        !server
            .status()
            .await
            .warnings
            .contains(&Warning::PersonsChangedOutside)
    );
    server.stop().await;
    let path = server.data().join("persons.json");
    let table = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, table.replacen("\"holder\"", "\"operator\"", 1)).unwrap();
    server.run().await;
    server.unseal(&holders, &own[..3]).await;
    assert!(
        server
            .status()
            .await
            .warnings
            .contains(&Warning::PersonsChangedOutside)
    );
    assert!(server.audit_log().contains("persons_changed_outside"));
}

/// Somebody has changed a record while the server was off: the good shares do not open it, and it is on record.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_changed_stays_sealed() {
    use holdfast_keystore::records::RedbRecords;
    use holdfast_protocol::{Change, RecordStore};
    let (mut server, holders, own) = TestServer::initialised(|_| {}).await;
    server.stop().await;
    let records = RedbRecords::open(&server.data().join("keystore.redb")).unwrap();
    let path: holdfast_protocol::RecordPath = "seal/keyring".parse().unwrap();
    let mut stored = records.get(&path).unwrap().unwrap();
    *stored.value.last_mut().unwrap() ^= 1;
    let change = Change {
        path,
        expected: Some(stored.version),
        put: Some(stored),
    };
    records.apply(&[change]).unwrap();
    drop(records);
    server.run().await;
    let ceremony = server.start_unseal().await;
    for place in [0, 1] {
        let holder = server.client(&holders[place]);
        submit(&holder, "unseal", &ceremony, &own[place].text)
            .await
            .unwrap();
    }
    let last = server.client(&holders[2]);
    let failed = submit(&last, "unseal", &ceremony, &own[2].text).await;
    refused(failed, ErrorCode::StorageFailed);
    assert_eq!(server.status().await.phase, Phase::Sealed);
    assert!(server.audit_log().contains("\"event\":\"unseal_failed\""));
}

/// With an age recipient, a share is encrypted to its holder and stands nowhere in the clear.
#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_encrypted_to_its_holder() {
    use age::x25519::Identity;
    let server = TestServer::start().await;
    for name in HOLDERS {
        server.add(name, Role::Holder).await;
    }
    let identity = Identity::generate();
    let mut wanted = init_request(2, &HOLDERS[..3]);
    wanted.holders[1].age = Some("age1nonsense".to_owned());
    let operator = server.operator();
    refused(
        operator.post::<()>("/v1/init", &wanted).await,
        ErrorCode::Unfit,
    );
    assert_eq!(server.status().await.phase, Phase::Uninitialised);
    wanted.holders[1].age = Some(identity.to_public().to_string());
    let made: InitResponse = operator.post("/v1/init", &wanted).await.unwrap();
    assert!(made.shares[0].share.is_some() && made.shares[0].encrypted.is_none());
    let [_, bobs, _] = made.shares.as_slice() else {
        panic!("three shares")
    };
    assert!(bobs.share.is_none());
    let armored = bobs.encrypted.as_ref().unwrap();
    let opened = age::decrypt(&identity, armored.as_bytes()).unwrap();
    let printed = String::from_utf8(opened).unwrap();
    let share = holdfast_protocol::Share::parse(printed.trim_end()).unwrap();
    assert_eq!((share.label().number, share.label().threshold), (2, 2));
    assert!(printed.ends_with('\n') && !armored.contains(printed.trim_end()));
}

/// After its time a ceremony is over, and what had counted is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_ends_in_time() {
    let (server, holders, own) = TestServer::initialised(|_| {}).await;
    let ceremony = server.start_unseal().await;
    submit(
        &server.client(&holders[0]),
        "unseal",
        &ceremony,
        &own[0].text,
    )
    .await
    .unwrap();
    let minutes = |minutes| Timestamp::now() + SignedDuration::from_mins(minutes);
    server.tick(minutes(59)).await;
    assert_eq!(server.status().await.ceremony.unwrap().have, [1]);
    server.tick(minutes(61)).await;
    assert_eq!(server.status().await.ceremony, None);
    assert!(server.audit_log().contains("ceremony_expired"));
    let late = submit(
        &server.client(&holders[1]),
        "unseal",
        &ceremony,
        &own[1].text,
    )
    .await;
    assert_eq!(why(late).1, ShareRefusal::NoSuchCeremony);
}

/// The data key is changed by itself when it is old.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_data_key_is_rotated() {
    let (server, holders, own) = TestServer::initialised(|_| {}).await;
    server.unseal(&holders, &own[..3]).await;
    let days = |days: i64| Timestamp::now() + SignedDuration::from_hours(24 * days);
    for (day, term) in [(89, 1), (91, 2), (92, 2), (182, 3)] {
        server.tick(days(day)).await;
        assert_eq!(
            server.status().await.data_key.unwrap().term,
            term,
            "day {day}"
        );
    }
}

/// Shares and refused calls are counted for each person and address.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_tries_are_refused() {
    let (server, holders, own) = TestServer::initialised(|config| {
        config.limits.shares_per_person = 3;
        config.limits.shares_per_address = 5;
        config.limits.failures_per_address = 4;
    })
    .await;
    let ceremony = server.start_unseal().await;
    let (alice, bob) = (server.client(&holders[0]), server.client(&holders[1]));
    for _ in 0..3 {
        assert_eq!(
            why(verify(&alice, "nonsense").await).1,
            ShareRefusal::Unreadable
        );
    }
    let limited = submit(&alice, "unseal", &ceremony, &own[0].text).await;
    refused(limited, ErrorCode::TooOften);
    submit(&bob, "unseal", &ceremony, &own[1].text)
        .await
        .unwrap();
    verify(&bob, &own[1].text).await.unwrap();
    refused(verify(&bob, &own[1].text).await, ErrorCode::TooOften);
    // Refused calls: past the limit no line is written any more.
    let anonymous = server.anonymous();
    for _ in 0..4 {
        let response = anonymous.get::<()>("/v1/status").await;
        refused(response, ErrorCode::NoCertificate);
    }
    let lines = server.audit_log().lines().count();
    refused(anonymous.get::<()>("/v1/status").await, ErrorCode::TooOften);
    assert_eq!(server.audit_log().lines().count(), lines);
    // Whoever has a good certificate is not shut out by that.
    assert_eq!(server.status().await.phase, Phase::Sealed);
}
