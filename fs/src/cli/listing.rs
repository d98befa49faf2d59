//! How `ls`, `find` and `diff` show files.

use std::io::{BufWriter, Stdout, Write};

use serde_json::{Value, json};

use crate::format::{Body, FileKind, Inode};
use crate::walk::{Found, printed};

use super::opening::shown_time;

/// Lines for a person as they come, or values for a program all at once.
///
/// A listing may be millions of lines: it is not collected for a person. Whoever reads no further
/// (`holdfast ls -R latest | head`) ends it.
pub(super) struct Listing {
    lines: Option<BufWriter<Stdout>>,
    values: Vec<Value>,
    count: u64,
}

impl Listing {
    pub(super) fn new(json: bool) -> Listing {
        let lines = (!json).then(|| BufWriter::new(std::io::stdout()));
        Listing {
            lines,
            values: Vec::new(),
            count: 0,
        }
    }

    /// Adds one; says whether anybody still listens.
    pub(super) fn add(
        &mut self,
        line: impl FnOnce() -> Vec<u8>,
        value: impl FnOnce() -> Value,
    ) -> bool {
        self.count += 1;
        match &mut self.lines {
            None => {
                self.values.push(value());
                true
            }
            Some(lines) => {
                let mut line = line();
                line.push(b'\n');
                lines.write_all(&line).is_ok()
            }
        }
    }

    /// How many were added, and the values for a program.
    pub(super) fn finish(mut self) -> (u64, Vec<Value>) {
        if let Some(lines) = &mut self.lines {
            // Nobody reads any more: no failure of the command.
            let _ = lines.flush();
        }
        (self.count, self.values)
    }
}

/// A line as `ls -l` has it.
pub(super) fn long_line(path: &[u8], found: &Found) -> Vec<u8> {
    let attributes = &found.inode.attributes;
    let size = match attributes.kind {
        FileKind::CharDevice | FileKind::BlockDevice => {
            format!(
                "{},{}",
                rustix::fs::major(attributes.rdev),
                rustix::fs::minor(attributes.rdev)
            )
        }
        _ => size(&found.inode).to_string(),
    };
    let mut line = format!(
        "{} {:>3} {:>8} {:>8} {:>12} {} ",
        mode_text(&found.inode),
        found.links,
        owner(&attributes.owner, attributes.uid),
        owner(&attributes.group, attributes.gid),
        size,
        shown_time(attributes.mtime),
    )
    .into_bytes();
    line.extend_from_slice(path);
    if let Body::Symlink { target } = &found.inode.body {
        line.extend_from_slice(b" -> ");
        line.extend_from_slice(target);
    }
    line
}

/// A file for a program.
pub(super) fn as_json(path: &[u8], found: &Found) -> Value {
    let attributes = &found.inode.attributes;
    let mut value = json!({
        "path": printed(path),
        "kind": kind_word(attributes.kind),
        "size": size(&found.inode),
        "mode": format!("{:04o}", attributes.mode),
        "uid": attributes.uid,
        "gid": attributes.gid,
        "owner": String::from_utf8_lossy(&attributes.owner),
        "group": String::from_utf8_lossy(&attributes.group),
        "mtime": { "seconds": attributes.mtime.seconds, "nanos": attributes.mtime.nanos },
        "links": found.links,
        "file": found.inode.file,
    });
    if std::str::from_utf8(path).is_err() {
        value["path_hex"] = json!(hex::encode(path));
    }
    if let Body::Symlink { target } = &found.inode.body {
        value["target"] = json!(String::from_utf8_lossy(target));
    }
    if !found.inode.xattrs.is_empty() {
        let names: Vec<_> = found
            .inode
            .xattrs
            .keys()
            .map(|name| String::from_utf8_lossy(name))
            .collect();
        value["xattrs"] = json!(names);
    }
    value
}

/// What a kind is called.
pub(super) fn kind_word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "file",
        FileKind::Directory => "folder",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharDevice => "char_device",
        FileKind::BlockDevice => "block_device",
    }
}

fn size(inode: &Inode) -> u64 {
    match &inode.body {
        Body::Directory { tree } => tree.as_ref().map_or(0, |tree| tree.totals.bytes),
        body => body.size(),
    }
}

fn owner(name: &[u8], number: u32) -> String {
    match name {
        b"" => number.to_string(),
        name => String::from_utf8_lossy(name).into_owned(),
    }
}

/// `-rwxr-xr-x`, with the letters of ls(1).
fn mode_text(inode: &Inode) -> String {
    let mode = inode.attributes.mode;
    let kind = match inode.attributes.kind {
        FileKind::Regular => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
    };
    let mut text = String::from(kind);
    for (shift, special, letters) in [(6, 0o4000, "sS"), (3, 0o2000, "sS"), (0, 0o1000, "tT")] {
        let bits = mode >> shift & 7;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => char::from(letters.as_bytes()[0]),
            (false, true) => char::from(letters.as_bytes()[1]),
        });
    }
    text
}
