//! An archive that this program's parts wrote is read by the independent reader in
//! `tests/reader/`, which was written from `docs/format/` alone.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use holdfast::format::{
    Attributes, Body, Commit, CommitKind, Entry, FileKind, Inode, KeptSnapshot, LinkedInode,
    Target, Time, Totals, TreeRef,
};
use holdfast::list::ListBuilder;
use holdfast::tree;

use writer::{ArchiveWriter, Changes};

#[path = "reader/writer.rs"]
mod writer;

fn attributes(kind: FileKind, mode: u32) -> Attributes {
    let time = |nanos| Time {
        seconds: 1_000_000_000,
        nanos,
    };
    Attributes {
        kind,
        mode,
        uid: fs::metadata(".").unwrap().uid(),
        gid: fs::metadata(".").unwrap().gid(),
        owner: Arc::from(*b"somebody"),
        group: Arc::from([]),
        mtime: time(123_456_789),
        ctime: time(1),
        atime: time(2),
        rdev: 0,
    }
}

fn inode(file: u64, mode: u32, kind: FileKind, body: Body) -> Inode {
    Inode {
        file,
        attributes: attributes(kind, mode),
        xattrs: Arc::default(),
        fingerprint: 5,
        body,
    }
}

fn regular(archive: &ArchiveWriter, file: u64, mode: u32, content: &[u8]) -> Inode {
    let mut list = ListBuilder::new(archive);
    for piece in archive.pieces(content) {
        list.push(piece).unwrap();
    }
    let size = content.len() as u64;
    let list = list.finish().unwrap();
    let body = Body::Regular {
        size,
        allocated: size,
        list,
    };
    inode(file, mode, FileKind::Regular, body)
}

fn folder(archive: &ArchiveWriter, entries: Vec<(&[u8], Target)>) -> Option<TreeRef> {
    let names = archive.secret.name_key();
    let changes: Changes = entries
        .into_iter()
        .map(|(name, target)| {
            let entry = Entry {
                name: name.to_vec(),
                target,
            };
            ((names.hash(name), name.to_vec()), Some(entry))
        })
        .collect();
    tree::apply(archive, archive, None, changes, &mut |_| {}).unwrap()
}

fn directory(file: u64, mode: u32, tree: Option<TreeRef>) -> Inode {
    inode(file, mode, FileKind::Directory, Body::Directory { tree })
}

/// Bytes with holes in them, too long for a list in the inode.
fn long_content() -> Vec<u8> {
    let mut content: Vec<u8> = (0..300_000_u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .take(700_000)
        .collect();
    content[50_000..60_000].fill(0);
    content[690_000..].fill(0);
    content
}

fn commit(archive: &ArchiveWriter, sequence: u64, root: Inode, links: Option<TreeRef>) -> Commit {
    Commit {
        device: archive.device,
        sequence,
        previous: None,
        time: Time {
            seconds: 1_700_000_000 + sequence as i64,
            nanos: 0,
        },
        kind: CommitKind::Requested,
        label: None,
        root,
        links,
        next_file: 1000,
        totals: Totals::default(),
        stored_bytes: 1,
        kept: Vec::new(),
    }
}

/// Two snapshots: one file, then everything.
fn write_archive(at: &Path) -> zeroize::Zeroizing<String> {
    let (archive, code) = ArchiveWriter::create(at);
    let archive = &archive;
    let old = Target::Inline(regular(archive, 2, 0o600, b"as it was"));
    let root = directory(1, 0o755, folder(archive, vec![(b"file", old)]));
    let mut first = commit(archive, 1, root, None);
    first.label = Some("before".to_owned());
    let digest = archive.commit(&first);

    let mut tagged = regular(archive, 2, 0o4751, b"as it is");
    tagged.xattrs = Arc::new(BTreeMap::from([(
        b"user.colour".to_vec(),
        b"blue\0".to_vec(),
    )]));
    let numbered: Vec<Vec<u8>> = (0..1000)
        .map(|n| format!("entry {n}").into_bytes())
        .collect();
    let many = numbered.iter().zip(100..).map(|(name, file)| {
        (
            name.as_slice(),
            Target::Inline(regular(archive, file, 0o640, name)),
        )
    });
    let many = folder(archive, many.collect());
    let target = b"../nowhere \xff".to_vec();
    let link = inode(5, 0o777, FileKind::Symlink, Body::Symlink { target });
    let linked = || Target::Linked {
        file: 7,
        kind: FileKind::Regular,
    };
    let deep = vec![
        (&b"hard b"[..], linked()),
        (b"empty", Target::Inline(directory(9, 0o1777, None))),
    ];
    let root = folder(
        archive,
        vec![
            (b"file", Target::Inline(tagged)),
            (
                b"long",
                Target::Inline(regular(archive, 3, 0o644, &long_content())),
            ),
            (
                b"no content",
                Target::Inline(regular(archive, 4, 0o644, b"")),
            ),
            (b"link", Target::Inline(link)),
            (
                b"pipe",
                Target::Inline(inode(6, 0o622, FileKind::Fifo, Body::Special)),
            ),
            (b"hard a", linked()),
            (
                b"folder",
                Target::Inline(directory(8, 0o500, folder(archive, deep))),
            ),
            (b"many", Target::Inline(directory(10, 0o755, many))),
            (
                b"raw \xfe\xff\n name",
                Target::Inline(regular(archive, 11, 0o400, b"raw")),
            ),
        ],
    );
    let shared = LinkedInode {
        inode: regular(archive, 7, 0o644, b"two names"),
        links: 2,
    };
    let links = BTreeMap::from([(7, Some(shared))]);
    let links = tree::apply_links(archive, archive, None, links, &mut |_| {}).unwrap();
    let mut second = commit(archive, 2, directory(1, 0o750, root), links);
    second.previous = Some(digest);
    second.kept = vec![KeptSnapshot {
        sequence: 1,
        digest,
        time: first.time,
        kind: first.kind,
        label: first.label,
        totals: first.totals,
        stored_bytes: first.stored_bytes,
    }];
    archive.commit(&second);
    code
}

fn workspace() -> PathBuf {
    // Where the test was started: it need not be where it was built.
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo test sets it")).join("..")
}

/// A Python that has the reader's packages.
fn python() -> PathBuf {
    let venv = workspace().join(".venv/bin/python");
    let python = std::env::var_os("HOLDFAST_PYTHON").map_or(venv, PathBuf::from);
    let imports =
        "import blake3, zstandard; from cryptography.hazmat.primitives.asymmetric import mlkem";
    let found = Command::new(&python).args(["-c", imports]).output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "{} does not have what tests/reader/requirements.txt names; run \
         `python3 -m venv .venv && .venv/bin/pip install -r tests/reader/requirements.txt`, \
         or set HOLDFAST_PYTHON to a Python that has it",
        python.display()
    );
    python
}

fn read(archive: &Path, code: &Path, arguments: &[&OsStr]) -> Output {
    Command::new(python())
        .arg(workspace().join("tests/reader/holdfast_reader.py"))
        .arg(archive)
        .arg("--recovery-code-file")
        .arg(code)
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn scratch() -> (tempfile::TempDir, PathBuf, PathBuf) {
    // On the disk of the build: the usual folder for temporary files may not have extended attributes.
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (archive, code) = (scratch.path().join("archive"), scratch.path().join("code"));
    fs::write(&code, write_archive(&archive).as_bytes()).unwrap();
    (scratch, archive, code)
}

#[test]
fn the_independent_reader_restores_an_archive() {
    let (scratch, archive, code) = scratch();
    let listed = read(&archive, &code, &[OsStr::new("snapshots")]);
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    let listed = text(&listed.stdout);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(
        listed.lines().next().unwrap().ends_with("before"),
        "{listed}"
    );

    let restore = |snapshot: &str, to: &Path| {
        let words = [OsStr::new("restore"), OsStr::new(snapshot), to.as_os_str()];
        let output = read(&archive, &code, &words);
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    let before = scratch.path().join("before");
    restore("before", &before);
    assert_eq!(fs::read(before.join("file")).unwrap(), b"as it was");
    assert_eq!(fs::read_dir(&before).unwrap().count(), 1);

    let latest = scratch.path().join("latest");
    restore("latest", &latest);
    check_latest(&latest);
    fs::set_permissions(latest.join("folder"), PermissionsExt::from_mode(0o700)).unwrap();
}

fn check_latest(at: &Path) {
    let meta = |name: &str| fs::symlink_metadata(at.join(name)).unwrap();
    assert_eq!(fs::read_dir(at).unwrap().count(), 9);
    assert_eq!(fs::read(at.join("file")).unwrap(), b"as it is");
    assert_eq!(meta("file").mode() & 0o7777, 0o4751);
    assert_eq!(meta("file").mtime(), 1_000_000_000);
    assert_eq!(meta("file").mtime_nsec(), 123_456_789);
    assert_eq!(
        xattr::get(at.join("file"), "user.colour").unwrap().unwrap(),
        b"blue\0"
    );

    assert_eq!(fs::read(at.join("long")).unwrap(), long_content());
    assert!(
        meta("long").blocks() * 512 < meta("long").len(),
        "holes stay holes"
    );
    assert_eq!(meta("no content").len(), 0);
    let target = fs::read_link(at.join("link")).unwrap();
    assert_eq!(target.as_os_str().as_bytes(), b"../nowhere \xff");
    assert_eq!(meta("link").mtime(), 1_000_000_000);
    assert!(meta("pipe").file_type().is_fifo());

    assert_eq!(meta("hard a").ino(), meta("folder/hard b").ino());
    assert_eq!(meta("hard a").nlink(), 2);
    assert_eq!(meta("folder").mode() & 0o7777, 0o500);
    assert_eq!(meta("folder").mtime(), 1_000_000_000);
    assert_eq!(meta("folder/empty").mode() & 0o7777, 0o1777);
    for number in 0..1000 {
        let name = format!("entry {number}");
        assert_eq!(
            fs::read(at.join("many").join(&name)).unwrap(),
            name.as_bytes()
        );
    }
    let raw = at.join(OsStr::from_bytes(b"raw \xfe\xff\n name"));
    assert_eq!(fs::metadata(raw).unwrap().mode() & 0o7777, 0o400);
    assert_eq!(fs::metadata(at).unwrap().mode() & 0o7777, 0o750);
}

#[test]
fn the_independent_reader_refuses_what_is_wrong() {
    let (scratch, archive, code) = scratch();
    let other = scratch.path().join("other code");
    let wrong = holdfast_crypto::RecoveryCode::generate().to_printed();
    fs::write(&other, wrong.as_bytes()).unwrap();
    let snapshots = [OsStr::new("snapshots")];
    let output = read(&archive, &other, &snapshots);
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("recovery code"),
        "{}",
        text(&output.stderr)
    );

    let target = scratch.path().join("target");
    for folder in ["keyring", "index", "keys", "commits"] {
        let object = first_file(&archive.join(folder));
        let bytes = fs::read(&object).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        fs::write(&object, flipped).unwrap();
        let words = [
            OsStr::new("restore"),
            OsStr::new("latest"),
            target.as_os_str(),
        ];
        let output = read(&archive, &code, &words);
        assert!(!output.status.success(), "{folder}");
        assert!(
            !text(&output.stderr).contains("Traceback"),
            "{}",
            text(&output.stderr)
        );
        fs::write(&object, bytes).unwrap();
    }
}

/// The last by name: of commits, the newest.
fn first_file(folder: &Path) -> PathBuf {
    let newest = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max();
    let newest = newest.unwrap();
    if newest.is_dir() {
        first_file(&newest)
    } else {
        newest
    }
}
