//! The record of a user key's slots, as the keystore keeps it: it compares whose it is and which version, and can do nothing else.
//!
//! The user key signs the whole record, so whoever has opened one slot finds out whether all of the others, the version and the policy of
//! admins are what a device of the user has written. An older record is a good record, too: clients remember the version that they have seen.

use holdfast_crypto::{
    AdminPublicKey, CryptoError, Digest, ENCRYPTED_CODE_BYTES, MOST_ADMINS, PASSWORD_SLOT_BYTES,
    PasswordSlotKey, QUORUM_KEY_BYTES, QuorumSlot, RecoveryCode, RecoveryHalf, SLOT_BYTES, UserKey,
    WRAPPED_PIECE_BYTES,
};

use super::bytes::{Reader, put_text};
use super::policy::SignedPolicy;
use crate::calls::EscrowPolicy;
use crate::names::{Id, PersonName};

const MAGIC: &[u8; 8] = b"hfslots1";

/// Which policy of admins a record's third slot was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinnedPolicy {
    /// Its version.
    pub version: u64,
    /// SHA-256 of it.
    pub digest: Digest,
}

/// What is in the slots. Which there are, the escrow policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escrowed {
    /// Slot 1: opened with the password.
    pub password: Vec<u8>,
    /// Slot 2: opened with the recovery code.
    pub recovery: Vec<u8>,
    /// The recovery code itself under the user key.
    pub code: Vec<u8>,
    /// Slot 3: opened by recovery admins and the server.
    pub quorum: Option<(PinnedPolicy, QuorumSlot)>,
}

/// A record. Its signature has not been checked: that takes the user key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotsRecord {
    /// Whose.
    pub user: PersonName,
    /// Of which archive.
    pub archive: Id,
    /// From 1, one more with each change.
    pub version: u64,
    /// Nothing for `custom`.
    pub escrowed: Option<Escrowed>,
    signature: [u8; 64],
}

/// Why a record is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotsError {
    /// Not a record.
    #[error(
        "the keystore's record of your key is damaged; ask its operators, and do not set up anything anew"
    )]
    Malformed,
    /// Another user's, another archive's.
    #[error(
        "the keystore's record of your key is somebody else's; tell its operators, and do not go on"
    )]
    Foreign,
    /// Older than one that was seen before.
    #[error(
        "the keystore shows version {found} of your key's record, but this computer has seen version {seen}; tell its operators, and do not go on"
    )]
    RolledBack {
        /// What it shows.
        found: u64,
        /// What was seen.
        seen: u64,
    },
    /// It has no such slot.
    #[error("your key is not in the keystore (escrow policy custom); use the recovery code")]
    NoSlot,
    /// A slot does not open, or the signature is not the user's.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// What slots are bound to: `length u8 || user || archive 16`.
pub fn user_place(user: &PersonName, archive: &Id) -> Vec<u8> {
    let mut place = Vec::new();
    put_text(&mut place, user.as_str());
    place.extend_from_slice(&archive.0);
    place
}

impl Escrowed {
    /// Makes all slots that there can be without admins.
    pub fn make(
        user: &PersonName,
        archive: &Id,
        user_key: &UserKey,
        password: &PasswordSlotKey,
        code: &RecoveryCode,
    ) -> Escrowed {
        let place = user_place(user, archive);
        Escrowed {
            password: password.wrap(&place, user_key),
            recovery: code.key_pair().public().wrap(user_key),
            code: user_key.encrypt_recovery_code(&place, code),
            quorum: None,
        }
    }

    /// Adds slot 3 for the admins of this policy.
    #[must_use]
    pub fn with_admins(
        self,
        user: &PersonName,
        archive: &Id,
        user_key: &UserKey,
        half: &RecoveryHalf,
        policy: &SignedPolicy,
    ) -> Escrowed {
        let pinned = PinnedPolicy {
            version: policy.version(),
            digest: policy.digest(),
        };
        let keys: Vec<AdminPublicKey> = policy
            .admins()
            .iter()
            .map(|admin| admin.key.clone())
            .collect();
        let place = quorum_place(user, archive, &pinned);
        let slot = QuorumSlot::make(&place, user_key, half, policy.threshold(), &keys)
            .expect("a signed policy's threshold fits its admins");
        Escrowed {
            quorum: Some((pinned, slot)),
            ..self
        }
    }
}

/// What the third slot is bound to, the policy of admins included.
fn quorum_place(user: &PersonName, archive: &Id, policy: &PinnedPolicy) -> Vec<u8> {
    let mut place = user_place(user, archive);
    place.extend_from_slice(&policy.version.to_le_bytes());
    place.extend_from_slice(&policy.digest.0);
    place
}

impl SlotsRecord {
    /// Signs a record.
    pub fn sign(
        user: PersonName,
        archive: Id,
        version: u64,
        escrowed: Option<Escrowed>,
        user_key: &UserKey,
    ) -> SlotsRecord {
        let mut record = SlotsRecord {
            user,
            archive,
            version,
            escrowed,
            signature: [0; 64],
        };
        record.signature = user_key.sign_slots(&record.signed_bytes());
        record
    }

    /// Which slots there are.
    pub fn policy(&self) -> EscrowPolicy {
        match &self.escrowed {
            None => EscrowPolicy::Custom,
            Some(escrowed) if escrowed.quorum.is_none() => EscrowPolicy::Private,
            Some(_) => EscrowPolicy::Standard,
        }
    }

    /// As it is kept and sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.signed_bytes();
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// SHA-256 of [`SlotsRecord::to_bytes`].
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        put_text(&mut bytes, self.user.as_str());
        bytes.extend_from_slice(&self.archive.0);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.push(match self.policy() {
            EscrowPolicy::Custom => 0,
            EscrowPolicy::Private => 1,
            EscrowPolicy::Standard => 2,
        });
        let Some(escrowed) = &self.escrowed else {
            return bytes;
        };
        bytes.extend_from_slice(&escrowed.password);
        bytes.extend_from_slice(&escrowed.recovery);
        bytes.extend_from_slice(&escrowed.code);
        if let Some((policy, slot)) = &escrowed.quorum {
            bytes.extend_from_slice(&policy.version.to_le_bytes());
            bytes.extend_from_slice(&policy.digest.0);
            let count = u8::try_from(slot.pieces.len()).expect("at most 16 admins");
            bytes.extend_from_slice(&[slot.threshold, count]);
            bytes.extend(slot.pieces.iter().flatten());
            bytes.extend_from_slice(&slot.key);
        }
        bytes
    }

    /// Reads a record; nothing in it is known to be the user's yet.
    pub fn parse(bytes: &[u8]) -> Result<SlotsRecord, SlotsError> {
        read(bytes).ok_or(SlotsError::Malformed)
    }

    /// An error unless it is this user's, of this archive, and not older than what was seen.
    pub fn expect(&self, user: &PersonName, archive: &Id, seen: u64) -> Result<(), SlotsError> {
        if self.user != *user || self.archive != *archive {
            return Err(SlotsError::Foreign);
        }
        match self.version {
            found if found < seen => Err(SlotsError::RolledBack { found, seen }),
            _ => Ok(()),
        }
    }

    /// Opens slot 1, and checks with the key that is in it that the whole record is the user's.
    pub fn open_with_password(&self, key: &PasswordSlotKey) -> Result<UserKey, SlotsError> {
        let place = user_place(&self.user, &self.archive);
        let user_key = key.unwrap(&place, &self.slots()?.password)?;
        self.verify(&user_key)?;
        Ok(user_key)
    }

    /// Opens slot 2, and checks the whole record.
    pub fn open_with_code(&self, code: &RecoveryCode) -> Result<UserKey, SlotsError> {
        let user_key = code.key_pair().unwrap(&self.slots()?.recovery)?;
        self.verify(&user_key)?;
        Ok(user_key)
    }

    /// The recovery code, for who has the user key.
    pub fn recovery_code(&self, user_key: &UserKey) -> Result<RecoveryCode, SlotsError> {
        self.verify(user_key)?;
        let place = user_place(&self.user, &self.archive);
        Ok(user_key.decrypt_recovery_code(&place, &self.slots()?.code)?)
    }

    /// What the pieces of slot 3 are bound to, for an admin who opens one.
    pub fn quorum_place(&self) -> Result<Vec<u8>, SlotsError> {
        let (policy, _) = self.slots()?.quorum.as_ref().ok_or(SlotsError::NoSlot)?;
        Ok(quorum_place(&self.user, &self.archive, policy))
    }

    /// Whether who has this user key has signed it.
    pub fn verify(&self, user_key: &UserKey) -> Result<(), SlotsError> {
        Ok(user_key.verify_slots(&self.signed_bytes(), &self.signature)?)
    }

    fn slots(&self) -> Result<&Escrowed, SlotsError> {
        self.escrowed.as_ref().ok_or(SlotsError::NoSlot)
    }
}

fn read(bytes: &[u8]) -> Option<SlotsRecord> {
    let mut reader = Reader::new(bytes);
    (reader.array()? == *MAGIC).then_some(())?;
    let user = reader.text()?.parse().ok()?;
    let archive = crate::names::HexBytes(reader.array()?);
    let version = reader.u64()?;
    (version > 0).then_some(())?;
    let escrowed = match reader.u8()? {
        0 => None,
        policy @ (1 | 2) => {
            let mut escrowed = Escrowed {
                password: reader.take(PASSWORD_SLOT_BYTES)?.to_vec(),
                recovery: reader.take(SLOT_BYTES)?.to_vec(),
                code: reader.take(ENCRYPTED_CODE_BYTES)?.to_vec(),
                quorum: None,
            };
            if policy == 2 {
                escrowed.quorum = Some(read_quorum(&mut reader)?);
            }
            Some(escrowed)
        }
        _ => return None,
    };
    let signature = reader.array()?;
    reader.end()?;
    Some(SlotsRecord {
        user,
        archive,
        version,
        escrowed,
        signature,
    })
}

fn read_quorum(reader: &mut Reader<'_>) -> Option<(PinnedPolicy, QuorumSlot)> {
    let policy = PinnedPolicy {
        version: reader.u64()?,
        digest: Digest(reader.array()?),
    };
    let (threshold, count) = (reader.u8()?, reader.u8()?);
    ((2..=count).contains(&threshold) && count <= MOST_ADMINS).then_some(())?;
    let pieces = (0..count)
        .map(|_| reader.take(WRAPPED_PIECE_BYTES).map(<[u8]>::to_vec))
        .collect::<Option<Vec<_>>>()?;
    let key = reader.take(QUORUM_KEY_BYTES)?.to_vec();
    Some((
        policy,
        QuorumSlot {
            threshold,
            pieces,
            key,
        },
    ))
}
