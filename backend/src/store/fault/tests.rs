use super::*;
use crate::store::{
    MemoryStore,
    conformance::{self, Answers},
};

#[tokio::test]
async fn conforms_when_nothing_fails() {
    let store = Fault::new(Arc::new(MemoryStore::new()), 1, FaultRates::NONE);
    conformance::conformance(&store, Answers::Exact).await;
    let healed = Fault::new(Arc::new(MemoryStore::new()), 1, FaultRates::MANY);
    healed.heal();
    conformance::conformance(&healed, Answers::Exact).await;
}

async fn outcomes(seed: u64) -> Vec<bool> {
    let store = Fault::new(Arc::new(MemoryStore::new()), seed, FaultRates::MANY);
    let mut outcomes = Vec::new();
    for n in 0..100 {
        outcomes.push(store.put_new(&Object::key(n, b"wrapped")).await.is_ok());
    }
    outcomes
}

#[tokio::test]
async fn one_seed_gives_the_same_failures() {
    assert_eq!(outcomes(7).await, outcomes(7).await);
    assert_ne!(outcomes(7).await, outcomes(8).await);
}

#[tokio::test]
async fn a_put_whose_answer_is_lost_is_applied() {
    let rates = FaultRates {
        answer_lost: 1.0,
        ..FaultRates::NONE
    };
    let store = Fault::new(Arc::new(MemoryStore::new()), 1, rates);
    let object = Object::key(1, b"wrapped");
    let error = store.put_new(&object).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Transient);
    store.heal();
    assert_eq!(store.put_new(&object).await.unwrap(), Stored::AlreadyThere);
}

#[tokio::test]
async fn a_stale_listing_is_that_of_last_time() {
    let rates = FaultRates {
        stale_list: 1.0,
        ..FaultRates::NONE
    };
    let store = Fault::new(Arc::new(MemoryStore::new()), 1, rates);
    assert_eq!(store.list(Folder::Keys).await.unwrap().len(), 0);
    store.put_new(&Object::key(1, b"wrapped")).await.unwrap();
    assert_eq!(store.list(Folder::Keys).await.unwrap().len(), 0);
    store.heal();
    assert_eq!(store.list(Folder::Keys).await.unwrap().len(), 1);
}
