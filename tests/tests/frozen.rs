//! Archives of every released format are read for ever: what `tests/fixtures/` holds was written
//! once and is never written again.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use holdfast::format::list::ListNode;
use holdfast::format::node::TreeNode;
use holdfast::format::{
    Commit, HashedEntry, IndexBody, Inode, Keyring, LinkedInode, PackTable, Piece,
};
use holdfast::namespace::operation::{decode_group, encode_group};
use holdfast::packer::PackedChunks;
use holdfast::replay::Committed;
use holdfast_backend::layout::ObjectName;
use holdfast_backend::marks::{Condemned, Deleting, Forgotten, Moved, Pins, Text};
use holdfast_backend::refs::Refs;
use holdfast_crypto::DeviceId;
use holdfast_tests::compare::{Facts, Strictness, facts};
use holdfast_tests::home::text;
use holdfast_tests::{Home, fixture, fuzz_targets, trees};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Snapshots of the archive, each with the listing that its own builds on.
const SNAPSHOTS: [(&str, Option<&str>); 4] = [
    ("every kind", None),
    ("changed", Some("every kind")),
    ("last", Some("every kind")),
    ("desk", None),
];

/// What only root can restore.
const BY_ROOT: &str = "root";

/// A new computer with the frozen archive and its recovery code.
fn recovered() -> Home {
    let home = Home::new();
    fixture::copy("archive", &home.path("store"));
    let run = home.recover(&home.store(), &fixture::recovery_code(), "new", &[]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    home
}

/// Fails naming what is not as the listing says.
#[track_caller]
fn assert_restored(snapshot: &str, base: Option<&str>, at: &Path) {
    let base = base.map_or_else(BTreeMap::new, |base| {
        fixture::listing(base, &BTreeMap::new())
    });
    let mut wanted = fixture::listing(snapshot, &base);
    let mut found = facts(at, Strictness::Everything);
    if !trees::is_root() {
        let by_anybody =
            |tree: &mut BTreeMap<PathBuf, Facts>| tree.retain(|path, _| !path.starts_with(BY_ROOT));
        by_anybody(&mut wanted);
        by_anybody(&mut found);
    }
    let paths = |tree: &BTreeMap<PathBuf, Facts>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(&found), paths(&wanted), "names of {snapshot:?}");
    for (path, wanted) in &wanted {
        let found = found.get_mut(path).expect("the names are the same");
        match found.data.as_slice() {
            _ if wanted.data.is_empty() => found.data.clear(),
            [first, .., last] if found.data.len() >= 10 => {
                found.data = vec![(found.data.len() as u64, 0), *first, *last];
            }
            _ => {}
        }
        if !trees::is_root() {
            found.owner = wanted.owner;
        }
        assert!(
            found == wanted,
            "{snapshot:?}: {} differs:\n  {found:?}\n  {wanted:?}",
            path.display()
        );
    }
}

/// Nobody has changed the fixture.
#[test]
fn the_fixture_is_what_it_was() {
    let sums = fs::read_to_string(fixture::folder().join("SHA256SUMS")).expect("its sums");
    let mut files = trees::files_below(&fixture::folder());
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").expect("a sum and a name");
        let path = fixture::folder().join(name);
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(holdfast_tests::sha256(&bytes), sum, "{name} was changed");
        files.retain(|file| file != &path);
    }
    let more: Vec<_> = files
        .iter()
        .filter_map(|file| file.file_name()?.to_str())
        .filter(|name| !["SHA256SUMS", "README.md"].contains(name))
        .collect();
    assert_eq!(more, Vec::<&str>::new(), "files that were not there");
}

/// Today's program recovers the archive from its code and restores every file byte for byte.
#[test]
fn a_frozen_archive_is_recovered_and_restored() {
    let home = recovered();
    let listed = home.json(&["snapshots"]).to_string();
    assert!(
        !listed.contains("deleted") && !listed.contains("forgotten"),
        "{listed}"
    );
    for (snapshot, base) in SNAPSHOTS {
        let target = home.path(snapshot);
        let mut arguments = vec!["restore", snapshot, text(&target), "--verify"];
        if !trees::is_root() {
            arguments.extend(["--exclude", BY_ROOT]);
        }
        home.ok(&arguments);
        assert_restored(snapshot, base, &target);
    }
    home.ok(&["check", "--read-data"]);
    home.ok(&["scrub"]);
}

/// The reader that was written from the documents alone restores it too.
#[test]
fn the_independent_reader_restores_a_frozen_archive() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let workspace = holdfast_tests::tests_folder();
    for (snapshot, base) in SNAPSHOTS {
        let target = scratch.path().join(snapshot);
        let output = Command::new(holdfast_tests::python())
            .arg(workspace.join("reader/holdfast_reader.py"))
            .arg(fixture::folder().join("archive"))
            .arg("--recovery-code-file")
            .arg(fixture::folder().join("recovery-code"))
            .args(["restore", snapshot])
            .arg(&target)
            .output()
            .expect("the reader can be started");
        let told = String::from_utf8_lossy(&output.stderr);
        // Others cannot make what only root may: these files are named and left out.
        let code = output.status.code();
        assert!(
            code == Some(0) || (code == Some(3) && !trees::is_root()),
            "{told}"
        );
        assert_restored(snapshot, base, &target);
    }
}

/// A computer that was switched off with work in its log is mounted with today's program: nothing that
/// was closed is missing, and it reaches the store.
#[test]
fn a_frozen_log_is_replayed() {
    let home = Home::new();
    fixture::copy("archive", &home.path("store"));
    fixture::copy("home", &home.holdfast_home());
    let config = home.holdfast_home().join("config.toml");
    let settings = fs::read_to_string(&config).expect("its settings");
    fs::write(&config, settings.replace("STORE", &home.store())).expect("its settings");
    let check = |root: &Path| {
        let read = |name: &str| fs::read(root.join(name)).expect(name);
        assert_eq!(read("in the log/written"), b"closed and not stored\n");
        assert_eq!(read("second name"), b"closed and not stored\n");
        assert_eq!(
            holdfast_tests::sha256(&read("in the log/text")),
            include_str!("../fixtures/format-1/text.sha256").trim()
        );
        assert_eq!(read("in the log/random").len(), 6_000);
        assert_eq!(read("long").len(), 5_000_000);
        assert!(!root.join("empty").exists() && !root.join("random").exists());
        let late = xattr::get(root.join("moved"), "user.late").expect("an attribute");
        assert_eq!(late.as_deref(), Some(&b"1"[..]));
    };
    let drive = home.mount();
    check(&drive.current(""));
    home.ok(&["snapshot", "replayed"]);
    drive.unmount();
    home.ok(&["restore", "replayed", text(&home.path("restored"))]);
    check(&home.path("restored"));
    home.ok(&["check", "--read-data"]);
}

/// Every piece of the frozen archive that a parser reads encodes to its own bytes again.
#[test]
fn every_kind_of_object_decodes_and_encodes_to_the_same_bytes() {
    let pieces = fixture::pieces();
    for piece in &pieces {
        let (bytes, from) = (piece.bytes.as_slice(), &piece.from);
        let again = match piece.target {
            "commit" => Commit::decode(DeviceId([1; 8]), 1 << 40, bytes)
                .expect(from)
                .encode(),
            "committed" => Committed::decode(bytes).expect(from).encode(),
            "folder_node" => TreeNode::<HashedEntry>::decode(bytes).expect(from).encode(),
            "index" => IndexBody::decode(bytes).expect(from).encode(),
            "inode" => Inode::decode(bytes).expect(from).encode(),
            "keyring" => Keyring::decode(bytes).expect(from).encode().to_vec(),
            "link_node" => TreeNode::<LinkedInode>::decode(bytes).expect(from).encode(),
            "list_node" => ListNode::decode(bytes).expect(from).encode(),
            "object_name" => name(bytes).to_string().into_bytes(),
            "operations" => encode_group(&decode_group(bytes).expect(from)),
            "pack_table" => PackTable::decode(bytes).expect(from).encode(),
            "packed_chunks" => PackedChunks::decode(bytes).expect(from).encode(),
            "texts" => encoded_text(from, bytes).into_bytes(),
            _ => continue,
        };
        assert_eq!(again, bytes, "{from}");
    }
    // Trees, link tables and lists of more than one level, a sparse file, and marks of every kind that
    // this archive came to have.
    let is = |target: &str, first: &[u8]| {
        pieces
            .iter()
            .any(|piece| piece.target == target && piece.bytes.starts_with(first))
    };
    assert!(is("folder_node", &[1, 0]) && is("folder_node", &[1, 1]));
    assert!(is("link_node", &[2, 0]) && is("link_node", &[2, 1]));
    assert!(is("list_node", &[0]) && is("list_node", &[1]));
    let lists = pieces.iter().filter(|piece| piece.target == "list_node");
    assert!(
        lists
            .filter_map(|piece| ListNode::decode(&piece.bytes).ok())
            .any(|node| matches!(node, ListNode::Pieces(pieces)
                if pieces.iter().any(|piece| matches!(piece, Piece::Hole { .. }))))
    );
    for kind in ["refs", "pins", "forgotten", "condemned", "deleting"] {
        assert!(
            is("texts", format!("holdfast {kind} 1\n").as_bytes()),
            "{kind}"
        );
    }
}

fn name(bytes: &[u8]) -> ObjectName {
    let text = std::str::from_utf8(bytes).expect("a name is text");
    text.parse().expect("a name")
}

fn encoded_text(from: &str, bytes: &[u8]) -> String {
    fn of<T: Text>(from: &str, bytes: &[u8]) -> String {
        T::decode(bytes)
            .unwrap_or_else(|error| panic!("{from}: {error}"))
            .encode()
    }
    let folder = from.split('/').next().expect("a name has a folder");
    match folder {
        "refs" => of::<Refs>(from, bytes),
        "pins" => of::<Pins>(from, bytes),
        "forgotten" => of::<Forgotten>(from, bytes),
        "condemned" => of::<Condemned>(from, bytes),
        "deleting" => of::<Deleting>(from, bytes),
        "moved" => of::<Moved>(from, bytes),
        _ => panic!("{from} is no text"),
    }
}

/// Every fuzz target over the frozen pieces and over mutations of them. `HOLDFAST_FUZZ_SEED` gives
/// another beginning, `HOLDFAST_FUZZ_ROUNDS` more of them.
#[test]
fn fuzz_targets_stand_mutated_fixtures() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |number| number.parse().expect(name))
    };
    let (seed, rounds) = (
        number("HOLDFAST_FUZZ_SEED", 1),
        number("HOLDFAST_FUZZ_ROUNDS", 1),
    );
    let pieces = fixture::pieces();
    for (target, run) in fuzz_targets::TARGETS {
        let pieces: Vec<_> = pieces
            .iter()
            .filter(|piece| piece.target == *target)
            .collect();
        assert!(!pieces.is_empty(), "nothing to begin with for {target}");
        for piece in &pieces {
            attempt(run, &piece.bytes, target, &piece.from, None);
        }
        for seed in seed..seed + rounds * runs_a_round(target) {
            let mut random = StdRng::seed_from_u64(seed);
            let piece = pieces[random.random_range(0..pieces.len())];
            let other = pieces[random.random_range(0..pieces.len())];
            let bytes = mutated(&mut random, &piece.bytes, &other.bytes);
            attempt(run, &bytes, target, &piece.from, Some(seed));
        }
    }
}

/// Opening a log and making a key pair cost more than parsing.
fn runs_a_round(target: &str) -> u64 {
    match target {
        "log_segment" | "objects" => 25,
        _ => 300,
    }
}

fn attempt(run: &fn(&[u8]), bytes: &[u8], target: &str, from: &str, seed: Option<u64>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(bytes))) {
        let shown = hex::encode(&bytes[..bytes.len().min(2000)]);
        eprintln!("{target} over {from}, seed {seed:?}: {shown}");
        resume_unwind(panic);
    }
}

/// Flips, sets, cuts, inserts, doubles, and takes a part of another piece.
fn mutated(random: &mut StdRng, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..5) {
        if bytes.is_empty() {
            bytes.push(random.random());
        }
        // Where counts and lengths stand is more often in front.
        let end = match random.random_bool(0.5) {
            true => bytes.len().min(64),
            false => bytes.len(),
        };
        let place = random.random_range(0..end);
        match random.random_range(0..7) {
            0 => bytes[place] = random.random(),
            1 => bytes[place] ^= 1 << random.random_range(0..8),
            2 => bytes[place] = [0, 1, 0x7F, 0x80, 0xFF][random.random_range(0..5)],
            3 => bytes.truncate(place),
            4 => bytes.insert(place, random.random()),
            5 => {
                let end = (place + random.random_range(1..40)).min(bytes.len());
                let part = bytes[place..end].to_vec();
                bytes.splice(place..place, part);
            }
            _ => {
                let from = random.random_range(0..=other.len());
                let end = (from + random.random_range(1..40)).min(other.len());
                bytes.splice(place..place, other[from..end].iter().copied());
            }
        }
    }
    bytes
}
