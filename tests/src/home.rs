//! One computer: a `HOLDFAST_HOME` of its own and the binary run with it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A home in a temporary folder.
pub struct Home {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// What a command has said.
pub struct Run {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Default for Home {
    fn default() -> Self {
        Home::new()
    }
}

impl Home {
    /// A computer on which Holdfast was never used.
    pub fn new() -> Home {
        let folder = tempfile::Builder::new()
            .prefix("holdfast-test-")
            .tempdir()
            .expect("a temporary folder");
        Home {
            folder,
            variables: Vec::new(),
        }
    }

    /// The same with an archive in a local folder; gives its recovery code.
    pub fn with_archive(device: &str) -> (Home, String) {
        let home = Home::new();
        let store = home.path("store");
        let code = home.init(store.to_str().expect("a plain path"), device, &[]);
        (home, code)
    }

    /// Sets an environment variable for every command.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.into(), value.into()));
    }

    /// A path in the temporary folder, outside of `HOLDFAST_HOME`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `HOLDFAST_HOME`.
    pub fn holdfast_home(&self) -> PathBuf {
        self.path("home")
    }

    /// `init`; gives the recovery code.
    pub fn init(&self, store: &str, device: &str, more: &[&str]) -> String {
        let mut arguments = vec!["init", store, "--device", device];
        arguments.extend(more);
        let told = self.json(&arguments);
        told["recovery_code"]
            .as_str()
            .expect("init tells the recovery code")
            .to_owned()
    }

    /// `recover` with the code in a file, as a script would.
    pub fn recover(&self, store: &str, code: &str, device: &str, more: &[&str]) -> Run {
        let file = self.path("recovery-code");
        std::fs::write(&file, code).expect("the code is written");
        let file = file.to_str().expect("a plain path").to_owned();
        let mut arguments = vec![
            "recover",
            store,
            "--device",
            device,
            "--recovery-code-file",
            &file,
        ];
        arguments.extend(more);
        self.run(&arguments)
    }

    /// The command, not yet started.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(crate::holdfast());
        command
            .args(arguments)
            .env("HOLDFAST_HOME", self.holdfast_home())
            .stdin(Stdio::null());
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    /// Runs a command to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Run {
        Run::of(
            self.command(arguments)
                .output()
                .expect("the binary can be started"),
        )
    }

    /// Runs a command that must succeed; gives its standard output without the last newline.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(
            run.code, 0,
            "holdfast {arguments:?} failed:\n{}\n{}",
            run.out, run.err
        );
        run.out.trim_end().to_owned()
    }

    /// Runs a command that must succeed with `--json`.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        let out = self.ok(&all);
        serde_json::from_str(&out)
            .unwrap_or_else(|error| panic!("{arguments:?} printed no JSON ({error}): {out}"))
    }

    /// Runs a command that must be refused; gives its sentence.
    ///
    /// One sentence on standard error, nothing on standard output, no panic, an exit code that is not 0;
    /// with `--json` the error as JSON.
    #[track_caller]
    pub fn refused(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_ne!(
            run.code, 0,
            "holdfast {arguments:?} was not refused:\n{}",
            run.out
        );
        assert!(
            !run.err.contains("panicked"),
            "holdfast {arguments:?} panicked:\n{}",
            run.err
        );
        assert_eq!(
            run.out, "",
            "holdfast {arguments:?} was refused and printed something"
        );
        let sentence = run.err.trim();
        assert_eq!(sentence.lines().count(), 1, "not one sentence:\n{sentence}");
        // For a program the same, once more.
        let mut all = arguments.to_vec();
        all.push("--json");
        let run = self.run(&all);
        let told: Value = serde_json::from_str(&run.out)
            .unwrap_or_else(|error| panic!("{all:?} printed no JSON ({error}): {}", run.out));
        assert!(
            run.code != 0 && told["error"].is_string(),
            "{all:?}: {told}"
        );
        sentence.to_owned()
    }

    /// Mounts the drive.
    #[track_caller]
    pub fn mount(&self) -> crate::Drive<'_> {
        crate::Drive::mount(self, &[])
    }

    /// From the next mount on the log holds so many mebibytes.
    pub fn limit_log(&self, mib: u32) {
        let config = self.holdfast_home().join("config.toml");
        let settings = std::fs::read_to_string(&config).expect("its settings");
        let limited = settings.replace("log_mib = 0\n", &format!("log_mib = {mib}\n"));
        assert_ne!(limited, settings, "the settings have the limit");
        std::fs::write(&config, limited).expect("written");
    }

    /// All files below the store's folder `name`, such as `packs`, of an archive in the folder `store`.
    pub fn objects(&self, name: &str) -> Vec<PathBuf> {
        crate::trees::files_below(&self.path("store").join(name))
    }

    /// Bytes of all objects.
    pub fn store_bytes(&self) -> u64 {
        crate::trees::files_below(&self.path("store"))
            .iter()
            .map(|file| std::fs::metadata(file).map_or(0, |metadata| metadata.len()))
            .sum()
    }

    /// The store's folder as an argument.
    pub fn store(&self) -> String {
        self.path("store")
            .to_str()
            .expect("a plain path")
            .to_owned()
    }

    /// Everything that the daemon has logged.
    pub fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.holdfast_home().join("state/daemon.log")).unwrap_or_default()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A drive that a test has left stale would keep the folder from being removed.
        crate::drive::take_away(&self.path("drive"));
    }
}

impl Run {
    pub(crate) fn of(output: Output) -> Run {
        Run {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
