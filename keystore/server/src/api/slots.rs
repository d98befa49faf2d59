//! `/v1/slots`: the escrowed record, compared and kept, never opened.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use holdfast_protocol::calls::{Bytes64, DeviceState, EscrowPolicy, PutSlots, Slots, UserState};
use holdfast_protocol::escrow::{SlotsError, SlotsRecord};

use super::access::Caller;
use super::enrol::step;
use super::error::{ApiError, ErrorBody, ErrorCode};
use super::json::JsonBody;
use super::refusals::Refusals;
use crate::accounts::{Account, CallingDevice};
use crate::audit::Event;
use crate::names::HexBytes;
use crate::server::Server;
use crate::vault::Vault;

/// The newest record: the release of a key, on record.
#[utoipa::path(
    get,
    path = "/v1/slots",
    tag = "escrow",
    responses(
        (status = 200, description = "The newest record", body = Slots),
        (status = 404, description = "None yet", body = ErrorBody),
        Refusals,
    )
)]
pub async fn get(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Slots>, ApiError> {
    let get = move |server: &Server| get_now(server, &caller);
    Ok(Json(server.blocking(get).await?))
}

/// Stores a record that is one version newer than the newest.
#[utoipa::path(
    put,
    path = "/v1/slots",
    tag = "escrow",
    request_body = PutSlots,
    responses((status = 204, description = "Stored"), Refusals)
)]
pub async fn put(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(wanted): JsonBody<PutSlots>,
) -> Result<StatusCode, ApiError> {
    let put = move |server: &Server| {
        let mut vault = server.vault.write();
        let account = vault.known_account(&caller.device().user)?;
        let record = accept(&vault, &account, caller.device(), &wanted.record.0)?;
        store(server, &mut vault, &caller, &record)
    };
    server.blocking(put).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn get_now(server: &Server, caller: &Caller) -> Result<Slots, ApiError> {
    let device = caller.device();
    let record = server.vault.read().slots(&device.user)?;
    let none = || {
        ApiError::new(
            ErrorCode::NotFound,
            "nothing is escrowed yet",
            "enrol first",
        )
    };
    let bytes = record.ok_or_else(none)?;
    let version = SlotsRecord::parse(&bytes)?.version;
    let event = Event::KeyReleased {
        user: device.user.clone(),
        device: device.id,
        version,
    };
    server.record_now(&caller.actor(), event)?;
    Ok(Slots {
        version,
        record: Bytes64(bytes.to_vec()),
    })
}

/// A record that may take the newest one's place. Until the user is enrolled there is only a first version.
pub(super) fn accept(
    vault: &Vault,
    account: &Account,
    device: &CallingDevice,
    bytes: &[u8],
) -> Result<SlotsRecord, ApiError> {
    let record = SlotsRecord::parse(bytes)?;
    record.expect(&device.user, &device.archive, 0)?;
    let there = vault.slots(&device.user)?;
    let newest = match there {
        Some(there) if account.state != UserState::Invited => SlotsRecord::parse(&there)?.version,
        _ => 0,
    };
    if record.version != newest + 1 {
        return Err(ApiError::new(
            ErrorCode::Conflict,
            format!("the newest record has version {newest}"),
            "read it, and make the change again on it",
        ));
    }
    let lowered = match (account.policy, record.policy()) {
        (wanted, made) if wanted == made => false,
        // Upgrades only: never down without the user, and a user's devices do not do it in passing.
        (EscrowPolicy::Custom, _) | (EscrowPolicy::Private, EscrowPolicy::Standard) => false,
        _ => true,
    };
    if lowered {
        return Err(ApiError::unfit(
            "the record has fewer slots than the user's escrow policy asks for",
            "make all slots of the policy that the keystore tells",
        ));
    }
    Ok(record)
}

/// Puts it on record, then stores it.
fn store(
    server: &Server,
    vault: &mut Vault,
    caller: &Caller,
    record: &SlotsRecord,
) -> Result<(), ApiError> {
    on_record(server, caller, record)?;
    vault.put_slots(&caller.device().user, &record.to_bytes())
}

/// Says that this record is about to be the newest.
pub(super) fn on_record(
    server: &Server,
    caller: &Caller,
    record: &SlotsRecord,
) -> Result<(), ApiError> {
    let device = caller.device();
    let digest = HexBytes(record.digest().0);
    if device.state == DeviceState::Provisional {
        return step(server, &caller.actor(), device, 7, Some(digest));
    }
    let event = Event::SlotsChanged {
        user: device.user.clone(),
        device: device.id,
        version: record.version,
        digest,
    };
    server.record_now(&caller.actor(), event)?;
    Ok(())
}

impl From<SlotsError> for ApiError {
    fn from(error: SlotsError) -> Self {
        tracing::debug!(%error, "a record of slots");
        ApiError::unfit(
            "this is no record of the caller's slots",
            "send what the device has signed for this user and archive",
        )
    }
}

impl From<holdfast_protocol::escrow::CryptoError> for ApiError {
    fn from(_: holdfast_protocol::escrow::CryptoError) -> Self {
        ApiError::unfit(
            "a message of the password protocol is none",
            "use this version's holdfast command",
        )
    }
}
