//! `snapshot`: a copy of the database, ciphertext, and a copy put on an empty server.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use reqwest::{Body, Method, header};
use serde_json::json;

use super::answer::Answer;
use super::connection::Connection;
use crate::api::snapshot::Restored;

const BYTES: &str = "application/octet-stream";

/// What can be done with a copy.
#[derive(Subcommand)]
pub enum Snapshot {
    /// Copy the database into a file
    Save {
        /// The file; there must be none of that name
        file: PathBuf,
    },
    /// Put a copy on a server that was never initialised
    Restore {
        /// A file that save, or the server's schedule, has made
        file: PathBuf,
    },
}

impl Snapshot {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<Answer> {
        match self {
            Snapshot::Save { file } => save(&file, connection).await,
            Snapshot::Restore { file } => restore(&file, connection).await,
        }
    }
}

/// Into a file beside the last one, which gets its name when it is whole.
async fn save(file: &Path, connection: &Connection) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let shown = file.display();
    if file.exists() {
        bail!("{shown} is there already; name another file");
    }
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let cannot = || format!("{shown} cannot be written; check the folder and its space");
    let mut temporary = tempfile::Builder::new()
        .prefix(".snapshot-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .with_context(cannot)?;
    let request = session.client.request(Method::GET, "/v1/snapshot");
    let mut response = session.client.send(request).await?;
    let mut bytes = 0;
    let cut = "the snapshot has not come whole; run the command again";
    while let Some(chunk) = response.chunk().await.context(cut)? {
        temporary.write_all(&chunk).with_context(cannot)?;
        bytes += chunk.len();
    }
    temporary.as_file().sync_all().with_context(cannot)?;
    temporary
        .persist_noclobber(file)
        .map_err(|error| error.error)
        .with_context(cannot)?;
    let text =
        format!("{shown}: {bytes} bytes, ciphertext. It opens with the shares of this epoch.");
    Answer::new(text, &json!({ "file": file, "bytes": bytes }))
}

async fn restore(file: &Path, connection: &Connection) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let opened = tokio::fs::File::open(file)
        .await
        .with_context(|| format!("{} cannot be read; check the path", file.display()))?;
    let request = session
        .client
        .request(Method::POST, "/v1/snapshot/restore")
        .header(header::CONTENT_TYPE, BYTES)
        .body(Body::from(opened));
    let restored: Restored = session
        .client
        .send(request)
        .await?
        .json()
        .await
        .context("the keystore's answer is not understood; look at holdfast-keystore status")?;
    let text = format!(
        "Restored as of {}, and sealed: {} of the {} shares of epoch {} open it, over the certificates of their holders.",
        restored.taken, restored.threshold, restored.shares, restored.epoch
    );
    Answer::new(text, &restored)
}
