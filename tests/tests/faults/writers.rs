//! The same device twice: a home that was copied to another computer.

use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use holdfast_tests::home::text;
use holdfast_tests::{Home, commands};

/// A home and its copy; both have the device's key and its state.
fn twins() -> (Home, Home) {
    let (one, _) = Home::with_archive("laptop");
    let drive = one.mount();
    fs::write(drive.current("common"), "before the copy").expect("written");
    one.ok(&["snapshot", "common"]);
    drive.unmount();
    let two = Home::new();
    commands::copy(&one.holdfast_home(), &two.holdfast_home());
    (one, two)
}

/// Waits until status says that the drive is read-only; gives the reason.
#[track_caller]
fn read_only(home: &Home) -> String {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let told = home.json(&["status"]);
        if let Some(why) = told["read_only"].as_str() {
            return why.to_owned();
        }
        assert!(Instant::now() < until, "not read-only: {told}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Both are mounted, the first stores a snapshot, then the second tries to: the second finds the fork, stores
/// nothing over it, is read-only and says so; its files stay readable, also after it is mounted again, and the
/// first goes on undisturbed.
#[test]
fn the_later_writer_finds_the_fork_and_only_reads() {
    let (one, two) = twins();
    let (first, second) = (one.mount(), two.mount());
    fs::write(first.current("one"), "from the first").expect("written");
    fs::write(second.current("two"), "from the second").expect("written");
    one.ok(&["snapshot", "by-one"]);
    let run = two.run(["flush", "--timeout", "20"]);
    assert_ne!(run.code, 0, "nothing is stored over a fork: {}", run.out);
    let why = read_only(&two);
    assert!(why.contains("copy") && why.contains("recover"), "{why}");
    let error = fs::write(second.current("more"), "x").expect_err("read-only");
    assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem, "{error}");
    assert_eq!(
        fs::read(second.current("two")).expect("readable"),
        b"from the second"
    );
    let asked = Instant::now();
    let run = two.run(["unmount", text(&second.path(""))]);
    assert_eq!(run.code, 1, "something is left: {}{}", run.out, run.err);
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "unmount waits for nothing"
    );
    second.ended();

    fs::write(first.current("one more"), "goes on").expect("written");
    one.ok(&["snapshot", "by-one-again"]);
    let second = two.mount();
    read_only(&two);
    assert_eq!(
        fs::read(second.current("two")).expect("kept"),
        b"from the second"
    );
    assert!(!second.current("one").exists(), "nothing is mixed");
    let listed = two.ok(&["snapshots"]);
    for name in ["common", "by-one", "by-one-again"] {
        assert!(listed.contains(name), "{name}: {listed}");
    }
    two.run(["unmount", text(&second.path(""))]);
    second.ended();
    first.unmount();
    one.ok(&["check", "--read-data"]);
    assert_eq!(one.ok(&["cat", "by-one:one"]), "from the first");
}

/// The copy has stored something while the first was not mounted, and has something in its log: the first finds
/// out when it is mounted, before it has stored anything.
#[test]
fn a_fork_is_found_at_the_next_mount() {
    let (one, two) = twins();
    let first = one.mount();
    fs::write(first.current("one"), "only in the log").expect("written");
    first.kill();
    let second = two.mount();
    fs::write(second.current("two"), "from the second").expect("written");
    two.ok(&["snapshot", "by-two"]);
    second.unmount();
    let first = one.mount();
    read_only(&one);
    assert_eq!(
        fs::read(first.current("one")).expect("kept"),
        b"only in the log"
    );
    assert!(!first.current("two").exists(), "nothing is mixed");
    one.run(["unmount", text(&first.path(""))]);
    first.ended();
    assert_eq!(two.ok(&["cat", "by-two:two"]), "from the second");
    two.ok(&["check", "--read-data"]);
}
