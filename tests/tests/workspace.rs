//! The borders between the crates, and what may not come in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cargo_metadata::{DependencyKind, MetadataCommand};

fn top() -> PathBuf {
    let tests = holdfast_tests::tests_folder();
    tests
        .parent()
        .expect("tests/ lies in the workspace")
        .to_owned()
}

/// Allowed edges between the project's crates, in what is shipped.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "holdfast",
        &[
            "holdfast-backend",
            "holdfast-crypto",
            "holdfast-keystore-client",
        ],
    ),
    ("holdfast-backend", &["holdfast-crypto"]),
    ("holdfast-crypto", &[]),
    ("holdfast-protocol", &["holdfast-crypto"]),
    ("holdfast-keystore-client", &["holdfast-protocol"]),
    (
        "holdfast-keystore",
        &["holdfast-protocol", "holdfast-backend"],
    ),
    // It runs the binary as anybody would.
    ("holdfast-bench", &[]),
];

/// `fs -> backend, crypto`; `backend -> crypto`; crypto names none of them.
#[test]
fn crates_depend_on_each_other_only_as_the_design_allows() {
    let metadata = MetadataCommand::new()
        .current_dir(top())
        .no_deps()
        .exec()
        .expect("cargo metadata");
    let ours: BTreeSet<String> = metadata
        .packages
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    for package in &metadata.packages {
        let name = package.name.to_string();
        // The system tests may use everything; nothing may use them.
        let Some(allowed) = allowed.get(name.as_str()) else {
            assert_eq!(name, "holdfast-tests", "a new crate needs its edges here");
            continue;
        };
        for dependency in &package.dependencies {
            let shipped = dependency.kind != DependencyKind::Development;
            assert!(
                !shipped
                    || !ours.contains(&dependency.name)
                    || allowed.contains(&dependency.name.as_str()),
                "{name} may not depend on {}",
                dependency.name
            );
        }
    }
}

/// sharks, sled and bincode are not maintained or have advisories; there is one TLS provider, ring.
#[test]
fn banned_crates_are_not_in_the_lock_file() {
    let lock = std::fs::read_to_string(top().join("Cargo.lock")).expect("Cargo.lock");
    for banned in [
        "sharks",
        "sled",
        "bincode",
        "aws-lc-rs",
        "aws-lc-sys",
        "openssl",
        "openssl-sys",
    ] {
        let line = format!("name = \"{banned}\"");
        assert!(
            !lock.lines().any(|found| found == line),
            "{banned} has come in"
        );
    }
}

/// Only `fs/src/fuse.rs` and its folder name fuser; nothing in backend/ names a key; only crypto names ciphers.
#[test]
fn each_foreign_library_stays_behind_its_border() {
    let rules: &[(&str, &[&str], &[&str])] = &[
        (
            "fuser",
            &["fs/src", "backend/src", "keystore/crypto/src"],
            &["fs/src/fuse.rs", "fs/src/fuse/"],
        ),
        (
            "aes_gcm",
            &[
                "fs/src",
                "backend/src",
                "keystore/protocol/src",
                "keystore/server/src",
            ],
            &[],
        ),
        (
            "hpke",
            &["fs/src", "backend/src", "keystore/server/src"],
            &[],
        ),
        (
            "ed25519_dalek",
            &["fs/src", "backend/src", "keystore/server/src"],
            &[],
        ),
        (
            "blahaj",
            &["keystore/protocol/src", "keystore/server/src"],
            &[],
        ),
        (
            "redb",
            &["keystore/protocol/src", "keystore/server/src"],
            &[
                "keystore/server/src/records.rs",
                "keystore/server/src/data_folder.rs",
            ],
        ),
        // Neither sockets nor a clock of its own.
        ("tokio", &["keystore/protocol/src"], &[]),
        ("SystemTime", &["keystore/protocol/src"], &[]),
        ("UnsealKey", &["keystore/server/src"], &[]),
        ("RootKey", &["keystore/server/src"], &[]),
        (
            "aws_sdk_s3",
            &["fs/src", "backend/src", "keystore/crypto/src"],
            &["backend/src/store/s3"],
        ),
        ("UserKey", &["backend/src"], &[]),
        ("SessionKey", &["backend/src"], &[]),
        ("ArchiveSecret", &["backend/src"], &[]),
    ];
    let top = top();
    for (word, folders, except) in rules {
        for file in folders
            .iter()
            .flat_map(|folder| holdfast_tests::trees::files_below(&top.join(folder)))
        {
            let path = file
                .strip_prefix(&top)
                .expect("below")
                .to_string_lossy()
                .into_owned();
            if except.iter().any(|allowed| path.starts_with(allowed)) {
                continue;
            }
            let source = std::fs::read_to_string(&file).unwrap_or_default();
            let named = source
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .any(|line| names(line, word));
            assert!(!named, "{path} names {word}");
        }
    }
}

/// Whether `word` stands in a line as a word of its own.
fn names(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part))
}
