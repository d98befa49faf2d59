//! What the SDK reports, by what to do next.

use std::{error::Error, io};

use aws_sdk_s3::{error::ProvideErrorMetadata, operation::RequestId as _};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::retry::ErrorKind;

use rustls::{CertificateError, Error as TlsError};

use crate::store::{Operation, StoreError, StoreErrorKind};

/// A failed request.
#[derive(Debug)]
pub(super) enum Failure {
    /// The store answered with an error.
    Answered {
        status: u16,
        code: String,
        message: String,
        request: Option<String>,
    },
    /// No usable answer came.
    Unanswered {
        what: &'static str,
        source: Box<dyn Error + Send + Sync>,
    },
    /// Somebody answered who cannot show to be the store.
    Untrusted {
        why: &'static str,
        source: Box<dyn Error + Send + Sync>,
    },
    /// The SDK did not make the request.
    NotAsked {
        source: Box<dyn Error + Send + Sync>,
    },
    /// The body was shorter than announced.
    Short,
    /// The body was longer than any object, or than what was asked for.
    TooLong,
    /// The object ends before the range does.
    BeyondEnd,
    /// A range was asked for and something else came.
    NoRanges,
}

impl<E> From<SdkError<E, HttpResponse>> for Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        match error {
            SdkError::ServiceError(answer) => {
                let meta = answer.err().meta();
                Self::Answered {
                    status: answer.raw().status().as_u16(),
                    code: meta.code().unwrap_or_default().to_owned(),
                    message: meta
                        .message()
                        .unwrap_or_default()
                        .chars()
                        .take(300)
                        .collect(),
                    request: meta.request_id().map(str::to_owned),
                }
            }
            SdkError::TimeoutError(_) => Self::Unanswered {
                what: "it did not answer in time",
                source: Box::new(error),
            },
            SdkError::ResponseError(_) => Self::Unanswered {
                what: "its answer cannot be read",
                source: Box::new(error),
            },
            SdkError::DispatchFailure(_) if untrusted(&error).is_some() => Self::Untrusted {
                why: untrusted(&error).unwrap_or_default(),
                source: Box::new(error),
            },
            SdkError::DispatchFailure(ref failure) => match failure.as_connector_error() {
                // Neither network nor time: no credentials, or a request that cannot be signed. A connection that
                // ends before its answer is told as transient and as neither of both.
                Some(connector)
                    if !connector.is_io()
                        && !connector.is_timeout()
                        && connector.as_other() != Some(ErrorKind::TransientError) =>
                {
                    Self::NotAsked {
                        source: Box::new(error),
                    }
                }
                _ => Self::Unanswered {
                    what: "it cannot be reached; check the endpoint and the network",
                    source: Box::new(error),
                },
            },
            _ => Self::NotAsked {
                source: Box::new(error),
            },
        }
    }
}

impl Failure {
    pub(super) fn cut_off(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unanswered {
            what: "the connection ended too early",
            source: source.into(),
        }
    }

    /// `If-None-Match: *` found something.
    pub(super) fn is_precondition(&self) -> bool {
        matches!(self, Self::Answered { status: 412, .. })
    }

    pub(super) fn is_not_implemented(&self) -> bool {
        matches!(self, Self::Answered { status: 501, .. })
    }

    pub(super) fn is_beyond_end(&self) -> bool {
        matches!(self, Self::Answered { status: 416, .. } | Self::BeyondEnd)
    }

    /// The store compared bytes and checksum, and they differ.
    pub(super) fn is_refused_checksum(&self) -> bool {
        matches!(
            self,
            Self::Answered {
                status: 400..=499,
                ..
            }
        ) && !matches!(
            self.kind(),
            StoreErrorKind::Denied | StoreErrorKind::NotConfigured
        )
    }

    pub(super) fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Answered { status, code, .. } => answered(*status, code),
            Self::Unanswered { .. } | Self::Short => StoreErrorKind::Transient,
            Self::NotAsked { source } if no_credentials(source.as_ref()) => StoreErrorKind::Denied,
            Self::NotAsked { .. } | Self::Untrusted { .. } => StoreErrorKind::NotConfigured,
            Self::TooLong | Self::BeyondEnd => StoreErrorKind::Damaged,
            Self::NoRanges => StoreErrorKind::Refused,
        }
    }

    pub(super) fn into_error(self, operation: Operation, location: &str) -> StoreError {
        let kind = self.kind();
        let error = StoreError::new(kind, operation, location.to_owned());
        match self {
            Self::Answered {
                status,
                code,
                message,
                request,
            } => {
                let advice = advice(kind, &code);
                let request = request
                    .map(|id| format!(", request {id}"))
                    .unwrap_or_default();
                let separator = if message.is_empty() { "" } else { ": " };
                error.detail(format!(
                    "{advice} (status {status} {code}{separator}{message}{request})"
                ))
            }
            Self::Unanswered { what, source } => error
                .detail(format!("{what} ({})", innermost(source.as_ref())))
                .because(source),
            Self::Untrusted { why, source } => error
                .detail(format!("{why} ({})", innermost(source.as_ref())))
                .because(source),
            Self::NotAsked { source } => {
                let advice = match kind {
                    StoreErrorKind::Denied => {
                        "no credentials were found; set AWS_ACCESS_KEY_ID and \
                         AWS_SECRET_ACCESS_KEY, or name a profile"
                    }
                    _ => "the request cannot be made; check endpoint, certificates and region",
                };
                error
                    .detail(format!("{advice} ({})", innermost(source.as_ref())))
                    .because(source)
            }
            Self::Short => error.detail("the connection ended too early"),
            Self::TooLong => error.detail("it is larger than it can be; run `holdfast scrub`"),
            Self::BeyondEnd => error.detail("it is shorter than it should be"),
            Self::NoRanges => error.detail("the store does not load parts of objects"),
        }
    }
}

/// By code where there is one, else by status. Codes: Amazon S3 API reference, "Error responses".
fn answered(status: u16, code: &str) -> StoreErrorKind {
    match code {
        "NoSuchBucket"
        | "InvalidBucketName"
        | "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "TemporaryRedirect" => {
            return StoreErrorKind::NotConfigured;
        }
        "NoSuchKey" => return StoreErrorKind::NotFound,
        "XMinioStorageFull"
        | "XMinioAdminBucketQuotaExceeded"
        | "QuotaExceeded"
        | "InsufficientStorage"
        | "InsufficientCapacity" => return StoreErrorKind::NoSpace,
        "SlowDown"
        | "RequestTimeout"
        | "ServiceUnavailable"
        | "InternalError"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "Throttling" => {
            return StoreErrorKind::Transient;
        }
        // Damaged on the way: the name's digest was computed from the bytes in memory.
        "BadDigest"
        | "XAmzContentSHA256Mismatch"
        | "XAmzContentChecksumMismatch"
        | "IncompleteBody" => return StoreErrorKind::Transient,
        _ => {}
    }
    match status {
        401 | 403 => StoreErrorKind::Denied,
        404 => StoreErrorKind::NotFound,
        507 => StoreErrorKind::NoSpace,
        301 | 302 | 307 | 308 => StoreErrorKind::NotConfigured,
        501 => StoreErrorKind::Refused,
        408 | 409 | 425 | 429 | 500..=599 => StoreErrorKind::Transient,
        _ => StoreErrorKind::Refused,
    }
}

fn advice(kind: StoreErrorKind, code: &str) -> &'static str {
    match (kind, code) {
        (_, "NoSuchBucket") => "there is no such bucket; make it, or check its name",
        (_, "RequestTimeTooSkewed") => "the clock of this computer is wrong; set it",
        (_, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "TemporaryRedirect") => {
            "the bucket is in another region; set the region"
        }
        (StoreErrorKind::NotConfigured, _) => "no bucket was found there; check the location",
        (StoreErrorKind::NotFound, _) => "it is not there",
        (StoreErrorKind::Denied, _) => "permission denied; check the credentials and their rights",
        (StoreErrorKind::NoSpace, _) => "no space left; free some, or raise the quota",
        (StoreErrorKind::Transient, _) => "the store is busy or broken; try again later",
        (StoreErrorKind::Damaged | StoreErrorKind::Refused, _) => "the store refuses the request",
    }
}

/// The SDK has no public type for this, so its words must do; the worst that a change of them
/// costs is the advice about the endpoint in place of the advice about credentials.
fn no_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if text.contains("redentials") || text.contains("identity resolver") {
            return true;
        }
        next = error.source();
    }
    false
}

/// What is wrong with the certificate that was shown, if that is what went wrong.
fn untrusted(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<TlsError>() {
            return Some(match found {
                TlsError::InvalidCertificate(wrong) => match wrong {
                    CertificateError::UnknownIssuer => {
                        "its certificate comes from an authority that is not trusted here; name the \
                         authority's certificate with --ca-file"
                    }
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. } => {
                        "its certificate is for another host name; check the endpoint"
                    }
                    CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. } => {
                        "its certificate is not valid now; renew it, or set the clock of this computer"
                    }
                    _ => "its certificate cannot be accepted; check it, or --ca-file",
                },
                TlsError::InvalidMessage(_) => {
                    "it does not speak TLS; check whether the endpoint is http:// or https://"
                }
                _ => return None,
            });
        }
        next = wrapped(error);
    }
    None
}

/// What an error wraps. An `io::Error` gives as its source not that, but its source.
fn wrapped<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let inside = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    inside
        .map(|inside| inside as &(dyn Error + 'static))
        .or_else(|| error.source())
}

/// The SDK's outer errors say no more than "dispatch failure".
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
