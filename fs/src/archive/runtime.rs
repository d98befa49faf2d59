//! The threads on which requests to the store run, and those on which others wait for them.
//!
//! They are not the same: a folder's files are read on threads that may wait, and a server's name is looked
//! up on one. Were all of these taken by those who wait for an answer, nobody would be left to give it.
//!
//! The rest of the program is synchronous. The threads are made at first use, so a process that turns into a
//! daemon must do so before.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Instant;

use tokio::runtime::{Builder, Handle, Runtime};

/// Operations of a folder that are under way at once.
const STORE_THREADS: usize = 32;
/// Calls that wait for the store at once; further ones queue. Prefetching takes at most a third of them.
const WAITING_THREADS: usize = 32;
/// Calls that wait for this computer's disk at once.
const DISK_THREADS: usize = 16;
/// Calls that wait for room in the log at once.
const ROOM_THREADS: usize = 32;

static STORE: OnceLock<Runtime> = OnceLock::new();
static WAITING: OnceLock<Runtime> = OnceLock::new();
static DISK: OnceLock<Runtime> = OnceLock::new();
static ROOM: OnceLock<Runtime> = OnceLock::new();

/// The program's one runtime: of requests to the store.
pub fn handle() -> Handle {
    let make = || {
        started(
            Builder::new_multi_thread()
                .worker_threads(2)
                .max_blocking_threads(STORE_THREADS)
                .thread_name("store")
                .enable_all(),
        )
    };
    // A thread of the runtime itself (of a test, for instance) stays where it is.
    STORE.get_or_init(make).handle().clone()
}

/// Threads for work that waits for the store; nothing else is run there.
pub fn waiting() -> Handle {
    threads(&WAITING, "waiting", WAITING_THREADS)
}

/// Threads for work that waits for the disk and never for the store: it goes on while the store is away.
pub fn disk() -> Handle {
    threads(&DISK, "disk", DISK_THREADS)
}

/// Threads for work that waits until the log has room: writers are slowed down on them, while readers wait for the store.
pub fn room() -> Handle {
    threads(&ROOM, "room", ROOM_THREADS)
}

/// Only for `spawn_blocking`: nobody drives this runtime.
fn threads(which: &'static OnceLock<Runtime>, name: &str, most: usize) -> Handle {
    let make = || {
        started(
            Builder::new_current_thread()
                .max_blocking_threads(most)
                .thread_name(name),
        )
    };
    which.get_or_init(make).handle().clone()
}

fn started(builder: &mut Builder) -> Runtime {
    builder
        .build()
        .expect("the operating system gives a process its first threads")
}

/// Waits for `work`; `None` when the deadline passes first.
pub fn wait_for<T>(
    runtime: &Handle,
    deadline: Option<Instant>,
    work: impl Future<Output = T>,
) -> Option<T> {
    runtime.block_on(async {
        match deadline {
            None => Some(work.await),
            // Not even begun.
            Some(until) if until <= Instant::now() => None,
            Some(until) => tokio::time::timeout_at(until.into(), work).await.ok(),
        }
    })
}
