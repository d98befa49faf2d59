//! New shares on their way to paper, to the terminal, or to files that only their holders can read.
//!
//! The answer to `init` and `reshare start` is the only place where the shares ever stand. So everything that could fail is done
//! before they are asked for: every file is made (0600, and never over another one), and only filled afterwards. If we die in
//! between, empty files are left; shares that nobody was given open nothing, and are made again.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use super::new_file::{NewFile, Readers};
use super::share_page::{Page, qr_in_half_blocks};
use crate::api::init::{Holder, InitRequest, NewShare};
use crate::api::json::ShareText;
use crate::names::PersonName;

const NOT_MADE: &str = "and no share was; make its folder, or move the file that is there";
const NOT_WRITTEN: &str = "make room and start again, the shares of this run open nothing";

/// Who gets the shares, and how.
#[derive(Args)]
pub struct HandOut {
    /// Who holds the next share; five times, or as often as there are shares. With an age recipient the share is encrypted
    /// to its holder and shown to nobody
    #[arg(long = "holder", value_name = "NAME[=age1...]", required = true)]
    holders: Vec<HolderArgument>,
    /// How many shares open the keystore
    #[arg(long, value_name = "T", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    threshold: u8,
    /// Write shares that are not encrypted as pages to print, one per holder, instead of showing them: to a folder, or as
    /// FILE-1-NAME.svg and so on
    #[arg(long, value_name = "FOLDER|FILE.svg")]
    print: Option<PathBuf>,
    /// Where encrypted shares are written
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
}

#[derive(Clone)]
struct HolderArgument(Holder);

impl FromStr for HolderArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, age) = match text.split_once('=') {
            Some((name, age)) => (name, Some(age.to_owned())),
            None => (text, None),
        };
        let name: PersonName = name
            .parse()
            .map_err(|error: crate::names::NameError| error.to_string())?;
        if age.as_ref().is_some_and(|age| !age.starts_with("age1")) {
            return Err("an age recipient begins with age1, as age-keygen prints it".to_owned());
        }
        Ok(HolderArgument(Holder { name, age }))
    }
}

/// What the shares open.
#[derive(Clone, Serialize)]
pub(super) struct Opens {
    pub(super) cluster: String,
    pub(super) epoch: u64,
    pub(super) threshold: u8,
}

/// Where one share went.
#[derive(Serialize)]
pub(super) struct Delivered {
    number: u8,
    holder: PersonName,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<ShareText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    encrypted: bool,
}

/// Files that are there and still empty, in the order of the holders. Those that stay empty are removed again.
pub(super) struct Prepared {
    files: Vec<Option<NewFile>>,
}

impl HandOut {
    /// What the server is asked.
    pub(super) fn request(&self) -> InitRequest {
        InitRequest {
            threshold: self.threshold,
            holders: self.holders.iter().map(|holder| holder.0.clone()).collect(),
        }
    }

    /// Makes all files, before any share is.
    pub(super) fn prepare(&self) -> anyhow::Result<Prepared> {
        if self.holders.len() < usize::from(self.threshold) || self.holders.len() > 16 {
            bail!(
                "holders named: {}, shares needed: {}; name between {} and 16 with --holder, or change --threshold",
                self.holders.len(),
                self.threshold,
                self.threshold
            );
        }
        let mut prepared = Prepared { files: Vec::new() };
        for (place, HolderArgument(holder)) in self.holders.iter().enumerate() {
            let prospective = match self.path(place + 1, holder) {
                Some(path) => Some(NewFile::make(path, Readers::Owner, NOT_MADE)?),
                None => None,
            };
            prepared.files.push(prospective);
        }
        Ok(prepared)
    }

    /// Where a share goes; `None` for the terminal.
    fn path(&self, number: usize, holder: &Holder) -> Option<PathBuf> {
        let name = &holder.name;
        if holder.age.is_some() {
            return Some(self.out.join(format!("share-{number}-{name}.age")));
        }
        let print = self.print.as_ref()?;
        if print.extension().is_some_and(|end| end == "svg") {
            let stem = print.with_extension("");
            return Some(PathBuf::from(format!(
                "{}-{number}-{name}.svg",
                stem.display()
            )));
        }
        Some(print.join(format!("share-{number}-{name}.svg")))
    }
}

impl Prepared {
    /// Fills the files, and gives what is to be told: on the terminal only shares that have no file.
    pub(super) fn deliver(
        mut self,
        shares: Vec<NewShare>,
        opens: &Opens,
    ) -> anyhow::Result<(Zeroizing<String>, Vec<Delivered>)> {
        let count = shares.len();
        if count != self.files.len() {
            bail!("the keystore has made {count} shares, which is not what was asked for");
        }
        let mut text = Zeroizing::new(String::with_capacity(count * (4 << 10)));
        let mut delivered = Vec::new();
        for (share, file) in shares.into_iter().zip(&mut self.files) {
            let page = Page {
                number: share.number,
                count,
                holder: share.holder.as_str(),
                opens,
            };
            text.push_str(&page.title());
            text.push('\n');
            delivered.push(hand_over(&share, &page, file.as_mut(), &mut text)?);
            text.push('\n');
        }
        Ok((text, delivered))
    }
}

fn hand_over(
    share: &NewShare,
    page: &Page<'_>,
    file: Option<&mut NewFile>,
    text: &mut String,
) -> anyhow::Result<Delivered> {
    let mut delivered = Delivered {
        number: share.number,
        holder: share.holder.clone(),
        share: None,
        file: file.as_ref().map(|file| file.path().to_owned()),
        encrypted: share.encrypted.is_some(),
    };
    match (&share.encrypted, &share.share, file) {
        (Some(encrypted), None, Some(file)) => {
            file.fill(encrypted.as_bytes(), NOT_WRITTEN)?;
            text.push_str(&format!(
                "encrypted to its holder: {}\n",
                file.path().display()
            ));
        }
        (None, Some(clear), Some(file)) => {
            file.fill(page.svg(clear.expose_secret())?.as_bytes(), NOT_WRITTEN)?;
            text.push_str(&format!("to be printed: {}\n", file.path().display()));
        }
        (None, Some(clear), None) => {
            text.push_str(clear.expose_secret());
            text.push('\n');
            text.push_str(&qr_in_half_blocks(clear.expose_secret())?);
            let copy = Zeroizing::new(clear.expose_secret().to_owned());
            delivered.share = Some(ShareText::new(copy));
        }
        _ => bail!(
            "share {} has not come in the form that was asked for",
            share.number
        ),
    }
    Ok(delivered)
}
