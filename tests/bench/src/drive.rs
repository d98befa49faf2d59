//! Holdfast's drive as the benchmarks use it: the program with a home of its own, mounted on a folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::bail;
use rustix::process::Pid;

use crate::scratch::{Mounted, take_away};

/// The program and its home.
pub struct Drive<'a> {
    /// The program.
    pub program: &'a Path,
    /// With its configuration and cache.
    pub home: PathBuf,
}

impl Drive<'_> {
    /// A command of the program.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.env("HOLDFAST_HOME", &self.home).args(words);
        command
    }

    /// Mounts it on an empty folder.
    pub fn mount(&self, folder: &Path) -> anyhow::Result<Mounted> {
        let mut command = self.command(&["mount", "--json"]);
        let output = command.arg(folder).stdin(Stdio::null()).output()?;
        let told: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
        let pid = told.and_then(|told| Pid::from_raw(told["pid"].as_i64()? as i32));
        let Some(daemon) = pid else {
            // It may have been ended in the middle: a daemon that nobody has heard of ends with its mount.
            take_away(folder);
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        };
        Ok(Mounted {
            folder: folder.to_owned(),
            daemon,
        })
    }
}

/// Empties the cache of a tool that is not running, by moving it away: no inode is freed.
pub fn empty_cache(home: &Path) -> anyhow::Result<()> {
    Ok(std::fs::rename(
        home.join("cache"),
        home.join("cache-before"),
    )?)
}
