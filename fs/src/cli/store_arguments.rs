//! Where an archive is, as `init` and `recover` are told.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use holdfast_backend::store::{ObjectStore, StoreConfig, parse_location};

use crate::archive::{find_path_style, open_home_store, open_store};
use crate::home::Settings;

use super::{CommandError, Context, opening};

/// The store and how to reach it.
#[derive(Args)]
pub struct StoreArguments {
    /// A folder, or s3://BUCKET/PREFIX (credentials come from the environment or an AWS profile)
    store: String,
    #[command(flatten)]
    s3: S3Arguments,
}

/// A store for commands that need no key, and by default use this home's.
#[derive(Args)]
pub struct KeylessStore {
    /// A folder, or s3://BUCKET/PREFIX; this home's archive unless given
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    #[command(flatten)]
    s3: S3Arguments,
}

/// How to reach an S3 store.
#[derive(Args)]
pub struct S3Arguments {
    /// Address of the S3 store, such as https://minio.example.org:9000; AWS unless given
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Region of the bucket
    #[arg(long)]
    region: Option<String>,
    /// Certificates (PEM) to trust in place of the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Whether the bucket stands in the path of the address or in its host name
    #[arg(long, value_enum, default_value_t = PathStyle::Auto)]
    path_style: PathStyle,
    /// The AWS profile with the credentials
    #[arg(long)]
    profile: Option<String>,
}

/// How a bucket is addressed.
#[derive(Clone, Copy, ValueEnum)]
enum PathStyle {
    /// As the store is found to take it
    Auto,
    /// https://host/bucket/object
    Path,
    /// https://bucket.host/object
    Virtual,
}

impl StoreArguments {
    /// New settings for this store. Paths are made absolute: the next command may be given elsewhere.
    pub(super) fn settings(&self, context: &Context) -> Result<Settings, CommandError> {
        self.s3.settings(&self.store, context)
    }
}

impl KeylessStore {
    /// The settings of the given store, or this home's.
    pub(super) fn settings(&self, context: &Context) -> Result<Settings, CommandError> {
        match &self.store {
            Some(store) => self.s3.settings(store, context),
            None => opening::settings(&opening::home()?, context),
        }
    }

    /// The store of these settings.
    pub(super) fn open(&self, settings: &Settings) -> Result<Arc<dyn ObjectStore>, CommandError> {
        let store = match settings.server {
            None => open_store(settings),
            Some(_) => open_home_store(&opening::home()?, settings),
        };
        store.map_err(CommandError::from_error)
    }
}

impl S3Arguments {
    fn settings(&self, store: &str, context: &Context) -> Result<Settings, CommandError> {
        let config = parse_location(store).map_err(CommandError::from_error)?;
        let is_s3 = matches!(config, StoreConfig::S3(_));
        let location = match &config {
            StoreConfig::Dir { path } => utf8(absolute(path)?)?,
            _ => store.trim().to_owned(),
        };
        if !is_s3 && (self.endpoint.is_some() || self.region.is_some() || self.profile.is_some()) {
            return Err(CommandError::new(
                "--endpoint, --region and --profile are for an S3 store; write s3://BUCKET/PREFIX, or leave them out",
            ));
        }
        let mut settings = Settings::new(location);
        settings.s3.endpoint = self.endpoint.clone();
        settings.s3.region = self.region.clone();
        settings.s3.ca_file = self.ca_file.as_deref().map(absolute).transpose()?;
        settings.s3.profile = self.profile.clone();
        settings.s3.path_style = match self.path_style {
            PathStyle::Auto => None,
            PathStyle::Path => Some(true),
            PathStyle::Virtual => Some(false),
        };
        opening::limit(&mut settings, context);
        find_path_style(&mut settings).map_err(CommandError::from_error)?;
        Ok(settings)
    }
}

fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    let failed = |error| {
        CommandError::because(
            format!("{} cannot be made an absolute path", path.display()),
            error,
        )
    };
    std::path::absolute(path).map_err(failed)
}

fn utf8(path: PathBuf) -> Result<String, CommandError> {
    path.into_os_string().into_string().map_err(|path| {
        CommandError::new(format!(
            "{} is no UTF-8, which the settings need; choose another folder",
            path.display()
        ))
    })
}

/// The name of this computer, for a device that was given none.
pub(super) fn computer_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "computer".to_owned(),
        name => name.to_owned(),
    }
}
