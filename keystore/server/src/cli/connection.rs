//! Which server, as whom, and how the server is recognised.
//!
//! On the server's own computer nothing has to be typed: the address is the one that `serve` listens on by default, and the
//! credential is the one in the person's configuration folder, or else the first operator's in the data folder.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::client::{Client, Credential, Trust};
use crate::names::Fingerprint;

/// Arguments of every command that asks a server.
#[derive(Args)]
pub(super) struct Connection {
    /// The keystore's address
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "HOLDFAST_KEYSTORE_SERVER",
        default_value = "https://localhost:8470"
    )]
    server: String,
    /// SHA-256 of the server's certificate, as `serve` prints it; by default the credential's authority must have signed it
    #[arg(
        long,
        global = true,
        value_name = "SHA256",
        conflicts_with = "server_ca",
        env = "HOLDFAST_KEYSTORE_FINGERPRINT"
    )]
    server_fingerprint: Option<String>,
    /// Authorities that may have signed the server's certificate, PEM, instead of the credential's
    #[arg(long, global = true, value_name = "FILE")]
    server_ca: Option<PathBuf>,
    /// Your credential: certificate, private key and authority, PEM
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HOLDFAST_KEYSTORE_IDENTITY"
    )]
    identity: Option<PathBuf>,
}

/// A server that can be asked.
pub(super) struct Session {
    pub(super) client: Client,
    /// Who asks, as the certificate says.
    pub(super) name: Option<String>,
}

impl Connection {
    /// Reads the credential; nothing is sent yet.
    pub(super) fn open(&self) -> anyhow::Result<Session> {
        let path = self.credential()?;
        refuse_if_shared(&path, "the credential")?;
        let credential = Credential::read(&path)?;
        let client = match self.trust()? {
            None => Client::new(&self.server, &credential, &[])?,
            Some(trust) => Client::trusting(&self.server, &credential, &trust)?,
        };
        let name = credential.name();
        Ok(Session { client, name })
    }

    fn credential(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.identity {
            return Ok(path.clone());
        }
        let own = configuration_folder().map(|folder| folder.join("credential.pem"));
        let first = data_folder().map(|folder| folder.join("first-operator.pem"));
        let places: Vec<PathBuf> = own.into_iter().chain(first).collect();
        match places.iter().find(|path| path.exists()) {
            Some(path) => Ok(path.clone()),
            None => {
                let places: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
                bail!(
                    "there is no credential at {}; name yours with --identity FILE",
                    places.join(" or ")
                )
            }
        }
    }

    fn trust(&self) -> anyhow::Result<Option<Trust>> {
        if let Some(file) = &self.server_ca {
            let authorities = CertificateDer::pem_file_iter(file)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .with_context(|| format!("{} holds no certificates in PEM", file.display()))?;
            if authorities.is_empty() {
                bail!(
                    "{} holds no certificates in PEM; name the authority's file",
                    file.display()
                );
            }
            return Ok(Some(Trust::Authorities(authorities)));
        }
        let Some(typed) = &self.server_fingerprint else {
            return Ok(None);
        };
        // openssl prints capitals with colons between.
        let plain = typed.replace(':', "").to_ascii_lowercase();
        let fingerprint: Fingerprint = plain.parse().with_context(|| {
            format!("\"{typed}\" is no SHA-256 fingerprint; copy it from what serve prints")
        })?;
        Ok(Some(Trust::Certificate(fingerprint)))
    }
}

/// The private key in it would be everybody's.
pub(super) fn refuse_if_shared(path: &Path, what: &str) -> anyhow::Result<()> {
    let shown = path.display();
    let metadata = std::fs::metadata(path)
        .with_context(|| format!("{what} {shown} cannot be read; check the path"))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        bail!("{what} {shown} can be read by others; run: chmod 600 {shown}");
    }
    Ok(())
}

/// Where `serve` keeps its data, and the first operator's credential, when nothing is said.
pub(super) fn data_folder() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/holdfast-keystore"));
    }
    folder("XDG_DATA_HOME", ".local/share")
}

fn configuration_folder() -> Option<PathBuf> {
    folder("XDG_CONFIG_HOME", ".config")
}

fn folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = match set(variable) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(set("HOME")?).join(below_home),
    };
    Some(base.join("holdfast-keystore"))
}
