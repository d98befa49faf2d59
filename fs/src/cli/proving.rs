//! Password and second factor, proved to the keystore: before a new password, and before a secret is shown.

use holdfast_keystore_client::escrow::PasswordCost;
use holdfast_keystore_client::{AccountError, Changing, Credentials, Proof};
use zeroize::Zeroizing;

use super::CommandError;
use super::secrets::{Codes, ProofArguments};
use crate::keystore::{Keystore, wait};

/// Proves who is there; `new_password` is registered, and counts when the change is finished.
pub(super) fn prove(
    keystore: &Keystore,
    arguments: &ProofArguments,
    new_password: Option<Zeroizing<String>>,
) -> Result<Changing, CommandError> {
    let password = arguments.password()?;
    let mut codes = arguments.codes()?;
    let new_password = new_password.unwrap_or_else(|| password.clone());
    with_codes(&mut codes, |code| {
        let credentials = Credentials {
            user: keystore.server().user.clone(),
            password: password.clone(),
            cost: PasswordCost::standard(),
        };
        wait(async {
            let proof = Proof::to(keystore.client(), credentials).await?;
            proof.start_change(code, new_password.clone()).await
        })
    })
}

/// Tries with one code after the other as long as it is the code that is refused. A password that is wrong has failed before the code is sent.
pub(super) fn with_codes<T>(
    codes: &mut Codes,
    mut attempt: impl FnMut(Zeroizing<String>) -> Result<T, AccountError>,
) -> Result<T, CommandError> {
    loop {
        let code = codes.next()?;
        match attempt(code) {
            Err(error)
                if matches!(error.code(), Some("login_failed" | "second_factor"))
                    && codes.has_more() =>
            {
                codes.tell_refused(&error.to_string());
            }
            outcome => return outcome.map_err(CommandError::from_error),
        }
    }
}
