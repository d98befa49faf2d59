//! One flight per thing: of many threads that want the same chunk, one fetches it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Work under way, by what it will bring.
pub struct Flights<K, V> {
    under_way: Mutex<HashMap<K, Arc<Flight<V>>>>,
}

struct Flight<V> {
    landed: Mutex<Landed<V>>,
    changed: Condvar,
}

enum Landed<V> {
    Not,
    With(V),
    /// Whoever flew gave up without an answer; somebody else has to fly.
    Empty,
}

/// The right and the duty to bring one thing.
pub struct Pilot<'a, K: Eq + Hash + Copy, V: Clone> {
    flights: &'a Flights<K, V>,
    key: K,
    flight: Arc<Flight<V>>,
}

/// The deadline has passed.
#[derive(Debug)]
pub struct Late;

/// What a traveller finds.
pub enum Boarding<'a, K: Eq + Hash + Copy, V: Clone> {
    /// Nobody is under way: fetch it and land.
    Fly(Pilot<'a, K, V>),
    /// It has come.
    Arrived(V),
    /// It has not come by the deadline.
    TimedOut,
}

impl<K: Eq + Hash + Copy, V: Clone> Flights<K, V> {
    /// Nothing under way.
    pub fn new() -> Self {
        Self {
            under_way: Mutex::default(),
        }
    }

    /// Becomes the pilot, unless somebody is.
    pub fn try_fly(&self, key: K) -> Option<Pilot<'_, K, V>> {
        let mut under_way = self.under_way.lock();
        if under_way.contains_key(&key) {
            return None;
        }
        let flight = Arc::new(Flight {
            landed: Mutex::new(Landed::Not),
            changed: Condvar::new(),
        });
        under_way.insert(key, Arc::clone(&flight));
        Some(Pilot {
            flights: self,
            key,
            flight,
        })
    }

    /// Whether somebody is under way.
    pub fn is_under_way(&self, key: &K) -> bool {
        self.under_way.lock().contains_key(key)
    }

    /// Becomes the pilot, or waits for the one who is.
    pub fn board(&self, key: K, deadline: Option<Instant>) -> Boarding<'_, K, V> {
        loop {
            if let Some(pilot) = self.try_fly(key) {
                return Boarding::Fly(pilot);
            }
            match self.wait(&key, deadline) {
                Some(Ok(value)) => return Boarding::Arrived(value),
                Some(Err(Late)) => return Boarding::TimedOut,
                // The one who flew comes back with nothing when it is late: its deadline may have been ours.
                None if deadline.is_some_and(|until| until <= Instant::now()) => {
                    return Boarding::TimedOut;
                }
                None => {}
            }
        }
    }

    /// Waits for whoever is under way; `None` when nobody is, or when they come back with nothing.
    pub fn wait(&self, key: &K, deadline: Option<Instant>) -> Option<Result<V, Late>> {
        let flight = self.under_way.lock().get(key).cloned()?;
        let mut landed = flight.landed.lock();
        while matches!(*landed, Landed::Not) {
            match deadline {
                None => flight.changed.wait(&mut landed),
                Some(until) => {
                    if flight.changed.wait_until(&mut landed, until).timed_out()
                        && matches!(*landed, Landed::Not)
                    {
                        return Some(Err(Late));
                    }
                }
            }
        }
        match &*landed {
            Landed::With(value) => Some(Ok(value.clone())),
            _ => None,
        }
    }
}

impl<K: Eq + Hash + Copy, V: Clone> Pilot<'_, K, V> {
    /// Gives everybody who waits what was fetched.
    pub fn land(self, value: V) {
        *self.flight.landed.lock() = Landed::With(value);
    }
}

impl<K: Eq + Hash + Copy, V: Clone> Drop for Pilot<'_, K, V> {
    fn drop(&mut self) {
        self.flights.under_way.lock().remove(&self.key);
        let mut landed = self.flight.landed.lock();
        if matches!(*landed, Landed::Not) {
            *landed = Landed::Empty;
        }
        self.flight.changed.notify_all();
    }
}
