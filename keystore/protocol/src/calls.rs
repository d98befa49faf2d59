//! The messages between drive and keystore, as `docs/protocol/enrol.md` has them.
//!
//! Paths are relative to the server's address. Bytes travel as base64 (standard alphabet, padded), ids and digests as small
//! hexadecimal digits, times as RFC 3339. Every type refuses fields that it does not know.

mod bytes;
mod devices;
mod enrol;
mod grants;
mod login;
mod secret;
mod slots;
mod users;

pub use bytes::Bytes64;
pub use devices::{
    CertificateRequest, DeviceCertificate, DeviceHalf, DeviceList, DeviceRecord, DeviceState,
    DeviceWatch, Lease, Watched,
};
pub use enrol::{
    Account, AccountRequest, Authorise, BeginEnrolment, EnrolmentBegun, EnrolmentPassword,
    EnrolmentRequest, StoreDescription, StoreKind,
};
pub use grants::{Grant, GrantAct, Granted, Grants, ListedObject, Listing, Wish, Wishes};
pub use login::{
    DeviceReady, FinishLogin, LoggedIn, LoginStarted, PasswordChange, PasswordChangeStarted,
    StartLogin, StartPasswordChange,
};
pub use secret::{SecretHex, SecretText};
pub use slots::{EscrowPolicy, PolicyDocument, PutSlots, Slots};
pub use users::{AddUser, AddedUser, SetUserState, User, UserList, UserState};

/// Label of the TLS exporter whose 32 bytes a login is bound to (RFC 5705, no context).
pub const LOGIN_EXPORTER: &[u8] = b"EXPORTER-holdfast-login";

/// What every refused call answers. `code` is for programs; the server's documentation lists them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refused {
    /// For programs.
    pub code: String,
    /// For persons.
    pub sentence: String,
    /// What to do.
    pub next_step: String,
}
