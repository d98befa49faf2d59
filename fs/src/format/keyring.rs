//! The keyring: the archive's secrets and devices, under the user key: `docs/format/keyring.md`.

use holdfast_crypto::DeviceId;
use zeroize::Zeroizing;

use super::entry::Time;

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
