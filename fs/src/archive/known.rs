//! Whether a chunk need not be stored again: the dedup decision.
//!
//! A chunk counts as known if it is on its way, or if the index has a copy that was not found bad, in a
//! pack that is there and that no gc has condemned, as far as marks say that were read within half of the grace period
//! (`docs/protocol/gc.md`). When in doubt it is stored again; that costs bytes, never data.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_backend::layout::ObjectName;
use holdfast_backend::marks::Marks;
use holdfast_crypto::ChunkId;
use parking_lot::{Mutex, RwLock};

use super::{Archive, ArchiveError};

/// Marks older than this are read again in the background.
const REFRESH_AFTER: Duration = Duration::from_secs(30 * 60);
/// Packs are listed again after so long, or a quarter of the grace period: more requests than marks need.
const LIST_AFTER: Duration = Duration::from_secs(12 * 3600);

/// The marks as they were last read.
pub(crate) struct KnownMarks {
    grace: Duration,
    read: RwLock<Option<(Arc<Marks>, Instant)>>,
    refreshing: Arc<AtomicBool>,
    listed: Mutex<Instant>,
}

/// Seconds since 1970 in UTC.
pub fn now_seconds() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl KnownMarks {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            read: RwLock::default(),
            refreshing: Arc::default(),
            // Opening for writing lists them.
            listed: Mutex::new(Instant::now()),
        }
    }

    pub(crate) fn set(&self, marks: Marks) -> Arc<Marks> {
        let marks = Arc::new(marks);
        *self.read.write() = Some((Arc::clone(&marks), Instant::now()));
        marks
    }

    /// The marks, if they may still be relied on.
    pub(crate) fn current(&self) -> Option<Arc<Marks>> {
        let read = self.read.read();
        let (marks, _) = read.as_ref()?;
        marks
            .is_current(now_seconds(), self.grace)
            .then(|| Arc::clone(marks))
    }

    pub(crate) fn last(&self) -> Option<Arc<Marks>> {
        self.read
            .read()
            .as_ref()
            .map(|(marks, _)| Arc::clone(marks))
    }

    fn is_due(&self) -> bool {
        let after = REFRESH_AFTER.min(self.grace / 4);
        self.read
            .read()
            .as_ref()
            .is_none_or(|(_, at)| at.elapsed() > after)
    }

    fn is_listing_due(&self) -> bool {
        self.listed.lock().elapsed() > LIST_AFTER.min(self.grace / 4)
    }

    fn listed(&self) {
        *self.listed.lock() = Instant::now();
    }

    /// Whether an object must not be relied on; when nothing current is known, it may.
    pub(crate) fn is_condemned(&self, name: &ObjectName) -> bool {
        self.last().is_some_and(|marks| marks.is_condemned(name))
    }
}

impl Archive {
    /// Whether this chunk need not be stored again.
    pub fn known(self: &Archive, id: &ChunkId) -> bool {
        self.packer.is_queued(id) || self.is_stored(id)
    }

    /// Whether it stands in the store, where deduplication may rely on it.
    pub fn is_stored(self: &Archive, id: &ChunkId) -> bool {
        let places = match self.places.locate(id) {
            Ok(places) if places.is_empty() => return false,
            Ok(places) => places,
            Err(error) => {
                tracing::warn!(%error, "a chunk is stored again because the local index fails");
                return false;
            }
        };
        let Some(marks) = self.marks.current() else {
            return false;
        };
        let absent = self.absent_packs.read();
        places.iter().any(|place| {
            !marks.is_condemned(&ObjectName::Pack(place.pack))
                && !absent.contains(&place.pack)
                && !self.places.bad.contains(id, &place.pack)
        })
    }

    /// Reads the marks.
    pub fn read_marks(&self) -> Result<Arc<Marks>, ArchiveError> {
        let read = Marks::read(&*self.store, now_seconds());
        let answer = super::runtime::wait_for(&self.runtime, crate::blocking::deadline(), read);
        let mut marks = answer.ok_or(ArchiveError::TimedOut)??;
        // What this device's newest commit needs is needed, whatever an older mark says.
        if let Some(refs) = &self.head.lock().refs {
            marks.spare(refs.names.iter().copied());
        }
        self.places.bad.reload();
        let moved = marks.moved().iter().flat_map(|mark| mark.moves.keys());
        self.places.set_aside(moved.filter_map(|old| match old {
            ObjectName::Pack(pack) => Some(*pack),
            _ => None,
        }));
        Ok(self.marks.set(marks))
    }

    /// Takes in what compact has put in the place of other packs, if marks have told of new moves:
    /// otherwise everything in the old packs would count as unknown, and be stored again.
    pub(crate) fn follow_moves(&self) -> Result<(), ArchiveError> {
        let moves = self.marks.last().map_or(0, |marks| marks.moved().len());
        if moves > self.moves_followed.load(Ordering::Acquire) {
            self.sync_index()?;
            // Other copies are chosen from now on.
            self.memo.lock().clear();
            self.moves_followed.store(moves, Ordering::Release);
        }
        Ok(())
    }

    /// Everything by which chunks count as known, anew: marks, moves, and now and then which packs are
    /// there. The last is what tells of packs whose marks were cleaned while this process ran.
    fn read_again(&self) -> Result<(), ArchiveError> {
        self.read_marks()?;
        self.follow_moves()?;
        if self.marks.is_listing_due() {
            self.find_absent_packs()?;
            self.marks.listed();
        }
        Ok(())
    }

    /// Reads the marks again in the background if it is time. To be called now and then.
    pub fn refresh_marks(self: &Arc<Self>) {
        if !self.marks.is_due() || self.marks.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let archive = Arc::clone(self);
        super::runtime::waiting().spawn_blocking(move || {
            if let Err(error) = archive.read_again() {
                tracing::warn!(%error, "the marks could not be read; new data is not deduplicated without them");
            }
            archive.marks.refreshing.store(false, Ordering::Release);
        });
    }
}
