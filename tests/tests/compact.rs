//! `compact` on the real binary: what is left of half-used packs moves together, and gc frees the rest.

use std::fs;
use std::path::Path;
use std::process::Command;

use holdfast_tests::compare::{Strictness, assert_same};
use holdfast_tests::home::text;
use holdfast_tests::{Home, trees};

const FILES: u64 = 40;
const FILE_BYTES: usize = 500_000;
/// Every fourth file is kept.
const FREED: u64 = FILES / 4 * 3 * FILE_BYTES as u64;

/// Two snapshots, of which the first is given up: three quarters of its packs are used no more.
fn with_holes() -> (Home, String) {
    let (home, code) = Home::with_archive("laptop");
    let drive = home.mount();
    for n in 0..FILES {
        let path = drive.current(format!("file-{n}"));
        fs::write(path, trees::random_bytes(n, FILE_BYTES)).expect("written");
    }
    home.ok(&["snapshot", "first"]);
    for n in (0..FILES).filter(|n| n % 4 != 0) {
        fs::remove_file(drive.current(format!("file-{n}"))).expect("deleted");
    }
    home.ok(&["snapshot", "second"]);
    let refused = home.refused(&["compact"]);
    assert!(
        refused.contains("holdfast unmount"),
        "it says what to do: {refused}"
    );
    drive.unmount();
    (home, code)
}

/// gc with no time between condemning and deleting, and none for backups under way.
fn gc_now(home: &Home) {
    for _ in 0..2 {
        home.ok(&["gc", "--grace", "0s", "--safety-age", "0s"]);
    }
}

fn assert_second(folder: &Path) {
    for n in (0..FILES).filter(|n| n % 4 == 0) {
        let read = fs::read(folder.join(format!("file-{n}"))).expect("restored");
        assert!(read == trees::random_bytes(n, FILE_BYTES), "file-{n}");
    }
    assert_eq!(
        fs::read_dir(folder).expect("a folder").count() as u64,
        FILES / 4
    );
}

fn restore(home: &Home, name: &str) -> std::path::PathBuf {
    let target = home.path(name);
    home.ok(&["restore", "laptop/second", text(&target)]);
    target
}

fn restore_with_reader(home: &Home, code: &str) -> std::path::PathBuf {
    let (file, target) = (home.path("code"), home.path("by-reader"));
    fs::write(&file, code).expect("written");
    let output = Command::new(holdfast_tests::python())
        .arg(holdfast_tests::tests_folder().join("reader/holdfast_reader.py"))
        .arg(home.path("store"))
        .args(["--recovery-code-file", text(&file)])
        .args(["restore", "second", text(&target)])
        .output()
        .expect("python can be started");
    assert!(
        output.status.success(),
        "the reader failed; with a missing module, run: make setup-test\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    target
}

/// compact and gc free what no snapshot uses, also inside of packs; this device, another one that read the
/// archive before, and the independent reader restore the same afterwards.
#[test]
fn compact_and_gc_free_what_no_snapshot_uses() {
    let (home, code) = with_holes();
    let other = Home::new();
    let joined = other.recover(&home.store(), &code, "desktop", &[]);
    assert_eq!(joined.code, 0, "{}", joined.err);
    assert_second(&restore(&other, "before"));
    home.ok(&["forget", "first"]);
    let before = home.store_bytes();
    gc_now(&home);
    assert!(
        home.store_bytes() + FREED / 2 > before,
        "gc alone frees whole packs only"
    );

    let dry = home.json(&["compact", "--dry-run"]);
    let packs = home.objects("packs");
    let done = home.json(&["compact"]);
    assert_eq!(dry["old_packs"], done["old_packs"], "{dry} {done}");
    assert!(done["new_packs"].as_u64() > Some(0), "{done}");
    let still = home.objects("packs");
    assert!(
        packs.iter().all(|pack| still.contains(pack)),
        "the old packs wait for gc"
    );
    home.ok(&["check", "--read-data"]);
    gc_now(&home);
    let after = home.store_bytes();
    assert!(
        after + FREED / 10 * 9 < before,
        "{before} bytes before, {after} after: {done}"
    );

    home.ok(&["check", "--read-data"]);
    home.ok(&["scrub"]);
    let restored = restore(&home, "here");
    assert_second(&restored);
    assert_second(&restore(&other, "there"));
    other.ok(&["check", "--read-data"]);
    assert_same(
        &restored,
        &restore_with_reader(&home, &code),
        Strictness::Everything,
    );
    let again = home.json(&["compact"]);
    assert_eq!(
        again["old_packs"], 0,
        "there is nothing more to do: {again}"
    );
}

/// After compact, both devices go on: what they store meanwhile needs nothing that gc frees.
#[test]
fn both_devices_go_on_after_compact() {
    let (home, code) = with_holes();
    let other = Home::new();
    let joined = other.recover(&home.store(), &code, "desktop", &["--from", "laptop"]);
    assert_eq!(joined.code, 0, "{}", joined.err);
    home.ok(&["forget", "first"]);
    let elsewhere = other.mount();
    home.ok(&["compact"]);
    fs::write(elsewhere.current("more"), trees::random_bytes(900, 70_000)).expect("written");
    other.ok(&["snapshot", "theirs"]);
    gc_now(&home);
    fs::write(elsewhere.current("most"), trees::random_bytes(901, 70_000)).expect("written");
    other.ok(&["snapshot", "theirs-later"]);
    elsewhere.unmount();
    gc_now(&home);
    let drive = home.mount();
    fs::write(drive.current("mine"), trees::random_bytes(902, 70_000)).expect("written");
    home.ok(&["snapshot", "mine"]);
    drive.unmount();
    home.ok(&["compact"]);
    gc_now(&home);
    home.ok(&["check", "--read-data"]);
    other.ok(&["check", "--read-data"]);
    assert_second(&restore(&other, "there"));
    let target = home.path("theirs");
    home.ok(&["restore", "desktop/theirs-later", text(&target)]);
    assert!(fs::read(target.join("more")).expect("there") == trees::random_bytes(900, 70_000));
    assert!(fs::read(target.join("most")).expect("there") == trees::random_bytes(901, 70_000));
}
