//! The second factor: six digits that change every 30 seconds (TOTP, RFC 6238, with SHA-1 as the apps have it).
//!
//! A code is good for its own step and the one before and after it, and once: whoever checks remembers the step of the last code.

use totp_rs::{Builder, Secret, Totp};
use zeroize::Zeroizing;

use crate::error::CryptoError;
use crate::secret::fill_random;

/// RFC 4226, section 4, asks for 128 bits and recommends 160.
const SECRET_BYTES: usize = 20;
const ISSUER: &str = "Holdfast";

/// The secret that server and app share.
pub struct SecondFactor(Box<Zeroizing<[u8; SECRET_BYTES]>>);

impl SecondFactor {
    /// A new random secret.
    pub fn generate() -> SecondFactor {
        let mut secret = Box::new(Zeroizing::new([0; SECRET_BYTES]));
        fill_random(secret.as_mut_slice());
        SecondFactor(secret)
    }

    /// The secret with these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<SecondFactor, CryptoError> {
        let bytes: [u8; SECRET_BYTES] = bytes.try_into().map_err(|_| malformed())?;
        Ok(SecondFactor(Box::new(Zeroizing::new(bytes))))
    }

    /// The bytes themselves.
    pub fn expose_secret(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// For an app: `otpauth://totp/...`, as a QR code or to be copied.
    pub fn to_address(&self, user: &str) -> Zeroizing<String> {
        let totp = Builder::new()
            .with_secret(Secret::from(self.0.to_vec()))
            .with_issuer(Some(ISSUER))
            .with_account_name(user)
            .build()
            .expect("160 bits, and neither name has a colon");
        Zeroizing::new(totp.to_url().expect("it has an issuer and an account"))
    }

    /// What [`SecondFactor::to_address`] gave: for whoever plays the app.
    pub fn from_address(address: &str) -> Result<SecondFactor, CryptoError> {
        let totp = Totp::from_url(address.trim()).map_err(|_| malformed())?;
        SecondFactor::from_bytes(totp.secret().as_ref())
    }

    /// The code of a moment, in seconds since 1970.
    pub fn code(&self, now: u64) -> Zeroizing<String> {
        Zeroizing::new(self.totp().generate(now).to_string())
    }

    /// The step of the code if it is good now and later than the last one that was taken; that step is the last one from now on.
    pub fn check(&self, code: &str, now: u64, last_step: Option<u64>) -> Option<u64> {
        let step = self.totp().check(code, now)?;
        last_step.is_none_or(|last| step > last).then_some(step)
    }

    fn totp(&self) -> Totp {
        Builder::new()
            .with_secret(Secret::from(self.0.to_vec()))
            .build()
            .expect("160 bits are enough")
    }
}

fn malformed() -> CryptoError {
    CryptoError::Malformed {
        what: "the secret of a second factor",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, SHA-1, the last six of its eight digits.
    #[test]
    fn the_published_codes_come_out() {
        let factor = SecondFactor::from_bytes(b"12345678901234567890").unwrap();
        for (now, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(*factor.code(now), code);
        }
    }

    #[test]
    fn a_code_is_good_for_three_steps_and_once() {
        let factor = SecondFactor::generate();
        let now = 1_000_000 * 30;
        let code = factor.code(now);
        assert_eq!(factor.check(&code, now, None), Some(1_000_000));
        assert_eq!(factor.check(&code, now + 30, None), Some(1_000_000));
        assert_eq!(factor.check(&code, now - 30, None), Some(1_000_000));
        assert_eq!(factor.check(&code, now + 60, None), None);
        assert_eq!(factor.check(&code, now, Some(1_000_000)), None);
        assert_eq!(factor.check(&code, now, Some(999_999)), Some(1_000_000));
        for strange in ["", "12345", "1234567", "+12345", "abcdef", "１２３４５６"] {
            assert_eq!(factor.check(strange, now, None), None);
        }
    }

    #[test]
    fn the_address_carries_the_secret() {
        let factor = SecondFactor::generate();
        let address = factor.to_address("alice");
        assert!(
            address.starts_with("otpauth://totp/Holdfast"),
            "{}",
            *address
        );
        let read = SecondFactor::from_address(&format!("{}\n", *address)).unwrap();
        assert_eq!(read.expose_secret(), factor.expose_secret());
        assert!(SecondFactor::from_address("otpauth://hotp/x").is_err());
        assert!(SecondFactor::from_address("").is_err());
    }
}
