//! A webhook and a mail server, just real enough to be delivered to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// What was delivered, in order.
pub struct Delivered<T>(Mutex<Receiver<T>>);

impl<T> Delivered<T> {
    /// The next delivery that is wanted; those before it are passed over.
    #[track_caller]
    pub fn wait_for(&self, wanted: impl Fn(&T) -> bool) -> T {
        let receiver = self.0.lock().unwrap();
        loop {
            let next = receiver.recv_timeout(PATIENCE);
            let next = next.expect("it was not delivered in time");
            if wanted(&next) {
                return next;
            }
        }
    }
}

/// A request to the webhook.
pub struct Posted {
    pub head: String,
    pub json: Value,
}

/// The thread ends with the test's process; what it serves is on this computer only.
fn serve(each: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            each(stream);
        }
    });
    address
}

/// A webhook on HTTP. The first `refuse` requests are answered with 500.
pub fn webhook(refuse: usize) -> (SocketAddr, Delivered<Posted>) {
    let (sender, receiver) = channel();
    let left = Mutex::new(refuse);
    let address = serve(move |stream| {
        let mut left = left.lock().unwrap();
        let status = if *left > 0 { "500 No" } else { "200 OK" };
        if let Some(posted) = answer(stream, status)
            && *left == 0
        {
            // The test may have ended.
            let _ = sender.send(posted);
        }
        *left = left.saturating_sub(1);
    });
    (address, Delivered(Mutex::new(receiver)))
}

/// A webhook on HTTPS whose authority only the returned file knows.
pub fn tls_webhook(folder: &Path) -> (SocketAddr, PathBuf, Delivered<Posted>) {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .and_then(|parameters| parameters.signed_by(&key, &authority))
        .unwrap();
    let file = folder.join("webhook-authority.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
    let config = Arc::new(config);
    let (sender, receiver) = channel();
    let address = serve(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        if let Some(posted) = answer(StreamOwned::new(connection, stream), "200 OK") {
            let _ = sender.send(posted);
        }
    });
    (address, file, Delivered(Mutex::new(receiver)))
}

fn answer(stream: impl Read + Write, status: &str) -> Option<Posted> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length?];
    stream.read_exact(&mut body).ok()?;
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.get_mut().write_all(answer.as_bytes()).ok()?;
    stream.get_mut().flush().ok()?;
    let json = serde_json::from_slice(&body).ok()?;
    Some(Posted { head, json })
}

/// A mail server without TLS; gives each message as it was sent.
pub fn mail_server() -> (SocketAddr, Delivered<String>) {
    let (sender, receiver) = channel();
    let address = serve(move |stream| {
        if let Some(message) = take_mail(stream) {
            let _ = sender.send(message);
        }
    });
    (address, Delivered(Mutex::new(receiver)))
}

fn take_mail(stream: TcpStream) -> Option<String> {
    let mut answers = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    let mut say = move |text: &str| answers.write_all(format!("{text}\r\n").as_bytes()).ok();
    say("220 test")?;
    loop {
        let line = lines.next()?.ok()?.to_ascii_uppercase();
        match line.split(' ').next()? {
            "DATA" => break,
            "QUIT" => return None,
            _ => say("250 fine")?,
        };
    }
    say("354 go on")?;
    let mut message = String::new();
    for line in lines.by_ref() {
        let line = line.ok()?;
        if line == "." {
            break;
        }
        message.push_str(&line);
        message.push('\n');
    }
    say("250 taken")?;
    Some(message)
}
