//! `holdfast login SERVER`: a new computer for somebody who is enrolled.
//!
//! The keystore needs no pin: the proof of the password succeeds only with the keystore where it was registered, and on one connection. If
//! we die before `device/ready`, the keystore forgets this device within an hour, and login is run again.

use clap::Args;
use holdfast_crypto::DeviceId;
use holdfast_keystore_client::escrow::{DeviceHalf, PasswordCost};
use holdfast_keystore_client::names::{HexBytes, PersonName};
use holdfast_keystore_client::{
    AccountError, Credentials, DeviceKey, LoggedIn, NewDevice, Opened, Proof, ServerAddress,
};
use serde_json::json;

use super::joining::{Joining, LeaseArguments};
use super::proving::with_codes;
use super::secrets::ProofArguments;
use super::store_arguments::computer_name;
use super::{CommandError, Context, Output, opening};
use crate::archive::{Archive, ArchiveError};
use crate::format::DeviceRecord;
use crate::home::{DeviceKeys, Home};
use crate::keystore::{granted_store, wait};

/// Arguments of `login`.
#[derive(Args)]
pub struct Login {
    /// The keystore's address: https://HOST:PORT
    server: ServerAddress,
    /// Your name at the keystore; the one of this computer's account unless given
    #[arg(long, value_name = "NAME")]
    user: Option<PersonName>,
    /// Go on in place of this device: current/ starts with what it stored last, and it is deauthorised
    #[arg(long, value_name = "DEVICE")]
    replace: Option<String>,
    /// What this computer is called in snapshots/; its host name unless given
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    #[command(flatten)]
    proof: ProofArguments,
    #[command(flatten)]
    lease: LeaseArguments,
}

/// The key, and this computer's half of its file.
struct Released {
    opened: Opened,
    half: DeviceHalf,
}

impl Login {
    /// Makes this computer a device of the user.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let home = opening::home()?;
        home.check_not_set_up().map_err(CommandError::from_error)?;
        let name = self.device.clone().unwrap_or_else(computer_name);
        let (id, key) = (DeviceId::generate(), DeviceKey::generate());
        let device = || NewDevice {
            id: HexBytes(id.0),
            name: &name,
            key: &key,
        };
        let logged_in = self.log_in(device)?;
        let released = wait(release(&logged_in)).map_err(CommandError::from_error)?;
        let joined = self.store_here(&home, context, (&logged_in, &key), &name, (id, released))?;
        wait(logged_in.ready(joined.replaced)).map_err(CommandError::from_error)?;
        let text = format!(
            "This computer is now the device {:?} of {} at {}.\n\
             current/ starts {}.\n\nNext: holdfast snapshots, holdfast mount DIR\n",
            joined.name,
            logged_in.user,
            self.server,
            match &self.replace {
                Some(old) => format!("with what {old:?} stored last; {old:?} is deauthorised"),
                None => "empty".to_owned(),
            }
        );
        let json = json!({
            "server": self.server.to_string(),
            "user": logged_in.user,
            "archive": logged_in.archive,
            "device": joined.name,
            "device_id": id.to_string(),
            "replaced": self.replace,
            "store": logged_in.store.location,
        });
        Ok(Output::new(text, json))
    }

    fn log_in<'a>(&self, device: impl Fn() -> NewDevice<'a>) -> Result<LoggedIn, CommandError> {
        let user = self.user()?;
        let password = self.proof.password()?;
        let mut codes = self.proof.codes()?;
        with_codes(&mut codes, |code| {
            let credentials = Credentials {
                user: user.clone(),
                password: password.clone(),
                cost: PasswordCost::standard(),
            };
            wait(async {
                let proof = Proof::to_unknown(&self.server, credentials).await?;
                proof.log_in(code, device(), None).await
            })
        })
    }

    fn user(&self) -> Result<PersonName, CommandError> {
        if let Some(user) = &self.user {
            return Ok(user.clone());
        }
        let name = std::env::var("USER").unwrap_or_default();
        name.parse().map_err(|_| {
            CommandError::new("your name at the keystore is not known; add --user NAME")
        })
    }

    /// Keyring, key file, settings.
    fn store_here(
        &self,
        home: &Home,
        context: &Context,
        (logged_in, key): (&LoggedIn, &DeviceKey),
        name: &str,
        (id, released): (DeviceId, Released),
    ) -> Result<Joined, CommandError> {
        let joining = Joining {
            home,
            client: &logged_in.client,
            user: &logged_in.user,
            archive: logged_in.archive,
            store: &logged_in.store,
            half: &released.half,
            lease: self.lease.lease(),
        };
        let Opened { record, user_key } = released.opened;
        joining.keep_seen(record.version, logged_in.admins.as_ref())?;
        joining.keep_identity(&logged_in.certificate.certificate, key)?;
        let code = record.recovery_code(&user_key);
        let code = code.map_err(CommandError::from_error)?;
        let keys = DeviceKeys::of(id, user_key);
        let settings = joining.settings(&keys, context);
        let store = granted_store(&logged_in.client, &settings);
        let save = |keys: &DeviceKeys| joining.save_keys(keys);
        let failed = CommandError::from_error::<ArchiveError>;
        let devices = Archive::devices_with_key(&store, &keys.user_key).map_err(failed)?;
        let replaced = self.replaced(devices.as_deref())?;
        let from = self.replace.as_deref();
        let archive = match devices {
            Some(_) => Archive::join(store, home, settings, (keys, name), from, &save),
            // The computer that was enrolled died before it made the archive.
            None => Archive::create_with(store, home, settings, name, (keys, &code), &save),
        };
        let archive = archive.map_err(failed)?;
        Ok(Joined {
            name: archive.device_record().name,
            replaced,
        })
    }

    fn replaced(
        &self,
        devices: Option<&[DeviceRecord]>,
    ) -> Result<Option<HexBytes<8>>, CommandError> {
        let Some(wanted) = &self.replace else {
            return Ok(None);
        };
        let devices = devices.unwrap_or_default();
        let is_it =
            |device: &&DeviceRecord| device.name == *wanted || device.id.to_string() == *wanted;
        match devices.iter().find(is_it) {
            Some(device) => Ok(Some(HexBytes(device.id.0))),
            None => {
                let names: Vec<&str> = devices.iter().map(|known| known.name.as_str()).collect();
                Err(CommandError::new(format!(
                    "the archive has no device {wanted:?}; it has {}",
                    names.join(", ")
                )))
            }
        }
    }
}

/// This computer in the archive.
struct Joined {
    name: String,
    replaced: Option<HexBytes<8>>,
}

async fn release(logged_in: &LoggedIn) -> Result<Released, AccountError> {
    let opened = logged_in.open().await?;
    let half = logged_in.device_half().await?;
    Ok(Released { opened, half })
}
