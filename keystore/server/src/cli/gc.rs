//! `gc`: deletes what no user's archive needs any more.

use clap::Args;

use super::answer::{Answer, Good};
use super::connection::Connection;
use crate::api::gc::{Collect, CollectedArchive, CollectedList, Objects};
use crate::names::PersonName;

/// Where, and whether really.
#[derive(Args)]
pub struct Gc {
    /// Only in this user's archive
    #[arg(long, value_name = "NAME")]
    user: Option<PersonName>,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Gc {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<Answer> {
        let session = connection.open()?;
        let wanted = Collect {
            user: self.user,
            dry_run: self.dry_run,
        };
        let list: CollectedList = session.client.post("/v1/gc", &wanted).await?;
        let mut lines: Vec<String> = list.archives.iter().map(line).collect();
        if lines.is_empty() {
            lines.push("Nobody has an archive yet.".to_owned());
        }
        if wanted.dry_run {
            lines.push("Nothing was changed: this was a dry run.".to_owned());
        }
        let good = match list
            .archives
            .iter()
            .all(|archive| archive.stopped.is_none())
        {
            true => Good::Yes,
            false => Good::No,
        };
        Ok(Answer::new(lines.join("\n"), &list)?.but(good))
    }
}

fn line(archive: &CollectedArchive) -> String {
    let user = archive.user.as_str();
    match (&archive.done, &archive.stopped) {
        (Some(done), _) => format!(
            "{user:<20} {} deleted, {} condemned now, {} waiting, {} needed",
            count(done.deleted),
            count(done.condemned),
            count(done.waiting),
            count(done.needed),
        ),
        (None, stopped) => {
            let sentence = stopped.as_deref().unwrap_or("it has stopped");
            format!("{user:<20} nothing was deleted: {sentence}")
        }
    }
}

fn count(objects: Objects) -> String {
    let mebibytes = objects.bytes as f64 / f64::from(1 << 20);
    format!("{} ({mebibytes:.1} MiB)", objects.objects)
}
