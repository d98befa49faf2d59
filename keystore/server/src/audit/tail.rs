//! The end of the log, without reading all of it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Split};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::line::{self, Head, Line};
use crate::names::LineHash;

const BLOCK_BYTES: u64 = 64 << 10;

/// The last `count` lines, oldest first. A line that is none is left out; `verify` names it.
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<Line>> {
    let file = File::open(path)?;
    let mut start = file.metadata()?.len();
    let mut read = Vec::new();
    while start > 0 && line_ends(&read) <= count {
        let block = BLOCK_BYTES.min(start);
        start -= block;
        let mut longer = vec![0; block as usize];
        file.read_exact_at(&mut longer, start)?;
        longer.append(&mut read);
        read = longer;
    }
    // The first piece is a part of a line, unless it begins the file. What follows the last line end is none yet.
    let mut lines: Vec<&[u8]> = read.split(|byte| *byte == b'\n').collect();
    lines.pop();
    let skip = lines.len().saturating_sub(count);
    Ok(lines[skip..]
        .iter()
        .filter_map(|line| Line::parse(line))
        .collect())
}

fn line_ends(read: &[u8]) -> usize {
    read.iter().filter(|byte| **byte == b'\n').count()
}

/// Whether the log has a line of that number and hash. Number 0 is the beginning.
pub fn has(path: &Path, sequence: u64, hash: &LineHash) -> io::Result<bool> {
    Ok(up_to(path, sequence, hash)?.is_some())
}

/// All lines after the one of that number and hash; none if the log has not that line.
pub fn after(path: &Path, sequence: u64, hash: &LineHash) -> io::Result<Vec<Line>> {
    let Some(lines) = up_to(path, sequence, hash)? else {
        return Ok(Vec::new());
    };
    let rest = lines.map_while(|read| match read {
        Ok(bytes) => Line::parse(&bytes).map(Ok),
        Err(error) => Some(Err(error)),
    });
    rest.collect()
}

/// Reads up to and including the line of that number; what is left of the log if it has that hash.
fn up_to(
    path: &Path,
    sequence: u64,
    hash: &LineHash,
) -> io::Result<Option<Split<BufReader<File>>>> {
    let mut lines = BufReader::new(File::open(path)?).split(b'\n');
    let mut here = Head::EMPTY.hash;
    for _ in 0..sequence {
        let Some(read) = lines.next() else {
            return Ok(None);
        };
        here = line::hash(&read?);
    }
    Ok((here == *hash).then_some(lines))
}
