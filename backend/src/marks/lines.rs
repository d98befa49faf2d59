//! Text objects: lines of `<word> <argument>…`, in one form only.
//!
//! A text is read leniently and then written again; if that does not give the same bytes, it is
//! refused. So order, repeats, padding of numbers and line ends need no rules of their own here, and
//! two programs can never disagree about what a text says. Specified in `docs/format/marks.md`.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::{FromStr, Lines};

use holdfast_crypto::DeviceId;

use crate::layout::{MAX_NUMBER, ObjectName};
use crate::object::{Object, TextPlacement};

/// Why bytes are not a text object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not UTF-8.
    #[error("it is not text")]
    NotText,
    /// The first line names another kind.
    #[error("it is no {kind} text of format 1")]
    WrongKind {
        /// What was expected.
        kind: &'static str,
    },
    /// A line that does not belong here.
    #[error("line {number} should be {expected}")]
    Line {
        /// Counted from 1.
        number: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// Understood, but not in the one form that the format allows.
    #[error("its lines are not in the order or form of the format")]
    NotCanonical,
    /// The content belongs under another name.
    #[error("its content belongs under the name {belongs}")]
    WrongName {
        /// That name.
        belongs: ObjectName,
    },
}

/// One kind of text object.
pub trait Text: Sized {
    /// The word in the first line.
    const KIND: &'static str;

    /// Where the object is stored.
    fn placement(&self) -> TextPlacement;

    /// Writes everything behind the first line.
    fn write(&self, writer: &mut Writer);

    /// Reads what [`Text::write`] writes.
    fn read(reader: &mut Reader<'_>) -> Result<Self, TextError>;

    /// The text.
    fn encode(&self) -> String {
        let mut writer = Writer(String::new());
        writer.line("holdfast", format_args!("{} 1", Self::KIND));
        self.write(&mut writer);
        writer.0
    }

    /// Reads a text; what is accepted encodes to the same bytes.
    fn decode(bytes: &[u8]) -> Result<Self, TextError> {
        let text = std::str::from_utf8(bytes).map_err(|_| TextError::NotText)?;
        let mut reader = Reader {
            lines: text.lines(),
            number: 0,
        };
        let first = reader.next_line();
        if first.and_then(|line| line.strip_prefix("holdfast ")?.strip_suffix(" 1"))
            != Some(Self::KIND)
        {
            return Err(TextError::WrongKind { kind: Self::KIND });
        }
        let value = Self::read(&mut reader)?;
        if value.encode().as_bytes() != bytes {
            return Err(TextError::NotCanonical);
        }
        Ok(value)
    }

    /// The object to be stored.
    fn to_object(&self) -> Object {
        Object::text(self.placement(), &self.encode())
    }

    /// Reads what was stored under `name`, and checks that it belongs there.
    fn from_object(name: &ObjectName, bytes: &[u8]) -> Result<Self, TextError> {
        let value = Self::decode(bytes)?;
        let belongs = value.to_object().name();
        if belongs != *name {
            return Err(TextError::WrongName { belongs });
        }
        Ok(value)
    }
}

/// Builds a text.
pub struct Writer(String);

impl Writer {
    /// One line.
    pub fn line(&mut self, word: &str, argument: impl Display) {
        use std::fmt::Write as _;
        writeln!(self.0, "{word} {argument}").expect("a String takes all that is written");
    }

    /// A running number, as names spell it.
    pub fn number(&mut self, word: &str, number: u64) {
        self.line(word, format_args!("{number:010}"));
    }

    /// One line for each argument, sorted by their bytes.
    pub fn section(&mut self, word: &str, arguments: impl IntoIterator<Item = impl Display>) {
        let sorted: BTreeSet<String> = arguments
            .into_iter()
            .map(|argument| argument.to_string())
            .collect();
        for argument in sorted {
            self.line(word, argument);
        }
    }
}

/// Takes a text apart, line by line.
pub struct Reader<'a> {
    lines: Lines<'a>,
    number: usize,
}

impl<'a> Reader<'a> {
    fn next_line(&mut self) -> Option<&'a str> {
        self.number += 1;
        self.lines.next()
    }

    /// The argument of the next line, if that line has this word; otherwise the line stays.
    pub fn optional(&mut self, word: &str) -> Option<&'a str> {
        let line = self.lines.clone().next()?;
        let argument = line.strip_prefix(word)?.strip_prefix(' ')?;
        self.next_line();
        Some(argument)
    }

    /// The error for the line that was read last.
    pub fn error(&self, expected: &'static str) -> TextError {
        TextError::Line {
            number: self.number,
            expected,
        }
    }

    /// The argument of a line that must be there.
    pub fn field<T: FromStr>(&mut self, word: &'static str) -> Result<T, TextError> {
        let argument = self.optional(word).ok_or(TextError::Line {
            number: self.number + 1,
            expected: word,
        })?;
        argument.parse().map_err(|_| self.error(word))
    }

    /// A running number that a name can carry.
    pub fn number(&mut self, word: &'static str) -> Result<u64, TextError> {
        let number = self.field(word)?;
        if number > MAX_NUMBER {
            Err(self.error(word))
        } else {
            Ok(number)
        }
    }

    /// A device's id.
    pub fn device(&mut self) -> Result<DeviceId, TextError> {
        self.field("device")
    }

    /// All following lines with this word, each read by `read`.
    pub fn section<T: Ord>(
        &mut self,
        word: &'static str,
        expected: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<BTreeSet<T>, TextError> {
        let mut section = BTreeSet::new();
        while let Some(argument) = self.optional(word) {
            section.insert(read(argument).ok_or_else(|| self.error(expected))?);
        }
        Ok(section)
    }

    /// There must be no further line.
    pub fn end(&mut self) -> Result<(), TextError> {
        match self.next_line() {
            None => Ok(()),
            Some(_) => Err(self.error("the end of the text")),
        }
    }
}
