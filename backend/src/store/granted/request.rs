//! The request that a grant allows.
//!
//! Its URL is a secret for some minutes, and comes into no message and no log.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RANGE};
use reqwest::{Client, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;

use super::source::{Grant, GrantSource, SourceError};
use crate::store::{MAX_OBJECT_BYTES, Operation, StoreError, StoreErrorKind, Stored};

const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A connection on which nothing moves for so long is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// The connections to the store; made when it is known whom to trust.
#[derive(Default)]
pub(super) struct Requests(OnceCell<Requester>);

/// Makes requests.
pub(super) struct Requester(Client);

/// What went wrong.
pub(super) enum Failure {
    /// There is no grant.
    Source(SourceError),
    /// The store answers with an error, or not at all.
    Store(StoreErrorKind, String),
    /// The object is shorter than the range.
    BeyondEnd,
    /// The object is larger than any can be.
    TooLarge,
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Failure {
        Failure::Source(error)
    }
}

impl Failure {
    pub(super) fn kind(&self) -> StoreErrorKind {
        match self {
            Failure::Source(error) => error.kind,
            Failure::Store(kind, _) => *kind,
            Failure::BeyondEnd | Failure::TooLarge => StoreErrorKind::Damaged,
        }
    }

    pub(super) fn into_error(self, operation: Operation, location: String) -> StoreError {
        let error = StoreError::new(self.kind(), operation, location);
        match self {
            Failure::Source(source) => error.detail(source.sentence.clone()).because(source),
            Failure::Store(StoreErrorKind::NotFound, _) => error,
            Failure::Store(_, sentence) => error.detail(sentence),
            Failure::BeyondEnd => error.detail("it is shorter than what refers to it says"),
            Failure::TooLarge => error.detail("it is larger than any object can be"),
        }
    }
}

impl Requests {
    /// The one client; the source is asked once whom it is to trust.
    pub(super) async fn client(&self, source: &dyn GrantSource) -> Result<&Requester, Failure> {
        let make = || async {
            let described = source.describe().await?;
            Requester::trusting(described.authorities.as_deref())
        };
        self.0.get_or_try_init(make).await
    }
}

impl Requester {
    fn trusting(authorities: Option<&str>) -> Result<Requester, Failure> {
        let bad = |error: &dyn std::fmt::Display| {
            let sentence =
                format!("its certificates cannot be used: {error}; ask whoever set it up");
            Failure::Store(StoreErrorKind::NotConfigured, sentence)
        };
        let mut roots = RootCertStore::empty();
        // What the system has and cannot be read is as if it were not there.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let pem = authorities.unwrap_or_default().as_bytes();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| bad(&error))?;
            roots.add(certificate).map_err(|error| bad(&error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(CONNECT_TIME)
            .read_timeout(SILENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| bad(&error))?;
        Ok(Requester(client))
    }

    /// Stores an object.
    pub(super) async fn put(&self, grant: &Grant, bytes: Bytes) -> Result<Stored, Failure> {
        let request = self.0.put(&grant.url).headers(headers(grant)?).body(bytes);
        let response = request.send().await.map_err(|error| broken(&error))?;
        match response.status() {
            status if status.is_success() => Ok(Stored::New),
            // Its name is its content: who was first does not matter.
            StatusCode::PRECONDITION_FAILED => Ok(Stored::AlreadyThere),
            status => Err(refused(status)),
        }
    }

    /// Loads an object or a range of it.
    pub(super) async fn get(
        &self,
        grant: &Grant,
        range: Option<&Range<u64>>,
    ) -> Result<Bytes, Failure> {
        let mut headers = headers(grant)?;
        if let Some(range) = range {
            let value = format!("bytes={}-{}", range.start, range.end - 1);
            let value = HeaderValue::try_from(value).expect("digits");
            headers.insert(RANGE, value);
        }
        let request = self.0.get(&grant.url).headers(headers);
        let response = request.send().await.map_err(|error| broken(&error))?;
        match (response.status(), range) {
            (StatusCode::OK, None) => collect(response, MAX_OBJECT_BYTES).await,
            (StatusCode::PARTIAL_CONTENT, Some(range)) => {
                match collect(response, range.end - range.start).await {
                    Err(Failure::TooLarge) => Err(answered_otherwise()),
                    collected => collected,
                }
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => Err(Failure::BeyondEnd),
            (status, _) if status.is_success() => Err(answered_otherwise()),
            (status, _) => Err(refused(status)),
        }
    }
}

fn headers(grant: &Grant) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (name, value) in &grant.headers {
        let name = HeaderName::try_from(name).map_err(|_| answered_otherwise())?;
        let value = HeaderValue::try_from(value).map_err(|_| answered_otherwise())?;
        headers.append(name, value);
    }
    Ok(headers)
}

async fn collect(mut response: Response, most: u64) -> Result<Bytes, Failure> {
    let announced = response.content_length().unwrap_or(0);
    if announced > most {
        return Err(Failure::TooLarge);
    }
    let mut collected = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
    while let Some(piece) = response.chunk().await.map_err(|error| broken(&error))? {
        if collected.len() as u64 + piece.len() as u64 > most {
            return Err(Failure::TooLarge);
        }
        collected.extend_from_slice(&piece);
    }
    Ok(collected.freeze())
}

fn refused(status: StatusCode) -> Failure {
    let kind = match status {
        StatusCode::NOT_FOUND => StoreErrorKind::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => StoreErrorKind::Denied,
        StatusCode::INSUFFICIENT_STORAGE => StoreErrorKind::NoSpace,
        // 409: S3 is storing the same name for somebody else, which can still fail.
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::CONFLICT => {
            StoreErrorKind::Transient
        }
        status if status.is_server_error() => StoreErrorKind::Transient,
        _ => StoreErrorKind::Refused,
    };
    Failure::Store(kind, format!("it answers a granted request with {status}"))
}

fn answered_otherwise() -> Failure {
    let sentence = "it answers otherwise than a store does".to_owned();
    Failure::Store(StoreErrorKind::Refused, sentence)
}

/// The innermost error says what happened; the outer ones would repeat the URL.
fn broken(error: &reqwest::Error) -> Failure {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let sentence = match inner.downcast_ref::<reqwest::Error>() {
        Some(_) if error.is_timeout() => "it does not answer in time".to_owned(),
        Some(_) => "the request could not be made".to_owned(),
        None => inner.to_string(),
    };
    Failure::Store(StoreErrorKind::Transient, sentence)
}
