//! Breadth-first over all reachable states; the first violation comes with a shortest trace.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::world::{Action, World};

pub enum Outcome {
    Holds {
        states: usize,
    },
    Violated {
        trace: Vec<String>,
        violation: String,
    },
}

/// More states than any scenario here has: a scenario that grows must be noticed.
const MOST_STATES: usize = 3_000_000;

fn fingerprint(world: &World) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(world)
}

pub fn explore(begin: World) -> Outcome {
    let first = fingerprint(&begin);
    let mut reached: HashMap<u64, Option<(u64, Action)>> = HashMap::from([(first, None)]);
    let mut frontier = VecDeque::from([begin]);
    while let Some(world) = frontier.pop_front() {
        let here = fingerprint(&world);
        if let Err(violation) = world.check() {
            return Outcome::Violated {
                trace: trace(&reached, here),
                violation,
            };
        }
        for (action, next) in world.successors() {
            let there = fingerprint(&next);
            reached.entry(there).or_insert_with(|| {
                frontier.push_back(next);
                Some((here, action))
            });
        }
        assert!(
            reached.len() < MOST_STATES,
            "the scenario is too large to be explored"
        );
    }
    Outcome::Holds {
        states: reached.len(),
    }
}

fn trace(reached: &HashMap<u64, Option<(u64, Action)>>, mut state: u64) -> Vec<String> {
    let mut trace = Vec::new();
    while let Some((before, action)) = &reached[&state] {
        trace.push(format!("{action:?}"));
        state = *before;
    }
    trace.reverse();
    trace
}
