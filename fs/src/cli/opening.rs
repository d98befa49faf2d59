//! What most commands begin with: the home, its settings with the options of this call, the archive.

use std::sync::Arc;

use crate::archive::{Access, Archive, open_home_store};
use crate::format::{Commit, Time};
use crate::home::{Home, Settings};
use crate::snapshots::Snapshot;
use crate::walk::SnapshotTree;

use super::{CommandError, Context};

/// The home that the environment names.
pub(super) fn home() -> Result<Home, CommandError> {
    Home::locate().map_err(CommandError::from_error)
}

/// Its settings, with `--limit-…` of this call in place of theirs.
pub(super) fn settings(home: &Home, context: &Context) -> Result<Settings, CommandError> {
    let mut settings = home.settings().map_err(CommandError::from_error)?;
    limit(&mut settings, context);
    Ok(settings)
}

/// Puts the limits of this call in place of the settings'.
pub(super) fn limit(settings: &mut Settings, context: &Context) {
    let limits = &mut settings.limits;
    limits.upload_bytes_per_second = context
        .limit_upload
        .unwrap_or(limits.upload_bytes_per_second);
    limits.download_bytes_per_second = context
        .limit_download
        .unwrap_or(limits.download_bytes_per_second);
}

/// Opens the archive without the device's lock: works beside a mounted drive.
pub(super) fn archive(context: &Context) -> Result<Arc<Archive>, CommandError> {
    let home = home()?;
    let settings = settings(&home, context)?;
    let store = open_home_store(&home, &settings).map_err(CommandError::from_error)?;
    Archive::open_on(store, &home, settings, Access::Read).map_err(CommandError::from_error)
}

/// The snapshot that a person means, and its tree.
pub(super) fn snapshot(
    archive: &Arc<Archive>,
    name: &str,
) -> Result<(Snapshot, SnapshotTree), CommandError> {
    let (snapshot, commit) = archive
        .load_snapshot(name)
        .map_err(CommandError::from_error)?;
    Ok((snapshot, tree(archive, commit)))
}

/// The tree of a commit.
pub(super) fn tree(archive: &Arc<Archive>, commit: Arc<Commit>) -> SnapshotTree {
    SnapshotTree::new(Arc::clone(archive) as _, commit)
}

/// What a snapshot is called on the command line.
pub(super) fn full_name(snapshot: &Snapshot) -> String {
    format!("{}/{}", snapshot.device, snapshot.folder)
}

/// `SNAPSHOT` or `SNAPSHOT:PATH`.
pub(super) fn split_path(argument: &str) -> (&str, &[u8]) {
    match argument.split_once(':') {
        Some((snapshot, path)) => (snapshot, path.as_bytes()),
        None => (argument, b""),
    }
}

/// A time for a person and for a program: RFC 3339 in UTC.
pub(super) fn shown_time(time: Time) -> String {
    let nanos = i32::try_from(time.nanos).unwrap_or(0);
    match jiff::Timestamp::new(time.seconds, nanos) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => format!("{} s", time.seconds),
    }
}

/// Bytes for a person.
pub(super) fn shown_bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
