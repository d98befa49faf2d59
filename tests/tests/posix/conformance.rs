//! pjdfstest, fsx, stress-ng and fio.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use holdfast_tests::home::text;
use holdfast_tests::{Drive, Home, commands, program, sha256, trees};

/// Of 398 cases this one alone may be skipped on the drive and run on the disk: the C library answers
/// pathconf(_PC_LINK_MAX) from a table of file systems that does not have FUSE.
/// `a_file_has_many_names` is its place.
const UNKNOWN_TO_THE_C_LIBRARY: &str = "link::link_count_max";
/// As names.rs has it, and ext4.
const MOST_LINKS: u32 = 65_000;
const FSX_OPERATIONS: u64 = 20_000;
/// All of fsx's operations.
const FSX_SETTINGS: &str = "
flen = 67108864
[opsize]
max = 262144
[weights]
close_open = 1
invalidate = 1
mapread = 10
mapwrite = 10
read = 10
write = 10
truncate = 5
fsync = 0.3
fdatasync = 0.3
posix_fallocate = 1
punch_hole = 3
sendfile = 3
posix_fadvise = 1
copy_file_range = 5
";
const PJDFSTEST_SETTINGS: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.01
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// What became of a case of pjdfstest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Skipped,
    Failed,
}

/// Every case of pjdfstest, as root, ends on the drive as on the disk below it in the same run.
#[test]
fn pjdfstest_ends_as_on_the_disk() {
    assert!(trees::is_root(), "pjdfstest changes users: run as root");
    let (home, _) = Home::with_archive("laptop");
    let drive = Drive::mount(&home, &["--allow-other"]);
    let disk = home.path("disk");
    for folder in [&disk, &drive.current("suite")] {
        fs::create_dir(folder).expect("made");
    }
    // Its other users have to come to the folder.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(home.path(""), open).expect("chmod");
    let on_disk = pjdfstest(&home, &disk);
    let on_drive = pjdfstest(&home, &drive.current("suite"));
    assert!(on_disk.len() > 350, "only {} cases", on_disk.len());
    let mut different: Vec<_> = on_disk
        .iter()
        .filter(|(name, verdict)| on_drive.get(*name) != Some(verdict))
        .map(|(name, verdict)| (name, verdict, on_drive.get(name)))
        .collect();
    different.retain(|(name, verdict, drive)| {
        *name != UNKNOWN_TO_THE_C_LIBRARY
            || (**verdict, drive.copied()) != (Verdict::Passed, Some(Verdict::Skipped))
    });
    assert!(different.is_empty(), "not as on the disk: {different:#?}");
    let failed: Vec<_> = on_drive
        .iter()
        .filter(|(_, verdict)| **verdict == Verdict::Failed)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    drive.unmount();
}

fn pjdfstest(home: &Home, folder: &Path) -> BTreeMap<String, Verdict> {
    let settings = home.path("pjdfstest.toml");
    fs::write(&settings, PJDFSTEST_SETTINGS).expect("written");
    let output = Command::new(program("pjdfstest", "make setup-posix"))
        .arg("-c")
        .arg(settings)
        .arg("-p")
        .arg(folder)
        .output()
        .expect("pjdfstest can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let verdict = |line: &str| {
        let (name, verdict) = line.split_once(' ')?;
        let verdict = match verdict.trim() {
            "ok" => Verdict::Passed,
            "skipped" => Verdict::Skipped,
            "FAILED" => Verdict::Failed,
            _ => return None,
        };
        name.contains("::").then(|| (name.to_owned(), verdict))
    };
    let verdicts: BTreeMap<_, _> = said.lines().filter_map(verdict).collect();
    if verdicts.values().any(|verdict| *verdict == Verdict::Failed) {
        // The suite's own report says which line of a case failed, and the test's output shows it.
        println!("{said}");
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!verdicts.is_empty(), "no case was run:\n{said}\n{errors}");
    verdicts
}

/// A program that runs is not written to, and not emptied either, whichever way it is opened.
#[test]
fn a_running_program_is_left_alone() {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    let sleep = fs::read("/usr/bin/sleep").expect("a program");
    for round in 0..50 {
        let path = drive.current(format!("program-{round}"));
        fs::write(&path, &sleep).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        let mut running = Command::new(&path).arg("60").spawn().expect("it runs");
        let mut reading = fs::OpenOptions::new();
        reading.read(true).custom_flags(libc::O_TRUNC);
        let opened = [
            fs::OpenOptions::new().write(true).open(&path),
            reading.open(&path),
            fs::OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(&path),
        ];
        let ended = running.try_wait().expect("our child");
        running.kill().and_then(|()| running.wait()).expect("ended");
        assert_eq!(ended, None, "round {round}: it has died");
        for opened in opened {
            let error = opened.expect_err("it runs").raw_os_error();
            assert_eq!(error, Some(libc::ETXTBSY), "round {round}");
        }
        assert!(fs::read(&path).expect("read") == sleep, "round {round}");
    }
    drive.unmount();
}

/// A file has as many names as ext4 gives it, then EMLINK; the count is true, also after a crash.
#[test]
fn a_file_has_many_names() {
    use std::os::unix::fs::MetadataExt;
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    fs::write(drive.current("0"), "content").expect("written");
    for number in 1..MOST_LINKS {
        fs::hard_link(drive.current("0"), drive.current(number.to_string()))
            .unwrap_or_else(|error| panic!("name {number}: {error}"));
    }
    let error = fs::hard_link(drive.current("0"), drive.current("more")).expect_err("too many");
    assert_eq!(error.raw_os_error(), Some(libc::EMLINK));
    drive.kill();
    let drive = home.mount();
    let last = fs::metadata(drive.current((MOST_LINKS - 1).to_string())).expect("there");
    assert_eq!(last.nlink(), u64::from(MOST_LINKS));
    drive.unmount();
}

/// fsx, all operations, up to 64 MiB: seed 1.
#[test]
fn fsx_seed_1() {
    fsx_in_one_go(1);
}

/// fsx, all operations, up to 64 MiB: seed 2.
#[test]
fn fsx_seed_2() {
    fsx_in_one_go(2);
}

/// fsx, all operations, up to 64 MiB: seed 3.
#[test]
fn fsx_seed_3() {
    fsx_in_one_go(3);
}

fn fsx_in_one_go(seed: u64) {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    fsx(&home, &drive, seed, 1, FSX_OPERATIONS);
    let content = sha256(&fs::read(drive.current("fsx")).expect("read"));
    drive.unmount();
    // From the store alone.
    let restored = home.path("restored");
    home.ok(&["restore", "latest", text(&restored)]);
    let stored = fs::read(restored.join("fsx")).expect("restored");
    assert_eq!(sha256(&stored), content, "seed {seed}: what was stored");
}

/// The same in eight pieces: between them the daemon is killed or unmounted, and the kernel's caches and the
/// drive's own are dropped. fsx goes on where it was, once the content is what it left.
#[test]
fn fsx_with_restarts_and_caches_dropped_between() {
    const PIECE: u64 = FSX_OPERATIONS / 8;
    let (home, _) = Home::with_archive("laptop");
    let mut content = None;
    for piece in 0..8 {
        let drive = home.mount();
        if let Some(content) = &content {
            let found = sha256(&fs::read(drive.current("fsx")).expect("read"));
            assert_eq!(&found, content, "after piece {piece}");
        }
        fsx(&home, &drive, 4, piece * PIECE + 1, (piece + 1) * PIECE);
        content = Some(sha256(&fs::read(drive.current("fsx")).expect("read")));
        match piece % 2 {
            0 => drive.kill(),
            _ => drive.unmount(),
        }
        let _ = fs::remove_dir_all(home.holdfast_home().join("cache"));
        if trees::is_root() {
            fs::write("/proc/sys/vm/drop_caches", "3").expect("caches dropped");
        }
    }
}

/// Operations `first` to `last` of a seed; those before are followed in fsx's memory only.
fn fsx(home: &Home, drive: &Drive<'_>, seed: u64, first: u64, last: u64) {
    let settings = home.path("fsx.toml");
    let all = FSX_SETTINGS.to_owned();
    // fsx copies for real where it should only follow what was done before `first`.
    let wanted = match first {
        1 if last == FSX_OPERATIONS => all,
        _ => all.replace("copy_file_range = 5", "copy_file_range = 0"),
    };
    fs::write(&settings, wanted).expect("written");
    let (seed, first, count) = (seed.to_string(), first.to_string(), last.to_string());
    let fsx = program("fsx", "make setup-posix");
    let (artifacts, file) = (home.path(""), drive.current("fsx"));
    let arguments = [
        "-f",
        text(&settings),
        "-S",
        &seed,
        "-b",
        &first,
        "-N",
        &count,
        "-P",
        text(&artifacts),
        text(&file),
    ];
    commands::ok(text(&fsx), &arguments);
}

/// Every stressor of stress-ng's file-system class that works in the folder it is given, with its own verification, two seconds each:
/// some 100 s. Were it to hang, it is ended, and its last words say in which stressor.
#[test]
fn stress_ng_finds_nothing() {
    let (home, _) = Home::with_archive("laptop");
    let drive = Drive::mount(&home, &["--allow-other"]);
    let folder = drive.current("stress");
    fs::create_dir(&folder).expect("made");
    // bind-mount mounts over the machine's own folders, procfs reads those (and may wait there for ever), binderfs is no
    // matter of ours.
    let arguments = [
        "--class",
        "filesystem",
        "--sequential",
        "1",
        "--timeout",
        "2",
        "--verify",
        "--oomable",
        "--exclude",
        "bind-mount,binderfs,procfs",
        "--temp-path",
        text(&folder),
    ];
    let stress = program("stress-ng", "apt-get install stress-ng");
    let output = Command::new("timeout")
        .args(["--kill-after=10", "600"])
        .arg(stress)
        .args(arguments)
        .current_dir(&folder)
        .output()
        .expect("stress-ng can be started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    let complaints: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("fail:") || line.contains("error:"))
        .collect();
    assert!(
        output.status.success() && complaints.is_empty(),
        "stress-ng: {}\n{}\n{}",
        output.status,
        complaints.join("\n"),
        said.lines().rev().take(3).collect::<Vec<_>>().join("\n")
    );
    drive.unmount();
    home.ok(&["check", "--read-data"]);
}

/// fio writes at random places with blocks of 4 to 128 KiB, synced and not, and reads its checksums back; so
/// does a second run over the files after the daemon was killed.
#[test]
fn fio_verifies() {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    let fio = |drive: &Drive<'_>, how: &[&str]| {
        let folder: PathBuf = drive.current("");
        let directory = format!("--directory={}", folder.display());
        let mut arguments = vec![
            "--name=verified",
            &directory,
            "--size=96M",
            "--bsrange=4k-128k",
            "--verify=crc32c",
            "--verify_fatal=1",
            // It would write a file into the folder where the tests run.
            "--verify_state_save=0",
            "--numjobs=2",
            "--randseed=7",
        ];
        arguments.extend(how);
        let fio = program("fio", "apt-get install fio");
        commands::ok(text(&fio), &arguments);
    };
    fio(&drive, &["--rw=randwrite", "--do_verify=1", "--fsync=64"]);
    drive.kill();
    let drive = home.mount();
    fio(&drive, &["--rw=randwrite", "--verify_only"]);
    fio(&drive, &["--rw=randrw", "--ioengine=mmap", "--do_verify=1"]);
    drive.unmount();
}
