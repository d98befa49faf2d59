//! A keystore that runs, and people with credentials of their own: the real program on both ends.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::home::{Run, text};

/// Who holds the shares, share 1 first.
pub const HOLDERS: [&str; 5] = ["alice", "bob", "carol", "dave", "eve"];

/// A server with a data folder of its own, and a folder for what people keep.
pub struct Keystore {
    folder: TempDir,
    running: Option<Child>,
    /// Of the server's process only.
    variables: Vec<(String, String)>,
    url: String,
    fingerprint: String,
}

impl Keystore {
    /// A server that was never initialised, and logs everything.
    pub fn start() -> Keystore {
        Keystore::start_on(0, "", &[])
    }

    /// The same on a port that stays the same when it is started again, with more configuration and variables.
    pub fn start_on(port: u16, more: &str, variables: &[(String, String)]) -> Keystore {
        let folder = tempfile::Builder::new()
            .prefix("holdfast-test-")
            .tempdir()
            .expect("a temporary folder");
        let mut keystore = Keystore {
            folder,
            running: None,
            variables: variables.to_vec(),
            url: String::new(),
            fingerprint: String::new(),
        };
        // Tests enter more shares than a person does.
        let configuration = format!(
            "data = {:?}\nlisten = \"127.0.0.1:{port}\"\n{more}\n[limits]\nshares_per_person = 1000\nshares_per_address = 1000\nfailures_per_address = 1000\nlogins_per_user = 1000\nlogins_per_address = 1000\n",
            keystore.data()
        );
        fs::write(keystore.path("keystore.toml"), configuration).expect("written");
        keystore.run();
        keystore
    }

    /// The same with five people let in.
    pub fn with_people() -> Keystore {
        let keystore = Keystore::start();
        for name in HOLDERS {
            keystore.add(name, "holder");
        }
        keystore
    }

    /// The same, initialised so that three shares open it; gives them.
    pub fn initialised() -> (Keystore, Vec<String>) {
        let keystore = Keystore::with_people();
        let shares = keystore.init();
        (keystore, shares)
    }

    /// Starts the server on its data folder.
    pub fn run(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("serve.log"))
            .expect("a log");
        let mut child = Command::new(program())
            .args(["--json", "--log-level", "trace", "serve", "--config"])
            .arg(self.path("keystore.toml"))
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server is started");
        let out = child.stdout.take().expect("it was piped");
        self.running = Some(child);
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).expect("read");
        let told: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the server does not run:\n{}", self.log()));
        let address = told["listen"].as_str().expect("an address");
        let port = address.rsplit(':').next().expect("a port");
        self.url = format!("https://localhost:{port}");
        let fingerprint = told["certificate_sha256"].as_str();
        self.fingerprint = fingerprint.expect("a fingerprint").to_owned();
    }

    /// Ends the server as a service manager does.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let pid = Pid::from_child(&child);
            let _ = rustix::process::kill_process(pid, Signal::TERM);
            child.wait().expect("it ends");
        }
    }

    /// Of the server's process.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("it runs").id()
    }

    /// Below the folder of what people keep.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The server's data folder.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("serve.log")).unwrap_or_default()
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// SHA-256 of the server's certificate.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A person's credential.
    pub fn credential(&self, name: &str) -> PathBuf {
        match name {
            "first-operator" => self.data().join("first-operator.pem"),
            name => self.path(&format!("{name}.pem")),
        }
    }

    /// A command of somebody, with what is typed on standard input.
    pub fn command(&self, who: &str, arguments: &[&str], typed: &str) -> Run {
        self.command_with(&self.credential(who), arguments, typed)
    }

    /// The same with a credential from elsewhere.
    pub fn command_with(&self, credential: &Path, arguments: &[&str], typed: &str) -> Run {
        // A file, so that nothing waits for a command that does not read.
        let input = self.path("typed");
        fs::write(&input, typed).expect("written");
        let output = Command::new(program())
            .args(["--server", &self.url, "--identity", text(credential)])
            .args(arguments)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .stdin(File::open(&input).expect("opened"))
            .output()
            .expect("the command is started");
        fs::remove_file(&input).expect("removed");
        Run::of(output)
    }

    /// An operator's command that must succeed; gives its JSON.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> Value {
        self.ok_as("first-operator", arguments, "")
    }

    /// Somebody's command that must succeed; gives its JSON.
    #[track_caller]
    pub fn ok_as(&self, who: &str, arguments: &[&str], typed: &str) -> Value {
        let arguments = [&["--json"], arguments].concat();
        let run = self.command(who, &arguments, typed);
        assert_eq!(run.code, 0, "{arguments:?} of {who}: {}", run.err);
        serde_json::from_str(&run.out).expect("one JSON document")
    }

    /// Somebody's command that must fail; gives its sentence.
    #[track_caller]
    pub fn refused(&self, who: &str, arguments: &[&str], typed: &str) -> String {
        let run = self.command(who, arguments, typed);
        assert_eq!(
            run.code, 1,
            "{arguments:?} of {who}: {}{}",
            run.out, run.err
        );
        assert_eq!(
            run.err.trim().lines().count(),
            1,
            "one sentence: {}",
            run.err
        );
        run.err.trim().to_owned()
    }

    /// Lets somebody in.
    #[track_caller]
    pub fn add(&self, name: &str, role: &str) {
        self.ok(&["operator", "add", name, "--role", role]);
    }

    /// Three shares of five open it from now on.
    #[track_caller]
    pub fn init(&self) -> Vec<String> {
        let told = self.ok(&handing_out(&["init"]));
        shares(&told)
    }

    /// New shares for the same people.
    #[track_caller]
    pub fn reshare(&self) -> Vec<String> {
        let told = self.ok(&handing_out(&["reshare", "start"]));
        shares(&told)
    }

    /// All of the new shares are entered, and three holders of old ones agree.
    #[track_caller]
    pub fn reshared(&self, old: &[String], new: &[String]) {
        let enter = |number, shares| self.enter(&["reshare", "enter"], number, shares);
        (1..=3).for_each(|number| drop(enter(number, old)));
        (1..=4).for_each(|number| drop(enter(number, new)));
        assert_eq!(enter(5, new)["outcome"], "reshared");
    }

    /// Enters a share over its holder's certificate; it must count.
    #[track_caller]
    pub fn enter(&self, ceremony: &[&str], number: usize, shares: &[String]) -> Value {
        let arguments = [ceremony, &["--share-file", "-"]].concat();
        self.ok_as(HOLDERS[number - 1], &arguments, &shares[number - 1])
    }

    /// Opens it with three shares.
    #[track_caller]
    pub fn unseal(&self, numbers: [usize; 3], shares: &[String]) {
        self.ok(&["unseal", "--start"]);
        let outcomes = numbers.map(|number| {
            let told = self.enter(&["unseal"], number, shares);
            told["outcome"].as_str().expect("an outcome").to_owned()
        });
        assert_eq!(outcomes, ["waiting", "waiting", "unsealed"]);
    }

    /// `sealed`, `unsealed` or `uninitialised`.
    #[track_caller]
    pub fn phase(&self) -> String {
        let status = self.ok(&["status"]);
        status["phase"].as_str().expect("a phase").to_owned()
    }
}

impl Drop for Keystore {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn handing_out<'a>(command: &[&'a str]) -> Vec<&'a str> {
    let holders = HOLDERS.iter().flat_map(|name| ["--holder", name]);
    command.iter().copied().chain(holders).collect()
}

fn shares(told: &Value) -> Vec<String> {
    let shares = told["shares"].as_array().expect("shares");
    let share = |share: &Value| share["share"].as_str().expect("in the clear").to_owned();
    shares.iter().map(share).collect()
}

/// The binary of this build.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let binary = test
        .ancestors()
        .nth(2)
        .expect("a test lies in target/PROFILE/deps")
        .join("holdfast-keystore");
    assert!(
        binary.exists(),
        "{} is not built; run: cargo build --release -p holdfast-keystore (make test does it)",
        binary.display()
    );
    binary
}
