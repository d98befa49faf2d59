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
        let told = tell(&home, &settings);
        if let Err(error) = &told
            && !(self.offline && matches!(error, KeystoreError::Call(_)))
        {
            return Err(CommandError::because(
                "this computer is not logged out; add --offline to wipe it all the same",
                told.err().unwrap_or(KeystoreError::NotEnrolled),
            ));
        }
        home.forget().map_err(CommandError::from_error)?;
        drop(lock);
        let text = match &told {
            Ok(()) => {
                "This computer is logged out: its certificate is worth nothing, and its keys are wiped.\n"
            }
            Err(_) => {
                "The keys on this computer are wiped. The keystore does not know yet: run `holdfast deauthorise` on another device.\n"
            }
        };
        Ok(Output::new(text, json!({ "keystore_told": told.is_ok() })))
    }
}

/// Nothing is to be told if a logout before this one has wiped the certificate already.
fn tell(home: &Home, settings: &Settings) -> Result<(), KeystoreError> {
    if settings.server.is_some() && !home.certificate_file().exists() {
        return Ok(());
    }
    let keystore = Keystore::open(home, settings)?;
    let (client, device) = (keystore.client(), keystore.server().device);
    Ok(wait(async {
        client.deauthorise_device(device).await?;
        client.confirm_wiped().await
    })?)
}
