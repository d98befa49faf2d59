//! Faults that must lose nothing: the daemon killed at any moment and at any system call, disks that fail or
//! are full, stores that are away, too little memory, two writers. `make test-faults` runs them.
//!
//! `HOLDFAST_SOAK=1` takes the full sizes (`make soak`).

mod crashes;
mod disk;
mod ledger;
mod memory;
mod newcomer;
mod services;
mod store;
mod traced;
mod writers;

/// The second where the full sizes are asked for, else the first.
pub(crate) fn size(usual: u64, soak: u64) -> u64 {
    match std::env::var_os("HOLDFAST_SOAK") {
        Some(_) => soak,
        None => usual,
    }
}
