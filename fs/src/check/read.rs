//! Reading every pack: its digest, and every chunk in it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_backend::layout::ObjectName;
use holdfast_backend::store::StoreErrorKind;
use holdfast_crypto::Digest;
use parking_lot::Mutex;

use crate::archive::bad_copies::BadCopy;
use crate::archive::{Archive, ArchiveError, Location};
use crate::packer::{PackedChunk, PackedChunks};

/// The index tells where the chunks of so many packs are in one go.
const PACKS_AT_ONCE: usize = 64;
/// A pack is held whole while it is read.
const BYTES_PER_THREAD: u64 = 40 << 20;

/// What reading the packs has shown.
#[derive(Default)]
pub(super) struct Read {
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    /// Chunks that do not open.
    pub(super) bad: BTreeSet<BadCopy>,
    /// Packs that have other bytes than their names say.
    pub(super) damaged: BTreeSet<Digest>,
}

/// Reads these packs past all caches. Some threads take the next one each.
pub(super) fn packs(
    archive: &Archive,
    packs: &[Digest],
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Read, ArchiveError> {
    let total: u64 = packs
        .iter()
        .filter_map(|pack| archive.places.size_of(pack))
        .sum();
    let mut read = Read::default();
    for group in packs.chunks(PACKS_AT_ONCE) {
        let chunks = archive.places.chunks_of(group)?;
        let found = group_of(archive, &chunks, &|bytes| progress(bytes, total))?;
        read.bad.extend(found.bad);
        read.damaged.extend(found.damaged);
        read.chunks += chunks
            .iter()
            .map(|pack| pack.chunks.len() as u64)
            .sum::<u64>();
        read.bytes += chunks.iter().map(|pack| pack.size).sum::<u64>();
    }
    Ok(read)
}

fn group_of(
    archive: &Archive,
    packs: &[PackedChunks],
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Read, ArchiveError> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Ok(Read::default())));
    let fitting = archive.settings().memory_bytes() / BYTES_PER_THREAD;
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = usize::try_from(fitting).unwrap_or(cores).clamp(1, cores);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let read = one(archive, pack);
                    let mut found = found.lock();
                    match (&mut *found, read) {
                        (Ok(found), Ok((is_damaged, bad))) => {
                            found.bad.extend(bad);
                            found.damaged.extend(is_damaged.then_some(pack.pack));
                        }
                        (Ok(_), Err(error)) => *found = Err(error),
                        (Err(_), _) => return,
                    }
                    drop(found);
                    progress(pack.size);
                }
            });
        }
    });
    found.into_inner()
}

/// Whether a pack is damaged, and its chunks that do not open.
fn one(archive: &Archive, pack: &PackedChunks) -> Result<(bool, Vec<BadCopy>), ArchiveError> {
    let name = ObjectName::Pack(pack.pack);
    let bytes = match archive.ask(archive.store.get_range(&name, 0..pack.size)) {
        Ok(bytes) => bytes,
        Err(ArchiveError::Store(error))
            if matches!(
                error.kind(),
                StoreErrorKind::NotFound | StoreErrorKind::Damaged
            ) =>
        {
            bytes::Bytes::new()
        }
        Err(error) => return Err(error),
    };
    let opens = |chunk: &PackedChunk| {
        let end = chunk.offset as usize + chunk.stored_length as usize;
        let place = Location {
            pack: pack.pack,
            offset: chunk.offset,
            stored: chunk.stored_length,
            raw: chunk.raw_length,
            key: chunk.key,
            kind: chunk.kind,
        };
        bytes
            .get(chunk.offset as usize..end)
            .is_some_and(|stored| archive.read.opens(&chunk.id, &place, stored))
    };
    let bad = pack.chunks.iter().filter(|chunk| !opens(chunk));
    let bad = bad.map(|chunk| (chunk.id, pack.pack)).collect();
    Ok((Digest::of(&bytes) != pack.pack, bad))
}
