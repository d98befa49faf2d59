//! What keeps the keys from leaving the process by the system's own doors: no debugger, no core dump, no swap.

use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitySet;

use crate::config::LockMemory;

/// Whether pages are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Nothing of this process is ever swapped out.
    Locked,
    /// The system does not let us.
    NotLocked,
}

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub enum HygieneError {
    /// Dumps stay possible.
    #[error("the process cannot be kept from being dumped: {source}")]
    Dumps {
        /// Why.
        source: rustix::io::Errno,
    },
    /// Wanted by the configuration.
    #[error(
        "pages cannot be locked in memory, which lock_memory = \"require\" asks for; \
         set LimitMEMLOCK=infinity for the service, or give it CAP_IPC_LOCK"
    )]
    NotLocked,
}

/// To be called before the first key is in memory, and before the first thread is started.
pub fn protect(lock: LockMemory) -> Result<Memory, HygieneError> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none)
        .and_then(|()| rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|source| HygieneError::Dumps { source })?;
    match (lock_pages(), lock) {
        (Memory::NotLocked, LockMemory::Require) => Err(HygieneError::NotLocked),
        (memory, _) => Ok(memory),
    }
}

/// Locks everything, now and later. With a limit in force this would make later allocations fail, so it is only done
/// without one.
fn lock_pages() -> Memory {
    let limit = rustix::process::getrlimit(Resource::Memlock);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let unlimited =
        limit.maximum.is_none() && rustix::process::setrlimit(Resource::Memlock, raised).is_ok();
    let capable = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if (unlimited || capable) && rustix::mm::mlockall(flags).is_ok() {
        Memory::Locked
    } else {
        Memory::NotLocked
    }
}
