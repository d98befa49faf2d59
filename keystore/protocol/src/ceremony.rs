//! A ceremony: several people give their shares for one thing, and each of them knows for which.
//!
//! It has a random id and a digest of what it is about, and every submission quotes both: a share that was given for one thing never counts for
//! another. A share counts once, by number, and only from its holder. What is refused takes nothing away. After its time, all
//! shares that counted are forgotten.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_crypto::{Share, random_id};

use crate::header::SealHeader;
use crate::keystore::{Keystore, KeystoreError, Sealed};
use crate::unsealed::Unsealed;

/// A ceremony that is under way.
pub struct Ceremony {
    id: [u8; 16],
    digest: [u8; 32],
    need: u8,
    expires: i64,
    shares: BTreeMap<u8, Share>,
    /// Shares of the epoch that holds, by number: their holders agree.
    approvals: BTreeSet<u8>,
    approvals_needed: u8,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The share that has just counted.
    pub share: u8,
    /// Shares that have counted, approvals among them.
    pub have: u8,
    /// Shares needed, approvals among them.
    pub need: u8,
}

/// A share that does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its number, if it could be read.
    pub share: Option<u8>,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a share does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// No share, or mistyped.
    Unreadable,
    /// Of another keystore.
    Foreign,
    /// Of another epoch.
    OtherEpoch {
        /// Its own.
        of: u32,
        /// The one that is needed.
        needed: u32,
    },
    /// Not what was handed out.
    Wrong,
    /// Handed out to somebody else.
    OtherHolder,
    /// It has counted already.
    Repeated,
    /// The ceremony that is quoted is not under way, or is about something else.
    NoSuchCeremony,
}

/// What came of a share.
pub enum Submission {
    /// It counted; more are needed.
    Waiting(Keystore<Sealed>, Progress),
    /// It was the last one.
    Unsealed(Keystore<Unsealed>, Progress),
    /// It did not count.
    Refused(Keystore<Sealed>, Refusal),
    /// It counted, and was the last one, and still the keystore cannot be opened.
    Failed(Keystore<Sealed>, KeystoreError),
}

impl Ceremony {
    /// `about` names the kind and all parameters.
    pub(crate) fn new(about: &[&[u8]], need: u8, expires: i64) -> Ceremony {
        let id = random_id();
        let mut hash = blake3::Hasher::new_derive_key("holdfast/1/ceremony");
        hash.update(&id);
        for part in about {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Ceremony {
            id,
            digest: *hash.finalize().as_bytes(),
            need,
            expires,
            shares: BTreeMap::new(),
            approvals: BTreeSet::new(),
            approvals_needed: 0,
        }
    }

    /// So many holders of the shares that hold have to agree, too.
    pub(crate) fn with_approvals(self, approvals_needed: u8) -> Ceremony {
        Ceremony {
            approvals_needed,
            ..self
        }
    }

    /// Random.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Of what it is about.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Shares needed.
    pub fn need(&self) -> u8 {
        self.need
    }

    /// When it is over, in seconds since 1970.
    pub fn expires(&self) -> i64 {
        self.expires
    }

    /// Numbers of the shares that have counted.
    pub fn have(&self) -> Vec<u8> {
        self.shares.keys().copied().collect()
    }

    /// Numbers of the shares whose holders have agreed.
    pub fn approved(&self) -> Vec<u8> {
        self.approvals.iter().copied().collect()
    }

    /// Holders that have to agree.
    pub fn approvals_needed(&self) -> u8 {
        self.approvals_needed
    }

    pub(crate) fn is(&self, id: &[u8; 16], digest: &[u8; 32], now: i64) -> bool {
        self.id == *id && self.digest == *digest && now < self.expires
    }

    /// Takes a share that was [checked](check).
    pub(crate) fn take(&mut self, share: Share) -> Result<Progress, Refusal> {
        let number = share.label().number;
        if self.shares.contains_key(&number) {
            return Err(Refusal {
                share: Some(number),
                reason: RefusalReason::Repeated,
            });
        }
        self.shares.insert(number, share);
        Ok(self.progress(number))
    }

    /// Takes the agreement of a share's holder. The share was [checked](check), and is not kept.
    pub(crate) fn approve(&mut self, number: u8) -> Result<Progress, Refusal> {
        if !self.approvals.insert(number) {
            return Err(Refusal {
                share: Some(number),
                reason: RefusalReason::Repeated,
            });
        }
        Ok(self.progress(number))
    }

    /// More approvals than are needed do not stand in for shares.
    fn progress(&self, share: u8) -> Progress {
        let count = |number: usize| u8::try_from(number).expect("there are at most 16");
        let approved = count(self.approvals.len()).min(self.approvals_needed);
        Progress {
            share,
            have: count(self.shares.len()) + approved,
            need: self.need + self.approvals_needed,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.shares.len() >= usize::from(self.need)
            && self.approvals.len() >= usize::from(self.approvals_needed)
    }

    /// The shares that have counted, for combining.
    pub(crate) fn into_shares(self) -> Vec<Share> {
        self.shares.into_values().collect()
    }
}

/// Reads a share and compares it with the header: is it one of these, whole, and this holder's?
pub(crate) fn check(header: &SealHeader, holder: &str, typed: &str) -> Result<Share, Refusal> {
    use holdfast_crypto::ShareLabel;
    let Ok(share) = Share::parse(typed) else {
        return Err(Refusal {
            share: None,
            reason: RefusalReason::Unreadable,
        });
    };
    let label = share.label();
    let held = header.share(label.number);
    let reason = if label.cluster_tag != ShareLabel::cluster_tag(&header.cluster) {
        RefusalReason::Foreign
    } else if label.epoch != header.epoch {
        RefusalReason::OtherEpoch {
            of: label.epoch,
            needed: header.epoch,
        }
    } else if label.threshold != header.threshold
        || !held.is_some_and(|held| held.is(&share, &header.cluster))
    {
        RefusalReason::Wrong
    } else if held.is_none_or(|held| held.holder != holder) {
        RefusalReason::OtherHolder
    } else {
        return Ok(share);
    };
    Err(Refusal {
        share: Some(label.number),
        reason,
    })
}
