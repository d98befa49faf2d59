//! `holdfast flush`

use clap::Args;

use super::{CommandError, Context, Output};
use crate::control::{self, Request};
use crate::home::Home;

/// Arguments of `flush`.
#[derive(Args)]
pub struct Flush {
    /// Give up after this many seconds; the queue goes on
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

impl Flush {
    /// Returns when everything written before is in the store.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let home = Home::locate().map_err(CommandError::from_error)?;
        let progress = context.progress("flushing");
        let request = Request::Flush {
            timeout_seconds: self.timeout,
        };
        let done = control::ask(home.state_dir(), &request, |line| {
            super::unmount::show_queue(&progress, line)
        })?;
        progress.finish();
        Ok(Output::new("everything is in the store\n", done))
    }
}
