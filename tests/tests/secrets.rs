//! What never leaves the drive in clear: planted content, names, labels, keys and the recovery code are
//! looked for in every byte that Holdfast has written, in the store and on the computer.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use holdfast_tests::{Drive, Home, trees};

const CONTENT: &str = "planted-content-of-a-small-file";
const LARGE: &str = "planted-content-in-a-large-file";
const NAME: &str = "planted-name-of-a-file";
const FOLDER: &str = "planted-name-of-a-folder";
const XATTR: &str = "planted-value-of-an-attribute";
const TARGET: &str = "planted-target-of-a-link";
const LABEL: &str = "planted-label";

/// A home whose daemon logs at `level`, with everything planted: stored, flushed, and still in the log.
fn planted(level: &str) -> (Home, String) {
    let mut home = Home::new();
    home.set("HOLDFAST_LOG", level);
    let store = home.path("store");
    let code = home.init(store.to_str().expect("a plain path"), "laptop", &[]);
    let drive = home.mount();
    plant(&drive, "");
    home.ok(&["snapshot", LABEL]);
    plant(&drive, "-second");
    home.ok(&["flush"]);
    plant(&drive, "-third");
    // The log keeps what was not stored.
    drive.kill();
    (home, code)
}

fn plant(drive: &Drive<'_>, suffix: &str) {
    let folder = drive.current(format!("{FOLDER}{suffix}"));
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join(NAME), format!("{CONTENT}{suffix}")).expect("written");
    // Incompressible, so that the marker would stand as it is in an unencrypted chunk.
    let mut large = fs::File::create(folder.join("large")).expect("made");
    for piece in 0..40 {
        large.write_all(LARGE.as_bytes()).expect("written");
        large
            .write_all(&trees::random_bytes(piece, 100 << 10))
            .expect("written");
    }
    large.sync_all().expect("synced");
    xattr::set(folder.join(NAME), "user.planted", XATTR.as_bytes()).expect("set");
    std::os::unix::fs::symlink(TARGET, folder.join("link")).expect("made");
}

/// The secrets of the key file (`fs/src/home/key_file.rs`): user key and signing key, in halves.
fn keys(home: &Home) -> Vec<Vec<u8>> {
    let bytes = fs::read(home.holdfast_home().join("key")).expect("the key file");
    bytes[23..23 + 64].chunks(16).map(<[u8]>::to_vec).collect()
}

/// Every way in which somebody might have printed these bytes.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = hex::encode(secret);
    let listed: Vec<String> = secret.iter().map(u8::to_string).collect();
    let mut all = vec![
        secret.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        listed.join(", ").into_bytes(),
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

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// All that was written, but for the files that `but` names.
fn written(home: &Home, but: &[&str]) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = trees::files_below(&home.holdfast_home());
    files.extend(trees::files_below(&home.path("store")));
    let named = |file: &Path| but.iter().any(|name| file.ends_with(name));
    files.retain(|file| !named(file));
    assert!(files.len() > 20, "{files:?}");
    files
        .into_iter()
        .map(|file| {
            let bytes = fs::read(&file).expect("read");
            (file, bytes)
        })
        .collect()
}

#[track_caller]
fn in_none(files: &[(PathBuf, Vec<u8>)], what: &str, spelling: &[u8]) {
    for (file, bytes) in files {
        let found =
            contains(bytes, spelling) || contains(file.to_string_lossy().as_bytes(), spelling);
        assert!(!found, "{what} stands in {}", file.display());
    }
}

/// Content, names, attributes and labels stand in no object of the store, and in no log, cache or state of
/// the computer; content not even when everything is logged.
#[test]
fn no_plaintext_is_written_anywhere() {
    let (home, _) = planted("info");
    let files = written(&home, &[]);
    for text in [CONTENT, LARGE, NAME, FOLDER, XATTR, TARGET, LABEL] {
        in_none(&files, text, text.as_bytes());
        in_none(&files, text, hex::encode(text).as_bytes());
    }
    assert!(
        files.iter().any(|(file, bytes)| {
            file.ends_with("daemon.log") && contains(bytes, b"the drive is mounted")
        }),
        "the log was among them"
    );
}

/// With everything logged, names may be told; content, keys and the recovery code are not.
#[test]
fn no_key_and_no_content_is_logged_at_any_level() {
    let (home, code) = planted("trace");
    home.ok(&["check", "--read-data"]);
    let files = written(&home, &[]);
    for text in [CONTENT, LARGE, XATTR] {
        in_none(&files, text, text.as_bytes());
    }
    in_none(&files, "the recovery code", code.as_bytes());
    in_none(
        &files,
        "the recovery code",
        code.replace('-', "").as_bytes(),
    );
    let files = written(&home, &["home/key"]);
    for key in keys(&home) {
        for spelling in spellings(&key) {
            in_none(&files, "a key", &spelling);
        }
    }
    let (_, log) = files
        .iter()
        .find(|(file, _)| file.ends_with("daemon.log"))
        .expect("a log");
    assert!(log.len() > 1000, "the daemon logged at trace");
}
