//! Folders that stand in no tree.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::filesystem::{CURRENT_INO, VIRTUAL, now};

/// A folder or link that stands in no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Virtual {
    Root,
    Snapshots,
    Latest,
    Device(u16),
    /// A snapshot that is not stored yet: an empty folder.
    Pending(u64),
}

/// Cookie, name, inode number and kind.
type Listed = (u64, Vec<u8>, u64, FileKind);

const DEVICE: u64 = VIRTUAL | 1 << 32;
const PENDING: u64 = VIRTUAL | 1 << 40;

impl Virtual {
    pub(super) fn from_ino(ino: u64) -> Option<Self> {
        match ino {
            ROOT_INO => Some(Virtual::Root),
            SNAPSHOTS_INO => Some(Virtual::Snapshots),
            LATEST_INO => Some(Virtual::Latest),
            ino if ino & PENDING == PENDING => Some(Virtual::Pending(ino ^ PENDING)),
            ino if ino & DEVICE == DEVICE => Some(Virtual::Device((ino ^ DEVICE) as u16)),
            _ => None,
        }
    }

    pub(super) fn ino(self) -> u64 {
        match self {
            Virtual::Root => ROOT_INO,
            Virtual::Snapshots => SNAPSHOTS_INO,
            Virtual::Latest => LATEST_INO,
            Virtual::Device(number) => DEVICE | u64::from(number),
            Virtual::Pending(number) => PENDING | number,
        }
    }

    fn parent(self) -> u64 {
        match self {
            Virtual::Root | Virtual::Snapshots => ROOT_INO,
            Virtual::Latest | Virtual::Device(_) => SNAPSHOTS_INO,
            Virtual::Pending(_) => SNAPSHOTS_INO,
        }
    }
}

/// Whether a folder stands for a snapshot that was asked for: it will be replaced by the stored one.
pub(crate) fn is_pending(ino: u64) -> bool {
    matches!(Virtual::from_ino(ino), Some(Virtual::Pending(_)))
}

/// What looks different once another list is shown.
pub(crate) struct Changed {
    /// Names that stand for something else now, or for nothing, each with its folder.
    pub(crate) names: Vec<(u64, Vec<u8>)>,
    /// Folders and links that list or show something else. They come in the order in which they lead to each other, the last first: who
    /// follows `latest` finds its target.
    pub(crate) inodes: Vec<u64>,
}

impl Changed {
    pub(super) fn between(before: Option<&List>, now: &List) -> Self {
        let mut names = Vec::new();
        if let Some(before) = before {
            let folders = now.folders();
            let gone = before
                .folders()
                .into_iter()
                .filter(|(folder, sequence)| folders.get(folder) != Some(sequence))
                .map(|((device, name), _)| (Virtual::Device(device).ino(), name.into()));
            names.extend(gone);
            let renamed = before
                .devices
                .iter()
                .filter(|device| !now.devices.contains(device))
                .map(|(_, name)| (SNAPSHOTS_INO, name.clone().into_bytes()));
            names.extend(renamed);
            // Kernels before 6.14 cut a link that they know to the length that it had.
            names.push((SNAPSHOTS_INO, b"latest".to_vec()));
        }
        let devices: BTreeSet<u16> = before
            .into_iter()
            .chain([now])
            .flat_map(|list| list.devices.iter().map(|(number, _)| *number))
            .collect();
        let inodes = devices
            .into_iter()
            .map(Virtual::Device)
            .chain([Virtual::Latest, Virtual::Snapshots, Virtual::Root])
            .map(Virtual::ino)
            .collect();
        Changed { names, inodes }
    }
}

impl List {
    /// The sequence number of each snapshot, by its device and folder.
    fn folders(&self) -> BTreeMap<(u16, &str), u64> {
        self.snapshots
            .iter()
            .map(|snapshot| {
                let name = (snapshot.device_number, snapshot.folder.as_str());
                (name, snapshot.name.sequence)
            })
            .collect()
    }
}

impl SnapshotsView {
    fn this_device(&self) -> (u16, String) {
        let record = self.archive.device_record();
        (record.number, record.name)
    }

    pub(super) fn virtual_attr(&self, place: Virtual) -> FsResult<Attr> {
        let time = match place {
            Virtual::Device(number) => {
                let list = self.list()?;
                list.devices
                    .iter()
                    .find(|(device, _)| *device == number)
                    .ok_or(FsError::NotFound)?;
                list.snapshots
                    .iter()
                    .rev()
                    .find(|snapshot| snapshot.device_number == number)
                    .map(|snapshot| snapshot.time)
            }
            _ => None,
        };
        let time = time.unwrap_or_else(|| {
            self.newest_of_this_device()
                .map_or_else(now, |snapshot| snapshot.time)
        });
        let is_link = place == Virtual::Latest;
        let may_write = place == Virtual::Device(self.this_device().0);
        let attributes = Attributes {
            kind: if is_link {
                FileKind::Symlink
            } else {
                FileKind::Directory
            },
            mode: if is_link {
                0o777
            } else if may_write {
                0o755
            } else {
                0o555
            },
            uid: self.owner.0,
            gid: self.owner.1,
            owner: Arc::from([]),
            group: Arc::from([]),
            mtime: time,
            ctime: time,
            atime: time,
            rdev: 0,
        };
        let size = if is_link {
            self.latest()?.len() as u64
        } else {
            4096
        };
        Ok(attr(
            place.ino(),
            &attributes,
            size,
            0,
            if is_link { 1 } else { 2 },
        ))
    }

    pub(super) fn latest(&self) -> FsResult<Vec<u8>> {
        self.list()?;
        let newest = self.newest_of_this_device().ok_or(FsError::NotFound)?;
        Ok(format!("{}/{}", newest.device, newest.folder).into_bytes())
    }

    pub(super) fn lookup_virtual(&self, parent: Virtual, name: &[u8]) -> FsResult<Attr> {
        match (parent, name) {
            (Virtual::Root, b"snapshots") => self.virtual_attr(Virtual::Snapshots),
            (Virtual::Snapshots, b"latest") => self.virtual_attr(Virtual::Latest),
            (Virtual::Snapshots, name) => {
                let list = self.list()?;
                let found = list
                    .devices
                    .iter()
                    .find(|(_, device)| device.as_bytes() == name);
                self.virtual_attr(Virtual::Device(found.ok_or(FsError::NotFound)?.0))
            }
            (Virtual::Device(number), name) => {
                let list = self.list()?;
                let is_it = |snapshot: &&Snapshot| {
                    snapshot.device_number == number && snapshot.folder.as_bytes() == name
                };
                match list.snapshots.iter().find(is_it) {
                    Some(snapshot) => {
                        let ino = snapshot_ino(number, snapshot.name.sequence, ROOT_FILE);
                        let ino = ino.ok_or(FsError::Unsupported)?;
                        let loaded = self.load(ino)?;
                        self.count(ino, FileKind::Directory, parent.ino(), Arc::from(name));
                        Ok(loaded_attr(ino, &loaded))
                    }
                    None => self.pending(parent.ino(), name),
                }
            }
            _ => Err(FsError::NotFound),
        }
    }

    /// A snapshot that was asked for and is not stored yet.
    pub fn pending(&self, parent: u64, name: &[u8]) -> FsResult<Attr> {
        let is_ours = Virtual::from_ino(parent) == Some(Virtual::Device(self.this_device().0));
        let number = self.inner.lock().pending.get(name).copied();
        match number.filter(|_| is_ours) {
            Some(number) => self.virtual_attr(Virtual::Pending(number)),
            None => Err(FsError::NotFound),
        }
    }

    /// A snapshot was asked for by that name.
    pub(crate) fn requested(&self, label: &str, ticket: u64) {
        self.inner
            .lock()
            .pending
            .insert(label.as_bytes().to_vec(), ticket);
    }

    /// The label that making this folder asks for.
    pub fn label_for(&self, parent: u64, name: &[u8]) -> FsResult<String> {
        let number = self.this_device().0;
        if Virtual::from_ino(parent) != Some(Virtual::Device(number)) {
            return Err(FsError::ReadOnly);
        }
        let label = std::str::from_utf8(name).map_err(|_| FsError::Invalid)?;
        if name.len() > crate::filesystem::NAME_BYTES {
            return Err(FsError::NameTooLong);
        }
        match self.lookup_virtual(Virtual::Device(number), name) {
            Ok(found) => {
                self.forget(found.ino, 1);
                Err(FsError::Exists)
            }
            Err(FsError::NotFound) => Ok(label.to_owned()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn list_virtual(
        &self,
        place: Virtual,
        cookie: u64,
        listing: Listing,
        take: &mut dyn FnMut(DirItem<'_>) -> bool,
        current: &dyn Fn() -> FsResult<Attr>,
    ) -> FsResult<()> {
        let names: Vec<Listed> = match place {
            Virtual::Root => vec![
                (16, b"current".to_vec(), CURRENT_INO, FileKind::Directory),
                (
                    17,
                    b"snapshots".to_vec(),
                    SNAPSHOTS_INO,
                    FileKind::Directory,
                ),
            ],
            Virtual::Snapshots => self.snapshot_folders()?,
            Virtual::Device(number) => self.snapshots_of(number)?,
            Virtual::Pending(_) => Vec::new(),
            Virtual::Latest => return Err(FsError::NotDirectory),
        };
        if !take_dots(cookie, place.ino(), place.parent(), take) {
            return Ok(());
        }
        for (item_cookie, name, ino, kind) in names {
            if item_cookie <= cookie {
                continue;
            }
            let attr = match (listing, ino) {
                (Listing::Names, _) => None,
                (Listing::Plus, CURRENT_INO) => Some(current()?),
                (Listing::Plus, _) => Some(self.lookup_virtual(place, &name)?),
            };
            if !take(DirItem {
                ino,
                kind,
                name: &name,
                cookie: item_cookie,
                attr,
            }) {
                if attr.is_some() {
                    self.forget(ino, 1);
                }
                return Ok(());
            }
        }
        Ok(())
    }

    fn snapshot_folders(&self) -> FsResult<Vec<Listed>> {
        let list = self.list()?;
        let device = |(number, name): &(u16, String)| {
            let cookie = 17 + u64::from(*number);
            (
                cookie,
                name.clone().into_bytes(),
                Virtual::Device(*number).ino(),
                FileKind::Directory,
            )
        };
        let mut folders: Vec<_> = list.devices.iter().map(device).collect();
        folders.sort();
        if self.newest_of_this_device().is_some() {
            folders.insert(0, (16, b"latest".to_vec(), LATEST_INO, FileKind::Symlink));
        }
        Ok(folders)
    }

    fn snapshots_of(&self, number: u16) -> FsResult<Vec<Listed>> {
        let list = self.list()?;
        let of_device = list
            .snapshots
            .iter()
            .filter(|snapshot| snapshot.device_number == number);
        let item = |snapshot: &Snapshot| {
            let ino = snapshot_ino(number, snapshot.name.sequence, ROOT_FILE)?;
            Some((
                16 + snapshot.name.sequence,
                snapshot.folder.clone().into_bytes(),
                ino,
                FileKind::Directory,
            ))
        };
        let mut items: Vec<_> = of_device.filter_map(item).collect();
        items.sort();
        Ok(items)
    }
}
