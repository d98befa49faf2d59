//! A share as its holder types it: without echo, or from a file. A typing error is found here, before anything is sent, and
//! where it is gets said.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use holdfast_protocol::{Share, ShareError};
use zeroize::Zeroizing;

use crate::api::json::ShareText;

const PREFIX: &str = "hfs1";
/// More than sixteen shares with comments; what is longer is no file of shares.
const FILE_BYTES: u64 = 64 << 10;

/// Where the share comes from.
#[derive(Args)]
pub struct ShareSource {
    /// Read the share from a file, or from standard input with `-`, instead of asking for it; one share per line
    #[arg(long, value_name = "FILE")]
    share_file: Option<PathBuf>,
}

impl ShareSource {
    /// Whether shares are asked for one after the other.
    pub(super) fn asks(&self) -> bool {
        self.share_file.is_none()
    }

    /// All shares of the file, or one that is asked for.
    pub(super) fn read(&self, prompt: &str) -> anyhow::Result<Vec<ShareText>> {
        match &self.share_file {
            Some(file) => {
                let text = read_file(file)?;
                shares_in(&text).with_context(|| match file == Path::new("-") {
                    true => "on standard input".to_owned(),
                    false => format!("in {}", file.display()),
                })
            }
            None => match ask(prompt)? {
                Some(share) => Ok(vec![share]),
                None => bail!("no share was entered, and nothing was sent; run the command again"),
            },
        }
    }

    /// One more, or none if the holder has enough.
    pub(super) fn ask_again(&self) -> anyhow::Result<Option<ShareText>> {
        ask("Your next share (an empty line ends): ")
    }
}

/// Asks until a whole share was typed. An empty line ends it.
fn ask(prompt: &str) -> anyhow::Result<Option<ShareText>> {
    if !std::io::stdin().is_terminal() {
        bail!("a share is asked for on a terminal; without one, use --share-file FILE or -");
    }
    loop {
        let typed = rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .context("the share cannot be read from the terminal; use --share-file FILE")?;
        if typed.trim().is_empty() {
            return Ok(None);
        }
        match check(&typed) {
            Ok(()) => return Ok(Some(ShareText::new(typed))),
            Err(mistake) => eprintln!("{mistake}; nothing was sent, type it again"),
        }
    }
}

fn read_file(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    // Made large enough at once, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES as usize + 1));
    let read = if file == Path::new("-") {
        let stdin = std::io::stdin().lock();
        stdin.take(FILE_BYTES + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file)
            .and_then(|opened| opened.take(FILE_BYTES + 1).read_to_string(&mut text))
    };
    read.with_context(|| {
        format!(
            "the share cannot be read from {}; check the path",
            file.display()
        )
    })?;
    if text.len() as u64 > FILE_BYTES {
        bail!(
            "{} is far longer than shares are; name another file",
            file.display()
        );
    }
    Ok(text)
}

/// One share over several lines, or one share per line. Lines that begin with `#` are for persons.
fn shares_in(text: &str) -> anyhow::Result<Vec<ShareText>> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let whole = Zeroizing::new(lines.concat());
    if check(&whole).is_ok() {
        return Ok(vec![ShareText::new(whole)]);
    }
    if lines.is_empty() {
        bail!("there is no share; nothing was sent");
    }
    let several = lines.len() > 1 && lines.iter().all(|line| line.starts_with(PREFIX));
    if !several {
        check(&whole)?;
    }
    let mut shares = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        check(line).with_context(|| format!("share {} of {}", place + 1, lines.len()))?;
        shares.push(ShareText::new(Zeroizing::new((*line).to_owned())));
    }
    Ok(shares)
}

/// Finds a typing error and where it is, by the checksum.
fn check(typed: &str) -> Result<(), ShareError> {
    Share::parse(typed).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use holdfast_protocol::{InitPlan, MemoryRecords, initialise};

    fn share() -> String {
        let plan = InitPlan::new(2, vec!["alice".to_owned(), "bob".to_owned()]).unwrap();
        let records = Arc::new(MemoryRecords::default());
        let (_, shares) = initialise(records, None, &plan, 0).unwrap();
        shares[1].to_printed().to_string()
    }

    #[test]
    fn a_file_holds_one_share_over_several_lines_or_one_on_each() {
        let (one, two) = (share(), share());
        assert_eq!(shares_in(&format!("# mine\n{one}\n")).unwrap().len(), 1);
        let wrapped = format!("{}\n{}\n", &one[..35], &one[35..]);
        assert_eq!(shares_in(&wrapped).unwrap().len(), 1);
        assert_eq!(shares_in(&format!("{one}\n\n{two}\n")).unwrap().len(), 2);
        assert!(shares_in("\n# nothing\n").is_err());
        let broken = format!("{one}\n{}\n", two.replace("hfs1-", "hfs1-z"));
        let error = shares_in(&broken).err().unwrap();
        assert!(
            format!("{error:#}").starts_with("share 2 of 2: "),
            "{error:#}"
        );
    }
}
