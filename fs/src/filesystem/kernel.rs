//! Telling the kernel what changed behind its back: it believes what it was told for an hour.

use super::*;
use crate::archive::ArchiveError;
use crate::snapshots_view::Changed;

/// Takes word to the kernel. Called without any lock: the kernel may ask the drive something first.
pub trait Invalidate: Send + Sync {
    /// A name of a folder stands for something else now, or for nothing.
    fn entry(&self, parent: u64, name: &[u8]);
    /// An inode's attributes, content or listing changed.
    fn inode(&self, ino: u64);
}

impl Filesystem {
    /// From now on this hears of every change that did not come from the kernel.
    pub fn tell_kernel(&self, kernel: Box<dyn Invalidate>) {
        *self.kernel.write() = Some(Arc::from(kernel));
    }

    /// Whether a name will stand for another inode soon, without word to the kernel.
    pub fn is_passing(ino: u64) -> bool {
        crate::snapshots_view::is_pending(ino)
    }

    /// Asks the archive which snapshots there are, and tells the kernel where they show. Not for threads that
    /// serve the kernel, and without a lock: it lets go of what it has of a folder or link only when its calls for it
    /// are answered.
    pub(crate) fn refresh_snapshots(&self) -> Result<(), ArchiveError> {
        let Changed { names, inodes } = self.snapshots.refresh()?;
        for (folder, name) in names {
            self.ask_to_forget(folder, &name);
        }
        for ino in inodes {
            self.tell_inode(ino);
        }
        Ok(())
    }

    /// The kernel need not know a name any more, or must not.
    pub(super) fn ask_to_forget(&self, parent: u64, name: &[u8]) {
        let kernel = self.kernel.read().clone();
        if let Some(kernel) = kernel {
            kernel.entry(parent, name);
        }
    }

    pub(super) fn tell_entry(&self, parent: u64, name: &[u8]) {
        let kernel = self.kernel.read().clone();
        if let Some(kernel) = kernel {
            kernel.entry(parent, name);
            kernel.inode(parent);
        }
    }

    pub(super) fn tell_inode(&self, ino: u64) {
        let kernel = self.kernel.read().clone();
        if let Some(kernel) = kernel {
            kernel.inode(ino);
        }
    }
}
