//! What the audit log can say. Typed fields only: no field takes a text of somebody's choice, and none can hold a share.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use holdfast_protocol::calls::UserState;

use crate::names::{Fingerprint, HexBytes, Id, LineHash, PersonName, Role};

/// Who did it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The person, if the certificate belongs to one; nobody when the server acts by itself.
    pub name: Option<PersonName>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
}

impl Actor {
    /// The server itself.
    pub const SERVER: Actor = Actor {
        name: None,
        address: None,
    };
}

/// A ceremony's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ceremony {
    /// Opens the keystore.
    Unseal,
    /// Gives out new shares.
    Reshare,
}

/// Why a share was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShareRefusal {
    /// It is no share at all, or mistyped.
    Unreadable,
    /// It is a share of another keystore.
    Foreign,
    /// It is a share of another epoch: an old one.
    OtherEpoch,
    /// Its content is not the one that was handed out.
    Wrong,
    /// It was given to somebody else.
    OtherHolder,
    /// It has been entered already.
    Repeated,
    /// The ceremony is not the one that is under way, or there is none.
    NoSuchCeremony,
}

/// Why somebody was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessRefusal {
    /// No client certificate.
    NoCertificate,
    /// A certificate of nobody in the table.
    UnknownCertificate,
    /// The role does not allow the call.
    Role,
    /// The device was deauthorised.
    Deauthorised,
    /// The device is not in a state that the call is for.
    DeviceState,
}

/// Why the keystore was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SealReason {
    /// An operator wanted it.
    Asked,
    /// The server ends.
    Ending,
    /// The act that follows unsealing could not be put on record.
    AuditFailed,
}

/// One thing that happened, or is about to. No field has the name of one of [`Line`](super::Line): they stand side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The server has started, sealed.
    ServerStarted,
    /// An incomplete last line, which nobody was told about, was removed: the server had died while writing.
    TornLineRemoved {
        /// Its length.
        bytes: u64,
    },
    /// The server ends in order.
    ServerEnding,
    /// The log could not be written for a while, and can be again.
    AuditResumed,
    /// A call that changes something was let in. Stands before the act.
    CallAllowed {
        /// Which call.
        call: CallName,
    },
    /// Somebody was turned away.
    AccessRefused {
        /// Which call.
        call: CallName,
        /// Why.
        reason: AccessRefusal,
        /// Of the certificate, if there was one.
        fingerprint: Option<Fingerprint>,
    },
    /// The shares were made and are about to be handed out.
    Initialised {
        /// The new cluster.
        cluster: Id,
        /// The epoch of the shares.
        epoch: u64,
        /// Shares needed.
        threshold: u8,
        /// Shares made.
        shares: u8,
    },
    /// A ceremony has begun.
    CeremonyStarted {
        /// Which.
        kind: Ceremony,
        /// Its id.
        ceremony: Id,
    },
    /// A ceremony was given up.
    CeremonyCancelled {
        /// Which.
        kind: Ceremony,
        /// Its id.
        ceremony: Id,
    },
    /// A ceremony's time was over.
    CeremonyExpired {
        /// Which.
        kind: Ceremony,
    },
    /// A share counted.
    ShareAccepted {
        /// For which ceremony.
        kind: Ceremony,
        /// The share's number.
        share: u8,
        /// Shares that have counted.
        have: u8,
        /// Shares needed.
        need: u8,
    },
    /// A share did not count.
    ShareRefused {
        /// For which ceremony.
        kind: Ceremony,
        /// The share's number, if it could be read.
        share: Option<u8>,
        /// Why.
        reason: ShareRefusal,
    },
    /// Somebody had a share looked at, without unsealing anything.
    ShareVerified {
        /// The share's number, if it could be read.
        share: Option<u8>,
        /// Why it is not good; nothing if it is.
        refused: Option<ShareRefusal>,
    },
    /// The keystore is about to be open.
    Unsealed {
        /// The epoch of the shares.
        epoch: u64,
        /// The database's generation.
        generation: u64,
    },
    /// Enough good shares have come, and the database could not be opened with them: it is damaged or was changed.
    UnsealFailed,
    /// The keystore is sealed again.
    Sealed {
        /// Why.
        reason: SealReason,
    },
    /// The new shares have taken the old ones' place.
    Reshared {
        /// The new epoch.
        epoch: u64,
        /// Shares needed from now on.
        threshold: u8,
        /// Shares made.
        shares: u8,
    },
    /// The data key was changed.
    DataKeyRotated {
        /// The new term.
        term: u32,
    },
    /// A person may come in from now on.
    PersonAdded {
        /// The person.
        name: PersonName,
        /// What it may do.
        role: Role,
        /// Of the certificate that was issued.
        fingerprint: Fingerprint,
    },
    /// A person may not come in any more.
    PersonRemoved {
        /// The person.
        name: PersonName,
        /// Of the certificate that is not accepted any more.
        fingerprint: Fingerprint,
    },
    /// The table of persons is not the one that was there when the keystore was last open.
    PersonsChangedOutside,
    /// The database is older than what this log says of it.
    DatabaseRolledBack {
        /// Its generation.
        generation: u64,
        /// The generation that the log names.
        expected: u64,
    },
    /// The log has not the line that the database remembers: it was cut short or replaced.
    AuditLogCutShort {
        /// The line that is remembered.
        line: u64,
    },
    /// The head of this log was put into the database.
    HeadRemembered {
        /// The line.
        line: u64,
        /// Its hash.
        hash: LineHash,
        /// The database's generation after that.
        generation: u64,
    },
    /// A snapshot was taken.
    SnapshotSaved {
        /// The epoch of the shares that it needs.
        epoch: u64,
        /// Its length.
        bytes: u64,
    },
    /// A snapshot could not be taken, or the newest one is too old.
    SnapshotOverdue,
    /// A user may enrol with a token that is about to be made.
    UserInvited {
        /// Who.
        user: PersonName,
    },
    /// An operator has blocked a user, deauthorised all devices, deactivated, or undone it.
    UserStateChanged {
        /// Who.
        user: PersonName,
        /// What the user may do from now on.
        state: UserState,
    },
    /// One of the nine steps of an enrolment. 2 and 9 are the device's own report.
    EnrolmentStep {
        /// 1 to 9.
        step: u8,
        /// Who.
        user: PersonName,
        /// Which device, once there is one.
        device: Option<HexBytes<8>>,
        /// Step 5: of the certificate. Steps 7 and 8: of the record of slots.
        digest: Option<HexBytes<32>>,
    },
    /// A user has proved password and second factor on a new computer.
    LoggedIn {
        /// Who.
        user: PersonName,
        /// The new device.
        device: HexBytes<8>,
        /// Of its certificate.
        digest: HexBytes<32>,
    },
    /// Somebody has not proved to be this user.
    LoginFailed {
        /// As whom.
        user: PersonName,
    },
    /// Nobody may try to be this user for a while.
    LoginLimited {
        /// As whom.
        user: PersonName,
    },
    /// A new device is at work, perhaps in another one's place.
    DeviceReady {
        /// Whose.
        user: PersonName,
        /// Which.
        device: HexBytes<8>,
        /// In whose place.
        replaces: Option<HexBytes<8>>,
    },
    /// The record of slots is about to be given to a device of its user.
    KeyReleased {
        /// Whose.
        user: PersonName,
        /// To which device.
        device: HexBytes<8>,
        /// The record's version.
        version: u64,
    },
    /// A device has sent a new record of slots.
    SlotsChanged {
        /// Whose.
        user: PersonName,
        /// Which device.
        device: HexBytes<8>,
        /// The record's version.
        version: u64,
        /// Of the record.
        digest: HexBytes<32>,
    },
    /// A user has a new password.
    PasswordChanged {
        /// Who.
        user: PersonName,
    },
    /// A device has a new certificate.
    CertificateRenewed {
        /// Whose.
        user: PersonName,
        /// Which.
        device: HexBytes<8>,
        /// Of the certificate.
        digest: HexBytes<32>,
    },
    /// A device may do nothing any more.
    DeviceDeauthorised {
        /// Whose.
        user: PersonName,
        /// Which.
        device: HexBytes<8>,
    },
    /// A deauthorised device says that its key is gone.
    DeviceConfirmed {
        /// Whose.
        user: PersonName,
        /// Which.
        device: HexBytes<8>,
    },
    /// gc of all archives is about to begin, because it is due.
    CollectionStarted,
    /// gc has condemned or deleted objects of a user.
    ArchiveCollected {
        /// Whose.
        user: PersonName,
        /// Objects that nobody needs from now on.
        condemned_objects: u64,
        /// Objects that are gone.
        deleted_objects: u64,
        /// Their bytes.
        deleted_bytes: u64,
    },
    /// gc has stopped in a user's archive, and deleted nothing that it was not sure of.
    CollectionFailed {
        /// Whose.
        user: PersonName,
    },
    /// A policy of recovery admins is in force.
    PolicyPublished {
        /// Its version.
        version: u64,
        /// How many admins open a key.
        threshold: u8,
        /// Of the policy.
        digest: HexBytes<32>,
        /// Fingerprint of the root that has signed it.
        root: HexBytes<32>,
    },
    /// A snapshot was restored on this empty node.
    SnapshotRestored {
        /// Its cluster.
        cluster: Id,
        /// The epoch of the shares that it needs.
        epoch: u64,
    },
}

/// The name of a call, from the server's own table; never a text from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CallName(String);

impl CallName {
    /// The name of a call of the table.
    pub fn of(call: &'static str) -> CallName {
        CallName(call.to_owned())
    }
}

impl TryFrom<String> for CallName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let plain = |c: u8| c.is_ascii_lowercase() || c == b'_';
        if text.len() <= 64 && text.bytes().all(plain) {
            Ok(CallName(text))
        } else {
            Err("not the name of a call")
        }
    }
}

impl From<CallName> for String {
    fn from(name: CallName) -> String {
        name.0
    }
}
