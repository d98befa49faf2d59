//! A FUSE file system that does nothing: what the kernel and the library alone take.
//!
//! It keeps names, attributes and sizes, so that cp and find work on it; content is thrown away, and
//! reads as zeros. The session is set up as the drive's is. The only file here that names fuser.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

/// As in the drive.
const THREADS: usize = 3;
const REQUEST_BYTES: u32 = 1 << 20;
const READ_AHEAD_KIB: u32 = 4096;
const TRUSTED: Duration = Duration::from_secs(3600);

static ZEROS: [u8; REQUEST_BYTES as usize] = [0; REQUEST_BYTES as usize];

/// Mounts at `folder` and serves until somebody unmounts it.
pub fn serve(folder: &Path) -> anyhow::Result<()> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("holdfast-null".into()),
        MountOption::DefaultPermissions,
        MountOption::NoDev,
        MountOption::NoSuid,
    ];
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    let session = fuser::Session::new(NullDrive::new(), folder, &config)?.spawn()?;
    raise_read_ahead(folder);
    // An unmount from outside ends the session's threads.
    Ok(session.join()?)
}

fn raise_read_ahead(folder: &Path) {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = std::fs::metadata(folder) else {
        return;
    };
    let (major, minor) = (
        rustix::fs::major(metadata.dev()),
        rustix::fs::minor(metadata.dev()),
    );
    // Only root may, here as in the drive.
    let _ = std::fs::write(
        format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"),
        READ_AHEAD_KIB.to_string(),
    );
}

struct NullDrive {
    names: Mutex<Names>,
}

/// Node 1 is the root; a node's number is its place here.
struct Names {
    nodes: Vec<Node>,
    children: HashMap<(u64, OsString), u64>,
}

struct Node {
    attr: FileAttr,
    target: OsString,
    listing: Vec<(OsString, u64)>,
}

impl Names {
    fn add(&mut self, parent: INodeNo, name: &OsStr, node: Node) -> FileAttr {
        let number = self.nodes.len() as u64;
        let attr = FileAttr {
            ino: INodeNo(number),
            ..node.attr
        };
        self.nodes.push(Node { attr, ..node });
        self.children.insert((parent.0, name.to_owned()), number);
        if let Some(parent) = self.nodes.get_mut(parent.0 as usize) {
            parent.listing.push((name.to_owned(), number));
        }
        attr
    }

    fn attr(&self, ino: INodeNo) -> Option<FileAttr> {
        self.nodes.get(ino.0 as usize).map(|node| node.attr)
    }
}

fn node(kind: FileType, mode: u32, request: Option<&Request>) -> Node {
    let now = SystemTime::now();
    let attr = FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind,
        perm: (mode & 0o7777) as u16,
        nlink: 1,
        uid: request.map_or(rustix::process::getuid().as_raw(), Request::uid),
        gid: request.map_or(rustix::process::getgid().as_raw(), Request::gid),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    };
    Node {
        attr,
        target: OsString::new(),
        listing: Vec::new(),
    }
}

fn resize(attr: &mut FileAttr, size: u64) {
    attr.size = size;
    // With no blocks cp would look for holes.
    attr.blocks = size.div_ceil(512);
}

fn moment(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

impl NullDrive {
    fn new() -> NullDrive {
        let mut names = Names {
            nodes: Vec::new(),
            children: HashMap::new(),
        };
        // Number 0 is nobody.
        names.nodes.push(node(FileType::Directory, 0, None));
        names.add(
            INodeNo(0),
            OsStr::new("/"),
            node(FileType::Directory, 0o755, None),
        );
        NullDrive {
            names: Mutex::new(names),
        }
    }

    fn enter(&self, parent: INodeNo, name: &OsStr, node: Node, reply: ReplyEntry) {
        let attr = self.names.lock().add(parent, name, node);
        reply.entry(&TRUSTED, &attr, Generation(0));
    }
}

impl Filesystem for NullDrive {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for flag in [
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_BIG_WRITES,
            InitFlags::FUSE_MAX_PAGES,
        ] {
            // A kernel that lacks one is measured without it.
            let _ = config.add_capabilities(flag);
        }
        let _ = config
            .set_max_write(REQUEST_BYTES)
            .map_err(|nearest| config.set_max_write(nearest));
        let _ = config
            .set_max_readahead(REQUEST_BYTES)
            .map_err(|nearest| config.set_max_readahead(nearest));
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let names = self.names.lock();
        let found = names.children.get(&(parent.0, name.to_owned()));
        match found.and_then(|number| names.attr(INodeNo(*number))) {
            Some(attr) => reply.entry(&TRUSTED, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.names.lock().attr(ino) {
            Some(attr) => reply.attr(&TRUSTED, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut names = self.names.lock();
        let Some(Node { attr, .. }) = names.nodes.get_mut(ino.0 as usize) else {
            return reply.error(Errno::ENOENT);
        };
        attr.perm = mode.map_or(attr.perm, |mode| (mode & 0o7777) as u16);
        attr.uid = uid.unwrap_or(attr.uid);
        attr.gid = gid.unwrap_or(attr.gid);
        attr.atime = atime.map_or(attr.atime, moment);
        attr.mtime = mtime.map_or(attr.mtime, moment);
        if let Some(size) = size {
            resize(attr, size);
        }
        reply.attr(&TRUSTED, attr);
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        use std::os::unix::ffi::OsStrExt;
        match self.names.lock().nodes.get(ino.0 as usize) {
            Some(node) => reply.data(node.target.as_bytes()),
            None => reply.error(Errno::ENOENT),
        }
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
        let made = node(FileType::Directory, mode & !umask, Some(request));
        self.enter(parent, name, made, reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let made = Node {
            target: target.as_os_str().to_owned(),
            ..node(FileType::Symlink, 0o777, Some(request))
        };
        self.enter(parent, name, made, reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = node(FileType::RegularFile, mode & !umask, Some(request));
        let attr = self.names.lock().add(parent, name, made);
        let (handle, flags) = (FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        reply.created(&TRUSTED, &attr, Generation(0), handle, flags);
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let end = self.names.lock().attr(ino).map_or(0, |attr| attr.size);
        let length = end.saturating_sub(offset).min(size.into()) as usize;
        reply.data(&ZEROS[..length.min(ZEROS.len())]);
    }

    fn write(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut names = self.names.lock();
        let Some(Node { attr, .. }) = names.nodes.get_mut(ino.0 as usize) else {
            return reply.error(Errno::ENOENT);
        };
        resize(attr, attr.size.max(offset + data.len() as u64));
        reply.written(data.len() as u32);
    }

    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let names = self.names.lock();
        let Some(folder) = names.nodes.get(ino.0 as usize) else {
            return reply.error(Errno::ENOENT);
        };
        let from = folder.listing.iter().enumerate().skip(offset as usize);
        for (at, (name, number)) in from {
            let kind = names.nodes[*number as usize].attr.kind;
            if reply.add(INodeNo(*number), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let many = 1 << 40;
        reply.statfs(many, many, many, many, many, 4096, 255, 4096);
    }

    fn setxattr(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn getxattr(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _size: u32,
        reply: ReplyXattr,
    ) {
        // Not ENOSYS, after which the kernel would not ask again: the drive has attributes.
        reply.error(Errno::ENODATA);
    }

    fn removexattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.ok();
    }

    fn listxattr(&self, _request: &Request, _ino: INodeNo, size: u32, reply: ReplyXattr) {
        match size {
            0 => reply.size(0),
            _ => reply.data(&[]),
        }
    }
}
