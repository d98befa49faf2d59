//! The promise, call by call: `docs/semantics.md` has each row with the name of its test here.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holdfast_tests::compare::{Strictness, assert_same};
use holdfast_tests::home::text;
use holdfast_tests::{Drive, Home, commands, trees};

/// Rate at which a queue of some megabytes takes seconds.
const SLOW: &[&str] = &["--limit-upload", "2M"];

/// write(): every reader of the drive sees it when it returns, before the file is closed.
#[test]
fn what_was_written_is_read_at_once() {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    let mut writer = File::create(drive.current("file")).expect("made");
    let mut reader = File::open(drive.current("file")).expect("opened");
    let mut seen = Vec::new();
    for round in 0..200_u64 {
        let piece = trees::random_bytes(round, 1 + (round as usize * 997) % 70_000);
        writer.write_all(&piece).expect("written");
        seen.clear();
        reader.read_to_end(&mut seen).expect("read");
        assert!(seen == piece, "round {round}");
    }
    drop(writer);
    drive.unmount();
}

/// close(): the file survives kill -9 of the daemon.
#[test]
fn what_was_closed_survives_kill() {
    let (home, _) = Home::with_archive("laptop");
    let source = home.path("source");
    trees::every_kind(&source);
    trees::sources(&source.join("many"), 20, 30);
    let drive = home.mount();
    commands::copy(&source, &drive.current("tree"));
    drive.kill();
    let drive = home.mount();
    assert_same(&source, &drive.current("tree"), Strictness::Everything);
    home.ok(&["snapshot", "after"]);
    drive.unmount();
    home.ok(&["restore", "after", text(&home.path("restored"))]);
    assert_same(&source, &home.path("restored/tree"), Strictness::Everything);
}

/// kill -9 at any moment: what was acknowledged is there, and nothing is half there. Twelve rounds under load,
/// each going on where the one before was killed.
#[test]
fn kill_at_any_moment_loses_nothing_that_was_closed() {
    let (home, _) = Home::with_archive("laptop");
    let mut closed: Vec<(String, u64, usize)> = Vec::new();
    for round in 0..12_u64 {
        let drive = home.mount();
        for (name, seed, length) in &closed {
            let content =
                fs::read(drive.current(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(
                content == trees::random_bytes(*seed, *length),
                "{name} has another content"
            );
        }
        closed.extend(write_until_killed(drive, round));
    }
    let drive = home.mount();
    home.ok(&["snapshot", "end"]);
    drive.unmount();
    home.ok(&["check", "--read-data"]);
}

fn write_until_killed(drive: Drive<'_>, round: u64) -> Vec<(String, u64, usize)> {
    let folder = drive.current("");
    let writer = std::thread::spawn(move || {
        let mut closed = Vec::new();
        for number in 0.. {
            let (name, seed) = (format!("{round}-{number}"), round * 100_000 + number);
            let length = [10, 5_000, 200_000, 3_000_000][number as usize % 4];
            if write_new(&folder.join(&name), &trees::random_bytes(seed, length)).is_err() {
                return closed;
            }
            closed.push((name, seed, length));
        }
        closed
    });
    std::thread::sleep(Duration::from_millis(150 + round * 137 % 900));
    drive.kill_only();
    writer
        .join()
        .expect("the writer ends with an error of the drive")
}

/// Writes a file and looks at the result of close(2), which `fs::write` does not.
fn write_new(path: &std::path::Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    nix_close(file)
}

fn nix_close(file: File) -> std::io::Result<()> {
    use std::os::fd::IntoRawFd;
    // SAFETY: the descriptor was ours and is used nowhere else.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// A name that was replaced by rename has the old content or the new one, whole, whenever the daemon is killed.
#[test]
fn a_renamed_file_is_never_without_its_content() {
    let (home, _) = Home::with_archive("laptop");
    for round in 0..6_u64 {
        let drive = home.mount();
        let folder = drive.current("");
        let writer = std::thread::spawn(move || {
            for number in 0..u64::MAX {
                let content = format!("{number:020}").repeat(2_000);
                let (new, name) = (folder.join("new"), folder.join("name"));
                if fs::write(&new, content)
                    .and_then(|()| fs::rename(&new, &name))
                    .is_err()
                {
                    return;
                }
            }
        });
        std::thread::sleep(Duration::from_millis(100 + round * 83));
        drive.kill_only();
        writer
            .join()
            .expect("the writer ends with an error of the drive");
        let drive = home.mount();
        let content =
            fs::read_to_string(drive.current("name")).expect("it was written once at least");
        assert_eq!(content.len(), 40_000, "round {round}");
        assert_eq!(content, content[..20].repeat(2_000), "round {round}");
        drive.unmount();
    }
}

/// fsync and O_SYNC return after the log is synced; what they covered is there after kill -9, open or not.
/// (Power loss: the simulated disk of the log's own tests.)
#[test]
fn what_was_synced_survives_kill_while_open() {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    let mut open = File::create(drive.current("fsync")).expect("made");
    open.write_all(&trees::random_bytes(1, 2_500_000))
        .expect("written");
    fs::write(drive.current("before"), "done before").expect("written");
    open.sync_all().expect("fsync");
    let mut direct = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut direct, libc::O_SYNC);
    let mut direct = direct
        .create_new(true)
        .write(true)
        .open(drive.current("o_sync"))
        .expect("made");
    direct.write_all(b"at once").expect("written");
    drive.kill_only();
    drop((open, direct));
    let drive = home.mount();
    assert!(fs::read(drive.current("fsync")).expect("there") == trees::random_bytes(1, 2_500_000));
    assert_eq!(
        fs::read(drive.current("before")).expect("there"),
        b"done before"
    );
    assert_eq!(
        fs::read(drive.current("o_sync")).expect("there"),
        b"at once"
    );
    drive.unmount();
}

/// Anything that would change a snapshot gets EROFS.
#[test]
fn a_snapshot_cannot_be_changed() {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    fs::write(drive.current("file"), "content").expect("written");
    fs::create_dir(drive.current("folder")).expect("made");
    home.ok(&["snapshot", "one"]);
    let inside = drive.snapshot("laptop", "one");
    let read_only = |what: &str, result: std::io::Result<()>| {
        let error = result.expect_err(what);
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{what}: {error}");
    };
    read_only("create", File::create(inside.join("new")).map(drop));
    read_only(
        "write",
        OpenOptions::new()
            .write(true)
            .open(inside.join("file"))
            .map(drop),
    );
    read_only("unlink", fs::remove_file(inside.join("file")));
    read_only("rmdir", fs::remove_dir(inside.join("folder")));
    read_only("mkdir", fs::create_dir(inside.join("another")));
    read_only(
        "rename",
        fs::rename(inside.join("file"), inside.join("other")),
    );
    read_only(
        "link",
        fs::hard_link(inside.join("file"), inside.join("other")),
    );
    read_only(
        "symlink",
        std::os::unix::fs::symlink("x", inside.join("other")),
    );
    read_only(
        "chmod",
        fs::set_permissions(
            inside.join("file"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        ),
    );
    read_only("setxattr", xattr::set(inside.join("file"), "user.x", b"y"));
    read_only(
        "move out",
        fs::rename(inside.join("file"), drive.current("moved")).map_err(cross_device_is_read_only),
    );
    drive.unmount();
}

/// The kernel keeps what it was told of `snapshots/`; a new one shows there all the same when its command returns.
#[test]
fn a_new_snapshot_shows_at_once() {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    let folder = drive.path("snapshots/laptop");
    let listed = |name: &str| {
        let mut entries = fs::read_dir(&folder).expect("listed");
        entries.any(|entry| entry.expect("read").file_name() == name)
    };
    let latest = drive.path("snapshots/latest");
    for round in 0..4 {
        let name = format!("round-{round}");
        fs::write(drive.current("file"), &name).expect("written");
        assert!(!listed(&name) && !folder.join(&name).exists());
        home.ok(&["snapshot", &name]);
        assert!(listed(&name), "{name}");
        let target = fs::read_link(&latest).expect("a link");
        assert_eq!(target.to_str(), Some(&*format!("laptop/{name}")));
        let read = fs::read_to_string(latest.join("file")).expect("read");
        assert_eq!(read, name);
    }
    // Asked for by mkdir it is an empty folder first.
    fs::create_dir(folder.join("by-hand")).expect("asked for");
    let until = Instant::now() + Duration::from_secs(20);
    while fs::read_to_string(folder.join("by-hand/file")).is_err() {
        assert!(Instant::now() < until, "it is not stored");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(listed("by-hand"));
    drive.unmount();
}

/// What the kernel keeps of a snapshot's name ends with the snapshot: the next one of that name shows itself, and `latest` is never cut to
/// the length that it had.
#[test]
fn a_name_that_is_used_again_shows_the_new_snapshot() {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    let folder = drive.path("snapshots/laptop");
    let latest = drive.path("snapshots/latest");
    let shown = || fs::read_to_string(folder.join("nightly/file"));
    for round in 0..3 {
        let content = format!("of round {round}");
        fs::write(drive.current("file"), &content).expect("written");
        home.ok(&["snapshot", "nightly"]);
        assert_eq!(shown().expect("read"), content);
        let through = fs::read_to_string(latest.join("file")).expect("read");
        assert_eq!(through, content);

        fs::write(drive.current("file"), "between").expect("written");
        let longer = format!("a-name-that-is-longer-{round}");
        home.ok(&["snapshot", &longer]);
        let target = fs::read_link(&latest).expect("a link");
        assert_eq!(target.to_str(), Some(&*format!("laptop/{longer}")));
        let size = fs::symlink_metadata(&latest).expect("a link").len();
        assert_eq!(size as usize, "laptop/".len() + longer.len());

        home.ok(&["forget", "laptop/nightly"]);
    }
    drive.unmount();
}

/// rename(2) from a snapshot to `current/` may say EXDEV as well: mv then copies, and fails at the unlink.
fn cross_device_is_read_only(error: std::io::Error) -> std::io::Error {
    match error.raw_os_error() {
        Some(libc::EXDEV) => std::io::Error::from_raw_os_error(libc::EROFS),
        _ => error,
    }
}

/// umount(8) returns at once; the daemon drains, and what is left is there at the next mount.
#[test]
fn umount_returns_at_once_and_nothing_is_lost() {
    let (home, _) = Home::with_archive("laptop");
    let drive = Drive::mount(&home, SLOW);
    let content = trees::random_bytes(4, 12 << 20);
    fs::write(drive.current("file"), &content).expect("written");
    let took = drive.umount_outside();
    assert!(took < Duration::from_secs(3), "{took:?}");
    let drive = home.mount();
    assert!(fs::read(drive.current("file")).expect("there") == content);
    drive.unmount();
    home.ok(&["check", "--read-data"]);
}

/// `holdfast unmount` waits, and exits 0 only when the queue is empty; with `--timeout` it says what is left.
#[test]
fn unmount_waits_for_the_queue() {
    let (home, code) = Home::with_archive("laptop");
    let content = trees::random_bytes(5, 12 << 20);
    let drive = Drive::mount(&home, SLOW);
    fs::write(drive.current("file"), &content).expect("written");
    let folder = drive.path("");
    let run = home.run(["unmount", text(&folder), "--timeout", "1"]);
    assert_ne!(
        run.code, 0,
        "12 MB at 2 MB/s are not stored in a second: {}",
        run.out
    );
    drive.ended();

    let drive = home.mount();
    assert!(fs::read(drive.current("file")).expect("there") == content);
    drive.unmount();
    let new = Home::new();
    let run = new.recover(&home.store(), &code, "new", &["--from", "laptop"]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    let drive = new.mount();
    assert!(fs::read(drive.current("file")).expect("there") == content);
    drive.unmount();
}

/// After kill -9 the mount answers ENOTCONN; the next `holdfast mount` clears it and goes on; `unmount` clears it too.
#[test]
fn a_stale_mount_is_cleared() {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    fs::write(drive.current("file"), "content").expect("written");
    drive.kill_only();
    let ask = || fs::metadata(home.path("drive/current")).expect_err("the daemon is dead");
    // A request that is on its way while the connection ends is aborted; all later ones find it gone.
    let aborted = |error: &std::io::Error| error.raw_os_error() == Some(libc::ECONNABORTED);
    let error = Some(ask())
        .filter(|error| !aborted(error))
        .unwrap_or_else(ask);
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    let drive = home.mount();
    assert_eq!(fs::read(drive.current("file")).expect("there"), b"content");
    drive.kill_only();
    home.ok(&["unmount", text(&home.path("drive"))]);
    assert!(
        fs::metadata(home.path("drive")).is_ok(),
        "an ordinary folder again"
    );
    let drive = home.mount();
    assert_eq!(fs::read(drive.current("file")).expect("there"), b"content");
    drive.unmount();
}

/// A file that is unlinked while open is read and written until it is closed, and costs nothing afterwards.
#[test]
fn an_unlinked_open_file_lives_until_it_is_closed() {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(drive.current("file"));
    let file = file.expect("made");
    file.write_all_at(b"before", 0).expect("written");
    fs::remove_file(drive.current("file")).expect("unlinked");
    home.ok(&["snapshot", "without"]);
    file.write_all_at(b" and after", 6).expect("written");
    let mut content = [0; 16];
    file.read_exact_at(&mut content, 0).expect("read");
    assert_eq!(&content, b"before and after");
    assert!(!drive.snapshot("laptop", "without").join("file").exists());
    drop(file);
    drive.unmount();
}

/// A snapshot freezes open files too: each write request is in it whole or not at all.
#[test]
fn a_snapshot_under_load_holds_whole_writes() {
    const BLOCK: usize = 64 << 10;
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    let file = File::create(drive.current("file")).expect("made");
    file.write_all_at(&vec![0; BLOCK], 0).expect("written");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut value = 0_u8;
            while !over.load(Ordering::Relaxed) {
                value = value.wrapping_add(1);
                file.write_all_at(&vec![value; BLOCK], 0).expect("written");
            }
        });
        for round in 0..5 {
            let label = format!("round-{round}");
            home.ok(&["snapshot", &label]);
            let content = fs::read(drive.snapshot("laptop", &label).join("file")).expect("there");
            assert!(
                content.len() == BLOCK && content.iter().all(|&byte| byte == content[0]),
                "round {round}"
            );
        }
        over.store(true, Ordering::Relaxed);
    });
    drop(file);
    drive.unmount();
}

/// More readers at once than the drive has threads to wait on, each of a file that nobody has read: all are served,
/// and soon, since those who wait take no thread from those who fetch.
#[test]
fn many_readers_of_cold_files_are_all_served() {
    const READERS: usize = 128;
    let (home, _) = Home::with_archive("laptop");
    let source = home.path("source");
    // Between two files that are read lie others, so that they are in many parts of the packs.
    trees::numbered(&source, READERS as u64 * 8, 20_000);
    home.ok(&["backup", text(&source)]);
    let drive = home.mount();
    let snapshot = drive.backed_up(&source);
    let files: Vec<_> = (0..READERS)
        .map(|reader| {
            let path = snapshot.join((reader * 8).to_string());
            File::open(path).expect("opened")
        })
        .collect();
    let together = Barrier::new(READERS);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (reader, file) in files.iter().enumerate() {
            let together = &together;
            scope.spawn(move || {
                let mut content = vec![0; 20_000];
                together.wait();
                file.read_exact_at(&mut content, 0).expect("read");
                assert!(content == trees::random_bytes(reader as u64 * 8, 20_000));
            });
        }
    });
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(15),
        "they waited for each other: {took:?}"
    );
    drive.unmount();
}
