//! Enrolments, logins and changes of a password under way: in memory only, for minutes, and no more than so many.
//!
//! A session's id is 32 random bytes that only its caller knows. When there are too many, the oldest ones go: somebody who begins logins and
//! finishes none can make others begin anew, and nothing worse. All of them go when the keystore is sealed.

use std::collections::HashMap;

use holdfast_protocol::calls::SecretHex;
use holdfast_protocol::escrow::{PasswordLogin, SecondFactor};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::accounts::{CallingDevice, TokenDigest};
use crate::api::access::Exporter;
use crate::api::error::{ApiError, ErrorCode};
use crate::names::PersonName;

const MOST: usize = 4096;

/// What is under way.
pub enum Session {
    /// Enrolment, before there is a certificate.
    Enrolment(Enrolment),
    /// A login between its two calls.
    Login(Login),
    /// A new password between its two calls.
    Password(CallingDevice),
}

/// An enrolment, before there is a certificate.
pub struct Enrolment {
    /// Whose.
    pub user: PersonName,
    /// With which token.
    pub token: TokenDigest,
    /// The new second factor.
    pub second_factor: SecondFactor,
    /// OPAQUE's record and the step of the first code, once the password is registered.
    pub registered: Option<(Vec<u8>, u64)>,
}

/// A login between its two calls.
pub struct Login {
    /// Whose, as was said.
    pub user: PersonName,
    /// On which connection.
    pub exporter: Exporter,
    /// OPAQUE's state.
    pub state: PasswordLogin,
}

impl Session {
    fn lives(&self) -> SignedDuration {
        match self {
            Session::Enrolment(_) | Session::Password(_) => SignedDuration::from_mins(15),
            Session::Login(_) => SignedDuration::from_mins(2),
        }
    }
}

/// All of them.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<[u8; 32], (Timestamp, Session)>>);

impl Sessions {
    /// Keeps one; gives its id.
    pub fn begin(&self, now: Timestamp, session: Session) -> SecretHex {
        let mut sessions = self.0.lock();
        sessions.retain(|_, (ends, _)| *ends > now);
        if sessions.len() >= MOST {
            let soonest = sessions.iter().min_by_key(|(_, (ends, _))| *ends);
            if let Some(id) = soonest.map(|(id, _)| *id) {
                sessions.remove(&id);
            }
        }
        let id: [u8; 32] = rand::random();
        sessions.insert(id, (now + session.lives(), session));
        SecretHex::copy_of(&id)
    }

    /// Takes an enrolment out; it goes on only if it is [put back](Sessions::put_back).
    pub fn enrolment(&self, id: &SecretHex, now: Timestamp) -> Result<Enrolment, ApiError> {
        match self.take(id, now) {
            Some(Session::Enrolment(enrolment)) => Ok(enrolment),
            _ => Err(over("enrolment", "begin again with the same token")),
        }
    }

    /// Keeps an enrolment for its next call, under the same id and for as long again.
    pub fn put_back(&self, id: &SecretHex, now: Timestamp, enrolment: Enrolment) {
        let session = Session::Enrolment(enrolment);
        let ends = now + session.lives();
        self.0.lock().insert(*id.expose_secret(), (ends, session));
    }

    /// Takes a login out.
    pub fn login(&self, id: &SecretHex, now: Timestamp) -> Result<Login, ApiError> {
        match self.take(id, now) {
            Some(Session::Login(login)) => Ok(login),
            _ => Err(over("login", "log in again")),
        }
    }

    /// Takes a change of a password out, if it is this device's.
    pub fn password(
        &self,
        id: &SecretHex,
        now: Timestamp,
        device: &CallingDevice,
    ) -> Result<(), ApiError> {
        match self.take(id, now) {
            Some(Session::Password(begun)) if begun == *device => Ok(()),
            _ => Err(over("change of the password", "begin again")),
        }
    }

    /// Ends all of them.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    fn take(&self, id: &SecretHex, now: Timestamp) -> Option<Session> {
        let (ends, session) = self.0.lock().remove(id.expose_secret())?;
        (ends > now).then_some(session)
    }
}

fn over(what: &str, next: &str) -> ApiError {
    ApiError::new(ErrorCode::SessionOver, format!("this {what} is over"), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> CallingDevice {
        CallingDevice {
            user: "alice".parse().unwrap(),
            id: crate::names::HexBytes([1; 8]),
            state: holdfast_protocol::calls::DeviceState::Active,
            archive: crate::names::HexBytes([2; 16]),
        }
    }

    #[test]
    fn a_session_ends_with_its_use_its_time_or_too_many_others() {
        let (sessions, now) = (Sessions::default(), Timestamp::UNIX_EPOCH);
        let begin = |now| sessions.begin(now, Session::Password(device()));
        let used = begin(now);
        assert!(sessions.password(&used, now, &device()).is_ok());
        assert!(sessions.password(&used, now, &device()).is_err());
        let late = begin(now);
        let after = now + SignedDuration::from_mins(16);
        assert!(sessions.password(&late, after, &device()).is_err());
        let foreign = begin(now);
        let other = CallingDevice {
            id: crate::names::HexBytes([3; 8]),
            ..device()
        };
        assert!(sessions.password(&foreign, now, &other).is_err());
        let kind = begin(now);
        assert!(sessions.login(&kind, now).is_err());
        let first = begin(now);
        for second in 0..MOST as i64 {
            begin(now + SignedDuration::from_millis(second + 1));
        }
        assert!(sessions.password(&first, now, &device()).is_err());
        let cleared = begin(now);
        sessions.clear();
        assert!(sessions.password(&cleared, now, &device()).is_err());
    }
}
