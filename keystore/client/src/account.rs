//! What enrolment, login and a new password have in common: what can go wrong, and the device that is to be.

use holdfast_protocol::calls::{Bytes64, DeviceCertificate};
use holdfast_protocol::escrow::{CryptoError, Digest, PolicyError, SignedPolicy, SlotsError};
use holdfast_protocol::names::HexBytes;

use crate::address::AddressError;
use crate::error::ClientError;
use crate::identity::{DeviceKey, Identity, IdentityError};

/// Why an enrolment, a login or the change of a password does not go on.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// A call.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// The token's address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The server's certificate for us.
    #[error("the keystore's answer cannot be used: {0}; tell its operators")]
    Identity(#[from] IdentityError),
    /// The record of slots.
    #[error(transparent)]
    Slots(#[from] SlotsError),
    /// The policy of recovery admins.
    #[error("{0}; do not go on, somebody may want to read your files")]
    Policy(#[from] PolicyError),
    /// The policy asks for admins and there are none.
    #[error(
        "your files are to be recoverable by several admins, and the organisation has not named them yet; ask an operator"
    )]
    NoAdmins,
    /// A password that is not the one.
    #[error("user name or password is wrong; try again")]
    WrongPassword,
    /// A message of the password protocol.
    #[error("the keystore's answer cannot be used: {0}; tell its operators")]
    Crypto(CryptoError),
    /// Read back, and it is something else.
    #[error(
        "the keystore does not give back what was stored in it; tell its operators, and do not go on"
    )]
    NotAsStored,
}

impl From<CryptoError> for AccountError {
    fn from(error: CryptoError) -> AccountError {
        match error {
            CryptoError::Authentication { .. } => AccountError::WrongPassword,
            error => AccountError::Crypto(error),
        }
    }
}

impl AccountError {
    /// The code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            AccountError::Call(error) => error.code(),
            _ => None,
        }
    }
}

/// A device that is to be made: who it is in the archive, and the key that its certificate will be for.
pub struct NewDevice<'a> {
    /// Its id, the same as in the archive.
    pub id: HexBytes<8>,
    /// Its name.
    pub name: &'a str,
    /// Its key.
    pub key: &'a DeviceKey,
}

impl NewDevice<'_> {
    pub(crate) fn identity(&self, issued: &DeviceCertificate) -> Result<Identity, AccountError> {
        Ok(self.key.with_certificate(&issued.certificate)?)
    }
}

/// Runs what takes the time and memory of one guess at a password where it holds nothing up.
pub(crate) async fn stretch<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CryptoError> + Send + 'static,
) -> Result<T, AccountError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.expect("it does not panic, and is not cancelled")?)
}

/// The admins that the keystore tells of, if they are the organisation's: signed by the root that is known.
pub(crate) fn admins(
    told: Option<&Bytes64>,
    root: Option<&Digest>,
) -> Result<Option<SignedPolicy>, AccountError> {
    let Some(bytes) = told else {
        return Ok(None);
    };
    let policy = SignedPolicy::parse(&bytes.0)?;
    if let Some(root) = root {
        policy.expect_fingerprint(root)?;
    }
    Ok(Some(policy))
}
