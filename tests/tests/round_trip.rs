//! Copying in, taking a snapshot, and every way back out.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use holdfast_tests::compare::{Strictness, assert_same};
use holdfast_tests::home::text;
use holdfast_tests::{Home, commands, trees};

/// Bytes of index, trees, refs and commit that a snapshot of a small tree may cost.
const METADATA_BYTES: u64 = 128 << 10;

/// Files, folders, symlinks, FIFOs, sockets, device nodes, hard links, raw-byte names up to 255 bytes,
/// nanosecond times, extended attributes and holes are the same in `current/`, in the mounted snapshot,
/// after a remount, and after `restore`.
#[test]
fn every_kind_of_file_comes_back_the_same_by_every_way() {
    let (home, _) = Home::with_archive("laptop");
    let source = home.path("source");
    trees::every_kind(&source);
    let drive = home.mount();
    commands::copy(&source, &drive.current("tree"));
    assert_same(&source, &drive.current("tree"), Strictness::Everything);
    assert_eq!(home.ok(&["snapshot", "kinds"]), "kinds");
    let mounted = drive.snapshot("laptop", "kinds").join("tree");
    assert_same(&source, &mounted, Strictness::Everything);
    drive.unmount();

    let restored = home.path("restored");
    home.ok(&["restore", "kinds", text(&restored), "--verify"]);
    assert_same(&source, &restored.join("tree"), Strictness::Everything);

    let drive = home.mount();
    assert_same(&source, &drive.current("tree"), Strictness::Everything);
    let mounted = drive.snapshot("laptop", "kinds").join("tree");
    assert_same(&source, &mounted, Strictness::Everything);
    drive.unmount();
}

/// What was changed or deleted after a snapshot is in the snapshot as it was.
#[test]
fn a_snapshot_stays_as_it_was() {
    let (home, _) = Home::with_archive("laptop");
    let source = home.path("source");
    trees::sources(&source, 10, 20);
    let drive = home.mount();
    commands::copy(&source, &drive.current("tree"));
    home.ok(&["snapshot", "first"]);
    let large = drive.current("tree/folder-0000/file-0000.rs");
    fs::write(&large, "changed").expect("a file is overwritten");
    fs::remove_dir_all(drive.current("tree/folder-0001")).expect("a folder is deleted");
    fs::rename(
        drive.current("tree/folder-0002"),
        drive.current("tree/moved"),
    )
    .expect("renamed");
    home.ok(&["snapshot", "second"]);
    let first = drive.snapshot("laptop", "first").join("tree");
    assert_same(&source, &first, Strictness::Everything);
    let second = drive.snapshot("laptop", "second").join("tree");
    assert_same(&drive.current("tree"), &second, Strictness::Everything);
    assert!(!second.join("folder-0001").exists());
    let changed = home.ok(&["diff", "first", "second"]);
    assert!(
        changed.contains("file-0000.rs") && changed.contains("moved"),
        "{changed}"
    );
    drive.unmount();
    home.ok(&["restore", "first", text(&home.path("restored"))]);
    assert_same(&source, &home.path("restored/tree"), Strictness::Everything);
}

/// A second snapshot stores only what changed: nothing changed, a rename, a copy, one byte of a large file.
#[test]
fn a_second_snapshot_stores_only_what_changed() {
    const LARGE: usize = 48 << 20;
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    fs::write(drive.current("large"), trees::random_bytes(1, LARGE)).expect("written");
    trees::sources(&drive.current("tree"), 20, 20);
    home.ok(&["snapshot", "zero"]);
    let cost = |label: &str| {
        let before = home.store_bytes();
        home.ok(&["snapshot", label]);
        home.store_bytes() - before
    };
    assert!(cost("unchanged") < METADATA_BYTES);

    fs::rename(drive.current("large"), drive.current("tree/renamed")).expect("renamed");
    assert!(cost("renamed") < METADATA_BYTES);

    fs::write(drive.current("again"), trees::random_bytes(1, LARGE)).expect("written again");
    let again = cost("the same content");
    assert!(
        again < METADATA_BYTES,
        "{again} bytes for content that the archive has"
    );

    let file = fs::OpenOptions::new()
        .write(true)
        .open(drive.current("again"))
        .expect("opened");
    file.write_all_at(b"!", 20_000_000).expect("one byte");
    drop(file);
    let one_byte = cost("one byte");
    assert!(one_byte < 12 << 20, "{one_byte} bytes for one byte");
    drive.unmount();
}

/// A copy inside the drive is a `copy_file_range` that copies a chunk list: it moves no data.
#[test]
fn cp_inside_the_drive_moves_no_data() {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    let content = trees::random_bytes(7, 40 << 20);
    fs::write(drive.current("large"), &content).expect("written");
    home.ok(&["snapshot", "one"]);
    let before = (home.store_bytes(), drive.written_bytes());
    let from = drive.snapshot("laptop", "one").join("large");
    commands::ok("cp", &[text(&from), text(&drive.current("copy"))]);
    assert_eq!(
        fs::metadata(drive.current("copy")).expect("there").len(),
        content.len() as u64
    );
    home.ok(&["snapshot", "two"]);
    let stored = home.store_bytes() - before.0;
    let written = drive.written_bytes() - before.1;
    assert!(stored < METADATA_BYTES, "{stored} bytes stored for a copy");
    assert!(
        written < 2 << 20,
        "{written} bytes written by the daemon for a copy"
    );
    assert!(fs::read(drive.current("copy")).expect("read") == content);
    drive.unmount();
}

/// Inode numbers stay the same for as long as a file lives, over remounts, and sizes on disk are true.
#[test]
fn inode_numbers_and_sizes_are_stable() {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    fs::write(drive.current("file"), trees::random_bytes(1, 3_000_000)).expect("written");
    let facts = |path: &Path| {
        let metadata = fs::metadata(path).expect("there");
        (metadata.ino(), metadata.len(), metadata.nlink())
    };
    let before = facts(&drive.current("file"));
    let blocks = fs::metadata(drive.current("file")).expect("there").blocks();
    assert!(blocks * 512 >= 3_000_000, "{blocks} blocks");
    home.ok(&["snapshot", "one"]);
    let in_snapshot = facts(&drive.snapshot("laptop", "one").join("file"));
    drive.unmount();
    let drive = home.mount();
    assert_eq!(facts(&drive.current("file")), before);
    assert_eq!(
        facts(&drive.snapshot("laptop", "one").join("file")),
        in_snapshot
    );
    drive.unmount();
}

/// `ls`, `cat`, `find` and `restore` with patterns work without the mount; restore overwrites nothing unasked.
#[test]
fn a_snapshot_is_read_without_the_mount() {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    fs::create_dir_all(drive.current("letters/old")).expect("folders");
    fs::write(drive.current("letters/a.txt"), "dear a").expect("written");
    fs::write(drive.current("letters/old/b.txt"), "dear b").expect("written");
    fs::write(drive.current("letters/old/c.bin"), "binary").expect("written");
    home.ok(&["snapshot", "post"]);
    drive.unmount();

    assert_eq!(home.ok(&["cat", "post:letters/old/b.txt"]), "dear b");
    let listed = home.ok(&["ls", "-R", "latest"]);
    assert!(listed.contains("letters/old/c.bin"), "{listed}");
    let found = home.ok(&["find", "*.txt"]);
    assert!(
        found.contains("a.txt") && found.contains("b.txt") && !found.contains("c.bin"),
        "{found}"
    );

    let target = home.path("target");
    home.ok(&[
        "restore",
        "post",
        text(&target),
        "--include",
        "*.txt",
        "--exclude",
        "old",
    ]);
    assert!(target.join("letters/a.txt").exists());
    assert!(!target.join("letters/old/b.txt").exists());
    let dry = home.path("dry");
    home.ok(&["restore", "post", text(&dry), "--dry-run"]);
    assert!(!dry.join("letters").exists());

    fs::write(target.join("letters/a.txt"), "mine").expect("written");
    let run = home.run([
        "restore",
        "post:letters/a.txt",
        text(&target.join("letters")),
    ]);
    assert_eq!(run.code, 3, "{}{}", run.out, run.err);
    assert_eq!(
        fs::read(target.join("letters/a.txt")).expect("there"),
        b"mine"
    );
    home.ok(&[
        "restore",
        "post:letters/a.txt",
        text(&target.join("letters")),
        "--overwrite",
    ]);
    assert_eq!(
        fs::read(target.join("letters/a.txt")).expect("there"),
        b"dear a"
    );
}

/// `backup` brings a folder in under its own path, reads nothing again that has not changed, and takes a
/// snapshot; it gives what copying by hand gives.
#[test]
fn backup_gives_what_copying_gives() {
    let (home, _) = Home::with_archive("laptop");
    let source = home.path("source");
    trees::every_kind(&source);
    home.ok(&["backup", text(&source)]);
    home.ok(&["restore", "latest", text(&home.path("restored"))]);
    let below = source.strip_prefix("/").expect("absolute");
    let restored = home.path("restored").join(below);
    assert_same(&source, &restored, Strictness::Everything);

    let before = home.store_bytes();
    home.ok(&["backup", text(&source)]);
    assert!(home.store_bytes() - before < METADATA_BYTES);

    fs::remove_file(source.join("folder/text")).expect("deleted");
    fs::write(source.join("new"), "new").expect("written");
    let drive = home.mount();
    fs::write(drive.current("by hand"), "stays").expect("written");
    home.ok(&["backup", text(&source)]);
    assert_same(&source, &drive.current(below), Strictness::Everything);
    assert!(drive.current("by hand").exists());
    drive.unmount();
}
