//! Users and their devices, as records in the barrier.
//!
//! ```text
//! users/NAME                 state, token's digest, password record, second factor, recovery half
//! slots/NAME                 the signed record of slots, as the device has sent it
//! devices/NAME/ID            state, certificate, server half
//! certificates/FINGERPRINT   whose device's it is
//! server/password-setup      OPAQUE's keys of the server
//! ```
//!
//! Each is one write. Where an act changes two, the order is such that a crash between them leaves the act undone and to be made again:
//! a certificate's record comes after its device's, a user becomes active after the device that was enrolled.

use std::collections::BTreeMap;

use holdfast_protocol::calls::{
    Bytes64, DeviceRecord, DeviceState, EscrowPolicy, SecretHex, UserState,
};
use holdfast_protocol::escrow::{DeviceHalf, PasswordSetup, RecoveryHalf};
use holdfast_protocol::{Keystore, RecordPath, RecordWrite, Unsealed};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::api::error::{ApiError, ErrorCode};
use crate::names::{Fingerprint, HexBytes, Id, PersonName};
use crate::vault::Vault;

/// A device that is not ready after this is forgotten.
const PROVISIONAL: SignedDuration = SignedDuration::from_hours(1);
/// More than that are not added.
pub const USERS: usize = 100_000;
/// More than that one user cannot have, those that are out not counted.
pub const DEVICES: usize = 64;

const SETUP: &str = "server/password-setup";

/// A device's id.
pub type DeviceId = HexBytes<8>;

/// A user, as the barrier has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The name.
    pub name: PersonName,
    /// What the user may do.
    pub state: UserState,
    /// Which slots there are to be.
    pub policy: EscrowPolicy,
    /// The most that may be stored.
    pub quota_bytes: Option<u64>,
    /// What may enrol.
    pub token: Option<TokenDigest>,
    /// What came of enrolment.
    pub enrolled: Option<Enrolled>,
    /// Until when deactivating can be undone.
    pub undo_until: Option<Timestamp>,
}

/// What the server keeps of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenDigest {
    /// SHA-256 of its secret.
    pub digest: HexBytes<32>,
    /// When it is worth nothing any more.
    pub expires: Timestamp,
}

/// What an enrolment has brought; replaced by the next one until the user is active.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolled {
    /// The archive's id.
    pub archive: Id,
    /// OPAQUE's record.
    pub password: Bytes64,
    /// The second factor's secret: 20 bytes.
    pub second_factor: SecretBytes64,
    /// The step of the last code that was taken.
    pub last_step: u64,
    /// The server's half of slot 3.
    pub recovery_half: SecretHex,
}

/// Secret bytes in a record; neither printed nor compared.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretBytes64(Bytes64);

impl SecretBytes64 {
    /// A copy of these bytes.
    pub fn copy_of(bytes: &[u8]) -> SecretBytes64 {
        SecretBytes64(Bytes64(bytes.to_vec()))
    }

    /// The bytes.
    pub fn expose_secret(&self) -> &[u8] {
        &self.0.0
    }
}

impl Drop for SecretBytes64 {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0.0);
    }
}

/// A device, as the barrier has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its id, the same as in the archive.
    pub id: DeviceId,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub state: DeviceState,
    /// Of its newest certificate.
    pub fingerprint: Fingerprint,
    /// End of that.
    pub expires: Timestamp,
    /// When it came.
    pub added: Timestamp,
    /// The server half of its key file.
    pub half: SecretHex,
}

impl Device {
    /// Whether it has not become ready in time.
    pub fn is_forgotten(&self, now: Timestamp) -> bool {
        self.state == DeviceState::Provisional && now > self.added + PROVISIONAL
    }

    /// As its user and operators see it.
    pub fn record(&self) -> DeviceRecord {
        DeviceRecord {
            id: self.id,
            name: self.name.clone(),
            state: self.state,
            fingerprint: self.fingerprint,
            expires: self.expires,
            last_seen: None,
        }
    }
}

/// Whose a certificate is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Holder {
    user: PersonName,
    device: DeviceId,
}

/// A device that calls, as the gate has looked it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallingDevice {
    /// Whose.
    pub user: PersonName,
    /// Which.
    pub id: DeviceId,
    /// What it may do.
    pub state: DeviceState,
    /// Its user's archive.
    pub archive: Id,
}

impl Vault {
    /// Whose device a certificate is; nothing for one that is unknown, or was forgotten.
    pub fn calling_device(
        &self,
        fingerprint: &Fingerprint,
        now: Timestamp,
    ) -> Result<Option<CallingDevice>, ApiError> {
        let Some(holder) = self.get::<Holder>(&certificate(fingerprint))? else {
            return Ok(None);
        };
        let device = self.device(&holder.user, &holder.device)?;
        let account = self.account(&holder.user)?;
        let archive = account.and_then(|account| Some(account.enrolled?.archive));
        Ok(match (device, archive) {
            (Some(device), Some(archive)) if !device.is_forgotten(now) => Some(CallingDevice {
                user: holder.user,
                id: device.id,
                state: device.state,
                archive,
            }),
            _ => None,
        })
    }

    /// A user.
    pub fn account(&self, name: &PersonName) -> Result<Option<Account>, ApiError> {
        self.get(&user(name))
    }

    /// A user of whom an operator speaks.
    pub fn known_account(&self, name: &PersonName) -> Result<Account, ApiError> {
        self.account(name)?.ok_or_else(|| {
            ApiError::new(
                ErrorCode::NotFound,
                format!("there is no user named {name}"),
                "list the users: holdfast-keystore user list",
            )
        })
    }

    /// The enrolled part of a user who has a device.
    pub fn enrolled_account(&self, name: &PersonName) -> Result<(Account, Enrolled), ApiError> {
        let mut account = self.known_account(name)?;
        match account.enrolled.take() {
            Some(enrolled) => Ok((account, enrolled)),
            None => Err(ApiError::storage()),
        }
    }

    /// Every user's name.
    pub fn users(&self) -> Result<Vec<PersonName>, ApiError> {
        let paths = self.open()?.list("users/");
        let name = |path: &RecordPath| path.as_str().trim_start_matches("users/").parse().ok();
        Ok(paths.iter().filter_map(name).collect())
    }

    /// Writes a user.
    pub fn put_account(&mut self, account: &Account) -> Result<(), ApiError> {
        self.put(&user(&account.name), account)
    }

    /// A device of a user.
    pub fn device(&self, name: &PersonName, id: &DeviceId) -> Result<Option<Device>, ApiError> {
        self.get(&device(name, id))
    }

    /// All devices of a user, those that were forgotten left out.
    pub fn devices(&self, name: &PersonName, now: Timestamp) -> Result<Vec<Device>, ApiError> {
        let open = self.open()?;
        let mut devices: Vec<Device> = Vec::new();
        for path in open.list(&format!("devices/{name}/")) {
            devices.extend(
                self.get::<Device>(&path)?
                    .filter(|device| !device.is_forgotten(now)),
            );
        }
        devices.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Ok(devices)
    }

    /// Writes a device and, after it, whose its certificate is.
    pub fn put_device(&mut self, name: &PersonName, written: &Device) -> Result<(), ApiError> {
        self.put(&device(name, &written.id), written)?;
        let holder = Holder {
            user: name.clone(),
            device: written.id,
        };
        self.put(&certificate(&written.fingerprint), &holder)
    }

    /// Deletes a device that was never ready, with its certificate.
    pub fn forget_device(&mut self, name: &PersonName, forgotten: &Device) -> Result<(), ApiError> {
        self.remove(&certificate(&forgotten.fingerprint))?;
        self.remove(&device(name, &forgotten.id))
    }

    /// The newest record of slots.
    pub fn slots(&self, name: &PersonName) -> Result<Option<Zeroizing<Vec<u8>>>, ApiError> {
        Ok(self.open()?.read(&slots(name))?)
    }

    /// Writes a record of slots.
    pub fn put_slots(&mut self, name: &PersonName, record: &[u8]) -> Result<(), ApiError> {
        write(self.open_mut()?, &slots(name), record)
    }

    /// Writes a user and the record of slots together: a new password is both, or nothing.
    pub fn put_account_and_slots(
        &mut self,
        account: &Account,
        record: &[u8],
    ) -> Result<(), ApiError> {
        let keystore = self.open_mut()?;
        let (user, slots) = (user(&account.name), slots(&account.name));
        let bytes = serde_json::to_vec(account).expect("names, numbers and ids are always JSON");
        let bytes = Zeroizing::new(bytes);
        let write = |path, plaintext| RecordWrite {
            path,
            plaintext,
            expected: keystore.version(path),
        };
        let writes = [write(&user, bytes.as_slice()), write(&slots, record)];
        Ok(keystore.write_all(&writes)?)
    }

    /// OPAQUE's keys of the server, made when they are first needed.
    pub fn password_setup(&mut self) -> Result<PasswordSetup, ApiError> {
        let path: RecordPath = SETUP.parse().expect("a path in the program is a good one");
        if let Some(bytes) = self.open()?.read(&path)? {
            return PasswordSetup::from_bytes(&bytes).map_err(|error| {
                tracing::error!(%error, "the server's keys for passwords");
                ApiError::storage()
            });
        }
        let setup = PasswordSetup::generate();
        write(self.open_mut()?, &path, &setup.expose_secret())?;
        Ok(setup)
    }

    /// A record of the server's own.
    pub(crate) fn get<T: serde::de::DeserializeOwned>(
        &self,
        path: &RecordPath,
    ) -> Result<Option<T>, ApiError> {
        crate::vault::get(self.open()?, path)
    }

    /// Writes a record of the server's own, unless it is there as it should be.
    pub(crate) fn put<T: Serialize>(
        &mut self,
        path: &RecordPath,
        value: &T,
    ) -> Result<(), ApiError> {
        crate::vault::put(self.open_mut()?, path, value)
    }

    /// Writes several of them together.
    pub(crate) fn put_all<T: Serialize>(
        &mut self,
        records: &BTreeMap<RecordPath, T>,
    ) -> Result<(), ApiError> {
        let keystore = self.open_mut()?;
        let mut written = Vec::with_capacity(records.len());
        for (path, value) in records {
            let bytes = serde_json::to_vec(value).expect("names, numbers and ids are always JSON");
            written.push((path, Zeroizing::new(bytes), keystore.version(path)));
        }
        let writes: Vec<RecordWrite<'_>> = written
            .iter()
            .map(|(path, plaintext, expected)| RecordWrite {
                path,
                plaintext,
                expected: *expected,
            })
            .collect();
        Ok(keystore.write_all(&writes)?)
    }

    pub(crate) fn remove(&mut self, path: &RecordPath) -> Result<(), ApiError> {
        let keystore = self.open_mut()?;
        match keystore.version(path) {
            Some(version) => Ok(keystore.delete(path, version)?),
            None => Ok(()),
        }
    }
}

/// New secrets of the server for one user and one device.
pub fn recovery_half() -> SecretHex {
    SecretHex::copy_of(RecoveryHalf::generate().expose_secret())
}

/// The server half of a key file.
pub fn device_half() -> SecretHex {
    SecretHex::copy_of(DeviceHalf::generate().expose_secret())
}

fn write(
    keystore: &mut Keystore<Unsealed>,
    path: &RecordPath,
    bytes: &[u8],
) -> Result<(), ApiError> {
    let version = keystore.version(path);
    Ok(keystore.write(path, bytes, version)?)
}

fn user(name: &PersonName) -> RecordPath {
    path(format!("users/{name}"))
}

fn slots(name: &PersonName) -> RecordPath {
    path(format!("slots/{name}"))
}

fn device(name: &PersonName, id: &DeviceId) -> RecordPath {
    path(format!("devices/{name}/{id}"))
}

fn certificate(fingerprint: &Fingerprint) -> RecordPath {
    path(format!("certificates/{fingerprint}"))
}

fn path(path: String) -> RecordPath {
    path.parse().expect("names and ids are segments of a path")
}
