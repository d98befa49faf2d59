//! Every tool in turn, round by round.
//!
//! What a tool makes stays until the round ends, under its own name: removing it before the next one's
//! turn would slow down how that one makes files ([`Scratch::begin_round`]).

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use crate::bucket::Bucket;
use crate::children::{Children, Usage};
use crate::data::{self, Contents};
use crate::scratch::{ROUND, Scratch};
use crate::tools::{Kind, Place, Step, Tool};

/// What is run.
pub struct Plan<'a> {
    /// What is backed up.
    pub folder: &'a Path,
    /// What is in it.
    pub contents: Contents,
    /// How often.
    pub runs: u32,
    /// The program of the server with a bucket for each turn; without it archives are in folders.
    pub weed: Option<PathBuf>,
}

/// Of every tool at the end of a round: its archive, what it restored, its home with the cache.
const COPIES: u64 = 3;

impl Plan<'_> {
    /// Room that the rounds take on the disk, about.
    pub fn needed_bytes(&self, tools: &[Tool]) -> u64 {
        self.contents.bytes * COPIES * tools.len() as u64
    }
}

/// Everything that was measured of one tool, one entry a round.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// Which.
    pub kind: Kind,
    /// What it says of itself.
    pub version: String,
    /// Into an empty archive.
    pub first: Vec<Usage>,
    /// Again, nothing changed.
    pub again: Vec<Usage>,
    /// Out of it.
    pub restore: Vec<Usage>,
    /// Bytes of the archive after both.
    pub archive_bytes: Vec<u64>,
}

/// Runs all rounds.
pub fn run(
    plan: &Plan<'_>,
    tools: &[Tool],
    children: &Children,
    scratch: &Scratch,
) -> anyhow::Result<Vec<Measured>> {
    let mut all: Vec<Measured> = tools.iter().map(Measured::nothing_yet).collect();
    for round in 0..plan.runs {
        scratch.begin_round(children)?;
        for at in 0..tools.len() {
            // Each round starts with another one: nobody always comes after the same.
            let at = (at + round as usize) % tools.len();
            let tool = &tools[at];
            eprintln!("round {} of {}: {}", round + 1, plan.runs, tool.kind.name());
            one_turn(plan, tool, children, scratch, &mut all[at])
                .with_context(|| tool.kind.name())?;
        }
        scratch.end_round()?;
    }
    Ok(all)
}

fn one_turn(
    plan: &Plan<'_>,
    tool: &Tool,
    children: &Children,
    scratch: &Scratch,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let fresh = |name| scratch.fresh(&format!("{ROUND}/{}/{name}", tool.kind.word()));
    let place = Place {
        home: fresh("home")?,
        archive: fresh("archive")?,
        target: fresh("target")?,
        folder: plan.folder.to_owned(),
        bucket: match &plan.weed {
            Some(weed) => Some(Bucket::start(weed, &fresh("bucket")?, children)?),
            None => None,
        },
    };
    let log = scratch.path("output");
    if let Some(mut command) = tool.prepare(&place)? {
        children.run(&mut command, &log)?;
    }
    let run = |step| -> anyhow::Result<Option<Usage>> {
        let Some(mut command) = tool.step(step, &place) else {
            return Ok(None);
        };
        scratch.settle()?;
        children.run(&mut command, &log).map(Some)
    };
    measured.first.extend(run(Step::First)?);
    measured.again.extend(run(Step::Again)?);
    measured.archive_bytes.push(match &place.bucket {
        Some(bucket) => bucket.stored_bytes()?,
        None => data::contents(&place.archive)?.bytes,
    });
    measured.restore.extend(run(Step::Restore)?);
    let restored = data::contents(&place.target)?;
    anyhow::ensure!(
        restored == plan.contents,
        "it restored {} files with {} bytes of {} with {}; or the folder was changed meanwhile",
        restored.files,
        restored.bytes,
        plan.contents.files,
        plan.contents.bytes,
    );
    Ok(())
}

impl Measured {
    fn nothing_yet(tool: &Tool) -> Measured {
        Measured {
            kind: tool.kind,
            version: tool.version.clone(),
            first: Vec::new(),
            again: Vec::new(),
            restore: Vec::new(),
            archive_bytes: Vec::new(),
        }
    }
}
