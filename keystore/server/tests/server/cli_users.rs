//! `holdfast-keystore user`: from the invitation to the last of the acts, with a device that is really enrolled.

use std::fs;

use holdfast_protocol::escrow::EnrolmentToken;

use crate::cli::{Terminal, is_private};
use crate::cli_policy::{admin, make};
use crate::enrolment::{enrol_with, open};
use crate::support::TestServer;

const ID: &str = "0101010101010101";

/// The token that was handed over, for the port that nobody has chosen.
fn token(server: &TestServer, text: &str) -> EnrolmentToken {
    let mut token: EnrolmentToken = text.parse().unwrap();
    token.address = server.url();
    token
}

/// Root, admins, policy, invitation, enrolment, and each act with what it does to user and device.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_invited_seen_and_stopped() {
    let (server, _, _) = open().await;
    let operator = Terminal::of_operator(&server);
    let early = operator.says(&["user", "add", "alice"]);
    assert!(
        early.contains("no policy of recovery admins yet"),
        "{early}"
    );
    operator.says(&["policy", "new-root", "root.key"]);
    let admins = ["frank", "grace"].map(|name| admin(&operator, name));
    let policy = operator.json(&make("2", &admins, &["policy"]));
    operator.says(&["policy", "publish", "policy"]);

    let said = operator.says(&[
        "user",
        "add",
        "alice",
        "--quota",
        "500GiB",
        "--out",
        "alice.token",
    ]);
    is_private(&operator.path("alice.token"));
    let text = fs::read_to_string(operator.path("alice.token")).unwrap();
    for part in [
        "standard",
        "quota 500.0 GiB",
        "alice.token",
        "once, within 7 days",
        policy["root"].as_str().unwrap(),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains(text.trim()), "{said}");
    let listed = operator.says(&["user", "list"]);
    assert!(listed.contains("invited"), "{listed}");
    assert_eq!(
        operator.says(&["user", "devices", "alice"]),
        "alice has no device\n"
    );

    let alice = enrol_with(&server, &token(&server, &text), 1).await;
    let listed = operator.says(&["user", "list"]);
    assert!(listed.starts_with("alice "), "{listed}");
    assert!(
        listed.contains(" active ") && listed.contains("active devices: 1"),
        "{listed}"
    );
    assert!(listed.contains("of 500.0 GiB"), "{listed}");
    let user = &operator.json(&["user", "list"])["users"][0];
    assert_eq!(user["quota_bytes"], 500_u64 << 30);
    let devices = || operator.says(&["user", "devices", "alice"]);
    let shown = devices();
    let expires = alice.certified.certificate.expires;
    assert!(
        shown.starts_with("laptop ") && shown.contains(ID),
        "{shown}"
    );
    assert!(
        shown.contains(&format!("until {expires:.0}")) && !shown.contains("confirmed"),
        "{shown}"
    );

    let said = operator.says(&["user", "block", "alice"]);
    assert!(said.contains("go on saving"), "{said}");
    alice.client.device_half().await.unwrap();
    assert_eq!(
        operator.json(&["user", "activate", "alice"])["state"],
        "active"
    );

    let said = operator.says(&["user", "deauthorise", "alice", "--device", ID]);
    assert!(said.contains("at most 15 minutes"), "{said}");
    assert!(devices().contains("deauthorised, not confirmed"));
    assert!(alice.client.device_half().await.is_err());
    alice.client.confirm_wiped().await.unwrap();
    assert!(devices().contains("deauthorised, confirmed"));

    let said = operator.says(&["user", "deauthorise", "alice"]);
    assert!(
        said.contains("can log in again") && said.contains("not confirmed until"),
        "{said}"
    );
    let said = operator.says(&["user", "deactivate", "alice"]);
    assert!(
        said.contains("no login") && said.contains("user activate alice"),
        "{said}"
    );
    let said = operator.says(&["user", "activate", "alice"]);
    assert!(said.contains("stay out until"), "{said}");
    assert!(devices().contains("deauthorised, confirmed"));
}

/// Whoever has a program read it gets the token on a line of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_file_is_the_last_line() {
    let (server, _, _) = open().await;
    let operator = Terminal::of_operator(&server);
    let said = operator.says(&["user", "add", "bob", "--policy", "private"]);
    let first = token(&server, said.lines().last().unwrap());
    assert_eq!((first.user.as_str(), first.policy_root), ("bob", None));
    assert!(!said.contains("recovery admins"), "{said}");
    let told = operator.json(&["user", "add", "bob", "--policy", "private"]);
    let second = token(&server, told["token"].as_str().unwrap());
    assert_eq!(told["user"]["state"], "invited");
    let bob = enrol_with(&server, &second, 2).await;
    bob.client.device_half().await.unwrap();
    assert!(!server.audit_log().contains("hfe1-"));
}

/// Nothing is asked for that cannot be kept, and nothing is left of what was refused.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_words_get_one_sentence_and_change_nothing() {
    let (server, _, _) = open().await;
    let operator = Terminal::of_operator(&server);
    assert!(
        operator
            .says(&["user", "list"])
            .starts_with("There are no users yet")
    );
    fs::write(operator.path("there"), "mine").unwrap();
    let said = operator.refuses(&["user", "add", "alice", "--out", "there"]);
    assert!(said.contains("nobody was invited"), "{said}");
    assert_eq!(fs::read(operator.path("there")).unwrap(), b"mine");
    assert_eq!(
        operator.json(&["user", "list"])["users"],
        serde_json::json!([])
    );
    let said = operator.refuses(&["user", "add", "alice", "--quota", "0"]);
    assert!(said.contains("leave --quota out"), "{said}");
    let refused = ["user", "add", "alice", "--quota", "10EiB", "--out", "token"];
    assert!(
        operator
            .refuses(&refused)
            .contains("more than any store has")
    );
    assert!(!operator.path("token").exists());
    for bad in [
        ["user", "add", "Alice", "--policy", "private"],
        ["user", "add", "alice", "--policy", "none"],
        ["user", "add", "alice", "--quota", "much"],
        ["user", "deauthorise", "alice", "--device", "laptop"],
    ] {
        operator.does_not_take(&bad);
    }
    operator.says(&["user", "add", "alice", "--policy", "private"]);
    for act in ["block", "activate", "deauthorise", "deactivate"] {
        assert!(
            operator
                .refuses(&["user", act, "alice"])
                .contains("user list")
        );
        assert!(
            operator
                .refuses(&["user", act, "nobody"])
                .contains("nobody")
        );
    }
    let said = operator.refuses(&["user", "deauthorise", "alice", "--device", ID]);
    assert!(said.contains(ID), "{said}");
    // A server that is away: the file does not stay behind either.
    let credential = server.data().join("first-operator.pem");
    let away = Terminal::at("https://127.0.0.1:1", &credential);
    let said = away.refuses(&["user", "add", "alice", "--out", "token"]);
    assert!(said.contains("does not answer"), "{said}");
    assert!(!away.path("token").exists());
    let said = Terminal::offline().refuses(&["user", "add", "alice", "--out", "token"]);
    assert!(said.contains("nothing.pem"), "{said}");
}
