//! `holdfast unmount DIR`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::{CommandError, Context, Output, Progress};
use crate::control::{self, ControlError, Request};
use crate::home::Home;
use crate::mountpoint;

/// Arguments of `unmount`.
#[derive(Args)]
pub struct Unmount {
    /// The folder that the drive is mounted on
    folder: PathBuf,
    /// Wait at most this many seconds for the queue; what is left goes on at the next mount
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

impl Unmount {
    /// Unmounts and waits for the queue; fails while something is left.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let home = Home::locate().map_err(CommandError::from_error)?;
        let failed = |error| {
            CommandError::because(
                format!("{} cannot be looked at", self.folder.display()),
                error,
            )
        };
        let folder = mountpoint::absolute(&self.folder).map_err(failed)?;
        let status = control::ask(home.state_dir(), &Request::Status, |_| ()).ok();
        let Some(status) = status.filter(|status| status["mounted_on"] == json!(folder)) else {
            return clear(&folder);
        };
        let progress = context.progress("storing what is queued");
        let request = Request::Unmount {
            timeout_seconds: self.timeout,
        };
        let left = control::ask(home.state_dir(), &request, |line| {
            show_queue(&progress, line)
        });
        progress.finish();
        match left {
            Ok(left) => {
                wait_for_end(&status);
                report(&folder, left)
            }
            Err(error) => Err(CommandError::from_error(error)),
        }
    }
}

/// The daemon has answered and is on its way out; the next `mount` must not meet it.
fn wait_for_end(status: &Value) {
    let pid = status["pid"]
        .as_i64()
        .and_then(|pid| rustix::process::Pid::from_raw(pid as i32));
    let Some(pid) = pid else { return };
    let until = Instant::now() + Duration::from_secs(5);
    while rustix::process::test_kill_process(pid).is_ok() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn report(folder: &std::path::Path, left: Value) -> Result<Output, CommandError> {
    let empty = ["bytes", "files", "snapshots"]
        .iter()
        .all(|what| left[*what].as_u64() == Some(0));
    let json = json!({ "unmounted": folder, "left": left });
    if empty {
        return Ok(Output::new(
            format!(
                "{} is unmounted; everything is in the store\n",
                folder.display()
            ),
            json,
        ));
    }
    Ok(Output::new(super::mount::left_text(&left), json).with_exit(1))
}

/// No daemon of this home serves the folder: a stale mount is cleared, anything else is not ours.
fn clear(folder: &std::path::Path) -> Result<Output, CommandError> {
    let failed =
        |error| CommandError::because(format!("{} cannot be unmounted", folder.display()), error);
    match mountpoint::mounted_on(folder).map_err(failed)? {
        Some(mounted) if mounted.is_drive() => {
            let dead = mountpoint::is_dead(folder);
            if !dead {
                return Err(CommandError::new(format!(
                    "the drive on {} belongs to another home; set HOLDFAST_HOME to that one and try again",
                    folder.display()
                )));
            }
            mountpoint::detach(folder).map_err(failed)?;
            let text = format!(
                "{} was left by a drive that ended without unmounting; it is cleared, mount again to store what is queued\n",
                folder.display()
            );
            Ok(Output::new(
                text,
                json!({ "unmounted": folder, "stale": true }),
            ))
        }
        _ => Err(CommandError::new(format!(
            "no drive is mounted on {}; see: holdfast status",
            folder.display()
        ))),
    }
}

/// Shows the queue shrinking.
pub(super) fn show_queue(progress: &Progress, line: &Value) {
    let queued = line["queued_bytes"].as_u64().unwrap_or(0);
    let rate = line["bytes_per_second"].as_u64().unwrap_or(0);
    let mut words = format!(
        "{} still to store, {}/s",
        indicatif::HumanBytes(queued),
        indicatif::HumanBytes(rate)
    );
    if let Some(trouble) = line["trouble"].as_str() {
        words = format!("{words} ({trouble})");
        progress.tell_why(trouble);
    }
    progress.say(words);
}

/// The sentence of a control error is complete.
impl From<ControlError> for CommandError {
    fn from(error: ControlError) -> CommandError {
        CommandError::from_error(error)
    }
}
