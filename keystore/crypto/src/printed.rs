//! What a person writes down, types, and reads aloud: bech32m (BIP 350) in groups of four.
//!
//! The checksum finds up to four wrong characters for certain and places a single one. Where the mistake is gets said; what
//! belongs there does not, because a checksum that is followed blindly turns two mistakes into another person's certainty.
//! For both lengths that are printed here two right texts differ in at least five characters.

use bech32::primitives::decode::{CheckedHrpstring, UncheckedHrpstring};
use bech32::{Bech32m, Hrp};
use zeroize::Zeroizing;

const ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GROUP: usize = 4;

/// One sort of printed thing: its prefix and its length, which never varies.
pub(crate) struct Form {
    /// Three small letters.
    pub(crate) prefix: &'static str,
    /// Characters of all of it, prefix, `1` and checksum included, without dashes.
    pub(crate) characters: usize,
}

/// Why a typed text is not of a form. Places and groups count from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    Length {
        found: usize,
    },
    Prefix,
    /// One that is in no such text.
    Character {
        character: char,
        place: usize,
        group: usize,
    },
    /// One that alone explains why the checksum does not fit.
    WrongCharacter {
        character: char,
        place: usize,
        group: usize,
    },
    Checksum,
}

impl Form {
    /// Small letters, no dashes.
    pub(crate) fn plain(&self, bytes: &[u8]) -> Zeroizing<String> {
        let mut plain = Zeroizing::new(String::with_capacity(self.characters));
        bech32::encode_lower_to_fmt::<Bech32m, _>(&mut *plain, self.hrp(), bytes)
            .expect("a form is shorter than the longest code, and a string takes everything");
        plain
    }

    /// Groups of four with dashes between.
    pub(crate) fn grouped(&self, bytes: &[u8]) -> Zeroizing<String> {
        let plain = self.plain(bytes);
        let length = self.characters + self.characters / GROUP;
        let mut grouped = Zeroizing::new(String::with_capacity(length));
        for (place, character) in plain.chars().enumerate() {
            if place > 0 && place % GROUP == 0 {
                grouped.push('-');
            }
            grouped.push(character);
        }
        grouped
    }

    /// Reads what a person typed: any case, with dashes or white space anywhere.
    ///
    /// The last character may carry more bits than there are: they are printed as zero, and nothing else is read, so bytes and
    /// texts are one to one.
    pub(crate) fn read<const N: usize>(
        &self,
        typed: &str,
    ) -> Result<Box<Zeroizing<[u8; N]>>, Mistake> {
        let plain = self.cleaned(typed);
        self.check_characters(&plain)?;
        let Ok(checked) = CheckedHrpstring::new::<Bech32m>(&plain) else {
            return Err(self.place_of_mistake(&plain));
        };
        let mut bytes = Box::new(Zeroizing::new([0; N]));
        bytes
            .iter_mut()
            .zip(checked.byte_iter())
            .for_each(|(byte, read)| *byte = read);
        if *self.plain(bytes.as_slice()) == *plain {
            Ok(bytes)
        } else {
            Err(Mistake::Checksum)
        }
    }

    fn cleaned(&self, typed: &str) -> Zeroizing<String> {
        let mut plain = Zeroizing::new(String::with_capacity(typed.len()));
        plain.extend(
            typed
                .chars()
                .filter(|c| !c.is_whitespace() && !is_dash(*c))
                .map(|c| c.to_ascii_lowercase()),
        );
        plain
    }

    /// Everything that can be said without the checksum.
    fn check_characters(&self, plain: &str) -> Result<(), Mistake> {
        let start = self.start();
        for (index, character) in plain.chars().enumerate().skip(start.len()) {
            if !ALPHABET.contains(character) {
                let (place, group) = place_and_group(index);
                return Err(Mistake::Character {
                    character,
                    place,
                    group,
                });
            }
        }
        let found = plain.chars().count();
        if found != self.characters {
            return Err(Mistake::Length { found });
        }
        if !plain.starts_with(&start) {
            return Err(Mistake::Prefix);
        }
        Ok(())
    }

    /// Tries every single change. Two right texts differ in at least five characters, so at most one character can explain
    /// the mistake alone.
    fn place_of_mistake(&self, plain: &str) -> Mistake {
        for index in self.start().len()..plain.len() {
            for replacement in ALPHABET.chars() {
                let mut changed = Zeroizing::new(String::with_capacity(plain.len()));
                changed.push_str(&plain[..index]);
                changed.push(replacement);
                changed.push_str(&plain[index + 1..]);
                if has_valid_checksum(&changed) {
                    let character = char::from(plain.as_bytes()[index]);
                    let (place, group) = place_and_group(index);
                    return Mistake::WrongCharacter {
                        character,
                        place,
                        group,
                    };
                }
            }
        }
        Mistake::Checksum
    }

    /// The prefix and the separator.
    fn start(&self) -> String {
        format!("{}1", self.prefix)
    }

    fn hrp(&self) -> Hrp {
        Hrp::parse(self.prefix).expect("three small letters are a prefix")
    }
}

/// What the printer or a text program makes of a dash, too.
fn is_dash(character: char) -> bool {
    matches!(character, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '_')
}

fn has_valid_checksum(plain: &str) -> bool {
    UncheckedHrpstring::new(plain).is_ok_and(|code| code.has_valid_checksum::<Bech32m>())
}

fn place_and_group(index: usize) -> (usize, usize) {
    (index + 1, index / GROUP + 1)
}
