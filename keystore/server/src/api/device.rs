//! `/v1/device` and `/v1/devices`: what a device may ask for itself, and a user's own devices.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use holdfast_protocol::calls::{
    CertificateRequest, DeviceCertificate, DeviceHalf, DeviceList, DeviceState, DeviceWatch,
    StoreDescription, Watched,
};

use super::access::Caller;
use super::error::{ApiError, ErrorBody, ErrorCode};
use super::json::JsonBody;
use super::parameters::{OwnDeviceParameter, Parameters};
use super::refusals::Refusals;
use crate::accounts::DeviceId;
use crate::audit::Event;
use crate::authority::Request;
use crate::names::PersonName;
use crate::server::Server;
use crate::vault::Vault;

/// So long a watch waits for a change.
const WATCH: Duration = Duration::from_secs(25);

/// The server half of the device's key file.
#[utoipa::path(
    get,
    path = "/v1/device/half",
    tag = "devices",
    responses((status = 200, description = "The half", body = DeviceHalf), Refusals)
)]
pub async fn half(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<DeviceHalf>, ApiError> {
    let read = move |server: &Server| {
        let device = caller.device();
        let read = server.vault.read().device(&device.user, &device.id)?;
        Ok::<_, ApiError>(DeviceHalf {
            half: read.ok_or_else(ApiError::storage)?.half,
        })
    };
    Ok(Json(server.blocking(read).await?))
}

/// A new certificate, when a third of the old one's time is over.
#[utoipa::path(
    post,
    path = "/v1/device/certificate",
    tag = "devices",
    request_body = CertificateRequest,
    responses((status = 201, description = "Issued", body = DeviceCertificate), Refusals)
)]
pub async fn certificate(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(wanted): JsonBody<CertificateRequest>,
) -> Result<(StatusCode, Json<DeviceCertificate>), ApiError> {
    let renew = move |server: &Server| {
        let calling = caller.device();
        let request = Request::parse(&wanted.request)?;
        let issued = server
            .authority
            .issue_device(&calling.id, &request, server.clock.now());
        let event = Event::CertificateRenewed {
            user: calling.user.clone(),
            device: calling.id,
            digest: issued.fingerprint,
        };
        let mut vault = server.vault.write();
        let mut device = vault
            .device(&calling.user, &calling.id)?
            .ok_or_else(ApiError::storage)?;
        // It may have been deauthorised since the gate looked.
        if device.state != DeviceState::Active {
            return Err(deauthorised());
        }
        server.record_now(&caller.actor(), event)?;
        device.fingerprint = issued.fingerprint;
        device.expires = issued.expires;
        // The old certificate stays good until its end: the answer can get lost.
        vault.put_device(&calling.user, &device)?;
        Ok(DeviceCertificate {
            certificate: issued.certificate_pem,
            expires: issued.expires,
        })
    };
    Ok((StatusCode::CREATED, Json(server.blocking(renew).await?)))
}

/// Answers when the device's state is another one than the caller knows of, or after some seconds.
#[utoipa::path(
    get,
    path = "/v1/device/watch",
    tag = "devices",
    params(("seen" = DeviceState, Query, description = "The state that the caller knows of")),
    responses((status = 200, description = "The state now", body = Watched), Refusals)
)]
pub async fn watch(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<DeviceWatch>, QueryRejection>,
) -> Result<Json<Watched>, ApiError> {
    let Query(watch) =
        query.map_err(|_| ApiError::bad_request("write which state was seen: ?seen=active"))?;
    let device = caller.device().clone();
    let mut changes = server.device_changes.subscribe();
    let until = tokio::time::Instant::now() + WATCH;
    loop {
        changes.borrow_and_update();
        let (user, id) = (device.user.clone(), device.id);
        let look = move |server: &Server| state_of(&server.vault.read(), &user, &id);
        let state = server.blocking(look).await?;
        if state != watch.seen
            || tokio::time::timeout_at(until, changes.changed())
                .await
                .is_err()
        {
            return Ok(Json(Watched { state }));
        }
    }
}

/// A deauthorised device says that its key is gone.
#[utoipa::path(
    post,
    path = "/v1/device/confirm",
    tag = "devices",
    responses((status = 204, description = "On record"), Refusals)
)]
pub async fn confirm(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
) -> Result<StatusCode, ApiError> {
    let confirm = move |server: &Server| {
        let calling = caller.device();
        let mut vault = server.vault.write();
        let mut device = vault
            .device(&calling.user, &calling.id)?
            .ok_or_else(ApiError::storage)?;
        if device.state == DeviceState::Confirmed {
            return Ok(());
        }
        let event = Event::DeviceConfirmed {
            user: calling.user.clone(),
            device: calling.id,
        };
        server.record_now(&caller.actor(), event)?;
        device.state = DeviceState::Confirmed;
        vault.put_device(&calling.user, &device)
    };
    server.blocking(confirm).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The caller's devices.
#[utoipa::path(
    get,
    path = "/v1/devices",
    tag = "devices",
    responses((status = 200, description = "By name", body = DeviceList), Refusals)
)]
pub async fn list(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<DeviceList>, ApiError> {
    let list =
        move |server: &Server| server.device_list(&server.vault.read(), &caller.device().user);
    Ok(Json(server.blocking(list).await?))
}

/// Deauthorises one of the caller's own devices; also itself.
#[utoipa::path(
    post,
    path = "/v1/devices/{device}/deauthorise",
    tag = "devices",
    params(OwnDeviceParameter),
    responses(
        (status = 204, description = "It may do nothing any more"),
        (status = 404, description = "There is no such device", body = ErrorBody),
        Refusals,
    )
)]
pub async fn deauthorise(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    Parameters(which): Parameters<OwnDeviceParameter>,
) -> Result<StatusCode, ApiError> {
    let act = move |server: &Server| {
        let user = &caller.device().user;
        server.deauthorise(&mut server.vault.write(), &caller, user, &which.device)
    };
    server.blocking(act).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where objects are.
#[utoipa::path(
    get,
    path = "/v1/store",
    tag = "grants",
    responses((status = 200, description = "The store behind the grants", body = StoreDescription), Refusals)
)]
pub async fn store(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<StoreDescription>, ApiError> {
    let describe = move |server: &Server| {
        let vault = server.vault.read();
        let account = vault.known_account(&caller.device().user)?;
        server.store_description(&vault, &account)
    };
    Ok(Json(server.blocking(describe).await?))
}

impl Server {
    /// A user's devices, as everybody sees them who may.
    pub(super) fn device_list(
        &self,
        vault: &Vault,
        user: &PersonName,
    ) -> Result<DeviceList, ApiError> {
        let devices = vault.devices(user, self.clock.now())?;
        let devices = devices
            .iter()
            .map(crate::accounts::Device::record)
            .collect();
        Ok(DeviceList { devices })
    }

    /// From now on the device may do nothing but say that its key is gone. Whoever waits for its state is woken.
    pub(super) fn deauthorise(
        &self,
        vault: &mut Vault,
        caller: &Caller,
        user: &PersonName,
        id: &DeviceId,
    ) -> Result<(), ApiError> {
        let Some(mut device) = vault.device(user, id)? else {
            return Err(ApiError::new(
                ErrorCode::NotFound,
                format!("{user} has no device {id}"),
                "list the devices",
            ));
        };
        if matches!(
            device.state,
            DeviceState::Deauthorised | DeviceState::Confirmed
        ) {
            return Ok(());
        }
        let event = Event::DeviceDeauthorised {
            user: user.clone(),
            device: *id,
        };
        self.record_now(&caller.actor(), event)?;
        device.state = DeviceState::Deauthorised;
        vault.put_device(user, &device)?;
        self.device_changes.send_modify(|changes| *changes += 1);
        Ok(())
    }
}

fn state_of(vault: &Vault, user: &PersonName, id: &DeviceId) -> Result<DeviceState, ApiError> {
    // A device that was forgotten is out for good.
    let device = vault.device(user, id)?;
    Ok(device.map_or(DeviceState::Deauthorised, |device| device.state))
}

pub(super) fn deauthorised() -> ApiError {
    ApiError::new(
        ErrorCode::Deauthorised,
        "this device was deauthorised",
        "its key is taken away; log in again if that was a mistake",
    )
}
