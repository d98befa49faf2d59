//! The SDK's client: addresses, certificates, credentials, time limits.

use std::{error::Error, net::Ipv4Addr, path::PathBuf, time::Duration};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::{
    Client,
    config::{
        Builder, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use thiserror::Error;

use super::S3Config;
use crate::store::{Operation, StoreError, StoreErrorKind};

const CONNECT: Duration = Duration::from_secs(10);

/// From the request to the first byte of the answer; puts have their own limit.
const FIRST_BYTE: Duration = Duration::from_secs(60);

/// Nothing at all moved in this time: the connection is dead.
const STALLED: Duration = Duration::from_secs(20);

/// What AWS and most other stores call their first region.
const DEFAULT_REGION: &str = "us-east-1";

/// What is wrong with a configuration.
#[derive(Debug, Error)]
pub(super) enum ConfigError {
    #[error("no bucket is named; write s3://BUCKET/PREFIX")]
    NoBucket,
    #[error("the endpoint must begin with https:// or http:// and contain no password")]
    Endpoint,
    #[error("cannot read the certificates in {}; check the file", path.display())]
    CaFile {
        path: PathBuf,
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("the file {} contains no certificate (PEM); give the authority's certificate with --ca-file", path.display())]
    NoCertificates { path: PathBuf },
    #[error("the TLS library does not start")]
    Tls {
        source: Box<dyn Error + Send + Sync>,
    },
}

pub(super) fn not_configured(wrong: ConfigError, location: String) -> StoreError {
    let error = StoreError::new(StoreErrorKind::NotConfigured, Operation::Open, location);
    error.detail(wrong.to_string()).because(wrong)
}

pub(super) async fn build(config: &S3Config) -> Result<Client, ConfigError> {
    if config.bucket.is_empty() {
        return Err(ConfigError::NoBucket);
    }
    check_endpoint(config.endpoint.as_deref())?;
    let http = http_client(config)?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    let shared = loader.load().await;
    let region = shared
        .region()
        .cloned()
        .unwrap_or(Region::from_static(DEFAULT_REGION));
    let mut builder = Builder::from(&shared)
        .region(region)
        .force_path_style(path_style(config))
        .retry_config(RetryConfig::disabled())
        // Our own SHA-256 is in every put. The SDK's default, a CRC behind the body, is not
        // understood by all stores.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled()
                .grace_period(STALLED)
                .build(),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT)
                .operation_attempt_timeout(FIRST_BYTE)
                .build(),
        );
    if let Some(endpoint) = &config.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(builder.build()))
}

/// What an address says without being asked: an IP address or `localhost` has no host name in front of
/// it, and on AWS the host name is the rule, but its certificate does not cover a bucket with dots.
pub(crate) fn path_style_by_rule(config: &S3Config) -> Option<bool> {
    let Some(endpoint) = config.endpoint.as_deref() else {
        return Some(config.bucket.contains('.'));
    };
    let authority = endpoint.split("://").last().unwrap_or(endpoint);
    let authority = authority.split('/').next().unwrap_or(authority);
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let is_address = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
    match host {
        _ if is_address || host == "localhost" => Some(true),
        aws if aws.ends_with(".amazonaws.com") => Some(config.bucket.contains('.')),
        _ => None,
    }
}

/// As configured, else by rule, else what nearly all stores understand.
fn path_style(config: &S3Config) -> bool {
    let known = config.path_style.or_else(|| path_style_by_rule(config));
    known.unwrap_or(true)
}

fn check_endpoint(endpoint: Option<&str>) -> Result<(), ConfigError> {
    let Some(endpoint) = endpoint else {
        return Ok(());
    };
    let host = endpoint
        .strip_prefix("https://")
        .or(endpoint.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['@', ' ', '?', '#']) => Ok(()),
        _ => Err(ConfigError::Endpoint),
    }
}

/// An endpoint for messages: nothing before an `@`, nothing behind a `?`.
pub(super) fn without_credentials(endpoint: &str) -> &str {
    let endpoint = endpoint.rsplit('@').next().unwrap_or(endpoint);
    endpoint.split(['?', '#']).next().unwrap_or(endpoint)
}

fn http_client(config: &S3Config) -> Result<SharedHttpClient, ConfigError> {
    let plain = config
        .endpoint
        .as_deref()
        .is_some_and(|url| url.starts_with("http://"));
    let trust = match &config.ca_file {
        Some(path) => TrustStore::empty().with_pem_certificate(read_certificates(path.clone())?),
        // Not loaded where they are not needed: a container may have none.
        None if plain => TrustStore::empty(),
        None => TrustStore::default(),
    };
    let tls = TlsContext::builder().with_trust_store(trust).build();
    let tls = tls.map_err(|source| ConfigError::Tls {
        source: source.into(),
    })?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls)
        .build_https())
}

/// Checked here, because the HTTP client panics on what it cannot read.
fn read_certificates(path: PathBuf) -> Result<Vec<u8>, ConfigError> {
    let wrong = |source: Box<dyn Error + Send + Sync>| ConfigError::CaFile {
        path: path.clone(),
        source,
    };
    let pem = std::fs::read(&path).map_err(|error| wrong(error.into()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string().into()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.into()))?;
    }
    if roots.is_empty() {
        return Err(ConfigError::NoCertificates { path });
    }
    Ok(pem)
}
