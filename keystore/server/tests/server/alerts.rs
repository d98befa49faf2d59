//! People are told, sealed or not, and nothing waits for it.

use std::time::{Duration, Instant};

use holdfast_keystore::config::{Config, Mail, MailTls, Webhook};
use holdfast_keystore::names::Role;
use serde_json::Value;

use crate::sinks::{mail_server, tls_webhook, webhook};
use crate::support::{HOLDERS, TestServer, submit};

fn hook(url: &str) -> Webhook {
    Webhook {
        url: url.parse().unwrap(),
        token_file: None,
        ca_file: None,
    }
}

fn says(json: &Value, words: &str) -> bool {
    json["sentence"]
        .as_str()
        .is_some_and(|sentence| sentence.contains(words))
}

/// Every share, good or bad, and the unsealing itself reach a webhook and a mailbox while the keystore is sealed.
#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_server_tells_of_every_share_by_webhook_and_mail() {
    let (hook_address, posted) = webhook(0);
    let (mail_address, mails) = mail_server();
    let change = move |config: &mut Config| {
        config.alerts.webhook = vec![hook(&format!("http://{hook_address}/alerts"))];
        config.alerts.mail = vec![Mail {
            server: mail_address.ip().to_string(),
            port: Some(mail_address.port()),
            tls: MailTls::None,
            from: "Keystore <keystore@example.org>".to_owned(),
            to: vec![
                "security@example.org".to_owned(),
                "boss@example.org".to_owned(),
            ],
            username: None,
            password_file: None,
            ca_file: None,
        }];
    };
    let (server, holders, shares) = TestServer::initialised(change).await;
    posted.wait_for(|posted| says(&posted.json, "has initialised the keystore: 3 of 5"));
    let ceremony = server.start_unseal().await;
    posted.wait_for(|posted| says(&posted.json, "first-operator has started to unseal"));
    let alice = server.client(&holders[0]);
    // Bob's share over Alice's certificate.
    assert!(
        submit(&alice, "unseal", &ceremony, &shares[1].text)
            .await
            .is_err()
    );
    let refused = posted.wait_for(|posted| says(&posted.json, "was refused"));
    assert_eq!(refused.json["line"]["event"], "share_refused");
    assert_eq!(refused.json["line"]["by"], "alice");
    assert!(refused.head.starts_with("POST /alerts HTTP/1.1\r\n"));
    submit(&alice, "unseal", &ceremony, &shares[0].text)
        .await
        .unwrap();
    posted.wait_for(|posted| says(&posted.json, "alice has submitted share 1"));
    let mail = mails.wait_for(|mail| mail.contains("alice has submitted share 1"));
    assert!(
        mail.contains("To: security@example.org, boss@example.org"),
        "{mail}"
    );
    assert!(mail.contains("Subject: [keystore "), "{mail}");
    for place in [1, 2] {
        let holder = server.client(&holders[place]);
        submit(&holder, "unseal", &ceremony, &shares[place].text)
            .await
            .unwrap();
    }
    posted.wait_for(|posted| says(&posted.json, "the keystore is open"));
    mails.wait_for(|mail| mail.contains("the keystore is open"));
    // No share stands in any of them.
    let secret = &shares[0].text;
    assert!(!refused.json.to_string().contains(secret.as_str()));
    assert!(!mail.contains(secret.as_str()));
}

/// The end of the server is told as well: what is queued is delivered before it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_tried_again_and_the_queue_is_drained_at_the_end() {
    let (address, posted) = webhook(2);
    let mut server = TestServer::with(move |config| {
        config.alerts.webhook = vec![hook(&format!("http://{address}/"))];
        config.alerts.tries = 4;
        config.alerts.timeout_seconds = 15;
    })
    .await;
    server.add("alice", Role::Holder).await;
    server.stop().await;
    posted.wait_for(|posted| says(&posted.json, "has started; it is sealed"));
    posted.wait_for(|posted| says(&posted.json, "first-operator has added alice as holder"));
}

/// The certificate of a webhook is checked, against the file that is configured.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_with_its_own_authority_and_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let (address, authority, posted) = tls_webhook(folder.path());
    let token = folder.path().join("token");
    std::fs::write(&token, "t0ken\n").unwrap();
    let url = format!("https://localhost:{}/", address.port());
    let server = TestServer::with(move |config| {
        let trusted = Webhook {
            url: url.parse().unwrap(),
            token_file: Some(token.clone()),
            ca_file: Some(authority.clone()),
        };
        let untrusted = Webhook {
            ca_file: None,
            ..trusted.clone()
        };
        config.alerts.webhook = vec![untrusted, trusted];
        config.alerts.tries = 1;
    })
    .await;
    let got = posted.wait_for(|posted| says(&posted.json, "has started"));
    assert!(
        got.head.contains("authorization: Bearer t0ken\r\n"),
        "{}",
        got.head
    );
    let failed = "holdfast_keystore_alerts_total{sink=\"Webhook\",outcome=\"Failed\"} 1";
    let until = Instant::now() + Duration::from_secs(10);
    while !metrics(&server).await.contains(failed) {
        assert!(Instant::now() < until, "{}", metrics(&server).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A sink that takes connections and says nothing holds up nothing, and what does not fit in its queue is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_hangs_delays_no_ceremony() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let change = move |config: &mut Config| {
        config.alerts.webhook = vec![hook(&format!("http://{address}/"))];
        config.alerts.queue = 2;
        config.alerts.timeout_seconds = 3;
    };
    let begun = Instant::now();
    let (server, holders, shares) = TestServer::initialised(change).await;
    server.unseal(&holders, &shares[..3]).await;
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(holders.len(), HOLDERS.len());
    let text = metrics(&server).await;
    assert!(text.contains("outcome=\"Dropped\"} "), "{text}");
}

/// Each line goes to the audit webhook with its hash, also those that are no alert.
#[tokio::test(flavor = "multi_thread")]
async fn an_outside_copy_of_the_audit_log_has_every_line_and_the_head() {
    let (address, posted) = webhook(0);
    let server = TestServer::with(move |config| {
        config.audit.webhook = Some(hook(&format!("http://{address}/audit")));
    })
    .await;
    server.add("alice", Role::Holder).await;
    let allowed = posted.wait_for(|posted| posted.json["line"]["event"] == "call_allowed");
    assert_eq!(allowed.json["sentence"], "");
    let last = posted.wait_for(|posted| posted.json["line"]["event"] == "person_added");
    let head = server.status().await.audit;
    assert_eq!(last.json["hash"], head.hash.to_string());
    assert_eq!(last.json["line"]["sequence"], head.sequence);
}

async fn metrics(server: &TestServer) -> String {
    let request = server.operator().request(reqwest::Method::GET, "/metrics");
    server
        .operator()
        .send(request)
        .await
        .unwrap()
        .text()
        .await
        .unwrap()
}
