//! The archive is read by somebody else's program: a reader in Python, written from `docs/format/` only.

use std::path::PathBuf;
use std::process::Command;

use holdfast_tests::compare::{Facts, Strictness, assert_same, facts};
use holdfast_tests::home::text;
use holdfast_tests::{Home, commands, trees};

fn script() -> PathBuf {
    holdfast_tests::tests_folder().join("reader/holdfast_reader.py")
}

fn read(home: &Home, code: &str, arguments: &[&str]) -> String {
    let file = home.path("code");
    std::fs::write(&file, code).expect("written");
    let python = holdfast_tests::python();
    let output = Command::new(&python)
        .arg(script())
        .arg(home.path("store"))
        .args(["--recovery-code-file", text(&file)])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", python.display()));
    assert!(
        output.status.success(),
        "the reader failed; with a missing module, run: make setup-test\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// With the recovery code and the documents, and without Holdfast, every kind of file is restored: from the
/// newest snapshot and from an older one, of two devices.
#[test]
fn an_archive_is_restored_by_the_independent_reader() {
    let (home, code) = Home::with_archive("laptop");
    let source = home.path("source");
    trees::every_kind(&source);
    let drive = home.mount();
    commands::copy(&source, &drive.current("tree"));
    home.ok(&["snapshot", "kinds"]);
    std::fs::remove_file(drive.current("tree/folder/text")).expect("deleted");
    trees::sources(&drive.current("more"), 12, 300);
    home.ok(&["snapshot", "later"]);
    drive.unmount();

    let listed = read(&home, &code, &["snapshots"]);
    assert!(
        listed.contains("kinds") && listed.contains("later"),
        "{listed}"
    );
    let old = home.path("old");
    read(&home, &code, &["restore", "kinds", text(&old)]);
    assert_same(&source, &old.join("tree"), Strictness::Everything);

    let (by_reader, by_holdfast) = (home.path("by-reader"), home.path("by-holdfast"));
    read(&home, &code, &["restore", "latest", text(&by_reader)]);
    home.ok(&["restore", "latest", text(&by_holdfast)]);
    assert_same(&by_holdfast, &by_reader, Strictness::Everything);
    let tree: std::collections::BTreeMap<PathBuf, Facts> =
        facts(&by_reader, Strictness::ExceptHoles);
    assert!(tree.len() > 3_600, "{} files", tree.len());
}
