//! `holdfast devices` and `holdfast deauthorise DEVICE`

use clap::Args;
use comfy_table::Table;
use holdfast_keystore_client::messages::{DeviceRecord, DeviceState};
use serde_json::json;

use super::{CommandError, Context, Output, opening};
use crate::keystore::{Keystore, wait};

/// Arguments of `devices`.
#[derive(Args)]
pub struct Devices {}

/// Arguments of `deauthorise`.
#[derive(Args)]
pub struct Deauthorise {
    /// The device's name, or its id as `devices` shows it
    device: String,
}

impl Devices {
    /// Lists the user's devices.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let keystore = keystore(context)?;
        let devices = list(&keystore)?;
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["NAME", "ID", "STATE", "LAST SEEN", "CERTIFICATE UNTIL"]);
        for device in &devices {
            let seen = device.last_seen.map_or("-".to_owned(), |at| at.to_string());
            table.add_row([
                device.name.clone(),
                device.id.to_string(),
                told(device.state).to_owned(),
                seen,
                device.expires.to_string(),
            ]);
        }
        Ok(Output::new(table.trim_fmt(), json!({ "devices": devices })))
    }
}

impl Deauthorise {
    /// Takes a device its certificate, its grants, and the half of its key.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let keystore = keystore(context)?;
        let devices = list(&keystore)?;
        let device = find(&devices, &self.device)?;
        wait(keystore.client().deauthorise_device(device.id)).map_err(CommandError::from_error)?;
        let text = format!(
            "The device {:?} is deauthorised: it gets no certificate, no grants and no key any more.\n\
             If it is online, it wipes its key within seconds; `holdfast devices` shows \"confirmed\" then.\n\
             Grants that it had may live for up to 15 minutes.\n",
            device.name
        );
        let json = json!({ "device": device.name, "device_id": device.id });
        Ok(Output::new(text, json))
    }
}

pub(super) fn keystore(context: &Context) -> Result<Keystore, CommandError> {
    let home = opening::home()?;
    let settings = opening::settings(&home, context)?;
    Keystore::open(&home, &settings).map_err(CommandError::from_error)
}

fn list(keystore: &Keystore) -> Result<Vec<DeviceRecord>, CommandError> {
    let listed = wait(keystore.client().devices()).map_err(CommandError::from_error)?;
    Ok(listed.devices)
}

/// By id, or by a name that one device has which is not out already.
fn find<'a>(devices: &'a [DeviceRecord], wanted: &str) -> Result<&'a DeviceRecord, CommandError> {
    if let Some(device) = devices
        .iter()
        .find(|device| device.id.to_string() == wanted)
    {
        return Ok(device);
    }
    let is_out = |state| matches!(state, DeviceState::Deauthorised | DeviceState::Confirmed);
    let named: Vec<_> = devices
        .iter()
        .filter(|device| device.name == wanted && !is_out(device.state))
        .collect();
    match named[..] {
        [device] => Ok(device),
        [] => Err(CommandError::new(format!(
            "there is no device {wanted:?}; `holdfast devices` lists them"
        ))),
        _ => Err(CommandError::new(format!(
            "there are several devices {wanted:?}; write the id, as `holdfast devices` shows it"
        ))),
    }
}

fn told(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Provisional => "being set up",
        DeviceState::Active => "active",
        DeviceState::Deauthorised => "deauthorised, not confirmed",
        DeviceState::Confirmed => "deauthorised, confirmed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: u8, name: &str, state: DeviceState) -> DeviceRecord {
        let record = json!({
            "id": hex::encode([id; 8]),
            "name": name,
            "state": state,
            "fingerprint": hex::encode([id; 32]),
            "expires": "2030-01-01T00:00:00Z",
            "last_seen": null,
        });
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn a_device_is_found_by_id_or_by_a_name_that_is_one_ones() {
        let devices = [
            device(1, "laptop", DeviceState::Active),
            device(2, "laptop", DeviceState::Confirmed),
            device(3, "desk", DeviceState::Active),
            device(4, "desk", DeviceState::Provisional),
        ];
        assert_eq!(find(&devices, "laptop").unwrap().id, devices[0].id);
        let second = hex::encode([2; 8]);
        assert_eq!(find(&devices, &second).unwrap().id, devices[1].id);
        assert!(find(&devices, "desk").is_err());
        assert!(find(&devices, "phone").is_err());
    }
}
