//! The organisation's policy: who its recovery admins are, and how many of them open a user's key. Signed by a root that stays offline.
//!
//! Each policy names the digest of the one before, and clients keep the newest that they have seen: a server can show them neither
//! an admin whom the root has not signed, nor a policy that is no longer in force.

use holdfast_crypto::{
    AdminPublicKey, Digest, MOST_ADMINS, PUBLIC_KEY_BYTES, PolicyRootKey, PolicyRootPublicKey,
};

use super::bytes::{Reader, put_text};
use crate::names::PersonName;

const MAGIC: &[u8; 8] = b"hfadmin1";

/// One recovery admin.
#[derive(Clone, PartialEq, Eq)]
pub struct Admin {
    /// The name, the same as of the person in the keystore.
    pub name: PersonName,
    /// What the admin's pieces are wrapped to.
    pub key: AdminPublicKey,
}

/// A policy with the root's signature, which has been checked against the root that is in it.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedPolicy {
    version: u64,
    previous: Option<Digest>,
    root: PolicyRootPublicKey,
    threshold: u8,
    admins: Vec<Admin>,
    bytes: Vec<u8>,
}

/// Why a policy is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not a policy.
    #[error(
        "this is no policy of recovery admins, or it is damaged; get the file again from whoever signed it"
    )]
    Malformed,
    /// Signed by somebody else.
    #[error(
        "the policy is signed by the root {found}, not by {expected}, which was seen first; ask whoever keeps the policy root"
    )]
    Root {
        /// Fingerprint of the root in the policy.
        found: Digest,
        /// Fingerprint of the root that is trusted.
        expected: Digest,
    },
    /// Not what comes after the one that is known.
    #[error(
        "the policy has version {found} and does not follow version {known}; make it with --previous and the policy in force"
    )]
    Chain {
        /// Its version.
        found: u64,
        /// The version that is known.
        known: u64,
    },
    /// Not 2 to the number of admins.
    #[error("a policy has 2 to 16 admins with different names, and needs at least 2 of them")]
    Threshold,
}

impl SignedPolicy {
    /// Signs a policy that follows `previous`.
    pub fn sign(
        root: &PolicyRootKey,
        threshold: u8,
        admins: &[Admin],
        previous: Option<&SignedPolicy>,
    ) -> Result<SignedPolicy, PolicyError> {
        let count = u8::try_from(admins.len()).map_err(|_| PolicyError::Threshold)?;
        if let Some(previous) = previous {
            previous.expect_root(&root.public())?;
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(
            &previous
                .map_or(1, |previous| previous.version + 1)
                .to_le_bytes(),
        );
        bytes.extend_from_slice(&previous.map_or([0; 32], |previous| previous.digest().0));
        bytes.extend_from_slice(&root.public().to_bytes());
        bytes.extend_from_slice(&[threshold, count]);
        for admin in admins {
            put_text(&mut bytes, admin.name.as_str());
            bytes.extend_from_slice(&admin.key.to_bytes());
        }
        let signature = root.sign(&bytes);
        bytes.extend_from_slice(&signature);
        // What could not be read again is not signed either: too many admins, one who is named twice.
        SignedPolicy::parse(&bytes).map_err(|_| PolicyError::Threshold)
    }

    /// Reads a policy and checks its signature.
    pub fn parse(bytes: &[u8]) -> Result<SignedPolicy, PolicyError> {
        let (signed, signature) = bytes
            .split_last_chunk::<64>()
            .ok_or(PolicyError::Malformed)?;
        let policy = read(signed, bytes).ok_or(PolicyError::Malformed)?;
        policy
            .root
            .verify(signed, signature)
            .map_err(|_| PolicyError::Malformed)?;
        Ok(policy)
    }

    /// An error unless it is signed by this root.
    pub fn expect_root(&self, root: &PolicyRootPublicKey) -> Result<(), PolicyError> {
        self.expect_fingerprint(&root.fingerprint())
    }

    /// An error unless it is signed by the root with this fingerprint.
    pub fn expect_fingerprint(&self, expected: &Digest) -> Result<(), PolicyError> {
        match self.root.fingerprint() {
            found if found == *expected => Ok(()),
            found => Err(PolicyError::Root {
                found,
                expected: *expected,
            }),
        }
    }

    /// An error unless it is the known one again, or comes right after it.
    pub fn expect_after(&self, known: &SignedPolicy) -> Result<(), PolicyError> {
        self.expect_root(&known.root)?;
        let follows = self.version == known.version + 1 && self.previous == Some(known.digest());
        if follows || self.bytes == known.bytes {
            Ok(())
        } else {
            Err(PolicyError::Chain {
                found: self.version,
                known: known.version,
            })
        }
    }

    /// From 1.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whose signature it has.
    pub fn root(&self) -> &PolicyRootPublicKey {
        &self.root
    }

    /// How many admins open a key.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// The admins; the first one's pieces have number 1.
    pub fn admins(&self) -> &[Admin] {
        &self.admins
    }

    /// SHA-256 of all of it.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// As it is kept and sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn read(signed: &[u8], bytes: &[u8]) -> Option<SignedPolicy> {
    let mut reader = Reader::new(signed);
    (reader.array()? == *MAGIC).then_some(())?;
    let version = reader.u64()?;
    let previous = reader.array::<32>()?;
    let root = PolicyRootPublicKey::from_bytes(&reader.array()?).ok()?;
    let (threshold, count) = (reader.u8()?, reader.u8()?);
    let mut admins: Vec<Admin> = Vec::new();
    // The first has none before it; version numbers do not run over.
    let chained = (version == 1) == (previous == [0; 32]) && (1..u64::MAX).contains(&version);
    (chained && (2..=count).contains(&threshold) && count <= MOST_ADMINS).then_some(())?;
    for _ in 0..count {
        let name: PersonName = reader.text()?.parse().ok()?;
        let key = AdminPublicKey::from_bytes(reader.take(PUBLIC_KEY_BYTES)?).ok()?;
        let new = admins
            .iter()
            .all(|admin| admin.name != name && admin.key != key);
        new.then(|| admins.push(Admin { name, key }))?;
    }
    reader.end()?;
    Some(SignedPolicy {
        version,
        previous: (version > 1).then_some(Digest(previous)),
        root,
        threshold,
        admins,
        bytes: bytes.to_vec(),
    })
}
