//! The threads on which requests to the store run.
//!
//! The rest of the program is synchronous; what needs the store waits here for an answer. Made at
//! first use, so a process that turns into a daemon must do so before.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Instant;

use tokio::runtime::{Builder, Handle, Runtime};

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// The program's one runtime.
pub fn handle() -> Handle {
    let make = || {
        Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(32)
            .thread_name("store")
            .enable_all()
            .build()
            .expect("the operating system gives a process its first threads")
    };
    // A thread of the runtime itself (of a test, for instance) stays where it is.
    RUNTIME.get_or_init(make).handle().clone()
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
            Some(until) => tokio::time::timeout_at(until.into(), work).await.ok(),
        }
    })
}
