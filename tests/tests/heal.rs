//! `heal` on the real binary: what is damaged costs the files that use it, and comes back from where it
//! can still be had.

use std::path::{Path, PathBuf};

use holdfast_tests::Home;
use holdfast_tests::home::text;
use holdfast_tests::overwrite;
use holdfast_tests::trees::{random_bytes, text_bytes};
use serde_json::Value;

/// An archive with a backup of a folder: a large file, a text, and small ones.
fn backed_up() -> (Home, PathBuf, String) {
    let (home, code) = Home::with_archive("laptop");
    let source = home.path("source");
    std::fs::create_dir_all(source.join("folder")).expect("folder");
    std::fs::write(source.join("folder/large"), random_bytes(1, 3_000_000)).expect("file");
    std::fs::write(source.join("text"), text_bytes(2, 400_000)).expect("file");
    for n in 0..20 {
        let path = source.join(format!("folder/small-{n}"));
        std::fs::write(path, random_bytes(100 + n, 2_000)).expect("file");
    }
    home.ok(&["backup", "--to", "/", text(&source)]);
    (home, source, code)
}

/// Packs from the largest to the smallest.
fn packs(home: &Home) -> Vec<PathBuf> {
    let mut packs = home.objects("packs");
    packs.sort_by_key(|path| std::cmp::Reverse(std::fs::metadata(path).expect("a pack").len()));
    packs
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("an object");
    bytes[at] ^= 1;
    overwrite(path, &bytes);
}

fn json_of(home: &Home, arguments: &[&str]) -> (i32, Value) {
    let run = home.run(arguments);
    let value = serde_json::from_str(&run.out);
    (
        run.code,
        value.unwrap_or_else(|error| panic!("{arguments:?}: {error}: {} {}", run.out, run.err)),
    )
}

/// Check is clean, a second heal finds nothing, and a restore on another computer is the source.
fn assert_whole(home: &Home, source: &Path, code: &str) {
    home.ok(&["check", "--read-data"]);
    let again = home.json(&["heal", "--read-data", "--from", text(source)]);
    assert_eq!(again["chunks"], 0, "{again}");
    let other = Home::new();
    let joined = other.recover(&home.store(), code, "desktop", &[]);
    assert_eq!(joined.code, 0, "{}", joined.err);
    other.ok(&["restore", "laptop/latest", text(&other.path("out"))]);
    let restored = other.path("out/source");
    for name in ["folder/large", "text", "folder/small-0", "folder/small-19"] {
        assert_eq!(
            std::fs::read(restored.join(name)).expect("a restored file"),
            std::fs::read(source.join(name)).expect("a file"),
            "{name}"
        );
    }
}

#[test]
fn a_flipped_byte_is_named_exactly_and_healed_from_the_source() {
    let (home, source, code) = backed_up();
    let pack = &packs(&home)[0];
    // The middle of the largest pack lies in the one large file or in the text.
    let middle = std::fs::metadata(pack).expect("a pack").len() / 2;
    flip(pack, usize::try_from(middle).expect("a small pack"));
    let (exit, checked) = json_of(&home, &["check", "--read-data", "--json"]);
    assert_eq!(
        (exit, checked["damaged_paths"].as_u64()),
        (3, Some(1)),
        "{checked}"
    );

    let (exit, healed) = json_of(&home, &["heal", "--json"]);
    assert_eq!(exit, 3, "nothing else has this chunk: {healed}");
    assert_eq!(healed["left"]["damage"], checked["damage"], "{healed}");
    home.ok(&["heal", "--from", text(&source)]);
    assert_whole(&home, &source, &code);
}

#[test]
fn packs_that_are_gone_or_cut_off_come_back_from_source_and_cache() {
    let (home, source, code) = backed_up();
    for (number, pack) in packs(&home).iter().enumerate() {
        let bytes = std::fs::read(pack).expect("a pack");
        match number {
            0 => overwrite(pack, &bytes[..bytes.len() / 2]),
            _ => std::fs::remove_file(pack).expect("removed"),
        }
    }
    assert_eq!(home.run(["check"]).code, 3);
    home.ok(&["heal", "--from", text(&source)]);
    assert_whole(&home, &source, &code);
}

#[test]
fn lost_index_and_key_objects_are_made_good_without_any_source() {
    let (home, source, code) = backed_up();
    for index in home.objects("index") {
        std::fs::remove_file(index).expect("removed");
    }
    for key in home.objects("keys") {
        flip(&key, 50);
    }
    home.ok(&["heal", "--read-data"]);
    assert_whole(&home, &source, &code);
}

#[test]
fn a_new_backup_after_damage_stores_the_content_again() {
    let (home, source, _) = backed_up();
    for pack in packs(&home) {
        std::fs::remove_file(pack).expect("removed");
    }
    std::fs::copy(source.join("folder/large"), source.join("copy")).expect("copied");
    // The trees come from the cache; the content of the new file must not rely on what is gone.
    let before = home.store_bytes();
    let _ = home.run(["backup", "--to", "/", text(&source)]);
    assert!(home.store_bytes() > before + 2_900_000);
}

#[test]
fn a_mounted_drive_is_left_alone() {
    holdfast_tests::require_fuse();
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    let sentence = home.refused(&["heal"]);
    assert!(sentence.contains("holdfast unmount"), "{sentence}");
    drop(drive);
}
