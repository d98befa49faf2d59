//! What is backed up.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use serde::Serialize;

/// Files of random data are this many.
const RANDOM_FILES: u64 = 8;
const BLOCK_BYTES: usize = 1 << 20;

/// What a folder holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A real source tree that is on every machine that built this: the unpacked libraries.
pub fn library_sources() -> anyhow::Result<PathBuf> {
    let cargo = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    let sources = cargo.join("registry/src");
    anyhow::ensure!(
        sources.is_dir(),
        "{} is not there; name a folder with --folder",
        sources.display()
    );
    Ok(sources)
}

/// A folder with random files.
pub fn random_folder(folder: &Path, mib: u64) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    for number in 0..RANDOM_FILES {
        let blocks = mib / RANDOM_FILES + u64::from(number < mib % RANDOM_FILES);
        random_file(&folder.join(format!("random-{number}")), blocks, number)?;
    }
    Ok(folder.to_owned())
}

/// A file of so many MiB that nothing can be saved on: the same bytes for the same seed.
pub fn random_file(path: &Path, mib: u64, seed: u64) -> anyhow::Result<()> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let mut block = vec![0; BLOCK_BYTES];
    for _ in 0..mib {
        random.fill_bytes(&mut block);
        file.write_all(&block)?;
    }
    Ok(())
}

/// Reads every file below a folder; what they hold.
pub fn read_through(folder: &Path) -> anyhow::Result<Contents> {
    let mut buffer = vec![0; BLOCK_BYTES];
    files_below(folder, &mut |path| {
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        let mut bytes = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(bytes),
                read => bytes += read as u64,
            }
        }
    })
}

/// What a folder holds, without reading it.
pub fn contents(folder: &Path) -> anyhow::Result<Contents> {
    files_below(folder, &mut |path| Ok(path.symlink_metadata()?.len()))
}

/// Calls this for every regular file, and adds up what it gives.
pub fn files_below(
    folder: &Path,
    bytes_of: &mut dyn FnMut(&Path) -> anyhow::Result<u64>,
) -> anyhow::Result<Contents> {
    let mut contents = Contents::default();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                contents.files += 1;
                contents.bytes += bytes_of(&entry.path())?;
            }
        }
    }
    Ok(contents)
}
