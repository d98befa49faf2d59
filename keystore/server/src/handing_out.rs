//! New shares on their way to their holders: in the clear, to be printed, or encrypted to the holder with age.

use std::io::Write;

use age::armor::{ArmoredWriter, Format};
use age::x25519;
use holdfast_protocol::Share;

use crate::api::error::ApiError;
use crate::api::init::{Holder, NewShare};
use crate::api::json::ShareText;

/// Whom a share is encrypted to.
pub type Recipient = x25519::Recipient;

/// Reads the recipients before any share is made.
pub fn recipients(holders: &[Holder]) -> Result<Vec<Option<Recipient>>, ApiError> {
    let read = |holder: &Holder| match &holder.age {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            ApiError::unfit(
                format!("the age recipient of {} is none", holder.name),
                "write a recipient that begins with age1, as age-keygen prints it",
            )
        }),
    };
    holders.iter().map(read).collect()
}

/// The shares in the order of their holders.
pub fn shares(
    shares: &[Share],
    holders: &[Holder],
    recipients: &[Option<Recipient>],
) -> Result<Vec<NewShare>, ApiError> {
    let each = shares.iter().zip(holders).zip(recipients);
    each.map(|((share, holder), recipient)| {
        let printed = share.to_printed();
        let encrypted = match recipient {
            Some(recipient) => Some(encrypt(recipient, printed.as_bytes())?),
            None => None,
        };
        Ok(NewShare {
            number: share.label().number,
            holder: holder.name.clone(),
            share: recipient.is_none().then(|| ShareText::new(printed)),
            encrypted,
        })
    })
    .collect()
}

/// As `age --armor --recipient` does, with a line end so that decrypting prints a line.
fn encrypt(recipient: &Recipient, share: &[u8]) -> Result<String, ApiError> {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "a share cannot be encrypted");
        ApiError::storage()
    };
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient as _))
        .map_err(|error| failed(&error))?;
    let mut armored = Vec::new();
    let write = || -> std::io::Result<()> {
        let armor = ArmoredWriter::wrap_output(&mut armored, Format::AsciiArmor)?;
        let mut out = encryptor.wrap_output(armor)?;
        out.write_all(share)?;
        out.write_all(b"\n")?;
        out.finish()?.finish()?;
        Ok(())
    };
    write().map_err(|error| failed(&error))?;
    String::from_utf8(armored).map_err(|error| failed(&error))
}
