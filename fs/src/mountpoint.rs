//! Whether a folder can be mounted on, and what lies there already.
//!
//! Everything is read from `/proc/self/mountinfo` (proc_pid_mountinfo(5)): asking the folder itself
//! would ask a daemon that may be dead or hang.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

/// Why a folder is no mount point.
#[derive(Debug, thiserror::Error)]
pub enum MountpointError {
    /// There is no such folder.
    #[error("{path} does not exist; make it with: mkdir {path}")]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// It is a file.
    #[error("{path} is not a folder; choose an empty folder to mount on")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// A drive that answers is there.
    #[error("a drive is mounted on {path} already; end it with: holdfast unmount {path}")]
    Mounted {
        /// The folder.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("another file system ({kind}) is mounted on {path}; choose an empty folder")]
    Other {
        /// The folder.
        path: PathBuf,
        /// Its type, as mountinfo has it.
        kind: String,
    },
    /// It has something in it that the mount would hide.
    #[error(
        "{path} is not empty; choose an empty folder to mount on, and copy its files in afterwards"
    )]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The drive would lie in itself.
    #[error(
        "{path} lies in {inside}, which holds Holdfast's own files; choose a folder outside of it"
    )]
    Inside {
        /// The folder.
        path: PathBuf,
        /// Store, state or cache.
        inside: PathBuf,
    },
    /// A stale mount could not be cleared.
    #[error(
        "the drive on {path} has ended without unmounting, and it could not be cleared ({source}); try: fusermount3 -uz {path}"
    )]
    Stale {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It could not be looked at.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is mounted.
    pub target: PathBuf,
    /// The type of file system, such as `ext4`, `fuse` or `fuse.holdfast`.
    pub kind: String,
    /// What is mounted, such as a device; of a drive `holdfast`.
    pub source: String,
}

impl Mounted {
    /// Whether it is a drive. Mounted by root it has the type `fuse`, by fusermount3 `fuse.holdfast`.
    pub fn is_drive(&self) -> bool {
        self.kind == "fuse.holdfast" || (self.kind == "fuse" && self.source == "holdfast")
    }
}

/// What is mounted on `path`, the uppermost.
pub fn mounted_on(path: &Path) -> io::Result<Option<Mounted>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(parse(&table)
        .into_iter()
        .rev()
        .find(|mounted| mounted.target == path))
}

/// Where drives are mounted, those whose daemon has died as well.
pub fn drives() -> io::Result<Vec<PathBuf>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let drives = parse(&table).into_iter().filter(Mounted::is_drive);
    Ok(drives.map(|mounted| mounted.target).collect())
}

/// Makes sure that `path` can be mounted on; clears a mount whose daemon has died.
///
/// Gives the path without symlinks, as mountinfo will have it.
pub fn prepare(path: &Path, own_folders: &[PathBuf]) -> Result<PathBuf, MountpointError> {
    let unreadable = |source| MountpointError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let path = resolve(path)?;
    if let Some(mounted) = mounted_on(&path).map_err(unreadable)? {
        clear_if_stale(&path, &mounted)?;
    }
    for inside in own_folders {
        if let Ok(inside) = inside.canonicalize()
            && path.starts_with(&inside)
        {
            return Err(MountpointError::Inside { path, inside });
        }
    }
    match std::fs::read_dir(&path).map_err(unreadable)?.next() {
        None => Ok(path),
        Some(_) => Err(MountpointError::NotEmpty { path }),
    }
}

/// The absolute path without symlinks in its parents. The last part is not looked at: it may be a
/// mount whose daemon has died, of which every question is answered with ENOTCONN.
fn resolve(path: &Path) -> Result<PathBuf, MountpointError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            return Err(MountpointError::NotAFolder {
                path: path.to_owned(),
            });
        }
        // ECONNABORTED: its daemon died while this was asked.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOTCONN | libc::ECONNABORTED)
            ) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(MountpointError::Missing {
                path: path.to_owned(),
            });
        }
        Err(source) => {
            return Err(MountpointError::Unreadable {
                path: path.to_owned(),
                source,
            });
        }
    }
    absolute(path).map_err(|source| MountpointError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// As [`resolve`], for a path that may be anything: a mount to end, say.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    if let Ok(whole) = path.canonicalize() {
        return Ok(whole);
    }
    let path = std::path::absolute(path)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
        _ => Ok(path),
    }
}

fn clear_if_stale(path: &Path, mounted: &Mounted) -> Result<(), MountpointError> {
    let dead = is_dead(path);
    match (mounted.is_drive(), dead) {
        (true, true) => {
            tracing::warn!("a mount whose daemon has died is cleared");
            detach(path).map_err(|source| MountpointError::Stale {
                path: path.to_owned(),
                source,
            })
        }
        (true, false) => Err(MountpointError::Mounted {
            path: path.to_owned(),
        }),
        (false, _) => Err(MountpointError::Other {
            path: path.to_owned(),
            kind: mounted.kind.clone(),
        }),
    }
}

/// Whether the daemon behind a mount has died. statfs(2) always asks the daemon; stat(2) may be answered
/// from the attributes that the kernel still keeps. ECONNABORTED: it died while it was asked.
pub fn is_dead(path: &Path) -> bool {
    rustix::fs::statfs(path).is_err_and(|error| {
        matches!(
            error,
            rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED
        )
    })
}

/// Takes a mount away whoever still uses it: as root directly, else by `fusermount3`.
pub fn detach(path: &Path) -> io::Result<()> {
    match unmount(path, UnmountFlags::DETACH) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => fusermount(path),
        Err(error) => Err(error.into()),
    }
}

fn fusermount(path: &Path) -> io::Result<()> {
    let done = std::process::Command::new("fusermount3")
        .arg("-uz")
        .arg("--")
        .arg(path)
        .output()?;
    match done.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(
            String::from_utf8_lossy(&done.stderr).trim().to_owned(),
        )),
    }
}

fn parse(table: &[u8]) -> Vec<Mounted> {
    table
        .split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

/// `36 35 98:0 /root /target options optional... - type source super-options`
fn parse_line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|&byte| byte == b' ');
    let target = unescape(fields.nth(4)?);
    let mut behind = fields.skip_while(|field| *field != b"-").skip(1);
    let mut text = || {
        behind
            .next()
            .map(|field| String::from_utf8_lossy(field).into_owned())
    };
    Some(Mounted {
        target: OsString::from_vec(target).into(),
        kind: text()?,
        source: text()?,
    })
}

/// Space, tab, newline and backslash stand as `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'\\')
            .then(|| tail.get(..3).and_then(octal))
            .flatten();
        match escaped {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            None => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    plain
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_with_spaces_and_optional_fields_is_understood() {
        let table = b"36 35 98:0 / /mnt/a\\040b rw,noatime master:1 shared:2 - ext3 /dev/root rw\n\
                      37 35 0:44 / /mnt/d rw - fuse.holdfast holdfast rw,user_id=0\n\
                      38 35 0:45 / /mnt/e rw - fuse holdfast rw,user_id=0\n\
                      39 35 0:46 / /mnt/f rw - fuse other rw,user_id=0\n";
        let parsed = parse(table);
        assert_eq!(parsed[0].target, Path::new("/mnt/a b"));
        assert_eq!(
            (parsed[0].kind.as_str(), parsed[0].is_drive()),
            ("ext3", false)
        );
        assert_eq!(
            (parsed[1].target.as_path(), parsed[1].is_drive()),
            (Path::new("/mnt/d"), true)
        );
        assert!(parsed[2].is_drive() && !parsed[3].is_drive());
    }

    #[test]
    fn folders_that_cannot_be_mounted_on_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let own = vec![folder.path().join("state")];
        std::fs::create_dir_all(own[0].join("inner")).unwrap();
        std::fs::write(folder.path().join("file"), "x").unwrap();
        let refused = |path: &str| prepare(&folder.path().join(path), &own).unwrap_err();
        assert!(matches!(refused("none"), MountpointError::Missing { .. }));
        assert!(matches!(
            refused("file"),
            MountpointError::NotAFolder { .. }
        ));
        assert!(matches!(
            refused("state/inner"),
            MountpointError::Inside { .. }
        ));
        assert!(matches!(refused(""), MountpointError::NotEmpty { .. }));
        assert!(matches!(
            prepare(Path::new("/proc"), &own).unwrap_err(),
            MountpointError::Other { .. }
        ));
    }
}
