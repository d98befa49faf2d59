//! `policy make`: the root's holder signs who the recovery admins are.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use holdfast_protocol::escrow::{Admin, AdminPublicKey, KeyText, PolicyRootKey, SignedPolicy};
use zeroize::Zeroizing;

use super::{Told, read};
use crate::cli::answer::Answer;
use crate::cli::connection::refuse_if_shared;
use crate::cli::new_file::{NewFile, Readers};

/// Longer than every key file; what has more is none.
const KEY_FILE_BYTES: u64 = 4 << 10;
const MOST_ADMINS: usize = 16;

/// What is signed.
#[derive(Args)]
pub struct Signing {
    /// The policy root's secret key, as new-root wrote it
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// How many admins together open a user's key, with the keystore
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u8).range(2..=MOST_ADMINS as i64))]
    threshold: u8,
    /// A recovery admin and the public key that new-admin printed; at least as many as the threshold, at most 16
    // Read below and not by clap, which would print what it does not like, and that could be a secret key.
    #[arg(long = "admin", value_name = "NAME=KEY", required = true)]
    admins: Vec<String>,
    /// The policy that this one replaces; without it, the first one is made
    #[arg(long, value_name = "POLICYFILE")]
    previous: Option<PathBuf>,
    /// Where the policy is written; there must be no file of that name
    out: PathBuf,
}

impl Signing {
    pub(super) fn run(self) -> anyhow::Result<Answer> {
        let admins = self.admins()?;
        let previous = match &self.previous {
            Some(file) => Some((read(file)?, file)),
            None => None,
        };
        let root = read_root(&self.root)?;
        if let Some((previous, file)) = &previous {
            let (signed, named) = (previous.root().fingerprint(), root.public().fingerprint());
            if signed != named {
                bail!(
                    "{} is signed by the root {signed}, and {} is the root {named}; name the key that has signed it",
                    file.display(),
                    self.root.display()
                );
            }
        }
        let previous = previous.as_ref().map(|(policy, _)| policy);
        let policy = SignedPolicy::sign(&root, self.threshold, &admins, previous)?;
        let not_made =
            "and nothing was signed; name a file that is not there yet, in a folder that is";
        let mut out = NewFile::make(self.out, Readers::Others, not_made)?;
        out.fill(policy.as_bytes(), "make room, and sign it again")?;
        let told = Told::of(&policy);
        let shown = out.path().display();
        let text = format!(
            "{}\nSigned into {shown}, which holds no secret. An operator puts it in force: holdfast-keystore policy publish {shown}",
            told.text()
        );
        Answer::new(text, &told)
    }

    /// All of them, different, and enough.
    fn admins(&self) -> anyhow::Result<Vec<Admin>> {
        let mut admins: Vec<Admin> = Vec::new();
        for argument in &self.admins {
            let admin = read_admin(argument)?;
            for other in &admins {
                if other.name == admin.name {
                    bail!("{} is named twice; name each admin once", admin.name);
                }
                if other.key == admin.key {
                    bail!(
                        "{} and {} have the same key; each admin makes one: holdfast-keystore policy new-admin FILE",
                        other.name,
                        admin.name
                    );
                }
            }
            admins.push(admin);
        }
        if admins.len() < usize::from(self.threshold) || admins.len() > MOST_ADMINS {
            bail!(
                "admins named: {}, admins needed: {}; name between {} and {MOST_ADMINS} with --admin, or change --threshold",
                admins.len(),
                self.threshold,
                self.threshold
            );
        }
        Ok(admins)
    }
}

/// An error names the admin and never the key.
fn read_admin(argument: &str) -> anyhow::Result<Admin> {
    let Some((name, key)) = argument.split_once('=') else {
        bail!("an admin is written NAME=KEY, with the public key that new-admin prints last");
    };
    let name = name.parse().context("an admin is written NAME=KEY")?;
    let key = AdminPublicKey::from_text(key).with_context(|| {
        format!("the key of {name} is not taken; copy the last line that new-admin printed")
    })?;
    Ok(Admin { name, key })
}

fn read_root(file: &Path) -> anyhow::Result<PolicyRootKey> {
    let shown = file.display();
    refuse_if_shared(file, "the policy root key")?;
    // Made large enough at once, so that growing leaves no copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES as usize));
    std::fs::File::open(file)
        .and_then(|opened| opened.take(KEY_FILE_BYTES).read_to_end(&mut bytes))
        .with_context(|| format!("{shown} cannot be read; check the path"))?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    PolicyRootKey::from_text(text)
        .with_context(|| format!("{shown} is not taken; name the file that new-root wrote"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_protocol::escrow::AdminKeyPair;

    /// Whoever mixes up the two lines of new-admin must not find the secret on the terminal or in a log.
    #[test]
    fn a_key_that_is_not_taken_is_not_repeated() {
        let pair = AdminKeyPair::generate();
        let secret = pair.to_text();
        let public = pair.public().to_text();
        assert!(read_admin(&format!("frank={}", *public)).is_ok());
        for bad in [
            format!("frank={}", *secret),
            format!("Frank={}", *secret),
            secret.to_string(),
            format!("frank:{}", *secret),
            format!("frank={}", &public[..1000]),
            "frank=".to_owned(),
            "=".to_owned(),
        ] {
            let error = read_admin(&bad).err().unwrap();
            let said = format!("{error:#}");
            for key in [&secret["hf-admin-1 ".len()..], &public["hfa1-".len()..]] {
                assert!(!said.contains(&key[..8]), "{said}");
            }
        }
    }
}
