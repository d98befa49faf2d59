//! Which lines are worth an alert, and in which words.

use holdfast_protocol::calls::UserState;

use crate::audit::Line;
use crate::audit::event::{AccessRefusal, Ceremony, Event, SealReason, ShareRefusal};

/// The sentence of an alert; `None` for a line that nobody need be told of.
pub(super) fn sentence(line: &Line) -> Option<String> {
    let who = line
        .by
        .as_ref()
        .map_or_else(|| "the server".to_owned(), ToString::to_string);
    let from = line
        .from
        .map_or_else(String::new, |address| format!(" from {address}"));
    let told = match &line.event {
        Event::Initialised {
            epoch,
            threshold,
            shares,
            ..
        } => {
            format!(
                "{who} has initialised the keystore: {threshold} of {shares} shares, epoch {epoch}"
            )
        }
        Event::CeremonyStarted { kind, .. } => format!("{who} has started to {}{from}", act(*kind)),
        Event::CeremonyCancelled { kind, .. } => {
            format!("{who} has given up to {}{from}", act(*kind))
        }
        Event::CeremonyExpired { kind } => format!("the time to {} is over", act(*kind)),
        Event::ShareAccepted {
            kind,
            share,
            have,
            need,
        } => format!(
            "{who} has submitted share {share}{from} to {}: {have} of {need}",
            act(*kind)
        ),
        Event::ShareRefused {
            kind,
            share,
            reason,
        } => format!(
            "a share{} of {who}{from} to {} was refused: {}",
            share.map_or_else(String::new, |share| format!(" (number {share})")),
            act(*kind),
            why(*reason)
        ),
        Event::ShareVerified { share, refused } => format!(
            "{who} had share {} looked at{from}: {}",
            share.map_or_else(|| "?".to_owned(), |share| share.to_string()),
            refused.map_or("it is good", why)
        ),
        Event::Unsealed { epoch, .. } => format!("the keystore is open (epoch {epoch})"),
        Event::UnsealFailed => {
            "enough good shares have come, but the database is damaged or was changed: the keystore stays sealed".to_owned()
        }
        Event::Sealed { reason } => format!("the keystore is sealed: {}", sealed(*reason, &who)),
        Event::Reshared {
            epoch,
            threshold,
            shares,
        } => {
            format!(
                "the shares were changed: {threshold} of {shares}, epoch {epoch}; the old ones are void"
            )
        }
        Event::PersonAdded { name, role, .. } => format!("{who} has added {name} as {role}{from}"),
        Event::PersonRemoved { name, .. } => format!("{who} has removed {name}{from}"),
        Event::PersonsChangedOutside => {
            "the table of persons was changed behind the server's back".to_owned()
        }
        Event::DatabaseRolledBack {
            generation,
            expected,
        } => format!(
            "the database is an old one: generation {generation}, the audit log says {expected}"
        ),
        Event::AuditLogCutShort { line } => {
            format!(
                "the audit log was cut short or replaced: it has no line {line} as the database remembers it"
            )
        }
        Event::SnapshotOverdue => "no snapshot could be taken for too long".to_owned(),
        Event::SnapshotRestored { epoch, .. } => {
            format!("{who} has restored a snapshot{from}; it needs the shares of epoch {epoch}")
        }
        Event::AccessRefused { reason, .. } => {
            format!("a call{from} was refused: {}", access(*reason))
        }
        Event::UserInvited { user } => format!("{who} has invited the user {user}{from}"),
        Event::UserStateChanged { user, state } => {
            format!("{who} has made the user {user} {}{from}", user_state(*state))
        }
        Event::EnrolmentStep { step: 8, user, .. } => format!("{user} is enrolled{from}"),
        Event::LoggedIn { user, .. } => format!("{user} has logged in on a new computer{from}"),
        Event::LoginLimited { user } => {
            format!("too many tries to log in as {user}{from}; more are refused for a while")
        }
        Event::PasswordChanged { user } => format!("{user} has changed the password{from}"),
        Event::DeviceDeauthorised { user, device } => {
            format!("{who} has deauthorised the device {device} of {user}{from}")
        }
        Event::CollectionFailed { user } => format!(
            "gc has stopped in the archive of {user}, and deleted nothing there that it was not sure of; look at the server's log"
        ),
        Event::PolicyPublished { version, threshold, .. } => format!(
            "{who} has published version {version} of the policy of recovery admins{from}: {threshold} of them open a key"
        ),
        Event::AuditResumed => "the audit log can be written again".to_owned(),
        Event::TornLineRemoved { .. } => {
            "an unfinished line of the audit log was removed: the server had died while writing it"
                .to_owned()
        }
        Event::ServerStarted => "the keystore's server has started; it is sealed".to_owned(),
        Event::ServerEnding
        | Event::CallAllowed { .. }
        | Event::DataKeyRotated { .. }
        | Event::HeadRemembered { .. }
        | Event::SnapshotSaved { .. }
        | Event::EnrolmentStep { .. }
        | Event::LoginFailed { .. }
        | Event::DeviceReady { .. }
        | Event::KeyReleased { .. }
        | Event::SlotsChanged { .. }
        | Event::CertificateRenewed { .. }
        | Event::CollectionStarted
        | Event::ArchiveCollected { .. }
        | Event::DeviceConfirmed { .. } => return None,
    };
    Some(told)
}

fn act(kind: Ceremony) -> &'static str {
    match kind {
        Ceremony::Unseal => "unseal",
        Ceremony::Reshare => "change the shares",
    }
}

fn why(reason: ShareRefusal) -> &'static str {
    match reason {
        ShareRefusal::Unreadable => "it is no share, or mistyped",
        ShareRefusal::Foreign => "it belongs to another keystore",
        ShareRefusal::OtherEpoch => "it is of another epoch",
        ShareRefusal::Wrong => "it is not the share that was handed out",
        ShareRefusal::OtherHolder => "it was handed out to somebody else",
        ShareRefusal::Repeated => "it has been entered already",
        ShareRefusal::NoSuchCeremony => "there is no such ceremony",
    }
}

fn sealed(reason: SealReason, who: &str) -> String {
    match reason {
        SealReason::Asked => format!("{who} wanted it"),
        SealReason::Ending => "the server ends".to_owned(),
        SealReason::AuditFailed => "the act could not be put on record".to_owned(),
    }
}

fn user_state(state: UserState) -> &'static str {
    match state {
        UserState::Invited => "invited",
        UserState::Active => "active",
        UserState::Blocked => "blocked",
        UserState::Deauthorised => "deauthorised",
        UserState::Deactivated => "deactivated",
    }
}

fn access(reason: AccessRefusal) -> &'static str {
    match reason {
        AccessRefusal::NoCertificate => "no client certificate",
        AccessRefusal::UnknownCertificate => "the certificate of nobody who may come in",
        AccessRefusal::Role => "the role does not allow it",
        AccessRefusal::Deauthorised => "the device was deauthorised",
        AccessRefusal::DeviceState => "the device is not in a state for it",
    }
}
