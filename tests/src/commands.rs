//! Other programs that tests use as a user would.

use std::path::Path;
use std::process::Command;

use crate::home::text;

/// Runs a program that must succeed; gives its standard output.
#[track_caller]
pub fn ok(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `cp -a`: everything that a file has.
#[track_caller]
pub fn copy(from: &Path, to: &Path) {
    ok("cp", &["-a", "--", text(from), text(to)]);
}
