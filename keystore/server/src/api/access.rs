//! Who may call what, and when: one table, walked by one gate before anything else sees the request.
//!
//! A route that is not in the table answers nobody. The order of the gate: is there such a call; who is it; may it; not too often;
//! does the state allow it; is it on record. Only then is the body read.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, ErrorCode};
use crate::audit::event::{AccessRefusal, CallName};
use crate::audit::{Actor, Event};
use crate::names::{Fingerprint, PersonName, Role};
use crate::server::{Phase, Server};

/// One call of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name in the audit log and in metrics.
    pub name: &'static str,
    /// How it is called.
    pub method: &'static str,
    /// Where.
    pub path: &'static str,
    /// Who may.
    pub who: Who,
    /// When.
    pub when: &'static [Phase],
    /// Whether a line in the audit log comes before it.
    pub on_record: OnRecord,
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Also without a certificate.
    Anyone,
    /// Persons of these roles.
    Roles(&'static [Role]),
}

/// What stands in the audit log before the act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRecord {
    /// Nothing: it reads what is no secret.
    No,
    /// That the call was let in.
    Yes,
    /// The same, and the limits of shares hold for it.
    Share,
}

use OnRecord::{No, Share, Yes};
use Phase::{Sealed, Uninitialised, Unsealed};
use Role::{Auditor, Holder, Operator};
use Who::{Anyone, Roles};

const ALWAYS: &[Phase] = &[Uninitialised, Sealed, Unsealed];
const BEFORE_INIT: &[Phase] = &[Uninitialised];
/// The second one for a keystore that was never opened.
const FOR_INIT: &[Phase] = &[Uninitialised, Sealed];
const WHILE_SEALED: &[Phase] = &[Sealed];
const WHILE_OPEN: &[Phase] = &[Unsealed];
const INITIALISED: &[Phase] = &[Sealed, Unsealed];
const NOT_SEALED: &[Phase] = &[Uninitialised, Unsealed];

const ANY_ROLE: Who = Roles(&[Operator, Holder, Auditor]);
const OPERATORS: Who = Roles(&[Operator]);
const SHARE_HOLDERS: Who = Roles(&[Operator, Holder]);
const READERS: Who = Roles(&[Operator, Auditor]);

const fn call(
    name: &'static str,
    method: &'static str,
    path: &'static str,
    who: Who,
    when: &'static [Phase],
    on_record: OnRecord,
) -> Call {
    Call {
        name,
        method,
        path,
        who,
        when,
        on_record,
    }
}

/// Every call there is.
pub const CALLS: &[Call] = &[
    call("health", "GET", "/v1/health", Anyone, ALWAYS, No),
    call("openapi", "GET", "/v1/openapi.json", Anyone, ALWAYS, No),
    call("metrics", "GET", "/metrics", ANY_ROLE, ALWAYS, No),
    call("status", "GET", "/v1/status", ANY_ROLE, ALWAYS, No),
    call("init", "POST", "/v1/init", OPERATORS, FOR_INIT, Yes),
    call(
        "unseal_start",
        "POST",
        "/v1/unseal/start",
        OPERATORS,
        WHILE_SEALED,
        Yes,
    ),
    call(
        "unseal_submit",
        "POST",
        "/v1/unseal/submit",
        SHARE_HOLDERS,
        WHILE_SEALED,
        Share,
    ),
    call(
        "unseal_cancel",
        "POST",
        "/v1/unseal/cancel",
        OPERATORS,
        WHILE_SEALED,
        Yes,
    ),
    call("seal", "POST", "/v1/seal", OPERATORS, WHILE_OPEN, Yes),
    call(
        "share_verify",
        "POST",
        "/v1/share/verify",
        SHARE_HOLDERS,
        INITIALISED,
        Share,
    ),
    call(
        "reshare_start",
        "POST",
        "/v1/reshare/start",
        OPERATORS,
        WHILE_OPEN,
        Yes,
    ),
    call(
        "reshare_submit",
        "POST",
        "/v1/reshare/submit",
        SHARE_HOLDERS,
        WHILE_OPEN,
        Share,
    ),
    call(
        "reshare_cancel",
        "POST",
        "/v1/reshare/cancel",
        OPERATORS,
        WHILE_OPEN,
        Yes,
    ),
    call(
        "rotate_data_key",
        "POST",
        "/v1/rotate/data-key",
        OPERATORS,
        WHILE_OPEN,
        Yes,
    ),
    call("me", "GET", "/v1/me", ANY_ROLE, WHILE_OPEN, No),
    call(
        "operators_list",
        "GET",
        "/v1/operators",
        READERS,
        NOT_SEALED,
        No,
    ),
    call(
        "operators_add",
        "POST",
        "/v1/operators",
        OPERATORS,
        NOT_SEALED,
        Yes,
    ),
    call(
        "operators_remove",
        "DELETE",
        "/v1/operators/{name}",
        OPERATORS,
        NOT_SEALED,
        Yes,
    ),
    call(
        "snapshot_save",
        "GET",
        "/v1/snapshot",
        OPERATORS,
        WHILE_OPEN,
        Yes,
    ),
    call(
        "snapshot_restore",
        "POST",
        "/v1/snapshot/restore",
        OPERATORS,
        BEFORE_INIT,
        Yes,
    ),
    call(
        "audit_tail",
        "GET",
        "/v1/audit/tail",
        READERS,
        WHILE_OPEN,
        No,
    ),
    call(
        "audit_verify",
        "GET",
        "/v1/audit/verify",
        READERS,
        WHILE_OPEN,
        No,
    ),
];

/// The other end of a connection, put into each of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Of the client certificate, if there is one; the handshake has proved its key.
    pub fingerprint: Option<Fingerprint>,
    /// Its address.
    pub address: IpAddr,
}

/// Who calls, as far as the gate has found out; in each request that is let in.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The person; nobody only where anyone may call.
    pub name: Option<PersonName>,
    /// The address.
    pub address: IpAddr,
}

impl Caller {
    /// For the audit log.
    pub fn actor(&self) -> Actor {
        Actor {
            name: self.name.clone(),
            address: Some(self.address),
        }
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
    let call = match find(path.as_str(), request.method()) {
        Ok(call) => call,
        Err(refusal) => return refusal,
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
        Err(error) => error.into_response(),
    };
    response.extensions_mut().insert(Answered(call.name));
    response
}

fn find(path: &str, method: &Method) -> Result<&'static Call, Response> {
    // The library answers HEAD with what GET would give.
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let here = || CALLS.iter().filter(|call| call.path == path);
    if let Some(call) = here().find(|call| call.method == method.as_str()) {
        return Ok(call);
    }
    let methods: Vec<&str> = here().map(|call| call.method).collect();
    let mut response = ApiError::new(
        ErrorCode::Method,
        "this is not called with that method",
        "/v1/openapi.json tells how each call is made",
    )
    .into_response();
    if let Ok(allow) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    Err(response)
}

async fn let_in(server: &Arc<Server>, call: &'static Call, peer: Peer) -> Result<Caller, ApiError> {
    let caller = match identify(server, call, &peer) {
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

/// The person is looked up each time: whoever was removed is out with the next request.
fn identify(server: &Server, call: &Call, peer: &Peer) -> Result<Caller, Refused> {
    let caller = |name| Caller {
        name,
        address: peer.address,
    };
    let Roles(roles) = call.who else {
        return Ok(caller(None));
    };
    let fingerprint = peer
        .fingerprint
        .ok_or((None, AccessRefusal::NoCertificate))?;
    let persons = server.persons.read();
    let person = persons
        .find(&fingerprint)
        .ok_or((None, AccessRefusal::UnknownCertificate))?;
    let name = Some(person.name.clone());
    if roles.contains(&person.role) {
        Ok(caller(name))
    } else {
        Err((name, AccessRefusal::Role))
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
        Phase::Sealed if call.when != BEFORE_INIT => ApiError::sealed(),
        Phase::Sealed | Phase::Unsealed => ApiError::already_initialised(),
    }
}
