//! The keystore as people meet it: the real program, over TLS, with a credential for each of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use holdfast_tests::keystore::{HOLDERS, Keystore};
use holdfast_tests::{program, trees};
use serde_json::Value;

const FROM_STDIN: [&str; 3] = ["unseal", "--share-file", "-"];

/// The bytes that a printed share stands for.
fn bytes(share: &str) -> Vec<u8> {
    let plain = share.replace('-', "");
    let read = CheckedHrpstring::new::<Bech32m>(&plain).expect("a share");
    read.byte_iter().collect()
}

/// A share with the same label and a good checksum that nobody has handed out.
fn forged(share: &str) -> String {
    let mut bytes = bytes(share);
    *bytes.last_mut().expect("44 bytes") ^= 1;
    bech32::encode::<Bech32m>(Hrp::parse("hfs").expect("a prefix"), &bytes).expect("encoded")
}

/// One wrong character in the group of that number.
fn mistyped(share: &str, group: usize) -> String {
    let place = (group - 1) * 5 + 1;
    let other = if share[place..].starts_with('q') {
        "p"
    } else {
        "q"
    };
    let mut typed = share.to_owned();
    typed.replace_range(place..=place, other);
    typed
}

fn audit_lines(keystore: &Keystore) -> u64 {
    let log = fs::read_to_string(keystore.data().join("audit.log")).expect("the audit log");
    log.lines().count() as u64
}

/// Three holders open the keystore over three certificates, in any order; two do not; it can be sealed and opened again.
#[test]
fn three_people_open_it_and_two_do_not() {
    let (mut keystore, shares) = Keystore::initialised();
    assert_eq!(keystore.phase(), "sealed");
    keystore.ok(&["unseal", "--start"]);
    for pair in [[1, 2], [5, 3]] {
        for number in pair {
            let told = keystore.enter(&["unseal"], number, &shares);
            assert_eq!(told["outcome"], "waiting");
        }
        assert_eq!(keystore.phase(), "sealed");
        keystore.ok(&["unseal", "--cancel"]);
        keystore.ok(&["unseal", "--start"]);
    }
    keystore.ok(&["unseal", "--cancel"]);
    keystore.unseal([4, 1, 3], &shares);
    let status = keystore.ok(&["status"]);
    assert_eq!(status["phase"], "unsealed");
    assert_eq!(status["seal"]["threshold"], 3);
    let holders = status["seal"]["holders"].as_array().expect("holders");
    let names: Vec<&str> = holders
        .iter()
        .filter_map(|held| held["holder"].as_str())
        .collect();
    assert_eq!(names, HOLDERS);
    assert_eq!(keystore.ok(&["rotate", "data-key"])["term"], 2);
    keystore.ok(&["seal"]);
    assert_eq!(keystore.phase(), "sealed");
    keystore.unseal([5, 2, 4], &shares);
    keystore.stop();
    keystore.run();
    assert_eq!(keystore.phase(), "sealed");
    keystore.unseal([1, 2, 3], &shares);
}

/// A share that does not count is refused by name, and what has counted still does.
#[test]
fn wrong_foreign_and_repeated_shares_are_refused_by_name() {
    let (keystore, old) = Keystore::initialised();
    // Never opened, it may be initialised again, as another keystore: nobody waits for the first shares any more.
    let shares = keystore.init();
    let (_elsewhere, foreign) = Keystore::initialised();
    let alice = |share: &str| keystore.refused("alice", &FROM_STDIN, share);
    let said = alice(&shares[0]);
    assert!(said.contains("unseal --start"), "{said}");
    keystore.ok(&["unseal", "--start"]);
    keystore.enter(&["unseal"], 2, &shares);
    for (share, wanted) in [
        (forged(&shares[0]), "not the share that was handed out"),
        (old[0].clone(), "another keystore"),
        (foreign[0].clone(), "another keystore"),
        (shares[2].clone(), "handed out to somebody else"),
        (shares[1].clone(), "somebody else"),
    ] {
        let said = alice(&share);
        assert!(said.contains(wanted), "{said}");
    }
    let said = keystore.refused("bob", &FROM_STDIN, &shares[1]);
    assert!(said.contains("entered already"), "{said}");
    let run = keystore.command("bob", &[&["--json"], &FROM_STDIN[..]].concat(), &shares[1]);
    let told: Value = serde_json::from_str(&run.out).expect("JSON");
    assert_eq!(told["refused"]["reason"], "repeated");
    assert_eq!(told["refused"]["share"], 2);
    keystore.enter(&["unseal"], 4, &shares);
    let last = keystore.enter(&["unseal"], 5, &shares);
    assert_eq!(last["outcome"], "unsealed");
}

/// A typing error is found and placed before anything is sent: no line of the audit log knows of it.
#[test]
fn a_mistyped_share_is_not_sent() {
    let (keystore, shares) = Keystore::initialised();
    keystore.ok(&["unseal", "--start"]);
    let before = audit_lines(&keystore);
    for group in [2, 11, 20] {
        let said = keystore.refused("alice", &FROM_STDIN, &mistyped(&shares[0], group));
        assert!(
            said.contains(&format!("in group {group}, is wrong")),
            "{said}"
        );
    }
    let short = &shares[0][..shares[0].len() - 2];
    let said = keystore.refused("alice", &["share", "verify", "--share-file", "-"], short);
    assert!(said.contains("has 80 characters"), "{said}");
    let said = keystore.refused("alice", &["unseal"], &shares[0]);
    assert!(
        said.contains("--share-file"),
        "no terminal, no prompt: {said}"
    );
    let run = keystore.command("alice", &["unseal", &shares[0]], "");
    assert_eq!(run.code, 2, "a share is no argument: {}", run.err);
    assert_eq!(audit_lines(&keystore), before);
    keystore.enter(&["unseal"], 1, &shares);
}

/// A holder proves that a share is good while the keystore stays sealed.
#[test]
fn a_share_is_verified_without_unsealing() {
    let (keystore, shares) = Keystore::initialised();
    let told = keystore.enter(&["share", "verify"], 3, &shares);
    assert_eq!(told["good"][0]["number"], 3);
    assert_eq!(told["good"][0]["holder"], "carol");
    assert_eq!(keystore.phase(), "sealed");
    let said = keystore.refused(
        "carol",
        &["share", "verify", "--share-file", "-"],
        &shares[0],
    );
    assert!(said.contains("somebody else"), "{said}");
}

/// New shares take the old ones' place only when every one of them has been entered and three old holders have agreed;
/// given up, the old ones hold.
#[test]
fn new_shares_replace_the_old_ones_when_all_are_entered() {
    let (keystore, old) = Keystore::initialised();
    keystore.unseal([1, 2, 3], &old);
    let given_up = keystore.reshare();
    keystore.enter(&["reshare", "enter"], 1, &given_up);
    keystore.ok(&["reshare", "cancel"]);
    keystore.ok(&["seal"]);
    keystore.unseal([2, 3, 4], &old);
    let new = keystore.reshare();
    for number in 1..=5 {
        let told = keystore.enter(&["reshare", "enter"], number, &new);
        assert_eq!(told["outcome"], "waiting");
    }
    // All new shares are entered, and still it is the old holders who decide.
    for number in [5, 1, 3] {
        let told = keystore.enter(&["reshare", "enter"], number, &old);
        let wanted = if number == 3 { "reshared" } else { "waiting" };
        assert_eq!(told["outcome"], wanted);
    }
    keystore.ok(&["seal"]);
    keystore.ok(&["unseal", "--start"]);
    let said = keystore.refused("alice", &FROM_STDIN, &old[0]);
    assert!(
        said.contains("epoch 1") && said.contains("epoch 2"),
        "{said}"
    );
    keystore.ok(&["unseal", "--cancel"]);
    keystore.unseal([1, 3, 5], &new);
}

/// Who was removed is refused from the next call on, and the last operator stays.
#[test]
fn people_come_and_go() {
    let keystore = Keystore::with_people();
    keystore.add("olga", "operator");
    let listed = keystore.ok(&["operator", "list"]);
    let people = listed["persons"].as_array().expect("people");
    assert_eq!(people.len(), 7);
    let mode = fs::metadata(keystore.credential("olga"))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let said = keystore.refused("alice", &["operator", "remove", "bob"], "");
    assert!(said.contains("role"), "{said}");
    keystore.ok(&["operator", "remove", "bob"]);
    let said = keystore.refused("bob", &["status"], "");
    assert!(said.contains("nobody's"), "{said}");
    keystore.ok(&["operator", "remove", "olga"]);
    let said = keystore.refused(
        "first-operator",
        &["operator", "remove", "first-operator"],
        "",
    );
    assert!(said.contains("last operator"), "{said}");
    fs::set_permissions(
        keystore.credential("alice"),
        fs::Permissions::from_mode(0o644),
    )
    .expect("set");
    let said = keystore.refused("alice", &["status"], "");
    assert!(said.contains("chmod 600"), "{said}");
}

/// The server is recognised by the credential's authority, by a file of authorities, or by its certificate's fingerprint, and
/// by nothing else.
#[test]
fn a_server_that_is_not_the_keystore_is_not_spoken_to() {
    let keystore = Keystore::with_people();
    let other = Keystore::start();
    let colons: Vec<String> = keystore
        .fingerprint()
        .to_uppercase()
        .as_bytes()
        .chunks(2)
        .map(|two| String::from_utf8_lossy(two).into_owned())
        .collect();
    keystore.ok(&["status", "--server-fingerprint", &colons.join(":")]);
    let said = keystore.refused(
        "alice",
        &["status", "--server-fingerprint", other.fingerprint()],
        "",
    );
    assert!(said.contains("fingerprint"), "{said}");
    let authority = |keystore: &Keystore| keystore.data().join("tls/authority.crt");
    let (own, foreign) = (authority(&keystore), authority(&other));
    let file = |path: &PathBuf| path.to_str().expect("a plain path").to_owned();
    keystore.ok(&["status", "--server-ca", &file(&own)]);
    let said = keystore.refused("alice", &["status", "--server-ca", &file(&foreign)], "");
    assert!(said.contains("UnknownIssuer"), "{said}");
    let run = other.command_with(&keystore.credential("alice"), &["status"], "");
    assert_eq!(run.code, 1, "{}", run.out);
}

/// A line of the audit log that was edited or taken out is named.
#[test]
fn the_audit_log_names_the_first_bad_line() {
    let (keystore, shares) = Keystore::initialised();
    keystore.unseal([1, 2, 3], &shares);
    assert_eq!(keystore.ok(&["audit", "verify"])["good"], true);
    let tail = keystore.ok(&["audit", "tail", "--lines", "4"]);
    assert_eq!(tail["lines"].as_array().map(Vec::len), Some(4));
    let log = fs::read_to_string(keystore.data().join("audit.log")).expect("the log");
    let copy = keystore.path("copy.log");
    let verify = ["audit", "verify", "copy.log"];
    fs::write(&copy, &log).expect("written");
    let told = keystore.ok(&verify);
    let head = format!(
        "{}:{}",
        told["lines"],
        told["head"].as_str().expect("a hash")
    );
    let edited = log.replacen("\"share\":2", "\"share\":4", 1);
    assert_ne!(edited, log);
    let place = log.lines().position(|line| line.contains("\"share\":2"));
    let number = place.expect("a share has counted") + 1;
    fs::write(&copy, edited).expect("written");
    let run = keystore.command("first-operator", &verify, "");
    assert_eq!(run.code, 1);
    assert!(
        run.out
            .contains(&format!("line {number} of the audit log was changed")),
        "{}",
        run.out
    );
    let without: Vec<&str> = log
        .lines()
        .filter(|line| !line.contains("\"initialised\""))
        .collect();
    fs::write(&copy, without.join("\n") + "\n").expect("written");
    let run = keystore.command("first-operator", &verify, "");
    assert_eq!(run.code, 1);
    assert!(run.out.contains("is missing"), "{}", run.out);
    // Cut short, it is a good log, but not the one whose end was kept elsewhere.
    let kept: Vec<&str> = log.lines().take(5).collect();
    fs::write(&copy, kept.join("\n") + "\n").expect("written");
    keystore.ok(&verify);
    let against = [&verify[..], &["--head", &head]].concat();
    assert_eq!(keystore.command("first-operator", &against, "").code, 1);
}

/// A snapshot comes back on an empty server, with the shares of its epoch; others are told which epoch is needed.
#[test]
fn a_snapshot_is_restored_on_an_empty_server() {
    let (keystore, first) = Keystore::initialised();
    keystore.unseal([1, 2, 3], &first);
    keystore.ok(&["snapshot", "save", "copy"]);
    let said = keystore.refused("first-operator", &["snapshot", "save", "copy"], "");
    assert!(said.contains("already"), "{said}");
    let second = keystore.reshare();
    keystore.reshared(&first, &second);
    let empty = Keystore::start();
    fs::write(empty.path("junk"), b"no snapshot").expect("written");
    let said = empty.refused("first-operator", &["snapshot", "restore", "junk"], "");
    assert!(said.contains("snapshot"), "{said}");
    let copy = keystore.path("copy");
    let restored = empty.ok(&["snapshot", "restore", copy.to_str().expect("a plain path")]);
    assert_eq!(restored["epoch"], 1);
    // The people come with the credentials that they have, and recognise the new server by its fingerprint.
    let run = |who: &str, arguments: &[&str], typed: &str| {
        let pinned = [arguments, &["--server-fingerprint", empty.fingerprint()]].concat();
        empty.command_with(&keystore.credential(who), &pinned, typed)
    };
    let started = run("first-operator", &["unseal", "--start"], "");
    assert_eq!(started.code, 0, "{}", started.err);
    let refused = run("alice", &FROM_STDIN, &second[0]);
    assert!(
        refused.err.contains("submit the share of epoch 1"),
        "{}",
        refused.err
    );
    for (who, share) in HOLDERS.iter().zip(&first).take(3) {
        let entered = run(who, &FROM_STDIN, share);
        assert_eq!(entered.code, 0, "{}", entered.err);
    }
    let status = run("first-operator", &["--json", "status"], "");
    let status: Value = serde_json::from_str(&status.out).expect("JSON");
    assert_eq!(status["phase"], "unsealed");
}

/// A share that is encrypted to its holder is shown to nobody, and stock age gives it to its holder.
#[test]
fn shares_for_age_are_opened_by_age() {
    let age = program("age", "apt-get install age");
    let keygen = program("age-keygen", "apt-get install age");
    let keystore = Keystore::with_people();
    let mut arguments = vec!["init".to_owned()];
    for name in HOLDERS {
        let key = keystore.path(&format!("{name}.key"));
        let made = Command::new(&keygen)
            .arg("-o")
            .arg(&key)
            .output()
            .expect("age-keygen runs");
        assert!(made.status.success());
        let told = Command::new(&keygen)
            .arg("-y")
            .arg(&key)
            .output()
            .expect("age-keygen runs");
        let recipient = String::from_utf8(told.stdout).expect("text");
        arguments.extend([
            "--holder".to_owned(),
            format!("{name}={}", recipient.trim()),
        ]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let run = keystore.command("first-operator", &arguments, "");
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(
        !run.out.contains("hfs1") && !run.err.contains("hfs1"),
        "{}",
        run.out
    );
    let decrypt = |number: usize, whose: &str| {
        let name = HOLDERS[number - 1];
        let file = keystore.path(&format!("share-{number}-{name}.age"));
        let mode = fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let key = keystore.path(&format!("{whose}.key"));
        Command::new(&age)
            .arg("-d")
            .arg("-i")
            .arg(key)
            .arg(file)
            .output()
            .expect("age runs")
    };
    assert!(
        !decrypt(1, "bob").status.success(),
        "nobody sees another's share"
    );
    let shares: Vec<String> = (1..=5)
        .map(|number| {
            let out = decrypt(number, HOLDERS[number - 1]);
            assert!(
                out.status.success(),
                "{}",
                String::from_utf8_lossy(&out.stderr)
            );
            String::from_utf8(out.stdout).expect("text")
        })
        .collect();
    keystore.unseal([2, 3, 5], &shares);
}

/// Pages to print: one for each holder, nobody else's to read, with nothing shown on the terminal; a page that is there is not
/// written over, and no share is made then.
#[test]
fn shares_are_printed_one_page_for_each() {
    let keystore = Keystore::with_people();
    fs::create_dir(keystore.path("pages")).expect("made");
    let holders = HOLDERS.iter().flat_map(|name| ["--holder", name]);
    let arguments: Vec<&str> = ["init", "--print", "pages"]
        .into_iter()
        .chain(holders)
        .collect();
    let run = keystore.command("first-operator", &arguments, "");
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(!run.out.contains("hfs1"), "{}", run.out);
    let shares: Vec<String> = (1..=5)
        .map(|number| {
            let name = HOLDERS[number - 1];
            let page = keystore.path(&format!("pages/share-{number}-{name}.svg"));
            let mode = fs::metadata(&page).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let svg = fs::read_to_string(page).expect("read");
            assert!(svg.contains(&format!("Holder: {name}<")));
            typed_off(&svg)
        })
        .collect();
    let said = keystore.refused("first-operator", &arguments, "");
    assert!(said.contains("no share was"), "{said}");
    keystore.unseal([1, 3, 4], &shares);
}

/// As a person reads it off the page.
fn typed_off(svg: &str) -> String {
    let begin = svg.find("monospace").expect("the share");
    let lines = svg[begin..].split("preserve\">").skip(1);
    let line = |rest: &str| rest.split('<').next().unwrap_or_default().to_owned();
    lines.map(line).collect::<Vec<_>>().join(" ")
}

/// What a holder keeps stands in no log, database, snapshot or audit file, however it is written.
#[test]
fn no_share_is_written_anywhere() {
    let (mut keystore, first) = Keystore::initialised();
    keystore.ok(&["unseal", "--start"]);
    keystore.refused("alice", &FROM_STDIN, &first[2]);
    keystore.refused("alice", &FROM_STDIN, &forged(&first[0]));
    keystore.ok(&["unseal", "--cancel"]);
    keystore.unseal([1, 2, 3], &first);
    keystore.enter(&["share", "verify"], 4, &first);
    let second = keystore.reshare();
    keystore.reshared(&first, &second);
    keystore.ok(&["rotate", "data-key"]);
    keystore.ok(&["snapshot", "save", "copy"]);
    keystore.ok(&["seal"]);
    keystore.unseal([3, 4, 5], &second);
    keystore.stop();
    let files: Vec<(PathBuf, Vec<u8>)> = trees::files_below(&keystore.path("."))
        .into_iter()
        .map(|file| {
            let bytes = fs::read(&file).expect("read");
            (file, bytes)
        })
        .collect();
    for wanted in [
        "serve.log",
        "keystore.redb",
        "audit.log",
        "copy",
        "persons.json",
    ] {
        assert!(
            files.iter().any(|(file, _)| file.ends_with(wanted)),
            "{wanted} was looked at"
        );
    }
    assert!(keystore.log().contains("TRACE"), "everything was logged");
    for share in first.iter().chain(&second) {
        for spelling in spellings(share) {
            for (file, bytes) in &files {
                let found = bytes
                    .windows(spelling.len())
                    .any(|window| window == spelling);
                assert!(!found, "a share stands in {}", file.display());
            }
        }
    }
}

/// Every way in which somebody might have written a share, or the secret half of it.
fn spellings(share: &str) -> Vec<Vec<u8>> {
    let plain = share.replace('-', "");
    // The label, which is no secret, has 12 bytes and ends in the 20th character after the prefix.
    let secret = &bytes(share)[12..];
    let hex = hex::encode(secret);
    let mut all = vec![
        share.as_bytes()[30..60].to_vec(),
        plain.as_bytes()[30..60].to_vec(),
        plain.to_uppercase().as_bytes()[30..60].to_vec(),
        secret[..16].to_vec(),
        secret[16..].to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
    ];
    for shift in 0..3 {
        // In the middle of something longer that was encoded: whole groups of three bytes.
        let shifted = &secret[shift..];
        let whole = &shifted[..shifted.len() / 3 * 3];
        all.push(STANDARD_NO_PAD.encode(whole).into_bytes());
        all.push(URL_SAFE_NO_PAD.encode(whole).into_bytes());
    }
    all
}
