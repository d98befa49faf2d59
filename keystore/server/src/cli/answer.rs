//! What a command prints when it is done.

use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;
use zeroize::Zeroizing;

/// The same thing for a person and for a program. Either can hold shares, so neither outlives the printing.
pub(super) struct Answer {
    text: Zeroizing<String>,
    json: Zeroizing<Vec<u8>>,
    good: Good,
}

/// Whether the command's question was answered with yes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Good {
    Yes,
    /// Printed like any other answer, and the exit code is not 0.
    No,
}

impl Answer {
    pub(super) fn new(text: impl Into<String>, json: &impl Serialize) -> anyhow::Result<Answer> {
        Ok(Answer {
            text: Zeroizing::new(text.into()),
            json: Zeroizing::new(serde_json::to_vec(json).context("the answer is no JSON")?),
            good: Good::Yes,
        })
    }

    pub(super) fn but(self, good: Good) -> Answer {
        Answer { good, ..self }
    }

    pub(super) fn print(self, json: bool) -> anyhow::Result<()> {
        let line = match json {
            true => self.json.as_slice(),
            false => self.text.trim_end().as_bytes(),
        };
        let mut out = io::stdout().lock();
        out.write_all(line)
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush())
            .context("the answer cannot be printed")?;
        match self.good {
            Good::Yes => Ok(()),
            Good::No => std::process::exit(1),
        }
    }
}
