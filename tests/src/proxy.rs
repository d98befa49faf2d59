//! A proxy between Holdfast and an S3 server: counts requests and bytes, and breaks what it is told to.
//!
//! The signature covers the Host header, which names the proxy, so that bytes pass unchanged. Requests
//! are read one by one (HTTP/1.1 without pipelining, bodies with a length: what Holdfast sends);
//! answers pass as they come.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The running proxy. Its threads end with the test's process.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

/// How often each method was asked for, by kind of object (`PUT packs`, `GET refs`, `LIST`).
pub type Counts = BTreeMap<String, u64>;

/// What befalls a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server answers with this status and never sees the request.
    Status(u16),
    /// Connections are accepted and nothing ever comes back, also on those that are open.
    BlackHole,
    /// The connection ends in the middle of the request's body.
    CutRequest,
    /// The connection ends in the middle of the answer.
    CutAnswer,
    /// The server does what it was asked; the connection ends before its answer.
    LoseAnswer,
}

/// To the server, or from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Requests.
    Up,
    /// Answers.
    Down,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<String>>,
    moved: Mutex<Vec<(Instant, Direction, u64)>>,
    rule: Mutex<Option<(Fault, Which)>>,
    hit: Mutex<u64>,
}

/// Requests that a fault befalls.
type Which = Arc<dyn Fn(&str, u64) -> bool + Send + Sync>;

impl Proxy {
    /// Passes everything on to `127.0.0.1:port`.
    pub fn start(port: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let shared = Arc::<Shared>::default();
        let proxy = Proxy {
            port: listener.local_addr().expect("it is bound").port(),
            shared: Arc::clone(&shared),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A server that is not there: the client's connection ends at once.
                std::thread::spawn(move || Connection::serve(client, port, &shared));
            }
        });
        proxy
    }

    /// What to give as `--endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests since the last call.
    pub fn take(&self) -> Counts {
        let lines = std::mem::take(&mut *lock(&self.shared.requests));
        let mut counts = Counts::new();
        for line in lines {
            *counts.entry(kind_of(&line)).or_default() += 1;
        }
        counts
    }

    /// From now on every request has this fault.
    pub fn fail(&self, fault: Fault) {
        self.fail_some(fault, |_, _| true);
    }

    /// From now on requests have this fault for which `which` is true, given their kind (`PUT packs`)
    /// and how many came before.
    pub fn fail_some(
        &self,
        fault: Fault,
        which: impl Fn(&str, u64) -> bool + Send + Sync + 'static,
    ) {
        *lock(&self.shared.hit) = 0;
        *lock(&self.shared.rule) = Some((fault, Arc::new(which)));
    }

    /// Everything passes again.
    pub fn heal(&self) {
        *lock(&self.shared.rule) = None;
    }

    /// How many requests had a fault since it was set.
    pub fn hits(&self) -> u64 {
        *lock(&self.shared.hit)
    }

    /// Forgets what has moved so far.
    pub fn forget_moved(&self) {
        lock(&self.shared.moved).clear();
    }

    /// Bytes that have moved, in all and within the busiest `span`.
    pub fn moved(&self, direction: Direction, span: Duration) -> (u64, u64) {
        let moved: Vec<(Instant, u64)> = lock(&self.shared.moved)
            .iter()
            .filter(|(_, way, _)| *way == direction)
            .map(|(when, _, bytes)| (*when, *bytes))
            .collect();
        let total = moved.iter().map(|(_, bytes)| bytes).sum();
        let (mut first, mut within, mut most) = (0, 0, 0);
        for (when, bytes) in &moved {
            within += bytes;
            while when.duration_since(moved[first].0) > span {
                within -= moved[first].1;
                first += 1;
            }
            most = most.max(within);
        }
        (total, most)
    }
}

impl Shared {
    fn fault_of(&self, line: &str) -> Option<Fault> {
        let count = {
            let mut requests = lock(&self.requests);
            requests.push(line.to_owned());
            requests.len() as u64 - 1
        };
        let (fault, which) = lock(&self.rule).clone()?;
        let hit = which(&kind_of(line), count);
        *lock(&self.hit) += u64::from(hit);
        hit.then_some(fault)
    }

    fn is_black_hole(&self) -> bool {
        matches!(*lock(&self.rule), Some((Fault::BlackHole, _)))
    }

    fn has_moved(&self, direction: Direction, bytes: usize) {
        lock(&self.moved).push((Instant::now(), direction, bytes as u64));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics")
}

/// One connection of a client, and the one to the server that belongs to it.
struct Connection<'a> {
    client: TcpStream,
    server: TcpStream,
    shared: &'a Shared,
    answers: Arc<Mutex<Answers>>,
    /// Read from the client and not yet passed on.
    ahead: Vec<u8>,
}

/// What happens to answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    Pass,
    Cut,
    Lose,
}

/// How much of an answer that is cut off comes through: not even its status line.
const CUT_ANSWER_BYTES: usize = 10;

impl<'a> Connection<'a> {
    fn serve(client: TcpStream, port: u16, shared: &'a Arc<Shared>) -> Option<()> {
        wait_while_black_hole(shared);
        let server = TcpStream::connect(("127.0.0.1", port)).ok()?;
        let answers = Arc::new(Mutex::new(Answers::Pass));
        let back = (server.try_clone().ok()?, client.try_clone().ok()?);
        let (seen, watched) = (Arc::clone(&answers), Arc::clone(shared));
        std::thread::spawn(move || pass_answers(back.0, back.1, &seen, &watched));
        let mut connection = Connection {
            client,
            server,
            shared,
            answers,
            ahead: Vec::new(),
        };
        while connection.request().is_some() {}
        let _ = connection.server.shutdown(Shutdown::Both);
        let _ = connection.client.shutdown(Shutdown::Both);
        Some(())
    }

    /// Passes one request on; `None` at the end of the connection.
    fn request(&mut self) -> Option<()> {
        let head = self.head()?;
        let text = String::from_utf8_lossy(&head).into_owned();
        let line = text.lines().next().unwrap_or_default();
        let line = line.strip_suffix(" HTTP/1.1").unwrap_or(line);
        let length = content_length(&text);
        match self.shared.fault_of(line) {
            None => self.pass(&head, length),
            Some(Fault::Status(status)) => {
                self.body(length, |_, _| Some(()))?;
                self.client.write_all(refusal(status).as_bytes()).ok()
            }
            Some(Fault::BlackHole) => {
                wait_while_black_hole(self.shared);
                None
            }
            Some(Fault::CutRequest) => {
                self.pass(&head, length / 2)?;
                None
            }
            Some(Fault::CutAnswer) => {
                *lock(&self.answers) = Answers::Cut;
                self.pass(&head, length)
            }
            Some(Fault::LoseAnswer) => {
                *lock(&self.answers) = Answers::Lose;
                self.pass(&head, length)
            }
        }
    }

    fn pass(&mut self, head: &[u8], length: usize) -> Option<()> {
        self.server.write_all(head).ok()?;
        self.shared.has_moved(Direction::Up, head.len());
        self.body(length, |server, piece| server.write_all(piece).ok())
    }

    /// Everything up to the empty line.
    fn head(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|part| part == b"\r\n\r\n") {
                return Some(self.ahead.drain(..end + 4).collect());
            }
            self.read_ahead()?;
        }
    }

    fn body(
        &mut self,
        length: usize,
        mut to: impl FnMut(&mut TcpStream, &[u8]) -> Option<()>,
    ) -> Option<()> {
        let mut left = length;
        while left > 0 {
            if self.ahead.is_empty() {
                self.read_ahead()?;
            }
            if self.shared.is_black_hole() {
                wait_while_black_hole(self.shared);
                return None;
            }
            let piece: Vec<u8> = self.ahead.drain(..left.min(self.ahead.len())).collect();
            left -= piece.len();
            self.shared.has_moved(Direction::Up, piece.len());
            to(&mut self.server, &piece)?;
        }
        Some(())
    }

    fn read_ahead(&mut self) -> Option<()> {
        let mut buffer = [0; 64 << 10];
        match self.client.read(&mut buffer) {
            Ok(length @ 1..) => {
                self.ahead.extend_from_slice(&buffer[..length]);
                Some(())
            }
            _ => None,
        }
    }
}

fn pass_answers(
    mut server: TcpStream,
    mut client: TcpStream,
    answers: &Mutex<Answers>,
    shared: &Shared,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = server.read(&mut buffer) {
        let answers = *lock(answers);
        let passing = match answers {
            Answers::Pass => length,
            Answers::Cut => length.min(CUT_ANSWER_BYTES),
            Answers::Lose => 0,
        };
        if shared.is_black_hole() {
            wait_while_black_hole(shared);
            break;
        }
        shared.has_moved(Direction::Down, passing);
        if client.write_all(&buffer[..passing]).is_err() || answers != Answers::Pass {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

fn wait_while_black_hole(shared: &Shared) {
    while shared.is_black_hole() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn content_length(head: &str) -> usize {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, length)| length.trim().parse().ok())
        .unwrap_or(0)
}

/// An answer as an overloaded server gives it.
fn refusal(status: u16) -> String {
    let code = match status {
        403 => "AccessDenied",
        429 | 503 => "SlowDown",
        507 => "XMinioStorageFull",
        _ => "InternalError",
    };
    let body = format!("<Error><Code>{code}</Code><Message>asked to fail</Message></Error>");
    format!(
        "HTTP/1.1 {status} Fault\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// `PUT packs` of `PUT /bucket/prefix/packs/…`; a listing is `LIST`.
fn kind_of(line: &str) -> String {
    let (method, path) = line.split_once(' ').unwrap_or((line, ""));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if query.contains("list-type") {
        return "LIST".into();
    }
    let kinds = [
        "packs",
        "index",
        "keys",
        "refs",
        "commits",
        "pins",
        "forgotten",
        "condemned",
        "deleting",
        "moved",
        "keyring",
    ];
    let kind = kinds
        .into_iter()
        .find(|kind| path.contains(&format!("/{kind}/")));
    format!("{method} {}", kind.unwrap_or("other"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every request with `ok` and says how many bytes of body it had.
    fn server() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(1..) = client.read(&mut buffer) {
                        let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    }
                });
            }
        });
        port
    }

    fn ask(proxy: &Proxy, request: &[u8]) -> String {
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).expect("connected");
        client.write_all(request).expect("sent");
        client
            .set_read_timeout(Some(Duration::from_millis(500)))
            .expect("set");
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            answer.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn requests_are_counted_and_broken() {
        let proxy = Proxy::start(server());
        let put = b"PUT /b/p/packs/ab HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody";
        let list = b"GET /b/?list-type=2&prefix=p HTTP/1.1\r\nHost: x\r\n\r\n";
        assert!(ask(&proxy, put).ends_with("ok"));
        assert!(ask(&proxy, &[&put[..], list].concat()).ends_with("ok"));
        let counts = proxy.take();
        assert_eq!((counts["PUT packs"], counts["LIST"]), (2, 1));
        proxy.fail_some(Fault::Status(503), |kind, _| kind == "LIST");
        assert!(ask(&proxy, put).ends_with("ok"));
        assert!(ask(&proxy, list).starts_with("HTTP/1.1 503"));
        assert_eq!(proxy.hits(), 1);
        for fault in [Fault::BlackHole, Fault::LoseAnswer] {
            proxy.fail(fault);
            assert_eq!(ask(&proxy, put), "", "{fault:?}");
        }
        proxy.fail(Fault::CutAnswer);
        assert_eq!(ask(&proxy, put), "HTTP/1.1 2");
        proxy.heal();
        assert!(ask(&proxy, put).ends_with("ok"));
    }
}
