//! The real binary: what it says, how it ends, and what the system may see of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-keystore"));
    command.arg("serve").args(arguments).stdin(Stdio::null());
    command
}

/// Starts it, and reads what it says first.
fn start(data: &Path) -> (Process, Value) {
    let mut child = serve(&[
        "--data",
        data.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--json",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    (Process(child), serde_json::from_str(&line).unwrap())
}

fn terminate(process: &mut Process) -> Option<i32> {
    let pid = rustix::process::Pid::from_child(&process.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if let Some(status) = process.0.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it did not end");
}

fn refused(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "not one sentence: {said}");
    said
}

#[test]
fn it_starts_with_a_data_folder_and_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (mut process, said) = start(&data);
    assert!(said["listen"].as_str().unwrap().starts_with("127.0.0.1:"));
    let first = said["certificate_sha256"].as_str().unwrap().to_owned();
    assert_eq!(first.len(), 64);
    assert!(Path::new(said["first_operator"].as_str().unwrap()).exists());
    assert_eq!(terminate(&mut process), Some(0));
    let log = fs::read_to_string(data.join("audit.log")).unwrap();
    assert!(
        log.trim_end().ends_with("\"event\":\"server_ending\"}"),
        "{log}"
    );
    // The same certificate again.
    let (mut process, said) = start(&data);
    assert_eq!(said["certificate_sha256"], first);
    assert_eq!(terminate(&mut process), Some(0));
}

/// No core dump, no debugger of the same user, no page in swap where the system lets us.
#[test]
fn the_process_keeps_its_memory_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (mut process, _) = start(&folder.path().join("data"));
    let pid = process.0.id();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(
        core.split_whitespace().collect::<Vec<_>>()[4..6],
        ["0", "0"],
        "{core}"
    );
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let locked = status
        .lines()
        .find(|line| line.starts_with("VmLck"))
        .unwrap();
    if rustix::process::geteuid().is_root() {
        assert_ne!(locked.split_whitespace().nth(1), Some("0"), "{locked}");
    }
    let _ = terminate(&mut process);
}

/// The kernel gives what belongs to a process that is not dumpable to root, out of the reach of the process's own user.
#[test]
fn the_process_is_not_dumpable() {
    use std::os::unix::fs::{MetadataExt, chown};
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("holdfast-keystore");
    fs::copy(env!("CARGO_BIN_EXE_holdfast-keystore"), &binary).unwrap();
    let mut command = Command::new(&binary);
    if rustix::process::geteuid().is_root() {
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    let data = folder.path().join("data");
    let mut child = command
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data",
            data.to_str().unwrap(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let mut process = Process(child);
    assert!(line.starts_with("listening on"), "{line}");
    let id = process.0.id();
    assert_ne!(fs::metadata(&data).unwrap().uid(), 0);
    for file in ["environ", "maps", "mem"] {
        assert_eq!(
            fs::metadata(format!("/proc/{id}/{file}")).unwrap().uid(),
            0,
            "{file}"
        );
    }
    assert_eq!(terminate(&mut process), Some(0));
}

/// A server that does not start says why in one sentence, and changes nothing.
#[test]
fn what_it_cannot_start_with_gets_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let said = refused(
        &serve(&["--config", &path("nothing.toml")])
            .output()
            .unwrap(),
    );
    assert!(
        said.contains("nothing.toml") && said.contains("check the path"),
        "{said}"
    );
    fs::write(path("bad.toml"), "data = 'x'\nlisen = 1\n").unwrap();
    let said = refused(&serve(&["--config", &path("bad.toml")]).output().unwrap());
    assert!(said.contains("unknown field `lisen`"), "{said}");
    fs::write(path("file"), "").unwrap();
    let said = refused(&serve(&["--data", &path("file")]).output().unwrap());
    assert!(said.contains("check the path"), "{said}");

    let data = path("data");
    let (mut process, said) = start(Path::new(&data));
    let address = said["listen"].as_str().unwrap();
    let second = serve(&["--data", &path("other"), "--listen", address])
        .output()
        .unwrap();
    let sentence = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(sentence.contains("choose another address"), "{sentence}");
    // A second server on the same data must not get at the database.
    let second = serve(&["--data", &data, "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let sentence = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(sentence.contains("another server"), "{sentence}");
    assert_eq!(terminate(&mut process), Some(0));

    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let said = refused(&serve(&["--data", &data]).output().unwrap());
    assert!(said.contains("chmod 700"), "{said}");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    let log = fs::read_to_string(path("data/audit.log")).unwrap();
    fs::write(
        path("data/audit.log"),
        log.replacen("server_started", "server_ending", 1),
    )
    .unwrap();
    let said = refused(&serve(&["--data", &data]).output().unwrap());
    assert!(said.contains("of the audit log was changed"), "{said}");
}

/// A configuration names its data folder, so there is no other beside it.
#[test]
fn a_configuration_and_a_data_folder_exclude_each_other() {
    let output = serve(&["--config", "a", "--data", "b"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--config"), "{said}");
}
