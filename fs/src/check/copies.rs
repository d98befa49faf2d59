//! Which stored copies of chunks are good, whatever else this computer has of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_backend::layout::ObjectName;
use holdfast_crypto::{ChunkId, ChunkKind, Digest};

use crate::archive::{Archive, Location};
use crate::chunks::{ChunkSource, LoadError};
use crate::walk::SnapshotSource;

/// Trees and lists come out of it only if the store has them: what is in a cache here does not help
/// another computer.
pub(crate) struct Copies {
    pub(crate) archive: Arc<Archive>,
    /// Packs that are missing, cut off or replaced by others.
    pub(crate) unusable_packs: BTreeSet<Digest>,
    /// Key objects that are missing or damaged.
    pub(crate) bad_keys: BTreeSet<Digest>,
}

impl Copies {
    /// Whether this copy can be loaded from the store, as far as is known.
    pub(crate) fn is_good(&self, id: &ChunkId, place: &Location) -> bool {
        !self.unusable_packs.contains(&place.pack)
            && !self.bad_keys.contains(&place.key)
            && !self.archive.places.bad.contains(id, &place.pack)
    }

    /// The packs that have a good copy.
    pub(crate) fn good_packs(&self, kind: ChunkKind, id: &ChunkId) -> BTreeSet<Digest> {
        // An index that does not answer has no copies; the report then names everything.
        let places = self.archive.locate(id).unwrap_or_default();
        places
            .iter()
            .filter(|place| place.kind == kind && self.is_good(id, place))
            .map(|place| place.pack)
            .collect()
    }

    /// Whether a file's piece can be loaded.
    pub(crate) fn has_piece(&self, id: &ChunkId, length: u32) -> bool {
        let is_it = |place: &Location| place.kind == ChunkKind::Data && place.raw == length;
        let places = self.archive.locate(id).unwrap_or_default();
        places
            .iter()
            .any(|place| is_it(place) && self.is_good(id, place))
    }
}

impl ChunkSource for Copies {
    fn load(&self, kind: ChunkKind, id: &ChunkId) -> Result<Bytes, LoadError> {
        if !self.good_packs(kind, id).is_empty() {
            return self.archive.load(kind, id);
        }
        match self.archive.locate(id).unwrap_or_default().first() {
            None => Err(LoadError::Missing { kind, id: *id }),
            Some(place) => Err(LoadError::Damaged {
                kind,
                id: *id,
                object: Some(ObjectName::Pack(place.pack).to_string()),
            }),
        }
    }
}

impl SnapshotSource for Copies {
    fn name_hash(&self, name: &[u8]) -> u64 {
        self.archive.keychain().name_hash(name)
    }
}
