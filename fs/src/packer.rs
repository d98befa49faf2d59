//! Puts encrypted chunks together into packs and stores them.
//!
//! Two packs of data and one of trees and lists are open at a time. A data chunk goes to either data
//! pack at random, so that the store does not learn from neighbourhood which chunks came together. A
//! pack is closed at its target size (drawn at random from a range), its table and trailer are
//! encrypted, and it is stored in the background, four at a time. Everything is held within a budget
//! in bytes; [`Packer::add`] waits when it is used up.
//!
//! Nothing is ever dropped: the store's retries go on for as long as it is away, and an error that
//! retrying does not mend (denied, no such bucket, no space) is kept as [`Packer::trouble`] and tried
//! again after a pause.
//!
//! Order for one pack: key objects of its session keys, then the pack, then the local index, then the
//! listener (which writes it to the log). If we die before the pack is stored, there is no trace of it
//! and the log still has its chunks; if we die after that and before the log knows, the pack is stored
//! but unknown, no refs name it, gc collects it, and its chunks are packed again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use holdfast_backend::object::Object;
use holdfast_backend::pack::{PackBuilder, Trailer};
use holdfast_backend::store::{ObjectStore, StoreError};
use holdfast_crypto::{ChunkId, ChunkKind, Ciphertext, Digest};
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::format::pack_table::{PackEntry, PackTable, encrypt_trailer};
use crate::keychain::Keychain;
use crate::memory::{MemoryBudget, shrink_if_sparse};

mod packed;
#[cfg(test)]
pub(crate) mod tests;

pub use packed::{PackedChunk, PackedChunks};
pub(crate) use packed::{index_body, split};

/// How often a store that refuses is asked again.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(15);

/// How often somebody who has to hear of a refusal looks for one.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What a full packer does while the store refuses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhenRefused {
    Wait,
    Fail,
}

/// Sizes and bounds.
#[derive(Clone, Debug)]
pub struct PackerLimits {
    /// A pack is closed at a size drawn from this range.
    pub target_bytes: Range<u32>,
    /// All open packs and those under way together.
    pub budget_bytes: u64,
    /// Packs stored at once.
    pub uploads: usize,
}

impl PackerLimits {
    /// What fits the packer's part of the memory budget: two open packs of data, on average half
    /// full, and two that are on their way.
    pub fn within(budget: MemoryBudget) -> Self {
        let budget_bytes = budget.packer();
        let longest = (budget_bytes * 3 / 8).min(32 << 20) as u32;
        Self {
            target_bytes: longest / 4 * 3..longest,
            budget_bytes,
            uploads: 4,
        }
    }
}

/// Names the pack into which a chunk went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Why the packer cannot do what it was asked for; what was added stays queued.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PackerError {
    /// Not stored by the deadline.
    #[error("not everything was stored in time; it stays queued")]
    TimedOut,
    /// The store refuses, and trying again has not helped yet.
    #[error("{0}; what is queued stays queued")]
    Refused(#[source] StoreError),
    /// The process is ending.
    #[error("nothing more is packed: the archive is being closed")]
    Closed,
}

/// What is on its way to the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackerQueue {
    /// In packs that are still being filled.
    pub open_bytes: u64,
    /// In packs that are closed and not yet stored.
    pub closed_bytes: u64,
    /// Stored since the archive was opened.
    pub stored_bytes: u64,
    /// Packs stored since then.
    pub stored_packs: u64,
}

/// A chunk that is not stored yet, as it will be.
#[derive(Clone)]
pub struct QueuedChunk {
    /// Length before compression.
    pub raw_length: u32,
    /// Key object of its session key.
    pub key: Digest,
    /// Its ciphertext.
    pub stored: Bytes,
}

/// Called with each pack that is stored, before anybody who waits for it hears of it.
pub type StoredListener = Arc<dyn Fn(&PackedChunks) + Send + Sync>;

/// What the packer needs of the archive.
pub(crate) trait PackerSurroundings: Send + Sync + 'static {
    /// Key objects that have to be stored before a pack that uses these keys.
    fn unstored_keys(&self, keys: &[Digest]) -> Vec<Object>;
    /// These key objects stand.
    fn keys_stored(&self, keys: &[Digest]);
    /// This pack stands.
    fn pack_stored(&self, pack: &PackedChunks);
    /// All packs together hold so many bytes now. Called with the packer's lock held.
    fn holds(&self, _bytes: u64) {}
}

/// Fills packs and stores them. Dropping it gives up what is not stored.
pub struct Packer {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    keychain: Arc<Keychain>,
    surroundings: Arc<dyn PackerSurroundings>,
    limits: PackerLimits,
    uploads: Semaphore,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    last_serial: u64,
    open: [Option<OpenPack>; OPEN_PACKS],
    closing: BTreeMap<u64, u64>,
    closed: BTreeMap<u64, Object>,
    queued: HashMap<ChunkId, Place>,
    troubles: BTreeMap<u64, StoreError>,
    stored_bytes: u64,
    stored_packs: u64,
    ended: bool,
}

const OPEN_PACKS: usize = 3;
const TREES: usize = 2;

struct OpenPack {
    serial: u64,
    builder: PackBuilder,
    chunks: Vec<PackedChunk>,
    target_bytes: u32,
}

#[derive(Clone, Copy)]
struct Place {
    serial: u64,
    chunk: PackedChunk,
}

impl State {
    fn open_bytes(&self) -> u64 {
        self.open
            .iter()
            .flatten()
            .map(|pack| u64::from(pack.builder.len()))
            .sum()
    }

    fn closed_bytes(&self) -> u64 {
        self.closing.values().sum::<u64>() + self.closed.values().map(Object::len).sum::<u64>()
    }

    fn is_queued(&self, serial: u64) -> bool {
        self.closing.contains_key(&serial)
            || self.closed.contains_key(&serial)
            || self.open.iter().flatten().any(|pack| pack.serial == serial)
    }

    fn first_queued(&self) -> Option<u64> {
        let open = self.open.iter().flatten().map(|pack| pack.serial);
        open.chain(self.closing.keys().copied())
            .chain(self.closed.keys().copied())
            .min()
    }
}

impl Packer {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        runtime: Handle,
        keychain: Arc<Keychain>,
        surroundings: Arc<dyn PackerSurroundings>,
        limits: PackerLimits,
    ) -> Self {
        let uploads = Semaphore::new(limits.uploads);
        let state = Mutex::default();
        let changed = Condvar::new();
        let shared = Shared {
            store,
            runtime,
            keychain,
            surroundings,
            limits,
            uploads,
            state,
            changed,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Takes a chunk. Waits while the budget is used up, for as long as the store is away.
    ///
    /// `key` is the key object of the session key that encrypted it. A chunk that is queued already
    /// is not taken twice.
    pub fn add(
        &self,
        kind: ChunkKind,
        id: ChunkId,
        raw_length: u32,
        key: Digest,
        stored: &Ciphertext,
    ) -> Result<Ticket, PackerError> {
        self.add_or(WhenRefused::Wait, kind, id, raw_length, key, stored)
    }

    /// The same, but when there is no room and the store refuses what would make room, says so: for
    /// a command that can stop, and whose content is still at its source.
    pub fn add_unless_refused(
        &self,
        kind: ChunkKind,
        id: ChunkId,
        raw_length: u32,
        key: Digest,
        stored: &Ciphertext,
    ) -> Result<Ticket, PackerError> {
        self.add_or(WhenRefused::Fail, kind, id, raw_length, key, stored)
    }

    fn add_or(
        &self,
        when_refused: WhenRefused,
        kind: ChunkKind,
        id: ChunkId,
        raw_length: u32,
        key: Digest,
        stored: &Ciphertext,
    ) -> Result<Ticket, PackerError> {
        let mut state = self.shared.state.lock();
        loop {
            if state.ended {
                return Err(PackerError::Closed);
            }
            if let Some(place) = state.queued.get(&id) {
                return Ok(Ticket(place.serial));
            }
            let held = state.open_bytes() + state.closed_bytes();
            if held == 0 || held + stored.len() as u64 <= self.shared.limits.budget_bytes {
                break;
            }
            if state.closing.is_empty() && state.closed.is_empty() {
                // Nothing is under way that could make room: the fullest open pack goes as it is.
                self.close_largest(&mut state);
            }
            if when_refused == WhenRefused::Fail {
                if let Some(error) = state.troubles.values().next() {
                    return Err(PackerError::Refused(error.clone()));
                }
                // A refusal wakes nobody up.
                self.shared.changed.wait_for(&mut state, LOOK_AGAIN);
            } else {
                self.shared.changed.wait(&mut state);
            }
        }
        let slot = if kind == ChunkKind::Data {
            usize::from(rand::random::<bool>())
        } else {
            TREES
        };
        let ticket = self.append(&mut state, slot, kind, id, raw_length, key, stored);
        let held = state.open_bytes() + state.closed_bytes();
        self.shared.surroundings.holds(held);
        Ok(ticket)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one chunk and its place"
    )]
    fn append(
        &self,
        state: &mut State,
        slot: usize,
        kind: ChunkKind,
        id: ChunkId,
        raw_length: u32,
        key: Digest,
        stored: &Ciphertext,
    ) -> Ticket {
        if state.open[slot].is_none() {
            state.last_serial += 1;
            let serial = state.last_serial;
            state.open[slot] = Some(self.shared.open_pack(serial));
        }
        let pack = state.open[slot].as_mut().expect("it has just been opened");
        let place = pack.builder.append(stored);
        let chunk = PackedChunk {
            id,
            kind,
            offset: place.start,
            stored_length: place.end - place.start,
            raw_length,
            key,
        };
        pack.chunks.push(chunk);
        let serial = pack.serial;
        let is_full = place.end >= pack.target_bytes;
        state.queued.insert(id, Place { serial, chunk });
        if is_full {
            self.close(state, slot);
        }
        Ticket(serial)
    }

    fn close_largest(&self, state: &mut State) {
        let length = |pack: &Option<OpenPack>| pack.as_ref().map_or(0, |pack| pack.builder.len());
        let largest = (0..OPEN_PACKS).max_by_key(|slot| length(&state.open[*slot]));
        self.close(state, largest.expect("there are three slots"));
    }

    fn close(&self, state: &mut State, slot: usize) {
        if let Some(pack) = state.open[slot].take() {
            state
                .closing
                .insert(pack.serial, u64::from(pack.builder.len()));
            let shared = Arc::clone(&self.shared);
            self.shared
                .runtime
                .spawn(async move { shared.store_pack(pack).await });
        }
    }

    /// A chunk that is not stored yet.
    pub fn find(&self, id: &ChunkId) -> Option<QueuedChunk> {
        let mut state = self.shared.state.lock();
        loop {
            let Place { serial, chunk } = *state.queued.get(id)?;
            let QueuedChunk { .. } = match Self::bytes_of(&state, serial, &chunk) {
                Some(stored) => {
                    return Some(QueuedChunk {
                        raw_length: chunk.raw_length,
                        key: chunk.key,
                        stored,
                    });
                }
                // Its pack is being encrypted and hashed: a matter of milliseconds.
                None => {
                    self.shared.changed.wait(&mut state);
                    continue;
                }
            };
        }
    }

    fn bytes_of(state: &State, serial: u64, chunk: &PackedChunk) -> Option<Bytes> {
        let range = chunk.offset..chunk.offset + chunk.stored_length;
        if let Some(object) = state.closed.get(&serial) {
            return Some(
                object
                    .bytes()
                    .slice(range.start as usize..range.end as usize),
            );
        }
        let open = state
            .open
            .iter()
            .flatten()
            .find(|pack| pack.serial == serial)?;
        Some(Bytes::copy_from_slice(open.builder.bytes(range)))
    }

    /// The pack into which a chunk goes that is on its way.
    pub fn ticket(&self, id: &ChunkId) -> Option<Ticket> {
        self.shared
            .state
            .lock()
            .queued
            .get(id)
            .map(|place| Ticket(place.serial))
    }

    /// Whether the pack of this ticket is stored.
    pub fn is_stored(&self, ticket: Ticket) -> bool {
        !self.shared.state.lock().is_queued(ticket.0)
    }

    /// Whether a chunk is on its way.
    pub fn is_queued(&self, id: &ChunkId) -> bool {
        self.shared.state.lock().queued.contains_key(id)
    }

    /// Waits until the pack of this ticket is stored. Does not close it.
    pub fn wait(&self, ticket: Ticket, deadline: Option<Instant>) -> Result<(), PackerError> {
        self.wait_until(deadline, |state| !state.is_queued(ticket.0))
    }

    /// Closes what is open and waits until everything added before is stored.
    ///
    /// An error of the store that retrying does not mend is returned at once; everything stays queued.
    pub fn flush(&self, deadline: Option<Instant>) -> Result<(), PackerError> {
        let last = {
            let mut state = self.shared.state.lock();
            (0..OPEN_PACKS).for_each(|slot| self.close(&mut state, slot));
            state.last_serial
        };
        self.wait_until(deadline, |state| {
            state.first_queued().is_none_or(|serial| serial > last)
        })
    }

    fn wait_until(
        &self,
        deadline: Option<Instant>,
        is_done: impl Fn(&State) -> bool,
    ) -> Result<(), PackerError> {
        let mut state = self.shared.state.lock();
        loop {
            if is_done(&state) {
                return Ok(());
            }
            if state.ended {
                return Err(PackerError::Closed);
            }
            if let Some(error) = state.troubles.values().next() {
                return Err(PackerError::Refused(error.clone()));
            }
            match deadline {
                None => self.shared.changed.wait(&mut state),
                Some(until) => {
                    if self
                        .shared
                        .changed
                        .wait_until(&mut state, until)
                        .timed_out()
                        && !is_done(&state)
                    {
                        return Err(PackerError::TimedOut);
                    }
                }
            }
        }
    }

    /// What the store refuses at present, for `status`.
    pub fn trouble(&self) -> Option<StoreError> {
        self.shared.state.lock().troubles.values().next().cloned()
    }

    /// What is on its way.
    pub fn queue(&self) -> PackerQueue {
        let state = self.shared.state.lock();
        PackerQueue {
            open_bytes: state.open_bytes(),
            closed_bytes: state.closed_bytes(),
            stored_bytes: state.stored_bytes,
            stored_packs: state.stored_packs,
        }
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        self.shared.state.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn open_pack(&self, serial: u64) -> OpenPack {
        let range = self.limits.target_bytes.clone();
        let target_bytes = range.start + rand::random::<u32>() % (range.end - range.start).max(1);
        // Room for the last chunk, the table and the padding. Untouched memory costs nothing.
        let room = target_bytes as usize + (target_bytes as usize / 8) + (1 << 16);
        let builder = PackBuilder::with_capacity(self.keychain.current_epoch(), room);
        OpenPack {
            serial,
            builder,
            chunks: Vec::new(),
            target_bytes,
        }
    }

    async fn store_pack(self: Arc<Self>, pack: OpenPack) {
        let (serial, keychain) = (pack.serial, Arc::clone(&self.keychain));
        let finished = self
            .runtime
            .spawn_blocking(move || finish(pack, &keychain))
            .await;
        let (object, packed) = match finished {
            Ok(finished) => finished,
            Err(error) => {
                // Only when the runtime is shutting down: encrypting and hashing do not panic.
                tracing::error!(%error, "a pack could not be finished");
                return;
            }
        };
        {
            let mut state = self.state.lock();
            state.closing.remove(&serial);
            state.closed.insert(serial, object.clone());
        }
        self.changed.notify_all();
        self.store_until_done(serial, &object, &packed).await;
        let (this, pack) = (Arc::clone(&self), packed.clone());
        // The listener writes to the local index and to the log: not on a thread of the runtime.
        let listened = self
            .runtime
            .spawn_blocking(move || this.surroundings.pack_stored(&pack))
            .await;
        if let Err(error) = listened {
            tracing::error!(%error, "a stored pack could not be recorded");
        }
        self.forget(serial, &packed, object.len());
    }

    async fn store_until_done(&self, serial: u64, object: &Object, packed: &PackedChunks) {
        loop {
            let Err(error) = self.store_once(object, packed).await else {
                return;
            };
            tracing::warn!(%error, "the store refuses a pack; it is tried again");
            self.state.lock().troubles.insert(serial, error);
            self.changed.notify_all();
            tokio::time::sleep(PAUSE_AFTER_REFUSAL).await;
            if self.state.lock().ended {
                return std::future::pending().await;
            }
        }
    }

    async fn store_once(&self, object: &Object, packed: &PackedChunks) -> Result<(), StoreError> {
        let _permit = self.uploads.acquire().await;
        let keys = packed.keys();
        for key in self.surroundings.unstored_keys(&keys) {
            self.store.put_new(&key).await?;
        }
        self.surroundings.keys_stored(&keys);
        self.store.put_new(object).await.map(drop)
    }

    fn forget(&self, serial: u64, packed: &PackedChunks, bytes: u64) {
        let mut state = self.state.lock();
        state.closed.remove(&serial);
        state.troubles.remove(&serial);
        state.stored_bytes += bytes;
        state.stored_packs += 1;
        for chunk in &packed.chunks {
            if state
                .queued
                .get(&chunk.id)
                .is_some_and(|place| place.serial == serial)
            {
                state.queued.remove(&chunk.id);
            }
        }
        shrink_if_sparse(&mut state.queued);
        let held = state.open_bytes() + state.closed_bytes();
        self.surroundings.holds(held);
        drop(state);
        self.changed.notify_all();
    }
}

fn finish(pack: OpenPack, keychain: &Keychain) -> (Object, PackedChunks) {
    finish_pack(pack.builder, pack.chunks, keychain)
}

/// The finished pack of these chunks, whose ciphertexts are in the builder already.
pub(crate) fn finish_pack(
    builder: PackBuilder,
    chunks: Vec<PackedChunk>,
    keychain: &Keychain,
) -> (Object, PackedChunks) {
    let epoch = keychain.current_epoch();
    let index_key = &keychain.current().index;
    let keys: Vec<Digest> = chunks
        .iter()
        .map(|chunk| chunk.key)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let entry = |chunk: &PackedChunk| PackEntry {
        kind: chunk.kind,
        id: chunk.id,
        stored_length: chunk.stored_length,
        raw_length: chunk.raw_length,
        key: keys
            .binary_search(&chunk.key)
            .expect("every key was collected") as u32,
    };
    let table = PackTable {
        entries: chunks.iter().map(entry).collect(),
        keys: keys.clone(),
    };
    let table = table.encrypt(epoch, index_key);
    let table_length = u32::try_from(table.len()).expect("a table is shorter than its pack");
    let trailer = Trailer {
        table_offset: builder.len(),
        table_length,
    };
    let trailer = encrypt_trailer(epoch, index_key, &trailer);
    let object = builder.finish(&table, &trailer);
    let packed = PackedChunks {
        pack: object.name().digest(),
        size: object.len(),
        chunks,
    };
    (object, packed)
}
