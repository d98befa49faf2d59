use super::*;
use crate::store::{
    Fault, FaultRates, MemoryStore, Record,
    conformance::{self, Answers},
};

const QUICK: RetryPolicy = RetryPolicy {
    first_delay: Duration::from_micros(50),
    longest_delay: Duration::from_millis(2),
    read_deadline: Duration::from_secs(20),
    first_answer_deadline: Duration::from_secs(20),
    put_deadline: None,
    breaker_failures: 1000,
    breaker_pause: Duration::from_millis(20),
};

type Faulty = Fault<MemoryStore>;

fn failing(rates: FaultRates) -> Arc<Faulty> {
    Arc::new(Fault::new(Arc::new(MemoryStore::new()), 3, rates))
}

const DOWN: FaultRates = FaultRates {
    server_error: 1.0,
    ..FaultRates::NONE
};

#[tokio::test]
async fn conforms() {
    let store = Retry::new(Arc::new(MemoryStore::new()), RetryPolicy::default());
    conformance::conformance(&store, Answers::Exact).await;
}

#[tokio::test]
async fn conforms_on_a_store_that_often_fails() {
    for seed in 0..20 {
        let faulty = Fault::new(Arc::new(MemoryStore::new()), seed, FaultRates::MANY);
        let store = Retry::new(Arc::new(faulty), QUICK);
        conformance::conformance(&store, Answers::Loose).await;
    }
}

#[tokio::test]
async fn loading_gives_up_at_its_deadline() {
    let policy = RetryPolicy {
        read_deadline: Duration::from_millis(50),
        ..QUICK
    };
    let store = Retry::new(failing(DOWN), policy);
    let started = Instant::now();
    let error = store.list(Folder::Keys).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Transient);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_at_the_deadline() {
    let rates = FaultRates {
        slow: 1.0,
        slowness: Duration::from_secs(600),
        ..FaultRates::NONE
    };
    let policy = RetryPolicy {
        read_deadline: Duration::from_millis(50),
        ..QUICK
    };
    let store = Retry::new(failing(rates), policy);
    let error = store
        .get(&Object::key(1, b"wrapped").name())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Transient);
}

#[tokio::test]
async fn storing_goes_on_until_the_store_is_back() {
    let faulty = failing(DOWN);
    let policy = RetryPolicy {
        breaker_failures: 3,
        ..QUICK
    };
    let store = Arc::new(Retry::new(Arc::clone(&faulty), policy));
    let object = Object::key(1, b"wrapped");
    let putting = tokio::spawn({
        let (store, object) = (Arc::clone(&store), object.clone());
        async move { store.put_new(&object).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!putting.is_finished());
    faulty.heal();
    assert_eq!(putting.await.unwrap().unwrap(), Stored::New);
    assert_eq!(store.breaker_state(), BreakerState::Closed);
}

#[tokio::test]
async fn storing_can_have_a_deadline_too() {
    let policy = RetryPolicy {
        put_deadline: Some(Duration::from_millis(30)),
        ..QUICK
    };
    let store = Retry::new(failing(DOWN), policy);
    let error = store
        .put_new(&Object::key(1, b"wrapped"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Transient);
}

#[tokio::test]
async fn only_transient_failures_are_tried_again() {
    let record = Arc::new(Record::new(Arc::new(MemoryStore::new())));
    let store = Retry::new(Arc::clone(&record), QUICK);
    store
        .get(&Object::key(1, b"wrapped").name())
        .await
        .unwrap_err();
    assert_eq!(record.snapshot().requests(), 1);
}

#[tokio::test]
async fn the_breaker_opens_and_lets_one_request_through_later() {
    let faulty = failing(DOWN);
    let record = Arc::new(Record::new(Arc::clone(&faulty)));
    let policy = RetryPolicy {
        breaker_failures: 3,
        breaker_pause: Duration::from_millis(300),
        ..QUICK
    };
    let store = Retry::new(Arc::clone(&record), policy);
    store.list(Folder::Keys).await.unwrap_err();
    assert_eq!(store.breaker_state(), BreakerState::Open);
    assert_eq!(record.reset().requests(), 3);
    store.list(Folder::Keys).await.unwrap_err();
    assert_eq!(
        record.reset().requests(),
        0,
        "an open breaker makes no request"
    );
    faulty.heal();
    tokio::time::sleep(Duration::from_millis(310)).await;
    store.list(Folder::Keys).await.unwrap();
    assert_eq!(store.breaker_state(), BreakerState::Closed);
}

#[tokio::test]
async fn a_dropped_request_does_not_leave_the_breaker_half_open() {
    let breaker = Breaker::new(1, Duration::from_millis(1));
    breaker.enter().unwrap().failed();
    assert_eq!(breaker.state(), BreakerState::Open);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let pass = breaker.enter().unwrap();
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(breaker.enter().is_err(), "one at a time");
    drop(pass);
    breaker.enter().unwrap().answered();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn waits_grow_to_their_bound() {
    let policy = RetryPolicy::default();
    for failures in 1..200 {
        let bound = (0.02 * 2_f64.powi(failures as i32 - 1)).min(60.0);
        let delay = policy.delay(failures).as_secs_f64();
        assert!(
            delay <= bound + 1e-6 && delay >= bound / 8.0 - 1e-6,
            "{failures}: {delay}"
        );
    }
}
