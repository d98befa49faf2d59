//! How often somebody may try: shares for each person and each address, refused calls for each address.
//!
//! A share cannot be guessed, so the limits do not guard the shares; they keep a caller from filling the audit log, the
//! mailboxes and the processor. Whoever has a good certificate is not shut out by the failures of a neighbour behind
//! the same address: past the limit a refused call is answered and no more put on record.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::config;
use crate::names::PersonName;

/// Keys remembered before those that are quiet are forgotten.
const KEYS: usize = 10_000;

/// All limits of the server.
pub struct Limits {
    shares_of_person: Limit<PersonName>,
    shares_of_address: Limit<IpAddr>,
    failures_of_address: Limit<IpAddr>,
    logins_of_user: Limit<PersonName>,
    logins_of_address: Limit<IpAddr>,
}

/// Too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOften;

struct Limit<K: Hash + Eq + Clone>(RateLimiter<K, HashMapStateStore<K>, DefaultClock>);

impl Limits {
    /// As configured.
    pub fn new(config: &config::Limits) -> Limits {
        Limits {
            shares_of_person: Limit::per_minute(config.shares_per_person),
            shares_of_address: Limit::per_minute(config.shares_per_address),
            failures_of_address: Limit::per_minute(config.failures_per_address),
            logins_of_user: Limit::per_hour(config.logins_per_user),
            logins_of_address: Limit::per_hour(config.logins_per_address),
        }
    }

    /// Counts one share of a person from an address.
    pub fn share(&self, person: &PersonName, address: IpAddr) -> Result<(), TooOften> {
        self.shares_of_person.count(person)?;
        self.shares_of_address.count(&address)
    }

    /// Counts one try to enrol or log in as somebody from an address.
    pub fn login(&self, user: &PersonName, address: IpAddr) -> Result<(), TooOften> {
        self.logins_of_address.count(&address)?;
        self.logins_of_user.count(user)
    }

    /// Counts one refused call.
    pub fn failure(&self, address: IpAddr) -> Result<(), TooOften> {
        self.failures_of_address.count(&address)
    }
}

impl<K: Hash + Eq + Clone> Limit<K> {
    fn per_minute(times: u32) -> Limit<K> {
        let times = NonZeroU32::new(times).unwrap_or(NonZeroU32::MIN);
        Limit(RateLimiter::hashmap(Quota::per_minute(times)))
    }

    fn per_hour(times: u32) -> Limit<K> {
        let times = NonZeroU32::new(times).unwrap_or(NonZeroU32::MIN);
        Limit(RateLimiter::hashmap(Quota::per_hour(times)))
    }

    fn count(&self, key: &K) -> Result<(), TooOften> {
        if self.0.len() > KEYS {
            self.0.retain_recent();
        }
        self.0.check_key(key).map_err(|_| TooOften)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_person_and_each_address_has_its_own_count() {
        let limits = Limits::new(&config::Limits {
            shares_per_person: 2,
            shares_per_address: 3,
            failures_per_address: 1,
            ..config::Limits::default()
        });
        let (alice, bob) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let (here, there) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        assert_eq!(limits.share(&alice, here), Ok(()));
        assert_eq!(limits.share(&alice, here), Ok(()));
        assert_eq!(limits.share(&alice, here), Err(TooOften));
        assert_eq!(
            limits.share(&alice, there),
            Err(TooOften),
            "another address does not help"
        );
        assert_eq!(limits.share(&bob, here), Ok(()));
        assert_eq!(
            limits.share(&bob, here),
            Err(TooOften),
            "three from one address"
        );
        assert_eq!(limits.failure(here), Ok(()));
        assert_eq!(limits.failure(here), Err(TooOften));
        assert_eq!(limits.failure(there), Ok(()));
    }
}
