//! What the library's replies have in common, and pages of listings that several tries can fill.

use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    Errno, FileAttr, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr,
};
use parking_lot::Mutex;

use super::convert::file_type;
use crate::filesystem::FsResult;
use crate::format::FileKind;

/// A reply that can say no.
pub(super) trait Refuse {
    fn refuse(self, errno: Errno);
}

macro_rules! refuse {
    ($($reply:ty),*) => { $(impl Refuse for $reply {
        fn refuse(self, errno: Errno) { self.error(errno); }
    })* };
}

refuse!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyLseek,
    ReplyOpen,
    ReplyStatfs,
    ReplyWrite,
    ReplyXattr
);

/// A listing's buffer, filled while it is still owed to the kernel. What the first try has put in
/// before it found that it had to wait is sent as it is: the kernel asks for the rest.
pub(super) struct Page<R> {
    reply: Arc<Mutex<Filled<R>>>,
}

struct Filled<R> {
    reply: Option<R>,
    items: usize,
    /// Behind which item the next one comes.
    cookie: u64,
}

impl<R> Clone for Page<R> {
    fn clone(&self) -> Self {
        Page {
            reply: Arc::clone(&self.reply),
        }
    }
}

impl<R> Page<R> {
    /// An empty page of what comes behind `cookie`.
    pub(super) fn new(reply: R, cookie: u64) -> Page<R> {
        Page {
            reply: Arc::new(Mutex::new(Filled {
                reply: Some(reply),
                items: 0,
                cookie,
            })),
        }
    }

    /// Adds the item with this cookie by `put`, which answers whether the buffer was full; says whether it fitted.
    pub(super) fn add(&self, cookie: u64, put: impl FnOnce(&mut R) -> bool) -> bool {
        let mut filled = self.reply.lock();
        let Some(reply) = filled.reply.as_mut() else {
            return false;
        };
        let fitted = !put(reply);
        if fitted {
            filled.items += 1;
            filled.cookie = cookie;
        }
        fitted
    }

    /// Runs a listing from a cookie on. One that has to wait half-way goes on there when it may: were it answered with what
    /// it has so far, the kernel would ask for the rest without attributes, and then for each file by itself.
    pub(super) fn fill(&self, list: impl FnOnce(u64) -> FsResult<()>) -> FsResult<()> {
        let cookie = self.reply.lock().cookie;
        list(cookie)
    }

    pub(super) fn send(&self, ok: impl FnOnce(R)) {
        if let Some(reply) = self.reply.lock().reply.take() {
            ok(reply);
        }
    }

    fn items(&self) -> usize {
        self.reply.lock().items
    }
}

impl Refuse for Page<ReplyDirectory> {
    fn refuse(self, errno: Errno) {
        match self.items() {
            0 => self.send(|reply| reply.error(errno)),
            _ => self.send(ReplyDirectory::ok),
        }
    }
}

impl Refuse for Page<ReplyDirectoryPlus> {
    fn refuse(self, errno: Errno) {
        match self.items() {
            0 => self.send(|reply| reply.error(errno)),
            _ => self.send(ReplyDirectoryPlus::ok),
        }
    }
}

/// `.` and `..`, of which a listing tells number and kind; the kernel does not use the rest.
pub(super) fn bare(ino: u64, kind: FileKind) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: file_type(kind),
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// Size 0 asks how long the value is.
pub(super) fn xattr(reply: ReplyXattr, value: &[u8], size: u32) {
    if size == 0 {
        reply.size(value.len() as u32);
    } else if value.len() > size as usize {
        reply.error(Errno::ERANGE);
    } else {
        reply.data(value);
    }
}
