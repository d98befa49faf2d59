//! One connection: TCP, TLS, HTTP/2. Calls go over it side by side, and it notices within twenty seconds that nobody is there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_protocol::calls::LOGIN_EXPORTER;
use holdfast_protocol::names::Fingerprint;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::address::ServerAddress;
use crate::error::ClientError;
use crate::identity::fingerprint;

const CONNECT_TIME: Duration = Duration::from_secs(10);
const PING_EACH: Duration = Duration::from_secs(10);
/// More than any answer has; a server that sends on and on is cut off.
const ANSWER_BYTES: usize = 8 << 20;

/// An open connection.
#[derive(Clone)]
pub(crate) struct Connection {
    address: ServerAddress,
    requests: SendRequest<Full<Bytes>>,
    exported: Arc<zeroize::Zeroizing<[u8; 32]>>,
    shown: Fingerprint,
}

/// What is asked.
#[derive(Clone)]
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// JSON.
    pub(crate) body: Option<Bytes>,
    pub(crate) within: Duration,
}

/// An answer that is a refusal or not.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
pub(crate) enum NoAnswer {
    /// The connection was gone before the question was sent: it can be asked again on another one.
    NotAsked,
    /// It may have been asked.
    Failed(ClientError),
}

impl Connection {
    /// Connects, shakes hands, and says hello.
    pub(crate) async fn open(
        address: &ServerAddress,
        config: Arc<ClientConfig>,
    ) -> Result<Connection, ClientError> {
        match timeout(CONNECT_TIME, connect(address, config)).await {
            Ok(connected) => connected,
            Err(_) => Err(unreachable(address, "it took too long to connect")),
        }
    }

    /// Whether nothing can be asked any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    pub(crate) fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// The last certificate that the server showed: its authority's, or its own if there is no other.
    pub(crate) fn shown(&self) -> Fingerprint {
        self.shown
    }

    /// 32 bytes that only the two ends of this connection know.
    pub(crate) fn exported(&self) -> &[u8; 32] {
        &self.exported
    }

    /// Asks, and waits for the whole answer.
    pub(crate) async fn ask(&self, question: &Question) -> Result<Answer, NoAnswer> {
        match timeout(question.within, self.ask_patiently(question)).await {
            Ok(answer) => answer,
            Err(_) => {
                let seconds = question.within.as_secs();
                let sentence = format!("no answer within {seconds} seconds");
                Err(NoAnswer::Failed(unreachable(&self.address, sentence)))
            }
        }
    }

    async fn ask_patiently(&self, question: &Question) -> Result<Answer, NoAnswer> {
        let mut requests = self.requests.clone();
        let request = self.request(question).map_err(NoAnswer::Failed)?;
        requests.ready().await.map_err(|_| NoAnswer::NotAsked)?;
        let response = requests.try_send_request(request).await;
        let response = response.map_err(|mut failed| match failed.take_message() {
            Some(_) => NoAnswer::NotAsked,
            None => NoAnswer::Failed(self.broken(failed.error())),
        })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES);
        let body = body.collect().await.map_err(|error| {
            NoAnswer::Failed(match error.downcast_ref::<LengthLimitError>() {
                Some(_) => self.strange("an answer without an end"),
                None => unreachable(&self.address, innermost(&*error)),
            })
        })?;
        Ok(Answer {
            status,
            body: body.to_bytes(),
        })
    }

    fn request(&self, question: &Question) -> Result<Request<Full<Bytes>>, ClientError> {
        let uri = format!("{}{}", self.address, question.path);
        let mut request = Request::builder().method(&question.method).uri(uri);
        if question.body.is_some() {
            let json = HeaderValue::from_static("application/json");
            request = request.header(CONTENT_TYPE, json);
        }
        request
            .body(Full::new(question.body.clone().unwrap_or_default()))
            .map_err(|error| self.strange(error))
    }

    fn broken(&self, error: &hyper::Error) -> ClientError {
        unreachable(&self.address, innermost(error))
    }

    /// It was closed before anything was asked.
    pub(crate) fn gone(&self) -> ClientError {
        unreachable(&self.address, "the connection broke")
    }

    pub(crate) fn strange(&self, sentence: impl ToString) -> ClientError {
        ClientError::Strange {
            address: self.address.clone(),
            sentence: sentence.to_string(),
        }
    }
}

async fn connect(
    address: &ServerAddress,
    config: Arc<ClientConfig>,
) -> Result<Connection, ClientError> {
    let away = |error: std::io::Error| unreachable(address, error);
    let stream = TcpStream::connect((address.host(), address.port()))
        .await
        .map_err(away)?;
    stream.set_nodelay(true).map_err(away)?;
    let shaken = TlsConnector::from(config)
        .connect(address.server_name(), stream)
        .await
        .map_err(|error| handshake_failed(address, &error))?;
    let (_, session) = shaken.get_ref();
    if session.alpn_protocol() != Some(b"h2") {
        return Err(ClientError::Strange {
            address: address.clone(),
            sentence: "it does not speak HTTP/2".to_owned(),
        });
    }
    let exported = session
        .export_keying_material([0; 32], LOGIN_EXPORTER, None)
        .expect("the handshake is over, and 32 bytes are no lot");
    let shown = session.peer_certificates().and_then(<[_]>::last);
    let shown = shown
        .map(fingerprint)
        .expect("every server shows a certificate");
    let broken = |error: hyper::Error| unreachable(address, innermost(&error));
    let (requests, driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EACH)
        .keep_alive_timeout(PING_EACH)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(shaken))
        .await
        .map_err(broken)?;
    // Ends when the last handle is dropped or the connection breaks; whoever asks is told of that.
    tokio::spawn(async move { drop(driver.await) });
    Ok(Connection {
        address: address.clone(),
        requests,
        exported: Arc::new(exported.into()),
        shown,
    })
}

fn handshake_failed(address: &ServerAddress, error: &std::io::Error) -> ClientError {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(rustls::Error::General(sentence)) => untrusted(address, sentence),
        Some(error @ rustls::Error::InvalidCertificate(_)) => untrusted(
            address,
            format!("{error}; check the address, and the clocks of both ends"),
        ),
        _ => unreachable(address, error),
    }
}

pub(crate) fn untrusted(address: &ServerAddress, sentence: impl ToString) -> ClientError {
    ClientError::Untrusted {
        address: address.clone(),
        sentence: sentence.to_string(),
    }
}

fn unreachable(address: &ServerAddress, sentence: impl ToString) -> ClientError {
    ClientError::Unreachable {
        address: address.clone(),
        sentence: sentence.to_string(),
    }
}

/// The outer errors say only that something failed, the innermost says what.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
