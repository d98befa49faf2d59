//! The real binary's commands, as a person types them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::TestServer;

/// A folder in which commands are typed, by somebody who has nothing in the home folder.
pub struct Terminal {
    folder: TempDir,
    /// What names server and credential.
    options: Vec<String>,
}

impl Terminal {
    /// Of somebody who has no credential, and no server.
    pub fn offline() -> Terminal {
        Terminal::at("https://127.0.0.1:1", Path::new("nothing.pem"))
    }

    /// The first operator's.
    pub fn of_operator(server: &TestServer) -> Terminal {
        Terminal::at(&server.url(), &server.data().join("first-operator.pem"))
    }

    pub fn at(server: &str, credential: &Path) -> Terminal {
        let credential = credential.to_str().unwrap();
        let options = ["--server", server, "--identity", credential];
        Terminal {
            folder: tempfile::tempdir().unwrap(),
            options: options.map(str::to_owned).to_vec(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_holdfast-keystore"))
            .args(&self.options)
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What it says to a person.
    #[track_caller]
    pub fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        assert_eq!(error, "", "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says to a program.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = self.says(&[arguments, &["--json"]].concat());
        assert_eq!(said.lines().count(), 1, "{said}");
        serde_json::from_str(&said).unwrap()
    }

    /// The one sentence with which it refuses.
    #[track_caller]
    pub fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert_eq!(said.lines().count(), 1, "not one sentence: {said}");
        said
    }

    /// What is no command at all: the usage is told.
    #[track_caller]
    pub fn does_not_take(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        said
    }
}

/// Nobody but its owner reads it.
#[track_caller]
pub fn is_private(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{}", file.display());
}
