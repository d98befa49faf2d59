//! Listings of folders.
//!
//! Entries come in the order of their keyed hashes, which are the cookies too: what is added or
//! removed while somebody lists moves nothing else. 1 and 2 are `.` and `..`; no hash is below 16.

use super::*;
use crate::format::Target;
use crate::namespace::Slot;
use crate::namespace::state::{Child, EntryKey, Name};
use crate::tree;

const DOT: u64 = 1;
const DOT_DOT: u64 = 2;
/// Entries looked at with the lock held.
const BATCH: usize = 256;

/// One entry to be delivered.
struct Item {
    key: EntryKey,
    child: Child,
    attr: Option<(Attr, bool)>,
}

impl Filesystem {
    /// Opens a folder.
    pub fn opendir(&self, ino: u64) -> FsResult<Opened> {
        if self.kind_of(ino)? != FileKind::Directory {
            return Err(FsError::NotDirectory);
        }
        if let Place::Current(file) = place(ino)
            && file != ROOT_FILE
        {
            self.with_namespace(|namespace| {
                let state = namespace.get(file)?;
                namespace.known.open(file, state.parent, &state.name, false);
                Ok(())
            })?;
        }
        let handle = self.new_handle(files::Handle::new(false));
        Ok(Opened {
            handle,
            keep_cache: true,
            writes: false,
        })
    }

    /// Closes a folder.
    pub fn releasedir(&self, ino: u64, handle: u64) {
        let Some(_) = self.handles.lock().remove(&handle) else {
            return;
        };
        if let Place::Current(file) = place(ino)
            && file != ROOT_FILE
        {
            let mut namespace = self.namespace.lock();
            if namespace.known.close(file) {
                self.drop_orphan(&mut namespace, file);
            }
        }
    }

    /// Lists a folder from a cookie on (0: from the beginning). `take` says whether it took the
    /// item; the first that it does not take ends the listing and is not counted.
    pub fn readdir(
        &self,
        ino: u64,
        _handle: u64,
        cookie: u64,
        listing: Listing,
        take: &mut dyn FnMut(DirItem<'_>) -> bool,
    ) -> FsResult<()> {
        let Place::Current(file) = place(ino) else {
            return self
                .snapshots
                .readdir(ino, cookie, listing, take, &|| self.getattr(CURRENT_INO));
        };
        let parent = self.with_namespace(|namespace| Ok(namespace.get(file)?.parent))?;
        let parent = if file == ROOT_FILE {
            ROOT_INO
        } else {
            ino_of(parent)
        };
        if !take_dots(cookie, ino, parent, take) {
            return Ok(());
        }
        let mut from = (cookie.max(DOT_DOT)).saturating_add(1);
        loop {
            let (items, more) =
                self.with_namespace(|namespace| list_batch(namespace, file, from, listing))?;
            for (place, item) in items.iter().enumerate() {
                // Of entries with one hash none but the last may be where a listing goes on.
                let is_last = items
                    .get(place + 1)
                    .is_none_or(|next| next.key.0 != item.key.0);
                let cookie = if is_last { item.key.0 } else { item.key.0 - 1 };
                let attr = item.attr.map(|(attr, _)| attr);
                let (ino, kind) = (ino_of(item.child.file), item.child.kind);
                if let Some((_, linked)) = item.attr {
                    // Counted first: the kernel may forget it before we come back.
                    self.namespace
                        .lock()
                        .known
                        .look_up(item.child, file, &item.key.1, linked);
                }
                if !take(DirItem {
                    ino,
                    kind,
                    name: &item.key.1,
                    cookie,
                    attr,
                }) {
                    if attr.is_some() {
                        self.forget(ino, 1);
                    }
                    return Ok(());
                }
            }
            match more {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }
}

/// Delivers `.` and `..`; false when there is no room for more.
pub(crate) fn take_dots(
    cookie: u64,
    ino: u64,
    parent: u64,
    take: &mut dyn FnMut(DirItem<'_>) -> bool,
) -> bool {
    let dots: [(&[u8], u64, u64); 2] = [(b".", ino, DOT), (b"..", parent, DOT_DOT)];
    dots.into_iter()
        .filter(|dot| dot.2 > cookie)
        .all(|(name, ino, cookie)| {
            take(DirItem {
                ino,
                kind: FileKind::Directory,
                name,
                cookie,
                attr: None,
            })
        })
}

/// Some entries from a hash on, and the hash from which on there may be more.
fn list_batch(
    namespace: &mut Namespace,
    file: FileNo,
    from: u64,
    listing: Listing,
) -> FsResult<(Vec<Item>, Option<u64>)> {
    let folder = namespace.get(file)?;
    let (found, more) = entries_from(namespace, &folder, from)?;
    let mut items = Vec::with_capacity(found.len());
    for (key, child, state) in found {
        let attr = match listing {
            Listing::Names => None,
            Listing::Plus => Some(item_attr(namespace, &folder, &key, child, state)?),
        };
        items.push(Item { key, child, attr });
    }
    Ok((items, more))
}

/// An entry, and its inode if the last commit has that in the folder itself.
type FoundEntry = (EntryKey, Child, Option<InodeState>);

/// Some entries of a folder from a hash on, and the hash from which on there may be more.
pub(super) fn entries_from(
    namespace: &mut Namespace,
    folder: &InodeState,
    from: u64,
) -> FsResult<(Vec<FoundEntry>, Option<u64>)> {
    let directory = folder.directory().ok_or(FsError::NotDirectory)?;
    let (mut changes, last) = directory.changes_from(from, BATCH);
    // A batch ends at a whole hash.
    let mut end = last.map(|key| key.0);
    let mut found: Vec<FoundEntry> = Vec::new();
    if let Some(base) = &directory.base {
        let nodes = namespace.nodes.clone();
        for entry in tree::scan(&*nodes, base, from) {
            let (hash, entry) = entry?;
            if end.is_some_and(|end| hash > end) {
                break;
            }
            let key: EntryKey = (hash, Name::from(entry.name.as_slice()));
            if changes.contains_key(&key) {
                continue;
            }
            if found.len() >= BATCH && found.last().is_some_and(|last| last.0.0 != hash) {
                end = found.last().map(|last| last.0.0);
                break;
            }
            let child = Child {
                file: entry.file(),
                kind: entry.kind(),
            };
            let state = match &entry.target {
                Target::Inline(inode) => Some(InodeState::committed(
                    inode,
                    folder.file,
                    key.1.clone(),
                    1,
                    false,
                )),
                Target::Linked { .. } => None,
            };
            found.push((key, child, state));
        }
    }
    if let Some(end) = end {
        changes.retain(|key, _| key.0 <= end);
    }
    let changed = changes
        .into_iter()
        .filter_map(|(key, child)| Some((key, child?, None)));
    found.extend(changed);
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok((found, end.map(|end| end.saturating_add(1))))
}

fn item_attr(
    namespace: &mut Namespace,
    folder: &InodeState,
    key: &EntryKey,
    child: Child,
    state: Option<InodeState>,
) -> FsResult<(Attr, bool)> {
    let state = match (namespace.changed(child.file), state) {
        (Some(Slot::Here(state)), _) => state.clone(),
        (_, Some(state)) => namespace.keep_clean(state),
        _ => namespace.find(folder, &key.1)?,
    };
    Ok((attr_of(&state), state.linked))
}
