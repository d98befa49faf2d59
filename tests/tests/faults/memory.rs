//! 384 MiB for the daemon, page cache included, are enough.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast_tests::home::text;
use holdfast_tests::trees::{is_root, random_bytes};
use holdfast_tests::{Drive, Home, commands};

use crate::size;

const LIMIT_BYTES: u64 = 384 << 20;
const FILES_IN_A_FOLDER: u64 = 100;

/// A control group with a memory limit; removed whatever happens.
struct Group {
    folder: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Group {
    fn new() -> Group {
        assert!(is_root(), "a memory limit needs root");
        let name = format!("holdfast-test-{}", std::process::id());
        let (one, two) = (
            Path::new("/sys/fs/cgroup/memory"),
            Path::new("/sys/fs/cgroup"),
        );
        let (top, version, file) = match one.join("memory.limit_in_bytes").exists() {
            true => (one, Version::One, "memory.limit_in_bytes"),
            false => (two, Version::Two, "memory.max"),
        };
        let folder = top.join(name);
        fs::create_dir(&folder).expect("a control group can be made (cgroup memory controller)");
        fs::write(folder.join(file), LIMIT_BYTES.to_string()).expect("its memory is limited");
        Group { folder, version }
    }

    fn add(&self, drive: &Drive<'_>) {
        let pid = drive.pid().as_raw_nonzero().to_string();
        fs::write(self.folder.join("cgroup.procs"), pid).expect("the daemon is in the group");
    }

    fn killed(&self) -> u64 {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let told = fs::read_to_string(self.folder.join(file)).expect("read");
        let line = told.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.expect("it counts").trim().parse().expect("a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Busy until its processes have ended.
        let until = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir(&self.folder).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Bytes of anonymous memory that the daemon has now, and had at the most.
fn resident(drive: &Drive<'_>) -> (u64, u64) {
    let pid = drive.pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon lives");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.expect("proc_pid_status(5) has it") << 10
    };
    (field("RssAnon:"), field("VmHWM:"))
}

/// Within the limit 2 GiB are copied in (in the soak 20), 120,000 files are made (1,000,000), listed and restored;
/// the daemon is not killed and gives memory back. Then on an empty cache the first entry of `ls -lR` of the
/// snapshot comes within a second.
#[test]
fn much_data_and_many_files_in_little_memory() {
    let (home, _) = Home::with_archive("laptop");
    let group = Group::new();
    let drive = home.mount();
    group.add(&drive);
    let (gibibytes, files) = (size(2, 20), size(120_000, 1_000_000));
    let block = random_bytes(1, 1 << 20);
    for number in 0..gibibytes * 4 {
        let mut file = fs::File::create(drive.current(format!("large-{number}"))).expect("made");
        for piece in 0..256_u64 {
            // Each block is another one, or it would be stored once.
            let mut block = block.clone();
            for (at, byte) in (number * 256 + piece).to_le_bytes().into_iter().enumerate() {
                block
                    .iter_mut()
                    .skip(at)
                    .step_by(4099)
                    .for_each(|to| *to ^= byte);
            }
            std::io::Write::write_all(&mut file, &block).expect("written");
        }
    }
    home.ok(&["flush"]);
    for number in 0..files {
        let (above, own) = (
            number / FILES_IN_A_FOLDER / 100,
            number / FILES_IN_A_FOLDER % 100,
        );
        let folder = drive.current(format!("many/{above:02}/{own:02}"));
        if number % FILES_IN_A_FOLDER == 0 {
            fs::create_dir_all(&folder).expect("made");
        }
        fs::write(folder.join(number.to_string()), number.to_string()).expect("written");
    }
    home.ok(&["snapshot", "all"]);
    let listed = commands::ok(
        "find",
        &[text(&drive.current("many")), "-type", "f", "-size", "-2"],
    );
    assert_eq!(listed.lines().count() as u64, files);
    assert_eq!(group.killed(), 0, "the daemon was killed for its memory");
    let (now, peak) = resident(&drive);
    assert!(peak < 300 << 20, "at most {} MiB", peak >> 20);
    assert!(now < 200 << 20, "{} MiB stay", now >> 20);
    drive.unmount();

    let restored = home.path("restored");
    home.ok(&["restore", "all:many/00/00", text(&restored)]);
    assert_eq!(
        fs::read_dir(restored.join("00")).expect("restored").count() as u64,
        FILES_IN_A_FOLDER
    );
    a_list_begins_at_once_and_takes_little(&home, files / FILES_IN_A_FOLDER);
}

/// How many files the drive lets the kernel know for longer than a moment, if nobody has them open. Folders stay known.
const MOST_FILES_KNOWN: u64 = 100_000;

/// The top, the profile, the snapshot, `many`, and the folders of folders.
const OTHER_FOLDERS: u64 = 200;

/// A list on an empty cache begins at once, and takes little memory to the end.
fn a_list_begins_at_once_and_takes_little(home: &Home, folders: u64) {
    let _ = fs::remove_dir_all(home.holdfast_home().join("cache"));
    let drive = home.mount();
    let start = Instant::now();
    let snapshot = drive.snapshot("laptop", "all");
    let mut list = std::process::Command::new("ls")
        .args(["-lRU", text(&snapshot.join("many"))])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("ls can be started");
    let out = list.stdout.take().expect("it is piped");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(out));
    // Its heading, the total, then an entry.
    let entry = lines.nth(2).expect("an entry").expect("read");
    let took = start.elapsed();
    let _ = list.kill();
    let _ = list.wait();
    assert!(entry.starts_with("d"), "{entry}");
    assert!(
        took < Duration::from_secs(1),
        "the first entry came after {took:?}"
    );
    // The kernel hears of every file; the daemon does not remember them all.
    commands::ok("ls", &["-lRU", text(&snapshot)]);
    let until = Instant::now() + Duration::from_secs(20);
    let known = || home.json(&["status"])["known_inodes"].as_u64();
    while known().expect("told") > MOST_FILES_KNOWN + folders + OTHER_FOLDERS {
        assert!(Instant::now() < until, "{:?} are known", known());
        std::thread::sleep(Duration::from_millis(200));
    }
    let (_, peak) = resident(&drive);
    assert!(peak < 250 << 20, "at most {} MiB", peak >> 20);
    drive.unmount();
}
