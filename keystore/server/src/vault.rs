#![allow(missing_docs, unused, clippy::todo)]
use crate::{
    api::{error::ApiError, status::*},
    names::*,
    persons::*,
    records::RedbRecords,
    server::Phase,
    snapshots::SnapshotError,
};
use std::{
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};
pub struct Vault;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct VaultError;
impl Vault {
    pub fn load(r: Arc<RedbRecords>, t: Duration) -> Result<Vault, VaultError> {
        Ok(Vault)
    }
    pub fn phase(&self) -> Phase {
        Phase::Uninitialised
    }
    pub fn seal_status(&self) -> Option<SealStatus> {
        None
    }
    pub fn ceremony(&self) -> Option<CeremonyStatus> {
        None
    }
    pub fn data_key(&self) -> Option<DataKeyStatus> {
        None
    }
    pub fn remember_persons(&self, p: &Persons) -> Result<(), ApiError> {
        Ok(())
    }
    pub fn person(&self, n: &PersonName) -> Result<Person, ApiError> {
        todo!()
    }
    pub fn write_snapshot(&self, out: &mut dyn Write) -> Result<(), SnapshotError> {
        todo!()
    }
    pub fn restore(&mut self, from: &mut dyn Read) -> Result<(), SnapshotError> {
        todo!()
    }
}
