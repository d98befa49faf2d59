//! `/v1/grants`: permissions for single objects of the caller's own archive.
//!
//! In this order: is the wish one; may this device; is there room; has nobody else the number; sign. The numbers of one call are taken
//! in one go, and written before the first grant goes out.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use holdfast_backend::layout::ObjectName;
use holdfast_backend::store::MAX_OBJECT_BYTES;
use holdfast_protocol::calls::{Grant, GrantAct, Granted, Grants, Refused, Wish, Wishes};

use super::access::Caller;
use super::error::{ApiError, ErrorCode};
use super::json::JsonBody;
use super::refusals::Refusals;
use crate::accounts::CallingDevice;
use crate::server::Server;
use crate::stores::numbers::place;
use crate::stores::{Act, Archive, life};

/// Most wishes in one call.
const WISHES: usize = 256;

/// A wish that is one, on its way to a grant.
struct Asked {
    name: ObjectName,
    act: Act,
}

/// Grants for objects of the caller's archive.
#[utoipa::path(
    post,
    path = "/v1/grants",
    tag = "grants",
    request_body = Wishes,
    responses((status = 200, description = "One answer for each wish", body = Grants), Refusals)
)]
pub async fn grants(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(wanted): JsonBody<Wishes>,
) -> Result<Json<Grants>, ApiError> {
    if wanted.wishes.is_empty() || wanted.wishes.len() > WISHES {
        return Err(ApiError::bad_request(format!(
            "a call has 1 to {WISHES} wishes"
        )));
    }
    let device = caller.device().clone();
    let archive = server.open_archive(&device).await?;
    let wishes = wanted.wishes.iter();
    let mut asked: Vec<Result<Asked, Refused>> =
        wishes.map(|wish| allowed(&device, wish)).collect();
    make_room(&server, &device, &archive, &mut asked).await?;
    take_numbers(&server, &device, &archive, &mut asked).await?;
    let mut grants = Vec::with_capacity(asked.len());
    let (now, address) = (server.clock.now(), server.public_address());
    for asked in asked {
        grants.push(match asked {
            Err(refused) => Granted::Refused(refused),
            Ok(Asked { name, act }) => {
                let stores = &server.stores;
                let signed = stores.grant(&device.archive, &name, act, now, &address);
                let signed = signed.await?;
                Granted::Granted(Grant {
                    method: match act {
                        Act::Put { .. } => "PUT".to_owned(),
                        Act::Get => "GET".to_owned(),
                    },
                    url: signed.url,
                    headers: signed.headers,
                    expires: now + life(&name, act),
                })
            }
        });
    }
    Ok(Json(Grants { grants }))
}

/// Whether this device may. It reads all of its user's archive; it writes what is new, what belongs to no other device, and nothing that is
/// the server's. A provisional device may, too: it writes itself into the keyring, and its first commit where it replaces another one.
fn allowed(device: &CallingDevice, wish: &Wish) -> Result<Asked, Refused> {
    let Ok(name) = wish.name.parse::<ObjectName>() else {
        return Err(refused(
            ErrorCode::BadRequest,
            "this is not the name of an object",
            "update holdfast",
        ));
    };
    let bytes = match wish.act {
        GrantAct::Get => {
            return Ok(Asked {
                name,
                act: Act::Get,
            });
        }
        GrantAct::Put { bytes } => bytes,
    };
    if bytes == 0 || bytes > MAX_OBJECT_BYTES {
        return Err(refused(
            ErrorCode::BadRequest,
            "no object has this length",
            "update holdfast",
        ));
    }
    let own = name.device().is_none_or(|owner| owner.0 == device.id.0);
    let of_server = matches!(
        name,
        ObjectName::Condemned { .. } | ObjectName::Deleting { .. }
    );
    if !own || of_server {
        return Err(refused(
            ErrorCode::Forbidden,
            "this device may not store this object",
            "update holdfast; if it stays so, tell your operators",
        ));
    }
    Ok(Asked {
        name,
        act: Act::Put { bytes },
    })
}

async fn make_room(
    server: &Arc<Server>,
    device: &CallingDevice,
    archive: &Archive,
    asked: &mut [Result<Asked, Refused>],
) -> Result<(), ApiError> {
    let puts = |asked: &Result<Asked, Refused>| {
        matches!(
            asked,
            Ok(Asked {
                act: Act::Put { .. },
                ..
            })
        )
    };
    if !asked.iter().any(puts) {
        return Ok(());
    }
    let user = device.user.clone();
    let account = server.blocking(move |server| server.vault.read().known_account(&user));
    let quota = account.await?.quota_bytes;
    for wish in asked {
        if let Ok(Asked {
            act: Act::Put { bytes },
            ..
        }) = wish
        {
            let bytes = *bytes;
            if !archive.take(bytes, quota).await? {
                *wish = Err(refused(
                    ErrorCode::Quota,
                    "your quota is used up",
                    "forget snapshots and wait for the keystore to collect them, or ask an operator for more",
                ));
            }
        }
    }
    Ok(())
}

/// Whoever has a number already keeps it: by a grant that lives, or by what is stored.
async fn take_numbers(
    server: &Arc<Server>,
    device: &CallingDevice,
    archive: &Archive,
    asked: &mut [Result<Asked, Refused>],
) -> Result<(), ApiError> {
    let mut names = Vec::new();
    let mut listed = HashMap::new();
    for wish in &mut *asked {
        let name = match wish {
            Ok(Asked {
                name,
                act: Act::Put { .. },
            }) if name.number().is_some() => *name,
            _ => continue,
        };
        let stored = archive.stored_under(&name, &mut listed).await?;
        if stored.is_empty() || stored.contains(&name.digest()) {
            names.push(name);
        } else {
            *wish = Err(taken());
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    let (id, wanted) = (device.archive, names.clone());
    let take = move |server: &Server| {
        let now = server.clock.now();
        server.vault.write().take_numbers(&id, &wanted, now)
    };
    let got = server.blocking(take).await?;
    for (name, got) in names.iter().zip(got) {
        if let (Some(place), Some(number)) = (place(name), name.number()) {
            archive.note(&place, number);
        }
        if !got {
            let same = |wish: &&mut Result<Asked, Refused>| matches!(wish, Ok(Asked { name: asked, act: Act::Put { .. } }) if asked == name);
            for wish in asked.iter_mut().filter(same) {
                *wish = Err(taken());
            }
        }
    }
    Ok(())
}

fn taken() -> Refused {
    refused(
        ErrorCode::Conflict,
        "another object has this number already",
        "look whether this device's profile is in use on a second computer",
    )
}

fn refused(code: ErrorCode, sentence: &str, next_step: &str) -> Refused {
    Refused {
        code: code.name(),
        sentence: sentence.to_owned(),
        next_step: next_step.to_owned(),
    }
}

impl Server {
    /// The archive of a device's user, with what was known of it before the last start.
    pub(super) async fn open_archive(
        self: &Arc<Self>,
        device: &CallingDevice,
    ) -> Result<Arc<Archive>, ApiError> {
        let id = device.archive;
        let open = move |server: &Server| {
            let archive = server.stores.archive(&id)?;
            if !archive.is_counted() {
                archive.remember(server.vault.read().usage(&id)?);
            }
            Ok(archive)
        };
        self.blocking(open).await
    }
}
