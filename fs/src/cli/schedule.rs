//! `holdfast schedule PATH...`
//!
//! Writes a systemd service and timer that run `holdfast backup`, and enables the timer where systemd
//! runs; elsewhere it says the command. What it scheduled, and when such a backup last succeeded, is in
//! `state/schedule.json`: `status` warns when that is too long ago. If we die in between, there are unit
//! files that nobody enabled; running it again completes them.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::archive::now_seconds;
use crate::format::Time;
use crate::home::Home;

use super::opening::shown_time;
use super::{CommandError, Context, Output, opening};

const UNIT: &str = "holdfast-backup";
const STATE: &str = "schedule.json";

/// Arguments of `schedule`.
#[derive(Args)]
pub struct Schedule {
    /// Folders to back up
    #[arg(value_name = "PATH", required_unless_present_any = ["remove", "ran"])]
    paths: Vec<PathBuf>,
    /// How often
    #[arg(long, value_enum, default_value_t = Every::Day)]
    every: Every,
    /// Leave out what matches, as in `backup`
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// For the whole computer (/etc/systemd/system) instead of this user
    #[arg(long)]
    system: bool,
    /// Take the timer away again
    #[arg(long, conflicts_with = "paths")]
    remove: bool,
    /// The timer's backup has succeeded (called by the service)
    #[arg(long, hide = true, conflicts_with_all = ["paths", "remove"])]
    ran: bool,
}

/// How often a backup runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// Every hour
    Hour,
    /// Every day
    Day,
    /// Every week
    Week,
}

/// What is in `state/schedule.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    every: Every,
    paths: Vec<String>,
    since: i64,
    last_success: Option<i64>,
}

impl Every {
    fn word(self) -> &'static str {
        match self {
            Every::Hour => "hour",
            Every::Day => "day",
            Every::Week => "week",
        }
    }

    fn calendar(self) -> &'static str {
        match self {
            Every::Hour => "hourly",
            Every::Day => "daily",
            Every::Week => "weekly",
        }
    }

    /// One run may be missed (a computer that was off) before anybody is told.
    fn patience_seconds(self) -> i64 {
        match self {
            Every::Hour => 3 * 3600,
            Every::Day => 50 * 3600,
            Every::Week => 9 * 86_400,
        }
    }
}

impl Schedule {
    /// Writes and enables the timer, or takes it away.
    pub fn run(self, _context: &Context) -> Result<Output, CommandError> {
        let home = opening::home()?;
        if self.ran {
            record_success(&home)?;
            return Ok(Output::new("", json!({ "recorded": true })));
        }
        let folder = self.unit_folder()?;
        if self.remove {
            return self.take_away(&home, &folder);
        }
        home.settings().map_err(CommandError::from_error)?;
        let paths = self.absolute_paths()?;
        let files = [
            (".service", self.service(&paths)?),
            (".timer", self.timer()),
        ];
        std::fs::create_dir_all(&folder).map_err(|error| self.refused(&folder, error))?;
        for (ending, text) in files {
            let path = folder.join(format!("{UNIT}{ending}"));
            std::fs::write(&path, text).map_err(|error| self.refused(&path, error))?;
        }
        let plan = Plan {
            every: self.every,
            paths,
            since: now_seconds(),
            last_success: None,
        };
        save(&home, &plan)?;
        Ok(self.enable(&folder, &plan))
    }

    fn unit_folder(&self) -> Result<PathBuf, CommandError> {
        if self.system {
            return Ok(PathBuf::from("/etc/systemd/system"));
        }
        let set = |variable: &str| {
            std::env::var_os(variable)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let config =
            set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
        let config = config.ok_or_else(|| {
            CommandError::new("no home folder is known; set HOME, or use --system")
        })?;
        Ok(config.join("systemd/user"))
    }

    fn refused(&self, path: &Path, error: std::io::Error) -> CommandError {
        let next = if self.system { "; run it as root" } else { "" };
        CommandError::because(format!("{} cannot be written{next}", path.display()), error)
    }

    fn absolute_paths(&self) -> Result<Vec<String>, CommandError> {
        let absolute = |path: &PathBuf| {
            let failed = |error| {
                CommandError::because(format!("{} cannot be scheduled", path.display()), error)
            };
            let path = std::path::absolute(path).map_err(failed)?;
            std::fs::symlink_metadata(&path).map_err(failed)?;
            let text = path.into_os_string().into_string();
            text.map_err(|path| {
                CommandError::new(format!(
                    "{} is no UTF-8, which unit files need",
                    path.display()
                ))
            })
        };
        self.paths.iter().map(absolute).collect()
    }

    fn service(&self, paths: &[String]) -> Result<String, CommandError> {
        let program = std::env::current_exe().map_err(|error| {
            CommandError::because("this program's own path is not known", error)
        })?;
        let program = quoted(&program.to_string_lossy());
        let mut backup = format!("{program} backup");
        for pattern in &self.exclude {
            backup.push_str(&format!(" --exclude {}", quoted(pattern)));
        }
        backup.push_str(" --");
        for path in paths {
            backup.push_str(&format!(" {}", quoted(path)));
        }
        let environment = match std::env::var("HOLDFAST_HOME") {
            Ok(home) if !home.is_empty() => {
                format!("Environment={}\n", quoted(&format!("HOLDFAST_HOME={home}")))
            }
            _ => String::new(),
        };
        // Exit code 3: done, but some files could not be read; they are named in the journal.
        Ok(format!(
            "[Unit]\nDescription=Holdfast backup\nWants=network-online.target\nAfter=network-online.target\n\n\
             [Service]\nType=oneshot\nNice=10\nIOSchedulingClass=idle\nSuccessExitStatus=3\n{environment}\
             ExecStart={backup}\nExecStartPost={program} schedule --ran\n"
        ))
    }

    fn timer(&self) -> String {
        format!(
            "[Unit]\nDescription=Holdfast backup, every {every}\n\n\
             [Timer]\nOnCalendar={calendar}\nPersistent=true\nRandomizedDelaySec=5min\n\n\
             [Install]\nWantedBy=timers.target\n",
            every = self.every.word(),
            calendar = self.every.calendar(),
        )
    }

    fn enable(&self, folder: &Path, plan: &Plan) -> Output {
        let unit = format!("{UNIT}.timer");
        let commands = [vec!["daemon-reload"], vec!["enable", "--now", &unit]];
        let is_enabled = commands.iter().all(|arguments| self.systemctl(arguments));
        let what = format!(
            "a backup of {} every {}",
            plan.paths.join(", "),
            self.every.word()
        );
        let text = match is_enabled {
            true => format!(
                "{what} is scheduled; see: {} list-timers {unit}\n",
                self.systemctl_words()
            ),
            false => format!(
                "{unit} is written to {}, but systemd does not run here; where it does, start {what} with: {s} daemon-reload && {s} enable --now {unit}\n",
                folder.display(),
                s = self.systemctl_words(),
            ),
        };
        Output::new(
            text,
            json!({ "units": folder, "enabled": is_enabled, "every": self.every, "paths": plan.paths }),
        )
    }

    fn take_away(&self, home: &Home, folder: &Path) -> Result<Output, CommandError> {
        let unit = format!("{UNIT}.timer");
        self.systemctl(&["disable", "--now", &unit]);
        let mut removed = false;
        for ending in [".timer", ".service"] {
            let path = folder.join(format!("{UNIT}{ending}"));
            match std::fs::remove_file(&path) {
                Ok(()) => removed = true,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.refused(&path, error)),
            }
        }
        self.systemctl(&["daemon-reload"]);
        match std::fs::remove_file(home.state_dir().join(STATE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(self.refused(home.state_dir(), error));
            }
            _ => {}
        }
        let text = if removed {
            "no backup is scheduled any more\n"
        } else {
            "no backup was scheduled\n"
        };
        Ok(Output::new(text, json!({ "removed": removed })))
    }

    fn systemctl_words(&self) -> &'static str {
        if self.system {
            "systemctl"
        } else {
            "systemctl --user"
        }
    }

    /// Whether systemd runs here and did it.
    fn systemctl(&self, arguments: &[&str]) -> bool {
        if !Path::new("/run/systemd/system").is_dir() {
            return false;
        }
        let user: &[&str] = if self.system { &[] } else { &["--user"] };
        let done = Process::new("systemctl")
            .args(user)
            .args(arguments)
            .output();
        done.is_ok_and(|done| done.status.success())
    }
}

/// Quotes a word for a line of a unit file: systemd.service(5), "Command lines".
fn quoted(word: &str) -> String {
    let mut quoted = String::from("\"");
    for character in word.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '%' => quoted.push_str("%%"),
            '$' => quoted.push_str("$$"),
            '\n' => quoted.push_str("\\n"),
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

fn load(home: &Home) -> Option<Plan> {
    // A file that cannot be read warns of nothing; the next `schedule` replaces it.
    serde_json::from_slice(&home.load_state(STATE).ok()??).ok()
}

fn save(home: &Home, plan: &Plan) -> Result<(), CommandError> {
    home.make_folders().map_err(CommandError::from_error)?;
    home.save_state(STATE, json!(plan).to_string().as_bytes())
        .map_err(CommandError::from_error)
}

/// A backup has succeeded: the scheduled one is not overdue.
pub fn record_success(home: &Home) -> Result<(), CommandError> {
    match load(home) {
        None => Ok(()),
        Some(plan) => save(
            home,
            &Plan {
                last_success: Some(now_seconds()),
                ..plan
            },
        ),
    }
}

/// A sentence, if the scheduled backup has not succeeded for too long.
pub(super) fn overdue(home: &Home, now: i64) -> Option<String> {
    let plan = load(home)?;
    let last = plan.last_success.unwrap_or(plan.since);
    if now.saturating_sub(last) <= plan.every.patience_seconds() {
        return None;
    }
    let since = shown_time(Time {
        seconds: last,
        nanos: 0,
    });
    let what = if plan.last_success.is_some() {
        "the last one succeeded at"
    } else {
        "none has succeeded since"
    };
    Some(format!(
        "the scheduled backup is overdue: {what} {since}; run `holdfast backup`, and look at: systemctl --user status {UNIT}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        (folder, home)
    }

    #[test]
    fn a_backup_is_overdue_when_two_runs_were_missed() {
        let (_folder, home) = home();
        assert_eq!(overdue(&home, now_seconds()), None);
        record_success(&home).unwrap();
        let plan = Plan {
            every: Every::Day,
            paths: vec!["/home".to_owned()],
            since: 1_000_000,
            last_success: None,
        };
        save(&home, &plan).unwrap();
        assert_eq!(overdue(&home, 1_000_000 + 86_400), None);
        assert!(
            overdue(&home, 1_000_000 + 3 * 86_400)
                .unwrap()
                .contains("none has succeeded")
        );
        record_success(&home).unwrap();
        assert_eq!(overdue(&home, now_seconds() + 86_400), None);
        assert!(
            overdue(&home, now_seconds() + 3 * 86_400)
                .unwrap()
                .contains("succeeded at")
        );
    }

    #[test]
    fn words_of_unit_files_are_quoted() {
        assert_eq!(
            quoted("/home/a b/100% \"x\" $y\\"),
            r#""/home/a b/100%% \"x\" $$y\\""#
        );
    }
}
