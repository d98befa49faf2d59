//! The keystore's own certificate authority: it issues the server's certificate on first start, and one client certificate
//! to each person.
//!
//! Its key is a file in the data folder (0600), outside of the barrier, since the first persons come before there is one.
//! Whoever steals it can make certificates, but nobody of that name: a certificate counts only if its fingerprint
//! stands in the table of persons. A person's private key is made on the person's computer; only the request comes here, and
//! of the request only the public key and the proof that its owner has the private one are taken.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::names::{Fingerprint, HexBytes, PersonName};
use crate::persons::replace_file;

const AUTHORITY_YEARS: i64 = 30;
const PERSON_YEARS: i64 = 10;
/// Renewed by the device when a third of it is over.
const DEVICE_DAYS: i64 = 14;
const DAY_SECONDS: i64 = 86_400;
const SERVER_YEARS: i64 = 2;
/// A server certificate that ends sooner is made anew at the start.
const RENEW_DAYS: i64 = 60;

/// The authority, with the folder it lies in.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// What cannot be issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of it.
    #[error("{} cannot be read or written: {source}; check the folder and its owner", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of it is not what we wrote.
    #[error("{} is damaged ({source}); put it back from a copy", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rcgen::Error,
    },
    /// A name that no certificate can carry.
    #[error(
        "names has one that no certificate can carry: {source}; write host names and addresses"
    )]
    Names {
        /// Why.
        source: rcgen::Error,
    },
    /// Not a request.
    #[error("this is no certificate signing request in PEM with a good signature")]
    Request,
    /// A kind of key that we do not take.
    #[error("the request's key is neither ECDSA (P-256, P-384) nor Ed25519")]
    KeyKind,
}

/// A client certificate as it is handed out.
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
}

/// A device's certificate as it is handed out.
pub struct IssuedDevice {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Its end.
    pub expires: Timestamp,
}

/// A checked request.
pub struct Request {
    parameters: CertificateSigningRequestParams,
    /// SHA-256 of its public key.
    pub public_key: HexBytes<32>,
}

impl Request {
    /// Reads one; the signature must be good.
    pub fn parse(pem: &str) -> Result<Request, AuthorityError> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| AuthorityError::Request)?;
        let parameters =
            CertificateSigningRequestParams::from_der(&der).map_err(|_| AuthorityError::Request)?;
        let kind = parameters.public_key.algorithm();
        let good = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
        ];
        if !good.contains(&kind) {
            return Err(AuthorityError::KeyKind);
        }
        let public_key = public_key_digest(&parameters.public_key);
        Ok(Request {
            parameters,
            public_key,
        })
    }
}

impl Authority {
    /// Opens the authority in `folder`, or makes it.
    pub fn open(folder: &Path) -> Result<Authority, AuthorityError> {
        let (certificate, key) = (folder.join("authority.crt"), folder.join("authority.key"));
        if !certificate.exists() {
            // The certificate comes last: without it, this runs again.
            let (certificate_pem, key_pem) = make_authority();
            write(&key, key_pem.as_bytes())?;
            write(&certificate, certificate_pem.as_bytes())?;
        }
        let certificate_pem = read(&certificate)?;
        let key_pem = read(&key)?;
        let damaged = |path: &Path| {
            let path = path.to_owned();
            move |source| AuthorityError::Damaged { path, source }
        };
        let key_pair = KeyPair::from_pem(&key_pem).map_err(damaged(&key))?;
        let issuer =
            Issuer::from_ca_cert_pem(&certificate_pem, key_pair).map_err(damaged(&certificate))?;
        Ok(Authority {
            folder: folder.to_owned(),
            issuer,
            certificate_pem: certificate_pem.to_string(),
        })
    }

    /// Its certificate, which clients trust and which goes into each credential.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The server's certificate and key (paths), made if there is none, if it ends soon, or if the names are others.
    pub fn server_certificate(
        &self,
        names: &[String],
    ) -> Result<(PathBuf, PathBuf), AuthorityError> {
        let paths = (
            self.folder.join("server.crt"),
            self.folder.join("server.key"),
        );
        let wanted = names.join("\n");
        let names_file = self.folder.join("server.names");
        let same = fs::read_to_string(&names_file).is_ok_and(|made_for| made_for == wanted);
        let whole =
            fs::read_to_string(&paths.0).is_ok_and(|chain| chain.ends_with(&self.certificate_pem));
        if same && whole && paths.1.exists() && ends_late_enough(&paths.0) {
            return Ok(paths);
        }
        let key = KeyPair::generate().expect("the random generator does not fail");
        let mut parameters = CertificateParams::new(names.to_vec())
            .map_err(|source| AuthorityError::Names { source })?;
        set_name_and_time(&mut parameters, "Holdfast keystore", SERVER_YEARS);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .map_err(|source| AuthorityError::Names { source })?;
        // The names come last: without them, this runs again.
        let _ = fs::remove_file(&names_file);
        write(&paths.1, Zeroizing::new(key.serialize_pem()).as_bytes())?;
        // With the authority's own: devices know it by its fingerprint alone.
        let chain = format!("{}{}", certificate.pem(), self.certificate_pem);
        write(&paths.0, chain.as_bytes())?;
        write(&names_file, wanted.as_bytes())?;
        Ok(paths)
    }

    /// Issues a client certificate. Of the request only the public key is taken.
    pub fn issue(&self, name: &PersonName, request: &Request) -> Issued {
        self.sign(
            client_parameters(name.as_str()),
            &request.parameters.public_key,
        )
    }

    /// Issues a device's certificate, good for 14 days from `now`. Of the request only the public key is taken.
    pub fn issue_device(
        &self,
        device: &HexBytes<8>,
        request: &Request,
        now: Timestamp,
    ) -> IssuedDevice {
        let mut parameters = client_parameters(&device.to_string());
        // Whole seconds: a certificate holds no smaller ones.
        let now = now.as_second();
        let expires = now + DEVICE_DAYS * DAY_SECONDS;
        parameters.not_before = moment(now - DAY_SECONDS);
        parameters.not_after = moment(expires);
        let issued = self.sign(parameters, &request.parameters.public_key);
        IssuedDevice {
            certificate_pem: issued.certificate_pem,
            fingerprint: issued.fingerprint,
            expires: Timestamp::from_second(expires).unwrap_or(Timestamp::MAX),
        }
    }

    /// Makes the first operator's credential: certificate, key and authority in one PEM text, with what the table needs.
    pub fn first_credential(
        &self,
        name: &PersonName,
    ) -> (Zeroizing<String>, Fingerprint, HexBytes<32>) {
        let key = KeyPair::generate().expect("the random generator does not fail");
        let issued = self.sign(client_parameters(name.as_str()), &key);
        let key_pem = Zeroizing::new(key.serialize_pem());
        let credential = Zeroizing::new(format!(
            "{}{}{}",
            issued.certificate_pem, *key_pem, self.certificate_pem
        ));
        (credential, issued.fingerprint, public_key_digest(&key))
    }

    fn sign(&self, parameters: CertificateParams, key: &impl PublicKeyData) -> Issued {
        let certificate = parameters
            .signed_by(key, &self.issuer)
            .expect("our own parameters and a key that was read before can be signed");
        Issued {
            certificate_pem: certificate.pem(),
            fingerprint: fingerprint(certificate.der()),
        }
    }
}

fn client_parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    set_name_and_time(&mut parameters, name, PERSON_YEARS);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    parameters
}

/// In seconds since 1970; the library's own type.
fn moment(seconds: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

/// SHA-256 of the DER bytes, as `openssl x509 -fingerprint -sha256` prints it.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    HexBytes(Sha256::digest(certificate).into())
}

fn public_key_digest(key: &impl PublicKeyData) -> HexBytes<32> {
    HexBytes(Sha256::digest(key.der_bytes()).into())
}

fn make_authority() -> (String, Zeroizing<String>) {
    let key = KeyPair::generate().expect("the random generator does not fail");
    let mut parameters = CertificateParams::default();
    // Two authorities must not have one name, or a verifier would try the wrong one.
    let mark = hex::encode(&Sha256::digest(key.der_bytes())[..4]);
    set_name_and_time(
        &mut parameters,
        &format!("Holdfast keystore authority {mark}"),
        AUTHORITY_YEARS,
    );
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = parameters
        .self_signed(&key)
        .expect("our own parameters can be signed");
    (certificate.pem(), Zeroizing::new(key.serialize_pem()))
}

/// Common name, validity from yesterday (clocks differ) on, and a random serial number.
fn set_name_and_time(parameters: &mut CertificateParams, name: &str, years: i64) {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    parameters.distinguished_name = distinguished;
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let date = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(
            date.year().into(),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    parameters.not_before = date(today.saturating_sub(1.day()));
    parameters.not_after = date(today.saturating_add(years.years()));
    let mut serial: [u8; 16] = rand::random();
    serial[0] &= 0x7f;
    parameters.serial_number = Some(SerialNumber::from_slice(&serial));
}

fn ends_late_enough(path: &Path) -> bool {
    let Ok(der) = CertificateDer::from_pem_file(path) else {
        return false;
    };
    let Ok((_, parsed)) = x509_parser::certificate::X509Certificate::from_der(&der) else {
        return false;
    };
    let days = (parsed.validity().not_after.timestamp() - Timestamp::now().as_second()) / 86_400;
    days >= RENEW_DAYS
}

fn read(path: &Path) -> Result<Zeroizing<String>, AuthorityError> {
    let text = fs::read_to_string(path).map_err(|source| AuthorityError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(Zeroizing::new(text))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), AuthorityError> {
    replace_file(path, bytes).map_err(|source| AuthorityError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(folder: &Path) -> Authority {
        Authority::open(folder).unwrap()
    }

    fn request(parameters: CertificateParams) -> String {
        let key = KeyPair::generate().unwrap();
        parameters.serialize_request(&key).unwrap().pem().unwrap()
    }

    #[test]
    fn it_is_made_once_and_the_server_certificate_follows_the_names() {
        let folder = tempfile::tempdir().unwrap();
        let first = authority(folder.path());
        assert_eq!(
            authority(folder.path()).certificate_pem(),
            first.certificate_pem()
        );
        let read = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            fs::read(first.server_certificate(&names).unwrap().0).unwrap()
        };
        let one = read(&["localhost"]);
        assert_eq!(read(&["localhost"]), one);
        assert_ne!(read(&["localhost", "keystore.example.org"]), one);
    }

    /// Somebody who asks to be an authority, or to have another name, gets a plain client certificate of the name that the operator wrote.
    #[test]
    fn a_request_gives_its_public_key_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority(folder.path());
        let mut wants = CertificateParams::new(vec!["keystore.example.org".to_owned()]).unwrap();
        wants.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wants.distinguished_name.push(DnType::CommonName, "root");
        let request = Request::parse(&request(wants)).unwrap();
        let issued = authority.issue(&"alice".parse().unwrap(), &request);
        let der = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
        assert_eq!(parsed.subject().to_string(), "CN=alice");
        assert!(!parsed.is_ca());
        assert!(parsed.subject_alternative_name().unwrap().is_none());
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert_eq!(issued.fingerprint, fingerprint(&der));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let good = request(CertificateParams::default());
        let mut lines: Vec<&str> = good.lines().collect();
        lines.remove(2);
        for bad in [
            "",
            "nonsense",
            &lines.join("\n"),
            &good.replace("REQUEST", "THING"),
        ] {
            assert!(
                matches!(Request::parse(bad), Err(AuthorityError::Request)),
                "{bad}"
            );
        }
    }
}
