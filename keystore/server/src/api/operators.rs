//! `/v1/operators`: who may come in.
//!
//! While sealed the table does not change: the digest that the barrier keeps of it could not follow, and every change would
//! look like one that was made behind the server's back.
//!
//! If we die between the table's write and the barrier's, the next unseal tells of a change; the audit log has the line that
//! says who was let in to make it.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::error::{ApiError, ErrorBody, ErrorCode};
use super::json::JsonBody;
use super::refusals::Refusals;
use crate::audit::Event;
use crate::authority::{AuthorityError, Request};
use crate::names::{NameError, PersonName, Role};
use crate::persons::{Person, PersonsError};
use crate::server::Server;

/// Everybody, by name.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonList {
    /// Everybody.
    pub persons: Vec<Person>,
}

/// Somebody is to come in.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddPerson {
    /// Its name.
    pub name: PersonName,
    /// What it may do.
    pub role: Role,
    /// A certificate signing request in PEM, made where the private key is; only its public key is taken.
    #[schema(max_length = 16384)]
    pub request: String,
}

/// Somebody has come in.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddedPerson {
    /// As it stands in the table.
    pub person: Person,
    /// The certificate, PEM.
    pub certificate: String,
    /// The authority that clients trust, PEM.
    pub authority: String,
}

/// Everybody who may come in.
#[utoipa::path(
    get,
    path = "/v1/operators",
    tag = "persons",
    responses((status = 200, description = "By name", body = PersonList), Refusals)
)]
pub async fn list(State(server): State<Arc<Server>>) -> Json<PersonList> {
    let persons = server.persons.read().list();
    Json(PersonList { persons })
}

/// Issues a certificate and lets its owner in.
#[utoipa::path(
    post,
    path = "/v1/operators",
    tag = "persons",
    request_body = AddPerson,
    responses((status = 201, description = "Added", body = AddedPerson), Refusals)
)]
pub async fn add(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    JsonBody(wanted): JsonBody<AddPerson>,
) -> Result<(StatusCode, Json<AddedPerson>), ApiError> {
    let added = server
        .blocking(move |server| add_now(server, &caller, &wanted))
        .await?;
    Ok((StatusCode::CREATED, Json(added)))
}

/// From the next request on, this person's certificate is refused.
#[utoipa::path(
    delete,
    path = "/v1/operators/{name}",
    tag = "persons",
    params(("name" = PersonName, Path, description = "Who")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "There is nobody of that name", body = ErrorBody),
        Refusals,
    )
)]
pub async fn remove(
    State(server): State<Arc<Server>>,
    Extension(caller): Extension<Caller>,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let name = name
        .map_err(|_| NameError)
        .and_then(|Path(name)| name.parse())
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    server
        .blocking(move |server| remove_now(server, &caller, &name))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn add_now(server: &Server, caller: &Caller, wanted: &AddPerson) -> Result<AddedPerson, ApiError> {
    let request = Request::parse(&wanted.request)?;
    // Held to the end, so that nobody else changes the table between the line and the write.
    let mut vault = server.vault.write();
    let mut persons = server.persons.write();
    persons.check_add(&wanted.name, &request.public_key)?;
    let issued = server.authority.issue(&wanted.name, &request);
    let person = Person {
        name: wanted.name.clone(),
        role: wanted.role,
        fingerprint: issued.fingerprint,
        public_key: request.public_key,
        added: server.clock.now(),
    };
    let event = Event::PersonAdded {
        name: person.name.clone(),
        role: person.role,
        fingerprint: person.fingerprint,
    };
    server.record_now(&caller.actor(), event)?;
    persons.add(person.clone())?;
    vault.remember_persons(&persons)?;
    Ok(AddedPerson {
        person,
        certificate: issued.certificate_pem,
        authority: server.authority.certificate_pem().to_owned(),
    })
}

fn remove_now(server: &Server, caller: &Caller, name: &PersonName) -> Result<(), ApiError> {
    let mut vault = server.vault.write();
    let mut persons = server.persons.write();
    let fingerprint = persons.check_remove(name)?.fingerprint;
    let event = Event::PersonRemoved {
        name: name.clone(),
        fingerprint,
    };
    server.record_now(&caller.actor(), event)?;
    persons.remove(name)?;
    vault.remember_persons(&persons)
}

impl From<AuthorityError> for ApiError {
    fn from(error: AuthorityError) -> Self {
        let next = "make a request with the holdfast-keystore command, or with openssl req -new";
        ApiError::unfit(error.to_string(), next)
    }
}

impl From<PersonsError> for ApiError {
    fn from(error: PersonsError) -> Self {
        let (code, next) = match &error {
            PersonsError::Io { .. } | PersonsError::Damaged { .. } => {
                tracing::error!(%error, "the table of persons");
                return ApiError::storage();
            }
            PersonsError::NameTaken { .. } => (
                ErrorCode::Conflict,
                "choose another name, or remove that person first",
            ),
            PersonsError::KeyTaken { .. } => {
                (ErrorCode::Conflict, "each person makes a key of its own")
            }
            PersonsError::Full => (
                ErrorCode::Conflict,
                "remove persons who need not come in any more",
            ),
            PersonsError::Unknown { .. } => (ErrorCode::NotFound, "list who there is"),
            PersonsError::LastOperator { .. } => {
                (ErrorCode::Conflict, "add another operator first")
            }
        };
        ApiError::new(code, error.to_string(), next)
    }
}
