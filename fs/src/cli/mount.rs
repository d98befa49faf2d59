//! `holdfast mount DIR`

use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::{Value, json};

use super::{CommandError, Context, Output};
use crate::engine::{Engine, EngineOptions};
use crate::fuse::MountOptions;
use crate::home::Home;
use crate::{daemon, logging, mountpoint};

/// Arguments of `mount`.
#[derive(Args)]
pub struct Mount {
    /// An empty folder
    folder: PathBuf,
    /// Stay in the foreground and log to standard error
    #[arg(long)]
    foreground: bool,
    /// Let other users look in (as root, or with `user_allow_other` in /etc/fuse.conf)
    #[arg(long)]
    allow_other: bool,
    /// This process is the daemon that `mount` has started
    #[arg(long, hide = true)]
    as_daemon: bool,
}

impl Mount {
    /// Mounts; returns when the drive answers, or with `--foreground` when it has ended.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let home = Home::locate().map_err(CommandError::from_error)?;
        if self.foreground || self.as_daemon {
            self.serve(home, context)
        } else {
            self.start(&home, context)
        }
    }

    /// Starts the daemon and waits until it is ready or has said why not.
    fn start(&self, home: &Home, context: &Context) -> Result<Output, CommandError> {
        let log = home.state_dir().join("daemon.log");
        // Asks before anything is started, so that a mistake is told by the process in the foreground.
        home.settings().map_err(CommandError::from_error)?;
        let failed = |error| CommandError::because("the daemon could not be started", error);
        let errors = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&log)
            .map_err(failed)?;
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(self.arguments(context))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(failed)?;
        let words = child.stdout.take().map(BufReader::new).and_then(|mut out| {
            let mut line = String::new();
            out.read_line(&mut line).ok().map(|_| line)
        });
        match words
            .as_deref()
            .and_then(|line| serde_json::from_str::<Value>(line).ok())
        {
            Some(ready) if ready.get("mounted_on").is_some() => {
                Ok(Output::new(mounted_text(&ready), ready))
            }
            Some(refused) => Err(CommandError::new(
                refused["error"]
                    .as_str()
                    .unwrap_or("the daemon refused")
                    .to_owned(),
            )),
            None => Err(CommandError::new(format!(
                "the daemon ended before the drive was mounted; its log is {}",
                log.display()
            ))),
        }
    }

    fn arguments(&self, context: &Context) -> Vec<std::ffi::OsString> {
        let mut arguments: Vec<std::ffi::OsString> =
            vec!["mount".into(), "--as-daemon".into(), "--json".into()];
        if self.allow_other {
            arguments.push("--allow-other".into());
        }
        arguments.extend(context.as_arguments().into_iter().map(Into::into));
        arguments.push("--".into());
        arguments.push(self.folder.clone().into());
        arguments
    }

    fn serve(self, home: Home, context: &Context) -> Result<Output, CommandError> {
        let log = home.state_dir().join("daemon.log");
        let target = if self.as_daemon {
            logging::Target::Daemon(&log)
        } else {
            logging::Target::Terminal
        };
        let level = context
            .log_level
            .as_deref()
            .or(self.foreground.then_some("info"));
        logging::start(&target, level)
            .map_err(|error| CommandError::because("the log cannot be written", error))?;
        if self.as_daemon {
            // Fails only for a leader of a process group, which a spawned process is not.
            let _ = rustix::process::setsid();
        }
        let folder = mountpoint::prepare(&self.folder, &own_folders(&home)?)
            .map_err(CommandError::from_error)?;
        let state = home.state_dir().to_owned();
        let engine = open(home, context, &folder)?;
        let options = MountOptions {
            allow_other: self.allow_other,
        };
        let (announce, json) = (self.as_daemon, context.json);
        let ready = {
            let (device, folder) = (engine.filesystem.status().device, folder.clone());
            move || tell_ready(&folder, &device, announce || json)
        };
        let leftover = daemon::run(engine, &state, &folder, options, ready)
            .map_err(|error| cannot_mount(&folder, &error))?;
        // Standard output of a daemon has been given up: see `tell_ready`.
        let text = if leftover.is_empty() {
            String::new()
        } else {
            left_text(&json!(leftover))
        };
        Ok(Output::new(text, Value::Null).silent())
    }
}

fn own_folders(home: &Home) -> Result<Vec<PathBuf>, CommandError> {
    let settings = home.settings().map_err(CommandError::from_error)?;
    let mut folders: Vec<PathBuf> = home
        .folders()
        .iter()
        .map(|folder| folder.to_path_buf())
        .collect();
    if settings.server.is_none() && !settings.store.contains("://") {
        folders.push(settings.store.into());
    }
    Ok(folders)
}

fn open(
    home: Home,
    context: &Context,
    folder: &Path,
) -> Result<std::sync::Arc<Engine>, CommandError> {
    let owner = std::fs::metadata(folder).ok().map(|m| {
        use std::os::unix::fs::MetadataExt;
        (m.uid(), m.gid())
    });
    let options = EngineOptions {
        owner,
        limit_upload: context.limit_upload,
        limit_download: context.limit_download,
        ..EngineOptions::default()
    };
    Engine::open(home, options)
        .map(std::sync::Arc::new)
        .map_err(CommandError::from_error)
}

/// Says that the drive answers, to the process that waits for it, and lets go of its terminal.
fn tell_ready(folder: &Path, device: &str, json: bool) {
    let ready = json!({ "mounted_on": folder, "device": device, "pid": std::process::id() });
    let line = if json {
        ready.to_string()
    } else {
        mounted_text(&ready)
    };
    let mut out = std::io::stdout();
    let _ = std::io::Write::write_all(&mut out, format!("{}\n", line.trim_end()).as_bytes());
    let _ = std::io::Write::flush(&mut out);
    // A pipe that somebody reads to its end must not wait for the daemon.
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null")
        && json
    {
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

fn mounted_text(ready: &Value) -> String {
    let folder = ready["mounted_on"].as_str().unwrap_or_default();
    format!(
        "the drive is mounted on {folder}: write into {folder}/current, restore from {folder}/snapshots\n"
    )
}

/// What is not stored yet, for a person.
pub(super) fn left_text(left: &Value) -> String {
    format!(
        "not everything is in the store: {} and {} files are left; they are kept here and go on at the next mount\n",
        indicatif::HumanBytes(left["bytes"].as_u64().unwrap_or(0)),
        left["files"]
    )
}

/// Whether the device that every mount needs can be opened by this user.
fn fuse_is_open() -> bool {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).open("/dev/fuse").is_ok()
}

fn cannot_mount(folder: &Path, error: &std::io::Error) -> CommandError {
    let next = if !Path::new("/dev/fuse").exists() {
        "this machine has no /dev/fuse; load the module with: modprobe fuse"
    } else if error.kind() == std::io::ErrorKind::NotFound {
        "users other than root need fusermount3; install it with: apt-get install fuse3"
    } else if !fuse_is_open() {
        "/dev/fuse is not open to you; an administrator mends it with: chmod 666 /dev/fuse"
    } else if error.kind() == std::io::ErrorKind::PermissionDenied {
        "the folder must be yours, and --allow-other needs `user_allow_other` in /etc/fuse.conf"
    } else {
        "look at the log for more"
    };
    CommandError::new(format!(
        "{} cannot be mounted on ({error}); {next}",
        folder.display()
    ))
}
