//! Loading, merging and storing keyrings.
//!
//! A keyring object is never changed: a new device stores one with the next version. Two devices that
//! are added at one time store two of one version; whoever sees that merges them (all devices, all
//! epochs) into the next version, so that neither is lost.

use std::collections::BTreeSet;

use bytes::Bytes;
use holdfast_backend::layout::{Folder, ObjectName};
use holdfast_backend::store::ObjectStore;
use holdfast_crypto::{KeyringKey, UserKey};
use zeroize::Zeroizing;

use super::ArchiveError;
use crate::format::keyring::{EpochSecret, Keyring, KeyringError, KeyringObject};

/// The keyring objects of the highest version, by name.
pub(super) struct Newest {
    pub(super) version: u64,
    pub(super) objects: Vec<Bytes>,
}

/// What is stored, opened and merged.
pub(super) struct Opened {
    pub(super) keyring: Keyring,
    pub(super) recovery_slot: Vec<u8>,
    /// Several objects had the highest version: the merged keyring has to be stored.
    pub(super) merged: bool,
}

/// Loads the keyrings of the highest version.
pub(super) async fn load_newest(store: &dyn ObjectStore) -> Result<Newest, ArchiveError> {
    let listed = store.list(Folder::Keyring).await?;
    let version_of = |name: &ObjectName| match name {
        ObjectName::Keyring { version, .. } => Some(*version),
        _ => None,
    };
    let not_an_archive = || ArchiveError::NotAnArchive {
        location: store.location(),
    };
    let version = listed
        .iter()
        .filter_map(|listed| version_of(&listed.name))
        .max();
    let version = version.ok_or_else(not_an_archive)?;
    let mut names: Vec<ObjectName> = listed
        .into_iter()
        .map(|listed| listed.name)
        .filter(|name| version_of(name) == Some(version))
        .collect();
    names.sort();
    let mut objects = Vec::new();
    for name in names {
        objects.push(store.get(&name).await?);
    }
    Ok(Newest { version, objects })
}

/// Opens them with the user key.
pub(super) fn open(
    newest: &Newest,
    key: &KeyringKey,
    location: &str,
) -> Result<Opened, ArchiveError> {
    let mut opened: Option<Opened> = None;
    for object in &newest.objects {
        let taken =
            KeyringObject::parse(object).map_err(|source| ArchiveError::Keyring { source })?;
        let keyring = taken
            .open(newest.version, key)
            .map_err(|source| match source {
                KeyringError::Crypto(_) => ArchiveError::WrongKey {
                    location: location.to_owned(),
                },
                source => ArchiveError::Keyring { source },
            })?;
        opened = Some(match opened {
            None => Opened {
                keyring,
                recovery_slot: taken.recovery_slot.to_vec(),
                merged: false,
            },
            Some(first) => Opened {
                keyring: merge(first.keyring, keyring),
                recovery_slot: first.recovery_slot,
                merged: true,
            },
        });
    }
    opened.ok_or_else(|| ArchiveError::NotAnArchive {
        location: location.to_owned(),
    })
}

/// The user key out of the recovery slot.
pub(super) fn recover_user_key(
    newest: &Newest,
    code: &holdfast_crypto::RecoveryCode,
    location: &str,
) -> Result<UserKey, ArchiveError> {
    let pair = code.key_pair();
    let mut wrong = ArchiveError::WrongRecoveryCode {
        location: location.to_owned(),
    };
    for object in &newest.objects {
        match KeyringObject::parse(object) {
            Ok(taken) => {
                if let Ok(key) = pair.unwrap(taken.recovery_slot) {
                    return Ok(key);
                }
            }
            Err(source) => wrong = ArchiveError::Keyring { source },
        }
    }
    Err(wrong)
}

/// Everything that either holds, as the next version.
fn merge(first: Keyring, second: Keyring) -> Keyring {
    let version = first.version.max(second.version) + 1;
    let mut epochs = copy_epochs(&first);
    for epoch in copy_epochs(&second) {
        if epochs.iter().all(|known| known.number != epoch.number) {
            epochs.push(epoch);
        }
    }
    epochs.sort_by_key(|epoch| epoch.number);
    let mut devices = first.devices;
    for mut device in second.devices {
        if let Some(known) = devices.iter_mut().find(|known| known.id == device.id) {
            // Whoever was shut out stays shut out.
            known.last_sequence = match (known.last_sequence, device.last_sequence) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            continue;
        }
        if devices.iter().any(|known| known.number == device.number) {
            device.number = next_number(&devices);
        }
        device.name = free_name(&devices, &device.name);
        devices.push(device);
    }
    devices.sort_by_key(|device| device.number);
    Keyring {
        version,
        epochs,
        devices,
        recovery_key: first.recovery_key,
    }
}

pub(super) fn copy_epochs(keyring: &Keyring) -> Vec<EpochSecret> {
    let copy = |epoch: &EpochSecret| EpochSecret {
        number: epoch.number,
        id_epoch: epoch.id_epoch,
        chunker: epoch.chunker,
        secret: Zeroizing::new(*epoch.secret),
    };
    keyring.epochs.iter().map(copy).collect()
}

/// The next device's number.
pub(super) fn next_number(devices: &[crate::format::DeviceRecord]) -> u16 {
    devices
        .iter()
        .map(|device| device.number)
        .max()
        .unwrap_or(0)
        .saturating_add(1)
}

/// `name`, or the first of `name-2`, `name-3`, ... that no device has.
pub(super) fn free_name(devices: &[crate::format::DeviceRecord], name: &str) -> String {
    let taken: BTreeSet<&str> = devices.iter().map(|device| device.name.as_str()).collect();
    if !taken.contains(name) {
        return name.to_owned();
    }
    let numbered = |n: usize| format!("{name}-{n}");
    (2..)
        .map(numbered)
        .find(|name| !taken.contains(name.as_str()))
        .expect("numbers do not end")
}
