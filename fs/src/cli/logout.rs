//! `holdfast logout`

use clap::Args;
use serde_json::json;

use super::{CommandError, Context, Output, opening};
use crate::home::{Home, Settings};
use crate::keystore::{Keystore, KeystoreError, wait};

/// Arguments of `logout`.
#[derive(Args)]
pub struct Logout {
    /// Wipe this computer also if the keystore does not answer; deauthorise the device from another one then
    #[arg(long)]
    offline: bool,
}

impl Logout {
    /// Deauthorises this device and wipes everything of the archive that is on this computer. What is stored stays.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let home = opening::home()?;
        let settings = opening::settings(&home, context)?;
        // A mounted drive holds it: its last writes would be lost.
        let lock = home.lock().map_err(CommandError::from_error)?;
        let told = deauthorise(&home, &settings);
        let keystore = match told {
            Ok(keystore) => keystore,
            Err(KeystoreError::Call(error)) if self.offline => {
                tracing::warn!(%error, "the keystore was not told");
                None
            }
            Err(error) => {
                let what =
                    "this computer is not logged out (--offline wipes it without the keystore)";
                return Err(CommandError::because(what, error));
            }
        };
        home.forget().map_err(CommandError::from_error)?;
        drop(lock);
        if let Some(keystore) = &keystore {
            keystore.confirm_wiped();
        }
        let text = match &keystore {
            Some(_) => {
                "This computer is logged out: its certificate is worth nothing, and its keys are wiped.\n"
            }
            None => {
                "The keys on this computer are wiped. If the keystore does not know yet, run `holdfast deauthorise` on another device.\n"
            }
        };
        let json = json!({ "keystore_told": keystore.is_some() });
        Ok(Output::new(text, json))
    }
}

/// Nothing is to be told if a logout before this one has wiped the certificate already.
fn deauthorise(home: &Home, settings: &Settings) -> Result<Option<Keystore>, KeystoreError> {
    if settings.server.is_some() && !home.certificate_file().exists() {
        return Ok(None);
    }
    let keystore = Keystore::open(home, settings)?;
    let device = keystore.server().device;
    match wait(keystore.client().deauthorise_device(device)) {
        // Another device was faster.
        Err(error) if error.code() == Some("deauthorised") => {}
        told => told?,
    }
    Ok(Some(keystore))
}
