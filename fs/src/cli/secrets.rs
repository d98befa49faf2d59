//! Secrets that a person types or a script has in a file. They never come as an argument or from the environment, where others see them.

use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use holdfast_keystore_client::escrow::SecondFactor;
use zeroize::Zeroizing;

use super::CommandError;

/// Seconds of one step of the second factor.
const STEP_SECONDS: u64 = 30;
/// Whoever guesses a shorter one is done soon.
const LEAST_PASSWORD: usize = 10;
/// Codes that are asked for before a command gives up.
const TRIES: usize = 3;

/// Password and second factor of commands that prove who is there.
#[derive(Args)]
pub struct ProofArguments {
    /// Read the password from this file (`-` is standard input) instead of asking for it
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    codes: CodeArguments,
}

/// Where codes of the second factor come from.
#[derive(Args)]
pub struct CodeArguments {
    /// Read the code of the second factor from this file instead of asking for it
    #[arg(long, value_name = "FILE", conflicts_with = "second_factor_file")]
    code_file: Option<PathBuf>,
    /// For trials: calculate the codes from the secret in this file, which makes one factor of two
    #[arg(long, value_name = "FILE")]
    pub(super) second_factor_file: Option<PathBuf>,
}

impl ProofArguments {
    /// The password.
    pub(super) fn password(&self) -> Result<Zeroizing<String>, CommandError> {
        secret(
            &Asked {
                what: "password",
                prompt: "Password: ",
                option: "--password-file",
            },
            self.password_file.as_deref(),
        )
    }

    /// Codes.
    pub(super) fn codes(&self) -> Result<Codes, CommandError> {
        self.codes.codes()
    }
}

impl CodeArguments {
    /// Where they come from.
    pub(super) fn codes(&self) -> Result<Codes, CommandError> {
        let source = match (&self.second_factor_file, &self.code_file) {
            (Some(file), _) => {
                let address = read_file(file)?;
                let factor = SecondFactor::from_address(&address).map_err(|error| {
                    CommandError::because(
                        format!("{} holds no secret of a second factor", file.display()),
                        error,
                    )
                })?;
                Source::Calculated(factor)
            }
            (None, Some(file)) => Source::File(file.clone()),
            (None, None) => Source::Typed,
        };
        Ok(Codes { source, tries: 0 })
    }
}

/// Codes of the second factor, one after the other.
pub(super) struct Codes {
    source: Source,
    tries: usize,
}

enum Source {
    Typed,
    File(PathBuf),
    Calculated(SecondFactor),
}

impl Codes {
    /// Codes of a secret that has just been made.
    pub(super) fn calculated(factor: SecondFactor) -> Codes {
        Codes {
            source: Source::Calculated(factor),
            tries: 0,
        }
    }

    /// A code that was not given before. A code counts once: when the one of this step was refused, the next step's is good already;
    /// when that was, too, it is waited for the step behind it.
    pub(super) fn next(&mut self) -> Result<Zeroizing<String>, CommandError> {
        self.tries += 1;
        match &self.source {
            Source::Typed => secret(
                &Asked {
                    what: "code of the second factor",
                    prompt: "Code of the second factor: ",
                    option: "--code-file",
                },
                None,
            ),
            Source::File(file) => read_file(file),
            Source::Calculated(factor) => {
                if self.tries > 2 {
                    let over = now_seconds() % STEP_SECONDS;
                    std::thread::sleep(Duration::from_secs(STEP_SECONDS - over));
                }
                let ahead = if self.tries > 1 { STEP_SECONDS } else { 0 };
                Ok(factor.code(now_seconds() + ahead))
            }
        }
    }

    /// To the person who types the next one, on standard error: the result comes later.
    pub(super) fn tell_refused(&self, sentence: &str) {
        match self.source {
            Source::Typed => {
                // Whoever closed standard error sees no prompt either.
                let _ = writeln!(std::io::stderr(), "{sentence}");
            }
            Source::File(_) | Source::Calculated(_) => {
                tracing::info!("a code of the second factor was refused; another one is tried");
            }
        }
    }

    /// Whether there is another code after a refusal.
    pub(super) fn has_more(&self) -> bool {
        self.tries < TRIES && !matches!(self.source, Source::File(_))
    }
}

/// A new password, typed twice.
pub(super) fn new_password(file: Option<&Path>) -> Result<Zeroizing<String>, CommandError> {
    let asked = |prompt| Asked {
        what: "new password",
        prompt,
        option: "--new-password-file",
    };
    let password = secret(&asked("New password: "), file)?;
    if password.chars().count() < LEAST_PASSWORD {
        return Err(CommandError::new(format!(
            "the new password has fewer than {LEAST_PASSWORD} characters; take several words"
        )));
    }
    if file.is_none() && *secret(&asked("The same again: "), None)? != *password {
        return Err(CommandError::new(
            "the two passwords are different; type the same one twice",
        ));
    }
    Ok(password)
}

/// The enrolment token.
pub(super) fn token(file: Option<&Path>) -> Result<Zeroizing<String>, CommandError> {
    secret(
        &Asked {
            what: "enrolment token",
            prompt: "Enrolment token: ",
            option: "--token-file",
        },
        file,
    )
}

/// Fails early if [`write_new`] would fail later, when others know of the secret already.
pub(super) fn check_new(path: Option<&Path>) -> Result<(), CommandError> {
    match path {
        Some(path) if path.symlink_metadata().is_ok() => Err(CommandError::new(format!(
            "{} is there already; name a new file, or take this one away",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Puts a secret into a new file that nobody else can read.
pub(super) fn write_new(path: &Path, what: &str, secret: &str) -> Result<(), CommandError> {
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(secret.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write().map_err(|error| {
        CommandError::because(
            format!(
                "the {what} cannot be written to {}, which must be a new file",
                path.display()
            ),
            error,
        )
    })
}

struct Asked {
    what: &'static str,
    prompt: &'static str,
    option: &'static str,
}

fn secret(asked: &Asked, file: Option<&Path>) -> Result<Zeroizing<String>, CommandError> {
    let Asked {
        what,
        prompt,
        option,
    } = asked;
    let read = match file {
        Some(file) if file == Path::new("-") => read_line(),
        Some(file) => return read_file(file),
        None if std::io::stdin().is_terminal() => {
            rpassword::prompt_password(prompt).map(Zeroizing::new)
        }
        None => {
            return Err(CommandError::new(format!(
                "the {what} is asked for on a terminal; use {option} FILE without one"
            )));
        }
    };
    read.map(|read| one_line(&read))
        .map_err(|error| CommandError::because(format!("the {what} could not be read"), error))
}

fn read_file(file: &Path) -> Result<Zeroizing<String>, CommandError> {
    let read = std::fs::read_to_string(file).map(Zeroizing::new);
    read.map(|read| one_line(&read))
        .map_err(|error| CommandError::because(format!("{} cannot be read", file.display()), error))
}

fn read_line() -> std::io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(2048));
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}

fn one_line(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn now_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_goes_into_a_new_private_file_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        write_new(&file, "code", "hfr1-test").unwrap();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(*read_file(&file).unwrap(), "hfr1-test");
        assert!(write_new(&file, "code", "another").is_err());
        assert!(check_new(Some(&file)).is_err());
        assert!(check_new(Some(&folder.path().join("other"))).is_ok());
    }

    #[test]
    fn a_short_new_password_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "too short\n").unwrap();
        assert!(new_password(Some(&file)).is_err());
        std::fs::write(&file, "long enough\r\n").unwrap();
        assert_eq!(*new_password(Some(&file)).unwrap(), "long enough");
    }

    /// The second code is the next step's; only the third would be waited for.
    #[test]
    fn calculated_codes_differ() {
        let factor = SecondFactor::generate();
        let twin = SecondFactor::from_bytes(factor.expose_secret()).unwrap();
        let mut codes = Codes::calculated(factor);
        let now = now_seconds();
        let first = codes.next().unwrap();
        assert!([now, now + 1].iter().any(|now| *twin.code(*now) == *first));
        let second = codes.next().unwrap();
        let next = [now + 30, now + 31];
        assert!(next.iter().any(|now| *twin.code(*now) == *second));
        assert!(codes.has_more());
    }
}
