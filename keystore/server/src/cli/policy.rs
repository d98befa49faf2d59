//! `policy`: who the organisation's recovery admins are.
//!
//! Keys are made and policies signed without a server, so that the root's key can stay on a computer without a network. A key is on disk
//! before anything is said of it; if we die before that, an empty file is left, and nobody has been given a public key that nothing opens.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use holdfast_protocol::calls::Bytes64;
use holdfast_protocol::escrow::{Admin, AdminKeyPair, KeyText, PolicyRootKey, SignedPolicy};
use reqwest::Method;
use serde::Serialize;
use serde_json::json;

use super::answer::Answer;
use super::connection::Connection;
use super::new_file::{NewFile, Readers};
use crate::api::policy::PolicyDocument;
use crate::names::PersonName;
use signing::Signing;

mod signing;

/// The largest policy has 16 admins and less than half of this.
const POLICY_BYTES: u64 = 64 << 10;

const KEY_NOT_MADE: &str = "and no key was; name a file that is not there yet, in a folder that is";
const KEY_NOT_WRITTEN: &str = "make room, and make another key";

/// What can be done with policies and their keys.
#[derive(Subcommand)]
pub enum Policy {
    /// Make the key that signs policies, for a computer without a network; no server is asked
    NewRoot {
        /// Where the secret key is written; there must be no file of that name
        file: PathBuf,
    },
    /// Make your key as a recovery admin; the last line that is printed is the public key. No server is asked
    NewAdmin {
        /// Where the secret key is written; there must be no file of that name
        file: PathBuf,
    },
    /// Sign a policy; no server is asked
    Make(Signing),
    /// Tell what is in a policy
    Show {
        /// A file that make has written; without it, the server's policy in force
        file: Option<PathBuf>,
    },
    /// Put a policy in force
    Publish {
        /// A file that make has written
        file: PathBuf,
    },
}

impl Policy {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<Answer> {
        match self {
            Policy::NewRoot { file } => new_root(file),
            Policy::NewAdmin { file } => new_admin(file),
            Policy::Make(signing) => signing.run(),
            Policy::Show { file: Some(file) } => show(&read(&file)?),
            Policy::Show { file: None } => show_servers(connection).await,
            Policy::Publish { file } => publish(&file, connection).await,
        }
    }
}

fn new_root(file: PathBuf) -> anyhow::Result<Answer> {
    let mut file = NewFile::make(file, Readers::Owner, KEY_NOT_MADE)?;
    let root = PolicyRootKey::generate();
    file.fill_line(&root.to_text(), KEY_NOT_WRITTEN)?;
    let fingerprint = root.public().fingerprint().to_string();
    let text = format!(
        "{}: the organisation's policy root key. Keep it offline, with a copy in a second place: whoever has it names recovery admins.\n\
         Fingerprint, to be read out to users by another way than the keystore: {fingerprint}",
        file.path().display()
    );
    Answer::new(
        text,
        &json!({ "file": file.path(), "fingerprint": fingerprint }),
    )
}

fn new_admin(file: PathBuf) -> anyhow::Result<Answer> {
    let mut file = NewFile::make(file, Readers::Owner, KEY_NOT_MADE)?;
    let admin = AdminKeyPair::generate();
    file.fill_line(&admin.to_text(), KEY_NOT_WRITTEN)?;
    let public = admin.public();
    let fingerprint = public.fingerprint().to_string();
    let text = format!(
        "{}: your secret key as a recovery admin. Keep it to yourself, with a copy that only you can reach.\n\
         Fingerprint, to be read out to whoever signs the policy: {fingerprint}\n\
         Public key, to be sent there:\n{}",
        file.path().display(),
        *public.to_text()
    );
    let told = json!({
        "file": file.path(),
        "fingerprint": fingerprint,
        "public_key": *public.to_text(),
    });
    Answer::new(text, &told)
}

async fn show_servers(connection: &Connection) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let document: PolicyDocument = session.client.get("/v1/policy").await?;
    show(&parse(&document.policy.0, "what the keystore has sent")?)
}

fn show(policy: &SignedPolicy) -> anyhow::Result<Answer> {
    let told = Told::of(policy);
    Answer::new(told.text(), &told)
}

async fn publish(file: &Path, connection: &Connection) -> anyhow::Result<Answer> {
    let policy = read(file)?;
    let session = connection.open()?;
    let document = PolicyDocument {
        policy: Bytes64(policy.as_bytes().to_vec()),
    };
    let _: PolicyDocument = session
        .client
        .call(Method::PUT, "/v1/policy", Some(&document))
        .await?;
    let told = Told::of(&policy);
    let mut text = format!("In force from now on. {}", told.text());
    if told.version == 1 {
        text.push_str(
            "\nTokens that were made before it do not name its root: invite those users again.",
        );
    }
    Answer::new(text, &told)
}

/// Reads a policy's file.
fn read(file: &Path) -> anyhow::Result<SignedPolicy> {
    use std::io::Read;
    let shown = file.display();
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(POLICY_BYTES).read_to_end(&mut bytes))
        .with_context(|| format!("{shown} cannot be read; check the path"))?;
    parse(&bytes, &shown.to_string())
}

fn parse(bytes: &[u8], whence: &str) -> anyhow::Result<SignedPolicy> {
    SignedPolicy::parse(bytes).with_context(|| whence.to_owned())
}

/// What is in a policy.
#[derive(Serialize)]
struct Told {
    version: u64,
    threshold: u8,
    admins: Vec<ToldAdmin>,
    root: String,
    digest: String,
}

#[derive(Serialize)]
struct ToldAdmin {
    name: PersonName,
    fingerprint: String,
}

impl Told {
    fn of(policy: &SignedPolicy) -> Told {
        let told = |admin: &Admin| ToldAdmin {
            name: admin.name.clone(),
            fingerprint: admin.key.fingerprint().to_string(),
        };
        Told {
            version: policy.version(),
            threshold: policy.threshold(),
            admins: policy.admins().iter().map(told).collect(),
            root: policy.root().fingerprint().to_string(),
            digest: policy.digest().to_string(),
        }
    }

    fn text(&self) -> String {
        let admin =
            |admin: &ToldAdmin| format!("  {:<20} {}", admin.name.as_str(), admin.fingerprint);
        let admins: Vec<String> = self.admins.iter().map(admin).collect();
        format!(
            "Policy {}: {} of {} recovery admins, with the keystore, open a user's key.\n{}\nRoot: {}",
            self.version,
            self.threshold,
            admins.len(),
            admins.join("\n"),
            self.root
        )
    }
}
