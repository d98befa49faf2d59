//! `holdfast init STORE`

use clap::Args;
use serde_json::json;

use crate::archive::{Archive, open_store};

use super::store_arguments::{StoreArguments, computer_name};
use super::{CommandError, Context, Output, opening};

/// Arguments of `init`.
#[derive(Args)]
pub struct Init {
    #[command(flatten)]
    store: StoreArguments,
    /// What this computer is called in snapshots/; its host name unless given
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
}

impl Init {
    /// Makes an archive and prints its recovery code, this once.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let home = opening::home()?;
        home.check_unused().map_err(CommandError::from_error)?;
        let settings = self.store.settings(context)?;
        let location = settings.store.clone();
        let device = self.device.unwrap_or_else(computer_name);
        let config = settings.store_config().map_err(CommandError::from_error)?;
        holdfast_backend::store::create(&config).map_err(CommandError::from_error)?;
        let store = open_store(&settings).map_err(CommandError::from_error)?;
        let (archive, code) =
            Archive::create(store, &home, settings, &device).map_err(CommandError::from_error)?;
        let printed = code.to_printed();
        let text = format!(
            "The archive in {location} is ready; this computer is its device {device:?}.\n\n\
             Recovery code:\n\n    {}\n\n\
             Write it down and keep it away from this computer. It is shown only now, and whoever has it\n\
             can read everything in the archive. Without it and without this computer's key file\n\
             ({}) nobody can read the archive again.\n\n\
             Next: holdfast mount DIR\n",
            printed.as_str(),
            home.key_file().display(),
        );
        let json = json!({
            "store": location,
            "device": device,
            "device_id": archive.device().to_string(),
            "recovery_code": printed.as_str(),
            "key_file": home.key_file(),
        });
        Ok(Output::new(text, json))
    }
}
