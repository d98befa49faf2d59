//! systemd's units and the helper of mount(8), as far as a machine without a running systemd shows.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use holdfast_tests::home::text;
use holdfast_tests::{Home, holdfast, program};

fn installed() -> PathBuf {
    holdfast_tests::tests_folder().join("../fs/systemd")
}

/// A unit with the binary of this build in place of the installed one.
fn unit(name: &str) -> String {
    let unit = fs::read_to_string(installed().join(name)).expect("the unit");
    unit.replace("/usr/bin/holdfast", text(&holdfast()))
}

/// The words of a command of a unit, with these specifiers filled in.
fn words(unit: &str, key: &str, specifiers: &[(&str, &str)]) -> Vec<String> {
    let line = unit.lines().find_map(|line| line.strip_prefix(key));
    let line = line.expect("the unit has the key").to_owned();
    let filled = specifiers
        .iter()
        .fold(line, |line, (from, to)| line.replace(from, to));
    filled.split_whitespace().map(str::to_owned).collect()
}

/// systemd takes both units as they are.
#[test]
fn systemd_takes_the_units() {
    let analyze = program("systemd-analyze", "apt-get install systemd");
    let home = Home::new();
    for (scope, name) in [
        ("--user", "holdfast.service"),
        ("--system", "holdfast@.service"),
    ] {
        let file = home.path(name);
        fs::write(&file, unit(name)).expect("written");
        let output = Command::new(&analyze)
            .args([scope, "--man=no", "verify", text(&file)])
            .env("XDG_RUNTIME_DIR", home.path(""))
            .output()
            .expect("systemd-analyze can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
    }
}

/// What the user's unit starts and stops: the drive is there when the start returns, and everything is stored when
/// the stop does.
#[test]
fn the_user_unit_mounts_and_unmounts() {
    let (home, _) = Home::with_archive("laptop");
    let unit = unit("holdfast.service");
    let user = home.path("");
    let specifiers = [("%h", text(&user).trim_end_matches('/'))];
    for key in ["ExecStartPre=", "ExecStart="] {
        run(&home, &words(&unit, key, &specifiers));
    }
    fs::write(home.path("drive/current/file"), "content").expect("mounted");
    run(&home, &words(&unit, "ExecStop=", &specifiers));
    assert!(!home.path("drive/current").exists(), "unmounted");
    assert_eq!(home.ok(&["cat", "latest:file"]), "content");
}

fn run(home: &Home, words: &[String]) {
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .env("HOLDFAST_HOME", home.holdfast_home());
    // The daemon inherits the output: nobody must wait for its end.
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let status = command.status().expect("started");
    assert!(status.success(), "{words:?}: {status}");
}

/// The helper mounts a home with the options of an fstab line, passes over mount's own, and refuses others.
#[test]
fn the_fstab_helper_mounts() {
    let (home, _) = Home::with_archive("laptop");
    let folder = home.path("drive");
    fs::create_dir(&folder).expect("made");
    let helper = |options: &str| {
        Command::new(installed().join("mount.holdfast"))
            .args([
                text(&home.holdfast_home()),
                text(&folder),
                "-n",
                "-o",
                options,
            ])
            .env("HOLDFAST_BINARY", holdfast())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .expect("the helper can be started")
    };
    assert!(
        !helper("rw,noatime_for_ever").success(),
        "an unknown option is refused"
    );
    assert!(!folder.join("current").exists());
    assert!(helper("rw,_netdev,nofail,limit_upload=50M,x-systemd.automount").success());
    fs::write(folder.join("current/file"), "content").expect("mounted");
    home.ok(&["unmount", text(&folder)]);
}
