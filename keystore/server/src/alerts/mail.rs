//! One mail for each message.

use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::{DeliveryError, Message, SinkError, secret_file};
use crate::config::{Mail, MailTls};

/// Longest subject; the whole sentence stands in the body.
const SUBJECT_CHARACTERS: usize = 100;

pub(super) struct MailSink {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl MailSink {
    pub(super) fn new(config: &Mail, timeout: Duration) -> Result<MailSink, SinkError> {
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.server)
            .port(config.port())
            .timeout(Some(timeout))
            .tls(match config.tls {
                MailTls::Starttls => Tls::Required(tls(config)?),
                MailTls::Implicit => Tls::Wrapper(tls(config)?),
                MailTls::None => Tls::None,
            });
        if let (Some(name), Some(path)) = (&config.username, &config.password_file) {
            let password = secret_file("alerts.mail.password_file", path)?;
            builder = builder.credentials(Credentials::new(name.clone(), password.to_string()));
        }
        Ok(MailSink {
            transport: builder.build(),
            from: mailbox(&config.from)?,
            to: config
                .to
                .iter()
                .map(|to| mailbox(to))
                .collect::<Result<_, _>>()?,
        })
    }

    pub(super) async fn deliver(&self, message: &Message) -> Result<(), DeliveryError> {
        let subject: String = message.sentence.chars().take(SUBJECT_CHARACTERS).collect();
        let mut mail = lettre::Message::builder()
            .from(self.from.clone())
            .subject(format!("[keystore {}] {subject}", message.host))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            mail = mail.to(to.clone());
        }
        let mail = mail
            .body(body(message))
            .map_err(|error| DeliveryError(error.to_string()))?;
        let sent = self.transport.send(mail).await;
        sent.map(drop)
            .map_err(|error| DeliveryError(error.to_string()))
    }
}

fn body(message: &Message) -> String {
    let mut body = format!(
        "{}\n\nserver: {}\ntime: {}\n",
        message.sentence, message.host, message.time
    );
    if let (Some(line), Some(hash)) = (&message.line, &message.hash) {
        let json = String::from_utf8_lossy(&line.to_bytes()).into_owned();
        body.push_str(&format!(
            "audit line {}: {json}\nits hash: {hash}\n",
            line.sequence
        ));
    }
    body
}

fn tls(config: &Mail) -> Result<TlsParameters, SinkError> {
    let mut parameters = TlsParameters::builder(config.server.clone());
    if let Some(path) = &config.ca_file {
        let pem = std::fs::read(path).map_err(|error| {
            bad(
                "alerts.mail.ca_file",
                format!("{}: {error}", path.display()),
            )
        })?;
        let certificate = Certificate::from_pem(&pem)
            .map_err(|error| bad("alerts.mail.ca_file", error.to_string()))?;
        parameters = parameters.add_root_certificate(certificate);
    }
    parameters
        .build_rustls()
        .map_err(|error| bad("alerts.mail", error.to_string()))
}

fn mailbox(address: &str) -> Result<Mailbox, SinkError> {
    address
        .parse()
        .map_err(|_| bad("alerts.mail", format!("\"{address}\" is no mail address")))
}

fn bad(key: &'static str, sentence: String) -> SinkError {
    SinkError { key, sentence }
}
