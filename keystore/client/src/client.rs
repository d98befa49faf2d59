//! A keystore that is spoken to as one device, or as nobody yet.
//!
//! One connection is shared by all calls and made anew when it is gone. A call that was not sent because the connection had
//! just gone is sent again on the next one; a call that may have arrived is not, unless it only reads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use parking_lot::RwLock;
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use holdfast_protocol::calls::Refused;
use holdfast_protocol::names::Fingerprint;

use crate::address::ServerAddress;
use crate::connection::{Answer, Connection, NoAnswer, Question, untrusted};
use crate::error::ClientError;
use crate::identity::Identity;
use crate::login::LoginConnection;
use crate::trust::client_config;

/// A call that does not wait for anything has answered by then.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Bodies with secrets are shorter, so that serialising them leaves no copy behind.
const BODY_BYTES: usize = 16 << 10;

/// Cheap to clone: clones share the connection.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    address: ServerAddress,
    pin: Fingerprint,
    config: RwLock<Arc<ClientConfig>>,
    connection: Mutex<Option<Connection>>,
}

impl Client {
    /// Makes one; nothing is sent yet. `pin` is the fingerprint of the certificate of the keystore's authority.
    pub fn new(
        address: ServerAddress,
        pin: Fingerprint,
        identity: Option<&Identity>,
    ) -> Result<Client, ClientError> {
        let config = config(&address, pin, identity)?;
        Ok(Client(Arc::new(Shared {
            address,
            pin,
            config: RwLock::new(config),
            connection: Mutex::default(),
        })))
    }

    /// Where the keystore is.
    pub fn address(&self) -> &ServerAddress {
        &self.0.address
    }

    /// The authority that it is recognised by.
    pub fn pin(&self) -> Fingerprint {
        self.0.pin
    }

    /// Shows this certificate from now on. Calls that are under way end on the old connection.
    pub async fn present(&self, identity: &Identity) -> Result<(), ClientError> {
        let config = config(&self.0.address, self.0.pin, Some(identity))?;
        let mut connection = self.0.connection.lock().await;
        *self.0.config.write() = config;
        *connection = None;
        Ok(())
    }

    /// A new connection of its own, for a login.
    pub async fn connect_for_login(&self) -> Result<LoginConnection, ClientError> {
        self.connect().await.map(LoginConnection::new)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(question(Method::GET, path, None::<&()>)).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.call(question(Method::POST, path, Some(body))).await
    }

    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        question: Question,
    ) -> Result<T, ClientError> {
        let connection = self.connection().await?;
        match connection.ask(&question).await {
            Ok(answer) => read(&connection, answer),
            Err(NoAnswer::Failed(error)) if question.method != Method::GET => Err(error),
            // A question that takes as long as it may take is not asked for as long again.
            Err(NoAnswer::Failed(error)) if !connection.is_closed() => Err(error),
            Err(_) => {
                let connection = self.connection().await?;
                match connection.ask(&question).await {
                    Ok(answer) => read(&connection, answer),
                    Err(NoAnswer::Failed(error)) => Err(error),
                    Err(NoAnswer::NotAsked) => Err(connection.gone()),
                }
            }
        }
    }

    /// The one that is open, or a new one. Who comes while it is being made waits for it.
    async fn connection(&self) -> Result<Connection, ClientError> {
        let mut place = self.0.connection.lock().await;
        if let Some(open) = place.as_ref().filter(|open| !open.is_closed()) {
            return Ok(open.clone());
        }
        let made = self.connect().await?;
        *place = Some(made.clone());
        Ok(made)
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let config = Arc::clone(&self.0.config.read());
        Connection::open(&self.0.address, config).await
    }
}

fn config(
    address: &ServerAddress,
    pin: Fingerprint,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, ClientError> {
    client_config(pin, identity).map(Arc::new).map_err(|error| {
        let sentence =
            format!("this computer's certificate cannot be used ({error}); log in again");
        untrusted(address, sentence)
    })
}

/// A question with a JSON body, or none.
pub(crate) fn question(method: Method, path: &str, body: Option<&impl Serialize>) -> Question {
    let body = body.map(|body| {
        let mut json = Zeroizing::new(Vec::with_capacity(BODY_BYTES));
        serde_json::to_writer(&mut *json, body).expect("messages are plain JSON");
        Bytes::from_owner(json)
    });
    Question {
        method,
        path: path.to_owned(),
        body,
        within: ANSWER_TIME,
    }
}

/// What an answer says. An empty one is `null`, which `()` is read from.
pub(crate) fn read<T: DeserializeOwned>(
    connection: &Connection,
    answer: Answer,
) -> Result<T, ClientError> {
    let Answer { status, body } = answer;
    if !status.is_success() {
        return Err(match serde_json::from_slice::<Refused>(&body) {
            Ok(refused) => ClientError::refused(refused),
            Err(_) => connection.strange(format!("status {status}")),
        });
    }
    let body: &[u8] = if body.is_empty() { b"null" } else { &body };
    serde_json::from_slice(body).map_err(|error| connection.strange(error))
}
