//! What every database must do; its tests call [`all`].

use super::{Change, RecordStore, StoreError, StoredRecord};
use crate::path::RecordPath;

fn path(text: &str) -> RecordPath {
    RecordPath::fixed(text)
}

fn put(at: &str, expected: Option<u64>, version: u64, value: &[u8]) -> Change {
    Change {
        path: path(at),
        expected,
        put: Some(StoredRecord {
            version,
            value: value.to_vec(),
        }),
    }
}

fn delete(at: &str, expected: Option<u64>) -> Change {
    Change {
        path: path(at),
        expected,
        put: None,
    }
}

fn value(store: &dyn RecordStore, at: &str) -> Option<(u64, Vec<u8>)> {
    let found = store.get(&path(at)).expect("it can be read");
    found.map(|record| (record.version, record.value))
}

#[track_caller]
fn conflicts(store: &dyn RecordStore, changes: &[Change]) {
    let refused = store.apply(changes);
    assert!(
        matches!(refused, Err(StoreError::Conflict { .. })),
        "{refused:?}"
    );
}

/// Everything, each on an empty database that `make` gives.
pub fn all(make: impl Fn() -> Box<dyn RecordStore>) {
    swaps_only_what_is_there(&*make());
    changes_all_or_nothing(&*make());
    scans_in_order(&*make());
    goes_through_a_snapshot(&*make(), &*make(), &*make());
}

fn swaps_only_what_is_there(store: &dyn RecordStore) {
    assert_eq!(value(store, "a"), None);
    conflicts(store, &[put("a", Some(1), 2, b"x")]);
    conflicts(store, &[delete("a", Some(1))]);
    store
        .apply(&[put("a", None, 1, b"one")])
        .expect("there is none");
    conflicts(store, &[put("a", None, 1, b"again")]);
    conflicts(store, &[put("a", Some(2), 3, b"early")]);
    store.apply(&[put("a", Some(1), 7, b"")]).expect("it is 1");
    assert_eq!(value(store, "a"), Some((7, Vec::new())));
    conflicts(store, &[delete("a", Some(1))]);
    store.apply(&[delete("a", Some(7))]).expect("it is 7");
    assert_eq!(value(store, "a"), None);
    store
        .apply(&[put("a", None, 1, b"new")])
        .expect("it is gone");
}

fn changes_all_or_nothing(store: &dyn RecordStore) {
    store
        .apply(&[put("a", None, 1, b"a"), put("b", None, 1, b"b")])
        .expect("both are new");
    conflicts(
        store,
        &[
            put("a", Some(1), 2, b"x"),
            delete("b", Some(1)),
            put("c", Some(9), 1, b"c"),
        ],
    );
    conflicts(store, &[put("c", None, 1, b"c"), put("a", None, 2, b"x")]);
    assert_eq!(value(store, "a"), Some((1, b"a".to_vec())));
    assert_eq!(value(store, "b"), Some((1, b"b".to_vec())));
    assert_eq!(value(store, "c"), None);
    store.apply(&[]).expect("nothing is always possible");
}

fn scans_in_order(store: &dyn RecordStore) {
    for at in ["b", "a/2", "a/1", "a-", "a/10", "ab"] {
        store.apply(&[put(at, None, 1, b"")]).expect("it is new");
    }
    let scan = |prefix, after: Option<&str>, limit| -> Vec<String> {
        let found = store
            .scan(prefix, after.map(path).as_ref(), limit)
            .expect("it can be read");
        found.iter().map(ToString::to_string).collect()
    };
    assert_eq!(scan("a/", None, 10), ["a/1", "a/10", "a/2"]);
    assert_eq!(scan("a/", None, 2), ["a/1", "a/10"]);
    assert_eq!(scan("a/", Some("a/10"), 2), ["a/2"]);
    assert_eq!(scan("", None, 10).len(), 6);
    assert!(scan("c", None, 10).is_empty());
}

fn goes_through_a_snapshot(
    store: &dyn RecordStore,
    other: &dyn RecordStore,
    third: &dyn RecordStore,
) {
    let large = vec![7; 300_000];
    store
        .apply(&[put("a/b", None, 5, &large), put("c", None, 1, b"")])
        .expect("both are new");
    let mut bytes = Vec::new();
    store.snapshot(&mut bytes).expect("it can be read");
    for cut in [0, 1, 100, bytes.len() - 1] {
        let refused = third.restore(&mut &bytes[..cut]);
        assert!(refused.is_err(), "{cut}");
        assert!(
            third.scan("", None, 1).expect("it can be read").is_empty(),
            "{cut}"
        );
    }
    other.restore(&mut bytes.as_slice()).expect("it is empty");
    assert_eq!(value(other, "a/b"), Some((5, large)));
    assert_eq!(value(other, "c"), Some((1, Vec::new())));
    let again = other.restore(&mut bytes.as_slice());
    assert!(matches!(again, Err(StoreError::NotEmpty)));
}
