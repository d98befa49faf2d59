//! Which server is taken for the keystore: one whose certificate was signed by the authority that the enrolment token pins, for the
//! host that is called. The pinned certificate itself comes with the handshake. The system's authorities are not asked, so that
//! none of them can put itself in between.
//!
//! A server with a certificate from elsewhere is pinned by its own certificate instead; then neither its name nor its dates count.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use holdfast_protocol::names::Fingerprint;

use crate::identity::{Identity, fingerprint};

/// TLS 1.3 to a server that this pin recognises, with or without a certificate of our own.
pub(crate) fn client_config(
    pin: Fingerprint,
    identity: Option<&Identity>,
) -> Result<ClientConfig, Error> {
    let builder = builder(Some(pin));
    Ok(finished(match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())?,
    }))
}

/// TLS 1.3 to whoever answers. Only what proves the other end may go over it (see `proof`).
pub(crate) fn unproven_config() -> ClientConfig {
    finished(builder(None).with_no_client_auth())
}

fn builder(pin: Option<Fingerprint>) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Pinned {
        pin,
        provider: Arc::clone(&provider),
    });
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
}

fn finished(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Each connection shows the certificate that counts now.
    config.resumption = rustls::client::Resumption::disabled();
    config
}

#[derive(Debug)]
struct Pinned {
    /// Nothing: any server.
    pin: Option<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_pinned = |shown: &CertificateDer<'_>| self.pin == Some(fingerprint(shown));
        if self.pin.is_none() || is_pinned(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let authority = intermediates
            .iter()
            .find(|shown| is_pinned(shown))
            .ok_or_else(|| Error::General(STRANGER.to_owned()))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&self.provider),
        )
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

const STRANGER: &str = "none of its certificates is the one that was pinned at enrolment; \
                        somebody may be in between, ask the keystore's operators";
