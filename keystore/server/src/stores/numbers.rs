//! Names with a number: under one number of one device, only one content may ever stand.
//!
//! ```text
//! grants/ARCHIVE/FOLDER[/DEVICE]   what is granted and not over: number, digest, end
//! usage/ARCHIVE                    bytes, as they were last known
//! ```
//!
//! The first digest that is granted under a number has it until its grant is over. Then whatever was stored decides. The record is
//! written before the grant is given: if we die in between, somebody waits two minutes for a number that nobody has.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use holdfast_backend::layout::ObjectName;
use holdfast_protocol::RecordPath;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::NUMBERED_PUT_LIFE;
use crate::api::error::ApiError;
use crate::names::{HexBytes, Id};
use crate::vault::Vault;

/// A request that begins in time may end later, and shows in a listing later still.
const AFTERWARDS: std::time::Duration = std::time::Duration::from_secs(5 * 60);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Granted {
    numbers: Vec<Number>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Number {
    n: u64,
    digest: HexBytes<32>,
    until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Usage {
    bytes: u64,
}

/// Where a number counts: everything before the last `/` of the name.
pub fn place(name: &ObjectName) -> Option<String> {
    name.number()?;
    let text = name.to_string();
    text.rsplit_once('/').map(|(place, _)| place.to_owned())
}

impl Vault {
    /// Takes the numbers of these names. For each, whether it has got it: not if another digest has it.
    pub fn take_numbers(
        &mut self,
        archive: &Id,
        names: &[ObjectName],
        now: Timestamp,
    ) -> Result<Vec<bool>, ApiError> {
        let mut taken = Vec::with_capacity(names.len());
        let mut places: BTreeMap<RecordPath, Granted> = BTreeMap::new();
        for name in names {
            let (Some(place), Some(n)) = (place(name), name.number()) else {
                taken.push(true);
                continue;
            };
            let path = path(format!("grants/{archive}/{place}"));
            let granted = match places.entry(path) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(none) => {
                    let mut granted: Granted = self.get(none.key())?.unwrap_or_default();
                    granted
                        .numbers
                        .retain(|number| number.until + AFTERWARDS > now);
                    none.insert(granted)
                }
            };
            let digest = HexBytes(name.digest().0);
            let until = now + NUMBERED_PUT_LIFE;
            taken.push(
                match granted.numbers.iter_mut().find(|number| number.n == n) {
                    Some(number) if number.digest == digest => {
                        number.until = until;
                        true
                    }
                    Some(_) => false,
                    None => {
                        granted.numbers.push(Number { n, digest, until });
                        true
                    }
                },
            );
        }
        self.put_all(&places)?;
        Ok(taken)
    }

    /// What was known of an archive's bytes.
    pub fn usage(&self, archive: &Id) -> Result<Option<u64>, ApiError> {
        let usage: Option<Usage> = self.get(&usage(archive))?;
        Ok(usage.map(|usage| usage.bytes))
    }

    /// Remembers them.
    pub fn put_usage(&mut self, archive: &Id, bytes: u64) -> Result<(), ApiError> {
        self.put(&usage(archive), &Usage { bytes })
    }
}

fn usage(archive: &Id) -> RecordPath {
    path(format!("usage/{archive}"))
}

fn path(path: String) -> RecordPath {
    path.parse().expect("names and ids are segments of a path")
}
