//! The keyring: the archive's secrets and devices, under the user key: `docs/format/keyring.md`.

use std::collections::HashSet;

use holdfast_backend::object::{FormatError, Header, Object, ObjectKind};
use holdfast_crypto::{CryptoError, DeviceId, KeyringKey};
use zeroize::Zeroizing;

use super::codec::{DecodeError, Decoded, Reader, Writer};
use super::entry::{Time, is_entry_name};

/// Everything that a device with the user key needs to read and write an archive.
///
/// Neither Debug nor Clone: it holds every secret of the archive.
#[derive(PartialEq, Eq)]
pub struct Keyring {
    /// Counts the keyring's own versions, from 1.
    pub version: u64,
    /// By ascending number; the last one is written with.
    pub epochs: Vec<EpochSecret>,
    /// Every device that may write or ever could, by ascending number.
    pub devices: Vec<DeviceRecord>,
    /// Public half of the printed recovery code, so that new slots need not ask for it again.
    pub recovery_key: Vec<u8>,
}

/// The secret of one epoch, from which its keys are derived.
#[derive(PartialEq, Eq)]
pub struct EpochSecret {
    /// Counts from 1; stands in the header of what was written in it.
    pub number: u32,
    /// The epoch whose chunk-id and chunker keys are used (the same, or an earlier one).
    pub id_epoch: u32,
    /// Which chunker cuts: 1 = FastCDC with a keyed gear table.
    pub chunker: u8,
    /// The archive secret.
    pub secret: Zeroizing<[u8; 32]>,
}

/// One device of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Its id, as it stands in object names.
    pub id: DeviceId,
    /// Counts from 1 in the archive; prefix of inode numbers in `snapshots/`.
    pub number: u16,
    /// What its folder in `snapshots/` is called.
    pub name: String,
    /// Ed25519 public key that its commits must verify with.
    pub key: [u8; 32],
    /// The first sequence number that may be believed.
    pub first_sequence: u64,
    /// The last one, for a device that was shut out.
    pub last_sequence: Option<u64>,
    /// When it was added.
    pub added: Time,
}

/// The one chunker of format 1: FastCDC with the archive's gear table.
pub const CHUNKER_FASTCDC: u8 = 1;

/// A keyring object does not open.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// Not a keyring of this format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Another user key, or damaged.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Opens, but is not what the format says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Keyring {
    /// The plaintext. Wiped when dropped, and never moved on the way: it is allocated once.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let names: usize = self.devices.iter().map(|device| device.name.len()).sum();
        let room = 64 + self.recovery_key.len() + 64 * self.epochs.len() + names;
        let mut writer = Writer::with_capacity(room + 128 * self.devices.len());
        writer.varint(self.version);
        writer.varint(self.epochs.len() as u64);
        self.epochs
            .iter()
            .for_each(|epoch| epoch.write(&mut writer));
        writer.varint(self.devices.len() as u64);
        self.devices
            .iter()
            .for_each(|device| device.write(&mut writer));
        writer.bytes(&self.recovery_key);
        debug_assert!(writer.len() <= room + 128 * self.devices.len());
        Zeroizing::new(writer.finish())
    }

    /// Reads what [`Keyring::encode`] made.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new("keyring", bytes);
        let keyring = Keyring {
            version: reader.varint()?,
            epochs: read_epochs(&mut reader)?,
            devices: read_devices(&mut reader)?,
            recovery_key: reader.bytes()?.to_vec(),
        };
        reader.finish()?;
        Ok(keyring)
    }

    /// The epoch that is written with.
    pub fn current_epoch(&self) -> &EpochSecret {
        self.epochs
            .last()
            .expect("a keyring has an epoch: decode refuses one without")
    }

    /// The secret of an epoch.
    pub fn epoch(&self, number: u32) -> Option<&EpochSecret> {
        self.epochs.iter().find(|epoch| epoch.number == number)
    }

    /// The device with this id.
    pub fn device(&self, id: DeviceId) -> Option<&DeviceRecord> {
        self.devices.iter().find(|device| device.id == id)
    }

    /// The object to store: `recovery_slot` opens without a key but the recovery code, the rest
    /// with the user key.
    pub fn to_object(&self, recovery_slot: &[u8], key: &KeyringKey) -> Object {
        let epoch = self.current_epoch().number;
        let header = Header {
            kind: ObjectKind::Keyring,
            epoch,
        }
        .encode();
        let ciphertext = key.encrypt(&bound(&header, self.version), &self.encode());
        let length = u32::try_from(recovery_slot.len()).expect("a slot is about 1.2 KiB");
        let body = [&length.to_le_bytes(), recovery_slot, ciphertext.as_bytes()].concat();
        Object::keyring(self.version, epoch, &body)
    }
}

/// A keyring object taken apart; nothing of it is believed yet.
pub struct KeyringObject<'a> {
    header: Header,
    /// The user key, wrapped to the key pair of the recovery code.
    pub recovery_slot: &'a [u8],
    stored: &'a [u8],
}

impl<'a> KeyringObject<'a> {
    /// Takes a keyring object apart.
    pub fn parse(object: &'a [u8]) -> Result<Self, KeyringError> {
        let (header, rest) = Header::parse(ObjectKind::Keyring, object)?;
        let mut reader = Reader::new("keyring object", rest);
        let length = reader.u32()?;
        let recovery_slot = reader.take(length as usize)?;
        Ok(KeyringObject {
            header,
            recovery_slot,
            stored: reader.rest(),
        })
    }

    /// Opens it, as the `version` that its name says.
    pub fn open(&self, version: u64, key: &KeyringKey) -> Result<Keyring, KeyringError> {
        let bound = bound(&self.header.encode(), version);
        let keyring = Keyring::decode(&key.decrypt(&bound, self.stored)?)?;
        if keyring.version != version || keyring.current_epoch().number != self.header.epoch {
            let problem = "its name or its header says something else";
            return Err(DecodeError {
                what: "keyring",
                problem,
            }
            .into());
        }
        Ok(keyring)
    }
}

fn bound(header: &[u8; Header::LENGTH], version: u64) -> Vec<u8> {
    [header.as_slice(), &version.to_le_bytes()].concat()
}

impl EpochSecret {
    fn write(&self, writer: &mut Writer) {
        writer.varint(u64::from(self.number));
        writer.varint(u64::from(self.id_epoch));
        writer.u8(self.chunker);
        writer.raw(&*self.secret);
    }

    fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        Ok(EpochSecret {
            number: reader.varint32()?,
            id_epoch: reader.varint32()?,
            chunker: reader.u8()?,
            secret: Zeroizing::new(reader.array()?),
        })
    }
}

fn read_epochs(reader: &mut Reader<'_>) -> Decoded<Vec<EpochSecret>> {
    // Allocated once, so that no secret is left behind in memory that was outgrown.
    let count = reader.count(35)?;
    reader.require(count > 0, "it has no epoch")?;
    let mut epochs: Vec<EpochSecret> = Vec::with_capacity(count);
    for _ in 0..count {
        let epoch = EpochSecret::read(reader)?;
        let ascends = epochs.last().map_or(0, |last| last.number) < epoch.number;
        reader.require(ascends, "its epochs are out of order")?;
        let known = epoch.id_epoch == epoch.number
            || epochs
                .iter()
                .any(|earlier| earlier.number == epoch.id_epoch);
        reader.require(known, "an epoch takes its ids from one that is not there")?;
        let chunker = epoch.chunker == CHUNKER_FASTCDC;
        reader.require(
            chunker,
            "an epoch has a chunker that this program does not know",
        )?;
        epochs.push(epoch);
    }
    Ok(epochs)
}

impl DeviceRecord {
    fn write(&self, writer: &mut Writer) {
        writer.raw(&self.id.0);
        writer.varint(u64::from(self.number));
        writer.bytes(self.name.as_bytes());
        writer.raw(&self.key);
        writer.varint(self.first_sequence);
        writer.option(self.last_sequence, Writer::varint);
        self.added.write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        let id = DeviceId(reader.array()?);
        let number = u16::try_from(reader.varint()?);
        Ok(DeviceRecord {
            id,
            number: number.map_err(|_| reader.error("a device's number is too large"))?,
            name: reader.text()?.to_owned(),
            key: reader.array()?,
            first_sequence: reader.varint()?,
            last_sequence: reader.option(Reader::varint)?,
            added: Time::read(reader)?,
        })
    }

    /// Whether a commit with this number may be this device's.
    pub fn may_have_written(&self, sequence: u64) -> bool {
        self.first_sequence <= sequence && self.last_sequence.is_none_or(|last| sequence <= last)
    }
}

fn read_devices(reader: &mut Reader<'_>) -> Decoded<Vec<DeviceRecord>> {
    let mut devices: Vec<DeviceRecord> = Vec::new();
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    for _ in 0..reader.count(47)? {
        let device = DeviceRecord::read(reader)?;
        let ascends = devices.last().map_or(0, |last| last.number) < device.number;
        reader.require(ascends, "its devices are out of order")?;
        let is_name = is_entry_name(device.name.as_bytes());
        reader.require(is_name, "a device has a name that cannot be a folder's")?;
        let is_new = ids.insert(device.id) && names.insert(device.name.clone());
        reader.require(is_new, "two devices have one id or one name")?;
        devices.push(device);
    }
    Ok(devices)
}
