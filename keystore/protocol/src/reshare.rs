//! New shares, in two phases.
//!
//! Start makes a new unseal key, new shares and a new root key, all in memory, and stores nothing. Then, in any order, as many
//! holders of the old shares as open the keystore enter theirs: they agree. And each new share is entered once by
//! its holder. When all of that has been, the new shares are combined and must open the new root key, and header, keyring and manifest root
//! are swapped in one `apply`. If we die or give up before it, nothing was stored and the old shares hold; after it, the new ones do.
//!
//! Without the old holders one operator could hand new shares to names of his own choice, and hold the unseal key alone.
//! Nothing is lost by handing the new shares out before they have agreed: until the switch they open nothing.
//!
//! All of the new shares are asked for, not only as many as are needed to open: each holder has proved that its share has
//! arrived and can be read before the old ones are worth nothing.

use holdfast_crypto::{RootKey, Share, UnsealKey};

use crate::ceremony::{Ceremony, Progress, Refusal, RefusalReason, check};
use crate::header::{InitPlan, SealHeader};
use crate::keystore::{
    HEADER, KEYRING, Keystore, KeystoreError, after, change, damaged, new_header,
};
use crate::unsealed::Unsealed;

/// Shares that are handed out and do not hold yet.
pub(crate) struct Reshare {
    ceremony: Ceremony,
    header: SealHeader,
    root: RootKey,
}

/// What came of a new share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewSubmission {
    /// It counted; others are missing.
    Waiting(Progress),
    /// It was the last one: the new shares hold.
    Reshared(Progress),
}

impl Keystore<Unsealed> {
    /// The reshare that is under way.
    pub fn reshare(&self) -> Option<&Ceremony> {
        self.state.reshare.as_ref().map(|reshare| &reshare.ceremony)
    }

    /// Makes new shares, and gives them, in order. The old ones hold on.
    pub fn start_reshare(
        &mut self,
        plan: &InitPlan,
        now: i64,
        seconds: i64,
    ) -> Result<Vec<Share>, KeystoreError> {
        self.expire_reshare(now);
        if self.state.reshare.is_some() {
            return Err(KeystoreError::CeremonyRunning);
        }
        let epoch = self.header.epoch + 1;
        let root = RootKey::generate();
        let (mut header, shares) = new_header(plan, self.header.cluster, epoch, &root);
        header.opened = true;
        let about = serde_json::to_vec(&header).expect("numbers and texts are always JSON");
        let until = now.saturating_add(seconds);
        let ceremony = Ceremony::new(&[b"reshare", &about], plan.shares(), until);
        self.state.reshare = Some(Reshare {
            ceremony: ceremony.with_approvals(self.header.threshold),
            header,
            root,
        });
        Ok(shares)
    }

    /// Gives it up.
    pub fn cancel_reshare(&mut self, id: &[u8; 16]) -> Result<(), KeystoreError> {
        match self.reshare() {
            Some(ceremony) if ceremony.id() == *id => {
                self.state.reshare = None;
                Ok(())
            }
            _ => Err(KeystoreError::NoSuchCeremony),
        }
    }

    /// Forgets a reshare whose time is over; says whether there was one.
    pub fn expire_reshare(&mut self, now: i64) -> bool {
        let over = self
            .reshare()
            .is_some_and(|ceremony| ceremony.expires() <= now);
        if over {
            self.state.reshare = None;
        }
        over
    }

    /// One share, new or old; the last one that is missing makes the new ones hold.
    pub fn submit_reshare(
        &mut self,
        (id, digest): (&[u8; 16], &[u8; 32]),
        holder: &str,
        typed: &str,
        now: i64,
    ) -> Result<Result<NewSubmission, Refusal>, KeystoreError> {
        let ours = |reshare: &&mut Reshare| reshare.ceremony.is(id, digest, now);
        let Some(reshare) = self.state.reshare.as_mut().filter(ours) else {
            return Ok(Err(Refusal {
                share: None,
                reason: RefusalReason::NoSuchCeremony,
            }));
        };
        let taken = match check(&self.header, holder, typed) {
            Ok(old) => reshare.ceremony.approve(old.label().number),
            // Of the new epoch, or neither old nor new.
            Err(refusal) if is_of_epoch(refusal, reshare.header.epoch) => {
                check(&reshare.header, holder, typed).and_then(|share| reshare.ceremony.take(share))
            }
            Err(refusal) => Err(refusal),
        };
        let progress = match taken {
            Ok(progress) => progress,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !reshare.ceremony.is_complete() {
            return Ok(Ok(NewSubmission::Waiting(progress)));
        }
        if let Some(reshare) = self.state.reshare.take() {
            self.switch(reshare)?;
        }
        Ok(Ok(NewSubmission::Reshared(progress)))
    }

    /// The one `apply` after which the new shares hold.
    fn switch(&mut self, reshare: Reshare) -> Result<(), KeystoreError> {
        let Reshare {
            ceremony,
            header,
            root,
        } = reshare;
        let place = SealHeader::place(&header.cluster, header.epoch);
        let shares = ceremony.into_shares();
        let needed = &shares[..header.threshold.into()];
        let stored = header.to_stored(&root);
        // Once more as the next unseal will do it, before anything depends on it.
        let opened = UnsealKey::combine(header.threshold, needed)
            .and_then(|key| key.unwrap_root(&place, &header.wrapped_root))
            .map_err(|_| damaged(HEADER))?;
        if !SealHeader::is_authentic(&stored, &opened) {
            return Err(damaged(HEADER));
        }
        let keyring = self.state.keyring.wrap(&root, &place);
        let mut next = self
            .state
            .manifest
            .touch(&header.cluster, &self.state.keyring, &keyring);
        next.changes
            .push(change(HEADER, Some(self.header_version), stored));
        next.changes
            .push(change(KEYRING, Some(self.state.keyring_version), keyring));
        self.apply(next)?;
        self.header = header;
        self.header_version = after(Some(self.header_version));
        self.state.keyring_version = after(Some(self.state.keyring_version));
        self.state.root = root;
        Ok(())
    }
}

fn is_of_epoch(refusal: Refusal, epoch: u32) -> bool {
    matches!(refusal.reason, RefusalReason::OtherEpoch { of, .. } if of == epoch)
}
