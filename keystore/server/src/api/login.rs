//! `/v1/login` and `/v1/password`: a new computer, and a new password.
//!
//! Wrong password, wrong code, blocked, unknown user: one answer, `login_failed`, for the same work.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use holdfast_protocol::calls::{
    Bytes64, DeviceCertificate, DeviceReady, DeviceState, FinishLogin, LoggedIn, LoginStarted,
    PasswordChange, PasswordChangeStarted, SecretHex, StartLogin, StartPasswordChange, UserState,
};
use holdfast_protocol::escrow::{PasswordRecord, SecondFactor};
use jiff::Timestamp;

use super::access::Caller;
use super::enrol::{check_device_name, device_taken};
use super::error::{ApiError, ErrorCode};
use super::json::JsonBody;
use super::refusals::Refusals;
use super::slots::{accept, on_record};
use crate::accounts::{Account, DEVICES, Device, Enrolled, device_half};
use crate::audit::Event;
use crate::authority::Request;
use crate::names::PersonName;
use crate::server::Server;
use crate::sessions::{Login, Session};
use crate::vault::Vault;

/// The first message of a login; its answer does not tell whether there is such a user.
#[utoipa::path(
    post,
    path = "/v1/login/start",
    tag = "login",
    security(()),
    request_body = StartLogin,
    responses((status = 201, description = "Begun", body = LoginStarted), Refusals)
)]
pub async fn start(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(begun): JsonBody<StartLogin>,
) -> Result<(StatusCode, Json<LoginStarted>), ApiError> {
    server.count_try(&caller, &begun.user)?;
    let started = server
        .blocking(move |server| start_now(server, &caller, &begun))
        .await?;
    Ok((StatusCode::CREATED, Json(started)))
}

/// The second message, the second factor, and the new device, which gets a certificate.
#[utoipa::path(
    post,
    path = "/v1/login/finish",
    tag = "login",
    security(()),
    request_body = FinishLogin,
    responses((status = 201, description = "Logged in", body = LoggedIn), Refusals)
)]
pub async fn finish(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(finish): JsonBody<FinishLogin>,
) -> Result<(StatusCode, Json<LoggedIn>), ApiError> {
    let logged_in = server
        .blocking(move |server| finish_now(server, &caller, &finish))
        .await?;
    Ok((StatusCode::CREATED, Json(logged_in)))
}

/// The new device has its key; it may be in another one's place.
#[utoipa::path(
    post,
    path = "/v1/device/ready",
    tag = "login",
    request_body = DeviceReady,
    responses((status = 204, description = "The device is active"), Refusals)
)]
pub async fn ready(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(ready): JsonBody<DeviceReady>,
) -> Result<StatusCode, ApiError> {
    server
        .blocking(move |server| ready_now(server, &caller, &ready))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Begins to change the password: the old one is proved.
#[utoipa::path(
    post,
    path = "/v1/password/start",
    tag = "login",
    request_body = StartPasswordChange,
    responses((status = 201, description = "Begun", body = PasswordChangeStarted), Refusals)
)]
pub async fn password_start(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(begun): JsonBody<StartPasswordChange>,
) -> Result<(StatusCode, Json<PasswordChangeStarted>), ApiError> {
    let started = server
        .blocking(move |server| password_start_now(server, &caller, &begun))
        .await?;
    Ok((StatusCode::CREATED, Json(started)))
}

/// Changes password and slot 1 together.
#[utoipa::path(
    post,
    path = "/v1/password/finish",
    tag = "login",
    request_body = PasswordChange,
    responses((status = 204, description = "The new password holds"), Refusals)
)]
pub async fn password_finish(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(change): JsonBody<PasswordChange>,
) -> Result<StatusCode, ApiError> {
    server
        .blocking(move |server| password_finish_now(server, &caller, &change))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn start_now(
    server: &Server,
    caller: &Caller,
    begun: &StartLogin,
) -> Result<LoginStarted, ApiError> {
    let mut vault = server.vault.write();
    let account = vault.account(&begun.user)?;
    let setup = vault.password_setup()?;
    drop(vault);
    let record = account
        .filter(|account| may_log_in(account.state))
        .and_then(|account| account.enrolled)
        .and_then(|enrolled| PasswordRecord::from_bytes(&enrolled.password.0).ok());
    let (state, credential) = setup.start_login(
        begun.user.as_str(),
        record,
        &begun.credential.0,
        caller.exporter.0,
    )?;
    let login = Login {
        user: begun.user.clone(),
        exporter: caller.exporter,
        state,
    };
    Ok(LoginStarted {
        session: server
            .sessions
            .begin(server.clock.now(), Session::Login(login)),
        credential: Bytes64(credential),
    })
}

/// Those who are blocked keep their devices and get no new one.
fn may_log_in(state: UserState) -> bool {
    matches!(state, UserState::Active | UserState::Deauthorised)
}

/// Password and code; takes the code, so that it counts once.
fn prove(
    server: &Server,
    caller: &Caller,
    vault: &mut Vault,
    (session, credential, code): (&SecretHex, &Bytes64, &str),
    now: Timestamp,
) -> Result<(Account, PersonName), ApiError> {
    let login = server.sessions.login(session, now)?;
    let failed = |vault: &mut Vault| -> Result<ApiError, ApiError> {
        let _ = vault;
        let event = Event::LoginFailed {
            user: login.user.clone(),
        };
        server.record_now(&caller.actor(), event)?;
        Ok(login_failed())
    };
    let same = login.exporter == caller.exporter;
    let proved = login.state.finish(&credential.0).is_ok() && same;
    let account = vault
        .account(&login.user)?
        .filter(|account| may_log_in(account.state));
    let (true, Some(mut account)) = (proved, account) else {
        return Err(failed(vault)?);
    };
    let Some(enrolled) = &mut account.enrolled else {
        return Err(failed(vault)?);
    };
    let factor = SecondFactor::from_bytes(enrolled.second_factor.expose_secret())?;
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let Some(step) = factor.check(code, seconds, Some(enrolled.last_step)) else {
        return Err(failed(vault)?);
    };
    enrolled.last_step = step;
    vault.put_account(&account)?;
    Ok((account, login.user))
}

fn finish_now(
    server: &Server,
    caller: &Caller,
    finish: &FinishLogin,
) -> Result<LoggedIn, ApiError> {
    let request = Request::parse(&finish.request)?;
    check_device_name(&finish.name)?;
    let now = server.clock.now();
    let mut vault = server.vault.write();
    let proof = (
        &finish.session,
        &finish.credential,
        finish.code.expose_secret(),
    );
    let (account, user) = prove(server, caller, &mut vault, proof, now)?;
    if vault.device(&user, &finish.device)?.is_some() {
        return Err(device_taken());
    }
    let out = |state| matches!(state, DeviceState::Deauthorised | DeviceState::Confirmed);
    let devices = vault.devices(&user, now)?;
    if devices.iter().filter(|device| !out(device.state)).count() >= DEVICES {
        return Err(ApiError::new(
            ErrorCode::Conflict,
            format!("{user} has {DEVICES} devices, which is as many as there can be"),
            "deauthorise one that is not used any more",
        ));
    }
    let issued = server.authority.issue_device(&finish.device, &request, now);
    let event = Event::LoggedIn {
        user: user.clone(),
        device: finish.device,
        digest: issued.fingerprint,
    };
    server.record_now(&caller.actor_named(&user), event)?;
    let device = Device {
        id: finish.device,
        name: finish.name.clone(),
        state: DeviceState::Provisional,
        fingerprint: issued.fingerprint,
        expires: issued.expires,
        added: now,
        half: device_half(),
    };
    vault.put_device(&user, &device)?;
    let admins = vault.policy()?;
    let archive = archive_of(&account)?.archive;
    Ok(LoggedIn {
        certificate: DeviceCertificate {
            certificate: issued.certificate_pem,
            expires: issued.expires,
        },
        archive,
        policy: account.policy,
        admins: admins.map(|policy| Bytes64(policy.as_bytes().to_vec())),
        store: server.store_description(&vault, &account)?,
    })
}

fn ready_now(server: &Server, caller: &Caller, ready: &DeviceReady) -> Result<(), ApiError> {
    let calling = caller.device();
    let mut vault = server.vault.write();
    let mut account = vault.known_account(&calling.user)?;
    if account.state == UserState::Invited {
        return Err(ApiError::new(
            ErrorCode::Conflict,
            "this device is being enrolled, not logged in",
            "go on with the enrolment",
        ));
    }
    let mut device = vault
        .device(&calling.user, &calling.id)?
        .ok_or_else(ApiError::storage)?;
    if device.state == DeviceState::Active && ready.replaces.is_none() {
        // The answer was lost, and the call is made again.
        return Ok(());
    }
    let event = Event::DeviceReady {
        user: calling.user.clone(),
        device: calling.id,
        replaces: ready.replaces,
    };
    server.record_now(&caller.actor(), event)?;
    device.state = DeviceState::Active;
    vault.put_device(&calling.user, &device)?;
    // A user whose devices were all deauthorised is at work again with this one.
    if account.state == UserState::Deauthorised {
        account.state = UserState::Active;
        vault.put_account(&account)?;
    }
    match &ready.replaces {
        Some(replaced) if *replaced != calling.id => {
            server.deauthorise(&mut vault, caller, &calling.user, replaced)
        }
        _ => Ok(()),
    }
}

fn password_start_now(
    server: &Server,
    caller: &Caller,
    begun: &StartPasswordChange,
) -> Result<PasswordChangeStarted, ApiError> {
    let calling = caller.device();
    let now = server.clock.now();
    let mut vault = server.vault.write();
    let proof = (
        &begun.session,
        &begun.credential,
        begun.code.expose_secret(),
    );
    let (_, user) = prove(server, caller, &mut vault, proof, now)?;
    if user != calling.user {
        return Err(login_failed());
    }
    let setup = vault.password_setup()?;
    drop(vault);
    let registration = setup.register(user.as_str(), &begun.registration.0)?;
    Ok(PasswordChangeStarted {
        session: server
            .sessions
            .begin(now, Session::Password(calling.clone())),
        registration: Bytes64(registration),
    })
}

fn password_finish_now(
    server: &Server,
    caller: &Caller,
    change: &PasswordChange,
) -> Result<(), ApiError> {
    let calling = caller.device();
    server
        .sessions
        .password(&change.session, server.clock.now(), calling)?;
    let password = PasswordRecord::from_bytes(&change.registration.0)?;
    let mut vault = server.vault.write();
    let mut account = vault.known_account(&calling.user)?;
    let record = accept(&vault, &account, calling, &change.record.0)?;
    server.record_now(
        &caller.actor(),
        Event::PasswordChanged {
            user: calling.user.clone(),
        },
    )?;
    on_record(server, caller, &record)?;
    archive_of_mut(&mut account)?.password = Bytes64(password.to_bytes());
    vault.put_account_and_slots(&account, &record.to_bytes())
}

fn archive_of(account: &Account) -> Result<&Enrolled, ApiError> {
    account.enrolled.as_ref().ok_or_else(ApiError::storage)
}

fn archive_of_mut(account: &mut Account) -> Result<&mut Enrolled, ApiError> {
    account.enrolled.as_mut().ok_or_else(ApiError::storage)
}

fn login_failed() -> ApiError {
    ApiError::new(
        ErrorCode::LoginFailed,
        "user name, password or code is wrong",
        "try again with the next code; an operator can tell whether you are blocked",
    )
}
