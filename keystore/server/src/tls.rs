//! TLS 1.3 with an optional client certificate.
//!
//! Optional here and asked for by each route, so that `/v1/health` answers a load balancer. What a certificate is worth is not
//! decided here either: the handshake proves that the caller has the key and that one of our authorities signed it; who it is,
//! and whether it is still somebody, is looked up in the table of persons at each request.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::authority::fingerprint;
use crate::clock::Clock;
use crate::config::TlsFiles;
use crate::names::Fingerprint;

/// What is wrong with a certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{} cannot be used: {sentence}; write the path of a PEM file", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        sentence: String,
    },
    /// Certificate and key do not go together, or are of an unknown kind.
    #[error("the certificate {} cannot be used: {source}; check that certificate and key belong together", .path.display())]
    Pair {
        /// The certificate.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// What the server shows and whom it lets shake hands.
pub fn server_config(
    files: &TlsFiles,
    authorities: &[String],
    clock: &Clock,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::File {
        path: files.key.clone(),
        sentence: error.to_string(),
    })?;
    let pair = |source| TlsError::Pair {
        path: files.certificate.clone(),
        source,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authorities)), provider.clone())
            .allow_unauthenticated()
            .build()
            .expect("the roots are not empty: our own authority is among them");
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(clock.clone()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(pair)?;
    // A session that is taken up again would outlive its certificate's end.
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Fingerprint of the certificate that the server shows.
pub fn server_fingerprint(files: &TlsFiles) -> Result<Fingerprint, TlsError> {
    Ok(fingerprint(&certificates(&files.certificate)?[0]))
}

/// What devices pin: the last certificate of the chain that the server shows, which is the authority's own unless another chain is
/// configured.
pub fn pinned_fingerprint(files: &TlsFiles) -> Result<Fingerprint, TlsError> {
    let chain = certificates(&files.certificate)?;
    Ok(fingerprint(chain.last().unwrap_or(&chain[0])))
}

/// The same certificate, PEM, for whoever trusts it and has it not.
pub fn pinned_certificate(files: &TlsFiles) -> Result<String, TlsError> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    certificates(&files.certificate)?;
    let bad = |sentence: String| TlsError::File {
        path: files.certificate.clone(),
        sentence,
    };
    let text =
        std::fs::read_to_string(&files.certificate).map_err(|error| bad(error.to_string()))?;
    // The file may hold the key, too: only the last certificate goes out.
    let last = text.rfind(BEGIN).zip(text.rfind(END));
    match last {
        Some((begin, end)) if begin < end => Ok(format!("{}\n", &text[begin..end + END.len()])),
        _ => Err(bad("the last certificate in it is cut off".to_owned())),
    }
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |sentence: String| TlsError::File {
        path: path.to_owned(),
        sentence,
    };
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(error.to_string()))?;
    if chain.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    Ok(chain)
}

fn roots(authorities: &[String]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for pem in authorities {
        for der in CertificateDer::pem_slice_iter(pem.as_bytes()).flatten() {
            // A certificate that cannot be an authority lets nobody in.
            let _ = roots.add(der);
        }
    }
    roots
}
