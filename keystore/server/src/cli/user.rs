//! `user`: whom the keystore serves, and what stops somebody's devices.
//!
//! An invitation is a token, shown once. Its file is made before the keystore is asked; if we die in between, an empty file is
//! left, and whoever is invited already is invited again: the token before is worth nothing then.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::Subcommand;
use holdfast_protocol::calls::{
    AddUser, AddedUser, DeviceList, DeviceRecord, DeviceState, EscrowPolicy, SetUserState,
    User as KnownUser, UserList, UserState,
};
use holdfast_protocol::escrow::EnrolmentToken;
use reqwest::Method;
use serde_json::json;

use super::answer::Answer;
use super::connection::Connection;
use super::new_file::{NewFile, Readers};
use super::size::Size;
use crate::accounts::DeviceId;
use crate::api::unseal::Nothing;
use crate::names::PersonName;

/// What can be said of users.
#[derive(Subcommand)]
pub enum User {
    /// Invite somebody; for who is invited already, a new token that replaces the one before
    Add {
        /// Name: small letters, digits, dots and dashes
        name: PersonName,
        /// Who but the user can open the files: standard (recovery admins, several together), private (nobody), custom (the
        /// keystore keeps no key at all)
        #[arg(
            long,
            default_value = "standard",
            value_name = "standard|private|custom"
        )]
        policy: PolicyArgument,
        /// The most that may be stored, such as 500GiB or 10TB; no limit by default
        #[arg(long, value_name = "SIZE")]
        quota: Option<Size>,
        /// Write the token into this new file instead of printing it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Tell who is a user
    List,
    /// Tell which devices a user has, and which have not confirmed that their key is gone
    Devices {
        /// Whose
        name: PersonName,
    },
    /// No login and no new device; devices go on saving
    Block {
        /// Whom
        name: PersonName,
    },
    /// Undo block, deauthorise or deactivate
    Activate {
        /// Whom
        name: PersonName,
    },
    /// Stop all devices of a user, or one; nothing stored is lost, and the user can log in again
    Deauthorise {
        /// Whose
        name: PersonName,
        /// Only this one; `user devices NAME` has the ids
        #[arg(long, value_name = "ID")]
        device: Option<DeviceId>,
    },
    /// Stop all devices and every login of somebody who has left
    Deactivate {
        /// Whom
        name: PersonName,
    },
}

/// An escrow policy as it is typed.
#[derive(Clone, Copy)]
pub struct PolicyArgument(EscrowPolicy);

impl FromStr for PolicyArgument {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "standard" => Ok(PolicyArgument(EscrowPolicy::Standard)),
            "private" => Ok(PolicyArgument(EscrowPolicy::Private)),
            "custom" => Ok(PolicyArgument(EscrowPolicy::Custom)),
            _ => Err("an escrow policy is standard, private or custom"),
        }
    }
}

impl User {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<Answer> {
        match self {
            User::Add {
                name,
                policy: PolicyArgument(policy),
                quota,
                out,
            } => {
                let wanted = AddUser {
                    name,
                    policy,
                    quota_bytes: quota.map(|size| size.0),
                };
                add(wanted, out, connection).await
            }
            User::List => list(connection).await,
            User::Devices { name } => devices(&name, connection).await,
            User::Block { name } => set(&name, UserState::Blocked, connection).await,
            User::Activate { name } => set(&name, UserState::Active, connection).await,
            User::Deauthorise { name, device: None } => {
                set(&name, UserState::Deauthorised, connection).await
            }
            User::Deauthorise {
                name,
                device: Some(device),
            } => deauthorise(&name, device, connection).await,
            User::Deactivate { name } => set(&name, UserState::Deactivated, connection).await,
        }
    }
}

async fn add(
    wanted: AddUser,
    out: Option<PathBuf>,
    connection: &Connection,
) -> anyhow::Result<Answer> {
    if wanted.quota_bytes == Some(0) {
        bail!("with a quota of 0 nothing can be stored; leave --quota out for no limit");
    }
    let session = connection.open()?;
    let not_made = "and nobody was invited; name another file with --out";
    let mut file = match out {
        Some(path) => Some(NewFile::make(path, Readers::Owner, not_made)?),
        None => None,
    };
    let added: AddedUser = session.client.post("/v1/users", &wanted).await?;
    let token: EnrolmentToken =
        added.token.expose_secret().parse().context(
            "the keystore has sent something else than a token; is it of another version?",
        )?;
    if let Some(file) = &mut file {
        let failed = format!("make room, and invite {} again", wanted.name);
        file.fill_line(added.token.expose_secret(), failed)?;
    }
    let text = invitation(&added, &token, file.as_ref());
    match file {
        Some(file) => Answer::new(
            text,
            &json!({ "user": added.user, "token_file": file.path() }),
        ),
        None => Answer::new(text, &added),
    }
}

/// The token is the last line, if it is printed.
fn invitation(added: &AddedUser, token: &EnrolmentToken, file: Option<&NewFile>) -> String {
    let user = &added.user;
    let name = &user.name;
    let quota = match user.quota_bytes {
        Some(bytes) => format!("quota {}", Size(bytes)),
        None => "no quota".to_owned(),
    };
    let shown = file.map(|file| format!("in {}", file.path().display()));
    let root = match (&token.policy_root, user.policy) {
        (_, EscrowPolicy::Private | EscrowPolicy::Custom) => String::new(),
        (Some(root), EscrowPolicy::Standard) => format!(
            "The token names the policy root {root}: compare that with what new-root printed, and read it out to {name}.\n"
        ),
        (None, EscrowPolicy::Standard) => format!(
            "There is no policy of recovery admins yet, and {name} cannot enrol before: publish one, and invite {name} again.\n"
        ),
    };
    let mut text = format!(
        "{name} is invited (escrow policy {}, {quota}). The token {} enrols one computer, once, within 7 days: \
         hand it over on a way that nobody else sees, and keep no copy.\n\
         {name} runs: holdfast enrol {}\n{root}",
        policy_word(user.policy),
        shown.as_deref().unwrap_or("below"),
        token.address,
    );
    if file.is_none() {
        let token = added.token.expose_secret();
        // Before the secret is in it: growing afterwards would leave a copy behind.
        text.reserve_exact(token.len());
        text.push_str(token);
    }
    text
}

async fn list(connection: &Connection) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let list: UserList = session.client.get("/v1/users").await?;
    let lines: Vec<String> = list.users.iter().map(user_line).collect();
    let text = match lines.is_empty() {
        true => "There are no users yet; invite one: holdfast-keystore user add NAME".to_owned(),
        false => lines.join("\n"),
    };
    Answer::new(text, &list)
}

fn user_line(user: &KnownUser) -> String {
    let quota = match user.quota_bytes {
        Some(bytes) => format!("of {}", Size(bytes)),
        None => "without a limit".to_owned(),
    };
    format!(
        "{:<20} {:<12} {:<9} active devices: {:<3} stored: {} {quota}",
        user.name.as_str(),
        state_word(user.state),
        policy_word(user.policy),
        user.devices,
        Size(user.used_bytes),
    )
}

async fn devices(name: &PersonName, connection: &Connection) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let path = format!("/v1/users/{name}/devices");
    let list: DeviceList = session.client.get(&path).await?;
    let lines: Vec<String> = list.devices.iter().map(device_line).collect();
    let text = match lines.is_empty() {
        true => format!("{name} has no device"),
        false => lines.join("\n"),
    };
    Answer::new(text, &list)
}

fn device_line(device: &DeviceRecord) -> String {
    let state = match device.state {
        DeviceState::Provisional => "being set up",
        DeviceState::Active => "active",
        DeviceState::Deauthorised => "deauthorised, not confirmed",
        DeviceState::Confirmed => "deauthorised, confirmed",
    };
    let seen = match device.last_seen {
        Some(time) => format!("{time:.0}"),
        None => "not since the server started".to_owned(),
    };
    format!(
        "{:<20} {}  {state:<28} certificate until {:.0}  last call {seen}",
        device.name, device.id, device.expires
    )
}

async fn set(
    name: &PersonName,
    state: UserState,
    connection: &Connection,
) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let path = format!("/v1/users/{name}/state");
    let user: KnownUser = session
        .client
        .call(Method::PUT, &path, Some(&SetUserState { state }))
        .await?;
    Answer::new(consequence(name, user.state), &user)
}

/// What the act does, and what it does not.
fn consequence(name: &PersonName, state: UserState) -> String {
    match state {
        UserState::Invited => format!("{name} is invited."),
        UserState::Active => format!(
            "{name} may log in. Devices that were deauthorised stay out until {name} logs in on them again."
        ),
        UserState::Blocked => format!(
            "{name} is blocked: no login and no new device, but enrolled devices go on saving and reading. Undo: user activate {name}"
        ),
        UserState::Deauthorised => format!(
            "All devices of {name} are deauthorised, and nothing stored is lost; {OUT}.\n\
             {name} can log in again; user block {name} prevents that."
        ),
        UserState::Deactivated => format!(
            "{name} is deactivated: no login, and all devices are deauthorised; {OUT}.\n\
             The archive is kept, and may be deleted when the days of users.undo_days are over. Undo until then: user activate {name}"
        ),
    }
}

const OUT: &str = "grants handed out before live until they end, at most 15 minutes, and a device that is offline is not confirmed until it has called";

async fn deauthorise(
    name: &PersonName,
    device: DeviceId,
    connection: &Connection,
) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let path = format!("/v1/users/{name}/devices/{device}/deauthorise");
    let () = session
        .client
        .call(Method::POST, &path, Some(&Nothing {}))
        .await?;
    let text = format!(
        "Device {device} of {name} is deauthorised, and no other; {OUT}.\n\
         Whether it has: user devices {name}"
    );
    Answer::new(text, &json!({ "user": name, "deauthorised": device }))
}

fn state_word(state: UserState) -> &'static str {
    match state {
        UserState::Invited => "invited",
        UserState::Active => "active",
        UserState::Blocked => "blocked",
        UserState::Deauthorised => "deauthorised",
        UserState::Deactivated => "deactivated",
    }
}

fn policy_word(policy: EscrowPolicy) -> &'static str {
    match policy {
        EscrowPolicy::Standard => "standard",
        EscrowPolicy::Private => "private",
        EscrowPolicy::Custom => "custom",
    }
}
