use holdfast_backend::layout::Folder;
use holdfast_backend::store::{MemoryStore, ObjectStore};

use super::*;
use crate::archive::tests::{Computer, memory};
use crate::engine::{Engine, EngineOptions};
use crate::packer::tests::Refusing;

mod against_model;

/// A drive on a computer of its own, over a store in memory.
struct Drive {
    computer: Computer,
    store: Arc<MemoryStore>,
    engine: Option<Engine>,
}

fn options() -> EngineOptions {
    EngineOptions {
        automatic_snapshots: Some(false),
        memory_bytes: Some(24 << 20),
        ..EngineOptions::default()
    }
}

impl Drive {
    fn new() -> Self {
        Self::with_settings(crate::archive::tests::settings())
    }

    fn with_settings(settings: crate::home::Settings) -> Self {
        let store = memory();
        let computer = Computer::new(store.clone());
        let home = &computer.home;
        let (archive, _) = Archive::create(store.clone(), home, settings, "laptop").unwrap();
        let engine = Engine::open_on(archive, options()).unwrap();
        Drive {
            computer,
            store,
            engine: Some(engine),
        }
    }

    fn fs(&self) -> &Filesystem {
        &self.engine.as_ref().unwrap().filesystem
    }

    /// The daemon dies and is started again: what is in memory is lost.
    fn kill(&mut self) {
        self.engine = None;
        self.engine = Some(Engine::open_on(self.computer.open().unwrap(), options()).unwrap());
    }

    fn path(&self, path: &str) -> FsResult<Attr> {
        let mut attr = self.fs().getattr(ROOT_INO)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            attr = self.fs().lookup(attr.ino, name.as_bytes())?;
        }
        Ok(attr)
    }

    fn write(&self, path: &str, data: &[u8]) {
        let (folder, name) = path.rsplit_once('/').unwrap();
        let folder = self.path(folder).unwrap().ino;
        let flags = OpenFlags {
            write: true,
            ..OpenFlags::default()
        };
        let (attr, opened) = self
            .fs()
            .create(folder, name.as_bytes(), 0o644, 1, 1, flags)
            .unwrap();
        let mut offset = 0;
        for piece in data.chunks(128 << 10) {
            self.fs()
                .write(attr.ino, opened.handle, offset, piece, false)
                .unwrap();
            offset += piece.len() as u64;
        }
        self.fs().flush(attr.ino, opened.handle).unwrap();
        self.fs().release(attr.ino, opened.handle);
    }

    fn mkdir(&self, path: &str) {
        let (folder, name) = path.rsplit_once('/').unwrap();
        let folder = self.path(folder).unwrap().ino;
        self.fs()
            .mkdir(folder, name.as_bytes(), 0o755, 1, 1)
            .unwrap();
    }

    fn read(&self, path: &str) -> Vec<u8> {
        let attr = self.path(path).unwrap();
        self.read_ino(attr.ino)
    }

    fn read_ino(&self, ino: u64) -> Vec<u8> {
        let opened = self.fs().open(ino, OpenFlags::default()).unwrap();
        let mut all = Vec::new();
        loop {
            let bytes = self
                .fs()
                .read(ino, opened.handle, all.len() as u64, 1 << 20)
                .unwrap();
            if bytes.is_empty() {
                break;
            }
            all.extend_from_slice(&bytes);
        }
        self.fs().release(ino, opened.handle);
        all
    }

    fn list(&self, path: &str) -> Vec<String> {
        let ino = self.path(path).unwrap().ino;
        let mut names = Vec::new();
        let opened = self.fs().opendir(ino).unwrap();
        let mut cookie = 2;
        loop {
            let (mut taken, from) = (0, cookie);
            let mut take = |item: DirItem<'_>| {
                if taken == 7 {
                    return false;
                }
                taken += 1;
                cookie = item.cookie;
                names.push(String::from_utf8(item.name.to_vec()).unwrap());
                true
            };
            self.fs()
                .readdir(ino, opened.handle, from, Listing::Plus, &mut take)
                .unwrap();
            if taken == 0 {
                break;
            }
        }
        self.fs().releasedir(ino, opened.handle);
        names.sort();
        names
    }

    fn snapshot(&self, label: &str) -> StoredSnapshot {
        let ticket = self.fs().begin_snapshot(Some(label)).unwrap();
        self.fs().wait_snapshot(ticket, soon()).unwrap()
    }

    fn packs(&self) -> usize {
        let runtime = crate::archive::runtime::handle();
        let listed =
            crate::archive::runtime::wait_for(&runtime, None, self.store.list(Folder::Packs));
        listed.unwrap().unwrap().len()
    }

    fn commits(&self) -> usize {
        let runtime = crate::archive::runtime::handle();
        let listed = crate::archive::runtime::wait_for(
            &runtime,
            None,
            self.store.list(Folder::Commits(None)),
        );
        listed.unwrap().unwrap().len()
    }
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(60))
}

/// Bytes that neither compress nor repeat.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length / 8 + 1).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

#[test]
fn what_is_written_is_read_before_and_behind_a_commit_and_after_a_restart() {
    let mut drive = Drive::new();
    drive.mkdir("/current/a");
    drive.write("/current/a/small", b"hello");
    let large = noise(1, 20 << 20);
    drive.write("/current/a/large", &large);
    for round in 0..3 {
        assert_eq!(drive.read("/current/a/small"), b"hello", "round {round}");
        assert!(drive.read("/current/a/large") == large, "round {round}");
        assert_eq!(drive.list("/current/a"), ["large", "small"]);
        assert_eq!(drive.path("/current").unwrap().nlink, 3);
        match round {
            0 => drive.kill(),
            1 => drive.fs().flush_all(soon()).unwrap(),
            _ => (),
        }
    }
    drive.kill();
    assert!(drive.read("/current/a/large") == large);
    assert!(drive.fs().status().queued_bytes < 1 << 20);
}

#[test]
fn a_snapshot_is_what_was_at_its_moment() {
    let drive = Drive::new();
    drive.write("/current/f", b"one");
    let (attr, opened) = drive
        .fs()
        .create(
            CURRENT_INO,
            b"open",
            0o600,
            1,
            1,
            OpenFlags {
                write: true,
                ..Default::default()
            },
        )
        .unwrap();
    drive
        .fs()
        .write(attr.ino, opened.handle, 0, b"before", false)
        .unwrap();
    let ticket = drive.fs().begin_snapshot(Some("first")).unwrap();
    drive
        .fs()
        .write(attr.ino, opened.handle, 0, b"behind", false)
        .unwrap();
    drive.write("/current/f", b"two, longer");
    drive.write("/current/g", b"new");
    let second = drive.fs().begin_snapshot(Some("second")).unwrap();
    drive.fs().unlink(CURRENT_INO, b"f").unwrap();
    drive.fs().wait_snapshot(ticket, soon()).unwrap();
    drive.fs().wait_snapshot(second, soon()).unwrap();
    assert_eq!(drive.list("/snapshots/laptop"), ["first", "second"]);
    assert_eq!(drive.read("/snapshots/laptop/first/f"), b"one");
    assert_eq!(drive.read("/snapshots/laptop/first/open"), b"before");
    assert_eq!(drive.list("/snapshots/laptop/first"), ["f", "open"]);
    assert_eq!(drive.read("/snapshots/laptop/second/f"), b"two, longer");
    assert_eq!(drive.read("/snapshots/laptop/second/open"), b"behind");
    assert_eq!(drive.list("/snapshots/laptop/second"), ["f", "g", "open"]);
    assert_eq!(drive.list("/current"), ["g", "open"]);
    let latest = drive.path("/snapshots/latest").unwrap().ino;
    assert_eq!(drive.fs().readlink(latest).unwrap(), b"laptop/second");
}

#[test]
fn a_snapshot_that_was_asked_for_outlives_the_process() {
    let mut drive = Drive::new();
    drive.write("/current/f", b"one");
    drive.fs().flush_all(soon()).unwrap();
    drive.write("/current/f", b"two");
    drive.fs().commits.end();
    std::thread::sleep(Duration::from_millis(600));
    drive.fs().begin_snapshot(Some("kept")).unwrap();
    drive.write("/current/f", b"three");
    drive.kill();
    let until = Instant::now() + Duration::from_secs(30);
    while !drive.fs().status().pending_snapshots.is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(drive.read("/snapshots/laptop/kept/f"), b"two");
    assert_eq!(drive.read("/current/f"), b"three");
}

#[test]
fn a_copy_from_a_snapshot_stores_no_data() {
    let drive = Drive::new();
    let data = noise(3, 6 << 20);
    drive.write("/current/f", &data);
    drive.snapshot("s");
    drive.fs().unlink(CURRENT_INO, b"f").unwrap();
    drive.write("/current/back", b"");
    let (from, to) = (
        drive.path("/snapshots/laptop/s/f").unwrap(),
        drive.path("/current/back").unwrap(),
    );
    assert!(from.blocks > 0);
    let copied = drive
        .fs()
        .copy_file_range(from.ino, 0, to.ino, 0, u64::MAX)
        .unwrap();
    assert_eq!(copied, data.len() as u64);
    let again = drive.snapshot("t");
    assert!(again.stored_bytes < 1 << 20, "{again:?}");
    assert!(drive.read("/snapshots/laptop/t/back") == data);
}

#[test]
fn an_unchanged_drive_makes_no_commit() {
    let drive = Drive::new();
    drive.write("/current/f", b"one");
    drive.fs().flush_all(soon()).unwrap();
    let before = (drive.packs(), drive.commits());
    drive.fs().flush_all(soon()).unwrap();
    drive.path("/current/f").unwrap();
    drive.fs().flush_all(soon()).unwrap();
    assert_eq!((drive.packs(), drive.commits()), before);
}

/// Closing a file behind the snapshot that holds all of it changes nothing, and stores nothing.
#[test]
fn a_close_behind_a_snapshot_makes_no_commit() {
    let drive = Drive::new();
    let flags = OpenFlags {
        write: true,
        ..OpenFlags::default()
    };
    let (attr, opened) = drive
        .fs()
        .create(CURRENT_INO, b"f", 0o644, 1, 1, flags)
        .unwrap();
    let data = noise(1, 3 << 20);
    drive
        .fs()
        .write(attr.ino, opened.handle, 0, &data, false)
        .unwrap();
    let ticket = drive.fs().begin_snapshot(Some("s")).unwrap();
    drive.fs().flush(attr.ino, opened.handle).unwrap();
    drive.fs().release(attr.ino, opened.handle);
    drive.fs().wait_snapshot(ticket, soon()).unwrap();
    let before = drive.commits();
    drive.fs().flush_all(soon()).unwrap();
    assert_eq!(drive.fs().status().changed_files, 0);
    assert_eq!(drive.commits(), before);
    assert!(drive.read("/current/f") == data);
    assert!(drive.read("/snapshots/laptop/s/f") == data);
}

/// A commit that the store refuses has sent what the log has of an open file as it was written. When the
/// file is closed and cut, its chunks have to come into the log all the same: the packer dies with the process.
#[test]
fn what_a_refused_commit_has_sent_survives_the_process() {
    let inner = memory();
    let store = Arc::new(Refusing {
        inner: inner.clone(),
        refuse: false.into(),
    });
    let computer = Computer::new(store.clone());
    let settings = crate::archive::tests::settings();
    let (archive, _) = Archive::create(store.clone(), &computer.home, settings, "laptop").unwrap();
    let mut drive = Drive {
        computer,
        store: inner,
        engine: Some(Engine::open_on(archive, options()).unwrap()),
    };
    *store.refuse.lock() = true;
    let flags = OpenFlags {
        write: true,
        ..OpenFlags::default()
    };
    let (attr, opened) = drive
        .fs()
        .create(CURRENT_INO, b"f", 0o644, 1, 1, flags)
        .unwrap();
    let mut data = noise(1, 3 << 20);
    let write = |offset: usize, data: &[u8]| {
        let fs = drive.fs();
        fs.write(attr.ino, opened.handle, offset as u64, data, false)
            .unwrap();
    };
    write(0, &data);
    drive.fs().begin_snapshot(Some("s")).unwrap();
    wait_until("the commit is refused", || {
        drive.fs().status().trouble.is_some()
    });
    write(data.len(), b"more");
    let before = data.clone();
    data.extend(b"more");
    drive.fs().flush(attr.ino, opened.handle).unwrap();
    drive.fs().release(attr.ino, opened.handle);
    wait_until("the closed file is cut", || {
        drive.fs().namespace.lock().unchunked_bytes() == 0
    });
    *store.refuse.lock() = false;
    drive.kill();
    assert!(drive.read("/current/f") == data);
    drive.fs().flush_all(soon()).unwrap();
    assert!(drive.read("/snapshots/laptop/s/f") == before);
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn temporary_files_that_replace_each_other_store_the_last_one_only() {
    let drive = Drive::new();
    for round in 0..20 {
        drive.write("/current/tmp", &noise(round, 100 << 10));
        let flags = RenameFlags::default();
        drive
            .fs()
            .rename(CURRENT_INO, b"tmp", CURRENT_INO, b"f", flags)
            .unwrap();
        let gone = drive.path("/current/f").unwrap().ino;
        drive.fs().forget(gone, u64::from(u32::MAX));
    }
    let stored = drive.snapshot("s").stored_bytes;
    assert!(
        stored < 300 << 10,
        "{stored} bytes stored for one file of 100 KiB"
    );
}

#[test]
fn a_close_waits_while_the_log_is_full() {
    let mut settings = crate::archive::tests::settings();
    settings.limits.log_mib = 8;
    let drive = Drive::with_settings(settings);
    let flags = OpenFlags {
        write: true,
        ..OpenFlags::default()
    };
    // Held in memory until they are closed, so that no writer sees how full the log is about to be.
    let files: Vec<_> = (0..5)
        .map(|n| {
            let name = format!("f{n}").into_bytes();
            let made = drive.fs().create(CURRENT_INO, &name, 0o644, 1, 1, flags);
            let (attr, opened) = made.unwrap();
            let bytes = noise(n, 3 << 20);
            let written = drive
                .fs()
                .write(attr.ino, opened.handle, 0, &bytes, false)
                .unwrap();
            assert_eq!(written as usize, bytes.len());
            (attr, opened, bytes)
        })
        .collect();
    for (attr, opened, _) in &files {
        drive.fs().flush(attr.ino, opened.handle).unwrap();
        drive.fs().release(attr.ino, opened.handle);
    }
    for (attr, _, bytes) in &files {
        assert!(drive.read_ino(attr.ino) == *bytes);
    }
}

#[test]
fn names_of_one_file_are_counted_and_kept() {
    let mut drive = Drive::new();
    drive.mkdir("/current/d");
    drive.write("/current/f", b"linked");
    let file = drive.path("/current/f").unwrap().ino;
    let folder = drive.path("/current/d").unwrap().ino;
    assert_eq!(drive.fs().link(file, folder, b"g").unwrap().nlink, 2);
    for round in 0..3 {
        assert_eq!(
            drive.path("/current/d/g").unwrap().nlink,
            2,
            "round {round}"
        );
        assert_eq!(
            drive.path("/current/d/g").unwrap().ino,
            drive.path("/current/f").unwrap().ino
        );
        match round {
            0 => drive.kill(),
            1 => drive.fs().flush_all(soon()).unwrap(),
            _ => (),
        }
    }
    drive.kill();
    drive.fs().unlink(CURRENT_INO, b"f").unwrap();
    assert_eq!(drive.path("/current/d/g").unwrap().nlink, 1);
    drive.write("/current/d/g", b"changed");
    drive.snapshot("s");
    assert_eq!(drive.read("/snapshots/laptop/s/d/g"), b"changed");
    assert_eq!(drive.read("/current/d/g"), b"changed");
}

#[test]
fn an_unlinked_open_file_lives_until_it_is_closed() {
    let mut drive = Drive::new();
    drive.write("/current/f", b"still here");
    let ino = drive.path("/current/f").unwrap().ino;
    let opened = drive
        .fs()
        .open(
            ino,
            OpenFlags {
                write: true,
                ..Default::default()
            },
        )
        .unwrap();
    drive.fs().unlink(CURRENT_INO, b"f").unwrap();
    assert_eq!(drive.fs().getattr(ino).unwrap().nlink, 0);
    drive.fs().flush_all(soon()).unwrap();
    drive
        .fs()
        .write(ino, opened.handle, 10, b", and more", false)
        .unwrap();
    drive.fs().flush(ino, opened.handle).unwrap();
    assert_eq!(
        drive.fs().read(ino, opened.handle, 0, 100).unwrap(),
        &b"still here, and more"[..]
    );
    drive.fs().flush_all(soon()).unwrap();
    assert_eq!(
        drive.fs().read(ino, opened.handle, 0, 100).unwrap(),
        &b"still here, and more"[..]
    );
    drive.fs().release(ino, opened.handle);
    drive.fs().forget(ino, 10);
    assert!(drive.fs().getattr(ino).is_err());
    drive.kill();
    assert!(drive.list("/current").is_empty());
}

#[test]
fn a_folder_is_listed_whole_from_tree_and_changes() {
    let mut drive = Drive::new();
    let mut wanted: Vec<String> = (0..700).map(|n| format!("file-{n:04}")).collect();
    for name in &wanted {
        let node = NewNode {
            kind: FileKind::Regular,
            mode: 0o644,
            rdev: 0,
            uid: 1,
            gid: 1,
        };
        drive
            .fs()
            .mknod(CURRENT_INO, name.as_bytes(), node)
            .unwrap();
    }
    assert_eq!(drive.list("/current"), wanted);
    drive.fs().flush_all(soon()).unwrap();
    assert_eq!(drive.list("/current"), wanted);
    for name in wanted.extract_if(.., |name| name.ends_with('3')) {
        drive.fs().unlink(CURRENT_INO, name.as_bytes()).unwrap();
    }
    for n in 0..50 {
        drive.write(&format!("/current/new-{n:02}"), b"x");
        wanted.push(format!("new-{n:02}"));
    }
    assert_eq!(drive.list("/current"), wanted);
    drive.kill();
    assert_eq!(drive.list("/current"), wanted);
}

#[test]
fn snapshots_cannot_be_changed() {
    let drive = Drive::new();
    drive.write("/current/f", b"one");
    drive.snapshot("s");
    let folder = drive.path("/snapshots/laptop/s").unwrap().ino;
    let file = drive.path("/snapshots/laptop/s/f").unwrap().ino;
    let is_read_only =
        |answer: FsResult<()>| assert!(matches!(answer, Err(FsError::ReadOnly)), "{answer:?}");
    is_read_only(drive.fs().unlink(folder, b"f"));
    is_read_only(drive.fs().write(file, 0, 0, b"x", false).map(drop));
    is_read_only(drive.fs().mkdir(folder, b"x", 0o755, 1, 1).map(drop));
    is_read_only(drive.fs().mkdir(SNAPSHOTS_INO, b"x", 0o755, 1, 1).map(drop));
    is_read_only(
        drive
            .fs()
            .setattr(
                file,
                SetAttr {
                    mode: Some(0),
                    ..Default::default()
                },
            )
            .map(drop),
    );
    is_read_only(
        drive
            .fs()
            .rename(folder, b"f", folder, b"g", RenameFlags::default()),
    );
    let device = drive.path("/snapshots/laptop").unwrap().ino;
    drive.fs().mkdir(device, b"by hand", 0o755, 1, 1).unwrap();
    drive.fs().flush_all(soon()).unwrap();
    assert_eq!(drive.read("/snapshots/laptop/by hand/f"), b"one");
    assert!(matches!(
        drive.fs().mkdir(device, b"by hand", 0o755, 1, 1),
        Err(FsError::Exists)
    ));
}

#[test]
fn folders_keep_their_rules() {
    let drive = Drive::new();
    drive.mkdir("/current/a");
    drive.mkdir("/current/a/b");
    let (a, b) = (
        drive.path("/current/a").unwrap().ino,
        drive.path("/current/a/b").unwrap().ino,
    );
    let plain = RenameFlags::default();
    assert!(matches!(
        drive.fs().rmdir(CURRENT_INO, b"a"),
        Err(FsError::NotEmpty)
    ));
    assert!(matches!(
        drive.fs().rename(CURRENT_INO, b"a", b, b"c", plain),
        Err(FsError::Invalid)
    ));
    assert!(matches!(
        drive.fs().unlink(a, b"b"),
        Err(FsError::IsDirectory)
    ));
    assert!(matches!(
        drive.fs().mkdir(a, &[b'x'; 256], 0o755, 1, 1),
        Err(FsError::NameTooLong)
    ));
    drive.write("/current/f", b"x");
    assert!(matches!(
        drive
            .fs()
            .rename(CURRENT_INO, b"f", CURRENT_INO, b"a", plain),
        Err(FsError::IsDirectory)
    ));
    let exchange = RenameFlags {
        exchange: true,
        ..plain
    };
    drive
        .fs()
        .rename(CURRENT_INO, b"f", CURRENT_INO, b"a", exchange)
        .unwrap();
    assert_eq!(drive.read("/current/a"), b"x");
    assert_eq!(drive.list("/current/f"), ["b"]);
    let keep = RenameFlags {
        no_replace: true,
        ..plain
    };
    assert!(matches!(
        drive
            .fs()
            .rename(CURRENT_INO, b"f", CURRENT_INO, b"a", keep),
        Err(FsError::Exists)
    ));
}
