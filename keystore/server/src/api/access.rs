//! The gate: every request passes it before anything else sees it.
//!
//! It goes by the table in `calls.rs`. A route that is not in the table answers nobody. The order of the gate: is there such a call; who is it; may it; not too often;
//! does the state allow it; is it on record. Only then is the body read.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use holdfast_protocol::calls::DeviceState;

use super::calls::{CALLS, Call, OnRecord, Who};
use super::error::{ApiError, ErrorCode};
use super::json::drain;
use crate::accounts::CallingDevice;
use crate::audit::event::{AccessRefusal, CallName};
use crate::audit::{Actor, Event};
use crate::names::{Fingerprint, PersonName};
use crate::server::{Phase, Server};

/// The other end of a connection, put into each of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Of the client certificate, if there is one; the handshake has proved its key.
    pub fingerprint: Option<Fingerprint>,
    /// Its address.
    pub address: IpAddr,
    /// What logins on this connection are bound to.
    pub exporter: Exporter,
}

/// 32 bytes that both ends of one TLS connection have, and nobody else (RFC 5705, RFC 8446 section 7.5). Not printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Exporter(pub [u8; 32]);

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exporter")
    }
}

/// Who calls, as far as the gate has found out; in each request that is let in.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The person; nobody only where anyone may call.
    pub name: Option<PersonName>,
    /// The device, in a call of a device.
    pub device: Option<CallingDevice>,
    /// The address.
    pub address: IpAddr,
    /// What logins on the connection are bound to.
    pub exporter: Exporter,
}

impl Caller {
    /// For the audit log.
    pub fn actor(&self) -> Actor {
        Actor {
            name: self.name.clone(),
            address: Some(self.address),
        }
    }

    /// The same for somebody who has proved by other means than a certificate who it is.
    pub fn actor_named(&self, name: &PersonName) -> Actor {
        Actor {
            name: Some(name.clone()),
            address: Some(self.address),
        }
    }

    /// The device of a call that only devices make.
    pub fn device(&self) -> &CallingDevice {
        self.device
            .as_ref()
            .expect("the gate lets nobody but devices into such a call")
    }

    /// The person of a call that not anyone may make.
    pub fn person(&self) -> &PersonName {
        self.name
            .as_ref()
            .expect("the gate lets nobody without a name into such a call")
    }
}

/// Name of the call, in each answer, for the metrics.
#[derive(Clone, Copy)]
pub struct Answered(pub &'static str);

/// The gate.
pub async fn gate(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        return next.run(request).await;
    };
    let Some(call) = find(path.as_str(), request.method()) else {
        let refusal = wrong_method(path.as_str());
        drain(request.into_body()).await;
        return refusal;
    };
    let peer = *request
        .extensions()
        .get::<Peer>()
        .expect("the listener puts it into every request");
    let mut response = match let_in(&server, call, peer).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => {
            drain(request.into_body()).await;
            error.into_response()
        }
    };
    response.extensions_mut().insert(Answered(call.name));
    response
}

fn find(path: &str, method: &Method) -> Option<&'static Call> {
    // The library answers HEAD with what GET would give.
    let method = match *method {
        Method::HEAD => "GET",
        _ => method.as_str(),
    };
    CALLS
        .iter()
        .find(|call| call.path == path && call.method == method)
}

fn wrong_method(path: &str) -> Response {
    let here = CALLS.iter().filter(|call| call.path == path);
    let methods: Vec<&str> = here.map(|call| call.method).collect();
    let mut response = ApiError::new(
        ErrorCode::Method,
        "this is not called with that method",
        "/v1/openapi.json tells how each call is made",
    )
    .into_response();
    if let Ok(allow) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

async fn let_in(server: &Arc<Server>, call: &'static Call, peer: Peer) -> Result<Caller, ApiError> {
    if let Who::Devices(_) = call.who {
        // Who a device is stands behind the barrier.
        let phase = server.phase();
        if phase != Phase::Unsealed {
            return Err(wrong_phase(call, phase));
        }
    }
    let looked_up = server.blocking(move |server| identify(server, call, &peer));
    let caller = match looked_up.await? {
        Ok(caller) => caller,
        Err((caller, reason)) => return Err(refused(server, call, &peer, caller, reason).await),
    };
    if call.on_record == OnRecord::Share {
        let counted = server.limits.share(caller.person(), peer.address);
        counted.map_err(|_| too_often("shares were submitted"))?;
    }
    let phase = server.phase();
    if !call.when.contains(&phase) {
        return Err(wrong_phase(call, phase));
    }
    if call.on_record != OnRecord::No {
        let event = Event::CallAllowed {
            call: CallName::of(call.name),
        };
        server.record(caller.actor(), event).await?;
    }
    Ok(caller)
}

type Refused = (Option<PersonName>, AccessRefusal);

/// Persons and devices are looked up each time: whoever was removed is out with the next request. The outer error is that of a
/// database that does not answer.
fn identify(
    server: &Server,
    call: &Call,
    peer: &Peer,
) -> Result<Result<Caller, Refused>, ApiError> {
    let caller = Caller {
        name: None,
        device: None,
        address: peer.address,
        exporter: peer.exporter,
    };
    if call.who == Who::Anyone {
        return Ok(Ok(caller));
    }
    let Some(fingerprint) = peer.fingerprint else {
        return Ok(Err((None, AccessRefusal::NoCertificate)));
    };
    let person = server.persons.read().find(&fingerprint).cloned();
    if let Some(person) = person {
        let name = Some(person.name);
        return Ok(match call.who {
            Who::Roles(roles) | Who::RolesAndDevices(roles, _) if roles.contains(&person.role) => {
                Ok(Caller { name, ..caller })
            }
            _ => Err((name, AccessRefusal::Role)),
        });
    }
    let device = match server.phase() {
        Phase::Unsealed => {
            let vault = server.vault.read();
            vault.calling_device(&fingerprint, server.clock.now())?
        }
        _ => None,
    };
    let Some(device) = device else {
        return Ok(Err((None, AccessRefusal::UnknownCertificate)));
    };
    let name = Some(device.user.clone());
    Ok(match call.who {
        Who::Devices(states) | Who::RolesAndDevices(_, states)
            if states.contains(&device.state) =>
        {
            Ok(Caller {
                name,
                device: Some(device),
                ..caller
            })
        }
        Who::Devices(_) | Who::RolesAndDevices(..) => Err((name, refused_state(device.state))),
        _ => Err((name, AccessRefusal::Role)),
    })
}

fn refused_state(state: DeviceState) -> AccessRefusal {
    match state {
        DeviceState::Deauthorised | DeviceState::Confirmed => AccessRefusal::Deauthorised,
        DeviceState::Provisional | DeviceState::Active => AccessRefusal::DeviceState,
    }
}

async fn refused(
    server: &Arc<Server>,
    call: &Call,
    peer: &Peer,
    name: Option<PersonName>,
    reason: AccessRefusal,
) -> ApiError {
    if server.limits.failure(peer.address).is_err() {
        return too_often("calls were refused");
    }
    let actor = Actor {
        name,
        address: Some(peer.address),
    };
    let event = Event::AccessRefused {
        call: CallName::of(call.name),
        reason,
        fingerprint: peer.fingerprint,
    };
    if let Err(error) = server.record(actor, event).await {
        return error;
    }
    match reason {
        AccessRefusal::NoCertificate => ApiError::new(
            ErrorCode::NoCertificate,
            "this call needs a client certificate",
            "use the credential that the first start has made or that an operator has issued",
        ),
        AccessRefusal::UnknownCertificate => ApiError::new(
            ErrorCode::UnknownCertificate,
            "this certificate is nobody's who may come in",
            "ask an operator to add you",
        ),
        AccessRefusal::Deauthorised => super::device::deauthorised(),
        AccessRefusal::DeviceState => ApiError::new(
            ErrorCode::DeviceState,
            "this device is not as far as this call is for, or further",
            "go on with the enrolment or login, or begin it again",
        ),
        AccessRefusal::Role => ApiError::new(
            ErrorCode::Role,
            "your role does not allow this call",
            "ask an operator to make it",
        ),
    }
}

fn too_often(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::TooOften,
        format!("too many {what} in a short time"),
        "wait a minute and try again",
    )
}

/// Why a call cannot be made now.
fn wrong_phase(call: &Call, phase: Phase) -> ApiError {
    match phase {
        Phase::Uninitialised => ApiError::uninitialised(),
        Phase::Unsealed if call.when.contains(&Phase::Sealed) && call.name != "init" => {
            ApiError::already_unsealed()
        }
        Phase::Sealed if call.name != "snapshot_restore" => ApiError::sealed(),
        Phase::Sealed | Phase::Unsealed => ApiError::already_initialised(),
    }
}
