//! The gc protocol, explored exhaustively.
//!
//! Two devices, gc, undelete and compact take one step at a time in every possible order, time passes
//! in between, and processes die between any two steps. In each state that can be reached, every commit that is
//! stored and kept must still have all of its chunks. What gc, devices and undelete decide in the model is
//! decided by the crate's own functions (`judge`, `plan_*`, `Marks`, `RefsTable`), not by copies.
//!
//! A checker that finds nothing proves little, so each safeguard is also left out once, and the checker
//! must then find a lost chunk. The protocol's argument is in `docs/protocol/gc.md`.

mod actors;
mod explorer;
mod world;

use explorer::{Outcome, explore};
use world::{Flaw, Scenario, World};

fn holds(scenario: Scenario) {
    let outcome = explore(World::begin(scenario));
    match outcome {
        Outcome::Holds { states } => println!("{states} states, all good"),
        Outcome::Violated { trace, violation } => panic!("{violation}\n{}", trace.join("\n")),
    }
}

fn finds(scenario: Scenario, flaw: Flaw) {
    let scenario = Scenario {
        flaw: Some(flaw),
        ..scenario
    };
    match explore(World::begin(scenario)) {
        Outcome::Holds { states } => panic!("{flaw:?} went unnoticed in {states} states"),
        Outcome::Violated { trace, violation } => println!("{violation}\n{}", trace.join("\n")),
    }
}

/// Both devices are about to back up a chunk that only a forgotten commit has; one process dies anywhere.
#[test]
fn two_devices_and_gc_lose_nothing() {
    holds(Scenario::two_devices());
}

#[test]
fn a_device_and_gc_that_die_lose_nothing() {
    holds(Scenario::one_device_with_crashes());
}

/// Time enough for gc to clean the marks of what it deleted while a device slept.
#[test]
fn a_device_that_sleeps_loses_nothing() {
    holds(Scenario::sleeper());
}

#[test]
fn undelete_keeps_what_it_promises() {
    holds(Scenario::undelete());
}

#[test]
fn compact_loses_nothing() {
    holds(Scenario::compact());
}

#[test]
fn it_finds_a_gc_that_reads_refs_before_it_stores_deleting() {
    finds(Scenario::two_devices(), Flaw::RefsReadBeforeDeletingStored);
}

#[test]
fn it_finds_a_device_that_commits_without_reading_deleting() {
    finds(Scenario::two_devices(), Flaw::DeletingNotRead);
}

#[test]
fn it_finds_a_device_that_reads_deleting_before_it_stores_refs() {
    finds(Scenario::two_devices(), Flaw::DeletingReadBeforeRefsStored);
}

#[test]
fn it_finds_a_device_that_stores_again_under_the_same_name() {
    finds(Scenario::two_devices(), Flaw::SameNameStoredAgain);
}

#[test]
fn it_finds_a_device_that_relies_on_old_marks() {
    finds(Scenario::sleeper(), Flaw::OldMarksUsed);
}

#[test]
fn it_finds_an_undelete_that_does_not_look_again() {
    finds(Scenario::undelete(), Flaw::UndeleteLooksOnce);
}

#[test]
fn it_finds_a_compact_that_claims_refs_it_has_not_seen() {
    finds(Scenario::compact(), Flaw::UnseenRefsClaimed);
}
