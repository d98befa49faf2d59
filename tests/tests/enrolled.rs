//! Users whose archives are behind the keystore: the real drive, the real server, a folder or a real bucket.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use holdfast_tests::compare::{Strictness, assert_same};
use holdfast_tests::enrolled::{Organisation, PASSWORD, User};
use holdfast_tests::home::text;
use holdfast_tests::servers::{Garage, Minio, S3Server, Seaweed};
use holdfast_tests::{Home, commands, trees};

/// Waits until something is so.
#[track_caller]
fn wait_for(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < within, "not within {within:?}: {what}");
        sleep(Duration::from_millis(50));
    }
    began.elapsed()
}

/// No file of a home has any of these texts in it.
#[track_caller]
fn has_none_of(home: &Home, secrets: &[&str]) {
    for file in trees::files_below(&home.holdfast_home()) {
        let bytes = fs::read(&file).expect("read");
        for secret in secrets {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "{} has {secret:?} in it", file.display());
        }
    }
}

/// Enrol, copy in, snapshot, restore; then a new computer, which reads at once and uploads nothing again.
fn main_job(organisation: &Organisation, stored_bytes: &dyn Fn() -> Option<u64>) -> User {
    let user = organisation.enrol("ada", &[]);
    let source = user.home.path("source");
    trees::every_kind(&source);
    fs::write(source.join("large"), trees::random_bytes(1, 40 << 20)).expect("written");
    let drive = user.mount();
    commands::copy(&source, &drive.current("tree"));
    user.home.ok(&["snapshot", "first"]);
    let snapshot = drive.snapshot("laptop", "first");
    assert_same(&source, &snapshot.join("tree"), Strictness::Everything);
    let status = user.home.json(&["status"]);
    assert_eq!(status["keystore"]["device"], "active", "{status}");
    fs::write(drive.current("small"), "of the second snapshot").expect("written");
    user.home.ok(&["snapshot", "second"]);
    drive.unmount();
    let restored = user.home.path("restored");
    user.home
        .ok(&["restore", "first", text(&restored), "--verify"]);
    assert_same(&source, &restored.join("tree"), Strictness::Everything);
    user.home.ok(&["check", "--read-data"]);
    user.home.ok(&["forget", "first"]);
    let refused = user.home.refused(&["gc"]);
    assert!(refused.contains("keystore"), "{refused}");

    let desk = organisation.log_in(&user, "desk", &[]);
    let drive = desk.mount();
    let snapshots = fs::read_dir(drive.path("snapshots/laptop")).expect("listed");
    assert!(snapshots.count() > 0);
    drive.unmount();
    user.home.ok(&["undelete", "first"]);
    let out = desk.ok(&["ls", "laptop/first:tree"]);
    assert!(out.contains("large"), "{out}");
    let before = stored_bytes();
    desk.ok(&["backup", text(&source)]);
    if let (Some(before), Some(after)) = (before, stored_bytes()) {
        let new = after - before;
        assert!(
            new * 100 < before,
            "{new} of {before} bytes are uploaded again"
        );
    }
    let states = organisation.devices("ada");
    let active = |name: &str| (name.to_owned(), "active".to_owned());
    assert_eq!(states, [active("desk"), active("laptop")]);
    has_none_of(&user.home, &[PASSWORD]);
    let collected = organisation.keystore.ok(&["gc"]);
    assert_eq!(
        collected["archives"][0]["stopped"],
        serde_json::Value::Null,
        "{collected}"
    );
    user
}

#[test]
fn the_main_job_on_a_folder_of_the_keystore() {
    let organisation = Organisation::with_folder();
    let objects = organisation.keystore.data().join("objects");
    let stored = || {
        let files = trees::files_below(&objects);
        let sizes = files
            .iter()
            .map(|file| fs::metadata(file).expect("there").len());
        Some(sizes.sum())
    };
    main_job(&organisation, &stored);
    let key = |line: &&str| line.contains("\"key_released\"");
    let log = fs::read_to_string(organisation.keystore.data().join("audit.log")).expect("read");
    // Enrolment reads back what it has stored, and the login reads it.
    assert_eq!(log.lines().filter(key).count(), 2, "{log}");
}

fn on_a_bucket(server: &dyn S3Server) {
    let organisation = Organisation::with_bucket(server);
    let user = main_job(&organisation, &|| None);
    let (access, secret) = server.credentials();
    has_none_of(&user.home, &[access, secret]);
    recovers_without_the_keystore(organisation, &user, server);
}

/// With access to the bucket and the recovery code alone, and no server.
fn recovers_without_the_keystore(
    mut organisation: Organisation,
    user: &User,
    server: &dyn S3Server,
) {
    let listed = organisation.keystore.ok(&["user", "list"]);
    let archive = listed["users"][0]["archive"].as_str().expect("an archive");
    let store = server.store(&format!("archives/{archive}"));
    organisation.keystore.stop();
    let code = fs::read_to_string(user.code()).expect("read");
    let (new, endpoint) = (server.home(), server.endpoint());
    let options = ["--endpoint", &endpoint, "--region", "us-east-1"];
    let recovered = new.recover(&store, code.trim(), "rescued", &options);
    assert_eq!(recovered.code, 0, "{}", recovered.err);
    let target = new.path("restored");
    new.ok(&["restore", "laptop/first", text(&target), "--verify"]);
    assert_same(
        &user.home.path("source"),
        &target.join("tree"),
        Strictness::Everything,
    );
}

#[test]
fn the_main_job_on_seaweedfs_by_grants() {
    on_a_bucket(&Seaweed::start());
}

#[test]
fn the_main_job_on_garage_by_grants() {
    if let Some(server) = Garage::start() {
        on_a_bucket(&server);
    }
}

#[test]
fn the_main_job_on_minio_by_grants() {
    if let Some(server) = Minio::start() {
        on_a_bucket(&server);
    }
}

/// A sealed keystore, and one that is down: an enrolled device goes on saving, says so, and uploads when the keystore is back. Whoever would
/// enrol or log in is told why not.
#[test]
fn while_the_keystore_is_sealed_or_down_devices_go_on_saving() {
    let mut organisation = Organisation::with_folder();
    let user = organisation.enrol("ada", &[]);
    let drive = user.mount();
    let queued = |home: &Home| {
        home.json(&["status"])["queued_bytes"]
            .as_u64()
            .expect("a number")
    };
    organisation.keystore.ok(&["seal"]);
    fs::write(
        drive.current("while-sealed"),
        trees::random_bytes(2, 8 << 20),
    )
    .expect("written");
    let sentence = user.home.refused(&["flush", "--timeout", "3"]);
    assert!(sentence.contains("sealed"), "{sentence}");
    assert!(queued(&user.home) > 0);
    let trouble = |home: &Home| home.json(&["status"])["keystore"]["trouble"].to_string();
    wait_for("told", Duration::from_secs(5), || {
        trouble(&user.home).contains("sealed")
    });
    let other = Home::new();
    let refused = organisation.try_log_in(&user, &other, "desk", &[]);
    assert!(
        refused.code != 0 && refused.err.contains("sealed"),
        "{}",
        refused.err
    );
    organisation.unseal();
    user.home.ok(&["flush", "--timeout", "60"]);
    organisation.keystore.stop();
    fs::write(drive.current("while-down"), "down").expect("written");
    let sentence = user.home.refused(&["flush", "--timeout", "3"]);
    assert!(sentence.contains("does not answer"), "{sentence}");
    organisation.keystore.run();
    organisation.unseal();
    user.home.ok(&["flush", "--timeout", "60"]);
    drive.unmount();
    let desk = organisation.log_in(&user, "desk", &[]);
    let drive = desk.mount();
    let latest = drive.path("snapshots/laptop");
    assert!(latest.is_dir());
    drive.unmount();
}

/// The device is online: the drive answers EACCES, the key is gone, and the operator sees it confirmed, all within five seconds.
#[test]
fn a_deauthorised_device_loses_its_key_within_five_seconds() {
    let organisation = Organisation::with_folder();
    let user = organisation.enrol("ada", &[]);
    let drive = user.mount();
    fs::write(drive.current("file"), "secret").expect("written");
    user.home.ok(&["flush"]);
    let key = user.home.holdfast_home().join("key");
    assert!(key.exists());
    let held = fs::File::open(drive.current("file")).expect("opened");
    organisation.keystore.ok(&["user", "deauthorise", "ada"]);
    let state = || organisation.devices("ada")[0].1.clone();
    wait_for("confirmed", Duration::from_secs(5), || {
        state() == "confirmed"
    });
    assert!(!key.exists(), "the key file is still there");
    let read = fs::read(drive.current("file"));
    assert!(read.is_err(), "it can still be read");
    drop(held);
    drive.ended();
    let sentence = user
        .home
        .refused(&["mount", text(&user.home.path("drive"))]);
    assert!(sentence.contains("deauthorised"), "{sentence}");
    // It may come back: the user has lost nothing.
    let desk = organisation.log_in(&user, "desk", &["--replace", "laptop"]);
    let drive = desk.mount();
    assert_eq!(
        fs::read_to_string(drive.current("file")).expect("read"),
        "secret"
    );
    drive.unmount();
}

/// The device is offline when it is deauthorised: it cannot open its key after a restart even where it never hears of it, and is refused
/// when it calls.
#[test]
fn a_stolen_computer_cannot_open_its_key() {
    let mut organisation = Organisation::with_folder();
    let user = organisation.enrol("ada", &[]);
    let drive = user.mount();
    fs::write(drive.current("file"), "secret").expect("written");
    user.home.ok(&["flush"]);
    drive.kill();
    organisation.keystore.ok(&[
        "user",
        "deauthorise",
        "ada",
        "--device",
        &device_id(&organisation),
    ]);
    assert_eq!(organisation.devices("ada")[0].1, "deauthorised");
    organisation.keystore.stop();
    let folder = user.home.path("drive");
    let sentence = user.home.refused(&["mount", text(&folder)]);
    assert!(sentence.contains("does not answer"), "{sentence}");
    assert!(!Path::new(&folder).join("current/file").exists());
    for command in [
        vec!["ls", "latest:"],
        vec!["key", "export"],
        vec!["cat", "latest:file"],
    ] {
        let run = user.home.run(&command);
        assert_ne!(run.code, 0, "{command:?}: {}", run.out);
        assert!(!run.out.contains("secret"), "{command:?}: {}", run.out);
    }
    organisation.keystore.run();
    organisation.unseal();
    let sentence = user.home.refused(&["mount", text(&folder)]);
    assert!(sentence.contains("deauthorised"), "{sentence}");
    let state = || organisation.devices("ada")[0].1.clone();
    wait_for("confirmed", Duration::from_secs(5), || {
        state() == "confirmed"
    });
    assert!(!user.home.holdfast_home().join("key").exists());
}

fn device_id(organisation: &Organisation) -> String {
    let listed = organisation.keystore.ok(&["user", "devices", "ada"]);
    listed["devices"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned()
}

/// At the end of the quota nothing is lost: what does not fit stays in the log, and `flush` and `status` say why.
#[test]
fn a_quota_that_is_used_up_is_told() {
    let organisation = Organisation::with_folder();
    let user = organisation.enrol_with_quota("ada", "4MiB");
    let drive = user.mount();
    fs::write(drive.current("large"), trees::random_bytes(3, 8 << 20)).expect("written");
    let told = user.home.run(["flush", "--timeout", "5"]);
    assert!(told.code != 0 && told.err.contains("quota"), "{}", told.err);
    let status = user.home.ok(&["status"]);
    assert!(status.contains("quota"), "{status}");
    let read = fs::read(drive.current("large")).expect("read");
    assert!(read == trees::random_bytes(3, 8 << 20));
    drive.kill();
}

/// A blocked user's devices go on saving, and no new one comes.
#[test]
fn a_blocked_user_saves_and_does_not_log_in() {
    let organisation = Organisation::with_folder();
    let user = organisation.enrol("ada", &[]);
    organisation.keystore.ok(&["user", "block", "ada"]);
    let drive = user.mount();
    fs::write(drive.current("file"), "saved").expect("written");
    user.home.ok(&["flush"]);
    let refused = organisation.try_log_in(&user, &Home::new(), "desk", &[]);
    assert!(
        refused.code != 0 && refused.err.contains("wrong"),
        "{}",
        refused.err
    );
    drive.unmount();
    let missing = fs::read(user.home.path("drive/current/file"));
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
}

/// What a user does with devices, password and keys, each time with the password and a code that was not used yet.
#[test]
fn a_user_looks_after_devices_password_and_keys() {
    let organisation = Organisation::with_folder();
    let user = organisation.enrol("ada", &[]);
    let home = &user.home;
    let (password, factor) = (user.password(), user.factor());
    let proof = [
        "--password-file",
        text(&password),
        "--second-factor-file",
        text(&factor),
    ];
    let code = fs::read_to_string(user.code()).expect("read");
    let shown = home.json(&[&["key", "show-recovery-code"], &proof[..]].concat());
    assert_eq!(shown["recovery_code"], code.trim());
    let exported = home.path("exported");
    home.ok(&[&["key", "export", text(&exported)], &proof[..]].concat());
    assert_eq!(
        fs::read_to_string(&exported).expect("read").trim(),
        code.trim()
    );

    let new = home.path("new-password");
    fs::write(&new, "staple battery horse correct").expect("written");
    let change = ["password", "--new-password-file", text(&new)];
    home.ok(&[&change, &proof[..]].concat());
    let refused = home.refused(&[&["key", "show-recovery-code"], &proof[..]].concat());
    assert!(refused.contains("wrong"), "{refused}");
    fs::copy(&new, &password).expect("copied");

    let desk = organisation.log_in(&user, "desk", &[]);
    let listed = home.json(&["devices"]);
    let names: Vec<_> = listed["devices"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|device| device["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["desk", "laptop"], "{listed}");
    home.ok(&["deauthorise", "desk"]);
    let refused = desk.refused(&["ls", "latest:"]);
    assert!(refused.contains("deauthorised"), "{refused}");
    home.ok(&["logout"]);
    assert!(!home.holdfast_home().join("key").exists());
    let states = organisation.devices("ada");
    assert!(
        states.iter().all(|(_, state)| state == "confirmed"),
        "{states:?}"
    );
    let again = organisation.log_in(&user, "laptop-2", &["--replace", "laptop"]);
    again.ok(&["snapshots"]);
}

/// Recovery admins are pinned: a keystore that tells of others than their root has signed is not believed, and steps that were missed are walked.
#[test]
fn recovery_admins_are_believed_only_from_their_root() {
    let organisation = Organisation::with_folder();
    let keystore = &organisation.keystore;
    let make = |root: &str, name: &str, previous: Option<&str>| {
        let (root, out) = (keystore.path(root), keystore.path(name));
        if !root.exists() {
            keystore.ok(&["policy", "new-root", text(&root)]);
        }
        let admins = ["frank", "grace"].map(|admin| {
            let file = keystore.path(&format!("{name}-{admin}"));
            let told = keystore.ok(&["policy", "new-admin", text(&file)]);
            format!("{admin}={}", told["public_key"].as_str().expect("a key"))
        });
        let mut arguments = vec!["policy", "make", "--root", text(&root), "--threshold", "2"];
        for admin in &admins {
            arguments.extend(["--admin", admin]);
        }
        let previous = previous.map(|previous| keystore.path(previous));
        if let Some(previous) = &previous {
            arguments.extend(["--previous", text(previous)]);
        }
        arguments.push(text(&out));
        keystore.ok(&arguments);
        out
    };
    let publish = |file: &Path| drop(keystore.ok(&["policy", "publish", text(file)]));
    publish(&make("root", "first", None));
    let token = organisation.token("ada", "standard", &[]);
    let user = organisation.enrol_with("ada", &token, &[]);
    let admins = |home: &Home| home.json(&["status"])["keystore"]["admins"].clone();
    let pinned = user.home.holdfast_home().join("state/recovery-admins");
    publish(&make("root", "second", Some("first")));
    publish(&make("root", "third", Some("second")));
    let before = fs::read(&pinned).expect("read");
    let drive = user.mount();
    wait_for("pinned", Duration::from_secs(40), || {
        fs::read(&pinned).is_ok_and(|now| now != before)
    });
    assert!(admins(&user.home).is_null());
    drive.unmount();
    // As if the keystore's were others: what is pinned here is signed by another root.
    let foreign = fs::read(make("another-root", "foreign", None)).expect("read");
    fs::write(&pinned, foreign).expect("written");
    let drive = user.mount();
    wait_for("told", Duration::from_secs(40), || {
        admins(&user.home)
            .to_string()
            .contains("cannot be believed")
    });
    drive.unmount();
}

/// With a lease of days the computer opens its key without the keystore, saves, and uploads when the keystore is back.
#[test]
fn a_lease_of_days_outlives_a_reboot_without_the_keystore() {
    let mut organisation = Organisation::with_folder();
    let user = organisation.enrol("ada", &["--lease", "3"]);
    let drive = user.mount();
    fs::write(drive.current("file"), "before").expect("written");
    user.home.ok(&["flush"]);
    let status = user.home.json(&["status"]);
    assert_eq!(status["keystore"]["lease"]["days"], 3, "{status}");
    drive.kill();
    organisation.keystore.stop();
    let drive = user.mount();
    fs::write(drive.current("meanwhile"), "saved").expect("written");
    organisation.keystore.run();
    organisation.unseal();
    user.home.ok(&["flush", "--timeout", "60"]);
    for (name, text) in [("file", "before"), ("meanwhile", "saved")] {
        let read = fs::read_to_string(drive.current(name)).expect("read");
        assert_eq!(read, text);
    }
    drive.unmount();
}
