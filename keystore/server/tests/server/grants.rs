//! Grants, listings, links to the server's own folder, quota and gc, over the API.

use std::time::{Duration, SystemTime};

use holdfast_backend::layout::ObjectName;
use holdfast_keystore::api::gc::{Collect, CollectedList};
use holdfast_keystore_client::Client;
use holdfast_protocol::calls::{
    AddUser, EscrowPolicy, Grant, GrantAct, Granted, StoreKind, UserList, Wish, Wishes,
};
use holdfast_protocol::escrow::Digest;
use reqwest::StatusCode;

use crate::enrolment::{Enrolled, certify, enrol, enrol_with, invite, invite_as, open};
use crate::support::TestServer;

fn pack(bytes: &[u8]) -> String {
    format!("packs/{}", Digest::of(bytes))
}

/// A name under a number of the device `[device; 8]`.
fn numbered(folder: &str, device: u8, n: u64, bytes: &[u8]) -> String {
    let device = format!("{device:02x}").repeat(8);
    format!("{folder}/{device}/{n:010}-{}", Digest::of(bytes))
}

fn put_of(name: &str, bytes: &[u8]) -> Wish {
    Wish {
        act: GrantAct::Put {
            bytes: bytes.len() as u64,
        },
        name: name.to_owned(),
    }
}

fn get_of(name: &str) -> Wish {
    Wish {
        act: GrantAct::Get,
        name: name.to_owned(),
    }
}

async fn ask(client: &Client, wish: Wish) -> Result<Grant, String> {
    let wishes = vec![wish];
    let mut answer = client.grants(&Wishes { wishes }).await.unwrap();
    match answer.grants.remove(0) {
        Granted::Granted(grant) => Ok(grant),
        Granted::Refused(refused) => Err(refused.code),
    }
}

/// Somebody with a link and no certificate.
fn anybody(server: &TestServer) -> reqwest::Client {
    let authority = std::fs::read(server.data().join("tls/authority.crt")).unwrap();
    reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&authority).unwrap()])
        .build()
        .unwrap()
}

async fn store(http: &reqwest::Client, grant: &Grant, bytes: &[u8]) -> StatusCode {
    let request = http.put(&grant.url).body(bytes.to_vec());
    request.send().await.unwrap().status()
}

async fn load(http: &reqwest::Client, url: &str, range: Option<&str>) -> (StatusCode, Vec<u8>) {
    let mut request = http.get(url);
    if let Some(range) = range {
        request = request.header("range", range);
    }
    let response = request.send().await.unwrap();
    let status = response.status();
    (status, response.bytes().await.unwrap().to_vec())
}

async fn stored(server: &TestServer, client: &Client, bytes: &[u8]) -> String {
    let name = pack(bytes);
    let grant = ask(client, put_of(&name, bytes)).await.unwrap();
    let status = store(&anybody(server), &grant, bytes).await;
    assert_eq!(status, StatusCode::OK);
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_granted_is_stored_once_and_loaded_in_ranges() {
    let (server, _, _) = open().await;
    let alice = enrol(&server, "alice", EscrowPolicy::Private, 1).await;
    let http = anybody(&server);
    let bytes: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
    let name = pack(&bytes);
    let grant = ask(&alice.client, put_of(&name, &bytes)).await.unwrap();
    // Other bytes, fewer, more: nothing is stored.
    let mut other = bytes.clone();
    other[5] ^= 1;
    let longer = [bytes.as_slice(), b"x"].concat();
    for wrong in [&other, &longer, &bytes[1..].to_vec()] {
        assert_eq!(store(&http, &grant, wrong).await, StatusCode::BAD_REQUEST);
    }
    let loading = ask(&alice.client, get_of(&name)).await.unwrap();
    let (status, _) = load(&http, &loading.url, None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(store(&http, &grant, &bytes).await, StatusCode::OK);
    let again = store(&http, &grant, &bytes).await;
    assert_eq!(again, StatusCode::PRECONDITION_FAILED);
    assert!(load(&http, &loading.url, None).await == (StatusCode::OK, bytes.clone()));
    let middle = load(&http, &loading.url, Some("bytes=1000-200000")).await;
    assert!(middle == (StatusCode::PARTIAL_CONTENT, bytes[1000..=200_000].to_vec()));
    let (status, _) = load(&http, &loading.url, Some("bytes=300000-")).await;
    assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE);
    // A link is for its act, its name and its time.
    assert_eq!(load(&http, &grant.url, None).await.0, StatusCode::FORBIDDEN);
    assert_eq!(store(&http, &loading, &bytes).await, StatusCode::FORBIDDEN);
    let another = loading.url.replace(&name[6..], &pack(b"another")[6..]);
    assert_ne!(another, loading.url);
    assert_eq!(load(&http, &another, None).await.0, StatusCode::FORBIDDEN);
    server.pass(5 * 60 + 1);
    let late = load(&http, &loading.url, None).await.0;
    assert_eq!(late, StatusCode::FORBIDDEN);
    server.pass(10 * 60);
    assert_eq!(store(&http, &grant, &bytes).await, StatusCode::FORBIDDEN);
}

/// What each state of a device may store; loading is free in the own archive, which is the only one that names can speak of.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_writes_what_is_its_own_and_nothing_of_the_servers() {
    let (server, _, _) = open().await;
    let alice = enrol(&server, "alice", EscrowPolicy::Private, 1).await;
    let token = invite(&server, "bob", EscrowPolicy::Private).await;
    let (provisional, _, _) = certify(&server, &token, 2).await;
    let digest = Digest::of(b"x");
    let plain = |folder: &str| format!("{folder}/{digest}");
    let of_server = |folder: &str| format!("{folder}/0000000001-{digest}");
    let own = |folder: &str, device| numbered(folder, device, 1, b"x");
    let table = [
        (plain("packs"), Ok(())),
        (plain("index"), Ok(())),
        (plain("keys"), Ok(())),
        (of_server("keyring"), Ok(())),
        (own("refs", 1), Ok(())),
        (own("commits", 1), Ok(())),
        (own("pins", 1), Ok(())),
        (own("forgotten", 1), Ok(())),
        (own("moved", 1), Ok(())),
        (own("refs", 9), Err("forbidden")),
        (own("commits", 9), Err("forbidden")),
        (own("pins", 9), Err("forbidden")),
        (own("forgotten", 9), Err("forbidden")),
        (own("moved", 9), Err("forbidden")),
        (of_server("condemned"), Err("forbidden")),
        (of_server("deleting"), Err("forbidden")),
        ("packs/../../x".to_owned(), Err("bad_request")),
        ("keys/".to_owned(), Err("bad_request")),
    ];
    for (name, expected) in &table {
        let answer = ask(&alice.client, put_of(name, b"x")).await.map(drop);
        assert_eq!(
            answer.as_ref().map_err(String::as_str),
            expected.as_ref().map_err(|code| *code),
            "{name}"
        );
        // The other user's device is provisional, has another id and another archive.
        let other = name.replace("0101010101010101", "0202020202020202");
        let answer = ask(&provisional.client, put_of(&other, b"x"))
            .await
            .map(drop);
        assert_eq!(
            answer.as_ref().map_err(String::as_str),
            expected.as_ref().map_err(|code| *code),
            "{other}"
        );
        let loading = ask(&alice.client, get_of(name)).await.map(drop);
        assert_eq!(
            loading.is_ok(),
            name.parse::<ObjectName>().is_ok(),
            "{name}"
        );
    }
    let empty = ask(&alice.client, put_of(&plain("packs"), b"")).await;
    assert_eq!(empty.unwrap_err(), "bad_request");
    alice.client.deauthorise_device(alice.id).await.unwrap();
    let wishes = vec![get_of(&plain("packs"))];
    let out = alice.client.grants(&Wishes { wishes }).await.unwrap_err();
    assert_eq!(out.code(), Some("deauthorised"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_one_contents_only() {
    let (server, _, _) = open().await;
    let alice = enrol(&server, "alice", EscrowPolicy::Private, 1).await;
    let (one, other) = (
        numbered("commits", 1, 7, b"one"),
        numbered("commits", 1, 7, b"other"),
    );
    let put = |name: &str, bytes: &[u8]| {
        let wish = put_of(name, bytes);
        let client = alice.client.clone();
        async move { ask(&client, wish).await }
    };
    put(&one, b"one").await.unwrap();
    put(&one, b"one").await.unwrap();
    assert_eq!(put(&other, b"other").await.unwrap_err(), "conflict");
    // The grant has ended, and nothing was stored: the number is free again.
    server.pass(8 * 60);
    let grant = put(&other, b"other").await.unwrap();
    assert_eq!(put(&one, b"one").await.unwrap_err(), "conflict");
    let http = anybody(&server);
    assert_eq!(store(&http, &grant, b"other").await, StatusCode::OK);
    // It is stored: the number is taken for good.
    server.pass(8 * 60);
    assert_eq!(put(&one, b"one").await.unwrap_err(), "conflict");
    put(&other, b"other").await.unwrap();
    // Another number, and another folder, are something else.
    put(&numbered("commits", 1, 8, b"one"), b"one")
        .await
        .unwrap();
    put(&numbered("refs", 1, 7, b"one"), b"one").await.unwrap();
    // Two contents in one call: the first gets it.
    let wishes = vec![
        put_of(&numbered("pins", 1, 1, b"one"), b"one"),
        put_of(&numbered("pins", 1, 1, b"other"), b"other"),
    ];
    let answer = alice.client.grants(&Wishes { wishes }).await.unwrap();
    assert!(matches!(answer.grants[0], Granted::Granted(_)));
    assert!(matches!(&answer.grants[1], Granted::Refused(no) if no.code == "conflict"));
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_come_in_pages_and_are_of_ones_own_archive() {
    let (server, _, _) = open().await;
    let alice = enrol(&server, "alice", EscrowPolicy::Private, 1).await;
    let bob = enrol(&server, "bob", EscrowPolicy::Private, 2).await;
    let name = stored(&server, &alice.client, b"of alice").await;
    let listing = alice.client.objects("packs", None).await.unwrap();
    assert_eq!(listing.objects.len(), 1);
    assert_eq!(
        (listing.objects[0].name.as_str(), listing.objects[0].bytes),
        (name.as_str(), 8)
    );
    assert!(listing.objects[0].stored_at.is_some() && listing.after.is_none());
    assert!(
        bob.client
            .objects("packs", None)
            .await
            .unwrap()
            .objects
            .is_empty()
    );
    let http = anybody(&server);
    let of_alice = ask(&bob.client, get_of(&name)).await.unwrap();
    assert_eq!(
        load(&http, &of_alice.url, None).await.0,
        StatusCode::NOT_FOUND
    );
    for (folder, after) in [
        ("nothing", None),
        ("packs/", None),
        ("packs", Some("nothing")),
    ] {
        let refused = alice.client.objects(folder, after).await.unwrap_err();
        assert_eq!(refused.code(), Some("bad_request"), "{folder}");
    }
    let refs = "refs/0101010101010101";
    assert!(
        alice
            .client
            .objects(refs, None)
            .await
            .unwrap()
            .objects
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_ends_where_it_says() {
    let (server, _, _) = open().await;
    let alice = enrol(&server, "alice", EscrowPolicy::Private, 1).await;
    let bob = enrol_with_quota(&server, "bob", 2, 100).await;
    let (most, more) = (vec![1; 90], vec![2; 20]);
    stored(&server, &bob.client, &most).await;
    let refused = ask(&bob.client, put_of(&pack(&more), &more)).await;
    assert_eq!(refused.unwrap_err(), "quota");
    stored(&server, &bob.client, &[3; 10]).await;
    stored(&server, &alice.client, &more).await;
    let described = bob.client.store().await.unwrap();
    assert_eq!(
        (described.quota_bytes, described.used_bytes),
        (Some(100), 100)
    );
    assert_eq!(described.kind, StoreKind::Folder);
    let list: UserList = server.operator().get("/v1/users").await.unwrap();
    assert_eq!(list.users[1].used_bytes, 100);
}

async fn enrol_with_quota(server: &TestServer, user: &str, device: u8, quota: u64) -> Enrolled {
    let wanted = AddUser {
        name: user.parse().unwrap(),
        policy: EscrowPolicy::Private,
        quota_bytes: Some(quota),
    };
    enrol_with(server, &invite_as(server, &wanted).await, device).await
}

/// What nobody needs is condemned once it is old; a clock that is wrong deletes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn gc_condemns_and_trusts_no_clock_alone() {
    let (server, _, _) = open().await;
    let alice = enrol(&server, "alice", EscrowPolicy::Private, 1).await;
    let name = stored(&server, &alice.client, b"needed by nobody").await;
    let collect = |user: Option<&str>, dry_run| {
        let user = user.map(|user| user.parse().unwrap());
        let operator = server.operator();
        async move {
            let wanted = Collect { user, dry_run };
            operator.post::<CollectedList>("/v1/gc", &wanted).await
        }
    };
    let young = collect(None, false).await.unwrap().archives.remove(0);
    assert_eq!(young.done.unwrap().condemned.objects, 0);
    let file = server
        .data()
        .join("objects")
        .join(alice.certified.archive.to_string())
        .join(&name);
    let old = SystemTime::now() - Duration::from_secs(3 * 86_400);
    let opened = std::fs::File::open(&file).unwrap();
    opened.set_modified(old).unwrap();
    let dry = collect(Some("alice"), true)
        .await
        .unwrap()
        .archives
        .remove(0);
    assert_eq!(dry.done.unwrap().condemned.objects, 1);
    assert!(
        alice
            .client
            .objects("condemned", None)
            .await
            .unwrap()
            .objects
            .is_empty()
    );
    let real = collect(None, false).await.unwrap().archives.remove(0);
    assert_eq!(real.done.unwrap().condemned.objects, 1);
    assert_eq!(
        alice
            .client
            .objects("condemned", None)
            .await
            .unwrap()
            .objects
            .len(),
        1
    );
    assert!(server.audit_log().contains("\"archive_collected\""));
    // The server's clock says that the grace period is over, and the store's does not.
    server.pass(40 * 86_400);
    let stopped = collect(None, false).await.unwrap().archives.remove(0);
    assert!(stopped.stopped.unwrap().contains("clock"));
    assert!(file.exists());
    assert!(server.audit_log().contains("\"collection_failed\""));
    let nobody = collect(Some("nobody"), false).await;
    assert!(nobody.is_err());
}
