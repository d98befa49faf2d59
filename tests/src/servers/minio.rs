//! MinIO: `minio server`.

use super::*;

/// A MinIO of one node.
pub struct Minio {
    _process: Process,
    port: u16,
}

const USER: &str = "holdfasttest";
const PASSWORD: &str = "holdfast-test-secret";

impl Minio {
    /// Starts it and waits until it takes objects; `None` where the machine has none.
    pub fn start() -> Option<Minio> {
        let program = optional("minio", "go install github.com/minio/minio@latest")?;
        let folder = folder("minio");
        let port = free_port();
        let mut command = Command::new(program);
        command
            .args(["server", "--quiet", "--address"])
            .arg(format!("127.0.0.1:{port}"))
            .arg("--console-address")
            .arg(format!("127.0.0.1:{}", free_port()))
            .arg("--certs-dir")
            .arg(folder.path().join("certs"))
            .arg(folder.path().join("data"))
            .env("MINIO_ROOT_USER", USER)
            .env("MINIO_ROOT_PASSWORD", PASSWORD)
            .env("MINIO_UPDATE", "off");
        let server = Minio {
            _process: Process::start(&mut command, folder),
            port,
        };
        server
            ._process
            .wait_until_ready(port, server.bucket(), server.credentials());
        Some(server)
    }
}

impl S3Server for Minio {
    fn port(&self) -> u16 {
        self.port
    }

    fn credentials(&self) -> (&str, &str) {
        (USER, PASSWORD)
    }
}
