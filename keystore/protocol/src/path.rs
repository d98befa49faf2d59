//! Where a record lies.

use std::fmt;
use std::str::FromStr;

const PATH_BYTES: usize = 200;

/// Segments of `a-z 0-9 . _ -` between slashes, at most 200 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordPath(String);

/// Not a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a record's path has segments of small letters, digits, dots, dashes and underscores between slashes"
)]
pub struct PathError;

impl RecordPath {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One that is written in the program.
    pub(crate) fn fixed(path: &str) -> RecordPath {
        path.parse().expect("a path in the program is a good one")
    }
}

impl FromStr for RecordPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-".contains(&c);
        let segment = |segment: &str| !segment.is_empty() && segment.bytes().all(plain);
        if text.len() <= PATH_BYTES && text.split('/').all(segment) {
            Ok(RecordPath(text.to_owned()))
        } else {
            Err(PathError)
        }
    }
}

impl fmt::Display for RecordPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
