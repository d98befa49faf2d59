//! Starting and ending, in order.
//!
//! Start: data folder, audit log (walked whole), database, authority and certificate, table of persons and on first
//! start the first operator, sinks, the line that the server has started, the port. Nothing listens before all of
//! that is good.
//!
//! First operator, if we die between any two steps: the credential's file comes first, then the line, then the table. With a
//! file but no table the next start makes another credential over it; nobody could have used the first.
//!
//! End: the keystore is sealed first, while everything else still works; then no new connection, what is under way
//! finishes, the last line, and the alerts that are queued.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::alerts::{Alerts, SinkError};
use crate::api;
use crate::audit::event::SealReason;
use crate::audit::{Actor, AuditError, AuditLog, Event, OpenError};
use crate::authority::{Authority, AuthorityError};
use crate::background;
use crate::clock::Clock;
use crate::collecting;
use crate::config::{Config, TlsFiles};
use crate::data_folder::{DataFolder, FolderError};
use crate::hygiene::Memory;
use crate::limits::Limits;
use crate::listener;
use crate::metrics::Metrics;
use crate::names::{Fingerprint, Role};
use crate::persons::{Person, Persons, PersonsError, replace_file};
use crate::records::{OpenRecordsError, RedbRecords};
use crate::server::Server;
use crate::sessions::Sessions;
use crate::stores::{OpenStoresError, Stores};
use crate::tls::{TlsError, server_config, server_fingerprint};
use crate::vault::{Vault, VaultError};

/// Name of the operator that the first start makes.
pub const FIRST_OPERATOR: &str = "first-operator";

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] OpenError),
    /// Its first line.
    #[error(transparent)]
    Line(#[from] AuditError),
    /// The database.
    #[error(transparent)]
    Records(#[from] OpenRecordsError),
    /// What is in it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Where the archives are.
    #[error(transparent)]
    Stores(#[from] OpenStoresError),
    /// A certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The table of persons.
    #[error(transparent)]
    Persons(#[from] PersonsError),
    /// An alert's sink.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The first operator's credential.
    #[error(
        "the first operator's credential {path} cannot be written: {source}; check the data folder"
    )]
    Credential {
        /// Its file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The port.
    #[error(
        "{address} cannot be listened on: {source}; choose another address with listen or --listen"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A running server.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Of the certificate that it shows.
    pub fingerprint: Fingerprint,
    /// What its calls share.
    pub server: Arc<Server>,
    ending: watch::Sender<bool>,
    listener: JoinHandle<()>,
    background: JoinHandle<()>,
}

impl Running {
    /// Starts it on the current runtime, by the system's clock.
    pub async fn start(config: Config, memory: Memory) -> Result<Running, StartError> {
        Running::start_at(config, memory, Clock::system()).await
    }

    /// The same by another clock.
    pub async fn start_at(
        config: Config,
        memory: Memory,
        clock: Clock,
    ) -> Result<Running, StartError> {
        // One provider for what is made without being told one; another start in this process has set it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = DataFolder::open(&config.data)?;
        let stores = Stores::open(&config.store, &config.data).await?;
        let server = Arc::new(open(config, folder, stores, memory, clock)?);
        let address = server.config.listen;
        let bad = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(bad)?;
        let address = listener.local_addr().map_err(bad)?;
        // Set this once: the server was made a few lines above.
        let _ = server.listening.set(address);
        let fingerprint = server_fingerprint(&server.tls_files)?;
        let (ending, ended) = watch::channel(false);
        let router = api::router(Arc::clone(&server));
        Ok(Running {
            address,
            fingerprint,
            listener: tokio::spawn(listener::serve(
                listener,
                Arc::clone(&server),
                router,
                ended.clone(),
            )),
            background: tokio::spawn(by_itself(Arc::clone(&server), ended)),
            server,
            ending,
        })
    }

    /// Ends it in order.
    pub async fn end(self) {
        let sealed = self
            .server
            .blocking(|server| server.seal(&Actor::SERVER, SealReason::Ending));
        if let Err(error) = sealed.await {
            tracing::error!(sentence = error.body().sentence, "sealed without a line");
        }
        // Nobody listens any more if both tasks have ended by themselves.
        let _ = self.ending.send(true);
        for task in [self.listener, self.background] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the server had panicked");
            }
        }
        // The failure is logged where it is found; there is nothing left to stop.
        let _ = self.server.record(Actor::SERVER, Event::ServerEnding).await;
        let alerts = self.server.alerts.write().take();
        if let Some(alerts) = alerts {
            alerts.drain().await;
        }
    }
}

/// What the server does by itself.
async fn by_itself(server: Arc<Server>, ended: watch::Receiver<bool>) {
    tokio::join!(
        background::run(Arc::clone(&server), ended.clone()),
        collecting::run(server, ended),
    );
}

fn open(
    config: Config,
    folder: DataFolder,
    stores: Stores,
    memory: Memory,
    clock: Clock,
) -> Result<Server, StartError> {
    let audit = AuditLog::open(&folder.audit_log())?;
    let records = RedbRecords::open(&folder.database())?;
    let authority = Authority::open(&folder.tls())?;
    let tls_files = match &config.tls {
        Some(files) => files.clone(),
        None => {
            let (certificate, key) = authority.server_certificate(&config.names)?;
            TlsFiles { certificate, key }
        }
    };
    let mut authorities = folder.trusted_authorities();
    authorities.push(authority.certificate_pem().to_owned());
    let tls = server_config(&tls_files, &authorities, &clock)?;
    let mut persons = Persons::open(&folder.persons())?;
    if persons.is_empty() {
        make_first_operator(&folder, &authority, &audit, &mut persons)?;
    }
    let metrics = Arc::new(Metrics::new());
    metrics
        .memory_locked
        .set(i64::from(memory == Memory::Locked));
    let alerts = Alerts::start(&config.alerts, &config.audit, Arc::clone(&metrics))?;
    let vault = Vault::load(Arc::new(records), config.ceremony_time())?;
    let started = audit.append(&Actor::SERVER, Event::ServerStarted)?;
    alerts.line(&started);
    Ok(Server {
        clock,
        limits: Limits::new(&config.limits),
        config,
        folder,
        audit,
        alerts: RwLock::new(Some(alerts)),
        metrics,
        persons: RwLock::new(persons),
        authority,
        vault: RwLock::new(vault),
        sessions: Sessions::default(),
        stores,
        collecting: tokio::sync::Mutex::new(()),
        listening: std::sync::OnceLock::new(),
        device_changes: watch::Sender::new(0),
        warnings: Mutex::new(Vec::new()),
        tls_files,
        memory,
        tls: RwLock::new(Arc::new(tls)),
    })
}

fn make_first_operator(
    folder: &DataFolder,
    authority: &Authority,
    audit: &AuditLog,
    persons: &mut Persons,
) -> Result<(), StartError> {
    let name = FIRST_OPERATOR.parse().expect("it is a good name");
    let (credential, fingerprint, public_key) = authority.first_credential(&name);
    let path = folder.first_operator();
    replace_file(&path, credential.as_bytes()).map_err(|source| StartError::Credential {
        path: path.display().to_string(),
        source,
    })?;
    let role = Role::Operator;
    let event = Event::PersonAdded {
        name: name.clone(),
        role,
        fingerprint,
    };
    audit.append(&Actor::SERVER, event)?;
    persons.add(Person {
        name,
        role,
        fingerprint,
        public_key,
        added: Timestamp::now(),
    })?;
    Ok(())
}
