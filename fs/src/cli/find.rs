//! `holdfast find PATTERN`

use std::collections::HashSet;

use clap::Args;
use holdfast_crypto::ChunkId;
use serde_json::json;

use crate::format::{Body, FileKind, Inode};
use crate::restore::{Filter, Verdict};
use crate::walk::{self, SnapshotTree, WalkError};

use super::listing::{self, Listing};
use super::opening::{full_name, shown_bytes, shown_time};
use super::{CommandError, Context, Output, opening};

/// Folders that are remembered to hold no match; 32 MiB at the most.
const REMEMBERED_FOLDERS: usize = 500_000;

/// Arguments of `find`.
#[derive(Args)]
pub struct Find {
    /// What to look for: *, ?, [abc], {a,b}; without / it is compared with names, with / with whole paths
    pattern: String,
    /// Look only here; in all snapshots unless given
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Vec<String>,
}

struct Search<'a> {
    filter: Filter,
    /// Trees without a match below them: what did not change between snapshots is searched once.
    /// Only for names: whether a path matches depends on what is above.
    barren: Option<HashSet<ChunkId>>,
    listing: &'a mut Listing,
    is_heard: bool,
}

impl Find {
    /// Looks for names in all snapshots, oldest first.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let filter = Filter::new(std::slice::from_ref(&self.pattern), &[])
            .map_err(CommandError::from_error)?;
        let archive = opening::archive(context)?;
        let snapshots = match self.snapshot.as_slice() {
            [] => archive.snapshots(),
            names => names.iter().map(|name| archive.resolve(name)).collect(),
        };
        let snapshots = snapshots.map_err(CommandError::from_error)?;
        let mut listing = Listing::new(context.json);
        let barren = (!self.pattern.trim_end_matches('/').contains('/')).then(HashSet::new);
        let mut search = Search {
            filter,
            barren,
            listing: &mut listing,
            is_heard: true,
        };
        for snapshot in &snapshots {
            let commit = archive
                .load_commit(&snapshot.name)
                .map_err(CommandError::from_error)?;
            let tree = opening::tree(&archive, commit);
            search
                .snapshot(&tree, &full_name(snapshot))
                .map_err(CommandError::from_error)?;
        }
        let (count, matches) = listing.finish();
        let text = if count == 0 {
            format!(
                "nothing is called {:?} in {} snapshots\n",
                self.pattern,
                snapshots.len()
            )
        } else {
            String::new()
        };
        Ok(Output::new(
            text,
            json!({ "pattern": self.pattern, "matches": matches }),
        ))
    }
}

impl Search<'_> {
    fn snapshot(&mut self, tree: &SnapshotTree, name: &str) -> Result<(), WalkError> {
        let mut levels = vec![Level::open(tree, tree.root(), Vec::new())?];
        while let Some(level) = levels.last_mut() {
            let Some(entry) = level.entries.next() else {
                let done = levels.pop().map(|level| (level.id, level.matched));
                self.leave(done, levels.last_mut());
                continue;
            };
            let path = walk::joined(&level.path, &entry.name);
            let is_match = self.filter.judge(Verdict::Search, &path) == Verdict::Take;
            level.matched |= is_match;
            let is_folder = entry.kind() == FileKind::Directory;
            if !is_match && !is_folder {
                continue;
            }
            let found = tree.inode(entry.target);
            let found = found.map_err(|source| WalkError::Load {
                path: walk::printed(&path),
                source,
            })?;
            if is_match && !self.show(name, &path, &found) {
                return Ok(());
            }
            if is_folder && !self.is_barren(&found.inode) {
                levels.push(Level::open(tree, &found.inode, path)?);
            }
        }
        Ok(())
    }

    fn is_barren(&self, folder: &Inode) -> bool {
        match (tree_id(folder), &self.barren) {
            (Some(id), Some(barren)) => barren.contains(&id),
            (None, _) => true,
            (_, None) => false,
        }
    }

    fn leave(&mut self, done: Option<(Option<ChunkId>, bool)>, above: Option<&mut Level>) {
        match done {
            Some((_, true)) => {
                if let Some(above) = above {
                    above.matched = true;
                }
            }
            Some((Some(id), false)) => {
                if let Some(barren) = self
                    .barren
                    .as_mut()
                    .filter(|barren| barren.len() < REMEMBERED_FOLDERS)
                {
                    barren.insert(id);
                }
            }
            _ => {}
        }
    }

    fn show(&mut self, snapshot: &str, path: &[u8], found: &walk::Found) -> bool {
        if self.is_heard {
            let inode = &found.inode;
            self.is_heard = self.listing.add(
                || {
                    let mut line = format!("{snapshot}:").into_bytes();
                    line.extend_from_slice(path);
                    let mtime = shown_time(inode.attributes.mtime);
                    line.extend_from_slice(
                        format!("  {}  {mtime}", shown_bytes(inode.body.size())).as_bytes(),
                    );
                    line
                },
                || {
                    let mut value = listing::as_json(path, found);
                    value["snapshot"] = json!(snapshot);
                    value
                },
            );
        }
        self.is_heard
    }
}

struct Level {
    id: Option<ChunkId>,
    path: Vec<u8>,
    entries: std::vec::IntoIter<crate::format::Entry>,
    matched: bool,
}

impl Level {
    fn open(tree: &SnapshotTree, folder: &Inode, path: Vec<u8>) -> Result<Level, WalkError> {
        let entries = tree.by_name(folder);
        let entries = entries.map_err(|source| WalkError::Load {
            path: walk::printed(&path),
            source,
        })?;
        Ok(Level {
            id: tree_id(folder),
            path,
            entries: entries.into_iter(),
            matched: false,
        })
    }
}

fn tree_id(folder: &Inode) -> Option<ChunkId> {
    match &folder.body {
        Body::Directory { tree } => tree.as_ref().map(|tree| tree.id),
        _ => None,
    }
}
