//! What the server does with the keystore: each act with its lines in the audit log, under the vault's lock.
//!
//! The gate has put on record that the call was let in. Here follows what came of it. An act that can be taken back is done first
//! and undone if its line cannot be written: a keystore that was just opened is sealed again, shares that were just made are
//! worth nothing (nobody has seen them, and the keystore may be initialised again, or the reshare is given up).

use jiff::{SignedDuration, Timestamp};

use holdfast_protocol as protocol;
use holdfast_protocol::{
    InitPlan, NewSubmission, Progress, Refusal, RefusalReason, Submission, Unsealed,
};

use crate::api::access::Caller;
use crate::api::error::ApiError;
use crate::api::init::{InitRequest, InitResponse};
use crate::api::json::ShareText;
use crate::api::reshare::ReshareStarted;
use crate::api::share::GoodShare;
use crate::api::status::{CeremonyStatus, DataKeyStatus};
use crate::api::unseal::{Outcome, SubmitShare, Submitted};
use crate::audit::event::{SealReason, ShareRefusal};
use crate::audit::{Actor, Ceremony, Event};
use crate::handing_out;
use crate::names::{HexBytes, Id, Role};
use crate::server::{Phase, Server, Warning};
use crate::vault::{State, Vault};

impl Server {
    /// Makes the keys and their shares.
    pub fn init(&self, actor: &Actor, wanted: &InitRequest) -> Result<InitResponse, ApiError> {
        let mut vault = self.vault.write();
        let (plan, recipients) = self.plan(wanted)?;
        let before = match &vault.state {
            State::Uninitialised => None,
            State::Sealed(keystore) => Some(keystore),
            State::Unsealed(_) | State::Moving => return Err(ApiError::already_initialised()),
        };
        let now = self.clock.now().as_second();
        let (keystore, shares) = protocol::initialise(vault.records.clone(), before, &plan, now)?;
        let header = keystore.header();
        let (cluster, epoch) = (HexBytes(header.cluster), u64::from(header.epoch));
        vault.state = State::Sealed(keystore);
        let event = Event::Initialised {
            cluster,
            epoch,
            threshold: wanted.threshold,
            shares: count(&shares),
        };
        self.record_now(actor, event)?;
        Ok(InitResponse {
            cluster,
            epoch,
            threshold: wanted.threshold,
            shares: handing_out::shares(&shares, &wanted.holders, &recipients)?,
        })
    }

    /// Starts to unseal.
    pub fn start_unseal(&self, actor: &Actor) -> Result<CeremonyStatus, ApiError> {
        let mut vault = self.vault.write();
        let seconds = vault.ceremony_seconds;
        let keystore = vault.sealed_mut()?;
        let ceremony = keystore
            .start_unseal(self.clock.now().as_second(), seconds)?
            .id();
        self.started(&mut vault, actor, Ceremony::Unseal, ceremony)
    }

    /// One share for unsealing.
    pub fn submit_unseal(
        &self,
        caller: &Caller,
        submitted: &SubmitShare,
    ) -> Result<Submitted, ApiError> {
        let mut vault = self.vault.write();
        vault.sealed_mut()?;
        let State::Sealed(keystore) = vault.take() else {
            unreachable!("it was sealed one line before, under the same lock");
        };
        let quoted = (&submitted.ceremony.0, &submitted.digest.0);
        let holder = caller.person().as_str();
        let typed = submitted.share.expose_secret();
        let actor = caller.actor();
        match keystore.submit(quoted, holder, typed, self.clock.now().as_second()) {
            Submission::Waiting(keystore, progress) => {
                vault.state = State::Sealed(keystore);
                self.record_now(&actor, accepted(Ceremony::Unseal, progress))?;
                Ok(told(progress, Outcome::Waiting))
            }
            Submission::Unsealed(keystore, progress) => {
                vault.state = State::Unsealed(Box::new(keystore));
                let opened = self.opened(&mut vault, &actor, progress);
                if opened.is_err() {
                    seal_now(&mut vault);
                }
                opened.map(|()| told(progress, Outcome::Unsealed))
            }
            Submission::Refused(keystore, refusal) => {
                vault.state = State::Sealed(keystore);
                Err(self.refuse(&actor, Ceremony::Unseal, refusal)?)
            }
            Submission::Failed(keystore, error) => {
                vault.state = State::Sealed(keystore);
                self.record_now(&actor, Event::UnsealFailed)?;
                Err(error.into())
            }
        }
    }

    /// Gives it up.
    pub fn cancel_unseal(&self, actor: &Actor, ceremony: Id) -> Result<(), ApiError> {
        let mut vault = self.vault.write();
        vault.sealed_mut()?.cancel_unseal(&ceremony.0)?;
        let kind = Ceremony::Unseal;
        self.record_now(actor, Event::CeremonyCancelled { kind, ceremony })
            .map(drop)
    }

    /// Drops the keys, whatever can or cannot be put on record: sealing is always safe.
    pub fn seal(&self, actor: &Actor, reason: SealReason) -> Result<(), ApiError> {
        let mut vault = self.vault.write();
        if vault.phase() != Phase::Unsealed {
            return Ok(());
        }
        let remembered = self.remember_head_in(&mut vault, self.clock.now());
        seal_now(&mut vault);
        self.sessions.clear();
        drop(vault);
        // Whoever waits for a change of a device's state is told that there is nobody to ask any more.
        self.device_changes.send_modify(|changes| *changes += 1);
        self.record_now(actor, Event::Sealed { reason })?;
        remembered
    }

    /// Whether a share is good and the caller's.
    pub fn verify_share(&self, caller: &Caller, share: &ShareText) -> Result<GoodShare, ApiError> {
        let vault = self.vault.read();
        let (holder, typed) = (caller.person(), share.expose_secret());
        let verified = match &vault.state {
            State::Sealed(keystore) => keystore.verify_share(holder.as_str(), typed),
            State::Unsealed(keystore) => keystore.verify_share(holder.as_str(), typed),
            State::Uninitialised | State::Moving => return Err(ApiError::uninitialised()),
        };
        let epoch = vault.header().map_or(0, |header| header.epoch.into());
        drop(vault);
        let event = Event::ShareVerified {
            share: verified
                .as_ref()
                .map_or_else(|refusal| refusal.share, |number| Some(*number)),
            refused: verified.err().map(|refusal| reason(refusal.reason)),
        };
        self.record_now(&caller.actor(), event)?;
        match verified {
            Ok(number) => Ok(GoodShare {
                number,
                holder: holder.clone(),
                epoch,
            }),
            Err(refusal) => Err(refused(refusal)),
        }
    }

    /// Makes new shares; the old ones hold on.
    pub fn start_reshare(
        &self,
        actor: &Actor,
        wanted: &InitRequest,
    ) -> Result<ReshareStarted, ApiError> {
        let mut vault = self.vault.write();
        let (plan, recipients) = self.plan(wanted)?;
        let seconds = vault.ceremony_seconds;
        let keystore = vault.open_mut()?;
        let shares = keystore.start_reshare(&plan, self.clock.now().as_second(), seconds)?;
        let epoch = u64::from(keystore.header().epoch) + 1;
        let ceremony = keystore
            .reshare()
            .map(protocol::Ceremony::id)
            .unwrap_or_default();
        let status = self.started(&mut vault, actor, Ceremony::Reshare, ceremony)?;
        Ok(ReshareStarted {
            ceremony: status,
            epoch,
            shares: handing_out::shares(&shares, &wanted.holders, &recipients)?,
        })
    }

    /// One new share.
    pub fn submit_reshare(
        &self,
        caller: &Caller,
        submitted: &SubmitShare,
    ) -> Result<Submitted, ApiError> {
        let mut vault = self.vault.write();
        let keystore = vault.open_mut()?;
        let quoted = (&submitted.ceremony.0, &submitted.digest.0);
        let holder = caller.person().as_str();
        let typed = submitted.share.expose_secret();
        let actor = caller.actor();
        let now = self.clock.now().as_second();
        match keystore.submit_reshare(quoted, holder, typed, now)? {
            Ok(NewSubmission::Waiting(progress)) => {
                self.record_now(&actor, accepted(Ceremony::Reshare, progress))?;
                Ok(told(progress, Outcome::Waiting))
            }
            Ok(NewSubmission::Reshared(progress)) => {
                let header = keystore.header();
                let event = Event::Reshared {
                    epoch: header.epoch.into(),
                    threshold: header.threshold,
                    shares: count(&header.shares),
                };
                self.record_now(&actor, accepted(Ceremony::Reshare, progress))?;
                self.record_now(&actor, event)?;
                Ok(told(progress, Outcome::Reshared))
            }
            Err(refusal) => Err(self.refuse(&actor, Ceremony::Reshare, refusal)?),
        }
    }

    /// Gives it up; the old shares hold.
    pub fn cancel_reshare(&self, actor: &Actor, ceremony: Id) -> Result<(), ApiError> {
        let mut vault = self.vault.write();
        vault.open_mut()?.cancel_reshare(&ceremony.0)?;
        let kind = Ceremony::Reshare;
        self.record_now(actor, Event::CeremonyCancelled { kind, ceremony })
            .map(drop)
    }

    /// A new data key for what is written from now on.
    pub fn rotate_data_key(
        &self,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<DataKeyStatus, ApiError> {
        let mut vault = self.vault.write();
        let keystore = vault.open_mut()?;
        let term = keystore.rotate_data_key(now.as_second())?;
        let generation = keystore.generation();
        self.record_now(actor, Event::DataKeyRotated { term })?;
        Ok(DataKeyStatus { term, generation })
    }

    /// Ends ceremonies whose time is over.
    pub fn expire_ceremonies(&self, now: Timestamp) -> Result<(), ApiError> {
        let mut vault = self.vault.write();
        let now = now.as_second();
        let (kind, expired) = match &mut vault.state {
            State::Sealed(keystore) => (Ceremony::Unseal, keystore.expire(now)),
            State::Unsealed(keystore) => (Ceremony::Reshare, keystore.expire_reshare(now)),
            State::Uninitialised | State::Moving => return Ok(()),
        };
        if expired {
            self.record_now(&Actor::SERVER, Event::CeremonyExpired { kind })?;
        }
        Ok(())
    }

    /// Changes the data key if it is old or has written enough.
    pub fn rotate_if_due(&self, now: Timestamp) -> Result<(), ApiError> {
        let due = {
            let vault = self.vault.read();
            let Ok(keystore) = vault.open() else {
                return Ok(());
            };
            is_due(keystore, &self.config.rotation, now)
        };
        if due {
            self.rotate_data_key(&Actor::SERVER, now)?;
        }
        Ok(())
    }

    /// Puts the head of the audit log into the barrier if that was not done for `every`.
    pub fn remember_head(&self, now: Timestamp, every: SignedDuration) -> Result<(), ApiError> {
        let mut vault = self.vault.write();
        let recent = vault
            .head_remembered
            .is_some_and(|then| now.duration_since(then) < every);
        if vault.phase() != Phase::Unsealed || recent {
            return Ok(());
        }
        self.remember_head_in(&mut vault, now)
    }

    fn remember_head_in(&self, vault: &mut Vault, now: Timestamp) -> Result<(), ApiError> {
        let head = self.audit.head();
        vault.remember_head(&head, now)?;
        let event = Event::HeadRemembered {
            line: head.sequence,
            hash: head.hash,
            generation: vault.open()?.generation(),
        };
        self.record_now(&Actor::SERVER, event).map(drop)
    }

    /// The lines of an unsealing, what must be looked at after it, and what the barrier remembers from now on.
    fn opened(&self, vault: &mut Vault, actor: &Actor, progress: Progress) -> Result<(), ApiError> {
        self.warnings.lock().clear();
        self.record_now(actor, accepted(Ceremony::Unseal, progress))?;
        let keystore = vault.open()?;
        let (epoch, generation) = (keystore.header().epoch.into(), keystore.generation());
        let expected = self.newest_generation();
        self.record_now(actor, Event::Unsealed { epoch, generation })?;
        if generation < expected {
            self.tell(
                Warning::DatabaseRolledBack,
                Event::DatabaseRolledBack {
                    generation,
                    expected,
                },
            )?;
        }
        if let Some(head) = vault.remembered_head()?
            && !self.audit_has(head.sequence, &head.hash)
        {
            let line = head.sequence;
            self.tell(Warning::AuditLogCutShort, Event::AuditLogCutShort { line })?;
        }
        let persons = self.persons.read();
        if vault
            .remembered_digest()?
            .is_some_and(|digest| digest != persons.digest())
        {
            self.tell(Warning::PersonsChangedOutside, Event::PersonsChangedOutside)?;
        }
        // From here on the table is the one that an operator has been told of.
        vault.remember_persons(&persons)?;
        drop(persons);
        self.remember_head_in(vault, self.clock.now())
    }

    fn tell(&self, warning: Warning, event: Event) -> Result<(), ApiError> {
        self.record_now(&Actor::SERVER, event)?;
        self.warn(warning);
        Ok(())
    }

    fn started(
        &self,
        vault: &mut Vault,
        actor: &Actor,
        kind: Ceremony,
        id: [u8; 16],
    ) -> Result<CeremonyStatus, ApiError> {
        let ceremony = HexBytes(id);
        if let Err(error) = self.record_now(actor, Event::CeremonyStarted { kind, ceremony }) {
            // It never was: nobody has been told its id.
            match &mut vault.state {
                State::Sealed(keystore) => drop(keystore.cancel_unseal(&id)),
                State::Unsealed(keystore) => drop(keystore.cancel_reshare(&id)),
                State::Uninitialised | State::Moving => {}
            }
            return Err(error);
        }
        vault.ceremony().ok_or_else(ApiError::storage)
    }

    fn refuse(
        &self,
        actor: &Actor,
        kind: Ceremony,
        refusal: Refusal,
    ) -> Result<ApiError, ApiError> {
        let event = Event::ShareRefused {
            kind,
            share: refusal.share,
            reason: reason(refusal.reason),
        };
        self.record_now(actor, event)?;
        Ok(refused(refusal))
    }

    /// Everybody who is to hold a share must be able to come in with it.
    fn plan(
        &self,
        wanted: &InitRequest,
    ) -> Result<(InitPlan, Vec<Option<handing_out::Recipient>>), ApiError> {
        let persons = self.persons.read();
        for holder in &wanted.holders {
            let role = persons.named(&holder.name).map(|person| person.role);
            if !matches!(role, Some(Role::Operator | Role::Holder)) {
                return Err(ApiError::unfit(
                    format!("{} is nobody who may submit a share", holder.name),
                    "add that person as holder or operator first",
                ));
            }
        }
        let names = wanted.holders.iter().map(|holder| holder.name.to_string());
        let plan = InitPlan::new(wanted.threshold, names.collect()).map_err(|error| {
            ApiError::unfit(error.to_string(), "name other holders or another threshold")
        })?;
        let recipients = handing_out::recipients(&wanted.holders)?;
        Ok((plan, recipients))
    }
}

fn seal_now(vault: &mut Vault) {
    vault.state = match vault.take() {
        State::Unsealed(keystore) => State::Sealed(keystore.seal()),
        other => other,
    };
    vault.head_remembered = None;
}

fn is_due(
    keystore: &protocol::Keystore<Unsealed>,
    config: &crate::config::Rotation,
    now: Timestamp,
) -> bool {
    let seconds = i64::try_from(config.every_days.saturating_mul(86_400)).unwrap_or(i64::MAX);
    let age = now.as_second().saturating_sub(keystore.term_created());
    age >= seconds || keystore.term_writes() >= config.writes
}

fn count<T>(shares: &[T]) -> u8 {
    u8::try_from(shares.len()).expect("there are at most 16")
}

fn accepted(kind: Ceremony, progress: Progress) -> Event {
    Event::ShareAccepted {
        kind,
        share: progress.share,
        have: progress.have,
        need: progress.need,
    }
}

fn told(progress: Progress, outcome: Outcome) -> Submitted {
    Submitted {
        outcome,
        share: progress.share,
        have: progress.have,
        need: progress.need,
    }
}

fn reason(reason: RefusalReason) -> ShareRefusal {
    match reason {
        RefusalReason::Unreadable => ShareRefusal::Unreadable,
        RefusalReason::Foreign => ShareRefusal::Foreign,
        RefusalReason::OtherEpoch { .. } => ShareRefusal::OtherEpoch,
        RefusalReason::Wrong => ShareRefusal::Wrong,
        RefusalReason::OtherHolder => ShareRefusal::OtherHolder,
        RefusalReason::Repeated => ShareRefusal::Repeated,
        RefusalReason::NoSuchCeremony => ShareRefusal::NoSuchCeremony,
    }
}

fn refused(refusal: Refusal) -> ApiError {
    let (sentence, next) = match refusal.reason {
        RefusalReason::Unreadable => (
            "this is no share, or it is mistyped".to_owned(),
            "compare it with the paper, group by group".to_owned(),
        ),
        RefusalReason::Foreign => (
            "this share belongs to another keystore".to_owned(),
            "look for the one of this keystore".to_owned(),
        ),
        RefusalReason::OtherEpoch { of, needed } => (
            format!("this share is of epoch {of}"),
            format!("submit the share of epoch {needed}"),
        ),
        RefusalReason::Wrong => (
            "this is not the share that was handed out".to_owned(),
            "look for the right one; the paper may be a forgery".to_owned(),
        ),
        RefusalReason::OtherHolder => (
            "this share was handed out to somebody else".to_owned(),
            "its holder submits it, over its own certificate".to_owned(),
        ),
        RefusalReason::Repeated => (
            "this share has been entered already".to_owned(),
            "other holders submit theirs".to_owned(),
        ),
        RefusalReason::NoSuchCeremony => (
            "there is no such ceremony under way".to_owned(),
            "the status tells id and digest of the one that is, if there is one".to_owned(),
        ),
    };
    ApiError::share(refusal.share, reason(refusal.reason), sentence, next)
}
