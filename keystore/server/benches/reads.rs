//! Authenticated record reads through the barrier, over TLS, on this computer: `cargo bench -p holdfast-keystore`.
//!
//! The bar is 2,000 reads per second with the 99th percentile below 20 ms on two cores, callers included. It fails below that.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use std::time::{Duration, Instant};

use holdfast_keystore::client::Client;
use holdfast_keystore::persons::Person;

#[allow(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../tests/server/support.rs"]
mod support;

use support::TestServer;

const CALLERS: usize = 16;
const TIME: Duration = Duration::from_secs(10);
const BAR_PER_SECOND: f64 = 2_000.0;
const BAR_P99: Duration = Duration::from_millis(20);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be started");
    runtime.block_on(measure());
}

async fn measure() {
    let (server, holders, shares) = TestServer::initialised(|_| {}).await;
    server.unseal(&holders, &shares[..3]).await;
    // One connection each, and a first call to make it.
    let mut callers = Vec::new();
    for turn in 0..CALLERS {
        let client = server.client(&holders[turn % holders.len()]);
        read(&client).await;
        callers.push(client);
    }
    let begun = Instant::now();
    let tasks: Vec<_> = callers
        .into_iter()
        .map(|client| {
            tokio::spawn(async move {
                let mut times = Vec::new();
                while begun.elapsed() < TIME {
                    times.push(read(&client).await);
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("no caller panics"));
    }
    let seconds = begun.elapsed().as_secs_f64();
    times.sort();
    let rate = times.len() as f64 / seconds;
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let (p50, p99) = (at(0.5), at(0.99));
    println!("{rate:.0} reads/s, p50 {p50:.1?}, p99 {p99:.1?}, {CALLERS} callers, {seconds:.0} s");
    assert!(
        rate >= BAR_PER_SECOND,
        "below the bar of {BAR_PER_SECOND} reads/s"
    );
    assert!(p99 <= BAR_P99, "above the bar of {BAR_P99:?}");
}

async fn read(client: &Client) -> Duration {
    let begun = Instant::now();
    let _: Person = client.get("/v1/me").await.expect("the read is answered");
    begun.elapsed()
}
