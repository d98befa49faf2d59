//! Takes in what is in the store and not yet in the local index.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};
use holdfast_backend::layout::{Folder, ObjectName};
use holdfast_backend::object::{Header, ObjectKind};
use holdfast_backend::store::StoreErrorKind;
use holdfast_crypto::{ChunkId, ChunkKind, Digest};
use parking_lot::Mutex;

use super::flights::{Boarding, Flights};
use super::{Archive, ArchiveError};
use crate::chunks::{LoadError, Outage};
use crate::format::index::IndexBody;
use crate::packer::split;

const LOADS_AT_ONCE: usize = 8;
/// While chunks are missing that really are not there, the store is asked again at most this often.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// How new the local index is.
pub(crate) struct IndexAge {
    flights: Flights<(), ()>,
    /// When the last listing that was taken in whole began.
    synced: Mutex<Option<Instant>>,
    /// An index that was listed before this moment lacks what another device has stored.
    wanted: Mutex<Option<Instant>>,
}

impl IndexAge {
    pub(crate) fn new() -> Self {
        Self {
            flights: Flights::new(),
            synced: Mutex::default(),
            wanted: Mutex::default(),
        }
    }

    /// Another device has stored something: what was listed before now is old.
    pub(crate) fn outdate(&self) {
        *self.wanted.lock() = Some(Instant::now());
    }
}

impl Archive {
    /// Takes in what another device has stored since the index was last listed, if anything has been seen of it.
    pub(crate) fn catch_up_index(&self) -> Result<(), ArchiveError> {
        let wanted = *self.index_age.wanted.lock();
        wanted.map_or(Ok(()), |wanted| self.sync_index_since(wanted))
    }

    /// Makes sure that the index was listed at this moment or later. One thread asks, the others wait for it.
    fn sync_index_since(&self, moment: Instant) -> Result<(), ArchiveError> {
        let age = &self.index_age;
        while age.synced.lock().is_none_or(|synced| synced < moment) {
            match age.flights.board((), crate::blocking::deadline()) {
                // It may have begun too early: then this thread asks.
                Boarding::Arrived(()) => {}
                Boarding::TimedOut => return Err(ArchiveError::TimedOut),
                Boarding::Fly(pilot) => {
                    self.sync_index()?;
                    pilot.land(());
                }
            }
        }
        Ok(())
    }

    /// A chunk that the local index does not know, or not where it was: another device may have stored or
    /// moved it since the index was listed. Only then it is missing.
    pub(super) fn load_elsewhere(&self, kind: ChunkKind, id: &ChunkId) -> Result<Bytes, LoadError> {
        if !crate::blocking::may_block() {
            return Err(LoadError::WouldBlock);
        }
        let before = self.places.locate(id).map_err(LoadError::other)?;
        let now = Instant::now();
        let recent = now.checked_sub(ASK_AGAIN).unwrap_or(now);
        let wanted = self.index_age.wanted.lock().unwrap_or(recent);
        match self.sync_index_since(wanted.max(recent)) {
            Ok(()) => {}
            // Whether it is there cannot be known.
            Err(ArchiveError::TimedOut | ArchiveError::Store(_)) => {
                return Err(LoadError::Unavailable {
                    outage: Outage::TimedOut,
                });
            }
            Err(error) => return Err(LoadError::other(error)),
        }
        if self.places.locate(id).map_err(LoadError::other)? == before {
            tracing::error!(chunk = ?id, "a chunk is in no object that the archive has");
            return Err(LoadError::Missing { kind, id: *id });
        }
        self.read.load(kind, id)
    }

    /// Takes in every index object that is new, of all devices, and gives up those that are gone.
    ///
    /// All index objects are taken and not only those of the newest commits: older snapshots need the
    /// packs that only older refs name. An object that does not open is reported and passed over.
    pub fn sync_index(&self) -> Result<usize, ArchiveError> {
        let began = Instant::now();
        // Before the listing: what this device stores meanwhile is not gone because it is not listed.
        let before = self.places.objects();
        let names = self.names(Folder::Index)?;
        // Refs must not name what is gone. A listing that is only stale costs an index object more.
        let listed: BTreeSet<Digest> = names.iter().map(ObjectName::digest).collect();
        let gone = before.difference(&listed).copied().collect();
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
        *self.index_age.synced.lock() = Some(began);
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
