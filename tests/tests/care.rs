//! Looking after the archive: scrub, check, forget, gc, undelete.

use std::fs;

use holdfast_tests::home::text;
use holdfast_tests::{Home, overwrite, trees};

/// An archive with three snapshots; only the one in the middle, `first`, has `gone`.
fn with_garbage() -> (Home, String) {
    let (home, code) = Home::with_archive("laptop");
    let drive = home.mount();
    fs::write(drive.current("stays"), trees::random_bytes(1, 6 << 20)).expect("written");
    // So that what goes shares no pack with what stays.
    home.ok(&["snapshot", "zero"]);
    fs::write(drive.current("gone"), trees::random_bytes(2, 30 << 20)).expect("written");
    home.ok(&["snapshot", "first"]);
    fs::remove_file(drive.current("gone")).expect("deleted");
    fs::write(drive.current("new"), trees::random_bytes(3, 1 << 20)).expect("written");
    home.ok(&["snapshot", "second"]);
    drive.unmount();
    (home, code)
}

/// gc with no time between condemning and deleting, and none for backups under way.
fn gc_now(home: &Home) {
    home.ok(&["gc", "--grace", "0s", "--safety-age", "0s"]);
}

/// scrub needs no key, and finds one flipped bit in every kind of object.
#[test]
fn scrub_finds_one_flipped_bit_in_every_kind_of_object() {
    let (home, _) = with_garbage();
    home.ok(&["forget", "first"]);
    home.ok(&["gc", "--safety-age", "0s"]);
    home.ok(&["scrub"]);
    let kinds = [
        "packs",
        "index",
        "keys",
        "refs",
        "commits",
        "keyring",
        "forgotten",
        "pins",
        "condemned",
    ];
    for kind in kinds {
        let objects = home.objects(kind);
        let object = objects
            .first()
            .unwrap_or_else(|| panic!("there is no object of kind {kind}"));
        let bytes = fs::read(object).expect("read");
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            overwrite(object, &damaged);
            let run = home.run(["scrub"]);
            assert_eq!(run.code, 3, "{kind}, byte {at}: {}{}", run.out, run.err);
            let name = object.file_name().expect("a name").to_string_lossy();
            assert!(
                run.out.contains(&*name),
                "scrub names the object: {}",
                run.out
            );
        }
        overwrite(object, &bytes[..bytes.len() - 1]);
        assert_eq!(home.run(["scrub"]).code, 3, "{kind} cut short");
        overwrite(object, &bytes);
    }
    home.ok(&["scrub"]);
    home.ok(&["check", "--read-data"]);
}

/// scrub works with the store alone: no key is on the computer.
#[test]
fn scrub_needs_no_key() {
    let (home, _) = with_garbage();
    fs::remove_file(home.holdfast_home().join("key")).expect("the key file");
    home.ok(&["scrub"]);
}

/// gc deletes in two steps with a grace period between; until then undelete takes everything back.
#[test]
fn gc_and_undelete() {
    let (home, _) = with_garbage();
    let before = home.store_bytes();
    gc_now(&home);
    gc_now(&home);
    home.ok(&["check", "--read-data"]);

    let listed = home.ok(&["forget", "first", "--dry-run"]);
    assert!(listed.contains("first"), "{listed}");
    assert!(
        home.ok(&["snapshots"]).contains("first"),
        "a dry run changes nothing"
    );
    home.ok(&["forget", "first"]);
    assert!(!home.ok(&["snapshots"]).contains("first"));
    home.ok(&["gc", "--safety-age", "0s"]);
    assert!(
        home.store_bytes() + (1 << 20) > before,
        "within the grace period nothing is deleted"
    );

    home.ok(&["undelete"]);
    assert!(home.ok(&["snapshots"]).contains("first"));
    home.ok(&["restore", "first:gone", text(&home.path("back"))]);
    assert!(fs::read(home.path("back/gone")).expect("there") == trees::random_bytes(2, 30 << 20));

    home.ok(&["forget", "first"]);
    gc_now(&home);
    gc_now(&home);
    let after = home.store_bytes();
    assert!(
        after + (28 << 20) < before,
        "{before} bytes before, {after} after"
    );
    home.ok(&["check", "--read-data"]);
    home.ok(&["restore", "second", text(&home.path("second"))]);
    assert!(fs::read(home.path("second/stays")).expect("there") == trees::random_bytes(1, 6 << 20));
}

/// What gc has condemned is stored again by a device that needs it: a chunk counts as known only if its pack stays.
#[test]
fn content_that_gc_condemned_is_stored_again() {
    let (home, _) = with_garbage();
    home.ok(&["forget", "first"]);
    gc_now(&home);
    let drive = home.mount();
    fs::write(drive.current("again"), trees::random_bytes(2, 30 << 20)).expect("written");
    home.ok(&["snapshot", "third"]);
    gc_now(&home);
    drive.unmount();
    home.ok(&["check", "--read-data"]);
    home.ok(&["restore", "third:again", text(&home.path("target"))]);
    assert!(
        fs::read(home.path("target/again")).expect("there") == trees::random_bytes(2, 30 << 20)
    );
}
