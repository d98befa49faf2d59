//! The other end: what the commands speak to a server with.
//!
//! A credential is one PEM text: the person's certificate, its private key, and the certificate of the keystore's authority, in
//! this order. The server is trusted if the credential's authority, or one that is named besides, has signed its certificate;
//! the system's authorities are not asked, so that none of them can put itself in between.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::api::error::ErrorBody;
use crate::names::Fingerprint;

mod pin;

const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A person's certificate and key, and whom it trusts.
pub struct Credential {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    authorities: Vec<CertificateDer<'static>>,
}

/// Which server is taken for the keystore.
pub enum Trust {
    /// One whose certificate an authority of these has signed, for the host that is called.
    Authorities(Vec<CertificateDer<'static>>),
    /// The one with this certificate, whatever name stands in it.
    Certificate(Fingerprint),
}

/// What went wrong with a call.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The credential is none.
    #[error(
        "{} is no credential: {sentence}; it holds a certificate, its private key and the keystore's authority, in PEM", .path.display()
    )]
    Credential {
        /// Its file.
        path: PathBuf,
        /// Why.
        sentence: String,
    },
    /// Not an address.
    #[error("{url} is no address of a keystore; write https://HOST:PORT")]
    Address {
        /// What was given.
        url: String,
    },
    /// No answer.
    #[error(
        "the keystore {url} does not answer: {sentence}; check the address, and that the server runs"
    )]
    Unreachable {
        /// Where.
        url: Url,
        /// Why.
        sentence: String,
    },
    /// It answers in a way that we do not understand.
    #[error("{url} answers as no keystore does ({sentence}); check the address")]
    Strange {
        /// Where.
        url: Url,
        /// What.
        sentence: String,
    },
    /// It says no.
    #[error("{}; {}", .0.sentence, .0.next_step)]
    Refused(Box<ErrorBody>),
}

impl Credential {
    /// Reads a credential's file.
    pub fn read(path: &Path) -> Result<Credential, ClientError> {
        let bad = |sentence: String| ClientError::Credential {
            path: path.to_owned(),
            sentence,
        };
        let pem = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
        Credential::parse(&Zeroizing::new(pem)).map_err(bad)
    }

    /// The name that its certificate was made out to.
    pub fn name(&self) -> Option<String> {
        let (_, certificate) = X509Certificate::from_der(&self.certificate).ok()?;
        let name = certificate.subject().iter_common_name().next()?;
        name.as_str().ok().map(str::to_owned)
    }

    /// Reads the text of a credential.
    pub fn parse(pem: &[u8]) -> Result<Credential, String> {
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string())?;
        let [certificate, authorities @ ..] = certificates.as_slice() else {
            return Err("there is no certificate in it".to_owned());
        };
        if authorities.is_empty() {
            return Err("the authority's certificate is missing".to_owned());
        }
        let key = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_| "there is no private key in it".to_owned())?;
        Ok(Credential {
            certificate: certificate.clone(),
            key,
            authorities: authorities.to_vec(),
        })
    }
}

/// A keystore that is spoken to as one person.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
}

impl Client {
    /// Makes one; nothing is sent yet. `more` are authorities besides the credential's own.
    pub fn new(
        url: &str,
        credential: &Credential,
        more: &[CertificateDer<'static>],
    ) -> Result<Client, ClientError> {
        let roots = [credential.authorities.as_slice(), more].concat();
        Client::trusting(url, credential, &Trust::Authorities(roots))
    }

    /// The same for a server that is recognised in another way than by the credential's authority.
    pub fn trusting(
        url: &str,
        credential: &Credential,
        trust: &Trust,
    ) -> Result<Client, ClientError> {
        let identity = (credential.certificate.clone(), credential.key.clone_key());
        Client::with(url, trust, Some(identity))
    }

    /// Somebody without a certificate.
    pub fn anonymous(
        url: &str,
        trusted: &[CertificateDer<'static>],
    ) -> Result<Client, ClientError> {
        Client::with(url, &Trust::Authorities(trusted.to_vec()), None)
    }

    /// Calls with a JSON body, or none.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = self.send(request).await?;
        let bytes = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(&error))?;
        // 204 has no body: `()` is read from `null`.
        let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(bytes).map_err(|error| self.strange(error.to_string()))
    }

    /// `GET`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// `POST`.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// A request to the server that is still to be filled in.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.url.clone();
        url.set_path("");
        self.http.request(
            method,
            format!("{}{}", url.as_str().trim_end_matches('/'), path),
        )
    }

    /// Sends it; a refusal becomes an error.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(&error))?;
        match serde_json::from_slice(&bytes) {
            Ok(body) => Err(ClientError::Refused(Box::new(body))),
            Err(_) => Err(self.strange(format!("status {status}"))),
        }
    }

    fn with(
        url: &str,
        trust: &Trust,
        identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    ) -> Result<Client, ClientError> {
        let address = || ClientError::Address {
            url: url.to_owned(),
        };
        let parsed: Url = url.parse().map_err(|_| address())?;
        if parsed.scheme() != "https" || parsed.host().is_none() {
            return Err(address());
        }
        let bad = |error: &dyn std::fmt::Display| ClientError::Credential {
            path: PathBuf::from("the credential"),
            sentence: error.to_string(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has TLS 1.3");
        let builder = match trust {
            Trust::Authorities(authorities) => {
                let mut roots = RootCertStore::empty();
                for certificate in authorities {
                    roots
                        .add(certificate.clone())
                        .map_err(|error| bad(&error))?;
                }
                builder.with_root_certificates(roots)
            }
            Trust::Certificate(fingerprint) => builder
                .dangerous()
                .with_custom_certificate_verifier(pin::Pinned::new(*fingerprint, provider)),
        };
        let tls = match identity {
            Some((certificate, key)) => builder
                .with_client_auth_cert(vec![certificate], key)
                .map_err(|error| bad(&error))?,
            None => builder.with_no_client_auth(),
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(CONNECT_TIME)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| bad(&error))?;
        Ok(Client { http, url: parsed })
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        let mut sentence = String::new();
        let mut source: Option<&dyn std::error::Error> = Some(error);
        // The outer errors say only that something failed, the innermost says what.
        while let Some(inner) = source {
            sentence = inner.to_string();
            source = inner.source();
        }
        ClientError::Unreachable {
            url: self.url.clone(),
            sentence,
        }
    }

    fn strange(&self, sentence: String) -> ClientError {
        ClientError::Strange {
            url: self.url.clone(),
            sentence,
        }
    }
}
