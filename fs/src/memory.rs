//! One budget of memory for the whole process, and who may hold how much of it.
//!
//! ```text
//! settings: 96 MiB
//!   40  packs being filled or stored       the packer waits
//!   16  written bytes that are in no log   a writer brings its own into the log
//!   12  chunks on their way into the log   [`Stages::log`]
//!   16  chunks on their way into packs     [`Stages::store`]
//!    3  pages of trees under the namespace
//!    9  what was read; and what the packer does not hold: a drive that is only read uses it all
//! ```
//!
//! The parts are fixed but for the last, so that nobody waits for memory that somebody holds who
//! waits for him: chunks for the log wait for nothing but the local disk, chunks for packs wait for
//! the packer, the packer for the store. Nobody takes twice from one part.
//!
//! Counted are buffers and caches, which grow with the data. Beside them stand the program, its
//! stacks and tables: the goal for all together is 150 MB.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::{Condvar, Mutex};

use crate::chunk::MAX_CHUNK_BYTES;

/// The parts are in ninety-sixths of the budget: mebibytes of the default.
const PARTS: u64 = 96;

/// A chunk of the greatest length, with what the cache adds.
const LONGEST_CACHED: u64 = MAX_CHUNK_BYTES as u64 + 1024;

/// Smaller tables keep their room.
const LEAST_ROOM: usize = 4096;

/// A budget in bytes, divided.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBudget {
    bytes: u64,
}

impl MemoryBudget {
    /// Divides this many bytes.
    pub fn new(bytes: u64) -> Self {
        Self { bytes }
    }

    fn parts(self, parts: u64) -> u64 {
        self.bytes / PARTS * parts
    }

    /// Packs that are being filled or stored.
    pub fn packer(self) -> u64 {
        self.parts(40)
    }

    /// Written bytes that are not in the log.
    pub fn content(self) -> u64 {
        self.parts(16)
    }

    /// Chunks on their way into the log.
    pub fn log_stage(self) -> u64 {
        self.parts(12)
    }

    /// Chunks on their way to the packer.
    pub fn store_stage(self) -> u64 {
        self.parts(16)
    }

    /// Pages of trees under the namespace.
    pub fn pages(self) -> u64 {
        self.parts(3)
    }

    /// Decrypted chunks that were read, while the packer holds so much; always one of the longest.
    pub fn chunks(self, packer_holds: u64) -> u64 {
        let read = self.read(packer_holds);
        (read / 4 * 3).max(LONGEST_CACHED.min(read))
    }

    /// Encrypted blocks of packs that were read.
    pub fn blocks(self, packer_holds: u64) -> u64 {
        self.read(packer_holds) - self.chunks(packer_holds)
    }

    fn read(self, packer_holds: u64) -> u64 {
        self.parts(9) + self.packer().saturating_sub(packer_holds)
    }
}

/// Bytes for chunks that are being cut, compressed and encrypted.
pub struct Stages {
    /// On the way into the log.
    pub log: ByteGate,
    /// On the way to the packer.
    pub store: ByteGate,
}

impl Stages {
    /// Within a budget.
    pub fn new(budget: MemoryBudget) -> Self {
        Self {
            log: ByteGate::new(budget.log_stage()),
            store: ByteGate::new(budget.store_stage()),
        }
    }
}

/// A number of bytes of which some can be held for a while.
pub struct ByteGate {
    limit: u64,
    held: Mutex<u64>,
    freed: Condvar,
}

/// Bytes held; dropping it gives them back.
pub struct HeldBytes<'a> {
    gate: &'a ByteGate,
    bytes: u64,
}

impl ByteGate {
    /// All of them are free.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            held: Mutex::new(0),
            freed: Condvar::new(),
        }
    }

    /// Waits until so many are free. Who wants more than there are gets all.
    pub fn take(&self, bytes: u64) -> HeldBytes<'_> {
        let bytes = bytes.min(self.limit);
        let mut held = self.held.lock();
        while *held + bytes > self.limit {
            self.freed.wait(&mut held);
        }
        *held += bytes;
        HeldBytes { gate: self, bytes }
    }
}

impl Drop for HeldBytes<'_> {
    fn drop(&mut self) {
        *self.gate.held.lock() -= self.bytes;
        self.gate.freed.notify_all();
    }
}

/// Has large buffers go back to the operating system when they are freed.
///
/// The C library would keep them: after the first large buffer was freed it takes all up to 32 MiB
/// from its heaps, one for each thread, where packs and chunks of many lengths leave gaps; the
/// process was twice as large as what it held (measured). To be called before there are threads.
///
/// Requests of the kernel and ordinary chunks have up to 1 MiB and stay in the heap: pages that go
/// back with each of them are faulted in again for the next one, which doubled the processor time
/// of a copy through the mount (measured, docs/performance.md). One heap: small pieces come from
/// each thread's own cache anyway.
pub fn give_back_freed_memory() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallopt takes two numbers, and no other thread is there yet. A number that it
        // does not know it refuses.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 8 << 20);
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// Gives what was freed between what is in use back to the operating system: the C library does that
/// at the end of its heap only, unless asked. Takes some milliseconds, so it is for after much work.
pub fn give_back_gaps() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: takes a number of bytes to keep, and locks what it looks at.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

/// A table that has been much larger gives back its room, which removing does not.
pub fn shrink_if_sparse<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    if table.capacity() > LEAST_ROOM && table.len() < table.capacity() / 4 {
        table.shrink_to((table.len() * 2).max(LEAST_ROOM / 2));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn the_parts_are_not_more_than_the_budget() {
        for mib in [48, 96, 100, 511, 4096] {
            let budget = MemoryBudget::new(mib << 20);
            for packer_holds in [0, budget.packer() / 2, budget.packer()] {
                let parts = packer_holds
                    + budget.chunks(packer_holds)
                    + budget.blocks(packer_holds)
                    + budget.content()
                    + budget.log_stage()
                    + budget.store_stage()
                    + budget.pages();
                assert!(parts <= mib << 20, "{mib} MiB: {parts}");
                assert!(parts > (mib << 20) * 99 / 100, "{mib} MiB: {parts}");
                assert!(budget.chunks(packer_holds) > MAX_CHUNK_BYTES as u64);
            }
        }
    }

    #[test]
    fn a_table_gives_back_the_room_that_it_no_longer_needs() {
        let mut table: HashMap<u64, u64> = (0..100_000).map(|n| (n, n)).collect();
        let most = table.capacity();
        for n in 0..99_000 {
            table.remove(&n);
            shrink_if_sparse(&mut table);
        }
        assert!(table.capacity() <= most / 8, "{}", table.capacity());
        assert_eq!(table.len(), 1000);
        assert!((99_000..100_000).all(|n| table[&n] == n));
    }

    #[test]
    fn a_gate_is_never_over_its_limit_and_lets_everybody_through() {
        let gate = Arc::new(ByteGate::new(10));
        let held = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let (gate, held) = (gate.clone(), held.clone());
                std::thread::spawn(move || {
                    for round in 0..100 {
                        // More than there are too.
                        let bytes = (n * 7 + round) % 14;
                        let taken = gate.take(bytes);
                        let now = held.fetch_add(taken.bytes, Ordering::SeqCst) + taken.bytes;
                        assert!(now <= 10);
                        held.fetch_sub(taken.bytes, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(*gate.held.lock(), 0);
    }
}
