//! What enrolment and login write on this computer, in this order: what was seen of the keystore, certificate, key file, settings. A home
//! without settings is not set up; whoever dies before them logs in again, and what is there already is replaced.

use clap::Args;
use holdfast_keystore_client::escrow::{DeviceHalf, SignedPolicy};
use holdfast_keystore_client::messages::{Lease, StoreDescription};
use holdfast_keystore_client::names::{HexBytes, Id, PersonName};
use holdfast_keystore_client::{Client, DeviceKey};

use super::{CommandError, Context, opening};
use crate::home::{DeviceKeys, Home, HomeError, ServerSettings, Settings};
use crate::keystore::{keep_admins, keep_half, keep_seen_slots};

/// How long the keystore's half of the key stays on the computer.
#[derive(Args)]
pub struct LeaseArguments {
    /// How long the keystore's half of the key may stay on this computer: `boot` (in memory only), so many days, or `off`
    #[arg(long, value_name = "LEASE", default_value = "boot", value_parser = parse_lease)]
    lease: Lease,
}

/// A computer that has a certificate, and an account.
pub(super) struct Joining<'a> {
    pub(super) home: &'a Home,
    pub(super) client: &'a Client,
    pub(super) user: &'a PersonName,
    pub(super) archive: Id,
    pub(super) store: &'a StoreDescription,
    pub(super) half: &'a DeviceHalf,
    pub(super) lease: Lease,
}

impl LeaseArguments {
    pub(super) fn lease(&self) -> Lease {
        self.lease
    }
}

impl Joining<'_> {
    /// What a computer remembers of the keystore, so that it cannot be shown something older or somebody else's later on.
    pub(super) fn keep_seen(
        &self,
        slots: u64,
        admins: Option<&SignedPolicy>,
    ) -> Result<(), CommandError> {
        keep_seen_slots(self.home, slots).map_err(CommandError::from_error)?;
        match admins {
            Some(policy) => keep_admins(self.home, policy).map_err(CommandError::from_error),
            None => Ok(()),
        }
    }

    /// Certificate and private key.
    pub(super) fn keep_identity(
        &self,
        certificate: &str,
        key: &DeviceKey,
    ) -> Result<(), CommandError> {
        self.home
            .save_identity(certificate, key)
            .map_err(CommandError::from_error)
    }

    /// The key file.
    pub(super) fn save_keys(&self, keys: &DeviceKeys) -> Result<(), HomeError> {
        let half = match self.lease {
            Lease::Off => None,
            Lease::Boot | Lease::Days(_) => Some(self.half),
        };
        self.home.save_wrapped_keys(keys, &self.archive.0, half)?;
        keep_half(self.home, self.lease, self.half)
    }

    /// The settings, with the limits of this call.
    pub(super) fn settings(&self, keys: &DeviceKeys, context: &Context) -> Settings {
        let mut settings = Settings::new("keystore");
        settings.server = Some(ServerSettings {
            address: self.client.address().to_string(),
            pin: self.client.pin(),
            user: self.user.clone(),
            archive: self.archive,
            device: HexBytes(keys.device.0),
            lease: self.lease,
        });
        settings.grace_days = self.store.grace_days;
        opening::limit(&mut settings, context);
        settings
    }
}

fn parse_lease(text: &str) -> Result<Lease, String> {
    match text {
        "boot" => Ok(Lease::Boot),
        "off" => Ok(Lease::Off),
        days => match days.parse() {
            Ok(days @ 1..) => Ok(Lease::Days(days)),
            _ => Err(format!(
                "{text:?} is no lease; write boot, off, or a number of days"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_boot_off_or_days() {
        assert_eq!(parse_lease("boot"), Ok(Lease::Boot));
        assert_eq!(parse_lease("off"), Ok(Lease::Off));
        assert_eq!(parse_lease("30"), Ok(Lease::Days(30)));
        for bad in ["", "0", "-1", "1d", "forever", "65536"] {
            assert!(parse_lease(bad).is_err(), "{bad}");
        }
    }
}
