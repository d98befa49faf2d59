//! Where the program's log goes: to standard error in the foreground, to the journal or a file in a daemon.
//!
//! Never a key, never plaintext; names of files at debug only.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// Where to.
pub enum Target<'a> {
    /// Standard error, for a person.
    Terminal,
    /// The journal where there is one, else this file.
    Daemon(&'a Path),
}

/// Starts logging; once a process. A filter that cannot be understood is the caller's mistake.
pub fn start(target: &Target<'_>, level: Option<&str>) -> io::Result<()> {
    let default = match target {
        Target::Terminal => "warn",
        Target::Daemon(_) => "info",
    };
    let default = format!("{default},{}", crate::fuse::LOG_FILTER);
    let filter = EnvFilter::try_new(level.unwrap_or(&default)).map_err(io::Error::other)?;
    let layer = match target {
        Target::Terminal => fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
        Target::Daemon(file) => match journal() {
            Some(journal) => journal.boxed(),
            None => fmt::layer()
                .with_writer(open(file)?)
                .with_ansi(false)
                .boxed(),
        },
    };
    // A second start (tests in one process) keeps the first.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init();
    Ok(())
}

/// The journal, for a service of systemd: it has set this variable.
fn journal() -> Option<tracing_journald::Layer> {
    std::env::var_os("JOURNAL_STREAM")?;
    tracing_journald::layer().ok()
}

fn open(file: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(file)
}
