//! `holdfast-keystore policy`: keys and policies without a server, and what the server makes of them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use holdfast_protocol::escrow::{
    AdminKeyPair, AdminPublicKey, KeyText, PolicyRootKey, SignedPolicy,
};

use crate::cli::{Terminal, is_private};
use crate::enrolment::open;

/// `NAME=KEY` of a new admin.
pub fn admin(terminal: &Terminal, name: &str) -> String {
    let said = terminal.says(&["policy", "new-admin", &format!("{name}.key")]);
    format!("{name}={}", said.lines().last().unwrap())
}

/// The arguments of `policy make`.
pub fn make<'a>(threshold: &'a str, admins: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    let admins = admins.iter().flat_map(|admin| ["--admin", admin]);
    let start = [
        "policy",
        "make",
        "--root",
        "root.key",
        "--threshold",
        threshold,
    ];
    start
        .into_iter()
        .chain(admins)
        .chain(more.iter().copied())
        .collect()
}

/// A root, and as many admins as there are names.
fn ceremony(names: &[&str]) -> (Terminal, Vec<String>) {
    let terminal = Terminal::offline();
    terminal.says(&["policy", "new-root", "root.key"]);
    let admins = names.iter().map(|name| admin(&terminal, name)).collect();
    (terminal, admins)
}

#[test]
fn keys_are_made_offline_and_shown_as_what_is_public_of_them() {
    let terminal = Terminal::offline();
    let said = terminal.says(&["policy", "new-root", "root.key"]);
    is_private(&terminal.path("root.key"));
    let text = fs::read_to_string(terminal.path("root.key")).unwrap();
    let root = PolicyRootKey::from_text(&text).ok().unwrap();
    assert!(
        said.contains(&root.public().fingerprint().to_string()),
        "{said}"
    );
    assert!(!said.contains(text.trim()), "{said}");
    let said = terminal.says(&["policy", "new-admin", "frank.key"]);
    is_private(&terminal.path("frank.key"));
    let text = fs::read_to_string(terminal.path("frank.key")).unwrap();
    let frank = AdminKeyPair::from_text(&text).ok().unwrap();
    let last = said.lines().last().unwrap();
    assert!(AdminPublicKey::from_text(last).ok().unwrap() == frank.public());
    assert!(
        said.contains(&frank.public().fingerprint().to_string()),
        "{said}"
    );
    assert!(!said.contains(text.trim()), "{said}");
    let told = terminal.json(&["policy", "new-admin", "grace.key"]);
    assert!(AdminPublicKey::from_text(told["public_key"].as_str().unwrap()).is_ok());
}

/// A key that is there is worth more than the one that would be.
#[test]
fn no_file_is_written_over() {
    let (terminal, admins) = ceremony(&["frank", "grace"]);
    terminal.says(&make("2", &admins, &["policy"]));
    let before =
        ["root.key", "frank.key", "policy"].map(|name| fs::read(terminal.path(name)).unwrap());
    for arguments in [
        vec!["policy", "new-root", "root.key"],
        vec!["policy", "new-admin", "frank.key"],
        make("2", &admins, &["policy"]),
        vec!["policy", "new-root", "nowhere/root.key"],
    ] {
        let said = terminal.refuses(&arguments);
        assert!(said.contains("a file that is not there yet"), "{said}");
    }
    let after =
        ["root.key", "frank.key", "policy"].map(|name| fs::read(terminal.path(name)).unwrap());
    assert!(before == after);
}

#[test]
fn a_policy_is_made_shown_and_followed_by_the_next() {
    let (terminal, admins) = ceremony(&["frank", "grace", "heidi"]);
    let said = terminal.says(&make("2", &admins, &["first"]));
    assert!(
        said.starts_with("Policy 1: 2 of 3 recovery admins"),
        "{said}"
    );
    let policy = SignedPolicy::parse(&fs::read(terminal.path("first")).unwrap()).unwrap();
    let told = terminal.json(&["policy", "show", "first"]);
    assert_eq!(
        (&told["version"], &told["threshold"]),
        (&1.into(), &2.into())
    );
    assert_eq!(told["root"], policy.root().fingerprint().to_string());
    assert_eq!(told["digest"], policy.digest().to_string());
    for (admin, told) in policy
        .admins()
        .iter()
        .zip(told["admins"].as_array().unwrap())
    {
        assert_eq!(told["name"], admin.name.as_str());
        assert_eq!(told["fingerprint"], admin.key.fingerprint().to_string());
        assert!(
            said.contains(&admin.key.fingerprint().to_string()),
            "{said}"
        );
    }
    terminal.says(&make("3", &admins, &["--previous", "first", "second"]));
    let second = SignedPolicy::parse(&fs::read(terminal.path("second")).unwrap()).unwrap();
    second.expect_after(&policy).unwrap();
    assert_eq!((second.version(), second.threshold()), (2, 3));
}

#[test]
fn what_cannot_be_signed_is_refused_with_its_reason() {
    let (terminal, admins) = ceremony(&["frank", "grace"]);
    let refused = |arguments: &[&str], reason: &str| {
        let said = terminal.refuses(arguments);
        assert!(said.contains(reason), "{said}");
        assert!(!terminal.path("out").exists());
        said
    };
    refused(
        &make("3", &admins, &["out"]),
        "admins named: 2, admins needed: 3",
    );
    let twice = [admins[0].clone(), admins[0].clone()];
    refused(&make("2", &twice, &["out"]), "frank is named twice");
    let same = [admins[0].clone(), admins[0].replacen("frank", "grace", 1)];
    refused(
        &make("2", &same, &["out"]),
        "frank and grace have the same key",
    );
    let seventeen: Vec<String> = (0..17)
        .map(|number| {
            format!(
                "admin-{number}={}",
                *AdminKeyPair::generate().public().to_text()
            )
        })
        .collect();
    refused(&make("2", &seventeen, &["out"]), "admins named: 17");
    let cut = [admins[0].clone(), admins[1][..900].to_owned()];
    refused(&make("2", &cut, &["out"]), "the key of grace is not taken");
    let secret = fs::read_to_string(terminal.path("grace.key")).unwrap();
    let mixed = [admins[0].clone(), format!("grace={}", secret.trim())];
    let said = refused(&make("2", &mixed, &["out"]), "begins with \"hfa1-\"");
    assert!(!said.contains(&secret[11..30]), "{said}");
    let said = terminal.does_not_take(&make("1", &admins, &["out"]));
    assert!(said.contains("2..=16"), "{said}");
    // Somebody else's root.
    terminal.says(&make("2", &admins, &["first"]));
    fs::rename(terminal.path("root.key"), terminal.path("old.key")).unwrap();
    terminal.says(&["policy", "new-root", "root.key"]);
    refused(
        &make("2", &admins, &["--previous", "first", "out"]),
        "is signed by the root",
    );
    refused(
        &make("2", &admins, &["--previous", "root.key", "out"]),
        "no policy of recovery admins",
    );
}

/// Each with one sentence that names the file.
#[test]
fn files_that_are_something_else_are_refused() {
    let (terminal, admins) = ceremony(&["frank", "grace"]);
    terminal.says(&make("2", &admins, &["policy"]));
    let root = fs::read(terminal.path("root.key")).unwrap();
    let with_root = |bytes: &[u8], mode: u32| {
        fs::write(terminal.path("root.key"), bytes).unwrap();
        fs::set_permissions(terminal.path("root.key"), Permissions::from_mode(mode)).unwrap();
        terminal.refuses(&make("2", &admins, &["out"]))
    };
    let said = with_root(&root, 0o640);
    assert!(said.contains("chmod 600 root.key"), "{said}");
    let admin = fs::read(terminal.path("frank.key")).unwrap();
    for bytes in [
        &root[..40],
        &[root.clone(), root.clone()].concat(),
        &admin,
        b"",
        &[0xff; 5000],
    ] {
        let said = with_root(bytes, 0o600);
        assert!(
            said.starts_with("root.key is not taken; name the file that new-root wrote: it is not"),
            "{said}"
        );
    }
    let policy = fs::read(terminal.path("policy")).unwrap();
    let mut changed = policy.clone();
    changed[50] ^= 1;
    for bytes in [
        &policy[1..],
        &policy[..100],
        &[policy.clone(), vec![0]].concat(),
        &changed,
        &[0; 200_000],
    ] {
        fs::write(terminal.path("bad"), bytes).unwrap();
        let said = terminal.refuses(&["policy", "show", "bad"]);
        assert!(
            said.starts_with("bad: this is no policy of recovery admins"),
            "{said}"
        );
    }
    let said = terminal.refuses(&["policy", "show", "nothing"]);
    assert!(said.contains("check the path"), "{said}");
    // Nothing was sent: there is nobody to send it to.
    assert!(
        terminal
            .refuses(&["policy", "publish", "bad"])
            .starts_with("bad: ")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_takes_policies_in_their_order() {
    let (server, _, _) = open().await;
    let (offline, admins) = ceremony(&["frank", "grace", "heidi"]);
    offline.says(&make("2", &admins, &["first"]));
    offline.says(&make("3", &admins, &["--previous", "first", "second"]));
    let operator = Terminal::of_operator(&server);
    let file = |name: &str| offline.path(name).to_str().unwrap().to_owned();
    let publish = |name: &str| operator.says(&["policy", "publish", &file(name)]);
    let said = operator.refuses(&["policy", "show"]);
    assert!(said.contains("there is no policy"), "{said}");
    let said = operator.refuses(&["policy", "publish", &file("second")]);
    assert!(said.contains("the first policy has version 1"), "{said}");
    let said = publish("first");
    assert!(
        said.contains("Policy 1: 2 of 3") && said.contains("invite those users again"),
        "{said}"
    );
    assert_eq!(
        operator.json(&["policy", "show"]),
        offline.json(&["policy", "show", "first"])
    );
    assert!(!publish("second").contains("again"));
    assert_eq!(
        operator.json(&["policy", "show"]),
        offline.json(&["policy", "show", "second"])
    );
    let said = operator.refuses(&["policy", "publish", &file("first")]);
    assert!(said.contains("does not follow version 2"), "{said}");
    assert!(server.audit_log().contains("\"policy_published\""));
}
