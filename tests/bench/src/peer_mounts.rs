//! `restic mount` and `rustic mount`: the big file read from the newest snapshot, out of the store.
//!
//! Setting up is not measured: an archive in a folder, one backup of the file, its cache emptied, mounted. restic needs the
//! program fusermount (Debian: fuse or fuse3); rustic has the command only where it was built with its feature `mount`.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::children::{Children, Usage};
use crate::drive::empty_cache;
use crate::mounts::{measure, read_file};
use crate::scratch::{Mounted, ROUND, Scratch};
use crate::tools::{Kind, Place, Step, Tool};

/// What reading through the mount of one peer took.
#[derive(Debug, Serialize)]
pub struct PeerMount {
    /// Which.
    pub kind: Kind,
    /// What it says of itself.
    pub version: String,
    /// One entry a round; none where it could not be mounted.
    pub read_big: Vec<Usage>,
    /// Why it could not.
    pub failure: Option<String>,
}

impl PeerMount {
    /// Nothing is measured yet; nothing at all of a tool that has no mount to compare with.
    pub fn of(tool: &Tool) -> Option<PeerMount> {
        matches!(tool.kind, Kind::Restic | Kind::Rustic).then(|| PeerMount {
            kind: tool.kind,
            version: tool.version.clone(),
            read_big: Vec::new(),
            failure: None,
        })
    }

    /// Once more. A peer that fails is not tried again, and no reason to end.
    pub fn one_turn(
        &mut self,
        tool: &Tool,
        big: &Path,
        children: &Children,
        scratch: &Scratch,
    ) -> anyhow::Result<()> {
        if self.failure.is_some() {
            return Ok(());
        }
        match read_from_snapshot(tool, big, children, scratch) {
            Ok(usage) => self.read_big.push(usage),
            Err(error) => {
                children.go_on()?;
                eprintln!("{} mount is left out: {error:#}", tool.kind.name());
                self.failure = Some(format!("{error:#}"));
            }
        }
        Ok(())
    }
}

fn read_from_snapshot(
    tool: &Tool,
    big: &Path,
    children: &Children,
    scratch: &Scratch,
) -> anyhow::Result<Usage> {
    let fresh = |name| scratch.fresh(&format!("{ROUND}/{}/{name}", tool.kind.word()));
    let folder = fresh("mounted")?;
    let log = scratch.path("output");
    let place = Place {
        home: fresh("home")?,
        archive: fresh("archive")?,
        target: folder.clone(),
        folder: big.to_owned(),
        bucket: None,
    };
    let commands = [tool.prepare(&place)?, tool.step(Step::First, &place)];
    for mut command in commands.into_iter().flatten() {
        children.run(&mut command, &log)?;
    }
    empty_cache(&place.home)?;
    let Some((mut command, root)) = tool.mount(&place) else {
        anyhow::bail!("it has no mount");
    };
    let mounted = Mounted::by(&mut command, &folder, children, &scratch.path("daemon"))?;
    let copy = root.join(big.strip_prefix("/").unwrap_or(big));
    let usage = measure(&mut read_file(&copy), Some(&mounted), children, scratch)?;
    let told = std::fs::metadata(&copy).with_context(|| copy.display().to_string())?;
    anyhow::ensure!(
        told.len() == big.metadata()?.len(),
        "it has {} bytes of the file",
        told.len()
    );
    Ok(usage)
}
