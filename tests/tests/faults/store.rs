//! The store is away, slow or wrong while files are written.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use holdfast_tests::home::text;
use holdfast_tests::proxy::{Fault, Proxy};
use holdfast_tests::servers::Secret;
use holdfast_tests::trees::random_bytes;
use holdfast_tests::{Drive, Home, S3Server, Seaweed, commands, trees};
use rustix::process::{Pid, Signal, kill_process};

use crate::size;

/// No process may wait for longer: a request has 30 s, and whoever waits for two of them in turn is found all the same.
const DEADLINE: Duration = Duration::from_secs(35);

/// Looks whether the kernel waits for the daemon: a connection that always has requests waiting, for longer than
/// any may take, has one that is never answered, and its caller is in D state.
struct Watchdog {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Duration>>,
}

impl Watchdog {
    fn of(drive: &Drive<'_>) -> Watchdog {
        use std::os::unix::fs::MetadataExt;
        let device = fs::metadata(drive.path("")).expect("mounted").dev();
        // The folder has the minor number of the mount's anonymous device.
        let minor = rustix::fs::minor(device);
        let file = PathBuf::from(format!("/sys/fs/fuse/connections/{minor}/waiting"));
        let _ = std::process::Command::new("mount")
            .args(["-t", "fusectl", "none", "/sys/fs/fuse/connections"])
            .stderr(Stdio::null())
            .status();
        assert!(
            file.exists(),
            "{} is not there; as root: mount -t fusectl none /sys/fs/fuse/connections",
            file.display()
        );
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = std::thread::spawn(move || longest_wait(&file, &ended));
        Watchdog {
            over,
            thread: Some(thread),
        }
    }

    #[track_caller]
    fn assert_nothing_hung(mut self) {
        self.over.store(true, Ordering::Release);
        let thread = self.thread.take().expect("it is taken once");
        let longest = thread.join().expect("it only looks");
        assert!(longest < DEADLINE, "a request waited for {longest:?}");
    }
}

fn longest_wait(file: &std::path::Path, over: &AtomicBool) -> Duration {
    let (mut longest, mut since) = (Duration::ZERO, None);
    while !over.load(Ordering::Acquire) {
        let waiting = fs::read_to_string(file).unwrap_or_default();
        match waiting.trim() {
            "0" | "" => since = None,
            _ => longest = longest.max(since.get_or_insert_with(Instant::now).elapsed()),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    longest
}

/// A server, a proxy before it, and a home whose store is behind the proxy.
struct Setup {
    server: Seaweed,
    proxy: Proxy,
    home: Home,
}

impl Setup {
    fn new() -> Setup {
        let server = Seaweed::start();
        let proxy = Proxy::start(server.port());
        let home = server.home();
        home.init(
            &server.store("faults"),
            "laptop",
            &["--endpoint", &proxy.endpoint()],
        );
        Setup {
            server,
            proxy,
            home,
        }
    }
}

/// Refused connections, a stopped server, a black hole, 503, 429, connections cut in the request or the answer,
/// answers lost after the server has done what it was asked: the writer sees none of it, everything is stored soon
/// after, no request hangs, no restart is needed. One after the other on one drive.
#[test]
fn whatever_befalls_the_store_writers_see_nothing() {
    let mut setup = Setup::new();
    let drive = setup.home.mount();
    let watchdog = Watchdog::of(&drive);
    let span = Duration::from_secs(size(8, 60));
    let mut number = 0;
    let faults: [(&str, Option<Fault>); 8] = [
        ("503", Some(Fault::Status(503))),
        ("429", Some(Fault::Status(429))),
        ("black hole", Some(Fault::BlackHole)),
        ("cut in the request", Some(Fault::CutRequest)),
        ("cut in the answer", Some(Fault::CutAnswer)),
        ("answer lost", Some(Fault::LoseAnswer)),
        ("stopped", None),
        ("refused", None),
    ];
    for (what, fault) in faults {
        match (what, fault) {
            (_, Some(fault)) => setup.proxy.fail(fault),
            ("stopped", _) => signal(setup.server.pid(), Signal::STOP),
            (_, None) => setup.server.stop(),
        }
        let until = Instant::now() + span;
        let mut written = 0_u64;
        while Instant::now() < until {
            let content = random_bytes(number, 400_000);
            let took = Instant::now();
            fs::write(drive.current(number.to_string()), &content)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(
                took.elapsed() < Duration::from_secs(5),
                "{what}: a writer waited for {:?}",
                took.elapsed()
            );
            (number, written) = (number + 1, written + content.len() as u64);
            std::thread::sleep(Duration::from_millis(200));
        }
        let asked = Instant::now();
        let told = setup.home.json(&["status"]);
        assert!(asked.elapsed() < Duration::from_secs(2), "{what}: status");
        assert!(told["queued_bytes"].as_u64() > Some(0), "{what}: {told}");
        match (what, fault) {
            (_, Some(_)) => setup.proxy.heal(),
            ("stopped", _) => signal(setup.server.pid(), Signal::CONT),
            (_, None) => setup.server.start_again(),
        }
        // At 10 MB/s, with what a test machine needs to start a server again.
        let uninterrupted = Duration::from_secs(written / 10_000_000 + 1);
        let limit = Duration::from_secs(60) + 2 * uninterrupted;
        let healed = Instant::now();
        let seconds = limit.as_secs().to_string();
        let run = setup.home.run(["flush", "--timeout", &seconds]);
        assert_eq!(run.code, 0, "{what}: {}{}", run.out, run.err);
        assert!(healed.elapsed() < limit, "{what}: {:?}", healed.elapsed());
    }
    watchdog.assert_nothing_hung();
    for number in 0..number {
        let found = fs::read(drive.current(number.to_string())).expect("read");
        assert!(found == random_bytes(number, 400_000), "file {number}");
    }
    drive.unmount();
    setup.home.ok(&["check", "--read-data"]);
}

fn signal(pid: Pid, signal: Signal) {
    kill_process(pid, signal).expect("the server lives");
}

/// Requests that fail now and then, all kinds mixed: the same.
#[test]
fn a_store_that_fails_every_third_request_gets_everything() {
    let setup = Setup::new();
    let drive = setup.home.mount();
    for (round, fault) in [Fault::Status(500), Fault::LoseAnswer, Fault::CutRequest]
        .into_iter()
        .enumerate()
    {
        setup.proxy.fail_some(fault, |_, count| count % 3 == 1);
        for number in 0..20 {
            let seed = round as u64 * 100 + number;
            let content = random_bytes(seed, 700_000);
            fs::write(drive.current(seed.to_string()), content).expect("written");
        }
        setup.home.ok(&["flush", "--timeout", "120"]);
        assert!(setup.proxy.hits() > 3, "{fault:?}: too few requests");
    }
    setup.proxy.heal();
    drive.unmount();
    setup.home.ok(&["check", "--read-data"]);
}

/// While the store hangs: `status` answers at once, `flush` ends at Ctrl-C, `unmount --timeout` ends in time and
/// says what is left; the next mount has it, and reading what is not cached ends with an error instead of a hang.
#[test]
fn commands_work_while_the_store_hangs() {
    let setup = Setup::new();
    let home = &setup.home;
    let drive = home.mount();
    fs::write(drive.current("before"), random_bytes(1, 3_000_000)).expect("written");
    home.ok(&["snapshot", "one"]);
    let watchdog = Watchdog::of(&drive);
    setup.proxy.fail(Fault::BlackHole);
    fs::write(drive.current("after"), random_bytes(2, 3_000_000)).expect("written");

    let asked = Instant::now();
    home.json(&["status"]);
    assert!(asked.elapsed() < Duration::from_secs(2), "status");

    assert!(
        !ignores_interrupts(),
        "SIGINT is ignored here, and in every child, as in a shell's background job: run this in the foreground, \
         or behind `env --default-signal=INT`"
    );
    let mut flush = home.command(["flush"]).spawn().expect("started");
    std::thread::sleep(Duration::from_secs(1));
    let pid = Pid::from_raw(flush.id() as i32).expect("a child has a pid");
    kill_process(pid, Signal::INT).expect("it waits");
    let asked = Instant::now();
    assert!(!flush.wait().expect("ended").success());
    assert!(asked.elapsed() < Duration::from_secs(2), "Ctrl-C");

    let asked = Instant::now();
    let synced = fs::File::open(drive.path("")).and_then(|root| root.sync_all());
    let error = synced.expect_err("nothing is stored");
    assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT), "{error}");
    assert!(asked.elapsed() < DEADLINE, "sync DRIVE");

    watchdog.assert_nothing_hung();
    let (folder, asked) = (drive.path(""), Instant::now());
    let run = home.run(["unmount", text(&folder), "--timeout", "3"]);
    assert_eq!(run.code, 1, "{}{}", run.out, run.err);
    assert!(run.out.contains("left"), "{}", run.out);
    assert!(asked.elapsed() < Duration::from_secs(15), "unmount");
    drive.ended();
    setup.proxy.heal();
    let drive = home.mount();
    assert!(fs::read(drive.current("after")).expect("there") == random_bytes(2, 3_000_000));
    drive.unmount();
}

/// More readers than the drive has threads to wait on, and than the kernel has requests that it sends ahead by itself, while the
/// store hangs: each has its answer by the deadline, counted from its request, and whoever writes, syncs and reads what is at hand
/// is not kept waiting by them. Several of them read the same.
#[test]
fn many_readers_of_a_hanging_store_keep_nobody_waiting() {
    const FILES: u64 = 60;
    const READERS: u64 = 2 * FILES;
    const BYTES: usize = 1_500_000;
    let setup = Setup::new();
    let home = &setup.home;
    let source = home.path("source");
    trees::numbered(&source, FILES, BYTES);
    home.ok(&["backup", text(&source)]);
    let drive = home.mount();
    let snapshot = drive.backed_up(&source);
    let files: Vec<_> = (0..READERS)
        .map(|reader| {
            let path = snapshot.join((reader % FILES).to_string());
            fs::File::open(path).expect("opened")
        })
        .collect();
    let watchdog = Watchdog::of(&drive);
    setup.proxy.fail(Fault::BlackHole);
    let longest_write = std::thread::scope(|scope| {
        let readers: Vec<_> = files
            .iter()
            .map(|file| {
                scope.spawn(|| {
                    let began = Instant::now();
                    let error = file.read_exact_at(&mut vec![0; BYTES], 0);
                    (error, began.elapsed())
                })
            })
            .collect();
        let mut longest = Duration::ZERO;
        let mut written = 0;
        while readers.iter().any(|reader| !reader.is_finished()) {
            let began = Instant::now();
            let (path, content) = (drive.current("small"), random_bytes(written, 5_000));
            let file = fs::File::create(&path).expect("made");
            file.write_all_at(&content, 0).expect("written");
            file.sync_all().expect("synced");
            // Not from the kernel's pages.
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("dropped");
            assert!(fs::read(&path).expect("read") == content);
            longest = longest.max(began.elapsed());
            written += 1;
            std::thread::sleep(Duration::from_millis(100));
        }
        for reader in readers {
            let (result, took) = reader.join().expect("it only reads");
            let error = result.expect_err("nothing is here");
            assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT), "{error}");
            assert!(took < DEADLINE, "a reader waited for {took:?}");
        }
        longest
    });
    watchdog.assert_nothing_hung();
    assert!(
        longest_write < Duration::from_secs(5),
        "a write, a sync and a read took {longest_write:?}"
    );
    setup.proxy.heal();
    // For a moment it is not asked again.
    let until = Instant::now() + Duration::from_secs(20);
    for (file, reader) in files.iter().zip(0..) {
        let mut content = vec![0; BYTES];
        while let Err(error) = file.read_exact_at(&mut content, 0) {
            assert!(Instant::now() < until, "{error}");
            std::thread::sleep(Duration::from_millis(200));
        }
        let expected = random_bytes(reader % FILES, BYTES);
        assert!(content == expected, "{reader}");
    }
    drop(files);
    drive.unmount();
}

/// A folder's packs are there and cannot be read, as on a network drive that hangs; new ones can be stored. It ends with the value.
struct Unreadable(Vec<PathBuf>);

impl Unreadable {
    fn packs_of(home: &Home) -> Unreadable {
        let packs = home.objects("packs");
        for pack in &packs {
            fs::rename(pack, aside(pack)).expect("renamed");
            // Opening one waits until somebody writes.
            commands::ok("mkfifo", &[text(pack)]);
        }
        Unreadable(packs)
    }
}

impl Drop for Unreadable {
    fn drop(&mut self) {
        for pack in &self.0 {
            // Whoever waits for it finds it empty.
            let _ = fs::File::options().read(true).write(true).open(pack);
            let _ = fs::rename(aside(pack), pack);
        }
    }
}

fn aside(pack: &std::path::Path) -> PathBuf {
    pack.with_extension("aside")
}

/// While the log is nearly full, writers are slowed down; they do not wait for those who wait for the store.
#[test]
fn writers_of_a_full_log_do_not_wait_behind_readers_of_a_hanging_store() {
    const READERS: u64 = 60;
    let (home, _) = Home::with_archive("laptop");
    home.limit_log(48);
    let source = home.path("source");
    trees::numbered(&source, READERS * 8, 20_000);
    home.ok(&["backup", text(&source)]);
    let drive = home.mount();
    let snapshot = drive.backed_up(&source);
    let files: Vec<_> = (0..READERS)
        .map(|reader| fs::File::open(snapshot.join((reader * 8).to_string())).expect("opened"))
        .collect();
    let hanging = Unreadable::packs_of(&home);
    std::thread::scope(|scope| {
        let readers: Vec<_> = files
            .iter()
            .map(|file| scope.spawn(|| file.read_at(&mut [0; 20_000], 0)))
            .collect();
        let began = Instant::now();
        let mut written = 0;
        while began.elapsed() < Duration::from_secs(20) {
            let began = Instant::now();
            let content = random_bytes(1000 + written, 1_000_000);
            fs::write(drive.current(written.to_string()), content).expect("written");
            let took = began.elapsed();
            assert!(took < Duration::from_secs(10), "a file took {took:?}");
            written += 1;
        }
        // Several times what the log holds: it was nearly full for a while.
        assert!(written > 150, "{written} files");
        for reader in readers {
            let error = reader.join().expect("it only reads");
            assert!(error.is_err(), "nothing can be read");
        }
    });
    drop(hanging);
    drop(files);
    drive.unmount();
    home.ok(&["check", "--read-data"]);
}

/// Whether whoever started this process set SIGINT to be ignored.
fn ignores_interrupts() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("read");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.expect("told").trim(), 16).expect("hexadecimal");
    ignored & (1 << (Signal::INT.as_raw() - 1)) != 0
}

/// SIGTERM while the store hangs: the daemon drains for a limited time, says what is left, and loses nothing.
#[test]
fn sigterm_drains_within_a_limit_and_says_what_is_left() {
    let setup = Setup::new();
    let drive = setup.home.mount();
    setup.proxy.fail(Fault::BlackHole);
    fs::write(drive.current("file"), random_bytes(1, 2_000_000)).expect("written");
    let asked = Instant::now();
    drive.signal(Signal::TERM);
    drive.ended();
    assert!(
        asked.elapsed() < Duration::from_secs(30),
        "it drains for 20 s"
    );
    let log = setup.home.daemon_log();
    assert!(
        log.contains("left_bytes") && !log.contains("left_bytes=0"),
        "{log}"
    );
    setup.proxy.heal();
    let drive = setup.home.mount();
    assert!(fs::read(drive.current("file")).expect("there") == random_bytes(1, 2_000_000));
    drive.unmount();
}

/// The store's credentials are revoked half-way: the queue is kept, status says why, and everything is stored once
/// they are back, without a restart.
#[test]
fn revoked_credentials_keep_the_queue() {
    let mut setup = Setup::new();
    let drive = setup.home.mount();
    fs::write(drive.current("before"), random_bytes(1, 2_000_000)).expect("written");
    setup.home.ok(&["flush"]);
    setup.server.stop();
    setup.server.set_secret(Secret::Another);
    setup.server.start_again();
    fs::write(drive.current("after"), random_bytes(2, 2_000_000)).expect("written");
    let until = Instant::now() + Duration::from_secs(90);
    let refused = |trouble: &str| {
        let trouble = trouble.to_lowercase();
        ["credential", "denied", "signature", "403", "refused"]
            .iter()
            .any(|word| trouble.contains(word))
            && !trouble.contains("connect")
    };
    setup.home.run(["flush", "--timeout", "1"]);
    loop {
        let told = setup.home.json(&["status"]);
        let trouble = told["trouble"].as_str().unwrap_or_default();
        if refused(trouble) {
            assert!(told["queued_bytes"].as_u64() > Some(0), "{told}");
            break;
        }
        assert!(Instant::now() < until, "status does not say why: {told}");
        std::thread::sleep(Duration::from_millis(500));
    }
    setup.server.stop();
    setup.server.set_secret(Secret::Usual);
    setup.server.start_again();
    setup.home.ok(&["flush", "--timeout", "150"]);
    drive.unmount();
    setup.home.ok(&["check", "--read-data"]);
}
