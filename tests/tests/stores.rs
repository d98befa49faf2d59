//! The main job on real S3 servers: SeaweedFS always, Garage and MinIO where the machine has them.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use holdfast_tests::compare::{Strictness, assert_same};
use holdfast_tests::home::text;
use holdfast_tests::proxy::{Direction, Fault, Proxy};
use holdfast_tests::servers::{Garage, Minio, S3Server, Seaweed};
use holdfast_tests::tls::Authority;
use holdfast_tests::{Home, commands, trees};

/// What `2M` means.
const LIMIT: u64 = 2 << 20;

/// `init` in a bucket; gives the recovery code.
fn init(home: &Home, store: &str, endpoint: &str, more: &[&str]) -> String {
    let mut options = vec!["--endpoint", endpoint, "--region", "us-east-1"];
    options.extend(more);
    home.init(store, "laptop", &options)
}

/// Copy in, snapshot, change, snapshot, restore, a new computer, and every kind of care.
fn main_job(server: &dyn S3Server) {
    let (home, store) = (server.home(), server.store("team/ada"));
    let code = init(&home, &store, &server.endpoint(), &[]);
    let source = home.path("source");
    trees::every_kind(&source);
    let drive = home.mount();
    commands::copy(&source, &drive.current("tree"));
    home.ok(&["snapshot", "first"]);
    fs::write(drive.current("large"), trees::random_bytes(1, 40 << 20)).expect("written");
    fs::remove_dir_all(drive.current("tree")).expect("removed");
    home.ok(&["snapshot", "second"]);
    let honoured = &home.json(&["status"])["store_state"];
    assert_eq!(
        honoured["conditional_put"],
        server.honours_conditions(),
        "{honoured}"
    );
    assert_eq!(honoured["checksum_enforced"], true, "{honoured}");
    drive.unmount();

    home.ok(&["restore", "first", text(&home.path("restored")), "--verify"]);
    assert_same(&source, &home.path("restored/tree"), Strictness::Everything);
    home.ok(&["check", "--read-data"]);
    home.ok(&["forget", "first"]);
    home.ok(&["gc"]);
    home.ok(&["scrub"]);

    let new = server.home();
    let endpoint = server.endpoint();
    let options = ["--from", "laptop", "--endpoint", &endpoint];
    let recovered = new.recover(&store, &code, "desk", &options);
    assert_eq!(recovered.code, 0, "{}", recovered.err);
    let drive = new.mount();
    let large = fs::read(drive.current("large")).expect("read");
    assert!(large == trees::random_bytes(1, 40 << 20));
    fs::write(drive.current("small"), "of another device").expect("written");
    drive.unmount();
    let listed = home.json(&["snapshots"]);
    let devices: Vec<_> = listed["snapshots"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|snapshot| snapshot["device"].as_str().expect("a name"))
        .collect();
    assert_eq!(devices, ["laptop", "desk"], "{listed}");
}

/// The main job on SeaweedFS, which is always there.
#[test]
fn the_main_job_on_seaweedfs() {
    main_job(&Seaweed::start());
}

/// The main job on Garage, which overwrites: names that are hashes make up for it.
#[test]
fn the_main_job_on_garage() {
    if let Some(server) = Garage::start() {
        main_job(&server);
    }
}

/// The main job on MinIO.
#[test]
fn the_main_job_on_minio() {
    if let Some(server) = Minio::start() {
        main_job(&server);
    }
}

/// A certificate of an authority that the system does not know is refused and told; with
/// `--ca-file` it is trusted, now and at every later command.
#[test]
fn a_certificate_authority_of_ones_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new();
    let ca = authority.file(folder.path(), "ca.crt");
    let files = authority.issue("localhost", folder.path());
    let (server, port) = Seaweed::start_with_tls(&files);
    let endpoint = format!("https://localhost:{port}");
    let store = server.store("tls");
    let home = server.home();
    let sentence = home.refused(&[
        "init",
        &store,
        "--endpoint",
        &endpoint,
        "--region",
        "us-east-1",
    ]);
    assert!(
        sentence.contains("certificate") && sentence.contains("--ca-file"),
        "{sentence}"
    );
    let stranger = Authority::new().file(folder.path(), "stranger.crt");
    let sentence = home.refused(&[
        "init",
        &store,
        "--endpoint",
        &endpoint,
        "--region",
        "us-east-1",
        "--ca-file",
        text(&stranger),
    ]);
    assert!(sentence.contains("certificate"), "{sentence}");
    init(&home, &store, &endpoint, &["--ca-file", text(&ca)]);
    let drive = home.mount();
    fs::write(drive.current("file"), "over TLS").expect("written");
    drive.unmount();
    assert_eq!(home.ok(&["cat", "latest:file"]), "over TLS");
}

/// A store without space: `flush` fails with the reason, `status` says how much waits, the daemon ends
/// with the queue kept, and everything is stored once there is room.
#[test]
fn a_store_without_space_keeps_the_queue() {
    const BYTES: usize = 24 << 20;
    let server = Seaweed::start();
    let proxy = Proxy::start(server.port());
    let home = server.home();
    init(&home, &server.store("full"), &proxy.endpoint(), &[]);
    let drive = home.mount();
    proxy.fail_some(Fault::Status(507), |kind, _| kind == "PUT packs");
    fs::write(drive.current("large"), trees::random_bytes(2, BYTES)).expect("written");
    let refused = home.refused(&["flush", "--timeout", "4"]);
    assert!(
        refused.contains("no space left") && refused.contains("queued"),
        "{refused}"
    );
    let (told, status) = wait_for_trouble(&home);
    assert!(told.contains("no space left"), "{status}");
    // What was written last is counted once it is cut into chunks.
    let until = Instant::now() + Duration::from_secs(20);
    while home.json(&["status"])["queued_bytes"].as_u64() < Some(BYTES as u64) {
        assert!(Instant::now() < until, "everything waits: {status}");
        sleep(Duration::from_millis(200));
    }
    let ended = home.run(["unmount", text(&drive.path("")), "--timeout", "1", "--json"]);
    assert_eq!(ended.code, 1, "{}{}", ended.out, ended.err);
    drive.ended();

    proxy.heal();
    let drive = home.mount();
    home.ok(&["flush"]);
    assert_eq!(home.json(&["status"])["queued_bytes"], 0);
    let content = fs::read(drive.current("large")).expect("read");
    assert!(content == trees::random_bytes(2, BYTES));
    drive.unmount();
}

/// While the store is away writes, `status` and cached reads go on; the queue is stored when it is back.
#[test]
fn a_store_that_is_away_for_a_while() {
    let mut server = Seaweed::start();
    let home = server.home();
    init(&home, &server.store("away"), &server.endpoint(), &[]);
    let drive = home.mount();
    fs::write(drive.current("before"), "stored").expect("written");
    home.ok(&["flush"]);
    let read = || fs::read_to_string(drive.current("before")).expect("cached");
    assert_eq!(read(), "stored");
    server.stop();
    fs::write(drive.current("during"), trees::random_bytes(3, 8 << 20)).expect("written");
    assert_eq!(read(), "stored");
    let refused = home.refused(&["flush", "--timeout", "3"]);
    assert!(refused.contains("queued"), "{refused}");
    let (told, _) = wait_for_trouble(&home);
    assert!(
        told.contains("store") || told.contains("endpoint"),
        "{told}"
    );
    server.start_again();
    home.ok(&["flush", "--timeout", "120"]);
    assert_eq!(home.json(&["status"])["queued_bytes"], 0);
    drive.unmount();
}

fn wait_for_trouble(home: &Home) -> (String, serde_json::Value) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let status = home.json(&["status"]);
        if let Some(trouble) = status["trouble"].as_str() {
            return (trouble.to_owned(), status);
        }
        assert!(Instant::now() < until, "status never tells: {status}");
        sleep(Duration::from_millis(200));
    }
}

/// `--limit-upload` and `--limit-download` hold, within one object too.
#[test]
fn limits_hold_in_both_directions() {
    const BYTES: usize = 12 << 20;
    let server = Seaweed::start();
    let proxy = Proxy::start(server.port());
    let home = server.home();
    init(&home, &server.store("limits"), &proxy.endpoint(), &[]);
    let source = home.path("source");
    fs::create_dir(&source).expect("made");
    fs::write(source.join("file"), trees::random_bytes(4, BYTES)).expect("written");

    let limited = |direction, arguments: &[&str]| {
        proxy.forget_moved();
        let started = Instant::now();
        home.ok(arguments);
        let (bytes, _) = proxy.moved(direction, Duration::from_secs(1));
        assert!(bytes >= BYTES as u64, "{bytes} bytes went {direction:?}");
        // A second's worth may go at once.
        let least = (bytes - LIMIT) as f64 / LIMIT as f64;
        let took = started.elapsed().as_secs_f64();
        assert!(
            took >= least,
            "{bytes} bytes went {direction:?} in {took} s"
        );
    };
    limited(
        Direction::Up,
        &["backup", text(&source), "--limit-upload", "2M"],
    );
    fs::remove_dir_all(home.holdfast_home().join("cache")).expect("the cache goes");
    let target = home.path("target");
    let restore = ["restore", "latest", text(&target), "--limit-download", "2M"];
    limited(Direction::Down, &restore);
    let found = trees::files_below(&target);
    let [file] = found.as_slice() else {
        panic!("one file was restored: {found:?}")
    };
    assert!(fs::read(file).expect("read") == trees::random_bytes(4, BYTES));
}
