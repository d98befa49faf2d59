//! `operator`: who may come in.
//!
//! A private key is made here, on the computer that runs the command, and never leaves it: a certificate signing request goes to
//! the server, a certificate comes back. If we die in between, the person stands in the server's table with a certificate
//! that nobody has; removing and adding the person again mends it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use rcgen::{CertificateParams, KeyPair};
use reqwest::Method;
use serde_json::json;
use zeroize::Zeroizing;

use super::answer::Answer;
use super::connection::Connection;
use super::new_file::{NewFile, Readers};
use crate::api::operators::{AddPerson, AddedPerson, PersonList};
use crate::names::{PersonName, Role};
use crate::persons::Person;

/// What can be said of persons.
#[derive(Subcommand)]
pub enum Operator {
    /// Let somebody in, and write the credential
    Add {
        /// Name: small letters, digits, dots and dashes
        name: PersonName,
        /// operator, holder, auditor or recovery-admin
        #[arg(long)]
        role: Role,
        /// Where the credential is written; NAME.pem by default
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// A certificate signing request that the person has made, PEM; then no key is made here, and certificate and authority are written
        #[arg(long, value_name = "FILE")]
        request: Option<PathBuf>,
    },
    /// Tell who may come in
    List,
    /// Refuse somebody from the next request on
    Remove {
        /// Who
        name: PersonName,
    },
}

impl Operator {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<Answer> {
        match self {
            Operator::Add {
                name,
                role,
                out,
                request,
            } => add(name, role, out, request.as_deref(), connection).await,
            Operator::List => list(connection).await,
            Operator::Remove { name } => remove(&name, connection).await,
        }
    }
}

async fn add(
    name: PersonName,
    role: Role,
    out: Option<PathBuf>,
    request: Option<&Path>,
    connection: &Connection,
) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let out = out.unwrap_or_else(|| PathBuf::from(format!("{name}.pem")));
    let (request, key) = match request {
        Some(file) => {
            let pem = fs::read_to_string(file)
                .with_context(|| format!("{} cannot be read; check the path", file.display()))?;
            (pem, Zeroizing::new(String::new()))
        }
        None => make_request()?,
    };
    // Before anything is sent: a credential that cannot be written must not be issued.
    let refused = "and nobody was added; name another file with --out";
    let mut file = NewFile::make(out, Readers::Owner, refused)?;
    let wanted = AddPerson {
        name,
        role,
        request,
    };
    let added: AddedPerson = session.client.post("/v1/operators", &wanted).await?;
    let credential = Zeroizing::new([&added.certificate, key.as_str(), &added.authority].concat());
    let failed = format!("make room, remove {} again, and add it anew", wanted.name);
    file.fill(credential.as_bytes(), failed)?;
    let text = format!(
        "{} may come in as {}. Credential: {} (bring it to its owner on a safe way, and keep no copy)",
        added.person.name,
        added.person.role,
        file.path().display()
    );
    Answer::new(
        text,
        &json!({ "person": added.person, "credential": file.path() }),
    )
}

/// A request and its private key, PEM.
fn make_request() -> anyhow::Result<(String, Zeroizing<String>)> {
    let key = KeyPair::generate().context("no key can be made")?;
    let request = CertificateParams::default()
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .context("no request can be made")?;
    Ok((request, Zeroizing::new(key.serialize_pem())))
}

async fn list(connection: &Connection) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let list: PersonList = session.client.get("/v1/operators").await?;
    let line = |person: &Person| {
        format!(
            "{:<20} {:<9} since {:.0}  {}",
            person.name.as_str(),
            person.role.to_string(),
            person.added,
            person.fingerprint
        )
    };
    let lines: Vec<String> = list.persons.iter().map(line).collect();
    Answer::new(lines.join("\n"), &list)
}

async fn remove(name: &PersonName, connection: &Connection) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let path = format!("/v1/operators/{name}");
    let () = session
        .client
        .call(Method::DELETE, &path, None::<&()>)
        .await?;
    let text = format!("{name} is refused from now on.");
    Answer::new(text, &json!({ "removed": name }))
}
