//! `holdfast cat SNAPSHOT:PATH`

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use crate::format::{Body, FileKind};
use crate::restore::read_content;
use crate::walk::printed;

use super::listing::kind_word;
use super::opening::split_path;
use super::{CommandError, Context, Output, opening};

/// Longest content that is put into one JSON document.
const JSON_BYTES: u64 = 64 << 20;

/// Arguments of `cat`.
#[derive(Args)]
pub struct Cat {
    /// A file in a snapshot
    #[arg(value_name = "SNAPSHOT:PATH")]
    place: String,
}

impl Cat {
    /// Writes a file's content to standard output.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let (name, path) = split_path(&self.place);
        if path.is_empty() {
            return Err(CommandError::new(format!(
                "{:?} names no file; write SNAPSHOT:PATH",
                self.place
            )));
        }
        let archive = opening::archive(context)?;
        let (_, tree) = opening::snapshot(&archive, name)?;
        let found = tree.find(path).map_err(CommandError::from_error)?;
        let Body::Regular { size, list, .. } = &found.inode.body else {
            let kind = kind_word(found.inode.attributes.kind);
            let next = match found.inode.attributes.kind {
                FileKind::Directory => "list it with: holdfast ls",
                _ => "restore it with: holdfast restore",
            };
            return Err(CommandError::new(format!(
                "{:?} has no content, it is a {kind}; {next}",
                printed(path)
            )));
        };
        if context.json && *size > JSON_BYTES {
            return Err(CommandError::new(format!(
                "{:?} is too long for one JSON document; leave out --json",
                printed(path)
            )));
        }
        let mut content = Vec::new();
        let mut out = std::io::stdout().lock();
        let written = read_content(
            &**tree.source(),
            *size,
            list,
            &mut |bytes| match context.json {
                true => content.write_all(bytes),
                false => out.write_all(bytes),
            },
        );
        match written.and_then(|()| out.flush().map_err(Into::into)) {
            Ok(()) => Ok(Output::new("", described(path, *size, content))),
            // A reader that has gone is no failure.
            Err(error) if error.is_broken_pipe() => Ok(Output::new("", Value::Null)),
            Err(error) => Err(CommandError::because(
                format!("{:?} cannot be read whole", printed(path)),
                error,
            )),
        }
    }
}

fn described(path: &[u8], size: u64, content: Vec<u8>) -> Value {
    match String::from_utf8(content) {
        Ok(text) => json!({ "path": printed(path), "size": size, "content": text }),
        Err(error) => {
            json!({ "path": printed(path), "size": size, "content_hex": hex::encode(error.as_bytes()) })
        }
    }
}
