//! The keystore while it is sealed, and how it comes to be.
//!
//! Initialising is one `apply`: header, keyring and an empty manifest. If we die before it, there is no keystore; after it and before
//! the shares are handed out, there is one that nobody can open, so until it was open for the first time it may be initialised again.
//! The first unseal says in the header that it was.

use std::sync::Arc;

use holdfast_crypto::{CryptoError, Keyring, RootKey, Share, UnsealKey, random_id};

use crate::ceremony::{Ceremony, Refusal, RefusalReason, Submission, check};
use crate::header::{InitPlan, SealHeader};
use crate::manifest::{Manifest, ROOT};
use crate::path::RecordPath;
use crate::store::{Change, RecordStore, StoreError, StoredRecord};
use crate::unsealed::Unsealed;

pub(crate) const HEADER: &str = "seal/header";
pub(crate) const KEYRING: &str = "seal/keyring";

/// A keystore in the state `S`.
pub struct Keystore<S> {
    pub(crate) store: Arc<dyn RecordStore>,
    pub(crate) header: SealHeader,
    /// As it is stored, for comparing and swapping.
    pub(crate) header_version: u64,
    pub(crate) state: S,
}

/// No key in memory.
#[derive(Default)]
pub struct Sealed {
    ceremony: Option<Ceremony>,
}

/// What cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is not what was written last: changed, missing, or an old one.
    #[error("{what} in the database is damaged, missing, or an old one; restore a snapshot")]
    Damaged {
        /// Which.
        what: String,
    },
    /// Only one ceremony at a time.
    #[error("a ceremony is under way")]
    CeremonyRunning,
    /// Another one, or none.
    #[error("there is no such ceremony")]
    NoSuchCeremony,
    /// It was open before.
    #[error("the keystore was open before, so it is never initialised again")]
    WasOpen,
    /// As many as the keyring takes.
    #[error("the data key was changed as often as it can be; the newest one stays in use")]
    NoMoreDataKeys,
    /// Another version is there.
    #[error("the record {path} was changed in between")]
    Changed {
        /// Which.
        path: RecordPath,
    },
}

/// What is in a database; `None` if it is empty.
pub fn load(store: Arc<dyn RecordStore>) -> Result<Option<Keystore<Sealed>>, KeystoreError> {
    let Some(stored) = store.get(&RecordPath::fixed(HEADER))? else {
        if store.scan("", None, 1)?.is_empty() {
            return Ok(None);
        }
        return Err(damaged(HEADER));
    };
    let header = SealHeader::from_stored(&stored.value).ok_or_else(|| damaged(HEADER))?;
    Ok(Some(Keystore {
        store,
        header,
        header_version: stored.version,
        state: Sealed::default(),
    }))
}

/// Makes a new keystore, sealed, in place of `before`, which must never have been open. Gives its shares, in order.
pub fn initialise(
    store: Arc<dyn RecordStore>,
    before: Option<&Keystore<Sealed>>,
    plan: &InitPlan,
    now: i64,
) -> Result<(Keystore<Sealed>, Vec<Share>), KeystoreError> {
    if before.is_some_and(|before| before.header.opened) || holds_records(&*store)? {
        return Err(KeystoreError::WasOpen);
    }
    let cluster = random_id();
    let (root, keyring) = (RootKey::generate(), Keyring::generate(now));
    let (header, shares) = new_header(plan, cluster, 1, &root);
    let version = |path: &str| -> Result<Option<u64>, StoreError> {
        Ok(store
            .get(&RecordPath::fixed(path))?
            .map(|stored| stored.version))
    };
    let (there, keyring_there) = (version(HEADER)?, version(KEYRING)?);
    let root_there = version(ROOT)?;
    let wrapped = keyring.wrap(&root, &SealHeader::place(&cluster, 1));
    let manifest = Manifest::create(&cluster, &keyring, &wrapped, root_there);
    store.apply(&[
        change(HEADER, there, header.to_stored(&root)),
        change(KEYRING, keyring_there, wrapped),
        manifest,
    ])?;
    let keystore = Keystore {
        store,
        header,
        header_version: after(there),
        state: Sealed::default(),
    };
    Ok((keystore, shares))
}

/// Whether there is anything that a keystore which was never open does not have. The mark in the header stands in the clear and is checked with
/// the root key only: whoever can write to the database could take it back, and have a keystore full of records initialised again.
fn holds_records(store: &dyn RecordStore) -> Result<bool, StoreError> {
    let new = [HEADER, KEYRING, ROOT];
    let there = store.scan("", None, new.len() + 1)?;
    Ok(there.iter().any(|path| !new.contains(&path.as_str())))
}

/// New shares of a new unseal key that wraps `root`.
pub(crate) fn new_header(
    plan: &InitPlan,
    cluster: [u8; 16],
    epoch: u32,
    root: &RootKey,
) -> (SealHeader, Vec<Share>) {
    let key = UnsealKey::generate();
    let shares = key
        .split(epoch, &cluster, plan.threshold(), plan.shares())
        .expect("a plan has a threshold and a number of shares that go together");
    let wrapped = key.wrap_root(&SealHeader::place(&cluster, epoch), root);
    (plan.header(cluster, epoch, &shares, wrapped), shares)
}

/// Swaps a record of the seal; its version counts up.
pub(crate) fn change(path: &str, expected: Option<u64>, value: Vec<u8>) -> Change {
    Change {
        path: RecordPath::fixed(path),
        expected,
        put: Some(StoredRecord {
            version: after(expected),
            value,
        }),
    }
}

/// The version after this one. It tells two writes apart and says nothing else, and a database may claim any: it goes round.
pub(crate) fn after(version: Option<u64>) -> u64 {
    version.unwrap_or(0).wrapping_add(1)
}

pub(crate) fn damaged(what: &str) -> KeystoreError {
    KeystoreError::Damaged {
        what: what.to_owned(),
    }
}

impl<S> Keystore<S> {
    /// What may be told, sealed or not.
    pub fn header(&self) -> &SealHeader {
        &self.header
    }

    /// Whether a share is good and this holder's; nothing counts.
    pub fn verify_share(&self, holder: &str, typed: &str) -> Result<u8, Refusal> {
        check(&self.header, holder, typed).map(|share| share.label().number)
    }
}

impl Keystore<Sealed> {
    /// The ceremony that is under way.
    pub fn ceremony(&self) -> Option<&Ceremony> {
        self.state.ceremony.as_ref()
    }

    /// Starts to unseal.
    pub fn start_unseal(&mut self, now: i64, seconds: i64) -> Result<&Ceremony, KeystoreError> {
        self.expire(now);
        if self.state.ceremony.is_some() {
            return Err(KeystoreError::CeremonyRunning);
        }
        let place = SealHeader::place(&self.header.cluster, self.header.epoch);
        let need = self.header.threshold;
        let ceremony = Ceremony::new(
            &[b"unseal", &place, &[need]],
            need,
            now.saturating_add(seconds),
        );
        Ok(self.state.ceremony.insert(ceremony))
    }

    /// Gives it up.
    pub fn cancel_unseal(&mut self, id: &[u8; 16]) -> Result<(), KeystoreError> {
        match &self.state.ceremony {
            Some(ceremony) if ceremony.id() == *id => {
                self.state.ceremony = None;
                Ok(())
            }
            _ => Err(KeystoreError::NoSuchCeremony),
        }
    }

    /// Forgets a ceremony whose time is over; says whether there was one.
    pub fn expire(&mut self, now: i64) -> bool {
        let over = self
            .state
            .ceremony
            .as_ref()
            .is_some_and(|ceremony| ceremony.expires() <= now);
        if over {
            self.state.ceremony = None;
        }
        over
    }

    /// One share, for the ceremony with this id and digest. The last one that is needed opens the keystore.
    pub fn submit(
        mut self,
        (id, digest): (&[u8; 16], &[u8; 32]),
        holder: &str,
        typed: &str,
        now: i64,
    ) -> Submission {
        let share = match check(&self.header, holder, typed) {
            Ok(share) => share,
            Err(refusal) => return Submission::Refused(self, refusal),
        };
        let ours = |ceremony: &&mut Ceremony| ceremony.is(id, digest, now);
        let Some(ceremony) = self.state.ceremony.as_mut().filter(ours) else {
            let refusal = Refusal {
                share: Some(share.label().number),
                reason: RefusalReason::NoSuchCeremony,
            };
            return Submission::Refused(self, refusal);
        };
        let progress = match ceremony.take(share) {
            Ok(progress) => progress,
            Err(refusal) => return Submission::Refused(self, refusal),
        };
        if !ceremony.is_complete() {
            return Submission::Waiting(self, progress);
        }
        // Consumed: whether it opens or not, these shares are used once.
        let shares = self
            .state
            .ceremony
            .take()
            .map(Ceremony::into_shares)
            .unwrap_or_default();
        match self.open(&shares) {
            Ok((state, header, version)) => Submission::Unsealed(
                Keystore {
                    store: self.store,
                    header,
                    header_version: version,
                    state,
                },
                progress,
            ),
            Err(error) => Submission::Failed(self, error),
        }
    }

    /// Combines, unwraps, checks the header's MAC, and reads keyring and manifest.
    fn open(&self, shares: &[Share]) -> Result<(Unsealed, SealHeader, u64), KeystoreError> {
        let header_damaged = |_: CryptoError| damaged(HEADER);
        let place = SealHeader::place(&self.header.cluster, self.header.epoch);
        let key = UnsealKey::combine(self.header.threshold, shares).map_err(header_damaged)?;
        let root = key
            .unwrap_root(&place, &self.header.wrapped_root)
            .map_err(header_damaged)?;
        let stored = self
            .store
            .get(&RecordPath::fixed(HEADER))?
            .ok_or_else(|| damaged(HEADER))?;
        if !SealHeader::is_authentic(&stored.value, &root)
            || SealHeader::from_stored(&stored.value).as_ref() != Some(&self.header)
        {
            return Err(damaged(HEADER));
        }
        let keys = self
            .store
            .get(&RecordPath::fixed(KEYRING))?
            .ok_or_else(|| damaged(KEYRING))?;
        let keyring = Keyring::unwrap(&root, &place, &keys.value).map_err(|_| damaged(KEYRING))?;
        let manifest = Manifest::load(&*self.store, &self.header.cluster, &keyring, &keys.value)?;
        let mut header = self.header.clone();
        let mut version = stored.version;
        if !header.opened {
            header.opened = true;
            self.store
                .apply(&[change(HEADER, Some(version), header.to_stored(&root))])?;
            version = after(Some(version));
        }
        let state = Unsealed::new(root, keyring, keys.version, manifest);
        Ok((state, header, version))
    }
}
