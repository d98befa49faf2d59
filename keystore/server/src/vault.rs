//! The keystore behind one lock: uninitialised, sealed or open.
//!
//! Here the protocol's types meet the server's; nothing else in the server names a key or a share's content. What the server
//! itself keeps in the barrier lies below `server/`: a copy of the table of persons, its digest, and the head of the audit log.

use std::io::{Read, Write};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol as protocol;
use holdfast_protocol::{Keystore, KeystoreError, RecordPath, RecordStore, Sealed, Unsealed};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::api::error::{ApiError, ErrorCode};
use crate::api::status::{CeremonyStatus, DataKeyStatus, HeldShare, SealStatus};
use crate::audit::{Ceremony, Head};
use crate::names::{HexBytes, LineHash, PersonName};
use crate::persons::{Person, Persons};
use crate::records::RedbRecords;
use crate::server::Phase;
use crate::snapshots::SnapshotError;

const DIGEST: &str = "server/persons-digest";
const HEAD: &str = "server/audit-head";
const PERSONS: &str = "server/persons/";

/// The keystore with its database.
pub struct Vault {
    pub(crate) records: Arc<RedbRecords>,
    pub(crate) state: State,
    pub(crate) ceremony_seconds: i64,
    /// When the head of the audit log was last put into the barrier.
    pub(crate) head_remembered: Option<Timestamp>,
}

/// One of three; `Moving` only inside of one call, while the lock is held.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of it, and it seldom moves"
)]
pub(crate) enum State {
    Uninitialised,
    Sealed(Keystore<Sealed>),
    Unsealed(Box<Keystore<Unsealed>>),
    Moving,
}

/// A database that is none of ours.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct VaultError(#[from] KeystoreError);

/// What the barrier remembers of the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RememberedHead {
    pub(crate) sequence: u64,
    pub(crate) hash: LineHash,
}

impl Vault {
    /// As it lies in the database: sealed, or nothing yet.
    pub fn load(records: Arc<RedbRecords>, ceremony_time: Duration) -> Result<Vault, VaultError> {
        let state = match protocol::load(records.clone())? {
            Some(keystore) => State::Sealed(keystore),
            None => State::Uninitialised,
        };
        Ok(Vault {
            records,
            state,
            ceremony_seconds: i64::try_from(ceremony_time.as_secs()).unwrap_or(i64::MAX),
            head_remembered: None,
        })
    }

    /// What it is.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Uninitialised => Phase::Uninitialised,
            State::Unsealed(_) => Phase::Unsealed,
            State::Sealed(_) | State::Moving => Phase::Sealed,
        }
    }

    /// Takes the state out, for a step that consumes it; the caller puts one back before it lets go of the lock.
    pub(crate) fn take(&mut self) -> State {
        mem::replace(&mut self.state, State::Moving)
    }

    /// The open keystore.
    pub(crate) fn open(&self) -> Result<&Keystore<Unsealed>, ApiError> {
        match &self.state {
            State::Unsealed(keystore) => Ok(keystore),
            State::Uninitialised => Err(ApiError::uninitialised()),
            State::Sealed(_) | State::Moving => Err(ApiError::sealed()),
        }
    }

    /// The open keystore, for changing it.
    pub(crate) fn open_mut(&mut self) -> Result<&mut Keystore<Unsealed>, ApiError> {
        match &mut self.state {
            State::Unsealed(keystore) => Ok(keystore),
            State::Uninitialised => Err(ApiError::uninitialised()),
            State::Sealed(_) | State::Moving => Err(ApiError::sealed()),
        }
    }

    /// The sealed keystore.
    pub(crate) fn sealed_mut(&mut self) -> Result<&mut Keystore<Sealed>, ApiError> {
        match &mut self.state {
            State::Sealed(keystore) => Ok(keystore),
            State::Uninitialised => Err(ApiError::uninitialised()),
            State::Unsealed(_) | State::Moving => Err(ApiError::already_unsealed()),
        }
    }

    pub(crate) fn header(&self) -> Option<&protocol::SealHeader> {
        match &self.state {
            State::Sealed(keystore) => Some(keystore.header()),
            State::Unsealed(keystore) => Some(keystore.header()),
            State::Uninitialised | State::Moving => None,
        }
    }

    /// Its shares.
    pub fn seal_status(&self) -> Option<SealStatus> {
        let header = self.header()?;
        let held = |(share, number): (&protocol::HeldShare, u8)| HeldShare {
            number,
            holder: holder(&share.holder),
        };
        let most = header.most_in_one_hand();
        Some(SealStatus {
            cluster: HexBytes(header.cluster),
            epoch: header.epoch.into(),
            threshold: header.threshold,
            holders: header.shares.iter().zip(1..).map(held).collect(),
            trial: (most > 1).then(|| format!("trial: one person holds {most} shares")),
        })
    }

    /// The ceremony that is under way.
    pub fn ceremony(&self) -> Option<CeremonyStatus> {
        match &self.state {
            State::Sealed(keystore) => ceremony_status(Ceremony::Unseal, keystore.ceremony()?),
            State::Unsealed(keystore) => ceremony_status(Ceremony::Reshare, keystore.reshare()?),
            State::Uninitialised | State::Moving => None,
        }
    }

    /// The data key, while it is open.
    pub fn data_key(&self) -> Option<DataKeyStatus> {
        let keystore = self.open().ok()?;
        Some(DataKeyStatus {
            term: keystore.term(),
            generation: keystore.generation(),
        })
    }

    /// Puts the table of persons and its digest into the barrier; nothing to do before the keystore was initialised.
    pub fn remember_persons(&mut self, persons: &Persons) -> Result<(), ApiError> {
        let State::Unsealed(keystore) = &mut self.state else {
            return Ok(());
        };
        let list = persons.list();
        for path in keystore.list(PERSONS) {
            let name = path.as_str().trim_start_matches(PERSONS);
            if !list.iter().any(|person| person.name.as_str() == name)
                && let Some(version) = keystore.version(&path)
            {
                keystore.delete(&path, version)?;
            }
        }
        for person in &list {
            put(keystore, &person_path(&person.name), person)?;
        }
        put(keystore, &fixed(DIGEST), &persons.digest())
    }

    /// The digest of the table as it was when the keystore was last open.
    pub(crate) fn remembered_digest(&self) -> Result<Option<HexBytes<32>>, ApiError> {
        get(self.open()?, &fixed(DIGEST))
    }

    /// One person, as the barrier has it.
    pub fn person(&self, name: &PersonName) -> Result<Person, ApiError> {
        get(self.open()?, &person_path(name))?.ok_or_else(|| {
            ApiError::new(
                ErrorCode::NotFound,
                format!("the barrier has no record of {name}"),
                "the table of persons was changed outside; an operator adds the person again",
            )
        })
    }

    /// The head of the audit log that the barrier remembers.
    pub(crate) fn remembered_head(&self) -> Result<Option<RememberedHead>, ApiError> {
        get(self.open()?, &fixed(HEAD))
    }

    /// Puts the head of the audit log into the barrier.
    pub(crate) fn remember_head(&mut self, head: &Head, now: Timestamp) -> Result<(), ApiError> {
        let remembered = RememberedHead {
            sequence: head.sequence,
            hash: head.hash,
        };
        put(self.open_mut()?, &fixed(HEAD), &remembered)?;
        self.head_remembered = Some(now);
        Ok(())
    }

    /// All records, as they are at one moment.
    pub fn write_snapshot(&self, out: &mut dyn Write) -> Result<(), SnapshotError> {
        self.records
            .snapshot(out)
            .map_err(|error| SnapshotError::Records(error.to_string()))
    }

    /// Takes the records of a snapshot into an empty database. Sealed afterwards.
    pub fn restore(&mut self, from: &mut dyn Read) -> Result<(), SnapshotError> {
        let failed = |error: &dyn std::fmt::Display| SnapshotError::Records(error.to_string());
        self.records.restore(from).map_err(|error| failed(&error))?;
        let loaded = protocol::load(self.records.clone()).map_err(|error| failed(&error))?;
        if let Some(keystore) = loaded {
            self.state = State::Sealed(keystore);
        }
        Ok(())
    }
}

fn ceremony_status(kind: Ceremony, ceremony: &protocol::Ceremony) -> Option<CeremonyStatus> {
    Some(CeremonyStatus {
        kind,
        ceremony: HexBytes(ceremony.id()),
        digest: HexBytes(ceremony.digest()),
        have: ceremony.have(),
        need: ceremony.need(),
        approved: ceremony.approved(),
        approvals_needed: ceremony.approvals_needed(),
        expires: Timestamp::from_second(ceremony.expires()).ok(),
    })
}

/// A name from a header. One that is none was not written by us; it is shown as what it is: somebody unknown.
fn holder(name: &str) -> PersonName {
    name.parse()
        .unwrap_or_else(|_| "unknown".parse().expect("it is a good name"))
}

fn fixed(path: &str) -> RecordPath {
    path.parse().expect("a path in the program is a good one")
}

fn person_path(name: &PersonName) -> RecordPath {
    let path = format!("{PERSONS}{name}");
    path.parse()
        .expect("a name of a person is a segment of a path")
}

pub(crate) fn get<T: serde::de::DeserializeOwned>(
    keystore: &Keystore<Unsealed>,
    path: &RecordPath,
) -> Result<Option<T>, ApiError> {
    let Some(bytes) = keystore.read(path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        tracing::error!(%path, %error, "a record of the server is not what it writes");
        ApiError::storage()
    })
}

/// Writes a record unless it is there as it should be.
pub(crate) fn put<T: Serialize>(
    keystore: &mut Keystore<Unsealed>,
    path: &RecordPath,
    value: &T,
) -> Result<(), ApiError> {
    let bytes = serde_json::to_vec(value).expect("names, numbers and ids are always JSON");
    let bytes = Zeroizing::new(bytes);
    if keystore.read(path)?.is_some_and(|there| *there == *bytes) {
        return Ok(());
    }
    let version = keystore.version(path);
    Ok(keystore.write(path, &bytes, version)?)
}

impl From<KeystoreError> for ApiError {
    fn from(error: KeystoreError) -> Self {
        match error {
            KeystoreError::CeremonyRunning => ApiError::new(
                ErrorCode::Conflict,
                "a ceremony is under way",
                "finish it, or cancel it; the status tells its id",
            ),
            KeystoreError::NoSuchCeremony => ApiError::new(
                ErrorCode::Conflict,
                "there is no such ceremony",
                "the status tells which one is under way",
            ),
            KeystoreError::WasOpen => ApiError::already_initialised(),
            other => {
                tracing::error!(error = %other, "the database");
                ApiError::storage()
            }
        }
    }
}
