#![allow(missing_docs, unused, clippy::todo)]
use crate::{
    api::{
        access::Caller, error::ApiError, init::*, json::*, reshare::*, share::*, status::*,
        unseal::*,
    },
    audit::{Actor, event::SealReason},
    names::*,
    server::Server,
};
use jiff::*;
impl Server {
    pub fn init(&self, a: &Actor, w: &InitRequest) -> Result<InitResponse, ApiError> {
        Err(ApiError::unfit("stub", "stub"))
    }
    pub fn start_unseal(&self, a: &Actor) -> Result<CeremonyStatus, ApiError> {
        todo!()
    }
    pub fn submit_unseal(&self, a: &Caller, s: &SubmitShare) -> Result<Submitted, ApiError> {
        todo!()
    }
    pub fn cancel_unseal(&self, a: &Actor, s: Id) -> Result<(), ApiError> {
        Ok(())
    }
    pub fn seal(&self, a: &Actor, s: SealReason) -> Result<(), ApiError> {
        Ok(())
    }
    pub fn verify_share(&self, a: &Caller, s: &ShareText) -> Result<GoodShare, ApiError> {
        todo!()
    }
    pub fn start_reshare(&self, a: &Actor, w: &InitRequest) -> Result<ReshareStarted, ApiError> {
        todo!()
    }
    pub fn submit_reshare(&self, a: &Caller, s: &SubmitShare) -> Result<Submitted, ApiError> {
        todo!()
    }
    pub fn cancel_reshare(&self, a: &Actor, s: Id) -> Result<(), ApiError> {
        Ok(())
    }
    pub fn rotate_data_key(&self, a: &Actor) -> Result<DataKeyStatus, ApiError> {
        todo!()
    }
    pub fn expire_ceremonies(&self, now: Timestamp) -> Result<(), ApiError> {
        Ok(())
    }
    pub fn rotate_if_due(&self, now: Timestamp) -> Result<(), ApiError> {
        Ok(())
    }
    pub fn remember_head(&self, now: Timestamp, every: SignedDuration) -> Result<(), ApiError> {
        Ok(())
    }
}
