//! `/v1/users`: operators invite users, say what they may do, and see and stop their devices.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use holdfast_protocol::calls::{
    AddUser, AddedUser, DeviceList, DeviceState, EscrowPolicy, SecretHex, SecretText, SetUserState,
    User, UserList, UserState,
};
use holdfast_protocol::escrow::EnrolmentToken;
use jiff::SignedDuration;
use sha2::{Digest, Sha256};

use super::access::Caller;
use super::error::{ApiError, ErrorBody, ErrorCode};
use super::json::JsonBody;
use super::parameters::{DeviceParameter, Parameters, UserParameter};
use super::refusals::Refusals;
use crate::accounts::{Account, DEVICES, TokenDigest, USERS};
use crate::audit::Event;
use crate::names::{HexBytes, PersonName};
use crate::server::Server;
use crate::tls::pinned_fingerprint;
use crate::vault::Vault;

/// A token that was not used by then is worth nothing.
const TOKEN: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The most that a quota can be: what the description's `int64` can be.
const QUOTA: u64 = i64::MAX as u64;

/// Everybody.
#[utoipa::path(
    get,
    path = "/v1/users",
    tag = "users",
    responses((status = 200, description = "By name", body = UserList), Refusals)
)]
pub async fn list(State(server): State<Arc<Server>>) -> Result<Json<UserList>, ApiError> {
    let list = |server: &Server| {
        let vault = server.vault.read();
        let users = vault.users()?;
        let shown = users.iter().map(|name| {
            let account = vault.known_account(name)?;
            shown(server, &vault, &account)
        });
        shown.collect::<Result<Vec<_>, ApiError>>()
    };
    let users = server.blocking(list).await?;
    Ok(Json(UserList { users }))
}

/// Invites a user, or makes a new token for one who is invited already.
#[utoipa::path(
    post,
    path = "/v1/users",
    tag = "users",
    request_body = AddUser,
    responses((status = 201, description = "Invited; the token is shown this once", body = AddedUser), Refusals)
)]
pub async fn add(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(wanted): JsonBody<AddUser>,
) -> Result<(StatusCode, Json<AddedUser>), ApiError> {
    let added = server
        .blocking(move |server| add_now(server, &caller, wanted))
        .await?;
    Ok((StatusCode::CREATED, Json(added)))
}

/// Blocks a user, deauthorises all devices, deactivates, or undoes it.
#[utoipa::path(
    put,
    path = "/v1/users/{name}/state",
    tag = "users",
    params(UserParameter),
    request_body = SetUserState,
    responses(
        (status = 200, description = "As it is now", body = User),
        (status = 404, description = "There is no such user", body = ErrorBody),
        Refusals,
    )
)]
pub async fn set_state(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    Parameters(which): Parameters<UserParameter>,
    JsonBody(wanted): JsonBody<SetUserState>,
) -> Result<Json<User>, ApiError> {
    let set = move |server: &Server| set_state_now(server, &caller, &which.name, wanted.state);
    Ok(Json(server.blocking(set).await?))
}

/// A user's devices.
#[utoipa::path(
    get,
    path = "/v1/users/{name}/devices",
    tag = "users",
    params(UserParameter),
    responses(
        (status = 200, description = "By name", body = DeviceList),
        (status = 404, description = "There is no such user", body = ErrorBody),
        Refusals,
    )
)]
pub async fn devices(
    State(server): State<Arc<Server>>,
    Parameters(which): Parameters<UserParameter>,
) -> Result<Json<DeviceList>, ApiError> {
    let list = move |server: &Server| {
        let vault = server.vault.read();
        vault.known_account(&which.name)?;
        server.device_list(&vault, &which.name)
    };
    Ok(Json(server.blocking(list).await?))
}

/// Deauthorises one device.
#[utoipa::path(
    post,
    path = "/v1/users/{name}/devices/{device}/deauthorise",
    tag = "users",
    params(DeviceParameter),
    responses(
        (status = 204, description = "It may do nothing any more"),
        (status = 404, description = "There is no such user or device", body = ErrorBody),
        Refusals,
    )
)]
pub async fn deauthorise(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    Parameters(which): Parameters<DeviceParameter>,
) -> Result<StatusCode, ApiError> {
    let act = move |server: &Server| {
        let mut vault = server.vault.write();
        vault.known_account(&which.name)?;
        server.deauthorise(&mut vault, &caller, &which.name, &which.device)
    };
    server.blocking(act).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn add_now(server: &Server, caller: &Caller, wanted: AddUser) -> Result<AddedUser, ApiError> {
    if wanted.quota_bytes.is_some_and(|quota| quota > QUOTA) {
        return Err(ApiError::unfit(
            "the quota is more than any store has",
            "leave it out for no limit",
        ));
    }
    let mut vault = server.vault.write();
    let there = vault.account(&wanted.name)?;
    if there
        .as_ref()
        .is_some_and(|user| user.state != UserState::Invited)
    {
        return Err(ApiError::new(
            ErrorCode::Conflict,
            format!("{} is enrolled already", wanted.name),
            "the user logs in on the new computer, or choose another name",
        ));
    }
    if there.is_none() && vault.users()?.len() >= USERS {
        return Err(ApiError::new(
            ErrorCode::Conflict,
            format!("there are {USERS} users, which is as many as there can be"),
            "run a second keystore",
        ));
    }
    let secret: [u8; 32] = rand::random();
    let account = Account {
        name: wanted.name.clone(),
        state: UserState::Invited,
        policy: wanted.policy,
        quota_bytes: wanted.quota_bytes,
        token: Some(TokenDigest {
            digest: HexBytes(Sha256::digest(secret).into()),
            expires: server.clock.now() + TOKEN,
        }),
        // What a try before this one has left is replaced by the next.
        enrolled: there.and_then(|user| user.enrolled),
        undo_until: None,
    };
    let policy_root = vault.policy()?.map(|policy| policy.root().fingerprint());
    let token = EnrolmentToken {
        secret: SecretHex::copy_of(&secret),
        authority: pinned_fingerprint(&server.tls_files).map_err(|error| {
            tracing::error!(%error, "the server's certificate");
            ApiError::storage()
        })?,
        policy_root,
        user: wanted.name,
        address: server.public_address(),
    };
    let event = Event::UserInvited {
        user: account.name.clone(),
    };
    server.record_now(&caller.actor(), event)?;
    vault.put_account(&account)?;
    Ok(AddedUser {
        user: shown(server, &vault, &account)?,
        token: SecretText::new(token.to_printed()),
    })
}

fn set_state_now(
    server: &Server,
    caller: &Caller,
    name: &PersonName,
    state: UserState,
) -> Result<User, ApiError> {
    let mut vault = server.vault.write();
    let mut account = vault.known_account(name)?;
    let now = server.clock.now();
    let undone = account.undo_until.is_none_or(|until| now <= until);
    let possible = match (account.state, state) {
        (UserState::Invited, _) | (_, UserState::Invited) => false,
        (UserState::Deactivated, _) => undone,
        _ => true,
    };
    if !possible {
        return Err(ApiError::new(
            ErrorCode::Conflict,
            format!("{name} cannot be made that"),
            "see what the user is now: holdfast-keystore user list",
        ));
    }
    let event = Event::UserStateChanged {
        user: name.clone(),
        state,
    };
    server.record_now(&caller.actor(), event)?;
    account.undo_until = (state == UserState::Deactivated)
        .then(|| now + SignedDuration::from_hours(24 * i64::from(server.config.users.undo_days)));
    account.state = state;
    // The user first: if we die after it, nobody logs in, and the operator, who got no answer, says it again.
    vault.put_account(&account)?;
    if matches!(state, UserState::Deauthorised | UserState::Deactivated) {
        for device in vault.devices(name, now)? {
            server.deauthorise(&mut vault, caller, name, &device.id)?;
        }
    }
    shown(server, &vault, &account)
}

fn shown(server: &Server, vault: &Vault, account: &Account) -> Result<User, ApiError> {
    let devices = vault.devices(&account.name, server.clock.now())?;
    let active = devices
        .iter()
        .filter(|device| device.state == DeviceState::Active);
    Ok(User {
        name: account.name.clone(),
        state: account.state,
        policy: account.policy,
        archive: account.enrolled.as_ref().map(|enrolled| enrolled.archive),
        quota_bytes: account.quota_bytes,
        used_bytes: server.used_bytes(vault, account)?,
        devices: u32::try_from(active.count()).unwrap_or(DEVICES as u32),
    })
}

/// Whether a user of this policy can enrol as things are.
pub(super) fn check_policy(policy: EscrowPolicy, admins: bool) -> Result<(), ApiError> {
    if policy == EscrowPolicy::Standard && !admins {
        return Err(ApiError::new(
            ErrorCode::Conflict,
            "there is no policy of recovery admins yet, and this user's escrow policy is standard",
            "an operator publishes one (holdfast-keystore policy publish), or invites the user with --policy private",
        ));
    }
    Ok(())
}
