//! `holdfast ls SNAPSHOT[:PATH]`

use clap::Args;
use serde_json::json;

use crate::format::{Entry, FileKind};
use crate::walk::{self, Found, SnapshotTree, WalkError};

use super::listing::{self, Listing};
use super::opening::{full_name, split_path};
use super::{CommandError, Context, Output, opening};

/// Arguments of `ls`.
#[derive(Args)]
pub struct Ls {
    /// A snapshot (`latest`, a label, a time, DEVICE/NAME), and with :PATH a place in it
    #[arg(value_name = "SNAPSHOT[:PATH]", default_value = "latest")]
    place: String,
    /// Show kind, mode, links, owner, group, size and time
    #[arg(short, long)]
    long: bool,
    /// Show folders below too, each file with its path
    #[arg(short = 'R', long)]
    recursive: bool,
}

impl Ls {
    /// Lists a folder of a snapshot, or shows one file.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let archive = opening::archive(context)?;
        let (name, path) = split_path(&self.place);
        let (snapshot, tree) = opening::snapshot(&archive, name)?;
        let found = tree.find(path).map_err(CommandError::from_error)?;
        let mut top = Vec::new();
        walk::components(path).for_each(|name| walk::join(&mut top, name));
        let mut listing = Listing::new(context.json);
        if found.inode.attributes.kind == FileKind::Directory {
            self.list(&tree, &found, &top, &mut listing)
                .map_err(CommandError::from_error)?;
        } else {
            self.show(&top, &found, &mut listing);
        }
        let (_, entries) = listing.finish();
        Ok(Output::new(
            "",
            json!({ "snapshot": full_name(&snapshot), "entries": entries }),
        ))
    }

    /// Folders are gone through by name, one after the other; only names on the way down are held.
    fn list(
        &self,
        tree: &SnapshotTree,
        top: &Found,
        path: &[u8],
        listing: &mut Listing,
    ) -> Result<(), WalkError> {
        let mut levels = vec![(path.to_vec(), by_name(tree, top, path)?)];
        while let Some((folder, entries)) = levels.last_mut() {
            let Some(entry) = entries.next() else {
                levels.pop();
                continue;
            };
            let path = walk::joined(folder, &entry.name);
            let failed = |source| WalkError::Load {
                path: walk::printed(&path),
                source,
            };
            let found = tree.inode(entry.target).map_err(failed)?;
            let shown = if self.recursive {
                path.as_slice()
            } else {
                entry.name.as_slice()
            };
            if !self.show(shown, &found, listing) {
                return Ok(());
            }
            if self.recursive && found.inode.attributes.kind == FileKind::Directory {
                let below = by_name(tree, &found, &path)?;
                levels.push((path, below));
            }
        }
        Ok(())
    }

    fn show(&self, path: &[u8], found: &Found, listing: &mut Listing) -> bool {
        let line = || {
            if self.long {
                listing::long_line(path, found)
            } else {
                path.to_vec()
            }
        };
        listing.add(line, || listing::as_json(path, found))
    }
}

fn by_name(
    tree: &SnapshotTree,
    folder: &Found,
    path: &[u8],
) -> Result<std::vec::IntoIter<Entry>, WalkError> {
    let entries = tree.by_name(&folder.inode);
    Ok(entries
        .map_err(|source| WalkError::Load {
            path: walk::printed(path),
            source,
        })?
        .into_iter())
}
