//! One line: JSON with the hash of the line before it.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::event::{Actor, Event};
use crate::names::{LineHash, PersonName};

/// Longer than any line that the server writes; longer ones are not read.
pub const LINE_BYTES: usize = 4096;

/// A line as it is read and written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// From 1, without gaps.
    pub sequence: u64,
    /// When.
    pub time: Timestamp,
    /// SHA-256 of the line before, without its line end; zeros for the first.
    pub previous: LineHash,
    /// The person.
    pub by: Option<PersonName>,
    /// The address of the request.
    pub from: Option<IpAddr>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Where the chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the last line; 0 when there is none.
    pub sequence: u64,
    /// Its hash.
    pub hash: LineHash,
}

impl Head {
    /// Of a log without a line.
    pub const EMPTY: Head = Head {
        sequence: 0,
        hash: crate::names::HexBytes([0; 32]),
    };
}

impl Line {
    /// The line that follows `head`.
    pub fn after(head: &Head, time: Timestamp, actor: &Actor, event: Event) -> Line {
        Line {
            sequence: head.sequence + 1,
            time,
            previous: head.hash,
            by: actor.name.clone(),
            from: actor.address,
            event,
        }
    }

    /// Its bytes, without a line end.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers, names and ids are always JSON")
    }

    /// Reads one; `None` unless writing it again gives the same bytes, so that nothing hides in a line.
    pub fn parse(bytes: &[u8]) -> Option<Line> {
        let line: Line = serde_json::from_slice(bytes).ok()?;
        (line.to_bytes() == bytes).then_some(line)
    }
}

/// The hash that the next line carries.
pub fn hash(line: &[u8]) -> LineHash {
    crate::names::HexBytes(Sha256::digest(line).into())
}
