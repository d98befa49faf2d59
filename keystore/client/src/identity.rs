//! Who this computer is to the keystore: a private key that never leaves it, and the certificate that the authority made for it.

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use holdfast_protocol::names::{Fingerprint, HexBytes};

/// A private key (ECDSA P-256) before and behind a certificate.
pub struct DeviceKey(KeyPair);

/// What a device shows when it connects.
pub struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// What is no key, no certificate, or not a pair of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The key.
    #[error("this is no private key of a device in PEM")]
    Key,
    /// The certificate.
    #[error("this is no certificate in PEM")]
    Certificate,
}

impl DeviceKey {
    /// A new random key.
    pub fn generate() -> DeviceKey {
        DeviceKey(KeyPair::generate().expect("the random generator does not fail"))
    }

    /// What [`DeviceKey::expose_pem`] gave.
    pub fn from_pem(pem: &str) -> Result<DeviceKey, IdentityError> {
        KeyPair::from_pem(pem)
            .map(DeviceKey)
            .map_err(|_| IdentityError::Key)
    }

    /// The key itself, PEM: to be kept in a file that nobody else can read.
    pub fn expose_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// A certificate signing request, PEM. The authority takes nothing but its public key.
    pub fn request(&self) -> String {
        CertificateParams::default()
            .serialize_request(&self.0)
            .and_then(|request| request.pem())
            .expect("a request without a name can be signed by our own key")
    }

    /// The key with the certificate that was made for it, PEM.
    pub fn with_certificate(&self, pem: &str) -> Result<Identity, IdentityError> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| IdentityError::Certificate)?;
        let key =
            PrivateKeyDer::try_from(self.0.serialize_der()).map_err(|_| IdentityError::Key)?;
        Ok(Identity { certificate, key })
    }
}

/// SHA-256 of a certificate's bytes, as `openssl x509 -fingerprint -sha256` prints it.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    HexBytes(Sha256::digest(certificate).into())
}

impl Clone for Identity {
    fn clone(&self) -> Identity {
        Identity {
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl Identity {
    /// Whether a third of the certificate's time is over at `now`, in seconds since 1970: then a new one is asked for.
    pub fn is_due(&self, now_seconds: i64) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(&self.certificate) else {
            return true;
        };
        let validity = certificate.validity();
        let (begin, end) = (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        );
        now_seconds >= begin + (end - begin) / 3
    }

    /// SHA-256 of the certificate: how the server knows the device.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.certificate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file() {
        let key = DeviceKey::generate();
        let again = DeviceKey::from_pem(&key.expose_pem()).unwrap();
        assert_eq!(*again.expose_pem(), *key.expose_pem());
        assert!(key.request().contains("BEGIN CERTIFICATE REQUEST"));
        assert!(DeviceKey::from_pem("").is_err());
        assert!(key.with_certificate("nonsense").is_err());
    }

    #[test]
    fn a_certificate_is_due_when_a_third_of_its_time_is_over() {
        let key = DeviceKey::generate();
        let mut parameters = CertificateParams::default();
        parameters.not_before = rcgen::date_time_ymd(2026, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2026, 1, 16);
        let pem = parameters.self_signed(&key.0).unwrap().pem();
        let identity = key.with_certificate(&pem).unwrap();
        let begin = rcgen::date_time_ymd(2026, 1, 1).unix_timestamp();
        assert!(!identity.is_due(begin + 5 * 86_400 - 1));
        assert!(identity.is_due(begin + 5 * 86_400));
    }
}
