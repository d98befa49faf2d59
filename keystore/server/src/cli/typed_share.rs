//! A share as its holder types it: without echo, or from a file. A typing error is found here, and where it is gets said.
//!
//! The checksum says that something is wrong. Where, is found by trying: if one other character in one place makes the share
//! whole, that place is named. What belongs there is not said, because a checksum that is followed blindly turns two
//! mistakes into a share that somebody believes to be right.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use holdfast_protocol::{SHARE_CHARACTERS, Share};
use zeroize::Zeroizing;

use crate::api::json::ShareText;

const ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
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

/// What is wrong with a share that was typed. Groups count from one, the first is `hfs1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mistyped {
    #[error(
        "the share has {0} characters without dashes, and {SHARE_CHARACTERS} belong there; compare it group by group"
    )]
    Length(usize),
    #[error("a share begins with \"{PREFIX}\"; look whether this is one")]
    Prefix,
    #[error("group {group} has \"{character}\", which stands in no share; compare that group")]
    Character { group: usize, character: char },
    #[error("group {0} is mistyped; compare it with the paper")]
    Group(usize),
    #[error("several characters are mistyped; compare the share with the paper group by group")]
    Several,
}

/// Finds a typing error and where it is.
pub(super) fn check(typed: &str) -> Result<(), Mistyped> {
    if Share::parse(typed).is_ok() {
        return Ok(());
    }
    let mut plain = Zeroizing::new(String::with_capacity(typed.len()));
    let kept = typed.chars().filter(|c| !c.is_whitespace() && *c != '-');
    plain.extend(kept.map(|c| c.to_ascii_lowercase()));
    if !plain.starts_with(PREFIX) {
        return Err(Mistyped::Prefix);
    }
    let foreign = |(_, c): &(usize, char)| !ALPHABET.contains(*c);
    let content = plain.chars().enumerate().skip(PREFIX.len());
    if let Some((place, character)) = content.clone().find(foreign) {
        let group = place / 4 + 1;
        return Err(Mistyped::Character { group, character });
    }
    if plain.len() != SHARE_CHARACTERS {
        return Err(Mistyped::Length(plain.len()));
    }
    let wrong = |place: usize| {
        ALPHABET.chars().any(|other| {
            let mut tried = Zeroizing::new(plain.to_string());
            tried.replace_range(place..=place, other.encode_utf8(&mut [0; 4]));
            Share::parse(&tried).is_ok()
        })
    };
    match (PREFIX.len()..SHARE_CHARACTERS).find(|place| wrong(*place)) {
        Some(place) => Err(Mistyped::Group(place / 4 + 1)),
        None => Err(Mistyped::Several),
    }
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
    fn every_single_mistake_is_placed_in_its_group() {
        let share = share();
        assert_eq!(check(&share), Ok(()));
        let plain = share.replace('-', "");
        for place in PREFIX.len()..SHARE_CHARACTERS {
            let other = if plain[place..].starts_with('q') {
                "p"
            } else {
                "q"
            };
            let mut typed = plain.clone();
            typed.replace_range(place..=place, other);
            assert_eq!(check(&typed), Err(Mistyped::Group(place / 4 + 1)));
        }
    }

    #[test]
    fn what_is_missing_or_foreign_is_named() {
        let plain = share().replace('-', "");
        assert_eq!(check(&plain[..80]), Err(Mistyped::Length(80)));
        assert_eq!(check("xyz"), Err(Mistyped::Prefix));
        let mut foreign = plain.clone();
        foreign.replace_range(9..10, "o");
        let character = 'o';
        assert_eq!(
            check(&foreign),
            Err(Mistyped::Character {
                group: 3,
                character
            })
        );
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
