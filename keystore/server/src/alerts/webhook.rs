//! One POST of JSON for each message.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::{DeliveryError, Message, SinkError, secret_file};
use crate::config::Webhook;

pub(super) struct WebhookSink {
    client: Client,
    url: url::Url,
}

impl WebhookSink {
    pub(super) fn new(config: &Webhook, timeout: Duration) -> Result<WebhookSink, SinkError> {
        let mut headers = HeaderMap::new();
        if let Some(path) = &config.token_file {
            let token = secret_file("webhook.token_file", path)?;
            let mut value = HeaderValue::from_str(&format!("Bearer {}", *token)).map_err(|_| {
                bad(
                    "webhook.token_file",
                    "a token is one line of letters, digits and marks",
                )
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = Client::builder()
            .tls_backend_preconfigured(tls(config)?)
            .default_headers(headers)
            .timeout(timeout)
            .no_proxy()
            // What we post goes where the configuration says and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| bad("webhook", &error.to_string()))?;
        Ok(WebhookSink {
            client,
            url: config.url.clone(),
        })
    }

    pub(super) async fn deliver(&self, message: &Message) -> Result<(), DeliveryError> {
        let sent = self
            .client
            .post(self.url.clone())
            .json(message)
            .send()
            .await;
        let answer = sent.map_err(|error| DeliveryError(error.without_url().to_string()))?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(DeliveryError(format!(
                "the webhook answered {}",
                answer.status()
            )))
        }
    }
}

fn tls(config: &Webhook) -> Result<ClientConfig, SinkError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &config.ca_file {
        let read = |error| bad("webhook.ca_file", &format!("{}: {error}", path.display()));
        for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
            let added = roots.add(certificate.map_err(read)?);
            added.map_err(|error| bad("webhook.ca_file", &error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn bad(key: &'static str, sentence: &str) -> SinkError {
    SinkError {
        key,
        sentence: sentence.to_owned(),
    }
}
