//! The keystore that this computer is enrolled at: how a home speaks to it.
//!
//! The server's half of the key is kept in no memory; whoever opens the archive asks for it and drops it. With a lease of days it is on disk
//! until the lease ends.

mod grants;
mod lease;
mod watch;

use std::collections::BTreeMap;

use holdfast_crypto::DeviceHalf;
use holdfast_keystore_client::escrow::SignedPolicy;
use holdfast_keystore_client::names::Fingerprint;
use holdfast_keystore_client::{AddressError, Client, ClientError};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::archive::runtime;
use crate::home::{Home, HomeError, ServerSettings, Settings};

pub use grants::granted_store;
pub use lease::keep as keep_half;
pub use watch::{KeystoreState, Watch};

/// Name of the state that holds the newest version of the key's record that was seen.
const SEEN_SLOTS: &str = "slots-seen";
/// Name of the state that holds the organisation's policy of recovery admins.
const ADMINS: &str = "recovery-admins";

/// The connections of this process, by the certificate that they began with: whoever renews it renews it for all.
static CLIENTS: Mutex<BTreeMap<Fingerprint, Client>> = Mutex::new(BTreeMap::new());

/// What an enrolled home has.
pub struct Keystore {
    home: Home,
    server: ServerSettings,
    client: Client,
}

/// Why the keystore cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// A home without a server.
    #[error(
        "this computer is not enrolled at a keystore; run `holdfast enrol SERVER` or `holdfast login SERVER` with another HOLDFAST_HOME"
    )]
    NotEnrolled,
    /// The local folders.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The settings' address.
    #[error("{0}; correct it in config.toml")]
    Address(#[from] AddressError),
    /// A call.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// The key file cannot be opened without it.
    #[error("this computer's key opens only with the keystore's half, and there is none: {0}")]
    NoHalf(#[source] ClientError),
    /// The keystore refuses the half for good.
    #[error(
        "this computer was deauthorised, and its keys are wiped; to make it a device again run `holdfast logout`, and then `holdfast login SERVER`"
    )]
    Deauthorised,
    /// The keys were wiped before.
    #[error(
        "the keys of this computer are wiped: it was deauthorised or logged out; to make it a device again run `holdfast logout`, and then `holdfast login SERVER`"
    )]
    Wiped,
    /// The recovery admins are not those that were seen before, and nobody whom they trust has changed them.
    #[error(
        "the recovery admins that the keystore tells cannot be believed: {0}; ask your organisation what is true, somebody may want to read your files"
    )]
    Admins(#[from] holdfast_keystore_client::escrow::PolicyError),
    /// There were some.
    #[error("the keystore tells of no recovery admins, and there were some; ask your operators")]
    NoAdmins,
}

impl Keystore {
    /// Of an enrolled home; nothing is sent yet.
    pub fn open(home: &Home, settings: &Settings) -> Result<Keystore, KeystoreError> {
        let server = settings.server.clone();
        let server = server.ok_or(KeystoreError::NotEnrolled)?;
        if !home.certificate_file().exists() && !home.key_file().exists() {
            return Err(KeystoreError::Wiped);
        }
        let identity = home.identity()?;
        let mut clients = CLIENTS.lock();
        let client = match clients.get(&identity.fingerprint()) {
            Some(client) => client.clone(),
            None => Client::new(server.address.parse()?, server.pin, Some(&identity))?,
        };
        clients.insert(identity.fingerprint(), client.clone());
        Ok(Keystore {
            home: home.clone(),
            server,
            client,
        })
    }

    /// Every call.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Who this computer is to the keystore.
    pub fn server(&self) -> &ServerSettings {
        &self.server
    }

    /// The keystore's half of this computer's key file, from the keystore. A lease of days begins anew.
    pub fn fetch_half(&self) -> Result<DeviceHalf, KeystoreError> {
        let told = match wait(self.client.device_half()) {
            Err(error) if error.code() == Some("deauthorised") => {
                self.wipe()?;
                return Err(KeystoreError::Deauthorised);
            }
            told => told.map_err(KeystoreError::NoHalf)?,
        };
        let half = DeviceHalf::from_bytes(Zeroizing::new(*told.half.expose_secret()));
        lease::keep(&self.home, self.server.lease, &half)?;
        Ok(half)
    }

    /// This computer is out: nothing here opens the archive from now on, and the keystore is told.
    fn wipe(&self) -> Result<(), HomeError> {
        self.home.wipe_keys()?;
        self.confirm_wiped();
        Ok(())
    }

    /// Without it the keystore shows the device as not confirmed, and nothing else is different.
    pub fn confirm_wiped(&self) {
        match wait(self.client.confirm_wiped()) {
            Ok(()) => tracing::warn!("the keystore knows that the keys are wiped"),
            Err(error) => {
                tracing::warn!(%error, "the keystore was not told that the keys are wiped");
            }
        }
    }

    /// The newest version of the key's record that this computer has seen.
    pub fn seen_slots(&self) -> Result<u64, HomeError> {
        let kept = self.home.load_state(SEEN_SLOTS)?.unwrap_or_default();
        let text = String::from_utf8(kept).unwrap_or_default();
        Ok(text.trim().parse().unwrap_or(0))
    }

    /// Looks whether the recovery admins are those that were seen last, or have been changed by their root, step by step, and pins those that
    /// are in force. The first ones are believed.
    pub fn check_admins(&self) -> Result<(), KeystoreError> {
        let told = match wait(self.client.policy(None)) {
            Err(error) if error.code() == Some("not_found") => None,
            told => Some(SignedPolicy::parse(&told?.policy.0)?),
        };
        let known = self.home.load_state(ADMINS)?;
        let known = known.map(|bytes| SignedPolicy::parse(&bytes)).transpose()?;
        let (told, mut known) = match (told, known) {
            (None, None) => return Ok(()),
            (None, Some(_)) => return Err(KeystoreError::NoAdmins),
            (Some(told), None) => return Ok(keep_admins(&self.home, &told)?),
            (Some(told), Some(known)) => (told, known),
        };
        while known.version() + 1 < told.version() {
            let next = wait(self.client.policy(Some(known.version() + 1)))?;
            let next = SignedPolicy::parse(&next.policy.0)?;
            next.expect_after(&known)?;
            known = next;
        }
        told.expect_after(&known)?;
        Ok(keep_admins(&self.home, &told)?)
    }
}

/// The keystore's half of a home's key file: the one that is on this computer while its lease lasts, or else from the keystore.
pub fn half(home: &Home, settings: &Settings) -> Result<DeviceHalf, KeystoreError> {
    if let Some(half) = lease::kept(home)? {
        return Ok(half);
    }
    Keystore::open(home, settings)?.fetch_half()
}

/// Remembers a version of the key's record.
pub fn keep_seen_slots(home: &Home, version: u64) -> Result<(), HomeError> {
    home.make_folders()?;
    home.save_state(SEEN_SLOTS, version.to_string().as_bytes())
}

/// Pins the organisation's recovery admins.
pub fn keep_admins(home: &Home, policy: &SignedPolicy) -> Result<(), HomeError> {
    home.make_folders()?;
    home.save_state(ADMINS, policy.as_bytes())
}

/// Waits for a call, on the program's one runtime.
pub fn wait<T>(call: impl Future<Output = T>) -> T {
    runtime::handle().block_on(call)
}
