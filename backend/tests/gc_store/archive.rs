//! Objects of a small archive, with contents that only need to be of the right shape.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdfast_backend::gc::{GcReport, Rules, Run, collect};
use holdfast_backend::layout::ObjectName;
use holdfast_backend::marks::{CommitName, Text};
use holdfast_backend::object::{EnvelopedPlacement, Object};
use holdfast_backend::pack::PackBuilder;
use holdfast_backend::refs::Refs;
use holdfast_backend::store::ObjectStore;
use holdfast_crypto::{Ciphertext, DeviceId};

use super::timed::TimedStore;

pub const A: DeviceId = DeviceId([0xaa; 8]);
pub const B: DeviceId = DeviceId([0xbb; 8]);
pub const DAY: i64 = 86_400;
/// 2026-11-23.
pub const BEGIN: i64 = 20_780 * DAY;
pub const GRACE: i64 = 30 * DAY;

/// Bytes that no other call gives.
pub fn fresh(length: usize) -> Ciphertext {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = vec![0x5a; length];
    bytes[..8].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    Ciphertext::from_stored(bytes).expect("long enough")
}

pub fn pack() -> Object {
    let mut builder = PackBuilder::new(1);
    builder.append(&fresh(300));
    builder.finish(&fresh(60), &fresh(48))
}

pub fn index() -> Object {
    Object::enveloped(EnvelopedPlacement::Index, 1, &fresh(80))
}

pub fn commit(device: DeviceId, sequence: u64) -> Object {
    Object::enveloped(
        EnvelopedPlacement::Commit { device, sequence },
        1,
        &fresh(90),
    )
}

pub fn rules(store: &TimedStore) -> Rules {
    Rules {
        grace: Duration::from_secs(GRACE as u64),
        ..Rules::at(store.now())
    }
}

/// What a backup stored.
#[derive(Debug, Clone, Copy)]
pub struct Backup {
    pub commit: CommitName,
    pub refs: ObjectName,
    pub pack: ObjectName,
}

pub async fn put(store: &TimedStore, object: &Object) -> ObjectName {
    store
        .put_new(object)
        .await
        .expect("memory takes everything");
    object.name()
}

/// A backup that needs one new pack and those given.
pub async fn back_up(
    store: &TimedStore,
    device: DeviceId,
    sequence: u64,
    shared: &[ObjectName],
) -> Backup {
    let pack = put(store, &pack()).await;
    let needed: BTreeSet<ObjectName> = shared.iter().copied().chain([pack]).collect();
    let refs = put(store, &Refs::full(device, sequence, needed).to_object()).await;
    let commit = put(store, &commit(device, sequence))
        .await
        .try_into()
        .expect("a commit");
    Backup { commit, refs, pack }
}

pub async fn gc(store: &TimedStore) -> GcReport {
    collect(store, &rules(store), Run::Real)
        .await
        .expect("gc runs")
}

pub async fn has(store: &TimedStore, name: ObjectName) -> bool {
    store.memory.names().contains(&name)
}
