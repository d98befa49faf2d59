//! `audit`: reads and checks the log of what was done.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use clap::Subcommand;

use super::answer::{Answer, Good};
use super::connection::Connection;
use crate::api::audit::{AuditReport, AuditTail};
use crate::audit::{Head, verify};

/// What can be done with the log.
#[derive(Subcommand)]
pub enum Audit {
    /// Walk the whole log and name the first line that was changed, is missing or was moved
    Verify {
        /// A copy of the log; without it, the server walks its own
        file: Option<PathBuf>,
        /// A line that was kept elsewhere, as NUMBER:SHA256; the file must have it
        #[arg(long, value_name = "NUMBER:SHA256", requires = "file")]
        head: Option<KnownHead>,
    },
    /// Print the last lines
    Tail {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        lines: u32,
    },
}

/// A line that was kept elsewhere.
#[derive(Clone, Copy)]
pub struct KnownHead(Head);

impl FromStr for KnownHead {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (sequence, hash) = text.split_once(':')?;
            let sequence = sequence.parse().ok()?;
            let hash = hash.parse().ok()?;
            Some(KnownHead(Head { sequence, hash }))
        };
        read().ok_or_else(|| "write the line's number, a colon and its SHA-256".to_owned())
    }
}

impl Audit {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<Answer> {
        match self {
            Audit::Verify {
                file: Some(file),
                head,
            } => verify_file(&file, head.map(|known| known.0)),
            Audit::Verify { file: None, .. } => {
                let session = connection.open()?;
                told(session.client.get("/v1/audit/verify").await?)
            }
            Audit::Tail { lines } => tail(lines, connection).await,
        }
    }
}

fn verify_file(file: &Path, known: Option<Head>) -> anyhow::Result<Answer> {
    let report = verify::file(file, known)
        .with_context(|| format!("{} cannot be read; check the path", file.display()))?;
    told(AuditReport::from(report))
}

fn told(report: AuditReport) -> anyhow::Result<Answer> {
    let good = if report.good { Good::Yes } else { Good::No };
    let text = match good {
        Good::Yes => format!("{}; the last one is {}", report.sentence, report.head),
        Good::No => format!(
            "{}; {} lines before it are good: keep the file, and compare it with an outside copy",
            report.sentence, report.lines
        ),
    };
    Ok(Answer::new(text, &report)?.but(good))
}

async fn tail(lines: u32, connection: &Connection) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let path = format!("/v1/audit/tail?lines={lines}");
    let tail: AuditTail = session.client.get(&path).await?;
    let text: Vec<String> = tail.lines.iter().map(ToString::to_string).collect();
    Answer::new(text.join("\n"), &tail)
}
