//! A proxy between Holdfast and an S3 server that counts requests: what an operation costs.
//!
//! Bytes pass unchanged (the signature covers the Host header, which names the proxy); a request is
//! known by its first line. Bodies are ciphertext: a line like that in one does not happen.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The running proxy. Its threads end with the test's process.
pub struct Proxy {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

/// How often each method was asked for, by kind of object (`PUT packs`, `GET refs`, `LIST`).
pub type Counts = BTreeMap<String, u64>;

impl Proxy {
    /// Passes everything on to `127.0.0.1:port`.
    pub fn start(port: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let proxy = Proxy {
            port: listener.local_addr().expect("it is bound").port(),
            requests: Arc::clone(&requests),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                connect(client, server, Arc::clone(&requests));
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
        let lines = std::mem::take(&mut *self.requests.lock().expect("no thread panics"));
        let mut counts = Counts::new();
        for line in lines {
            *counts.entry(kind_of(&line)).or_default() += 1;
        }
        counts
    }
}

fn connect(client: TcpStream, server: TcpStream, requests: Arc<Mutex<Vec<String>>>) {
    let (Ok(client_back), Ok(server_back)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    std::thread::spawn(move || {
        let mut lines = RequestLines::default();
        pump(client, server, |bytes| {
            let found = lines.find(bytes);
            requests.lock().expect("no thread panics").extend(found);
        });
    });
    std::thread::spawn(move || pump(server_back, client_back, |_| ()));
}

fn pump(mut from: TcpStream, mut to: TcpStream, mut seen: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        seen(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

/// Finds lines `METHOD /path HTTP/1.1` in a stream.
#[derive(Default)]
struct RequestLines {
    line: Vec<u8>,
}

impl RequestLines {
    /// Longer than any request line of ours; a line of a body is cut off there.
    const LONGEST: usize = 4096;

    fn find(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                if let Some(request) = self.request() {
                    found.push(request);
                }
                self.line.clear();
            } else if self.line.len() < Self::LONGEST {
                self.line.push(byte);
            }
        }
        found
    }

    /// A body without a newline at its end stands before the next request on the same line.
    fn request(&self) -> Option<String> {
        let head = self.line.strip_suffix(b" HTTP/1.1\r")?;
        let text = String::from_utf8_lossy(head);
        let start = ["GET /", "PUT /", "POST /", "HEAD /", "DELETE /"]
            .iter()
            .filter_map(|method| text.rfind(method))
            .max()?;
        Some(text[start..].to_owned())
    }
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

    #[test]
    fn requests_are_found_across_reads_and_behind_bodies() {
        let mut lines = RequestLines::default();
        assert!(lines.find(b"PUT /b/p/packs/ab HT").is_empty());
        let found = lines.find(
            b"TP/1.1\r\nHost: x\r\n\r\n\x00\xffbodyGET /b/?list-type=2&prefix=p HTTP/1.1\r\n",
        );
        let kinds: Vec<String> = found.iter().map(|line| kind_of(line)).collect();
        assert_eq!(kinds, ["PUT packs", "LIST"]);
    }
}
