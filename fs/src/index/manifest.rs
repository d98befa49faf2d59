//! The manifest: which runs count, and what is in them.
//!
//! ```text
//! "HFIM" | version u16 = 1 | 0 u16 | crc32c of what follows u32
//! next run u64 | runs u32 | objects u32 | local packs u32
//! runs: number u64 each | objects: digest each | local packs: digest each
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use holdfast_crypto::Digest;

use super::{IndexError, put_in_place};

const HEAD: &[u8; 8] = b"HFIM\x01\0\0\0";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    pub next_run: u64,
    pub runs: Vec<u64>,
    pub objects: BTreeSet<Digest>,
    pub local_packs: BTreeSet<Digest>,
}

fn path(folder: &Path) -> PathBuf {
    folder.join("manifest")
}

impl Manifest {
    pub(super) fn load(folder: &Path) -> Result<Self, IndexError> {
        let path = path(folder);
        match fs::read(&path) {
            Ok(bytes) => Self::decode(&bytes).ok_or_else(|| IndexError::damaged(&path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Manifest::default()),
            Err(error) => Err(IndexError::io("read", &path)(error)),
        }
    }

    pub(super) fn store(&self, folder: &Path) -> Result<(), IndexError> {
        let path = path(folder);
        let temporary = folder.join("manifest.tmp");
        let write = || {
            let mut file = fs::File::create(&temporary)?;
            file.write_all(&self.encode())?;
            Ok(file)
        };
        let file = write().map_err(IndexError::io("write", &temporary))?;
        put_in_place(&file, &temporary, &path)
    }

    pub(super) fn remove(folder: &Path) -> Result<(), IndexError> {
        let path = path(folder);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(IndexError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&self.next_run.to_le_bytes());
        for count in [self.runs.len(), self.objects.len(), self.local_packs.len()] {
            body.extend_from_slice(&(count as u32).to_le_bytes());
        }
        for run in &self.runs {
            body.extend_from_slice(&run.to_le_bytes());
        }
        for digest in self.objects.iter().chain(&self.local_packs) {
            body.extend_from_slice(&digest.0);
        }
        let crc = crc32c::crc32c(&body).to_le_bytes();
        [&HEAD[..], &crc, &body].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<8>()?;
        let (crc, body) = rest.split_first_chunk::<4>()?;
        if head != HEAD || crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (next_run, body) = body.split_first_chunk::<8>()?;
        let (counts, mut body) = body.split_first_chunk::<12>()?;
        let count = |at: usize| {
            u32::from_le_bytes([counts[at], counts[at + 1], counts[at + 2], counts[at + 3]])
        };
        let mut manifest = Manifest {
            next_run: u64::from_le_bytes(*next_run),
            ..Manifest::default()
        };
        for _ in 0..count(0) {
            let (run, rest) = body.split_first_chunk::<8>()?;
            manifest.runs.push(u64::from_le_bytes(*run));
            body = rest;
        }
        for _ in 0..count(4) {
            let (digest, rest) = body.split_first_chunk::<32>()?;
            manifest.objects.insert(Digest(*digest));
            body = rest;
        }
        for _ in 0..count(8) {
            let (digest, rest) = body.split_first_chunk::<32>()?;
            manifest.local_packs.insert(Digest(*digest));
            body = rest;
        }
        // One form only: sorted, without repetition, nothing behind.
        (manifest.encode() == bytes).then_some(manifest)
    }
}
