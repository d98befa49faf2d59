//! Commands around the drive: backup through the daemon, schedules, automatic snapshots, help for shells.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use holdfast_tests::compare::{Strictness, assert_same};
use holdfast_tests::home::text;
use holdfast_tests::{Home, trees};
use serde_json::Value;

fn snapshots(home: &Home) -> Vec<Value> {
    let listed = home.json(&["snapshots"]);
    listed["snapshots"].as_array().expect("a list").clone()
}

/// While the drive is mounted `backup` works through the daemon: what it brings in is there at once, and
/// what is gone from the source goes; a folder that cannot be read is named, the rest is kept, exit code 3.
#[test]
fn a_backup_of_a_mounted_drive() {
    let (home, _) = Home::with_archive("laptop");
    let source = home.path("source");
    trees::sources(&source, 3, 10);
    // What was changed within the last step of the kernel's clock is read again the next time, to be sure.
    std::thread::sleep(Duration::from_millis(100));
    let drive = home.mount();
    fs::write(drive.current("by hand"), "stays").expect("written");
    let told = home.json(&["backup", text(&source), "--to", "in"]);
    assert_eq!(told["files"], 30);
    assert_same(&source, &drive.current("in/source"), Strictness::Everything);
    let snapshot = told["snapshot"].as_str().expect("its name");
    let folder = drive.snapshot("laptop", snapshot).join("in/source");
    assert_same(&source, &folder, Strictness::Everything);

    fs::remove_dir_all(source.join("folder-0001")).expect("removed");
    let told = home.json(&["backup", text(&source), "--to", "in"]);
    assert_eq!(
        (&told["unchanged"], &told["read_bytes"]),
        (&20.into(), &0.into())
    );
    assert!(!drive.current("in/source/folder-0001").exists());
    assert_eq!(
        fs::read_to_string(drive.current("by hand")).expect("there"),
        "stays"
    );

    // Nobody may read it, not even root.
    let closed = "/proc/sys/vm/compact_memory";
    let run = home.run(["backup", closed, text(&source), "--to", "in"]);
    assert_eq!(run.code, 3, "{}{}", run.out, run.err);
    let told = format!("{}{}", run.out, run.err);
    assert!(
        told.contains(&format!("{closed}: Permission denied")),
        "{told}"
    );
    assert_same(&source, &drive.current("in/source"), Strictness::Everything);
    drive.unmount();
}

/// Two snapshots of one second have two names, and each command tells the right one.
#[test]
fn names_that_are_told_can_be_used() {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    let mut told = Vec::new();
    for number in 0..4 {
        fs::write(drive.current("number"), number.to_string()).expect("written");
        told.push(home.ok(&["snapshot"]));
    }
    for (number, name) in told.iter().enumerate() {
        assert_eq!(
            home.ok(&["cat", &format!("{name}:number")]),
            number.to_string()
        );
        let mounted = drive.snapshot("laptop", name).join("number");
        assert_eq!(
            fs::read_to_string(mounted).expect("read"),
            number.to_string()
        );
    }
    drive.unmount();
}

fn set_snapshots(home: &Home, text: &str) {
    let path = home.holdfast_home().join("config.toml");
    let settings = fs::read_to_string(&path).expect("the settings");
    let (before, rest) = settings.split_once("[snapshots]").expect("a section");
    let rest = rest.find("\n[").map_or("", |next| &rest[next..]);
    fs::write(&path, format!("{before}[snapshots]\n{text}\n{rest}")).expect("written");
}

/// A snapshot is taken after the interval if something has changed, and at unmount; not when nothing has,
/// and not when they are switched off.
#[test]
fn snapshots_are_taken_by_themselves() {
    let (home, _) = Home::with_archive("laptop");
    set_snapshots(&home, "automatic = true\ninterval_minutes = 1");
    let drive = home.mount();
    fs::write(drive.current("file"), "one").expect("written");
    let until = Instant::now() + Duration::from_secs(100);
    while snapshots(&home).is_empty() {
        assert!(Instant::now() < until, "no snapshot within a minute");
        sleep(Duration::from_secs(1));
    }
    fs::write(drive.current("file"), "two").expect("written");
    drive.unmount();
    assert_eq!(snapshots(&home).len(), 2, "one more at unmount");
    assert_eq!(home.ok(&["cat", "latest:file"]), "two");

    let drive = home.mount();
    assert_eq!(
        fs::read_to_string(drive.current("file")).expect("read"),
        "two"
    );
    drive.unmount();
    assert_eq!(snapshots(&home).len(), 2, "nothing has changed");

    set_snapshots(&home, "automatic = false");
    let drive = home.mount();
    fs::write(drive.current("file"), "three").expect("written");
    drive.unmount();
    assert_eq!(snapshots(&home).len(), 2, "switched off");
    let drive = home.mount();
    assert_eq!(
        fs::read_to_string(drive.current("file")).expect("read"),
        "three"
    );
    drive.unmount();
}

/// `schedule` writes a service and a timer; `status` warns, with an exit code, when a backup is overdue.
#[test]
fn a_schedule_that_is_missed_is_told() {
    let (mut home, _) = Home::with_archive("laptop");
    let config = home.path("config");
    home.set("XDG_CONFIG_HOME", text(&config));
    let source = home.path("my files");
    trees::sources(&source, 1, 2);
    home.ok(&[
        "schedule",
        text(&source),
        "--every",
        "hour",
        "--exclude",
        "*.o",
    ]);
    let units = config.join("systemd/user");
    let service = fs::read_to_string(units.join("holdfast-backup.service")).expect("a service");
    assert!(
        service.contains("backup --exclude") && service.contains("my files"),
        "{service}"
    );
    assert!(units.join("holdfast-backup.timer").exists());
    assert_eq!(home.run(["status"]).code, 0);

    let state = home.holdfast_home().join("state/schedule.json");
    let mut plan: Value =
        serde_json::from_slice(&fs::read(&state).expect("the plan")).expect("JSON");
    plan["since"] = 1_000_000.into();
    fs::write(&state, plan.to_string()).expect("written");
    let late = home.run(["status"]);
    assert_ne!(late.code, 0, "{}", late.out);
    assert!(
        format!("{}{}", late.out, late.err).contains("overdue"),
        "{}{}",
        late.out,
        late.err
    );
    home.ok(&["backup", text(&source)]);
    home.ok(&["schedule", "--ran"]);
    assert_eq!(home.run(["status"]).code, 0);
    home.ok(&["schedule", "--remove"]);
    assert!(!units.join("holdfast-backup.timer").exists());
}

/// Completions that the shell can parse, and a manual page for every command.
#[test]
fn completions_and_manual() {
    let home = Home::new();
    let bash = home.ok(&["completions", "bash"]);
    let script = home.path("completions.bash");
    fs::write(&script, &bash).expect("written");
    let parsed = Command::new("bash").arg("-n").arg(&script).output();
    assert!(parsed.expect("bash").status.success());
    for shell in ["zsh", "fish"] {
        assert!(home.ok(&["completions", shell]).contains("holdfast"));
    }
    let pages = home.path("pages");
    fs::create_dir(&pages).expect("made");
    home.ok(&["man", text(&pages)]);
    for page in ["holdfast.1", "holdfast-restore.1", "holdfast-compact.1"] {
        let page = fs::read_to_string(pages.join(page)).expect("a page");
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
}

/// The key file and the folders with state are the user's alone.
#[test]
fn key_and_state_are_closed_to_others() {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    drive.unmount();
    let mode = |name: &str| {
        let path = home.holdfast_home().join(name);
        fs::metadata(path).expect("there").permissions().mode() & 0o077
    };
    for name in ["key", "state", "state/daemon.log", "cache"] {
        assert_eq!(mode(name), 0, "{name} is open to others");
    }
}
