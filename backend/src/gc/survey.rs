//! What gc knows of an archive: listings, refs and marks.

use std::collections::{BTreeMap, BTreeSet};

use super::GcError;
use crate::layout::{Folder, ObjectName};
use crate::marks::{Marks, is_collectable, unix_seconds};
use crate::refs::RefsTable;
use crate::store::ObjectStore;

/// What a listing says of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970 in UTC, by the store's clock.
    pub stored_at: Option<i64>,
}

/// One reading of an archive. Not atomic: see [`Survey::take`] for why its order is safe.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Packs, index and key objects, refs and commits.
    pub objects: BTreeMap<ObjectName, Facts>,
    /// The refs, read.
    pub refs: RefsTable,
    /// The marks, read.
    pub marks: Marks,
}

impl Survey {
    /// Lists and reads everything that gc decides by.
    ///
    /// Commits are listed before refs: a device stores refs first, so a commit that is seen has its
    /// refs seen, and refs without a commit are taken for a backup under way. Data is listed before
    /// moved marks are read: compact stores data first, and a move whose new packs were not yet listed
    /// is not applied.
    pub async fn take(store: &dyn ObjectStore, now: i64) -> Result<Self, GcError> {
        let mut objects = BTreeMap::new();
        for folder in [
            Folder::Packs,
            Folder::Index,
            Folder::Keys,
            Folder::Commits(None),
            Folder::Refs(None),
        ] {
            for listed in store.list(folder).await? {
                debug_assert!(is_collectable(&listed.name));
                let facts = Facts {
                    size: listed.size,
                    stored_at: listed.stored_at.map(unix_seconds),
                };
                objects.insert(listed.name, facts);
            }
        }
        let refs = RefsTable::load(store, None).await?;
        let marks = Marks::read(store, now).await?;
        Ok(Survey {
            objects,
            refs,
            marks,
        })
    }

    /// Whether the object was listed.
    pub fn exists(&self, name: &ObjectName) -> bool {
        self.objects.contains_key(name)
    }

    /// The commits that were listed.
    pub fn commits(&self) -> impl Iterator<Item = crate::marks::CommitName> {
        self.objects
            .keys()
            .filter_map(|name| (*name).try_into().ok())
    }

    /// Takes out what was deleted since.
    pub(super) fn forget(&mut self, deleted: &BTreeSet<ObjectName>) {
        self.objects.retain(|name, _| !deleted.contains(name));
        let texts = self.refs.texts().iter();
        self.refs = texts
            .filter(|(name, _)| !deleted.contains(name))
            .map(|(_, refs)| refs.clone())
            .collect();
    }
}
