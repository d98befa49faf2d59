//! kill -9 at random moments, and at every N-th system call of a kind.

use std::time::Duration;

use holdfast_tests::home::text;
use holdfast_tests::{Drive, Home};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::ledger::Ledger;
use crate::size;
use crate::traced::Traced;

/// A hundred times: work under load, kill -9 after a random time, mount, everything that was acknowledged is
/// there. Every tenth time an empty home recovers from the store, and what was flushed is there. In the soak ten
/// archives, each with another seed: what has to be compared grows with each round.
#[test]
fn a_hundred_kills_lose_nothing() {
    for seed in 1..=size(1, 10) {
        a_hundred_kills_with(seed);
        eprintln!("seed {seed}: killed a hundred times, nothing was lost");
    }
}

fn a_hundred_kills_with(seed: u64) {
    let (home, code) = Home::with_archive("laptop");
    let (mut random, mut ledger) = (StdRng::seed_from_u64(seed), Ledger::new(seed));
    for round in 1..=100 {
        let drive = home.mount();
        ledger.check_after_mount(&drive.path(""));
        let pause = Duration::from_millis(random.random_range(5..700));
        ledger = work_until_killed(drive, ledger, pause);
        if round % 10 == 0 {
            check_recovery(&home, &code, &ledger, &format!("empty-{round}"));
        }
    }
    let drive = home.mount();
    ledger.check_after_mount(&drive.path(""));
    drive.unmount();
    home.ok(&["check", "--read-data"]);
    assert!(
        ledger.closed > 100 && ledger.synced > 20 && ledger.flushes > 5,
        "too little was done: {} closed, {} synced, {} flushed",
        ledger.closed,
        ledger.synced,
        ledger.flushes
    );
}

fn work_until_killed(drive: Drive<'_>, mut ledger: Ledger, pause: Duration) -> Ledger {
    let folder = drive.path("");
    let worker = std::thread::spawn(move || {
        let ended = ledger.work(&folder, usize::MAX);
        ended.expect_err("it works until the daemon is killed");
        ledger
    });
    std::thread::sleep(pause);
    drive.kill_only();
    worker
        .join()
        .expect("the worker ends with an error of the drive")
}

fn check_recovery(home: &Home, code: &str, ledger: &Ledger, device: &str) {
    let empty = Home::new();
    let run = empty.recover(&home.store(), code, device, &["--from", "laptop"]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    let drive = empty.mount();
    ledger.check_recovered(&drive.path(""));
    drive.unmount();
}

/// Killed at the N-th fdatasync, N from 1 until a run ends without being killed.
#[test]
fn killed_at_every_fdatasync() {
    sweep("fdatasync,fsync");
}

/// Killed at the N-th write at an offset, N from 1 until a run ends without being killed.
#[test]
fn killed_at_every_write() {
    sweep("pwrite64,pwritev");
}

/// Killed at the N-th rename or link, N from 1 until a run ends without being killed.
#[test]
fn killed_at_every_rename() {
    sweep("rename,renameat,renameat2,link,linkat,unlink,unlinkat");
}

/// Work of some calls of each kind, then a snapshot and an unmount. The daemon is killed in the middle, mounted
/// again with everything there, and its archive stays whole.
fn sweep(calls: &str) {
    let (home, code) = Home::with_archive("laptop");
    let mut ledger = Ledger::new(7);
    let mut killed = 0;
    for number in 1.. {
        let injection = format!("{calls}:signal=SIGKILL:when={number}");
        let traced = Traced::mount(&home, &injection);
        if traced.is_mounted() {
            // Which call fails is the daemon's death, wherever it strikes.
            let _ = ledger.work(traced.folder(), 12);
            home.run(["snapshot", &format!("at-{number}")]);
            home.run(["unmount", text(traced.folder())]);
        }
        let whole = traced.ended_by_itself();
        let drive = home.mount();
        ledger.check_after_mount(&drive.path(""));
        drive.unmount();
        if whole {
            break;
        }
        killed += 1;
        if killed % 10 == 0 {
            check_recovery(&home, &code, &ledger, &format!("empty-{number}"));
        }
        assert!(number < 2_000, "the sweep does not end");
    }
    assert!(killed > 2, "only {killed} calls were hit");
    home.ok(&["check", "--read-data"]);
}
