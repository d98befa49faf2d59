//! `config.toml`: where the store is, and what a user may want to change.
//!
//! Everything but the store has a default; an unknown key is an error, so that a misspelt limit
//! does not pass for one that holds.

use std::path::PathBuf;
use std::time::Duration;

use holdfast_backend::retention::{Keep, Policy};
use holdfast_backend::store::{
    LocationError, OpenOptions, S3Config, StoreConfig, TokenBucket, parse_location,
};
use holdfast_keystore_client::messages::Lease;
use holdfast_keystore_client::names::{Fingerprint, HexBytes, Id, PersonName};
use serde::{Deserialize, Serialize};

const MIB: u64 = 1 << 20;

/// What is in `config.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A folder, or `s3://bucket/prefix`.
    pub store: String,
    /// More about an S3 store.
    #[serde(default, skip_serializing_if = "S3Settings::is_default")]
    pub s3: S3Settings,
    /// The keystore that this computer is enrolled at; the store is then reached through it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerSettings>,
    /// Automatic snapshots.
    #[serde(default)]
    pub snapshots: SnapshotSettings,
    /// How automatic snapshots are thinned out.
    #[serde(default)]
    pub retention: RetentionSettings,
    /// Memory, disk and network.
    #[serde(default)]
    pub limits: LimitSettings,
    /// Days between condemning an object and deleting it.
    #[serde(default = "default_grace_days")]
    pub grace_days: u32,
}

/// A keystore, and who this computer is to it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// `https://HOST:PORT`
    pub address: String,
    /// SHA-256 of the certificate of its authority.
    pub pin: Fingerprint,
    /// Whose archive it is.
    pub user: PersonName,
    /// Its id at the keystore.
    pub archive: Id,
    /// This computer's id, in the archive and at the keystore.
    pub device: HexBytes<8>,
    /// How long the keystore's half of the key may stay on this computer.
    #[serde(default = "default_lease")]
    pub lease: Lease,
}

/// How an S3 store is reached. Credentials come from the environment or an AWS profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Settings {
    /// `https://host:port`; none = AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// A certificate authority of one's own, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Whether the bucket stands in the path; none = found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// The AWS profile with the credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

impl S3Settings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// When automatic snapshots are taken.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotSettings {
    /// Whether there are any, at unmount too.
    pub automatic: bool,
    /// Minutes from one to the next while something changes.
    pub interval_minutes: u32,
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        Self {
            automatic: true,
            interval_minutes: 15,
        }
    }
}

impl SnapshotSettings {
    /// Time between automatic snapshots; `None` = there are none.
    pub fn interval(&self) -> Option<Duration> {
        (self.automatic && self.interval_minutes > 0)
            .then(|| Duration::from_secs(60 * u64::from(self.interval_minutes)))
    }
}

/// Which automatic snapshots stay: a count (`24`), a span (`36h`, `7d`, `8w`, `1y`), `all` or `none`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// Whether snapshots are thinned out without being asked for.
    pub automatic: bool,
    /// The newest so many.
    pub last: u32,
    /// Every one within so many hours.
    pub all_hours: u32,
    /// The first of an hour.
    pub hourly: String,
    /// The first of a day.
    pub daily: String,
    /// The first of a week.
    pub weekly: String,
    /// The first of a month.
    pub monthly: String,
    /// The first of a year.
    pub yearly: String,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        let text = str::to_owned;
        Self {
            automatic: true,
            last: 0,
            all_hours: 24,
            hourly: text("7d"),
            daily: text("30d"),
            weekly: text("1y"),
            monthly: text("all"),
            yearly: text("none"),
        }
    }
}

/// Bounds on what the program uses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// For the whole process: buffers, packs being built, caches.
    pub memory_mib: u64,
    /// For the log; 0 = a tenth of the file system.
    pub log_mib: u64,
    /// For encrypted trees and pieces of packs on disk.
    pub cache_mib: u64,
    /// Bytes per second to the store; 0 = no limit.
    pub upload_bytes_per_second: u64,
    /// Bytes per second from the store; 0 = no limit.
    pub download_bytes_per_second: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            memory_mib: 96,
            log_mib: 0,
            cache_mib: 4096,
            upload_bytes_per_second: 0,
            download_bytes_per_second: 0,
        }
    }
}

/// The configuration cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not TOML, or not these settings.
    #[error("this line is not understood: {0}")]
    Toml(#[from] toml::de::Error),
    /// A retention rule.
    #[error(transparent)]
    Keep(#[from] holdfast_backend::retention::KeepParseError),
    /// Too little to work with.
    #[error("limits.memory_mib is {found}; holdfast needs at least {needed}")]
    TooLittleMemory {
        /// What is there.
        found: u64,
        /// What is needed.
        needed: u64,
    },
}

fn default_lease() -> Lease {
    Lease::Boot
}

fn default_grace_days() -> u32 {
    30
}

/// Two open packs, one that is uploaded, and caches that hold more than one chunk.
const LEAST_MEMORY_MIB: u64 = 48;

impl Settings {
    /// Defaults, for this store.
    pub fn new(store: impl Into<String>) -> Self {
        Self {
            store: store.into(),
            s3: S3Settings::default(),
            server: None,
            snapshots: SnapshotSettings::default(),
            retention: RetentionSettings::default(),
            limits: LimitSettings::default(),
            grace_days: default_grace_days(),
        }
    }

    /// Reads a configuration.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text)?;
        settings.policy()?;
        let found = settings.limits.memory_mib;
        if found < LEAST_MEMORY_MIB {
            return Err(SettingsError::TooLittleMemory {
                found,
                needed: LEAST_MEMORY_MIB,
            });
        }
        Ok(settings)
    }

    /// The configuration as text.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("plain tables of numbers and strings")
    }

    /// The store that is meant.
    pub fn store_config(&self) -> Result<StoreConfig, LocationError> {
        let config = parse_location(&self.store)?;
        let S3Settings {
            endpoint,
            region,
            ca_file,
            path_style,
            profile,
        } = self.s3.clone();
        Ok(match config {
            StoreConfig::S3(bucket) => StoreConfig::S3(S3Config {
                endpoint,
                region,
                ca_file,
                path_style,
                profile,
                ..bucket
            }),
            other => other,
        })
    }

    /// Whether the store is somewhere else than in a folder.
    pub fn is_remote(&self) -> bool {
        self.server.is_some() || !matches!(self.store_config(), Ok(StoreConfig::Dir { .. }))
    }

    /// The limits of the network.
    pub fn open_options(&self) -> OpenOptions {
        OpenOptions {
            up: TokenBucket::new(self.limits.upload_bytes_per_second),
            down: TokenBucket::new(self.limits.download_bytes_per_second),
            ..OpenOptions::default()
        }
    }

    /// The memory budget in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.limits.memory_mib * MIB
    }

    /// The disk cache's limit in bytes.
    pub fn cache_bytes(&self) -> u64 {
        self.limits.cache_mib * MIB
    }

    /// From condemned to deleted.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(86_400 * u64::from(self.grace_days))
    }

    /// Which automatic snapshots stay.
    pub fn policy(&self) -> Result<Policy, SettingsError> {
        let RetentionSettings {
            last,
            all_hours,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            ..
        } = &self.retention;
        Ok(Policy {
            last: *last,
            all_within_seconds: i64::from(*all_hours) * 3600,
            hourly: hourly.parse::<Keep>()?,
            daily: daily.parse::<Keep>()?,
            weekly: weekly.parse::<Keep>()?,
            monthly: monthly.parse::<Keep>()?,
            yearly: yearly.parse::<Keep>()?,
        })
    }
}
