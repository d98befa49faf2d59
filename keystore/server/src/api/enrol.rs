//! `/v1/enrol`: the nine steps, as `docs/protocol/enrol.md` has them.
//!
//! Until the device is authorised (step 8) the user stays `invited`, the token works, and the next try replaces what this one has stored. If we die
//! between the writes of one step, the caller has no answer and begins again with the token, or repeats the step.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use holdfast_protocol::calls::{
    Account as AccountAnswer, AccountRequest, Authorise, BeginEnrolment, Bytes64,
    DeviceCertificate, DeviceState, EnrolmentBegun, EnrolmentPassword, EnrolmentRequest,
    SecretText, UserState,
};
use holdfast_protocol::escrow::{PasswordRecord, SecondFactor, SlotsRecord};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::access::Caller;
use super::error::{ApiError, ErrorCode};
use super::json::JsonBody;
use super::refusals::Refusals;
use super::users::check_policy;
use crate::accounts::{
    Account, CallingDevice, Device, Enrolled, SecretBytes64, device_half, recovery_half,
};
use crate::audit::{Actor, Event};
use crate::authority::Request;
use crate::names::HexBytes;
use crate::server::Server;
use crate::sessions::{Enrolment, Session};
use crate::vault::Vault;

/// Step 1: the token, and the first message of the password's registration.
#[utoipa::path(
    post,
    path = "/v1/enrol/begin",
    tag = "enrolment",
    security(()),
    request_body = BeginEnrolment,
    responses((status = 201, description = "Begun", body = EnrolmentBegun), Refusals)
)]
pub async fn begin(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(begun): JsonBody<BeginEnrolment>,
) -> Result<(StatusCode, Json<EnrolmentBegun>), ApiError> {
    server.count_try(&caller, &begun.user)?;
    let begun = server
        .blocking(move |server| begin_now(server, &caller, &begun))
        .await?;
    Ok((StatusCode::CREATED, Json(begun)))
}

/// Step 1, second part: the password's registration, and a code of the second factor.
#[utoipa::path(
    post,
    path = "/v1/enrol/password",
    tag = "enrolment",
    security(()),
    request_body = EnrolmentPassword,
    responses((status = 204, description = "Registered"), Refusals)
)]
pub async fn password(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(password): JsonBody<EnrolmentPassword>,
) -> Result<StatusCode, ApiError> {
    server
        .blocking(move |server| password_now(server, &caller, &password))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Steps 2 to 5: the user key is made, the authority is asked, and issues the device's certificate.
#[utoipa::path(
    post,
    path = "/v1/enrol/certificate",
    tag = "enrolment",
    security(()),
    request_body = EnrolmentRequest,
    responses((status = 201, description = "Issued", body = DeviceCertificate), Refusals)
)]
pub async fn certificate(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(request): JsonBody<EnrolmentRequest>,
) -> Result<(StatusCode, Json<DeviceCertificate>), ApiError> {
    let issued = server
        .blocking(move |server| certificate_now(server, &caller, &request))
        .await?;
    Ok((StatusCode::CREATED, Json(issued)))
}

/// Step 6: the account. From here on over the device's certificate.
#[utoipa::path(
    post,
    path = "/v1/enrol/account",
    tag = "enrolment",
    request_body = AccountRequest,
    responses((status = 200, description = "The account", body = AccountAnswer), Refusals)
)]
pub async fn account(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(AccountRequest {}): JsonBody<AccountRequest>,
) -> Result<Json<AccountAnswer>, ApiError> {
    let account = server
        .blocking(move |server| account_now(server, &caller))
        .await?;
    Ok(Json(account))
}

/// Step 8: what was escrowed was read back and opened; the device is let in.
#[utoipa::path(
    post,
    path = "/v1/enrol/authorise",
    tag = "enrolment",
    request_body = Authorise,
    responses((status = 204, description = "The device is active"), Refusals)
)]
pub async fn authorise(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(authorise): JsonBody<Authorise>,
) -> Result<StatusCode, ApiError> {
    server
        .blocking(move |server| authorise_now(server, &caller, &authorise))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Step 9, as the device reports it: its key file is written.
#[utoipa::path(
    post,
    path = "/v1/enrol/stored",
    tag = "enrolment",
    request_body = AccountRequest,
    responses((status = 204, description = "On record"), Refusals)
)]
pub async fn stored(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(AccountRequest {}): JsonBody<AccountRequest>,
) -> Result<StatusCode, ApiError> {
    let record = move |server: &Server| step(server, &caller.actor(), caller.device(), 9, None);
    server.blocking(record).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn begin_now(
    server: &Server,
    caller: &Caller,
    begun: &BeginEnrolment,
) -> Result<EnrolmentBegun, ApiError> {
    let mut vault = server.vault.write();
    let now = server.clock.now();
    let account = vault.account(&begun.user)?;
    let digest: [u8; 32] = Sha256::digest(begun.secret.expose_secret()).into();
    let token = account
        .as_ref()
        .and_then(|account| account.token)
        .filter(|token| {
            let right: bool = token.digest.0.ct_eq(&digest).into();
            right && now <= token.expires
        });
    let (Some(account), Some(token)) = (account, token) else {
        drop(vault);
        let event = Event::LoginFailed {
            user: begun.user.clone(),
        };
        server.record_now(&caller.actor(), event)?;
        return Err(bad_token());
    };
    let admins = vault.policy()?;
    check_policy(account.policy, admins.is_some())?;
    let setup = vault.password_setup()?;
    drop(vault);
    let registration = setup.register(begun.user.as_str(), &begun.registration.0)?;
    let second_factor = SecondFactor::generate();
    let address = second_factor.to_address(begun.user.as_str());
    let session = server.sessions.begin(
        now,
        Session::Enrolment(Enrolment {
            user: account.name,
            token,
            second_factor,
            registered: None,
        }),
    );
    Ok(EnrolmentBegun {
        session,
        registration: Bytes64(registration),
        second_factor: SecretText::new(address),
        policy: account.policy,
        admins: admins.map(|policy| Bytes64(policy.as_bytes().to_vec())),
    })
}

fn password_now(
    server: &Server,
    caller: &Caller,
    password: &EnrolmentPassword,
) -> Result<(), ApiError> {
    let now = server.clock.now();
    let mut enrolment = server.sessions.enrolment(&password.session, now)?;
    let record = PasswordRecord::from_bytes(&password.registration.0)?;
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let last = enrolment.registered.as_ref().map(|(_, step)| *step);
    let Some(step) = enrolment
        .second_factor
        .check(password.code.expose_secret(), seconds, last)
    else {
        server.count_try(caller, &enrolment.user)?;
        // Another code may be tried in the same session.
        server.sessions.put_back(&password.session, now, enrolment);
        return Err(ApiError::new(
            ErrorCode::SecondFactor,
            "this is not the code that is shown now",
            "check the clock of the device with the app, and type the next code",
        ));
    };
    record_step(server, caller, &enrolment, 1)?;
    enrolment.registered = Some((record.to_bytes(), step));
    server.sessions.put_back(&password.session, now, enrolment);
    Ok(())
}

fn certificate_now(
    server: &Server,
    caller: &Caller,
    wanted: &EnrolmentRequest,
) -> Result<DeviceCertificate, ApiError> {
    let request = Request::parse(&wanted.request)?;
    check_device_name(&wanted.name)?;
    let now = server.clock.now();
    let enrolment = server.sessions.enrolment(&wanted.session, now)?;
    let Some((password, last_step)) = enrolment.registered.clone() else {
        return Err(ApiError::new(
            ErrorCode::SessionOver,
            "the password was not registered in this session",
            "begin again with the same token",
        ));
    };
    let mut vault = server.vault.write();
    let mut account = vault.known_account(&enrolment.user)?;
    if account.token != Some(enrolment.token) || account.state != UserState::Invited {
        return Err(bad_token());
    }
    for number in 2..=4 {
        record_step(server, caller, &enrolment, number)?;
    }
    if vault
        .device(&account.name, &wanted.device)?
        .is_some_and(|there| there.state != DeviceState::Provisional)
    {
        return Err(device_taken());
    }
    let issued = server.authority.issue_device(&wanted.device, &request, now);
    let archive = account.enrolled.as_ref().map(|enrolled| enrolled.archive);
    account.enrolled = Some(Enrolled {
        archive: archive.unwrap_or_else(|| HexBytes(rand::random())),
        password: Bytes64(password),
        second_factor: SecretBytes64::copy_of(enrolment.second_factor.expose_secret()),
        last_step,
        recovery_half: recovery_half(),
    });
    let device = Device {
        id: wanted.device,
        name: wanted.name.clone(),
        state: DeviceState::Provisional,
        fingerprint: issued.fingerprint,
        expires: issued.expires,
        added: now,
        half: device_half(),
    };
    let event = Event::EnrolmentStep {
        step: 5,
        user: account.name.clone(),
        device: Some(device.id),
        digest: Some(issued.fingerprint),
    };
    server.record_now(&caller.actor_named(&account.name), event)?;
    vault.put_account(&account)?;
    vault.put_device(&account.name, &device)?;
    Ok(DeviceCertificate {
        certificate: issued.certificate_pem,
        expires: issued.expires,
    })
}

fn account_now(server: &Server, caller: &Caller) -> Result<AccountAnswer, ApiError> {
    let device = caller.device();
    let vault = server.vault.read();
    let (account, enrolled) = invited(&vault, device)?;
    let half = vault
        .device(&device.user, &device.id)?
        .ok_or_else(ApiError::storage)?
        .half;
    let store = server.store_description(&vault, &account)?;
    drop(vault);
    step(server, &caller.actor(), device, 6, None)?;
    Ok(AccountAnswer {
        archive: enrolled.archive,
        recovery_half: enrolled.recovery_half,
        device_half: half,
        store,
    })
}

fn authorise_now(server: &Server, caller: &Caller, authorise: &Authorise) -> Result<(), ApiError> {
    let device = caller.device();
    let mut vault = server.vault.write();
    if device.state == DeviceState::Active {
        // The answer was lost, and the call is made again.
        return Ok(());
    }
    let (mut account, enrolled) = invited(&vault, device)?;
    let record = vault.slots(&device.user)?;
    let record = record.and_then(|bytes| SlotsRecord::parse(&bytes).ok());
    if record.is_none_or(|record| record.digest().0 != authorise.record.0) {
        return Err(ApiError::new(
            ErrorCode::Conflict,
            "this is not the record that was escrowed",
            "send the record again, read it back, and try again",
        ));
    }
    step(server, &caller.actor(), device, 8, Some(authorise.record))?;
    let mut active = vault
        .device(&device.user, &device.id)?
        .ok_or_else(ApiError::storage)?;
    active.state = DeviceState::Active;
    vault.put_device(&device.user, &active)?;
    for other in vault.devices(&device.user, server.clock.now())? {
        if other.state == DeviceState::Provisional {
            vault.forget_device(&device.user, &other)?;
        }
    }
    account.enrolled = Some(enrolled);
    account.token = None;
    account.state = UserState::Active;
    vault.put_account(&account)
}

/// The account of a device that is being enrolled.
fn invited(vault: &Vault, device: &CallingDevice) -> Result<(Account, Enrolled), ApiError> {
    let (account, enrolled) = vault.enrolled_account(&device.user)?;
    if account.state == UserState::Invited {
        return Ok((account, enrolled));
    }
    Err(ApiError::new(
        ErrorCode::Conflict,
        format!("{} is enrolled already", device.user),
        "log in on this computer: holdfast login",
    ))
}

/// Before there is a device.
fn record_step(
    server: &Server,
    caller: &Caller,
    enrolment: &Enrolment,
    step: u8,
) -> Result<(), ApiError> {
    let event = Event::EnrolmentStep {
        step,
        user: enrolment.user.clone(),
        device: None,
        digest: None,
    };
    server
        .record_now(&caller.actor_named(&enrolment.user), event)
        .map(drop)
}

/// Puts a step of a device on record.
pub(super) fn step(
    server: &Server,
    actor: &Actor,
    device: &CallingDevice,
    step: u8,
    digest: Option<HexBytes<32>>,
) -> Result<(), ApiError> {
    let event = Event::EnrolmentStep {
        step,
        user: device.user.clone(),
        device: Some(device.id),
        digest,
    };
    server.record_now(actor, event).map(drop)
}

/// A file's name of 1 to 64 bytes: it becomes a folder below `snapshots/`.
pub(super) fn check_device_name(name: &str) -> Result<(), ApiError> {
    let plain = |c: char| !c.is_control() && c != '/';
    if (1..=64).contains(&name.len())
        && name.chars().all(plain)
        && name != "."
        && name != ".."
        && name != "latest"
    {
        return Ok(());
    }
    Err(ApiError::unfit(
        "a device's name has 1 to 64 bytes, no slash and no control characters, and is not \"latest\"",
        "choose another name with --device",
    ))
}

pub(super) fn device_taken() -> ApiError {
    ApiError::new(
        ErrorCode::Conflict,
        "there is a device with this id already",
        "begin again; the computer makes a new id",
    )
}

fn bad_token() -> ApiError {
    ApiError::new(
        ErrorCode::LoginFailed,
        "the token is not good: used already, too old, or replaced by a newer one",
        "ask an operator for a new one",
    )
}
