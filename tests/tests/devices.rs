//! More than one computer in an archive.

use std::fs;
use std::time::{Duration, Instant};

use holdfast_tests::compare::{Strictness, assert_same};
use holdfast_tests::{Drive, Home, commands, trees};

/// On an empty home, with nothing but the recovery code, `recover --from` starts `current/` as that device's
/// newest snapshot, and the archive goes on from there as a device of its own.
#[test]
fn a_new_computer_recovers_and_goes_on() {
    let (old, code) = Home::with_archive("laptop");
    let source = old.path("source");
    trees::every_kind(&source);
    let drive = old.mount();
    commands::copy(&source, &drive.current("tree"));
    old.ok(&["snapshot", "before-the-loss"]);
    drive.unmount();
    let store = old.store();

    let new = Home::new();
    let run = new.recover(&store, &code, "desktop", &["--from", "laptop"]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    let listed = new.ok(&["snapshots"]);
    assert!(listed.contains("before-the-loss"), "{listed}");
    let drive = new.mount();
    assert_same(&source, &drive.current("tree"), Strictness::Everything);
    fs::write(drive.current("from the desktop"), "more").expect("written");
    let before = old.store_bytes();
    new.ok(&["snapshot", "after"]);
    assert!(
        old.store_bytes() - before < 128 << 10,
        "content of the other device is stored once"
    );
    assert!(
        drive
            .snapshot("laptop", "before-the-loss")
            .join("tree/small")
            .exists()
    );
    drive.unmount();

    // The old computer comes back: both go on.
    let drive = old.mount();
    assert!(!drive.current("from the desktop").exists());
    let seen = drive.snapshot("desktop", "after").join("from the desktop");
    assert_eq!(
        fs::read(seen).expect("the other device's snapshot"),
        b"more"
    );
    drive.unmount();
}

/// Without `--from`, `current/` starts empty and every snapshot can be restored from.
#[test]
fn a_new_computer_may_start_empty() {
    let (old, code) = Home::with_archive("laptop");
    let drive = old.mount();
    fs::write(drive.current("file"), "content").expect("written");
    old.ok(&["snapshot", "one"]);
    drive.unmount();
    let new = Home::new();
    let run = new.recover(&old.store(), &code, "desktop", &[]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert_eq!(new.ok(&["cat", "laptop/one:file"]), "content");
    let drive = new.mount();
    assert_eq!(
        fs::read_dir(drive.current("")).expect("current/").count(),
        0
    );
    drive.unmount();
}

/// Two devices are mounted at once, write and take snapshots into one archive; each sees the other's
/// snapshots within 60 s, and identical content is stored once.
#[test]
fn two_devices_share_an_archive() {
    let (one, code) = Home::with_archive("one");
    let two = Home::new();
    let run = two.recover(&one.store(), &code, "two", &[]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    let (first, second) = (one.mount(), two.mount());
    let content = trees::random_bytes(5, 24 << 20);
    fs::write(first.current("file"), &content).expect("written");
    one.ok(&["snapshot", "from-one"]);
    wait_for(&second, "one", "from-one");
    assert!(fs::read(second.snapshot("one", "from-one").join("file")).expect("read") == content);

    std::thread::scope(|scope| {
        for (home, drive, name) in [(&one, &first, "a"), (&two, &second, "b")] {
            let content = &content;
            scope.spawn(move || {
                for round in 0..5 {
                    fs::write(
                        drive.current(format!("{name}-{round}")),
                        &content[round * 1000..],
                    )
                    .expect("written");
                    home.ok(&["snapshot", &format!("{name}-{round}")]);
                }
            });
        }
    });
    first.unmount();
    second.unmount();
    for home in [&one, &two] {
        home.ok(&["check", "--read-data"]);
        let listed = home.ok(&["snapshots"]);
        for round in 0..5 {
            assert!(
                listed.contains(&format!("a-{round}")) && listed.contains(&format!("b-{round}")),
                "{listed}"
            );
        }
    }
    let restored = two.path("restored");
    two.ok(&["restore", "one/a-4", restored.to_str().expect("plain")]);
    assert!(fs::read(restored.join("a-4")).expect("read") == content[4000..]);
}

fn wait_for(drive: &Drive<'_>, device: &str, snapshot: &str) {
    let until = Instant::now() + Duration::from_secs(70);
    while !drive.snapshot(device, snapshot).exists() {
        assert!(
            Instant::now() < until,
            "the other device's snapshot does not appear"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}
