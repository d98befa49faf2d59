//! A bucket for `--store s3`: a SeaweedFS on this computer, fresh for each tool's turn, so that nobody finds it
//! fuller than another. Its processor time is in no figure; that it takes some is in all of them.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::children::{Children, last_lines};
use crate::tools::on_path;

/// Its name for the one user, and for AWS_ACCESS_KEY_ID.
const ACCESS_KEY: &str = "bench";
const NAME: &str = "bench";
/// What the tools are told; SeaweedFS takes any.
pub const REGION: &str = "us-east-1";
/// Ready within 4 s on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(90);

/// An empty bucket and the server behind it, which ends when this is dropped.
pub struct Bucket {
    weed: PathBuf,
    server: Child,
    ports: Ports,
    secret_key: String,
}

struct Ports {
    s3: u16,
    master: u16,
    volume: u16,
    filer: u16,
}

/// The server's program: on PATH, or where `make setup-test` puts it.
pub fn weed() -> anyhow::Result<PathBuf> {
    let in_checkout = || {
        let program = std::path::absolute(".venv/bin/weed").ok()?;
        program.is_file().then_some(program)
    };
    anyhow::ensure!(on_path("curl").is_some(), "curl is not on PATH");
    on_path("weed")
        .or_else(in_checkout)
        .context("there is no weed (SeaweedFS) on PATH or in .venv/bin; run: make setup-test")
}

impl Bucket {
    /// Starts a server that keeps everything in `folder`, and waits until it has taken an object.
    pub fn start(weed: &Path, folder: &Path, children: &Children) -> anyhow::Result<Bucket> {
        let secret_key = format!("{:032x}", rand::random::<u128>());
        let identities = folder.join("identities.json");
        let user = serde_json::json!({ "identities": [{
            "name": NAME,
            "credentials": [{ "accessKey": ACCESS_KEY, "secretKey": secret_key }],
            "actions": ["Admin", "Read", "Write", "List"],
        }]});
        std::fs::write(&identities, user.to_string())?;
        let data = folder.join("data");
        std::fs::create_dir(&data)?;
        let ports = Ports {
            s3: free_port(),
            master: free_port(),
            volume: free_port(),
            filer: free_port(),
        };
        let log = folder.join("log");
        let output = File::create(&log)?;
        let server = Command::new(weed)
            .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"])
            // A second bucket answers 500 with the default number of volumes.
            .args(["-volume.max=100", "-master.volumeSizeLimitMB=256"])
            // Two more servers that would listen on ports that are the same for all.
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-dir={}", data.display()))
            .arg(format!("-s3.config={}", identities.display()))
            .arg(format!("-s3.port={}", ports.s3))
            .arg(format!("-master.port={}", ports.master))
            .arg(format!("-volume.port={}", ports.volume))
            .arg(format!("-filer.port={}", ports.filer))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // A group of its own: Ctrl-C is for us, and we end it.
            .process_group(0)
            .spawn()
            .with_context(|| weed.display().to_string())?;
        let mut bucket = Bucket {
            weed: weed.to_owned(),
            server,
            ports,
            secret_key,
        };
        bucket.wait_until_ready(children, &log)?;
        Ok(bucket)
    }

    /// Where the server listens.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.s3)
    }

    /// The bucket's name.
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// The credentials, in the variables that all S3 clients look at.
    pub fn credentials(&self) -> [(&'static str, &str); 2] {
        [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_key),
        ]
    }

    /// Bytes of all objects, as the server counts them.
    pub fn stored_bytes(&self) -> anyhow::Result<u64> {
        let mut shell = Command::new(&self.weed)
            .arg("shell")
            .arg(format!("-master=127.0.0.1:{}", self.ports.master))
            .arg(format!("-filer=127.0.0.1:{}", self.ports.filer))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut input) = shell.stdin.take() {
            writeln!(input, "fs.du /buckets/{NAME}")?;
        }
        let output = shell.wait_with_output()?;
        let told = String::from_utf8_lossy(&output.stdout);
        logical_size(&told).with_context(|| format!("weed shell did not tell a size: {told}"))
    }

    fn wait_until_ready(&mut self, children: &Children, log: &Path) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        // An object in another bucket shows that it can store, and leaves ours empty.
        while !(self.put("/ready/")? && self.put("/ready/object")? && self.put("/bench/")?) {
            if self.server.try_wait()?.is_some() || Instant::now() > until {
                bail!("SeaweedFS did not get ready:\n{}", last_lines(log));
            }
            children.sleep(Duration::from_millis(200))?;
        }
        Ok(())
    }

    /// A signed PUT of nothing: makes a bucket or an empty object. The secret is not an argument, which anybody can see.
    fn put(&self, path: &str) -> anyhow::Result<bool> {
        let mut curl = Command::new("curl")
            .args(["--config", "-", "--silent", "--fail", "--max-time", "10"])
            .args(["--aws-sigv4", &format!("aws:amz:{REGION}:s3")])
            .args(["--request", "PUT"])
            .arg(self.endpoint() + path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("curl")?;
        if let Some(mut input) = curl.stdin.take() {
            writeln!(input, "user = \"{ACCESS_KEY}:{}\"", self.secret_key)?;
        }
        Ok(curl.wait()?.success())
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // It is removed with all it has stored: nothing is to be saved.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Of a line such as `block: 1, logical size: 3000000, /buckets/bench`, with tabs for the commas.
fn logical_size(told: &str) -> Option<u64> {
    let (_, after) = told.rsplit_once("logical size:")?;
    after.split_whitespace().next()?.parse().ok()
}

/// weed also listens 10,000 ports above each of its own.
fn free_port() -> u16 {
    loop {
        let port = 20_000 + rand::random::<u16>() % 10_000;
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_the_last_that_is_told() {
        let told = "block:   2\tlogical size:       7\t/buckets/bench/a\nblock:   3\tlogical size:  3000000\t/buckets/bench\n";
        assert_eq!(logical_size(told), Some(3_000_000));
        assert_eq!(logical_size("not found"), None);
    }
}
