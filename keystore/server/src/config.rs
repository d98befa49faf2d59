//! The configuration: one TOML file, everything optional but the data folder.
//!
//! It is read once at the start and checked whole: what is accepted cannot be wrong later for a reason that could be
//! seen now. Passwords and tokens stand in files of their own, never in this one and never in the environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_backend::store::{S3Config, StoreConfig, parse_location};
use serde::Deserialize;
use url::Url;

/// Everything that `serve` goes by.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the database, the audit log, the certificates and the snapshots lie.
    pub data: PathBuf,
    /// Address and port to listen on.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Host names and addresses in the certificate that is made on first start.
    #[serde(default = "default_names")]
    pub names: Vec<String>,
    /// A certificate from elsewhere.
    pub tls: Option<TlsFiles>,
    /// Ceremonies.
    #[serde(default)]
    pub ceremonies: Ceremonies,
    /// How often somebody may try.
    #[serde(default)]
    pub limits: Limits,
    /// Users.
    #[serde(default)]
    pub users: Users,
    /// Where the users' archives are.
    #[serde(default)]
    pub store: Store,
    /// Copies of the audit log elsewhere.
    #[serde(default)]
    pub audit: Audit,
    /// Who is told of what happens.
    #[serde(default)]
    pub alerts: Alerts,
    /// Copies of the database.
    #[serde(default)]
    pub snapshots: Snapshots,
    /// When the data key is changed.
    #[serde(default)]
    pub rotation: Rotation,
    /// Whether pages must be locked in memory.
    #[serde(default)]
    pub lock_memory: LockMemory,
}

/// A server certificate with its key, both PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// `[ceremonies]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ceremonies {
    /// After this a ceremony that is not finished is over.
    pub expire_minutes: u64,
}

/// `[limits]`: tries per minute; as many at once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Shares that one person may submit or have verified.
    pub shares_per_person: u32,
    /// The same for one address.
    pub shares_per_address: u32,
    /// Refused calls of one address before it is not listened to any more.
    pub failures_per_address: u32,
    /// Connections at once.
    pub connections: usize,
    /// Tries to enrol or log in as one user, per hour.
    pub logins_per_user: u32,
    /// The same from one address.
    pub logins_per_address: u32,
}

/// `[users]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Users {
    /// `https://HOST:PORT` as users write it, for their enrolment tokens; by default the first of `names` and the port of `listen`.
    pub address: Option<Url>,
    /// Days in which deactivating a user can be undone.
    pub undo_days: u16,
}

/// `[store]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// A folder that is there, which the server serves; by default `objects` in the data folder.
    pub folder: Option<PathBuf>,
    /// `s3://BUCKET/PREFIX`. Credentials come from the environment, a profile or the machine's role.
    pub s3: Option<String>,
    /// Address of the bucket's server; none is AWS.
    pub endpoint: Option<Url>,
    /// The same as devices reach it, if that is another one.
    pub public_endpoint: Option<Url>,
    /// The bucket's region.
    pub region: Option<String>,
    /// Certificates (PEM) to trust for it, also by devices.
    pub ca_file: Option<PathBuf>,
    /// Whether the bucket goes into the path of the address (`true`) or into its host name.
    pub path_style: Option<bool>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// Days between condemning and deleting.
    pub grace_days: u32,
    /// What nobody needs is looked for every so many hours; 0 for never.
    pub gc_every_hours: u64,
}

/// `[audit]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Gets every line with its hash.
    pub webhook: Option<Webhook>,
    /// Whether every line goes to the local syslog, too.
    pub syslog: bool,
}

/// `[alerts]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// HTTPS addresses that get a JSON document.
    pub webhook: Vec<Webhook>,
    /// Mail.
    pub mail: Vec<Mail>,
    /// For one try.
    pub timeout_seconds: u64,
    /// Tries for one alert, with growing pauses.
    pub tries: u32,
    /// Alerts that wait; more than that are dropped and counted.
    pub queue: usize,
}

/// One address that gets JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// `https://`; `http://` only to this computer.
    pub url: Url,
    /// A file with a token that is sent as `Authorization: Bearer`.
    pub token_file: Option<PathBuf>,
    /// An authority that this computer does not know otherwise, PEM.
    pub ca_file: Option<PathBuf>,
}

/// One mail server and who gets mail from it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// Host name of the server.
    pub server: String,
    /// Its port; by default the one that goes with `tls`.
    pub port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: MailTls,
    /// Sender.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
    /// For a server that asks.
    pub username: Option<String>,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// An authority that this computer does not know otherwise, PEM.
    pub ca_file: Option<PathBuf>,
}

/// How a connection to a mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailTls {
    /// Begins in the clear, and goes on only encrypted (port 587).
    #[default]
    Starttls,
    /// Encrypted from the first byte (port 465).
    Implicit,
    /// Not at all: only to this computer (port 25).
    None,
}

/// `[snapshots]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Snapshots {
    /// One every so many hours; 0 for none.
    pub every_hours: u64,
    /// So many are kept.
    pub keep: usize,
    /// Where; by default `snapshots` in the data folder.
    pub folder: Option<PathBuf>,
}

/// `[rotation]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rotation {
    /// A new data key after so many days.
    pub every_days: u64,
    /// Or after so many writes.
    pub writes: u64,
}

/// Whether pages must be locked in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMemory {
    /// As far as the system lets; status says whether it did.
    #[default]
    Try,
    /// The server does not start otherwise.
    Require,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not readable.
    #[error("the configuration {} cannot be read: {source}; check the path", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or something that we do not know.
    #[error("{}: {sentence}; docs/operations.md lists what can stand there", .path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Line and mistake.
        sentence: String,
    },
    /// A value that cannot be.
    #[error("{key} {sentence}")]
    Value {
        /// Where it stands.
        key: &'static str,
        /// What is wrong, and what to write.
        sentence: String,
    },
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8470))
}

fn default_names() -> Vec<String> {
    vec!["localhost".to_owned(), "127.0.0.1".to_owned()]
}

impl Default for Ceremonies {
    fn default() -> Self {
        Ceremonies { expire_minutes: 60 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            shares_per_person: 10,
            shares_per_address: 30,
            failures_per_address: 30,
            connections: 1024,
            logins_per_user: 10,
            logins_per_address: 60,
        }
    }
}

impl Default for Users {
    fn default() -> Self {
        Users {
            address: None,
            undo_days: 30,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Store {
            folder: None,
            s3: None,
            endpoint: None,
            public_endpoint: None,
            region: None,
            ca_file: None,
            path_style: None,
            profile: None,
            grace_days: 30,
            gc_every_hours: 24,
        }
    }
}

impl Store {
    /// The bucket, as the server sees it.
    pub fn bucket(&self) -> Result<Option<S3Config>, ConfigError> {
        let Some(location) = &self.s3 else {
            return Ok(None);
        };
        let bad = |sentence: String| ConfigError::Value {
            key: "store.s3",
            sentence,
        };
        match parse_location(location) {
            Ok(StoreConfig::S3(bucket)) => Ok(Some(S3Config {
                endpoint: self.endpoint.as_ref().map(address),
                region: self.region.clone(),
                ca_file: self.ca_file.clone(),
                path_style: self.path_style,
                profile: self.profile.clone(),
                ..bucket
            })),
            Ok(_) => Err(bad(
                "names no bucket; write s3://BUCKET/PREFIX, or folder for a folder".to_owned(),
            )),
            Err(error) => Err(bad(format!("cannot be used: {error}"))),
        }
    }

    /// The same as devices see it.
    pub fn public(&self, bucket: &S3Config) -> S3Config {
        let endpoint = self.public_endpoint.as_ref().map(address);
        S3Config {
            endpoint: endpoint.or_else(|| bucket.endpoint.clone()),
            ..bucket.clone()
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.bucket()?;
        if self.s3.is_some() && self.folder.is_some() {
            return wrong("store", "names a bucket and a folder; write one of them");
        }
        let only_of_buckets = self.endpoint.is_some() || self.public_endpoint.is_some();
        if self.s3.is_none() && only_of_buckets {
            return wrong(
                "store.endpoint",
                "is for a bucket; write s3, too, or leave it out",
            );
        }
        for endpoint in self.endpoint.iter().chain(&self.public_endpoint) {
            if !matches!(endpoint.scheme(), "http" | "https") || endpoint.password().is_some() {
                return wrong(
                    "store.endpoint",
                    "is no https:// or http:// address without a password; write https://HOST:PORT",
                );
            }
        }
        at_least_one("store.grace_days", self.grace_days.into())
    }
}

/// As the library wants it: without the `/` that a path of nothing has.
fn address(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

impl Default for Alerts {
    fn default() -> Self {
        Alerts {
            webhook: Vec::new(),
            mail: Vec::new(),
            timeout_seconds: 10,
            tries: 5,
            queue: 256,
        }
    }
}

impl Default for Snapshots {
    fn default() -> Self {
        Snapshots {
            every_hours: 24,
            keep: 14,
            folder: None,
        }
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Rotation {
            every_days: 90,
            writes: 1 << 31,
        }
    }
}

impl Config {
    /// What `serve --data DIR` goes by.
    pub fn for_data(data: &Path) -> Config {
        Config {
            data: data.to_owned(),
            listen: default_listen(),
            names: default_names(),
            tls: None,
            ceremonies: Ceremonies::default(),
            limits: Limits::default(),
            users: Users::default(),
            store: Store::default(),
            audit: Audit::default(),
            alerts: Alerts::default(),
            snapshots: Snapshots::default(),
            rotation: Rotation::default(),
            lock_memory: LockMemory::default(),
        }
    }

    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io {
            path: path.to_owned(),
            source,
        })?;
        Config::parse(path, &text)
    }

    /// Checks the text of a file.
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(text).map_err(|error| ConfigError::Toml {
            path: path.to_owned(),
            sentence: one_sentence(text, &error),
        })?;
        config.check()?;
        Ok(config)
    }

    /// How long a ceremony may last.
    pub fn ceremony_time(&self) -> Duration {
        Duration::from_secs(self.ceremonies.expire_minutes * 60)
    }

    /// Where snapshots lie.
    pub fn snapshot_folder(&self) -> PathBuf {
        let own = || self.data.join("snapshots");
        self.snapshots.folder.clone().unwrap_or_else(own)
    }

    fn check(&self) -> Result<(), ConfigError> {
        at_least_one("ceremonies.expire_minutes", self.ceremonies.expire_minutes)?;
        at_least_one(
            "limits.shares_per_person",
            self.limits.shares_per_person.into(),
        )?;
        at_least_one(
            "limits.shares_per_address",
            self.limits.shares_per_address.into(),
        )?;
        at_least_one(
            "limits.failures_per_address",
            self.limits.failures_per_address.into(),
        )?;
        at_least_one("limits.connections", self.limits.connections as u64)?;
        at_least_one("alerts.timeout_seconds", self.alerts.timeout_seconds)?;
        at_least_one("alerts.tries", self.alerts.tries.into())?;
        at_least_one("alerts.queue", self.alerts.queue as u64)?;
        at_least_one("snapshots.keep", self.snapshots.keep as u64)?;
        at_least_one("rotation.every_days", self.rotation.every_days)?;
        at_least_one("rotation.writes", self.rotation.writes)?;
        if self.ceremonies.expire_minutes > 7 * 24 * 60 {
            return wrong(
                "ceremonies.expire_minutes",
                "is more than a week; write at most 10080",
            );
        }
        if self.names.is_empty() {
            return wrong(
                "names",
                "is empty; write the host name that clients use, or leave it out",
            );
        }
        if self.rotation.writes > 1 << 31 {
            return wrong(
                "rotation.writes",
                "is more than 2147483648, which one key must not exceed; write a smaller number",
            );
        }
        self.store.check()?;
        self.alerts.webhook.iter().try_for_each(Webhook::check)?;
        self.audit.webhook.iter().try_for_each(Webhook::check)?;
        self.alerts.mail.iter().try_for_each(Mail::check)
    }
}

impl Webhook {
    fn check(&self) -> Result<(), ConfigError> {
        let here = self.url.host().is_some_and(|host| match host {
            url::Host::Domain(name) => name == "localhost",
            url::Host::Ipv4(address) => address.is_loopback(),
            url::Host::Ipv6(address) => address.is_loopback(),
        });
        match self.url.scheme() {
            "https" => Ok(()),
            "http" if here => Ok(()),
            _ => wrong(
                "webhook.url",
                &format!(
                    "is {}, which is not https; write an https:// address (http:// only to this computer)",
                    self.url
                ),
            ),
        }
    }
}

impl Mail {
    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            MailTls::Starttls => 587,
            MailTls::Implicit => 465,
            MailTls::None => 25,
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        let here = matches!(self.server.as_str(), "localhost" | "127.0.0.1" | "::1");
        if self.tls == MailTls::None && !here {
            return wrong(
                "alerts.mail.tls",
                "is none, which is for a mail server on this computer only; write starttls or implicit",
            );
        }
        if self.to.is_empty() {
            return wrong("alerts.mail.to", "is empty; write at least one address");
        }
        if self.username.is_some() != self.password_file.is_some() {
            return wrong(
                "alerts.mail.username",
                "needs password_file beside it, and the other way round; write both or none",
            );
        }
        for address in self.to.iter().chain([&self.from]) {
            if address.parse::<lettre::message::Mailbox>().is_err() {
                return wrong(
                    "alerts.mail",
                    &format!(
                        "names \"{address}\", which is no mail address; write name@example.org"
                    ),
                );
            }
        }
        Ok(())
    }
}

fn wrong<T>(key: &'static str, sentence: &str) -> Result<T, ConfigError> {
    Err(ConfigError::Value {
        key,
        sentence: sentence.to_owned(),
    })
}

fn at_least_one(key: &'static str, value: u64) -> Result<(), ConfigError> {
    if value == 0 {
        return wrong(key, "is 0; write at least 1, or leave it out");
    }
    Ok(())
}

/// The line and the mistake, without the drawing around it.
fn one_sentence(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    match error.span() {
        Some(span) => {
            let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
            format!("line {line}: {message}")
        }
        None => message,
    }
}

#[cfg(test)]
mod tests;
