//! Mounting and unmounting: the session with the kernel, its threads and its read-ahead.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuser::{Config, MountOption, Notifier, SessionACL};

use super::{INodeNo, Shell};
use crate::archive::runtime;
use crate::filesystem::{Filesystem, Invalidate};

/// Threads that read requests; each has its own descriptor of the device.
const THREADS: usize = 3;

/// Without this the kernel reads a file in pieces of 128 KiB (measured).
const READ_AHEAD_KIB: u32 = 4096;

/// How a drive is mounted.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountOptions {
    /// Whether users other than the one who mounts may look in.
    pub allow_other: bool,
}

/// A drive that the kernel knows. Dropping it unmounts.
pub struct MountedDrive {
    session: Option<fuser::BackgroundSession>,
    target: PathBuf,
}

/// Mounts `drive` at `target`; the drive answers when this returns.
pub fn mount(
    drive: Arc<Filesystem>,
    target: &Path,
    options: MountOptions,
) -> io::Result<MountedDrive> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("holdfast".into()),
        MountOption::Subtype("holdfast".into()),
        MountOption::DefaultPermissions,
        MountOption::NoDev,
        MountOption::NoSuid,
    ];
    config.acl = if options.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    let shell = Shell {
        drive: Arc::clone(&drive),
        waiting: runtime::waiting(),
        room: runtime::room(),
        disk: runtime::disk(),
        late: Arc::default(),
    };
    let session = fuser::Session::new(shell, target, &config)?.spawn()?;
    drive.tell_kernel(Box::new(Kernel {
        notifier: session.notifier(),
    }));
    raise_read_ahead(target);
    Ok(MountedDrive {
        session: Some(session),
        target: target.to_owned(),
    })
}

impl MountedDrive {
    /// Whether the kernel has ended the session (somebody unmounted from outside).
    pub fn is_over(&self) -> bool {
        self.session
            .as_ref()
            .is_none_or(|session| session.guard.is_finished())
    }

    /// Unmounts and waits for the threads. A drive that is in use is detached: whoever has a file
    /// open in it keeps it, nobody new gets in.
    pub fn unmount(mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        if session.guard.is_finished() {
            return session.join();
        }
        match rustix::mount::unmount(&self.target, rustix::mount::UnmountFlags::empty()) {
            // The kernel told the threads; they are on their way out.
            Ok(()) => session.join(),
            // Not root: the library's own way, fusermount3.
            Err(rustix::io::Errno::PERM) => session.umount_and_join(),
            Err(rustix::io::Errno::BUSY) => {
                rustix::mount::unmount(&self.target, rustix::mount::UnmountFlags::DETACH)?;
                // Its threads end when the last file is closed; the process does not wait for that.
                Ok(())
            }
            // Gone already.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Tells the kernel what changed behind its back.
struct Kernel {
    notifier: Notifier,
}

impl Invalidate for Kernel {
    fn entry(&self, parent: u64, name: &[u8]) {
        use std::os::unix::ffi::OsStrExt;
        // ENOENT: the kernel did not know it. Anything else leaves the kernel with an old answer
        // for at most an hour; the log says so.
        if let Err(error) = self
            .notifier
            .inval_entry(INodeNo(parent), std::ffi::OsStr::from_bytes(name))
        {
            report(&error);
        }
    }

    fn inode(&self, ino: u64) {
        if let Err(error) = self.notifier.inval_inode(INodeNo(ino), 0, 0) {
            report(&error);
        }
    }
}

fn report(error: &io::Error) {
    if error.raw_os_error() != Some(libc::ENOENT) {
        tracing::debug!(%error, "the kernel was not told of a change");
    }
}

fn raise_read_ahead(target: &Path) {
    let Ok(metadata) = std::fs::metadata(target) else {
        return;
    };
    let (major, minor) = (
        rustix::fs::major(metadata.dev()),
        rustix::fs::minor(metadata.dev()),
    );
    let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    // Only root may; for others reads are slower, not wrong.
    if let Err(error) = std::fs::write(&setting, READ_AHEAD_KIB.to_string()) {
        tracing::debug!(%error, "read-ahead stays as it is");
    }
}
