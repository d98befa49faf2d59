//! Who may call what, and when: the one table.

use holdfast_protocol::calls::DeviceState;

use crate::names::Role;
use crate::server::Phase;

/// One call of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name in the audit log and in metrics.
    pub name: &'static str,
    /// How it is called.
    pub method: &'static str,
    /// Where.
    pub path: &'static str,
    /// Who may.
    pub who: Who,
    /// When.
    pub when: &'static [Phase],
    /// Whether a line in the audit log comes before it.
    pub on_record: OnRecord,
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Also without a certificate.
    Anyone,
    /// Persons of these roles.
    Roles(&'static [Role]),
    /// Devices in these states.
    Devices(&'static [DeviceState]),
    /// Both.
    RolesAndDevices(&'static [Role], &'static [DeviceState]),
}

/// What stands in the audit log before the act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRecord {
    /// Nothing: it reads what is no secret.
    No,
    /// That the call was let in.
    Yes,
    /// The same, and the limits of shares hold for it.
    Share,
}

use DeviceState::{Active, Confirmed, Deauthorised, Provisional};
use OnRecord::{No, Share, Yes};
use Phase::{Sealed, Uninitialised, Unsealed};
use Role::{Auditor, Holder, Operator, RecoveryAdmin};
use Who::{Anyone, Devices, Roles, RolesAndDevices};

const ALWAYS: &[Phase] = &[Uninitialised, Sealed, Unsealed];
const BEFORE_INIT: &[Phase] = &[Uninitialised];
/// The second one for a keystore that was never opened.
const FOR_INIT: &[Phase] = &[Uninitialised, Sealed];
const WHILE_SEALED: &[Phase] = &[Sealed];
const WHILE_OPEN: &[Phase] = &[Unsealed];
const INITIALISED: &[Phase] = &[Sealed, Unsealed];
const NOT_SEALED: &[Phase] = &[Uninitialised, Unsealed];

const ANY_ROLE: Who = Roles(&[Operator, Holder, Auditor, RecoveryAdmin]);
const MONITORS: Who = Roles(&[Operator, Holder, Auditor]);
const OPERATORS: Who = Roles(&[Operator]);
const SHARE_HOLDERS: Who = Roles(&[Operator, Holder]);
const READERS: Who = Roles(&[Operator, Auditor]);
/// While it is enrolled or logged in, and at work.
const DEVICES: Who = Devices(&[Provisional, Active]);
const NEW_DEVICES: Who = Devices(&[Provisional]);
const ACTIVE_DEVICES: Who = Devices(&[Active]);
const EVERY_DEVICE: Who = Devices(&[Provisional, Active, Deauthorised, Confirmed]);
const DEVICES_THAT_ARE_OUT: Who = Devices(&[Deauthorised, Confirmed]);
const READERS_AND_DEVICES: Who =
    RolesAndDevices(&[Operator, Auditor, RecoveryAdmin], &[Provisional, Active]);

const fn call(
    name: &'static str,
    method: &'static str,
    path: &'static str,
    who: Who,
    when: &'static [Phase],
    on_record: OnRecord,
) -> Call {
    Call {
        name,
        method,
        path,
        who,
        when,
        on_record,
    }
}

/// Every call there is.
#[rustfmt::skip]
pub const CALLS: &[Call] = &[
    call("health", "GET", "/v1/health", Anyone, ALWAYS, No),
    call("openapi", "GET", "/v1/openapi.json", Anyone, ALWAYS, No),
    call("metrics", "GET", "/metrics", MONITORS, ALWAYS, No),
    call("status", "GET", "/v1/status", ANY_ROLE, ALWAYS, No),
    call("init", "POST", "/v1/init", OPERATORS, FOR_INIT, Yes),
    call("unseal_start", "POST", "/v1/unseal/start", OPERATORS, WHILE_SEALED, Yes),
    call("unseal_submit", "POST", "/v1/unseal/submit", SHARE_HOLDERS, WHILE_SEALED, Share),
    call("unseal_cancel", "POST", "/v1/unseal/cancel", OPERATORS, WHILE_SEALED, Yes),
    call("seal", "POST", "/v1/seal", OPERATORS, WHILE_OPEN, Yes),
    call("share_verify", "POST", "/v1/share/verify", SHARE_HOLDERS, INITIALISED, Share),
    call("reshare_start", "POST", "/v1/reshare/start", OPERATORS, WHILE_OPEN, Yes),
    call("reshare_submit", "POST", "/v1/reshare/submit", SHARE_HOLDERS, WHILE_OPEN, Share),
    call("reshare_cancel", "POST", "/v1/reshare/cancel", OPERATORS, WHILE_OPEN, Yes),
    call("rotate_data_key", "POST", "/v1/rotate/data-key", OPERATORS, WHILE_OPEN, Yes),
    call("me", "GET", "/v1/me", ANY_ROLE, WHILE_OPEN, No),
    call("operators_list", "GET", "/v1/operators", READERS, NOT_SEALED, No),
    call("operators_add", "POST", "/v1/operators", OPERATORS, NOT_SEALED, Yes),
    call("operators_remove", "DELETE", "/v1/operators/{name}", OPERATORS, NOT_SEALED, Yes),
    call("snapshot_save", "GET", "/v1/snapshot", OPERATORS, WHILE_OPEN, Yes),
    call("snapshot_restore", "POST", "/v1/snapshot/restore", OPERATORS, BEFORE_INIT, Yes),
    call("audit_tail", "GET", "/v1/audit/tail", READERS, WHILE_OPEN, No),
    call("audit_verify", "GET", "/v1/audit/verify", READERS, WHILE_OPEN, No),
    call("users_list", "GET", "/v1/users", READERS, WHILE_OPEN, No),
    call("users_add", "POST", "/v1/users", OPERATORS, WHILE_OPEN, Yes),
    call("users_set_state", "PUT", "/v1/users/{name}/state", OPERATORS, WHILE_OPEN, Yes),
    call("users_devices", "GET", "/v1/users/{name}/devices", READERS, WHILE_OPEN, No),
    call("users_deauthorise", "POST", "/v1/users/{name}/devices/{device}/deauthorise", OPERATORS, WHILE_OPEN, Yes),
    call("policy_get", "GET", "/v1/policy", READERS_AND_DEVICES, WHILE_OPEN, No),
    call("policy_put", "PUT", "/v1/policy", OPERATORS, WHILE_OPEN, Yes),
    call("enrol_begin", "POST", "/v1/enrol/begin", Anyone, WHILE_OPEN, No),
    call("enrol_password", "POST", "/v1/enrol/password", Anyone, WHILE_OPEN, No),
    call("enrol_certificate", "POST", "/v1/enrol/certificate", Anyone, WHILE_OPEN, No),
    call("enrol_account", "POST", "/v1/enrol/account", NEW_DEVICES, WHILE_OPEN, No),
    call("enrol_authorise", "POST", "/v1/enrol/authorise", DEVICES, WHILE_OPEN, No),
    call("enrol_stored", "POST", "/v1/enrol/stored", ACTIVE_DEVICES, WHILE_OPEN, No),
    call("login_start", "POST", "/v1/login/start", Anyone, WHILE_OPEN, No),
    call("login_finish", "POST", "/v1/login/finish", Anyone, WHILE_OPEN, No),
    call("slots_get", "GET", "/v1/slots", DEVICES, WHILE_OPEN, No),
    call("slots_put", "PUT", "/v1/slots", DEVICES, WHILE_OPEN, No),
    call("password_start", "POST", "/v1/password/start", ACTIVE_DEVICES, WHILE_OPEN, No),
    call("password_finish", "POST", "/v1/password/finish", ACTIVE_DEVICES, WHILE_OPEN, No),
    call("device_half", "GET", "/v1/device/half", DEVICES, WHILE_OPEN, Yes),
    call("device_ready", "POST", "/v1/device/ready", DEVICES, WHILE_OPEN, No),
    call("device_certificate", "POST", "/v1/device/certificate", ACTIVE_DEVICES, WHILE_OPEN, No),
    call("device_watch", "GET", "/v1/device/watch", EVERY_DEVICE, WHILE_OPEN, No),
    call("device_confirm", "POST", "/v1/device/confirm", DEVICES_THAT_ARE_OUT, WHILE_OPEN, No),
    call("devices_list", "GET", "/v1/devices", ACTIVE_DEVICES, WHILE_OPEN, No),
    call("devices_deauthorise", "POST", "/v1/devices/{device}/deauthorise", ACTIVE_DEVICES, WHILE_OPEN, No),
    call("store", "GET", "/v1/store", DEVICES, WHILE_OPEN, No),
    call("grants", "POST", "/v1/grants", DEVICES, WHILE_OPEN, No),
    call("objects_list", "GET", "/v1/objects", DEVICES, WHILE_OPEN, No),
    // The link is what lets in.
    call("objects_get", "GET", "/v1/objects/{archive}/{name}", Anyone, WHILE_OPEN, No),
    call("objects_put", "PUT", "/v1/objects/{archive}/{name}", Anyone, WHILE_OPEN, No),
    call("gc", "POST", "/v1/gc", OPERATORS, WHILE_OPEN, Yes),
];
