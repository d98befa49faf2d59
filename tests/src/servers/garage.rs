//! Garage: `garage server`, one node.

use super::*;

/// A Garage of one node. It takes a name a second time, with other bytes too.
pub struct Garage {
    _process: Process,
    port: u16,
    access: String,
    secret: String,
}

impl Garage {
    /// Starts it, gives it a layout and a key, and waits until it takes objects; `None` where the
    /// machine has none.
    pub fn start() -> Option<Garage> {
        let program = optional("garage", "cargo install garage --locked")?;
        let folder = folder("garage");
        let (port, rpc) = (free_port(), free_port());
        let configuration = folder.path().join("garage.toml");
        let text = configuration_text(folder.path(), port, rpc);
        std::fs::write(&configuration, text).expect("the configuration is written");
        let mut command = Command::new(&program);
        command.arg("-c").arg(&configuration).arg("server");
        let process = Process::start(command.env("RUST_LOG", "garage=warn"), folder);
        let run = |arguments: &[&str]| {
            let output = Command::new(&program)
                .arg("-c")
                .arg(&configuration)
                .args(arguments)
                .output()
                .expect("garage can be started");
            match output.status.success() {
                true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
                false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            }
        };
        let until = Instant::now() + Duration::from_secs(60);
        let node = loop {
            match run(&["node", "id", "--quiet"]).and_then(|id| run(&["status"]).map(|_| id)) {
                Ok(id) => break id.split('@').next().unwrap_or_default().trim().to_owned(),
                Err(error) => assert!(Instant::now() < until, "{error}\n{}", process.log()),
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        let must = |arguments: &[&str]| {
            run(arguments).unwrap_or_else(|error| panic!("garage {arguments:?}: {error}"))
        };
        must(&["layout", "assign", "-z", "here", "-c", "10G", &node]);
        must(&["layout", "apply", "--version", "1"]);
        let key = must(&["key", "create", "holdfast"]);
        must(&["key", "allow", "--create-bucket", "holdfast"]);
        let field = |name: &str| {
            let line = key.lines().find_map(|line| line.trim().strip_prefix(name));
            let value = line.unwrap_or_else(|| panic!("no {name} in: {key}"));
            value.trim_start_matches(':').trim().to_owned()
        };
        let server = Garage {
            port,
            access: field("Key ID"),
            secret: field("Secret key"),
            _process: process,
        };
        server
            ._process
            .wait_until_ready(port, server.bucket(), server.credentials());
        Some(server)
    }
}

impl S3Server for Garage {
    fn port(&self) -> u16 {
        self.port
    }

    fn credentials(&self) -> (&str, &str) {
        (&self.access, &self.secret)
    }

    fn honours_conditions(&self) -> bool {
        false
    }
}

fn configuration_text(folder: &Path, port: u16, rpc: u16) -> String {
    let secret = hex::encode(rand::random::<[u8; 32]>());
    let folder = folder.display();
    format!(
        "metadata_dir = \"{folder}/meta\"\n\
         data_dir = \"{folder}/data\"\n\
         db_engine = \"sqlite\"\n\
         replication_factor = 1\n\
         rpc_bind_addr = \"127.0.0.1:{rpc}\"\n\
         rpc_public_addr = \"127.0.0.1:{rpc}\"\n\
         rpc_secret = \"{secret}\"\n\
         [s3_api]\n\
         s3_region = \"us-east-1\"\n\
         api_bind_addr = \"127.0.0.1:{port}\"\n"
    )
}
