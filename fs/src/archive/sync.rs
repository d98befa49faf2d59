//! Takes in what is in the store and not yet in the local index.

use std::collections::{BTreeSet, HashMap};

use futures::{StreamExt, stream};
use holdfast_backend::layout::{Folder, ObjectName};
use holdfast_backend::object::{Header, ObjectKind};
use holdfast_backend::store::StoreErrorKind;
use holdfast_crypto::Digest;

use super::{Archive, ArchiveError};
use crate::format::index::IndexBody;
use crate::packer::split;

const LOADS_AT_ONCE: usize = 8;

impl Archive {
    /// Takes in every index object that is new, of all devices, and gives up those that are gone.
    ///
    /// All index objects are taken and not only those of the newest commits: older snapshots need the
    /// packs that only older refs name. An object that does not open is reported and passed over.
    pub fn sync_index(&self) -> Result<usize, ArchiveError> {
        let names = self.names(Folder::Index)?;
        // Refs must not name what is gone. A listing that is only stale costs an index object more.
        let listed: BTreeSet<Digest> = names.iter().map(ObjectName::digest).collect();
        let gone = self.places.objects().difference(&listed).copied().collect();
        self.places.drop_objects(&gone)?;
        let new: Vec<ObjectName> = names
            .into_iter()
            .filter(|name| !self.places.has_object(&name.digest()))
            .collect();
        let store = &self.store;
        let load = |name: ObjectName| async move { (name, store.get(&name).await) };
        let mut loads = stream::iter(new).map(load).buffer_unordered(LOADS_AT_ONCE);
        let mut taken = 0;
        // One at a time is opened, so that memory holds a few of them only.
        while let Some((name, loaded)) = self.ask(async { Ok(loads.next().await) })? {
            let taking = loaded
                .map_err(ArchiveError::Store)
                .and_then(|bytes| self.take_index(&name, &bytes));
            match taking {
                Ok(()) => taken += 1,
                Err(ArchiveError::Store(error))
                    if !error.is_not_found() && error.kind() != StoreErrorKind::Damaged =>
                {
                    return Err(error.into());
                }
                Err(error @ ArchiveError::Index(_)) => return Err(error),
                Err(error) => tracing::error!(%error, "an index object is passed over"),
            }
        }
        Ok(taken)
    }

    fn take_index(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), ArchiveError> {
        let bad = |why: String| ArchiveError::BadIndex { name: *name, why };
        let (header, _) =
            Header::parse(ObjectKind::Index, bytes).map_err(|error| bad(error.to_string()))?;
        let keys = self
            .keychain
            .epoch(header.epoch)
            .ok_or_else(|| bad("its epoch is unknown".into()))?;
        let body =
            IndexBody::from_object(bytes, &keys.index).map_err(|error| bad(error.to_string()))?;
        Ok(self.places.add_object(name.digest(), &split(&body))?)
    }

    /// Finds the packs that the index knows and the store does not list, or lists with another size.
    /// They never satisfy deduplication; loading still tries them, since a listing may be stale.
    pub fn find_absent_packs(&self) -> Result<usize, ArchiveError> {
        // What is stored while the store lists is not asked for.
        let known = self.places.packs();
        let listed = self.ask(self.store.list(Folder::Packs))?;
        let there: HashMap<Digest, u64> = listed
            .into_iter()
            .map(|listed| (listed.name.digest(), listed.size))
            .collect();
        let absent: BTreeSet<Digest> = known
            .into_iter()
            .filter(|pack| there.get(pack).copied() != self.places.size_of(pack))
            .collect();
        let count = absent.len();
        self.places.set_aside(absent.iter().copied());
        *self.absent_packs.write() = absent;
        Ok(count)
    }
}
