use super::*;
use crate::store::{
    MemoryStore,
    conformance::{self, Answers},
};

#[tokio::test]
async fn conforms() {
    let store = Record::new(Arc::new(MemoryStore::new()));
    conformance::conformance(&store, Answers::Exact).await;
}

#[tokio::test]
async fn counts_requests_bytes_and_failures() {
    let store = Record::new(Arc::new(MemoryStore::new()));
    let object = Object::key(1, b"wrapped");
    store.get(&object.name()).await.unwrap_err();
    store.put_new(&object).await.unwrap();
    store.get(&object.name()).await.unwrap();
    store.get_range(&object.name(), 0..4).await.unwrap();
    let counts = store.reset();
    let length = object.len();
    assert_eq!(
        counts.of(Operation::Put),
        Count {
            requests: 1,
            failed: 0,
            bytes: length
        }
    );
    assert_eq!(
        counts.of(Operation::Get),
        Count {
            requests: 2,
            failed: 1,
            bytes: length
        }
    );
    assert_eq!(
        counts.of(Operation::GetRange),
        Count {
            requests: 1,
            failed: 0,
            bytes: 4
        }
    );
    assert_eq!(counts.requests(), 4);
    assert_eq!(store.snapshot(), Counts::default());
}
