//! Programs that people use: git, SQLite, PostgreSQL, rsync, tar.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use holdfast_tests::compare::{Strictness, assert_same};
use holdfast_tests::home::text;
use holdfast_tests::{Drive, Home, commands, program, trees};

/// git clones into the drive, checks every object, repacks, checks again, and sees nothing changed, also after
/// the daemon was killed.
#[test]
fn git_clones_checks_and_repacks() {
    let (home, _) = Home::with_archive("laptop");
    let source = repository(&home);
    let drive = home.mount();
    let clone = drive.current("clone");
    commands::ok(
        "git",
        &["clone", "-q", "--no-local", text(&source), text(&clone)],
    );
    let git = |arguments: &[&str]| {
        let all = [&["-C", text(&clone)], arguments].concat();
        commands::ok("git", &all)
    };
    git(&["fsck", "--full", "--strict"]);
    git(&["gc", "-q", "--aggressive", "--prune=now"]);
    git(&["fsck", "--full", "--strict"]);
    assert_eq!(git(&["status", "--porcelain"]), "");
    drive.kill();
    let drive = home.mount();
    git(&["fsck", "--full", "--strict"]);
    assert_eq!(git(&["status", "--porcelain"]), "");
    drive.unmount();
}

/// A repository of some hundred files and twenty commits.
fn repository(home: &Home) -> PathBuf {
    let folder = home.path("repository");
    trees::sources(&folder, 10, 30);
    let git = |arguments: &[&str]| {
        let who = ["-c", "user.name=test", "-c", "user.email=test@example.org"];
        let all = [&["-C", text(&folder)], &who[..], arguments].concat();
        commands::ok("git", &all)
    };
    git(&["init", "-q"]);
    for round in 0..20_u64 {
        let file = folder.join(format!("folder-0003/changed-{}", round % 4));
        fs::write(file, trees::text_bytes(round, 20_000)).expect("written");
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", "a change"]);
    }
    folder
}

/// SQLite in WAL mode (shared memory, locks, fsync): a writer and a reader at once, the daemon killed in between,
/// nothing committed lost, integrity whole.
#[test]
fn sqlite_in_wal_mode_keeps_what_it_committed() {
    let (home, _) = Home::with_archive("laptop");
    let sqlite = program("sqlite3", "apt-get install sqlite3");
    let drive = home.mount();
    let database = drive.current("database");
    let ask = |sql: &str| commands::ok(text(&sqlite), &[text(&database), sql]);
    ask("pragma journal_mode=wal; create table t(a integer primary key, b blob);");
    const INSERT: &str = "pragma busy_timeout=20000; pragma synchronous=full; insert into t(b) with recursive n(i) as \
        (select 1 union all select i+1 from n where i<200) select randomblob(700) from n;";
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20 {
                    ask(INSERT);
                }
            });
        }
        for _ in 0..20 {
            let told = ask("pragma busy_timeout=20000; pragma integrity_check;");
            assert!(told.ends_with("ok\n"), "{told}");
        }
    });
    drive.kill();
    let drive = home.mount();
    assert_eq!(
        ask("pragma integrity_check; select count(*) from t;"),
        "ok\n8000\n"
    );
    ask("pragma wal_checkpoint(truncate); vacuum;");
    assert_eq!(
        ask("pragma integrity_check; select count(*) from t;"),
        "ok\n8000\n"
    );
    drive.unmount();
}

/// PostgreSQL as another user than the one who mounted: a cluster with checksums, pgbench, an immediate stop
/// (its own crash recovery), the daemon killed, and every page's checksum verified.
#[test]
fn postgresql_runs_and_recovers() {
    let (home, _) = Home::with_archive("laptop");
    open_to_all(&home);
    let drive = Drive::mount(&home, &["--allow-other"]);
    let cluster = Cluster::new(&drive.current("cluster"), &home.path("sockets"));
    cluster.run("initdb", &["--data-checksums", "-U", "test", "-D"]);
    cluster.start();
    cluster.run("createdb", &["bench"]);
    cluster.run("pgbench", &["-q", "-i", "-s", "2", "bench"]);
    cluster.run("pgbench", &["-c", "4", "-T", "5", "bench"]);
    let before = cluster.count_history();
    assert!(before > 0, "pgbench has done nothing");
    cluster.stop("immediate");
    drive.kill();

    let drive = Drive::mount(&home, &["--allow-other"]);
    cluster.start();
    assert_eq!(cluster.count_history(), before, "a transaction is lost");
    cluster.stop("fast");
    cluster.run("pg_checksums", &["--check", "-D"]);
    drive.unmount();
}

/// Somebody else has to come through the temporary folder.
fn open_to_all(home: &Home) {
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(home.path(""), open).expect("chmod");
}

/// A PostgreSQL that listens on a socket of its own; stopped whatever happens.
struct Cluster {
    data: PathBuf,
    sockets: PathBuf,
    programs: PathBuf,
    user: u32,
}

impl Cluster {
    fn new(data: &Path, sockets: &Path) -> Cluster {
        // PostgreSQL refuses root: nobody it is.
        let own = rustix::process::getuid().as_raw();
        let user = if own == 0 { 65_534 } else { own };
        for folder in [data, sockets] {
            fs::create_dir(folder).expect("made");
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs::set_permissions(folder, private).expect("chmod");
            std::os::unix::fs::chown(folder, Some(user), None).expect("chown");
        }
        Cluster {
            data: data.to_owned(),
            sockets: sockets.to_owned(),
            programs: newest_postgresql(),
            user,
        }
    }

    /// Runs a program of PostgreSQL; the data folder follows an argument `-D` at the end.
    #[track_caller]
    fn run(&self, name: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(self.programs.join(name));
        command
            .args(arguments)
            .current_dir(&self.sockets)
            .env("PGHOST", &self.sockets)
            .env("PGUSER", "test")
            .env("LC_ALL", "C")
            .uid(self.user);
        if arguments.last() == Some(&"-D") {
            command.arg(&self.data);
        }
        let output = command.output().expect("PostgreSQL can be started");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{name} {arguments:?}: {said}{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            fs::read_to_string(self.sockets.join("log")).unwrap_or_default()
        );
        said
    }

    fn start(&self) {
        let options = format!("-k {} -c listen_addresses=", self.sockets.display());
        let log = self.sockets.join("log");
        // The server must not keep the pipe that this process reads to its end.
        self.run(
            "pg_ctl",
            &["start", "-w", "-l", text(&log), "-o", &options, "-D"],
        );
    }

    fn stop(&self, mode: &str) {
        self.run("pg_ctl", &["stop", "-w", "-m", mode, "-D"]);
    }

    fn count_history(&self) -> u64 {
        let count = self.run(
            "psql",
            &["-At", "-c", "select count(*) from pgbench_history", "bench"],
        );
        count.trim().parse().expect("a number")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // By the process id that it has written down, if it still runs.
        let file = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let pid = file.lines().next().and_then(|line| line.parse().ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
    }
}

fn newest_postgresql() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = versions
        .filter_map(|entry| {
            let folder = entry.ok()?.path();
            let version: u32 = folder.file_name()?.to_str()?.parse().ok()?;
            let programs = folder.join("bin");
            programs
                .join("initdb")
                .exists()
                .then_some((version, programs))
        })
        .max();
    newest
        .map(|(_, programs)| programs)
        .expect("there is no PostgreSQL; install it with: apt-get install postgresql")
}

/// `rsync -aHAXS --numeric-ids`: the second time it transfers nothing and changes nothing, also after the daemon
/// was killed, and the copy is the same in everything.
#[test]
fn a_second_rsync_transfers_nothing() {
    let (home, _) = Home::with_archive("laptop");
    let source = tree_with_acls(&home);
    let drive = home.mount();
    let copy = drive.current("copy");
    let rsync = || {
        let from = format!("{}/", source.display());
        commands::ok(
            "rsync",
            &["-aHAXS", "--numeric-ids", "-i", &from, text(&copy)],
        )
    };
    assert!(rsync().contains(">f+++++++++"), "the first one copies");
    assert_eq!(rsync(), "");
    drive.kill();
    let drive = home.mount();
    assert_eq!(rsync(), "");
    assert_same(&source, &copy, Strictness::Everything);
    drive.unmount();
}

/// tar with extended attributes and ACLs: out of an archive into the drive, and back out of a snapshot into an
/// archive with the same content.
#[test]
fn tar_keeps_attributes_and_acls() {
    let (home, _) = Home::with_archive("laptop");
    let source = tree_with_acls(&home);
    // tar leaves sockets out.
    fs::remove_file(source.join("socket")).expect("removed");
    let archive = home.path("archive.tar");
    pack(&source, &archive);
    let drive = home.mount();
    let copy = drive.current("copy");
    fs::create_dir(&copy).expect("made");
    unpack(&archive, &copy);
    assert_same(&source, &copy, Strictness::Everything);
    assert_eq!(acls(&source), acls(&copy));
    home.ok(&["snapshot", "one"]);
    let snapshot = drive.snapshot("laptop", "one").join("copy");
    assert_eq!(acls(&source), acls(&snapshot));
    let again = home.path("again.tar");
    pack(&snapshot, &again);
    let (listed, second) = (list(&archive), list(&again));
    assert!(listed.lines().count() > 20, "{listed}");
    assert_eq!(listed, second);
    let out = home.path("out");
    fs::create_dir(&out).expect("made");
    unpack(&again, &out);
    assert_same(&source, &out, Strictness::Everything);
    drive.unmount();
}

fn tree_with_acls(home: &Home) -> PathBuf {
    let source = home.path("source");
    trees::every_kind(&source);
    trees::sources(&source.join("many"), 5, 20);
    let acl = |arguments: &[&str]| commands::ok("setfacl", arguments);
    let (file, folder) = (source.join("folder/text"), source.join("many"));
    acl(&["-m", "u:1:rw,g:2:r,m::rwx", text(&file)]);
    acl(&["-d", "-m", "u:1:rwx", text(&folder)]);
    acl(&["-m", "u:3:x", text(&folder)]);
    // rsync takes times within one second for the same: what is copied now must differ by more.
    let old = [
        "-depth",
        "-exec",
        "touch",
        "-h",
        "-d",
        "@1500000000.123456789",
        "{}",
        "+",
    ];
    commands::ok("find", &[&[text(&source)], &old[..]].concat());
    source
}

const TAR_KEEPS: [&str; 5] = [
    "--xattrs",
    "--xattrs-include=*",
    "--acls",
    "--numeric-owner",
    "-S",
];

fn pack(folder: &Path, archive: &Path) {
    let what = [
        "-cf",
        text(archive),
        "--sort=name",
        "--format=posix",
        "-C",
        text(folder),
        ".",
    ];
    commands::ok("tar", &[&TAR_KEEPS[..], &what].concat());
}

fn unpack(archive: &Path, folder: &Path) {
    let what = ["-xpf", text(archive), "--same-owner", "-C", text(folder)];
    commands::ok("tar", &[&TAR_KEEPS[..], &what].concat());
}

fn list(archive: &Path) -> String {
    let what = ["-tvvf", text(archive), "--full-time"];
    let listed = commands::ok("tar", &[&TAR_KEEPS[..], &what].concat());
    // The attributes of a file have no order.
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn acls(folder: &Path) -> String {
    let output = Command::new("getfacl")
        .args(["-R", "-n", "-P", "--skip-base", "."])
        .current_dir(folder)
        .output()
        .expect("getfacl can be started; install it with: apt-get install acl");
    let told = String::from_utf8_lossy(&output.stdout);
    // Files come in the order of the folder.
    let mut files: Vec<&str> = told.trim().split("\n\n").collect();
    files.sort_unstable();
    files.join("\n\n")
}
