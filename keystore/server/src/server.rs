//! The running server: everything that its calls share.
//!
//! The order of locks: vault, then persons, then the audit log (inside of itself). No lock is held while a sink is waited for,
//! and none across an `await`.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::alerts::Alerts;
use holdfast_protocol::calls::StoreDescription;

use crate::accounts::Account;
use crate::api::access::Caller;
use crate::api::error::{ApiError, ErrorCode};
use crate::audit::{Actor, AuditLog, Event, Line, Trouble};
use crate::authority::Authority;
use crate::clock::Clock;
use crate::config::{Config, TlsFiles};
use crate::data_folder::DataFolder;
use crate::hygiene::Memory;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::names::{LineHash, PersonName};
use crate::persons::Persons;
use crate::sessions::Sessions;
use crate::stores::Stores;
use crate::tls::{TlsError, pinned_certificate, server_config};
use crate::vault::Vault;

/// What the keystore is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// There are no shares yet.
    Uninitialised,
    /// It has no key in memory.
    Sealed,
    /// It is open.
    Unsealed,
}

/// Everything that the calls share.
pub struct Server {
    /// What time it is.
    pub clock: Clock,
    /// As read at the start.
    pub config: Config,
    /// Where everything lies.
    pub folder: DataFolder,
    /// The hash chain.
    pub audit: AuditLog,
    /// Who is told; nobody any more once the server ends.
    pub alerts: RwLock<Option<Alerts>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// How often somebody may try.
    pub limits: Limits,
    /// Who may come in.
    pub persons: RwLock<Persons>,
    /// Issues certificates.
    pub authority: Authority,
    /// Sealed or open.
    pub vault: RwLock<Vault>,
    /// Enrolments and logins under way.
    pub sessions: Sessions,
    /// Where the users' archives are.
    pub stores: Stores,
    /// Held while gc runs.
    pub collecting: tokio::sync::Mutex<()>,
    /// Where it listens, once it does.
    pub listening: OnceLock<SocketAddr>,
    /// Counts deauthorised devices, for those who wait to hear of it.
    pub device_changes: watch::Sender<u64>,
    /// What was found out at the last unseal that somebody should look at.
    pub warnings: Mutex<Vec<Warning>>,
    /// Certificate and key that the server shows.
    pub tls_files: TlsFiles,
    /// Whether pages are locked.
    pub memory: Memory,
    pub(crate) tls: RwLock<Arc<ServerConfig>>,
}

/// Something that an operator should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// The table of persons was changed behind the server's back.
    PersonsChangedOutside,
    /// The database is older than the audit log says.
    DatabaseRolledBack,
    /// The audit log has not the line that the database remembers.
    AuditLogCutShort,
    /// There is no snapshot that is new enough.
    SnapshotOverdue,
    /// Pages are not locked in memory.
    MemoryNotLocked,
}

impl Server {
    /// What the keystore is at the moment.
    pub fn phase(&self) -> Phase {
        self.vault.read().phase()
    }

    /// Where users reach it, for their enrolment tokens.
    pub fn public_address(&self) -> String {
        if let Some(address) = &self.config.users.address {
            return address.as_str().trim_end_matches('/').to_owned();
        }
        let port = self.listening.get().unwrap_or(&self.config.listen).port();
        let name = self
            .config
            .names
            .first()
            .map_or("localhost", String::as_str);
        format!("https://{name}:{port}")
    }

    /// Counts a try to enrol or log in as somebody. Past the limit it is refused, and put on record as long as other refusals are.
    pub fn count_try(&self, caller: &Caller, user: &PersonName) -> Result<(), ApiError> {
        if self.limits.login(user, caller.address).is_ok() {
            return Ok(());
        }
        if self.limits.failure(caller.address).is_ok() {
            let event = Event::LoginLimited { user: user.clone() };
            self.record_now(&caller.actor(), event)?;
        }
        Err(ApiError::new(
            ErrorCode::TooOften,
            "too many tries to enrol or log in in a short time",
            "wait an hour and try again",
        ))
    }

    /// What the grants are for.
    pub fn store_description(
        &self,
        vault: &Vault,
        account: &Account,
    ) -> Result<StoreDescription, ApiError> {
        let authority = pinned_certificate(&self.tls_files).map_err(|error| {
            tracing::error!(%error, "the server's certificate");
            ApiError::storage()
        })?;
        let used = self.used_bytes(vault, account)?;
        Ok(self
            .stores
            .describe(account.quota_bytes, used, Some(authority)))
    }

    /// What a user has stored, as far as is known.
    pub fn used_bytes(&self, vault: &Vault, account: &Account) -> Result<u64, ApiError> {
        let Some(enrolled) = &account.enrolled else {
            return Ok(0);
        };
        match self.stores.is_open(&enrolled.archive) {
            Some(archive) if archive.is_counted() => Ok(archive.used()),
            Some(archive) => {
                archive.remember(vault.usage(&enrolled.archive)?);
                Ok(archive.used())
            }
            None => Ok(vault.usage(&enrolled.archive)?.unwrap_or(0)),
        }
    }

    /// What the listener shakes hands with.
    pub fn tls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.tls.read())
    }

    /// Reads the trusted authorities again, after a snapshot has brought one.
    pub fn renew_tls(&self) -> Result<(), TlsError> {
        let mut authorities = self.folder.trusted_authorities();
        authorities.push(self.authority.certificate_pem().to_owned());
        *self.tls.write() = Arc::new(server_config(&self.tls_files, &authorities, &self.clock)?);
        Ok(())
    }

    /// Puts a line on disk, then tells whoever wants to know of it. No line, no act.
    pub fn record_now(&self, actor: &Actor, event: Event) -> Result<Line, ApiError> {
        match self.audit.append(actor, event) {
            Ok(line) => {
                self.metrics.audit_lines.inc();
                self.metrics.audit_trouble.set(0);
                if let Some(alerts) = &*self.alerts.read() {
                    alerts.line(&line);
                }
                Ok(line)
            }
            Err(error) => {
                self.metrics.audit_failures.inc();
                tracing::error!(%error, "no audit line, no act");
                self.tell_of_trouble(error.trouble);
                Err(error.into())
            }
        }
    }

    /// The same, off the threads that serve connections.
    pub async fn record(self: &Arc<Self>, actor: Actor, event: Event) -> Result<Line, ApiError> {
        self.blocking(move |server| server.record_now(&actor, event))
            .await
    }

    /// Runs what waits for the disk off the threads that serve connections.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Server) -> T + Send + 'static,
    ) -> T {
        let server = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&server)).await {
            Ok(done) => done,
            // A defect; it ends the connection as it would have done without the other thread.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Looks at the audit log without writing; called by `/v1/health` and from time to time.
    pub fn audit_trouble(&self) -> Option<Trouble> {
        let trouble = self.audit.trouble();
        if let Some(trouble) = trouble {
            self.tell_of_trouble(trouble);
        }
        trouble
    }

    /// Remembers a warning until the keystore is opened again.
    pub fn warn(&self, warning: Warning) {
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// All that somebody should look at.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = self.warnings.lock().clone();
        if self.memory == Memory::NotLocked {
            warnings.push(Warning::MemoryNotLocked);
        }
        warnings
    }

    /// The highest generation of the database that the audit log tells of; 0 if it tells of none.
    pub(crate) fn newest_generation(&self) -> u64 {
        self.audit.newest_generation().unwrap_or_else(|error| {
            tracing::error!(%error, "the audit log cannot be read");
            0
        })
    }

    /// Whether the audit log has the line that the barrier remembers.
    pub(crate) fn audit_has(&self, sequence: u64, hash: &LineHash) -> bool {
        self.audit.has(sequence, hash).unwrap_or_else(|error| {
            tracing::error!(%error, "the audit log cannot be read");
            false
        })
    }

    /// Once for each trouble: the gauge remembers whether it was told.
    fn tell_of_trouble(&self, trouble: Trouble) {
        if self.metrics.audit_trouble.set(1) == 1 {
            return;
        }
        if let Some(alerts) = &*self.alerts.read() {
            alerts.raise(format!("{}; {}", trouble.sentence(), trouble.next_step()));
        }
    }
}
