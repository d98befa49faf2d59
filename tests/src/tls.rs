//! Certificates of an authority that no system knows.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::servers::TlsFiles;

/// A certificate authority made for one test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    pub fn new() -> Authority {
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(parameters, key).expect("a certificate");
        Authority { issuer }
    }

    /// Its certificate in a file, as `--ca-file` wants it.
    pub fn file(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, self.issuer.pem()).expect("the certificate is written");
        path
    }

    /// A certificate for a host name or an address, with its key.
    pub fn issue(&self, host: &str, folder: &Path) -> TlsFiles {
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(vec![host.to_owned()])
            .and_then(|parameters| parameters.signed_by(&key, &self.issuer))
            .expect("a certificate");
        let files = TlsFiles {
            certificate: folder.join("server.crt"),
            key: folder.join("server.key"),
        };
        std::fs::write(&files.certificate, certificate.pem()).expect("written");
        std::fs::write(&files.key, key.serialize_pem()).expect("written");
        files
    }
}

impl Default for Authority {
    fn default() -> Self {
        Authority::new()
    }
}
