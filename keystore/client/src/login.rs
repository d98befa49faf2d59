//! The calls that prove a password. The proof holds on one connection: 32 bytes of its TLS keys (RFC 5705) go into it, so that
//! nobody who ends the connection can pass the messages on.

use std::sync::Arc;

use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use holdfast_protocol::calls::{
    FinishLogin, LoggedIn, LoginStarted, PasswordChangeStarted, StartLogin, StartPasswordChange,
};
use holdfast_protocol::names::Fingerprint;

use crate::address::ServerAddress;
use crate::client::{question, read};
use crate::connection::{Connection, NoAnswer};
use crate::error::ClientError;
use crate::trust::unproven_config;

/// A connection that stays the same one.
pub struct LoginConnection(Connection);

impl LoginConnection {
    pub(crate) fn new(connection: Connection) -> LoginConnection {
        LoginConnection(connection)
    }

    /// To a server that is not known: only what proves that it is the keystore may go over it.
    pub(crate) async fn to_unknown(
        address: &ServerAddress,
    ) -> Result<LoginConnection, ClientError> {
        let config = Arc::new(unproven_config());
        Connection::open(address, config).await.map(LoginConnection)
    }

    /// Where it went, and which authority the server showed: to be pinned, if it has proved itself.
    pub(crate) fn end(self) -> (ServerAddress, Fingerprint) {
        (self.0.address().clone(), self.0.shown())
    }

    /// What both ends put into the proof.
    pub fn context(&self) -> &[u8; 32] {
        self.0.exported()
    }

    /// `POST login/start`
    pub async fn start(&self, body: &StartLogin) -> Result<LoginStarted, ClientError> {
        self.post("/v1/login/start", body).await
    }

    /// `POST login/finish`
    pub async fn finish(&self, body: &FinishLogin) -> Result<LoggedIn, ClientError> {
        self.post("/v1/login/finish", body).await
    }

    /// `POST password/start`, which ends a login as `login/finish` does and makes no device.
    pub async fn start_password_change(
        &self,
        body: &StartPasswordChange,
    ) -> Result<PasswordChangeStarted, ClientError> {
        self.post("/v1/password/start", body).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let question = question(Method::POST, path, Some(body));
        match self.0.ask(&question).await {
            Ok(answer) => read(&self.0, answer),
            Err(NoAnswer::Failed(error)) => Err(error),
            Err(NoAnswer::NotAsked) => Err(self.0.gone()),
        }
    }
}
