//! Kernel request <-> filesystem call. The only file (with its folder) that names fuser.
//!
//! A request is tried on the thread that read it, with no patience: what is in memory or in the log
//! is answered there, without a change of thread. A call that would have to wait for the store says
//! so before it has done anything, and is run again on a thread that may wait, with [`DEADLINE`]: a
//! caller whose request is never answered sits in D state, where kill -9 does not help.
//!
//! Traps of the library, each met here (measured): an unanswered fsync makes the kernel report success
//! for ever, so all of fsync, fsyncdir, flush and the xattr calls are there; HANDLE_KILLPRIV_V2 saves
//! one getxattr a write; write-back caching would reorder writes and stays off.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenFlags as KernelOpenFlags,
    RenameFlags as KernelRenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use tokio::runtime::Handle;

use crate::blocking;
use crate::filesystem::{
    Attr, Fallocate, Filesystem, FsError, FsResult, Listing, NewNode, OpenFlags, Opened,
    RenameFlags, SetAttr, Whence, XattrFlags,
};

mod convert;
mod errno;
mod late;
mod reply;
mod session;

use convert::{attributes, file_type, kind_of_mode, set_time, time};
use late::LateReads;
use reply::Refuse;
pub use session::{MountOptions, MountedDrive, mount};

/// What of the library's own log is worth a line: the session unmounts by itself, and says then that what is unmounted cannot be
/// unmounted again.
pub const LOG_FILTER: &str = "fuser::mnt=error";

/// How long a request may wait for the store, and for a thread on which to wait.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How long the kernel may believe what it was told: the drive changes through the kernel only, and
/// where it does not (`backup`), the kernel is told.
const TRUSTED: Duration = Duration::from_secs(3600);

/// A snapshot that was asked for by mkdir becomes the stored one.
const CHANGING: Duration = Duration::ZERO;

/// Requests of the kernel for which nobody has to wait, under way at once.
const MOST_IN_BACKGROUND: u16 = 4096;

/// Largest request, in bytes.
const REQUEST_BYTES: u32 = 1 << 20;

/// The kernel's side of the drive.
struct Shell {
    drive: Arc<Filesystem>,
    /// Where calls wait for the store, for room in the log, and for the disk alone: none of them for the others.
    waiting: Handle,
    room: Handle,
    disk: Handle,
    late: Arc<LateReads>,
}

impl Shell {
    /// Runs a call here if it need not wait, else where it may; then answers.
    fn serve<T, R, C, D>(&self, reply: R, call: C, answer: D)
    where
        R: Refuse + Send + 'static,
        C: Fn(&Filesystem) -> FsResult<T> + Send + 'static,
        D: FnOnce(R, T) + Send + 'static,
    {
        if self.drive.is_shut() {
            return finish(reply, Err(FsError::Access), answer);
        }
        match blocking::without_waiting(|| call(&self.drive)) {
            Err(FsError::WouldBlock) => self.serve_on(&self.waiting, reply, call, answer),
            Err(FsError::NoRoomYet) => self.serve_on(&self.room, reply, call, answer),
            result => finish(reply, result, answer),
        }
    }

    /// A sync always waits: for the disk, or of the whole drive for the store.
    fn serve_sync<C>(&self, ino: INodeNo, reply: ReplyEmpty, call: C)
    where
        C: Fn(&Filesystem) -> FsResult<()> + Send + 'static,
    {
        let threads = if Filesystem::syncs_to_store(ino.0) {
            &self.waiting
        } else {
            &self.disk
        };
        self.serve_on(threads, reply, call, |reply, ()| reply.ok());
    }

    fn serve_on<T, R, C, D>(&self, threads: &Handle, reply: R, call: C, answer: D)
    where
        R: Refuse + Send + 'static,
        C: Fn(&Filesystem) -> FsResult<T> + Send + 'static,
        D: FnOnce(R, T) + Send + 'static,
    {
        if self.drive.is_shut() {
            return finish(reply, Err(FsError::Access), answer);
        }
        let drive = Arc::clone(&self.drive);
        // From now, not from when a thread is free: the caller waits already.
        let until = Instant::now() + DEADLINE;
        threads.spawn_blocking(move || {
            let result = match drive.is_shut() {
                true => Err(FsError::Access),
                false => blocking::with_deadline(until, || call(&drive)),
            };
            finish(reply, result, answer);
        });
    }

    fn serve_entry<C>(&self, reply: ReplyEntry, call: C)
    where
        C: Fn(&Filesystem) -> FsResult<Attr> + Send + 'static,
    {
        self.serve(reply, call, |reply, attr| {
            reply.entry(&trust(attr.ino), &attributes(&attr), Generation(0));
        });
    }

    fn serve_empty<C>(&self, reply: ReplyEmpty, call: C)
    where
        C: Fn(&Filesystem) -> FsResult<()> + Send + 'static,
    {
        self.serve(reply, call, |reply, ()| reply.ok());
    }
}

fn finish<T, R: Refuse>(reply: R, result: FsResult<T>, answer: impl FnOnce(R, T)) {
    match result {
        Ok(value) => answer(reply, value),
        Err(error) => reply.refuse(errno::to_errno(&error)),
    }
}

fn trust(ino: u64) -> Duration {
    if Filesystem::is_passing(ino) {
        CHANGING
    } else {
        TRUSTED
    }
}

/// A file that is only read needs no request when it is closed: of open, read and flush, which its reader
/// waits for, that is one.
fn opened_flags(opened: &Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags.set(FopenFlags::FOPEN_NOFLUSH, !opened.writes);
    flags
}

fn owned(name: &OsStr) -> Vec<u8> {
    name.as_bytes().to_vec()
}

impl fuser::Filesystem for Shell {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Each is asked for by itself: a kernel that lacks one still gets the others. Not
        // FUSE_ATOMIC_O_TRUNC: with it the kernel empties a program that is being executed before it
        // finds that it has to answer ETXTBSY.
        for flag in [
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_BIG_WRITES,
            InitFlags::FUSE_MAX_PAGES,
        ] {
            if let Err(lacking) = config.add_capabilities(flag) {
                tracing::debug!(?lacking, "the kernel lacks a FUSE capability");
            }
        }
        // Each setter answers with the nearest value that the kernel takes.
        let _ = config
            .set_max_write(REQUEST_BYTES)
            .map_err(|nearest| config.set_max_write(nearest));
        let _ = config
            .set_max_readahead(REQUEST_BYTES)
            .map_err(|nearest| config.set_max_readahead(nearest));
        // Reads ahead: of more than these the kernel tells nothing, and no deadline counts for them.
        let _ = config.set_max_background(MOST_IN_BACKGROUND);
        let _ = config.set_time_granularity(Duration::from_nanos(1));
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = owned(name);
        self.serve_entry(reply, move |drive| drive.lookup(parent.0, &name));
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        self.drive.forget(ino.0, count);
    }

    fn getattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        self.serve(
            reply,
            move |drive| drive.getattr(ino.0),
            |reply, attr| reply.attr(&trust(attr.ino), &attributes(&attr)),
        );
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = SetAttr {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            ctime: ctime.map(time),
            handle: handle.map(|handle| handle.0),
            // The library does not pass FATTR_KILL_SUIDGID on. The kernel sets it for a truncate
            // by a caller without CAP_FSETID; root is the caller that has it.
            kill_suid: size.is_some() && request.uid() != 0,
        };
        self.serve(
            reply,
            move |drive| drive.setattr(ino.0, change),
            |reply, attr| reply.attr(&trust(attr.ino), &attributes(&attr)),
        );
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        self.serve(
            reply,
            move |drive| drive.readlink(ino.0),
            |reply, target| reply.data(&target),
        );
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let Some(kind) = kind_of_mode(mode) else {
            return reply.error(Errno::EINVAL);
        };
        let (name, uid, gid) = (owned(name), request.uid(), request.gid());
        let node = NewNode {
            kind,
            mode: mode & 0o7777 & !umask,
            rdev: rdev.into(),
            uid,
            gid,
        };
        self.serve_entry(reply, move |drive| drive.mknod(parent.0, &name, node));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let (name, uid, gid) = (owned(name), request.uid(), request.gid());
        let mode = mode & 0o7777 & !umask;
        self.serve_entry(reply, move |drive| {
            drive.mkdir(parent.0, &name, mode, uid, gid)
        });
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = owned(name);
        self.serve_empty(reply, move |drive| drive.unlink(parent.0, &name));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = owned(name);
        self.serve_empty(reply, move |drive| drive.rmdir(parent.0, &name));
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (name, target) = (owned(name), owned(target.as_os_str()));
        let (uid, gid) = (request.uid(), request.gid());
        self.serve_entry(reply, move |drive| {
            drive.symlink(parent.0, &name, &target, uid, gid)
        });
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: KernelRenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.contains(KernelRenameFlags::RENAME_WHITEOUT) {
            return reply.error(Errno::EINVAL);
        }
        let flags = RenameFlags {
            no_replace: flags.contains(KernelRenameFlags::RENAME_NOREPLACE),
            exchange: flags.contains(KernelRenameFlags::RENAME_EXCHANGE),
        };
        let (name, new_name) = (owned(name), owned(new_name));
        self.serve_empty(reply, move |drive| {
            drive.rename(parent.0, &name, new_parent.0, &new_name, flags)
        });
    }

    fn link(
        &self,
        _request: &Request,
        ino: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        let name = owned(name);
        self.serve_entry(reply, move |drive| drive.link(ino.0, parent.0, &name));
    }

    fn open(&self, _request: &Request, ino: INodeNo, flags: KernelOpenFlags, reply: ReplyOpen) {
        let flags = OpenFlags::from_bits(flags.0);
        self.serve(
            reply,
            move |drive| drive.open(ino.0, flags),
            |reply, opened| reply.opened(FileHandle(opened.handle), opened_flags(&opened)),
        );
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (name, uid, gid) = (owned(name), request.uid(), request.gid());
        let (mode, flags) = (mode & 0o7777 & !umask, OpenFlags::from_bits(flags));
        self.serve(
            reply,
            move |drive| drive.create(parent.0, &name, mode, uid, gid, flags),
            |reply, (attr, opened)| {
                let handle = FileHandle(opened.handle);
                reply.created(
                    &trust(attr.ino),
                    &attributes(&attr),
                    Generation(0),
                    handle,
                    opened_flags(&opened),
                );
            },
        );
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: KernelOpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = move |drive: &Filesystem| drive.read(ino.0, handle.0, offset, size);
        if self.drive.is_shut() {
            return finish(reply, Err(FsError::Access), |_, ()| ());
        }
        match blocking::without_waiting(|| read(&self.drive)) {
            Err(FsError::WouldBlock) if self.late.is_asked_again(ino.0, offset) => {
                reply.refuse(errno::to_errno(&FsError::TimedOut));
            }
            Err(FsError::WouldBlock) => {
                let late = Arc::clone(&self.late);
                let read = move |drive: &Filesystem| {
                    read(drive).inspect_err(|error| {
                        if matches!(error, FsError::TimedOut) {
                            late.ended(ino.0, offset..offset.saturating_add(size.into()));
                        }
                    })
                };
                self.serve_on(&self.waiting, reply, read, |reply, data| reply.data(&data));
            }
            result => finish(reply, result, |reply, data| reply.data(&data)),
        }
    }

    fn write(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: KernelOpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let kill_suid = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        if self.drive.is_shut() {
            return finish(reply, Err(FsError::Access), |_, ()| ());
        }
        match blocking::without_waiting(|| {
            self.drive.write(ino.0, handle.0, offset, data, kill_suid)
        }) {
            // Only a write that has to wait is copied: the buffer is the kernel thread's.
            Err(error @ (FsError::WouldBlock | FsError::NoRoomYet)) => {
                let data = data.to_vec();
                let threads = match error {
                    FsError::NoRoomYet => &self.room,
                    _ => &self.waiting,
                };
                self.serve_on(
                    threads,
                    reply,
                    move |drive| drive.write(ino.0, handle.0, offset, &data, kill_suid),
                    |reply, written| reply.written(written),
                );
            }
            result => finish(reply, result, |reply, written| reply.written(written)),
        }
    }

    fn flush(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        self.serve_empty(reply, move |drive| drive.flush(ino.0, handle.0));
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: KernelOpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.drive.release(ino.0, handle.0);
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.serve_sync(ino, reply, move |drive| drive.fsync(ino.0, data_only));
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.serve_sync(ino, reply, move |drive| drive.fsyncdir(ino.0, data_only));
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: KernelOpenFlags, reply: ReplyOpen) {
        self.serve(
            reply,
            move |drive| drive.opendir(ino.0),
            move |reply, opened| {
                let mut flags = opened_flags(&opened);
                if opened.keep_cache {
                    flags |= FopenFlags::FOPEN_CACHE_DIR;
                }
                reply.opened(FileHandle(opened.handle), flags);
            },
        );
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        cookie: u64,
        reply: ReplyDirectory,
    ) {
        let page = reply::Page::new(reply, cookie);
        self.serve(
            page.clone(),
            move |drive| {
                page.fill(|cookie| {
                    drive.readdir(ino.0, handle.0, cookie, Listing::Names, &mut |item| {
                        let (ino, kind, name) = (
                            INodeNo(item.ino),
                            file_type(item.kind),
                            OsStr::from_bytes(item.name),
                        );
                        page.add(item.cookie, |reply| reply.add(ino, item.cookie, kind, name))
                    })
                })
            },
            |page, ()| page.send(ReplyDirectory::ok),
        );
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        cookie: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let page = reply::Page::new(reply, cookie);
        self.serve(
            page.clone(),
            move |drive| {
                page.fill(|cookie| {
                    drive.readdir(ino.0, handle.0, cookie, Listing::Plus, &mut |item| {
                        let attr = item.attr.map_or_else(
                            || reply::bare(item.ino, item.kind),
                            |attr| attributes(&attr),
                        );
                        let (ino, name, ttl) = (
                            INodeNo(item.ino),
                            OsStr::from_bytes(item.name),
                            trust(item.ino),
                        );
                        page.add(item.cookie, |reply| {
                            reply.add(ino, item.cookie, name, &ttl, &attr, Generation(0))
                        })
                    })
                })
            },
            |page, ()| page.send(ReplyDirectoryPlus::ok),
        );
    }

    fn releasedir(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: KernelOpenFlags,
        reply: ReplyEmpty,
    ) {
        self.drive.releasedir(ino.0, handle.0);
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.serve(
            reply,
            |drive| drive.statfs(),
            |reply, s| {
                reply.statfs(
                    s.blocks,
                    s.free,
                    s.free,
                    s.files,
                    s.files_free,
                    s.block_bytes,
                    s.name_bytes,
                    s.block_bytes,
                );
            },
        );
    }

    fn setxattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (name, value) = (owned(name), value.to_vec());
        let flags = XattrFlags {
            create: flags & libc::XATTR_CREATE != 0,
            replace: flags & libc::XATTR_REPLACE != 0,
            kill_sgid: false,
        };
        self.serve_empty(reply, move |drive| {
            drive.setxattr(ino.0, &name, &value, flags)
        });
    }

    fn getxattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let name = owned(name);
        self.serve(
            reply,
            move |drive| drive.getxattr(ino.0, &name),
            move |reply, value| reply::xattr(reply, &value, size),
        );
    }

    fn listxattr(&self, _request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.serve(
            reply,
            move |drive| drive.listxattr(ino.0),
            move |reply, names| {
                let mut list = names.join(&0);
                if !names.is_empty() {
                    list.push(0);
                }
                reply::xattr(reply, &list, size);
            },
        );
    }

    fn removexattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = owned(name);
        self.serve_empty(reply, move |drive| drive.removexattr(ino.0, &name));
    }

    fn fallocate(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        match Fallocate::from_mode(mode) {
            Some(mode) => self.serve_empty(reply, move |drive| {
                drive.fallocate(ino.0, mode, offset, length)
            }),
            None => reply.error(Errno::from_i32(libc::EOPNOTSUPP)),
        }
    }

    fn lseek(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let whence = match whence {
            libc::SEEK_DATA => Whence::Data,
            libc::SEEK_HOLE => Whence::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(Errno::from_i32(libc::ENXIO));
        };
        self.serve(
            reply,
            move |drive| drive.lseek(ino.0, offset, whence),
            |reply, found| reply.offset(found as i64),
        );
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        from: INodeNo,
        _from_handle: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _to_handle: FileHandle,
        to_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The answer has 32 bits; whole MiB keep the caller's next call aligned.
        let length = length.min(u64::from(u32::MAX) & !((1 << 20) - 1));
        self.serve(
            reply,
            move |drive| drive.copy_file_range(from.0, from_offset, to.0, to_offset, length),
            |reply, copied| reply.written(copied as u32),
        );
    }
}
