//! A file that is made before what it is for, so that what cannot be written is never asked for, and never lost.
//!
//! Never over another file. If we die in between, an empty file is left, and told at the next try.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Empty until it is filled; removed again if that does not happen.
pub(super) struct NewFile {
    path: PathBuf,
    file: File,
    filled: bool,
}

/// Who may read a new file.
#[derive(Clone, Copy)]
pub(super) enum Readers {
    /// The user alone: secrets.
    Owner,
    /// Whoever the user's umask lets.
    Others,
}

impl NewFile {
    /// `refused` says what was not done, and what to do.
    pub(super) fn make(
        path: PathBuf,
        readers: Readers,
        refused: impl Display,
    ) -> anyhow::Result<NewFile> {
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(match readers {
                Readers::Owner => 0o600,
                Readers::Others => 0o666,
            })
            .open(&path);
        let file = made.with_context(|| format!("{} cannot be made, {refused}", path.display()))?;
        Ok(NewFile {
            path,
            file,
            filled: false,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// On disk when it returns. `failed` says what to do otherwise.
    pub(super) fn fill(&mut self, bytes: &[u8], failed: impl Display) -> anyhow::Result<()> {
        self.file
            .write_all(bytes)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| sync_folder(&self.path))
            .with_context(|| format!("{} cannot be written; {failed}", self.path.display()))?;
        self.filled = true;
        Ok(())
    }

    /// A secret on one line.
    pub(super) fn fill_line(&mut self, line: &str, failed: impl Display) -> anyhow::Result<()> {
        let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(line.len() + 1));
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.fill(&bytes, failed)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.filled {
            // An empty file that stays is told at the next try.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
