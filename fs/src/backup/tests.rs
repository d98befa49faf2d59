use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::archive::{Archive, open_store};
use crate::engine::EngineOptions;
use crate::filesystem::{Attr, CURRENT_INO, Listing, NewNode, OpenFlags};
use crate::format::FileKind;
use crate::home::{Home, Settings};

/// A computer with a drive on a local folder, and something to back up.
struct Computer {
    folder: tempfile::TempDir,
    engine: Option<Engine>,
}

impl Computer {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        std::fs::create_dir(&store).unwrap();
        std::fs::create_dir(folder.path().join("source")).unwrap();
        let home = Home::at(&folder.path().join("home"));
        let settings = Settings::new(store.to_str().unwrap());
        drop(Archive::create(open_store(&settings).unwrap(), &home, settings, "laptop").unwrap());
        let mut computer = Computer {
            folder,
            engine: None,
        };
        computer.open();
        computer
    }

    fn open(&mut self) {
        self.engine = None;
        let home = Home::at(&self.folder.path().join("home"));
        let options = EngineOptions {
            automatic_snapshots: Some(false),
            ..EngineOptions::default()
        };
        self.engine = Some(Engine::open(home, options).unwrap());
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    fn source(&self, name: &str) -> PathBuf {
        self.folder
            .path()
            .canonicalize()
            .unwrap()
            .join("source")
            .join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.source(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Backs the source up as `/source`, after its times have had time to differ.
    fn backup(&self, change: impl FnOnce(&mut BackupRequest)) -> BackupReport {
        std::thread::sleep(Duration::from_millis(40));
        let mut request = BackupRequest {
            paths: vec![self.source("").into()],
            to: Some("".into()),
            ..BackupRequest::default()
        };
        change(&mut request);
        run(self.engine(), &request, &|_| ()).unwrap()
    }

    fn attr(&self, path: &str) -> Option<Attr> {
        let mut attr = self.engine().filesystem.getattr(CURRENT_INO).unwrap();
        for name in Path::new(path).iter() {
            match self.engine().filesystem.lookup(attr.ino, name.as_bytes()) {
                Ok(found) => attr = found,
                Err(FsError::NotFound) => return None,
                Err(error) => panic!("{path}: {error}"),
            }
        }
        Some(attr)
    }

    fn read(&self, path: &str) -> Vec<u8> {
        let attr = self.attr(path).unwrap();
        let filesystem = &self.engine().filesystem;
        let opened = filesystem.open(attr.ino, OpenFlags::default()).unwrap();
        let mut content = Vec::new();
        while (content.len() as u64) < attr.size {
            content.extend_from_slice(
                &filesystem
                    .read(attr.ino, opened.handle, content.len() as u64, 1 << 20)
                    .unwrap(),
            );
        }
        filesystem.release(attr.ino, opened.handle);
        content
    }

    fn names(&self, path: &str) -> Vec<String> {
        let ino = self.attr(path).unwrap().ino;
        let mut names = Vec::new();
        let mut take = |item: crate::filesystem::DirItem<'_>| {
            names.push(String::from_utf8(item.name.to_vec()).unwrap());
            true
        };
        self.engine()
            .filesystem
            .readdir(ino, 0, 2, Listing::Names, &mut take)
            .unwrap();
        names.sort();
        names
    }
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn every_kind_of_file_comes_in_and_nothing_is_read_twice() {
    let mut computer = Computer::new();
    let (small, large) = (noise(3000, 1), noise(20 << 20, 2));
    computer.write("a/small", &small);
    computer.write("a/b/large", &large);
    computer.write("empty", b"");
    symlink("a/small", computer.source("link")).unwrap();
    std::fs::hard_link(computer.source("a/small"), computer.source("z-second")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        computer.source("pipe"),
        rustix::fs::FileType::Fifo,
        0o640.into(),
        0,
    )
    .unwrap();
    assert!(
        computer
            .source("pipe")
            .metadata()
            .unwrap()
            .file_type()
            .is_fifo()
    );
    let sparse = std::fs::File::create(computer.source("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &small, 5 << 20).unwrap();
    sparse.set_len(9 << 20).unwrap();
    drop(sparse);

    let report = computer.backup(|_| ());
    assert_eq!(
        (
            report.files,
            report.folders,
            report.unchanged,
            report.copied
        ),
        (7, 3, 0, 7)
    );
    assert!(report.is_complete() && report.torn.is_empty(), "{report:?}");
    assert_eq!(computer.read("source/a/small"), small);
    assert!(computer.read("source/a/b/large") == large);
    assert!(computer.read("source/sparse") == std::fs::read(computer.source("sparse")).unwrap());
    assert!(computer.attr("source/sparse").unwrap().blocks * 512 < 4 << 20);
    assert_eq!(
        computer
            .engine()
            .filesystem
            .readlink(computer.attr("source/link").unwrap().ino)
            .unwrap(),
        b"a/small"
    );
    assert_eq!(computer.attr("source/pipe").unwrap().kind, FileKind::Fifo);
    let (one, two) = (
        computer.attr("source/a/small").unwrap(),
        computer.attr("source/z-second").unwrap(),
    );
    assert_eq!((one.ino, one.nlink), (two.ino, 2));
    for name in ["a", "a/b", "a/small", "empty", "link", ""] {
        let (found, wanted) = (
            computer.attr(&format!("source/{name}")).unwrap(),
            computer.source(name),
        );
        let wanted = wanted.symlink_metadata().unwrap();
        assert_eq!(
            (found.mtime.seconds, i64::from(found.mtime.nanos)),
            (wanted.mtime(), wanted.mtime_nsec()),
            "{name}"
        );
        assert_eq!(
            (found.mode, found.uid),
            (wanted.mode() & 0o7777, wanted.uid()),
            "{name}"
        );
    }

    for _ in 0..2 {
        let again = computer.backup(|_| ());
        assert_eq!(
            (
                again.files,
                again.unchanged,
                again.copied,
                again.read_bytes,
                again.removed
            ),
            (7, 7, 0, 0, 0)
        );
        // The next round begins with what the store has.
        computer.open();
    }
    assert_eq!(computer.read("source/a/small"), small);
    assert!(computer.read("source/a/b/large") == large);
}

#[test]
fn what_is_gone_from_the_source_goes_and_what_was_put_there_by_hand_stays() {
    let mut computer = Computer::new();
    for name in [
        "kept",
        "changed",
        "gone",
        "folder/gone",
        "folder/below/gone",
        "mixed/gone",
    ] {
        computer.write(name, name.as_bytes());
    }
    computer.backup(|_| ());
    let by_hand = NewNode {
        kind: FileKind::Regular,
        mode: 0o600,
        rdev: 0,
        uid: 0,
        gid: 0,
    };
    for folder in ["source", "source/mixed"] {
        let folder = computer.attr(folder).unwrap().ino;
        computer
            .engine()
            .filesystem
            .mknod(folder, b"by hand", by_hand)
            .unwrap();
    }
    computer.open();
    std::fs::remove_file(computer.source("gone")).unwrap();
    std::fs::remove_dir_all(computer.source("folder")).unwrap();
    std::fs::remove_dir_all(computer.source("mixed")).unwrap();
    computer.write("changed", b"something else");
    computer.write("new/file", b"new");
    let number = computer.attr("source/changed").unwrap().ino;
    let report = computer.backup(|_| ());
    assert_eq!((report.removed, report.copied, report.unchanged), (4, 2, 1));
    assert_eq!(
        computer.names("source"),
        ["by hand", "changed", "kept", "mixed", "new"]
    );
    assert_eq!(computer.names("source/mixed"), ["by hand"]);
    assert_eq!(computer.read("source/changed"), b"something else");
    assert_eq!(computer.attr("source/changed").unwrap().ino, number);
}

#[test]
fn files_folders_and_links_take_each_others_places() {
    let computer = Computer::new();
    computer.write("one", b"a file");
    computer.write("two/in it", b"a folder");
    computer.write("linked", b"both");
    std::fs::hard_link(computer.source("linked"), computer.source("linked too")).unwrap();
    computer.backup(|_| ());
    std::fs::remove_file(computer.source("one")).unwrap();
    computer.write("one/in it", b"now a folder");
    std::fs::remove_dir_all(computer.source("two")).unwrap();
    computer.write("two", b"now a file");
    std::fs::remove_file(computer.source("linked too")).unwrap();
    computer.write("linked too", b"alone");
    std::fs::hard_link(computer.source("two"), computer.source("two too")).unwrap();
    let report = computer.backup(|_| ());
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(computer.read("source/one/in it"), b"now a folder");
    assert_eq!(computer.read("source/two"), b"now a file");
    assert_eq!(computer.read("source/linked"), b"both");
    assert_eq!(computer.read("source/linked too"), b"alone");
    assert_eq!(
        computer.attr("source/two too").unwrap().ino,
        computer.attr("source/two").unwrap().ino
    );
    assert_eq!(computer.attr("source/linked").unwrap().nlink, 1);
}

#[test]
fn patterns_caches_and_holdfasts_own_folders_are_left_out() {
    let computer = Computer::new();
    computer.write("keep.c", b"c");
    computer.write("drop.o", b"o");
    computer.write("target/debug/x", b"x");
    computer.write(
        "cache/CACHEDIR.TAG",
        b"Signature: 8a477f597d28d172789f06886806bc55\n",
    );
    computer.write("cache/big", b"big");
    let report = computer.backup(|request| {
        request.exclude = vec!["*.o".into(), "source/target/".into()];
        request.exclude_caches = true;
    });
    assert_eq!(report.files, 2);
    assert_eq!(computer.names("source"), ["cache", "keep.c"]);
    assert_eq!(computer.names("source/cache"), ["CACHEDIR.TAG"]);

    let all: PathBuf = computer.folder.path().canonicalize().unwrap();
    let report =
        computer.backup(|request| (request.paths, request.to) = (vec![all.clone().into()], None));
    assert!(report.is_complete(), "{report:?}");
    let path = all.strip_prefix("/").unwrap().to_str().unwrap();
    let names = computer.names(path);
    assert!(
        names.contains(&"source".to_owned()) && !names.contains(&"store".to_owned()),
        "{names:?}"
    );
    let own = BackupRequest {
        paths: vec![all.join("store").into()],
        ..BackupRequest::default()
    };
    assert!(matches!(
        run(computer.engine(), &own, &|_| ()),
        Err(BackupError::Own { .. })
    ));
}

#[test]
fn what_is_not_there_is_named_and_the_rest_comes_in() {
    let computer = Computer::new();
    computer.write("there", b"there");
    let missing = computer.source("missing");
    let report = computer.backup(|request| request.paths.push(missing.clone().into()));
    assert_eq!(report.unreadable.len(), 1);
    assert_eq!(report.unreadable[0].path, missing.display().to_string());
    assert_eq!(computer.read("source/there"), b"there");
    let nothing = BackupRequest {
        paths: vec![missing.into()],
        ..BackupRequest::default()
    };
    assert!(matches!(
        run(computer.engine(), &nothing, &|_| ()),
        Err(BackupError::NothingThere(_))
    ));
}

#[test]
fn what_came_in_before_a_crash_is_not_read_again() {
    let mut computer = Computer::new();
    for number in 0..300 {
        computer.write(&format!("{:03}/file", number), &noise(2000, number));
    }
    std::thread::sleep(Duration::from_millis(40));
    let request = BackupRequest {
        paths: vec![computer.source("").into()],
        ..BackupRequest::default()
    };
    let shared = Shared {
        engine: computer.engine(),
        request: &request,
        report: Mutex::default(),
        read_bytes: AtomicU64::new(0),
        busy: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    };
    let exclude = exclude::Exclude::new(&[]).unwrap();
    let roots = roots(computer.engine(), &request).unwrap();
    bring_in(&shared, &exclude, &roots, &|_| ()).unwrap();
    drop(shared);
    // No snapshot was taken: only the log knows.
    computer.open();
    let report = run(computer.engine(), &request, &|_| ()).unwrap();
    assert_eq!(
        (report.files, report.unchanged, report.read_bytes),
        (300, 300, 0)
    );
}
