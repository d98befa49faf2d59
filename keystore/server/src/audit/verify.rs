//! Walking the chain: which line is the first that was changed, is missing or was moved.
//!
//! A line carries its number and the hash of the line before it. A wrong number tells of lines that are missing or stand in
//! another place; a wrong hash tells that one of two neighbours was changed, and the line after both says which: if it
//! vouches for the second one, the first was changed.
//!
//! The last line has none after it, and a log that was cut short is a good log. Both are found only against a head that
//! is kept elsewhere: the running server's memory, the database's, or an outside sink's.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::line::{self, Head, LINE_BYTES, Line};
use crate::names::LineHash;

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is not what was written.
    Changed,
    /// It is not there.
    Missing,
    /// It stands somewhere else, or twice.
    Moved,
}

/// The first bad line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub wrong: Wrong,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong = match self.wrong {
            Wrong::Changed => "was changed",
            Wrong::Missing => "is missing",
            Wrong::Moved => "was moved or doubled",
        };
        write!(f, "line {} of the audit log {wrong}", self.line)
    }
}

/// What a walk has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// The last good line.
    pub head: Head,
    /// Bytes up to its end.
    pub whole_bytes: u64,
    /// Bytes after the last line end: a line that was never finished.
    pub torn_bytes: u64,
    /// The first bad line.
    pub finding: Option<Finding>,
}

/// What is told of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The last good line.
    pub head: Head,
    /// The first bad line, if there is one.
    pub finding: Option<Finding>,
}

/// Walks a file. `known` is a head that was kept elsewhere; the file must contain it, and if it ends there, end with it.
pub fn file(path: &Path, known: Option<Head>) -> io::Result<Report> {
    let walk = Walk { known };
    let walked = walk.through(&mut BufReader::new(File::open(path)?))?;
    let finding = walked.finding.or_else(|| {
        let cut = known.is_some_and(|known| walked.head.sequence < known.sequence);
        cut.then_some(Finding {
            line: walked.head.sequence + 1,
            wrong: Wrong::Missing,
        })
    });
    Ok(Report {
        head: walked.head,
        finding,
    })
}

/// Walks a log from its beginning.
pub fn walk(read: &mut impl BufRead) -> io::Result<Walked> {
    Walk::default().through(read)
}

/// A line with what is known of it.
struct Seen {
    line: Option<Line>,
    hash: LineHash,
    bytes: u64,
}

#[derive(Default)]
struct Walk {
    known: Option<Head>,
}

impl Walk {
    fn through(self, read: &mut impl BufRead) -> io::Result<Walked> {
        let mut walked = Walked {
            head: Head::EMPTY,
            whole_bytes: 0,
            torn_bytes: 0,
            finding: None,
        };
        // Two lines ahead of the one that is judged.
        let mut ahead = VecDeque::new();
        let mut later = Vec::new();
        loop {
            while ahead.len() < 2 {
                match next_line(read)? {
                    Next::Line(seen) => ahead.push_back(*seen),
                    Next::Torn(bytes) => {
                        walked.torn_bytes = bytes;
                        break;
                    }
                    Next::End => break,
                }
            }
            let Some(this) = ahead.pop_front() else {
                return Ok(walked);
            };
            if let Some(finding) = self.judge(&walked.head, &this, ahead.front()) {
                // Whether a line that is not in its place stands in another one.
                later.extend(ahead.iter().filter_map(sequence));
                later.extend(sequence(&this));
                while let Next::Line(seen) = next_line(read)? {
                    later.extend(sequence(&seen));
                }
                walked.finding = Some(finding.with_later(&later));
                return Ok(walked);
            }
            walked.head = Head {
                sequence: walked.head.sequence + 1,
                hash: this.hash,
            };
            walked.whole_bytes += this.bytes;
        }
    }

    /// Whether `this` may follow `before`; `after` vouches for it.
    fn judge(&self, before: &Head, this: &Seen, after: Option<&Seen>) -> Option<Finding> {
        let number = before.sequence + 1;
        let found = |line, wrong| Some(Finding { line, wrong });
        let Some(line) = &this.line else {
            return found(number, Wrong::Changed);
        };
        if line.sequence > number {
            // A line in between was taken out; `with_later` tells whether it stands elsewhere.
            return found(number, Wrong::Missing);
        }
        if line.sequence < number {
            return found(line.sequence, Wrong::Moved);
        }
        if line.previous != before.hash {
            let vouched = match after {
                Some(after) => after
                    .line
                    .as_ref()
                    .is_some_and(|after| after.previous == this.hash),
                None => self.known.is_some_and(|known| known.hash == this.hash),
            };
            let changed = if vouched && number > 1 {
                number - 1
            } else {
                number
            };
            return found(changed, Wrong::Changed);
        }
        match self.known {
            Some(known) if known.sequence == number && known.hash != this.hash => {
                found(number, Wrong::Changed)
            }
            _ => None,
        }
    }
}

impl Finding {
    /// A missing line that turns up later was moved.
    fn with_later(self, later: &[u64]) -> Finding {
        match self.wrong {
            Wrong::Missing if later.contains(&self.line) => Finding {
                wrong: Wrong::Moved,
                ..self
            },
            _ => self,
        }
    }
}

fn sequence(seen: &Seen) -> Option<u64> {
    seen.line.as_ref().map(|line| line.sequence)
}

enum Next {
    Line(Box<Seen>),
    Torn(u64),
    End,
}

/// Reads up to the next line end. A line longer than any that we write is read through, and is no line.
fn next_line(read: &mut impl BufRead) -> io::Result<Next> {
    let mut content = Vec::new();
    let mut bytes = 0;
    loop {
        let buffer = read.fill_buf()?;
        if buffer.is_empty() {
            return Ok(if bytes == 0 {
                Next::End
            } else {
                Next::Torn(bytes)
            });
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = end.unwrap_or(buffer.len());
        let room = (LINE_BYTES + 1).saturating_sub(content.len());
        content.extend_from_slice(&buffer[..part.min(room)]);
        let taken = part + usize::from(end.is_some());
        bytes += taken as u64;
        read.consume(taken);
        if end.is_some() {
            let line = (content.len() <= LINE_BYTES).then(|| Line::parse(&content));
            return Ok(Next::Line(Box::new(Seen {
                line: line.flatten(),
                hash: line::hash(&content),
                bytes,
            })));
        }
    }
}
