//! `holdfast key show-recovery-code` and `holdfast key export FILE`: after authentication, like whoever logs in.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use holdfast_keystore_client::Opened;
use serde_json::json;

use super::proving::prove;
use super::secrets::{ProofArguments, check_new, write_new};
use super::{CommandError, Context, Output, devices, opening};
use crate::keystore::{keep_seen_slots, wait};

/// Arguments of `key`.
#[derive(Args)]
pub struct Key {
    #[command(subcommand)]
    act: KeyAct,
}

/// What to do with the key.
#[derive(Subcommand)]
enum KeyAct {
    /// Show the recovery code again, after password and second factor
    ShowRecoveryCode {
        #[command(flatten)]
        proof: ProofArguments,
    },
    /// Write the recovery code into a new file, after password and second factor: it opens the archive without the keystore
    Export {
        /// The file, which must not exist yet
        file: PathBuf,
        #[command(flatten)]
        proof: ProofArguments,
    },
}

impl Key {
    /// Runs the act.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        match self.act {
            KeyAct::ShowRecoveryCode { proof } => {
                let opened = open(context, &proof)?;
                let code = recovery_code(&opened)?;
                let text = format!(
                    "Recovery code:\n\n    {}\n\nWhoever has it and can read the store can read everything in the archive.\n",
                    code.as_str()
                );
                Ok(Output::new(text, json!({ "recovery_code": code.as_str() })))
            }
            KeyAct::Export { file, proof } => {
                check_new(Some(&file))?;
                let opened = open(context, &proof)?;
                let code = recovery_code(&opened)?;
                write_new(&file, "recovery code", &code)?;
                let text = format!(
                    "The recovery code is in {}; keep it away from this computer.\n\
                     With it and the store: holdfast recover STORE --recovery-code-file FILE\n",
                    file.display()
                );
                Ok(Output::new(text, json!({ "file": file })))
            }
        }
    }
}

fn open(context: &Context, proof: &ProofArguments) -> Result<Opened, CommandError> {
    let keystore = devices::keystore(context)?;
    let seen = keystore.seen_slots().map_err(CommandError::from_error)?;
    let proved = prove(&keystore, proof, None)?;
    let archive = &keystore.server().archive;
    let opened = wait(proved.open(keystore.client(), archive, seen));
    let opened = opened.map_err(CommandError::from_error)?;
    keep_seen_slots(&opening::home()?, opened.record.version).map_err(CommandError::from_error)?;
    Ok(opened)
}

fn recovery_code(opened: &Opened) -> Result<zeroize::Zeroizing<String>, CommandError> {
    let code = opened.record.recovery_code(&opened.user_key);
    Ok(code.map_err(CommandError::from_error)?.to_printed())
}
