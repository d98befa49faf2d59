//! `holdfast password`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::proving::prove;
use super::secrets::{ProofArguments, new_password};
use super::{CommandError, Context, Output, devices, opening};
use crate::keystore::{keep_seen_slots, wait};

/// Arguments of `password`.
#[derive(Args)]
pub struct Password {
    #[command(flatten)]
    proof: ProofArguments,
    /// Read the new password from this file instead of asking for it
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

impl Password {
    /// Sets a new password and makes the password's slot of the key anew, both or neither.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let keystore = devices::keystore(context)?;
        let home = opening::home()?;
        let seen = keystore.seen_slots().map_err(CommandError::from_error)?;
        let new_password = new_password(self.new_password_file.as_deref())?;
        let changing = prove(&keystore, &self.proof, Some(new_password))?;
        let change = async {
            let archive = &keystore.server().archive;
            let opened = changing.open(keystore.client(), archive, seen).await?;
            changing.finish(keystore.client(), opened).await
        };
        let version = wait(change).map_err(CommandError::from_error)?;
        keep_seen_slots(&home, version).map_err(CommandError::from_error)?;
        let user = &keystore.server().user;
        let text = format!(
            "The new password of {user} holds from now on, on all devices. The recovery code stays the same.\n"
        );
        Ok(Output::new(
            text,
            json!({ "user": user, "slots_version": version }),
        ))
    }
}
