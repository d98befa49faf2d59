use super::*;
use crate::store::{
    StoreErrorKind,
    conformance::{self, Answers},
};

#[tokio::test]
async fn conforms() {
    let store = MemoryStore::new();
    conformance::conformance(&store, Answers::Exact).await;
    conformance::long_listings_are_complete(&store, 1100).await;
}

#[tokio::test]
async fn damage_is_found_on_loading() {
    let store = MemoryStore::new();
    let object = Object::key(1, b"wrapped");
    store.corrupt(&object.name(), Bytes::from_static(b"other"));
    let error = store.get(&object.name()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Damaged);
}
