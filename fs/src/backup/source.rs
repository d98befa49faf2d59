//! What a source file says of itself: attributes, extended attributes, and a fingerprint.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Stat};

use crate::format::{Attributes, FileKind, Time, Xattrs};
use crate::keychain::Keychain;

/// A file that was changed so short before it was looked at could be changed again without its
/// times telling: the kernel's clock for them stands still for up to 10 ms.
const CLOCK_STEP_NANOS: i128 = 20_000_000;

/// Device and inode number: two names that have the same are one file.
pub(super) type SourceId = (u64, u64);

pub(super) fn id_of(stat: &Stat) -> SourceId {
    (stat.st_dev, stat.st_ino)
}

pub(super) fn kind_of(stat: &Stat) -> Option<FileKind> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Unknown => return None,
    })
}

fn ctime(stat: &Stat) -> Time {
    Time {
        seconds: stat.st_ctime,
        nanos: stat.st_ctime_nsec as u32,
    }
}

fn mtime(stat: &Stat) -> Time {
    Time {
        seconds: stat.st_mtime,
        nanos: stat.st_mtime_nsec as u32,
    }
}

/// Tells whether a source file is as it was at an earlier backup: a keyed hash of kind, size, times
/// and inode number. Never 0, which means that a file does not come from a backup.
pub(super) fn fingerprint(keychain: &Keychain, stat: &Stat) -> u64 {
    keychain.fingerprint(&facts(stat)).max(1)
}

/// The fingerprint to keep with a file that was looked at at `looked`: one that nothing has when it
/// may have been changed since without its times telling, so that the next backup reads it again.
pub(super) fn fingerprint_to_keep(keychain: &Keychain, stat: &Stat, looked: SystemTime) -> u64 {
    let looked = looked
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos() as i128);
    let changed = ctime(stat);
    let changed = i128::from(changed.seconds) * 1_000_000_000 + i128::from(changed.nanos);
    if looked - changed > CLOCK_STEP_NANOS {
        return fingerprint(keychain, stat);
    }
    keychain
        .fingerprint(&[&facts(stat)[..], b"may have changed since"].concat())
        .max(1)
}

fn facts(stat: &Stat) -> Vec<u8> {
    let (mtime, ctime) = (mtime(stat), ctime(stat));
    let mut facts = Vec::with_capacity(52);
    facts.extend_from_slice(&(stat.st_mode & 0o170_000).to_le_bytes());
    // A folder's size is a matter of its file system.
    let size = if kind_of(stat) == Some(FileKind::Directory) {
        0
    } else {
        stat.st_size
    };
    facts.extend_from_slice(&size.to_le_bytes());
    for time in [mtime, ctime] {
        facts.extend_from_slice(&time.seconds.to_le_bytes());
        facts.extend_from_slice(&time.nanos.to_le_bytes());
    }
    facts.extend_from_slice(&stat.st_ino.to_le_bytes());
    facts
}

/// Whether a file is the same before and after it was read.
pub(super) fn is_same(one: &Stat, other: &Stat) -> bool {
    facts(one) == facts(other)
}

/// Names of owners, each looked up once.
///
/// Read from `/etc/passwd` and `/etc/group`: a user whom only a directory service knows has no name
/// in the backup, but its number.
pub(super) struct Owners {
    users: HashMap<u32, Arc<[u8]>>,
    groups: HashMap<u32, Arc<[u8]>>,
    nobody: Arc<[u8]>,
}

impl Owners {
    pub(super) fn load() -> Owners {
        let load = |path: &str| parse_names(&std::fs::read(path).unwrap_or_default());
        Owners {
            users: load("/etc/passwd"),
            groups: load("/etc/group"),
            nobody: Arc::from([]),
        }
    }

    fn user(&self, uid: u32) -> Arc<[u8]> {
        self.users.get(&uid).unwrap_or(&self.nobody).clone()
    }

    fn group(&self, gid: u32) -> Arc<[u8]> {
        self.groups.get(&gid).unwrap_or(&self.nobody).clone()
    }
}

/// Both files have the name first and the number third.
fn parse_names(table: &[u8]) -> HashMap<u32, Arc<[u8]>> {
    let mut names = HashMap::new();
    for line in table.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(number)) = (fields.next(), fields.nth(1)) else {
            continue;
        };
        let number = std::str::from_utf8(number)
            .ok()
            .and_then(|number| number.parse().ok());
        if let Some(number) = number {
            names.entry(number).or_insert_with(|| Arc::from(name));
        }
    }
    names
}

/// What stat(2) said, as the drive keeps it. The time of change is the drive's own.
pub(super) fn attributes(owners: &Owners, stat: &Stat, kind: FileKind) -> Attributes {
    let is_device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
    Attributes {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        owner: owners.user(stat.st_uid),
        group: owners.group(stat.st_gid),
        mtime: mtime(stat),
        ctime: crate::filesystem::now(),
        atime: Time {
            seconds: stat.st_atime,
            nanos: stat.st_atime_nsec as u32,
        },
        rdev: if is_device { stat.st_rdev } else { 0 },
    }
}

/// Extended attributes of an open file or folder.
pub(super) fn xattrs_of(open: BorrowedFd<'_>) -> io::Result<Arc<Xattrs>> {
    // Through the descriptor's path: a folder's descriptor need not be a File.
    xattrs_at(&PathBuf::from(format!(
        "/proc/self/fd/{}/.",
        open.as_raw_fd()
    )))
}

/// Extended attributes by path, of a symlink itself. A file system that has none says so once.
pub(super) fn xattrs_at(path: &std::path::Path) -> io::Result<Arc<Xattrs>> {
    collect(|| xattr::list(path), |name| xattr::get(path, name))
}

/// Extended attributes of an open regular file.
pub(super) fn xattrs_of_file(file: &std::fs::File) -> io::Result<Arc<Xattrs>> {
    use xattr::FileExt;
    collect(|| file.list_xattr(), |name| file.get_xattr(name))
}

fn collect(
    list: impl Fn() -> io::Result<xattr::XAttrs>,
    value: impl Fn(&std::ffi::OsStr) -> io::Result<Option<Vec<u8>>>,
) -> io::Result<Arc<Xattrs>> {
    use std::os::unix::ffi::OsStrExt;
    /// One for the many files that have none.
    static NONE: LazyLock<Arc<Xattrs>> = LazyLock::new(Arc::default);
    let names = match list() {
        Ok(names) => names,
        Err(error) if is_unsupported(&error) => return Ok(NONE.clone()),
        Err(error) => return Err(error),
    };
    let mut found = Xattrs::new();
    for name in names {
        // Gone in between, or not for us to read (another's security labels).
        if let Ok(Some(bytes)) = value(&name) {
            found.insert(name.as_bytes().to_vec(), bytes);
        }
    }
    Ok(if found.is_empty() {
        NONE.clone()
    } else {
        Arc::new(found)
    })
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}
