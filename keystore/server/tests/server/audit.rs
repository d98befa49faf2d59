//! Nothing is acknowledged without its line.

use std::fs;
use std::process::Command;

use holdfast_keystore::api::audit::{AuditReport, AuditTail, WrongLine};
use holdfast_keystore::api::error::ErrorCode;
use holdfast_keystore::api::health::{Health, HealthStatus};
use holdfast_keystore::api::operators::{AddPerson, AddedPerson, PersonList};
use holdfast_keystore::api::unseal::Nothing;
use holdfast_keystore::names::Role;
use holdfast_keystore::server::{Phase, Warning};
use reqwest::Method;
use tempfile::TempDir;

use crate::support::{Person, Share, TestServer, init_request, refused, request, submit};

async fn health(server: &TestServer) -> Health {
    let request = server.anonymous().request(Method::GET, "/v1/health");
    request.send().await.unwrap().json().await.unwrap()
}

/// Every act that is put on record is refused, and nothing has changed.
async fn nothing_is_done(server: &TestServer, holders: &[Person], shares: &[Share]) {
    let operator = server.operator();
    let persons = server.data().join("persons.json");
    let before = fs::read(&persons).unwrap();
    assert_eq!(health(server).await.status, HealthStatus::Degraded);
    let failed = ErrorCode::AuditFailed;
    let wanted = AddPerson {
        name: "zoe".parse().unwrap(),
        role: Role::Operator,
        request: request().0,
    };
    refused(
        operator.post::<AddedPerson>("/v1/operators", &wanted).await,
        failed,
    );
    let remove = operator.request(Method::DELETE, "/v1/operators/alice");
    refused(operator.send(remove).await, failed);
    refused(operator.post::<()>("/v1/seal", &Nothing {}).await, failed);
    let reshare = init_request(2, &["alice", "bob"]);
    refused(
        operator.post::<()>("/v1/reshare/start", &reshare).await,
        failed,
    );
    refused(
        operator
            .post::<()>("/v1/rotate/data-key", &Nothing {})
            .await,
        failed,
    );
    refused(
        operator
            .send(operator.request(Method::GET, "/v1/snapshot"))
            .await,
        failed,
    );
    let share = serde_json::json!({ "share": shares[0].text });
    let alice = server.client(&holders[0]);
    refused(
        alice
            .post::<serde_json::Value>("/v1/share/verify", &share)
            .await,
        failed,
    );
    // Whoever is turned away is on record, too.
    refused(alice.get::<PersonList>("/v1/operators").await, failed);
    assert_eq!(fs::read(&persons).unwrap(), before);
    let status = server.status().await;
    assert_eq!(status.phase, Phase::Unsealed);
    assert!(status.audit.trouble.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_deleted_or_replaced_under_the_server_stops_every_act() {
    let attacks: [fn(&TestServer); 2] = [
        |server| fs::remove_file(server.data().join("audit.log")).unwrap(),
        |server| {
            let log = server.data().join("audit.log");
            let copy = server.data().join("copy");
            fs::copy(&log, &copy).unwrap();
            fs::rename(&copy, &log).unwrap();
        },
    ];
    for attack in attacks {
        let (server, holders, shares) = TestServer::initialised(|_| {}).await;
        server.unseal(&holders, &shares[..3]).await;
        assert_eq!(health(&server).await.status, HealthStatus::Unsealed);
        attack(&server);
        nothing_is_done(&server, &holders, &shares).await;
    }
}

/// A mounted disk of a few pages with the data folder in it.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> SmallDisk {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m", "holdfast-test"])
            .arg(folder.path())
            .status()
            .expect("mount can be started");
        assert!(
            mounted.success(),
            "this test mounts a small tmpfs: run it as root"
        );
        SmallDisk(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_every_act_until_there_is_room_again() {
    let disk = SmallDisk::new();
    let data = disk.0.path().join("data");
    let mut server = TestServer::with(move |config| config.data.clone_from(&data)).await;
    let mut holders = Vec::new();
    for name in crate::support::HOLDERS {
        holders.push(server.add(name, Role::Holder).await);
    }
    let shares = server.init(3, &crate::support::HOLDERS).await;
    server.unseal(&holders, &shares[..3]).await;
    let filler = disk.0.path().join("filler");
    // It fails when the disk is full, which is what we want.
    let _ = fs::write(&filler, vec![1; 16 << 20]);
    // The last page of the log takes some more lines.
    let operator = server.operator();
    for _ in 0..100 {
        if operator
            .post::<()>("/v1/rotate/data-key", &"")
            .await
            .is_err_and(audit_failed)
        {
            break;
        }
    }
    nothing_is_done(&server, &holders, &shares).await;
    fs::remove_file(&filler).unwrap();
    operator.post::<()>("/v1/seal", &Nothing {}).await.unwrap();
    assert_eq!(health(&server).await.status, HealthStatus::Sealed);
    server.unseal(&holders, &shares[1..4]).await;
    let report: AuditReport = operator.get("/v1/audit/verify").await.unwrap();
    assert!(report.good, "{report:?}");
    server.stop().await;
}

fn audit_failed(error: holdfast_keystore::client::ClientError) -> bool {
    use holdfast_keystore::client::ClientError;
    matches!(error, ClientError::Refused(body) if body.code == ErrorCode::AuditFailed)
}

/// Every step of a ceremony stands in the log, with who and from where, and no share does.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_can_be_read_in_the_log() {
    let (server, holders, shares) = TestServer::initialised(|_| {}).await;
    let ceremony = server.start_unseal().await;
    let alice = server.client(&holders[0]);
    assert!(
        submit(&alice, "unseal", &ceremony, &shares[1].text)
            .await
            .is_err()
    );
    for place in [0, 1, 2] {
        let holder = server.client(&holders[place]);
        submit(&holder, "unseal", &ceremony, &shares[place].text)
            .await
            .unwrap();
    }
    let tail: AuditTail = server
        .operator()
        .get("/v1/audit/tail?lines=100")
        .await
        .unwrap();
    let events: Vec<(&str, &str)> = tail
        .lines
        .iter()
        .map(|line| {
            (
                line["event"].as_str().unwrap(),
                line["by"].as_str().unwrap_or("-"),
            )
        })
        .filter(|(event, _)| *event != "call_allowed" && *event != "head_remembered")
        .collect();
    let from = events
        .iter()
        .position(|(event, _)| *event == "initialised")
        .unwrap();
    assert_eq!(
        events[from..],
        [
            ("initialised", "first-operator"),
            ("ceremony_started", "first-operator"),
            ("share_refused", "alice"),
            ("share_accepted", "alice"),
            ("share_accepted", "bob"),
            ("share_accepted", "carol"),
            ("unsealed", "carol"),
        ]
    );
    let log = server.audit_log();
    for share in &shares {
        assert!(!log.contains(&share.text));
    }
    assert!(tail.lines.iter().any(|line| line["from"] == "127.0.0.1"));
}

/// A line that was changed on disk is named by the running server, and a server does not start on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_line_is_named() {
    let (server, holders, shares) = TestServer::initialised(|_| {}).await;
    server.unseal(&holders, &shares[..3]).await;
    let path = server.data().join("audit.log");
    let text = fs::read_to_string(&path).unwrap();
    let changed = text.replacen("\"alice\"", "\"malic\"", 1);
    let line = text
        .lines()
        .position(|line| line.contains("\"alice\""))
        .unwrap() as u64
        + 1;
    // In place: the same file with the same length.
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(changed.as_bytes(), 0).unwrap();
    let report: AuditReport = server.operator().get("/v1/audit/verify").await.unwrap();
    assert_eq!((report.good, report.first_bad), (false, Some(line)));
    assert_eq!(report.wrong, Some(WrongLine::Changed));
    assert!(
        report.sentence.contains(&format!("line {line} ")),
        "{}",
        report.sentence
    );
}

/// A log that was taken away while the server was off is told at the next unseal: the database remembers its head.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_is_told_at_the_next_unseal() {
    let (mut server, holders, shares) = TestServer::initialised(|_| {}).await;
    server.unseal(&holders, &shares[..3]).await;
    server.stop().await;
    fs::remove_file(server.data().join("audit.log")).unwrap();
    server.run().await;
    server.unseal(&holders, &shares[..3]).await;
    let status = server.status().await;
    assert!(
        status.warnings.contains(&Warning::AuditLogCutShort),
        "{:?}",
        status.warnings
    );
    assert!(server.audit_log().contains("audit_log_cut_short"));
    // It is told once; the new log is the one that is remembered from now on.
    server.restart().await;
    server.unseal(&holders, &shares[..3]).await;
    let status = server.status().await;
    assert!(
        !status.warnings.contains(&Warning::AuditLogCutShort),
        "{:?}",
        status.warnings
    );
}

/// A database from before is told by the generation that the log names.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_rolled_back_is_told_at_the_next_unseal() {
    let (mut server, holders, shares) = TestServer::initialised(|_| {}).await;
    server.unseal(&holders, &shares[..3]).await;
    server.stop().await;
    let database = server.data().join("keystore.redb");
    let old = fs::read(&database).unwrap();
    server.run().await;
    server.unseal(&holders, &shares[..3]).await;
    let operator = server.operator();
    for _ in 0..3 {
        operator
            .post::<serde_json::Value>("/v1/rotate/data-key", &Nothing {})
            .await
            .unwrap();
    }
    server.stop().await;
    fs::write(&database, old).unwrap();
    server.run().await;
    server.unseal(&holders, &shares[..3]).await;
    let status = server.status().await;
    assert!(
        status.warnings.contains(&Warning::DatabaseRolledBack),
        "{:?}",
        status.warnings
    );
    assert!(server.audit_log().contains("database_rolled_back"));
}
