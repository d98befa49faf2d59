//! How each tool is run: its own fresh archive, its own home and cache, its password from a file.
//!
//! With a bucket as store there are only those that can use one: Holdfast, restic, and rustic through OpenDAL.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::bucket::{self, Bucket};

/// What the archives of the peers are protected with.
const PASSWORD: &str = "not secret: everything in here is removed at the end";

/// A tool that this machine has.
pub struct Tool {
    /// Which.
    pub kind: Kind,
    /// Its program.
    pub program: PathBuf,
    /// What it says of itself.
    pub version: String,
}

/// Everything that is measured, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `holdfast backup` and `holdfast restore`.
    Holdfast,
    /// restic.
    Restic,
    /// rustic.
    Rustic,
    /// BorgBackup.
    Borg,
    /// vykar.
    Vykar,
    /// `tar | zstd`: a limit, no peer; it has neither encryption nor deduplication.
    Tar,
    /// `cp -a`: what the disk takes.
    Copy,
}

/// A step that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Everything into an empty archive.
    First,
    /// The same once more, nothing changed.
    Again,
    /// Everything out into an empty folder.
    Restore,
}

/// Where archives are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// In a folder on the same disk
    Folder,
    /// In a SeaweedFS on this computer
    S3,
}

/// Where one tool works in one round.
pub struct Place {
    /// Its home, with configuration and cache.
    pub home: PathBuf,
    /// Its archive, unless that is in a bucket.
    pub archive: PathBuf,
    /// The bucket for its archive.
    pub bucket: Option<Bucket>,
    /// What it restores into.
    pub target: PathBuf,
    /// What it backs up.
    pub folder: PathBuf,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Holdfast,
        Kind::Restic,
        Kind::Rustic,
        Kind::Borg,
        Kind::Vykar,
        Kind::Tar,
        Kind::Copy,
    ];

    /// As it is called in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Holdfast => "holdfast",
            Kind::Restic => "restic",
            Kind::Rustic => "rustic",
            Kind::Borg => "borg",
            Kind::Vykar => "vykar",
            Kind::Tar => "tar | zstd -3 -T2",
            Kind::Copy => "cp -a",
        }
    }

    /// The first word of its name: what `--only` takes, and what its folders are called.
    pub fn word(self) -> &'static str {
        self.name().split(' ').next().unwrap_or_default()
    }

    /// Whether it does what Holdfast does.
    pub fn is_peer(self) -> bool {
        !matches!(self, Kind::Holdfast | Kind::Tar | Kind::Copy)
    }

    /// Whether it can keep its archive there. vykar may, but nobody has tried it here.
    fn can_use(self, store: Store) -> bool {
        match store {
            Store::Folder => true,
            Store::S3 => matches!(self, Kind::Holdfast | Kind::Restic | Kind::Rustic),
        }
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Kind::Holdfast => &["holdfast"],
            Kind::Restic => &["restic"],
            Kind::Rustic => &["rustic"],
            Kind::Borg => &["borg"],
            Kind::Vykar => &["vykar"],
            Kind::Tar => &["sh", "tar", "zstd"],
            Kind::Copy => &["cp"],
        }
    }
}

/// What can be measured, and what not.
#[derive(Default)]
pub struct Found {
    /// The tools that are here.
    pub tools: Vec<Tool>,
    /// The names of those that are not.
    pub missing: Vec<String>,
    /// The names of those that cannot use the store.
    pub left_out: Vec<String>,
}

/// Looks for all tools, or those named in `only`.
pub fn find(holdfast: &Path, only: &[String], store: Store) -> anyhow::Result<Found> {
    let is_wanted = |kind: &Kind| only.is_empty() || only.iter().any(|name| name == kind.word());
    let mut found = Found::default();
    for kind in Kind::ALL.into_iter().filter(is_wanted) {
        if !kind.can_use(store) {
            found.left_out.push(kind.name().to_owned());
            continue;
        }
        let programs: Option<Vec<PathBuf>> = match kind {
            Kind::Holdfast => Some(vec![holdfast.to_owned()]),
            _ => kind.programs().iter().map(|name| on_path(name)).collect(),
        };
        match programs.and_then(|programs| programs.into_iter().next()) {
            Some(program) => found.tools.push(Tool {
                version: version_of(kind, &program),
                kind,
                program,
            }),
            None => found.missing.push(kind.name().to_owned()),
        }
    }
    anyhow::ensure!(
        !found.tools.is_empty(),
        "--only {} names no tool that is here and can use the store",
        only.join(",")
    );
    Ok(found)
}

/// A program, looked for as a shell does.
pub fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// The first number with a dot in what `--version` prints.
fn version_of(kind: Kind, program: &Path) -> String {
    let word = if kind == Kind::Restic {
        "version"
    } else {
        "--version"
    };
    let program: &OsStr = match kind {
        Kind::Tar => OsStr::new("zstd"),
        _ => program.as_os_str(),
    };
    let output = Command::new(program).arg(word).output();
    let text = output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    let number = |word: &&str| word.contains('.') && word.contains(|c: char| c.is_ascii_digit());
    let word = text.split_whitespace().find(number).unwrap_or_default();
    word.trim_matches(|c: char| !c.is_ascii_digit()).to_owned()
}

impl Tool {
    /// What is run, not measured, before the first step.
    pub fn prepare(&self, place: &Place) -> anyhow::Result<Option<Command>> {
        std::fs::write(place.home.join("password"), PASSWORD)?;
        if self.kind == Kind::Vykar {
            std::fs::write(place.home.join("vykar.yaml"), place.vykar_settings())?;
        }
        let command = match self.kind {
            Kind::Holdfast => {
                let mut command = self.command(place, &["init"], &[&place.holdfast_store()]);
                if let Some(bucket) = &place.bucket {
                    command.args(["--region", bucket::REGION, "--endpoint"]);
                    command.arg(bucket.endpoint());
                }
                command
            }
            Kind::Restic | Kind::Rustic | Kind::Vykar => self.command(place, &["init"], &[]),
            Kind::Borg => self.command(place, &["init", "--encryption", "repokey-blake2"], &[]),
            Kind::Tar | Kind::Copy => return Ok(None),
        };
        Ok(Some(command))
    }

    /// What is measured; nothing where a tool has no such step.
    pub fn step(&self, step: Step, place: &Place) -> Option<Command> {
        let (folder, target) = (&place.folder, &place.target);
        let command = match (self.kind, step) {
            (Kind::Tar, Step::First) => place.pipe(
                r#"tar -C "$2" -cf - . | zstd -q -3 -T2 -o "$1/archive.tar.zst""#,
                folder,
            ),
            (Kind::Tar, Step::Restore) => place.pipe(
                r#"zstd -q -dc "$1/archive.tar.zst" | tar -C "$2" -xf -"#,
                target,
            ),
            (Kind::Copy, Step::First) => self.command(place, &["-a"], &[folder, &place.archive]),
            (Kind::Copy, Step::Restore) => {
                let copied = place.archive.join(folder.file_name().unwrap_or_default());
                self.command(place, &["-a"], &[&copied, target])
            }
            (Kind::Tar | Kind::Copy, Step::Again) => return None,
            (Kind::Borg, Step::Restore) => {
                // It restores into the folder that it is started in.
                let mut command = self.command(place, &["extract", "::again"], &[]);
                command.current_dir(target);
                command
            }
            (Kind::Borg, _) => {
                let name = if step == Step::First {
                    "::first"
                } else {
                    "::again"
                };
                self.command(
                    place,
                    &["create", "--compression", "zstd,3", name],
                    &[folder],
                )
            }
            (Kind::Restic, Step::Restore) => {
                self.command(place, &["restore", "latest", "--target"], &[target])
            }
            (_, Step::Restore) => self.command(place, &["restore", "latest"], &[target]),
            (_, Step::First | Step::Again) => self.command(place, &["backup"], &[folder]),
        };
        Some(command)
    }

    /// What mounts the newest snapshot on `target` and serves it in the foreground, and the folder that then is the
    /// snapshot's root; nothing where that is not compared.
    pub fn mount(&self, place: &Place) -> Option<(Command, PathBuf)> {
        let target = &place.target;
        match self.kind {
            Kind::Restic => Some((
                self.command(place, &["mount"], &[target]),
                target.join("snapshots/latest"),
            )),
            Kind::Rustic => {
                let mut command = self.command(place, &["mount"], &[target]);
                command.arg("latest");
                Some((command, target.clone()))
            }
            _ => None,
        }
    }

    /// The tool with what tells it its archive and password, and nothing from outside.
    fn command(&self, place: &Place, words: &[&str], paths: &[&Path]) -> Command {
        let mut command = Command::new(&self.program);
        place.environment(&mut command);
        let home = |name: &str| place.home.join(name);
        let settings: &[(&str, PathBuf)] = match self.kind {
            Kind::Holdfast => &[("HOLDFAST_HOME", place.home.clone())],
            Kind::Restic => &[
                ("RESTIC_REPOSITORY", place.restic_repository()),
                ("RESTIC_PASSWORD_FILE", home("password")),
                ("RESTIC_CACHE_DIR", home("cache")),
            ],
            Kind::Rustic => &[
                ("RUSTIC_REPOSITORY", place.rustic_repository()),
                ("RUSTIC_PASSWORD_FILE", home("password")),
                ("RUSTIC_CACHE_DIR", home("cache")),
            ],
            Kind::Borg => &[
                ("BORG_REPO", place.archive.clone()),
                ("BORG_BASE_DIR", place.home.clone()),
            ],
            Kind::Vykar | Kind::Tar | Kind::Copy => &[],
        };
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        if let Some(bucket) = &place.bucket {
            command.envs(bucket.credentials());
        }
        match (self.kind, &place.bucket) {
            (Kind::Rustic, Some(bucket)) => {
                command
                    .env("OPENDAL_ENDPOINT", bucket.endpoint())
                    .env("OPENDAL_REGION", bucket::REGION)
                    .env("OPENDAL_BUCKET", bucket.name())
                    .env("OPENDAL_ROOT", "/archive");
            }
            (Kind::Borg, _) => {
                let command_line = format!("cat {}", home("password").display());
                command.env("BORG_PASSCOMMAND", command_line);
            }
            (Kind::Vykar, _) => {
                command.arg("--config").arg(home("vykar.yaml"));
            }
            _ => (),
        }
        command.args(words).args(paths);
        command
    }
}

impl Place {
    /// A home of its own, the same PATH, and nothing else: a user's own settings of a tool do not
    /// change what is measured.
    fn environment(&self, command: &mut Command) {
        command.env_clear().env("HOME", &self.home);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
    }

    fn holdfast_store(&self) -> PathBuf {
        match &self.bucket {
            Some(bucket) => format!("s3://{}/archive", bucket.name()).into(),
            None => self.archive.clone(),
        }
    }

    fn restic_repository(&self) -> PathBuf {
        match &self.bucket {
            Some(bucket) => format!("s3:{}/{}/archive", bucket.endpoint(), bucket.name()).into(),
            None => self.archive.clone(),
        }
    }

    fn rustic_repository(&self) -> PathBuf {
        match self.bucket {
            Some(_) => "opendal:s3".into(),
            None => self.archive.clone(),
        }
    }

    fn pipe(&self, script: &str, path: &Path) -> Command {
        let mut command = Command::new("sh");
        self.environment(&mut command);
        command.args(["-c", script, "sh"]);
        command.arg(&self.archive).arg(path);
        command
    }

    fn vykar_settings(&self) -> String {
        format!(
            "repositories:\n  - url: \"{}\"\nencryption:\n  passcommand: \"cat {}\"\ncompression:\n  algorithm: zstd\n  zstd_level: 3\n",
            self.archive.display(),
            self.home.join("password").display(),
        )
    }
}
