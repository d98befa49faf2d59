//! Attributes and extended attributes.

use super::files::without_set_ids;
use super::*;

/// Longest name and value of an extended attribute, as Linux has it.
const XATTR_NAME_BYTES: usize = 255;
const XATTR_VALUE_BYTES: usize = 64 << 10;
/// All extended attributes of a file together.
const XATTRS_BYTES: usize = 128 << 10;
/// File capabilities: a write takes them, as it takes set-id bits.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

impl Filesystem {
    /// chmod, chown, truncate, utimens.
    pub fn setattr(&self, ino: u64, change: SetAttr) -> FsResult<Attr> {
        let file = writable(ino)?;
        if let Some(size) = change.size {
            self.truncate(file, size)?;
        }
        self.with_namespace(|namespace| {
            let state = namespace.get(file)?;
            let mut attributes = state.attributes.clone();
            let now = now();
            let at = |time: SetTime| match time {
                SetTime::Now => now,
                SetTime::At(time) => time,
            };
            let owner_changes = change.uid.is_some() || change.gid.is_some();
            attributes.uid = change.uid.unwrap_or(attributes.uid);
            attributes.gid = change.gid.unwrap_or(attributes.gid);
            if owner_changes {
                // The names were those of the numbers before.
                attributes.owner = Arc::from([]);
                attributes.group = Arc::from([]);
            }
            if change.kill_suid || owner_changes && state.directory().is_none() {
                attributes.mode = without_set_ids(attributes.mode);
            }
            attributes.mode = change.mode.map_or(attributes.mode, |mode| mode & 0o7777);
            attributes.atime = change.atime.map_or(attributes.atime, at);
            attributes.mtime = change.mtime.map_or(attributes.mtime, at);
            attributes.ctime = change.ctime.unwrap_or(now);
            let mut group = Vec::new();
            namespace.touch(file, &mut group)?;
            if change.mode.is_some()
                && let Some(value) = state.xattrs.get(acl::ACCESS)
                && let Some(value) = acl::with_mode(value, attributes.mode)
            {
                group.push(Operation::Xattr(file, acl::ACCESS.to_vec(), Some(value)));
            }
            group.push(Operation::Attributes(file, attributes));
            if (change.kill_suid || owner_changes) && state.xattrs.contains_key(CAPABILITY) {
                group.push(Operation::Xattr(file, CAPABILITY.to_vec(), None));
            }
            self.commit_group(namespace, &group, Room::Reserved)?;
            Ok(attr_of(&*namespace.get(file)?))
        })
    }

    /// Sets an extended attribute. An access ACL changes the mode; one that says no more than the mode
    /// is not kept (see `acl.rs`).
    pub fn setxattr(&self, ino: u64, name: &[u8], value: &[u8], flags: XattrFlags) -> FsResult<()> {
        let file = writable(ino)?;
        if name.is_empty() || name.len() > XATTR_NAME_BYTES {
            return Err(FsError::Range);
        }
        if value.len() > XATTR_VALUE_BYTES {
            return Err(FsError::TooBig);
        }
        self.slow_down(0)?;
        self.with_namespace(|namespace| {
            let state = namespace.get(file)?;
            match state.xattrs.contains_key(name) {
                true if flags.create => return Err(FsError::Exists),
                false if flags.replace => return Err(FsError::NoData),
                _ => (),
            }
            let others = state
                .xattrs
                .iter()
                .filter(|(other, _)| other.as_slice() != name);
            let bytes: usize = others.map(|(name, value)| name.len() + value.len()).sum();
            if bytes + name.len() + value.len() > XATTRS_BYTES {
                return Err(FsError::NoSpace);
            }
            let mut attributes = Attributes {
                ctime: now(),
                ..state.attributes.clone()
            };
            if flags.kill_sgid {
                attributes.mode &= !0o2000;
            }
            let keep = match name {
                acl::ACCESS => match acl::access(value).ok_or(FsError::Invalid)? {
                    None => false,
                    Some(access) => {
                        attributes.mode = attributes.mode & !0o777 | access.permissions;
                        access.extended
                    }
                },
                acl::DEFAULT if state.directory().is_none() => return Err(FsError::Access),
                acl::DEFAULT => !acl::is_empty(value).ok_or(FsError::Invalid)?,
                _ => true,
            };
            let mut group = Vec::new();
            namespace.touch(file, &mut group)?;
            if keep || state.xattrs.contains_key(name) {
                group.push(Operation::Xattr(
                    file,
                    name.to_vec(),
                    keep.then(|| value.to_vec()),
                ));
            }
            group.push(Operation::Attributes(file, attributes));
            self.commit_group(namespace, &group, Room::Ordinary)
        })
    }

    /// Reads an extended attribute.
    pub fn getxattr(&self, ino: u64, name: &[u8]) -> FsResult<Vec<u8>> {
        let xattrs = self.xattrs(ino)?;
        xattrs.get(name).cloned().ok_or(FsError::NoData)
    }

    /// Names of the extended attributes.
    pub fn listxattr(&self, ino: u64) -> FsResult<Vec<Vec<u8>>> {
        Ok(self.xattrs(ino)?.keys().cloned().collect())
    }

    fn xattrs(&self, ino: u64) -> FsResult<Arc<crate::format::Xattrs>> {
        match place(ino) {
            Place::Current(file) => {
                self.with_namespace(|namespace| Ok(namespace.get(file)?.xattrs.clone()))
            }
            Place::Snapshots => self.snapshots.xattrs(ino),
        }
    }

    /// Removes an extended attribute.
    pub fn removexattr(&self, ino: u64, name: &[u8]) -> FsResult<()> {
        let file = writable(ino)?;
        self.with_namespace(|namespace| {
            let state = namespace.get(file)?;
            if !state.xattrs.contains_key(name) {
                return Err(FsError::NoData);
            }
            let mut group = Vec::new();
            namespace.touch(file, &mut group)?;
            group.push(Operation::Xattr(file, name.to_vec(), None));
            group.push(Operation::Attributes(
                file,
                Attributes {
                    ctime: now(),
                    ..state.attributes.clone()
                },
            ));
            self.commit_group(namespace, &group, Room::Reserved)
        })
    }
}
