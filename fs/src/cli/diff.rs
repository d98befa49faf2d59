//! `holdfast diff SNAPSHOT SNAPSHOT`

use clap::Args;
use serde_json::json;

use crate::diff::{Change, Difference, Next, diff};

use super::listing::{self, Listing};
use super::opening::{full_name, split_path};
use super::{CommandError, Context, Output, opening};

/// Arguments of `diff`.
#[derive(Args)]
pub struct Diff {
    /// The earlier snapshot; with :PATH only what is below it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    first: String,
    /// The later snapshot
    #[arg(value_name = "SNAPSHOT")]
    second: String,
}

impl Diff {
    /// Lists what differs: + added, - removed, M content, A attributes only, T another kind.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let archive = opening::archive(context)?;
        let (first, path) = split_path(&self.first);
        let (first, before) = opening::snapshot(&archive, first)?;
        let (second, after) = opening::snapshot(&archive, split_path(&self.second).0)?;
        let mut listing = Listing::new(context.json);
        let mut counts = [0_u64; 5];
        let compared = diff(&before, &after, path, &mut |difference| {
            counts[difference.change as usize] += 1;
            match add(&mut listing, &difference) {
                true => Next::Continue,
                false => Next::Stop,
            }
        });
        let (_, differences) = listing.finish();
        compared.map_err(CommandError::from_error)?;
        let [added, removed, content, attributes, kind] = counts;
        let json = json!({
            "first": full_name(&first),
            "second": full_name(&second),
            "added": added,
            "removed": removed,
            "content": content,
            "attributes": attributes,
            "kind": kind,
            "differences": differences,
        });
        let text = format!(
            "{added} added, {removed} removed, {content} with other content, {attributes} with other attributes, {kind} of another kind\n"
        );
        Ok(Output::new(text, json))
    }
}

fn add(listing: &mut Listing, difference: &Difference) -> bool {
    let (sign, word) = match difference.change {
        Change::Added => ("+", "added"),
        Change::Removed => ("-", "removed"),
        Change::Content => ("M", "content"),
        Change::Attributes => ("A", "attributes"),
        Change::Kind => ("T", "kind"),
    };
    let path = difference.path.as_slice();
    listing.add(
        || [sign.as_bytes(), b" ", path].concat(),
        || {
            let side = |found: &Option<crate::walk::Found>| {
                found.as_ref().map(|found| listing::as_json(path, found))
            };
            json!({
                "path": crate::walk::printed(path),
                "change": word,
                "before": side(&difference.before),
                "after": side(&difference.after),
            })
        },
    )
}
