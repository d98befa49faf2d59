//! The socket between the commands and the running daemon: `status`, `flush`, `snapshot`, `backup`
//! and `unmount` work through it, and so also while the mount hangs.
//!
//! One request a connection. The client writes one JSON line; the daemon writes any number of lines
//! `{"progress": …}` and then one `{"done": …}` or `{"failed": "sentence"}`. A connection that ends
//! early is a client that was interrupted: what it asked for goes on.
//!
//! The socket lies in the state folder, mode 0600 in a folder of mode 0700: whoever may connect may
//! read the key file too. A path longer than sun_path (108 bytes, unix(7)) is reached through the
//! folder's descriptor.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a command asks of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// How the drive is doing.
    Status,
    /// Wait until everything is in the store.
    Flush {
        /// Seconds to wait at the most.
        timeout_seconds: Option<u64>,
    },
    /// Take a snapshot and wait until it is stored.
    Snapshot {
        /// Its name.
        label: Option<String>,
    },
    /// Unmount, wait for the queue, end.
    Unmount {
        /// Seconds to wait for the queue at the most.
        timeout_seconds: Option<u64>,
    },
    /// Bring folders into `current/`.
    Backup {
        /// The command's arguments.
        arguments: Value,
    },
}

/// What the daemon answers, line by line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// On the way.
    Progress(Value),
    /// The result.
    Done(Value),
    /// A sentence for a person.
    Failed(String),
}

/// Why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No daemon listens.
    #[error("no drive is mounted from this home; mount it with: holdfast mount DIR")]
    NotRunning,
    /// It refused or failed, in its own words.
    #[error("{0}")]
    Failed(String),
    /// The connection broke.
    #[error("the running drive ended or did not understand ({0}); look at its log, then try again")]
    Broken(#[source] io::Error),
}

/// Longest line either side reads.
const LINE_BYTES: u64 = 16 << 20;

/// Where the socket of a state folder is.
pub fn socket_path(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// The daemon's end.
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Listens; a socket left by a daemon that died is replaced. Call with the home's lock held:
    /// it tells that no other daemon is alive.
    pub fn bind(state: &Path) -> io::Result<Listener> {
        let path = socket_path(state);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let folder = std::fs::File::open(state)?;
        let socket = UnixListener::bind(short(&folder))?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(Listener { socket, path })
    }

    /// Waits for a client and reads its request. A client that talks nonsense is told so.
    pub fn accept(&self) -> io::Result<Option<(Request, Answer)>> {
        let (stream, _) = self.socket.accept()?;
        // A client that connects and says nothing must not hold the others up.
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut answer = Answer {
            stream: stream.try_clone()?,
        };
        match read_line::<Request>(&mut BufReader::new(stream)) {
            Ok(Some(request)) => Ok(Some((request, answer))),
            Ok(None) => Ok(None),
            Err(error) => {
                answer.send(&Reply::Failed(format!(
                    "the request was not understood: {error}"
                )));
                Ok(None)
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // What stays is replaced by the next daemon.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Where the daemon's answers to one request go.
pub struct Answer {
    stream: UnixStream,
}

impl Answer {
    /// Sends a line; says whether somebody is still there.
    pub fn send(&mut self, reply: &Reply) -> bool {
        let Ok(mut line) = serde_json::to_vec(reply) else {
            return false;
        };
        line.push(b'\n');
        self.stream.write_all(&line).is_ok()
    }
}

/// Asks the daemon of a state folder and waits for the result; `progress` sees each line before it.
pub fn ask(
    state: &Path,
    request: &Request,
    mut progress: impl FnMut(&Value),
) -> Result<Value, ControlError> {
    let stream = connect(state)?;
    let mut line =
        serde_json::to_vec(request).map_err(|error| ControlError::Broken(error.into()))?;
    line.push(b'\n');
    (&stream).write_all(&line).map_err(ControlError::Broken)?;
    let mut lines = BufReader::new(stream);
    loop {
        match read_line::<Reply>(&mut lines).map_err(ControlError::Broken)? {
            Some(Reply::Progress(value)) => progress(&value),
            Some(Reply::Done(value)) => return Ok(value),
            Some(Reply::Failed(sentence)) => return Err(ControlError::Failed(sentence)),
            None => return Err(ControlError::Broken(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// Whether a daemon listens.
pub fn is_running(state: &Path) -> bool {
    connect(state).is_ok()
}

fn connect(state: &Path) -> Result<UnixStream, ControlError> {
    let folder = std::fs::File::open(state).map_err(|_| ControlError::NotRunning)?;
    UnixStream::connect(short(&folder)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ControlError::NotRunning,
        _ => ControlError::Broken(error),
    })
}

/// The socket's path by way of its folder's descriptor: always short enough for sun_path.
fn short(folder: &std::fs::File) -> PathBuf {
    format!("/proc/self/fd/{}/control.sock", folder.as_raw_fd()).into()
}

fn read_line<T: for<'a> Deserialize<'a>>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    io::Read::take(from, LINE_BYTES).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_with_progress_and_a_result_even_below_a_very_long_path() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("x".repeat(120));
        std::fs::create_dir(&state).unwrap();
        let listener = Listener::bind(&state).unwrap();
        let daemon = std::thread::spawn(move || {
            let (request, mut answer) = listener.accept().unwrap().unwrap();
            assert!(matches!(
                request,
                Request::Flush {
                    timeout_seconds: Some(7)
                }
            ));
            assert!(answer.send(&Reply::Progress(serde_json::json!(1))));
            assert!(answer.send(&Reply::Done(serde_json::json!("stored"))));
        });
        let mut seen = Vec::new();
        let done = ask(
            &state,
            &Request::Flush {
                timeout_seconds: Some(7),
            },
            |value| seen.push(value.clone()),
        )
        .unwrap();
        daemon.join().unwrap();
        assert_eq!(
            (done, seen),
            (serde_json::json!("stored"), vec![serde_json::json!(1)])
        );
        assert!(matches!(
            ask(&state, &Request::Status, |_| ()),
            Err(ControlError::NotRunning)
        ));
    }

    #[test]
    fn nonsense_is_refused_and_the_daemon_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let listener = Listener::bind(folder.path()).unwrap();
        let mut client = UnixStream::connect(socket_path(folder.path())).unwrap();
        client.write_all(b"{\"request\":\"format\"}\n").unwrap();
        assert!(listener.accept().unwrap().is_none());
        let mut line = String::new();
        BufReader::new(client).read_line(&mut line).unwrap();
        assert!(line.contains("failed"), "{line}");
    }
}
