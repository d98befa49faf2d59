use super::*;
use crate::store::{
    MemoryStore,
    conformance::{self, Answers},
};

#[tokio::test]
async fn conforms() {
    let fast = || TokenBucket::new(1 << 32);
    let store = Throttle::new(Arc::new(MemoryStore::new()), fast(), fast());
    conformance::conformance(&store, Answers::Exact).await;
}

#[tokio::test]
async fn transfers_keep_to_the_limit_together() {
    let bucket = TokenBucket::new(100_000);
    let inner = Arc::new(MemoryStore::new());
    let stores = [
        Throttle::new(Arc::clone(&inner), bucket.clone(), bucket.clone()),
        Throttle::new(inner, bucket.clone(), bucket),
    ];
    let started = Instant::now();
    for n in 0..10_u8 {
        let object = Object::key(1, &[n; 988]);
        stores[0].put_new(&object).await.unwrap();
        stores[1].get_range(&object.name(), 0..1000).await.unwrap();
    }
    // 20,000 bytes, of which the last 1,000 are not waited for.
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(190), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn zero_is_no_limit() {
    assert!(TokenBucket::new(0).is_none());
}
