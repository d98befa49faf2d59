//! Copies of the database: what they hold, where they lie, and how one is restored on an empty node.
//!
//! ```text
//! "holdfast keystore snapshot 1\n" | u32 length | header, JSON | records | SHA-256 of everything before
//! ```
//!
//! Records and seal header are what the database holds: ciphertext, and worth nothing without the shares of that epoch. The header
//! is in the clear: cluster, epoch, how many shares, the table of persons, the authority's certificate (never its key) and
//! the audit log's head, so that an empty node knows who may submit a share, and can say whose shares are needed.
//!
//! Saving: to a temporary file, synced, renamed. If we die before the rename, there is no snapshot.
//!
//! Restoring: the whole file is checked first. Then the authority, the persons, and last, in one transaction, the database. If
//! we die before that, the node is still empty and the same snapshot is restored again. Persons that were removed after the snapshot
//! was taken are left out, as far as this node's audit log is the one that the snapshot comes from and tells of it: a
//! restore must not let somebody in again.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::audit::event::Event;
use crate::audit::{Actor, tail};
use crate::names::{HexBytes, Id, LineHash};
use crate::persons::{Person, replace_file};
use crate::server::Server;

const MAGIC: &[u8] = b"holdfast keystore snapshot 1\n";
const DIGEST_BYTES: u64 = 32;
const HEADER_BYTES: u32 = 4 << 20;
const PREFIX: &str = "keystore-";
const SUFFIX: &str = ".snapshot";

/// What stands in the clear at the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotHeader {
    /// Whose it is.
    pub cluster: Id,
    /// The epoch of the shares that it needs.
    pub epoch: u64,
    /// How many it needs.
    pub threshold: u8,
    /// How many there are.
    pub shares: u8,
    /// When it was taken.
    pub taken: Timestamp,
    /// The audit log's last line then.
    pub audit_sequence: u64,
    /// Its hash.
    pub audit_hash: LineHash,
    /// Who might come in then.
    pub persons: Vec<Person>,
    /// Authorities that have signed their certificates, PEM.
    pub authorities: Vec<String>,
}

/// A snapshot that cannot be taken or restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk.
    #[error("{} cannot be read or written: {source}; check the folder and its free space", .path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not one.
    #[error("this is no snapshot of a keystore, or one of a newer version; choose another file")]
    NotASnapshot,
    /// Cut or changed.
    #[error("this snapshot is damaged; choose another one")]
    Damaged,
    /// There is nothing to take one of.
    #[error("the keystore was never initialised, so there is nothing to take a snapshot of")]
    Nothing,
    /// No line, no act.
    #[error("{0}")]
    Audit(String),
    /// The database.
    #[error("the database does not answer as it should: {0}")]
    Records(String),
}

/// When the newest snapshot in a folder was taken.
pub fn newest(folder: &Path) -> Option<Timestamp> {
    list(folder).into_iter().map(|(taken, _)| taken).max()
}

/// Saves one beside the others and deletes what is too many.
pub fn save_scheduled(server: &Server, now: Timestamp) -> Result<(), SnapshotError> {
    let folder = server.config.snapshot_folder();
    let saved = save(server, &folder, now)?;
    let path = folder.join(file_name(now));
    let io = |source| SnapshotError::Io {
        path: path.clone(),
        source,
    };
    let persisted = saved.file.persist(&path);
    persisted.map_err(|error| io(error.error))?;
    File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io)?;
    let event = Event::SnapshotSaved {
        epoch: saved.header.epoch,
        bytes: saved.bytes,
    };
    server
        .record_now(&Actor::SERVER, event)
        .map_err(|error| SnapshotError::Audit(error.body().sentence.clone()))?;
    server.metrics.newest_snapshot.set(now.as_second());
    prune(&folder, server.config.snapshots.keep);
    Ok(())
}

/// A snapshot in a temporary file.
pub struct Saved {
    /// Deleted when dropped.
    pub file: tempfile::NamedTempFile,
    /// What stands at its beginning.
    pub header: SnapshotHeader,
    /// Its length.
    pub bytes: u64,
}

/// Takes one into a temporary file in `folder`.
pub fn save(server: &Server, folder: &Path, now: Timestamp) -> Result<Saved, SnapshotError> {
    let io = |source| SnapshotError::Io {
        path: folder.to_owned(),
        source,
    };
    fs::create_dir_all(folder).map_err(io)?;
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder)
        .map_err(io)?;
    let vault = server.vault.read();
    let seal = vault.seal_status().ok_or(SnapshotError::Nothing)?;
    let head = server.audit.head();
    let mut authorities = server.folder.trusted_authorities();
    authorities.push(server.authority.certificate_pem().to_owned());
    let header = SnapshotHeader {
        cluster: seal.cluster,
        epoch: seal.epoch,
        threshold: seal.threshold,
        shares: u8::try_from(seal.holders.len()).expect("there are at most 16"),
        taken: now,
        audit_sequence: head.sequence,
        audit_hash: head.hash,
        persons: server.persons.read().list(),
        authorities,
    };
    let mut out = Hashing::new(BufWriter::new(file.as_file_mut()));
    let json = serde_json::to_vec(&header).expect("names, ids and texts are always JSON");
    let length = u32::try_from(json.len()).expect("256 persons are far below 4 GiB");
    for part in [MAGIC, &length.to_le_bytes(), &json] {
        out.write_all(part).map_err(io)?;
    }
    vault.write_snapshot(&mut out)?;
    let bytes = out.finish().map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    Ok(Saved {
        file,
        header,
        bytes,
    })
}

/// Checks a whole file and restores it on an empty node.
pub fn restore(
    server: &Server,
    file: &mut File,
    path: &Path,
) -> Result<SnapshotHeader, SnapshotError> {
    let io = |source| SnapshotError::Io {
        path: path.to_owned(),
        source,
    };
    let (header, length) = check(file).map_err(|error| match error {
        CheckError::Io(source) => io(source),
        CheckError::NotASnapshot => SnapshotError::NotASnapshot,
        CheckError::Damaged => SnapshotError::Damaged,
    })?;
    let mut vault = server.vault.write();
    for authority in &header.authorities {
        let name = hex::encode(&Sha256::digest(authority)[..8]);
        let path = server.folder.trusted().join(format!("{name}.crt"));
        replace_file(&path, authority.as_bytes()).map_err(io)?;
    }
    let removed = removed_since(server, &header).map_err(io)?;
    let stays = |person: &&Person| !removed.contains(&person.fingerprint);
    let persons = header.persons.iter().filter(stays).cloned().collect();
    let merged = server.persons.write().merge(persons);
    merged.map_err(|error| SnapshotError::Records(error.to_string()))?;
    let mut records = BufReader::new(file).take(length);
    vault.restore(&mut records)?;
    drop(vault);
    server
        .renew_tls()
        .map_err(|error| SnapshotError::Records(error.to_string()))?;
    Ok(header)
}

enum CheckError {
    Io(io::Error),
    NotASnapshot,
    Damaged,
}

impl From<io::Error> for CheckError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => CheckError::Damaged,
            _ => CheckError::Io(error),
        }
    }
}

/// Reads the header and checks the digest; leaves the file at the first record. Gives the length of the records.
fn check(file: &mut File) -> Result<(SnapshotHeader, u64), CheckError> {
    let bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(0))?;
    let mut magic = [0; MAGIC.len()];
    match file.read_exact(&mut magic) {
        Ok(()) if magic == MAGIC => {}
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
        _ => return Err(CheckError::NotASnapshot),
    }
    let mut length = [0; 4];
    file.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > HEADER_BYTES {
        return Err(CheckError::Damaged);
    }
    let mut json = vec![0; length as usize];
    file.read_exact(&mut json)?;
    let start = MAGIC.len() as u64 + 4 + u64::from(length);
    let records = bytes
        .checked_sub(start + DIGEST_BYTES)
        .ok_or(CheckError::Damaged)?;
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    io::copy(
        &mut BufReader::new(&mut *file).take(bytes - DIGEST_BYTES),
        &mut HashWriter(&mut hash),
    )?;
    let mut digest = [0; DIGEST_BYTES as usize];
    file.seek(SeekFrom::Start(bytes - DIGEST_BYTES))?;
    file.read_exact(&mut digest)?;
    if hash.finalize()[..] != digest {
        return Err(CheckError::Damaged);
    }
    let header = serde_json::from_slice(&json).map_err(|_| CheckError::NotASnapshot)?;
    file.seek(SeekFrom::Start(start))?;
    Ok((header, records))
}

/// Certificates that were refused after the snapshot, if this node's audit log is the one that it comes from.
fn removed_since(server: &Server, header: &SnapshotHeader) -> io::Result<Vec<HexBytes<32>>> {
    let lines = tail::after(
        server.audit.path(),
        header.audit_sequence,
        &header.audit_hash,
    )?;
    let removed = lines.into_iter().filter_map(|line| match line.event {
        Event::PersonRemoved { fingerprint, .. } => Some(fingerprint),
        _ => None,
    });
    Ok(removed.collect())
}

fn list(folder: &Path) -> Vec<(Timestamp, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let snapshot = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let stamp = name.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let civil = jiff::civil::DateTime::strptime("%Y-%m-%dT%H-%M-%SZ", stamp).ok()?;
        let taken = civil.to_zoned(TimeZone::UTC).ok()?.timestamp();
        Some((taken, entry.path()))
    };
    let mut found: Vec<_> = entries.filter_map(snapshot).collect();
    found.sort();
    found
}

fn file_name(taken: Timestamp) -> String {
    let taken = taken.to_zoned(TimeZone::UTC);
    format!("{PREFIX}{}{SUFFIX}", taken.strftime("%Y-%m-%dT%H-%M-%SZ"))
}

fn prune(folder: &Path, keep: usize) {
    let found = list(folder);
    let many = found.len().saturating_sub(keep);
    for (_, path) in &found[..many] {
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "an old snapshot could not be deleted");
        }
    }
}

/// Passes bytes on, and appends their digest at the end.
struct Hashing<W: Write> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    fn new(out: W) -> Self {
        Hashing {
            out,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    fn finish(mut self) -> io::Result<u64> {
        let digest = self.hash.finalize();
        self.out.write_all(&digest)?;
        self.out.flush()?;
        Ok(self.bytes + DIGEST_BYTES)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
