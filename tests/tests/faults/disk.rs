//! The local disk fails, is full, or the log has reached its limit.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast_tests::home::text;
use holdfast_tests::trees::{is_root, random_bytes};
use holdfast_tests::{Drive, Home, commands};

use crate::ledger::close;
use crate::traced::Traced;

/// A failed fdatasync makes the drive read-only: status says so, nothing is acknowledged from then on, and what
/// was synced before is there at the next mount.
#[test]
fn a_failed_fdatasync_makes_the_drive_read_only() {
    let (home, _) = Home::with_archive("laptop");
    let traced = Traced::mount(&home, "fdatasync:error=EIO:when=12+");
    assert!(traced.is_mounted(), "opening needs fewer syncs");
    let current = traced.folder().join("current");
    let mut synced = Vec::new();
    let failed = (0..200_u64).find_map(|number| {
        let done = write_synced(
            &current.join(number.to_string()),
            &random_bytes(number, 30_000),
        );
        match done {
            Ok(()) => {
                synced.push(number);
                None
            }
            Err(error) => Some(error),
        }
    });
    let failed = failed.expect("a sync has failed");
    assert!(!synced.is_empty(), "the first sync failed: {failed}");
    for number in 1_000..1_010 {
        let path = current.join(number.to_string());
        let error = write_synced(&path, b"x").expect_err("read-only");
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
    }
    let error = fs::remove_file(current.join("0")).expect_err("read-only");
    assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
    let told = home.json(&["status"]);
    let why = told["read_only"].as_str().unwrap_or_default();
    assert!(why.contains("sync") && why.contains("disk"), "{told}");
    assert_eq!(
        fs::read(current.join("0")).expect("readable"),
        random_bytes(0, 30_000)
    );
    let start = Instant::now();
    let run = home.run(["flush"]);
    assert_ne!(run.code, 0, "nothing is acknowledged: {}", run.out);
    assert!(start.elapsed() < Duration::from_secs(20));
    home.run(["unmount", text(traced.folder()), "--timeout", "5"]);
    assert!(traced.ended_by_itself());

    let drive = home.mount();
    for number in synced {
        let found = fs::read(drive.current(number.to_string())).expect("it was synced");
        assert!(found == random_bytes(number, 30_000), "file {number}");
    }
    fs::write(drive.current("goes on"), "x").expect("writable again");
    drive.unmount();
}

fn write_synced(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    close(file)
}

/// A file system of its own in a file.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    fn new(home: &Home, mebibytes: u64) -> SmallDisk {
        assert!(is_root(), "a loop file system needs root");
        let (image, folder) = (home.path("disk.img"), home.path("home"));
        let file = File::create(&image).expect("made");
        file.set_len(mebibytes << 20).expect("sized");
        commands::ok("mkfs.ext4", &["-q", "-F", text(&image)]);
        fs::create_dir(&folder).expect("made");
        commands::ok("mount", &["-o", "loop", text(&image), text(&folder)]);
        SmallDisk { folder }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::DETACH;
        let _ = rustix::mount::unmount(&self.folder, flags);
    }
}

/// State on a disk of 64 MiB while the store takes next to nothing: writers are slowed, then told ENOSPC at write
/// or close; deletes work; everything that was closed is there after kill -9; writing goes on once the store has
/// taken the queue.
#[test]
fn a_full_local_disk_is_told_and_left() {
    let home = Home::new();
    let _disk = SmallDisk::new(&home, 64);
    let store = home.path("store");
    home.init(text(&store), "laptop", &[]);
    until_full_and_back(&home);
}

/// The same where the log has its limit and the disk has room.
#[test]
fn a_full_log_is_told_and_left() {
    let (home, _) = Home::with_archive("laptop");
    home.limit_log(24);
    until_full_and_back(&home);
}

fn until_full_and_back(home: &Home) {
    let drive = Drive::mount(home, &["--limit-upload", "20k"]);
    let mut closed = Vec::new();
    let full = (0..400_u64).find_map(|number| {
        let path = drive.current(number.to_string());
        let start = Instant::now();
        let done = write_closed(&path, &random_bytes(number, 300_000));
        // One call waits at most 20 s; here are a few.
        assert!(start.elapsed() < Duration::from_secs(90), "{number}");
        match done {
            Ok(()) => {
                closed.push(number);
                None
            }
            Err(error) => Some((number, error)),
        }
    });
    let (last, error) = full.expect("the log is full");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    assert!(closed.len() > 5, "full after {} files", closed.len());
    // What was not acknowledged is not wanted; it may not even have been made.
    match fs::remove_file(drive.current(last.to_string())) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        deleted => deleted.expect("deletes work"),
    }
    let deleted: Vec<u64> = closed.split_off(closed.len() - 3);
    for number in &deleted {
        fs::remove_file(drive.current(number.to_string())).expect("deletes work");
    }
    fs::rename(drive.current("0"), drive.current("renamed")).expect("renames work");
    let open = fs::OpenOptions::new().write(true).open(drive.current("1"));
    open.and_then(|file| file.set_len(1_000))
        .expect("truncates work");
    drive.kill();

    let check = |drive: &Drive<'_>| {
        for number in &closed {
            let (name, length) = match number {
                0 => ("renamed".to_owned(), 300_000),
                1 => ("1".to_owned(), 1_000),
                number => (number.to_string(), 300_000),
            };
            let found = fs::read(drive.current(&name)).expect("it was closed");
            assert!(found == random_bytes(*number, 300_000)[..length], "{name}");
        }
        for number in &deleted {
            assert!(!drive.current(number.to_string()).exists(), "{number}");
        }
    };
    let drive = home.mount();
    check(&drive);
    for number in 1_000..1_040 {
        let path = drive.current(number.to_string());
        write_closed(&path, &random_bytes(number, 300_000)).expect("there is room again");
    }
    drive.unmount();
    home.ok(&["check", "--read-data"]);
    let drive = home.mount();
    check(&drive);
    drive.unmount();
}

fn write_closed(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    close(file)
}
