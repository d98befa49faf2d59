//! The seal header: what stands in the clear, so that a sealed keystore knows whose shares it needs.
//!
//! Stored as `MAC (32) | JSON`. The MAC is made with the root key, so it is checked only once the shares have opened that; until
//! then a header that somebody has changed can waste the holders' time, and nothing more: a share that does not match its commitment
//! is refused, one that does is the right one.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use holdfast_crypto::{MOST_SHARES, RootKey, Share, ShareCommitment, WRAPPED_ROOT_KEY_BYTES};

/// Longest name of a holder.
const NAME_BYTES: usize = 64;
const MAC_BYTES: usize = 32;

/// What a keystore is opened with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealHeader {
    /// Whose shares they are.
    #[serde(with = "hex::serde")]
    pub cluster: [u8; 16],
    /// Grows with each change of the shares.
    pub epoch: u32,
    /// Shares needed.
    pub threshold: u8,
    /// All shares, the first one number 1.
    pub shares: Vec<HeldShare>,
    /// Whether the keystore was ever open.
    pub opened: bool,
    /// The root key, wrapped under the unseal key.
    #[serde(with = "hex::serde")]
    pub(crate) wrapped_root: Vec<u8>,
}

/// One share of the header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldShare {
    /// Who holds it.
    pub holder: String,
    #[serde(with = "hex::serde")]
    pub(crate) commitment: [u8; 32],
}

/// How a keystore is to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitPlan {
    threshold: u8,
    holders: Vec<String>,
}

/// What cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not 2 to 16.
    #[error("there are 2 to 16 shares")]
    Shares,
    /// Not 2 to the number of shares.
    #[error("the threshold is at least 2 and at most the number of shares")]
    Threshold,
    /// No name.
    #[error("a holder's name has 1 to 64 bytes and no control characters")]
    Name,
}

impl InitPlan {
    /// `holders` hold share 1, 2, and so on. One holder may be named several times: a trial.
    pub fn new(threshold: u8, holders: Vec<String>) -> Result<InitPlan, PlanError> {
        let shares = u8::try_from(holders.len()).unwrap_or(u8::MAX);
        if !(2..=MOST_SHARES).contains(&shares) {
            return Err(PlanError::Shares);
        }
        if !(2..=shares).contains(&threshold) {
            return Err(PlanError::Threshold);
        }
        if !holders.iter().all(|name| is_name(name)) {
            return Err(PlanError::Name);
        }
        Ok(InitPlan { threshold, holders })
    }

    pub(crate) fn threshold(&self) -> u8 {
        self.threshold
    }

    pub(crate) fn shares(&self) -> u8 {
        u8::try_from(self.holders.len()).expect("there are at most 16")
    }

    /// The header for these new shares.
    pub(crate) fn header(
        &self,
        cluster: [u8; 16],
        epoch: u32,
        shares: &[Share],
        wrapped_root: Vec<u8>,
    ) -> SealHeader {
        let held = |(holder, share): (&String, &Share)| HeldShare {
            holder: holder.clone(),
            commitment: share.commitment(&cluster).0,
        };
        SealHeader {
            cluster,
            epoch,
            threshold: self.threshold,
            shares: self.holders.iter().zip(shares).map(held).collect(),
            opened: false,
            wrapped_root,
        }
    }
}

impl SealHeader {
    /// For associated data: whose, and of which epoch.
    pub(crate) fn place(cluster: &[u8; 16], epoch: u32) -> Vec<u8> {
        [cluster.as_slice(), &epoch.to_le_bytes()].concat()
    }

    /// The share of that number.
    pub fn share(&self, number: u8) -> Option<&HeldShare> {
        self.shares.get(usize::from(number).checked_sub(1)?)
    }

    /// Number of shares of whoever holds most of them; 1 unless it is a trial.
    pub fn most_in_one_hand(&self) -> usize {
        let of = |name: &str| {
            self.shares
                .iter()
                .filter(|share| share.holder == name)
                .count()
        };
        self.shares
            .iter()
            .map(|share| of(&share.holder))
            .max()
            .unwrap_or(0)
    }

    pub(crate) fn to_stored(&self, root: &RootKey) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("numbers and texts are always JSON");
        [root.header_mac(&json).as_slice(), &json].concat()
    }

    /// Reads one whose MAC cannot be checked yet. `None` for bytes that are no header: those that would be written in any other way,
    /// too, so that bytes and headers are one to one.
    pub(crate) fn from_stored(stored: &[u8]) -> Option<SealHeader> {
        let json = stored.get(MAC_BYTES..)?;
        let header: SealHeader = serde_json::from_slice(json).ok()?;
        let again = serde_json::to_vec(&header).ok()?;
        (again == json && header.is_possible()).then_some(header)
    }

    fn is_possible(&self) -> bool {
        let shares = u8::try_from(self.shares.len()).unwrap_or(u8::MAX);
        (2..=MOST_SHARES).contains(&shares)
            && (2..=shares).contains(&self.threshold)
            && self.epoch > 0
            && self.wrapped_root.len() == WRAPPED_ROOT_KEY_BYTES
            && self.shares.iter().all(|share| is_name(&share.holder))
    }

    /// Whether these bytes are what the holder of the root key has written.
    pub(crate) fn is_authentic(stored: &[u8], root: &RootKey) -> bool {
        let Some((mac, json)) = stored.split_first_chunk::<MAC_BYTES>() else {
            return false;
        };
        root.header_mac(json).ct_eq(mac).into()
    }
}

/// What a terminal shows as it is.
fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
}

impl HeldShare {
    pub(crate) fn is(&self, share: &Share, cluster: &[u8; 16]) -> bool {
        share.is(cluster, &ShareCommitment(self.commitment))
    }
}
