use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

fn id(number: u8) -> ChunkId {
    ChunkId {
        epoch: 1,
        hash: [number; 32],
    }
}

fn chunk(length: usize) -> Bytes {
    vec![1; length].into()
}

#[test]
fn the_least_recently_used_leave_first_and_the_budget_holds() {
    let cache = ChunkCache::new(10_000);
    for number in 0..4 {
        cache.insert(ChunkKind::Data, &id(number), chunk(2200));
    }
    assert!(cache.get(ChunkKind::Data, &id(0)).is_some());
    cache.insert(ChunkKind::Data, &id(9), chunk(2200));
    assert!(cache.get(ChunkKind::Data, &id(0)).is_some());
    assert!(cache.get(ChunkKind::Data, &id(1)).is_none());
    assert!(cache.get(ChunkKind::Tree, &id(0)).is_none());
    cache.insert(ChunkKind::Data, &id(50), chunk(10_001));
    assert!(cache.get(ChunkKind::Data, &id(50)).is_none());
    // The same one again is not counted twice.
    for _ in 0..100 {
        cache.insert(ChunkKind::Data, &id(0), chunk(2200));
    }
    assert_eq!(cache.used_bytes(), 4 * 2400);
    cache.remove(ChunkKind::Data, &id(0));
    assert_eq!(cache.used_bytes(), 3 * 2400);
    cache.clear();
    assert_eq!(cache.used_bytes(), 0);
}

#[test]
fn callers_that_come_together_load_once() {
    let cache = ChunkCache::new(1 << 20);
    let loads = AtomicUsize::new(0);
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                let loaded = cache.get_or_load(ChunkKind::Data, &id(1), || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(50));
                    Ok(chunk(10))
                });
                assert_eq!(loaded.unwrap(), chunk(10));
            });
        }
    });
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

fn missing() -> LoadError {
    LoadError::Missing {
        kind: ChunkKind::Data,
        id: id(1),
    }
}

/// Two callers at once; what the first one's load gives, and how many loads there were.
fn fly_two(first: impl FnOnce() -> Result<Bytes, LoadError> + Send) -> usize {
    let cache = ChunkCache::new(1 << 20);
    let started = Barrier::new(2);
    let mut loads = 1;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                cache.get_or_load(ChunkKind::Data, &id(1), || {
                    started.wait();
                    std::thread::sleep(Duration::from_millis(50));
                    first()
                })
            }));
            assert!(!matches!(result, Ok(Ok(_))));
        });
        started.wait();
        let result = cache.get_or_load(ChunkKind::Data, &id(1), || {
            loads += 1;
            Ok(chunk(3))
        });
        assert_eq!(result.is_ok(), loads == 2);
    });
    loads
}

#[test]
fn a_failure_is_shared() {
    assert_eq!(fly_two(|| Err(missing())), 1);
}

#[test]
fn somebody_who_may_not_wait_or_panics_holds_nobody_up() {
    assert_eq!(fly_two(|| Err(LoadError::WouldBlock)), 2);
    assert_eq!(fly_two(|| panic!("on purpose")), 2);
}

/// Whose patience ends says nothing to those who may wait longer.
#[test]
fn each_waits_until_its_own_deadline() {
    assert_eq!(fly_two(|| Err(late())), 2);

    let cache = ChunkCache::new(1 << 20);
    let (started, ended) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let loaded = cache.get_or_load(ChunkKind::Data, &id(1), || {
                started.wait();
                ended.wait();
                Ok(chunk(3))
            });
            assert!(loaded.is_ok());
        });
        started.wait();
        let until = std::time::Instant::now() + Duration::from_millis(50);
        let result = blocking::with_deadline(until, || {
            cache.get_or_load(ChunkKind::Data, &id(1), || unreachable!("somebody flies"))
        });
        assert!(is_late(&result));
        ended.wait();
    });
}
