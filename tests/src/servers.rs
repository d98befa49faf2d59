//! Real S3 servers on this computer: 127.0.0.1, a free port, ended by process id.
//!
//! SeaweedFS is always there, because the set-up installs it. MinIO and Garage are used where they are
//! found: on PATH, or where the set-up keeps tools. A test that has to do without one says so.

mod garage;
mod minio;
mod seaweed;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use tempfile::TempDir;

pub use self::garage::Garage;
pub use self::minio::Minio;
pub use self::seaweed::{Seaweed, Secret, TlsFiles};
use crate::Home;

/// A server that speaks S3.
pub trait S3Server {
    /// `http://127.0.0.1:port`
    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// Where it listens.
    fn port(&self) -> u16;

    /// A bucket that exists.
    fn bucket(&self) -> &'static str {
        "holdfast"
    }

    /// Access key and secret key.
    fn credentials(&self) -> (&str, &str);

    /// Whether it refuses to store a name a second time.
    fn honours_conditions(&self) -> bool {
        true
    }

    /// A home that may use the server.
    fn home(&self) -> Home {
        let mut home = Home::new();
        let (access, secret) = self.credentials();
        home.set("AWS_ACCESS_KEY_ID", access);
        home.set("AWS_SECRET_ACCESS_KEY", secret);
        home
    }

    /// For a program that has the credentials.
    fn variables(&self) -> Vec<(String, String)> {
        let (access, secret) = self.credentials();
        vec![
            ("AWS_ACCESS_KEY_ID".to_owned(), access.to_owned()),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), secret.to_owned()),
        ]
    }

    /// `s3://bucket/prefix`
    fn store(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", self.bucket())
    }
}

/// A server's process and its folder.
struct Process {
    child: Child,
    folder: TempDir,
}

impl Process {
    fn start(command: &mut Command, folder: TempDir) -> Process {
        let child = command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log(folder.path()))
            .stderr(log(folder.path()))
            .spawn()
            .expect("the server can be started");
        Process { child, folder }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    fn end(&mut self) {
        // It may have been stopped by a test.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::CONT);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until a bucket takes objects: a port answers long before that.
    fn wait_until_ready(&self, port: u16, bucket: &str, credentials: (&str, &str)) {
        let until = Instant::now() + Duration::from_secs(90);
        while TcpStream::connect(("127.0.0.1", port)).is_err()
            || !is_ready(&format!("http://127.0.0.1:{port}"), bucket, credentials)
        {
            assert!(
                Instant::now() < until,
                "the server did not become ready; its log: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn folder(name: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("holdfast-{name}-"))
        .tempdir()
        .expect("a temporary folder")
}

fn log(folder: &Path) -> Stdio {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("server.log"));
    file.map_or_else(|_| Stdio::null(), Stdio::from)
}

/// A server's program if there is one; says what is left out if not.
fn optional(name: &str, install: &str) -> Option<PathBuf> {
    let found = crate::find_program(name);
    if found.is_none() {
        // Not by a macro: the test harness would keep what they print to itself.
        let _ = writeln!(
            std::io::stderr(),
            "LEFT OUT: no {name} on PATH or in the tools folder, its tests do nothing; install it with: {install}"
        );
    }
    found
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Makes a bucket and stores into it; says whether that worked.
///
/// Buckets are made by whoever runs a store, not by Holdfast: this is the tests' own client.
fn is_ready(endpoint: &str, bucket: &str, (access, secret): (&str, &str)) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .force_path_style(true)
            .credentials_provider(Credentials::new(access, secret, None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let client = aws_sdk_s3::Client::from_conf(config);
        // A bucket that an earlier attempt has made is as good.
        let _ = client.create_bucket().bucket(bucket).send().await;
        let put = client.put_object().bucket(bucket).key("ready");
        put.send().await.is_ok()
    })
}
