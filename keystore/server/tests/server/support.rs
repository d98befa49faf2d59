//! A real server in this process, over real TLS, and persons with credentials of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use holdfast_keystore::api::error::{ErrorBody, ErrorCode};
use holdfast_keystore::api::init::{Holder, InitRequest, InitResponse};
use holdfast_keystore::api::json::ShareText;
use holdfast_keystore::api::operators::{AddPerson, AddedPerson};
use holdfast_keystore::api::status::{CeremonyStatus, Status};
use holdfast_keystore::api::unseal::{Nothing, Outcome, SubmitShare, Submitted};
use holdfast_keystore::background;
use holdfast_keystore::client::{Client, ClientError, Credential};
use holdfast_keystore::clock::Clock;
use holdfast_keystore::config::Config;
use holdfast_keystore::hygiene::Memory;
use holdfast_keystore::names::Role;
use holdfast_keystore::serve::Running;
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use zeroize::Zeroizing;

/// The holders of a keystore as the tests initialise it.
pub const HOLDERS: [&str; 5] = ["alice", "bob", "carol", "dave", "eve"];

/// A server with a data folder of its own.
pub struct TestServer {
    folder: TempDir,
    data: PathBuf,
    change: Box<dyn Fn(&mut Config) + Send + Sync>,
    running: Option<Running>,
    /// How far the server's clock is ahead.
    ahead_seconds: Arc<AtomicI64>,
}

/// Somebody with a credential.
pub struct Person {
    pub name: String,
    pub credential: String,
}

/// A share as it was handed out.
pub struct Share {
    pub holder: String,
    pub text: String,
}

impl TestServer {
    pub async fn start() -> TestServer {
        TestServer::with(|_| {}).await
    }

    /// With another configuration.
    pub async fn with(change: impl Fn(&mut Config) + Send + Sync + 'static) -> TestServer {
        let folder = tempfile::Builder::new()
            .prefix("holdfast-test-")
            .tempdir()
            .unwrap();
        let mut config = Config::for_data(&folder.path().join("data"));
        change(&mut config);
        let mut server = TestServer {
            data: config.data,
            folder,
            change: Box::new(change),
            running: None,
            ahead_seconds: Arc::default(),
        };
        server.run().await;
        server
    }

    /// With the five holders added, initialised, and sealed. Gives the shares.
    pub async fn initialised(
        change: impl Fn(&mut Config) + Send + Sync + 'static,
    ) -> (TestServer, Vec<Person>, Vec<Share>) {
        let server = TestServer::with(change).await;
        let mut holders = Vec::new();
        for name in HOLDERS {
            holders.push(server.add(name, Role::Holder).await);
        }
        let shares = server.init(3, &HOLDERS).await;
        (server, holders, shares)
    }

    /// The data folder: in the test's own one, unless the configuration has another.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    pub fn config(&self) -> Config {
        let mut config = Config::for_data(&self.folder.path().join("data"));
        config.listen = "127.0.0.1:0".parse().unwrap();
        // Tests submit many shares; the limits have a test of their own.
        config.limits.shares_per_person = 10_000;
        config.limits.shares_per_address = 10_000;
        config.limits.failures_per_address = 10_000;
        config.snapshots.every_hours = 0;
        (self.change)(&mut config);
        config
    }

    pub async fn run(&mut self) {
        let ahead = Arc::clone(&self.ahead_seconds);
        let clock = Clock::from_fn(move || {
            Timestamp::now() + SignedDuration::from_secs(ahead.load(Ordering::SeqCst))
        });
        let started = Running::start_at(self.config(), Memory::NotLocked, clock).await;
        self.running = Some(started.unwrap_or_else(|error| panic!("{error}")));
    }

    /// Moves the server's clock on.
    pub fn pass(&self, seconds: i64) {
        self.ahead_seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end().await;
        }
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("the server runs")
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.running().address.port())
    }

    pub fn operator(&self) -> Client {
        let pem = std::fs::read_to_string(self.data().join("first-operator.pem")).unwrap();
        self.client_of(&pem)
    }

    pub fn client(&self, person: &Person) -> Client {
        self.client_of(&person.credential)
    }

    pub fn client_of(&self, credential: &str) -> Client {
        let credential = Credential::parse(credential.as_bytes()).unwrap();
        Client::new(&self.url(), &credential, &[]).unwrap()
    }

    pub fn anonymous(&self) -> Client {
        Client::anonymous(&self.url(), &[self.authority()]).unwrap()
    }

    /// Somebody whose credential another node has issued, and who trusts this one, too.
    pub fn client_of_elsewhere(&self, person: &Person) -> Client {
        let credential = Credential::parse(person.credential.as_bytes()).unwrap();
        Client::new(&self.url(), &credential, &[self.authority()]).unwrap()
    }

    fn authority(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.data().join("tls/authority.crt")).unwrap()
    }

    /// Opens the keystore and adds somebody.
    pub async fn add_unsealed(
        &self,
        name: &str,
        role: Role,
        holders: &[Person],
        shares: &[Share],
    ) -> Person {
        self.unseal(holders, &shares[..3]).await;
        self.add(name, role).await
    }

    /// Makes a key and a request as a person would, and has the operator add it.
    pub async fn add(&self, name: &str, role: Role) -> Person {
        let (request, key) = request();
        let wanted = AddPerson {
            name: name.parse().unwrap(),
            role,
            request,
        };
        let added: AddedPerson = self
            .operator()
            .post("/v1/operators", &wanted)
            .await
            .unwrap();
        Person {
            name: name.to_owned(),
            credential: format!("{}{key}{}", added.certificate, added.authority),
        }
    }

    pub async fn init(&self, threshold: u8, holders: &[&str]) -> Vec<Share> {
        let made: InitResponse = self
            .operator()
            .post("/v1/init", &init_request(threshold, holders))
            .await
            .unwrap();
        shares(made.shares)
    }

    pub async fn status(&self) -> Status {
        self.operator().get("/v1/status").await.unwrap()
    }

    pub async fn start_unseal(&self) -> CeremonyStatus {
        self.operator()
            .post("/v1/unseal/start", &Nothing {})
            .await
            .unwrap()
    }

    /// Starts, and submits these shares over their holders' certificates.
    pub async fn unseal(&self, holders: &[Person], shares: &[Share]) {
        let ceremony = self.start_unseal().await;
        let mut last = None;
        for share in shares {
            let holder = holders
                .iter()
                .find(|person| person.name == share.holder)
                .unwrap();
            let client = self.client(holder);
            last = Some(
                submit(&client, "unseal", &ceremony, &share.text)
                    .await
                    .unwrap(),
            );
        }
        assert_eq!(last.map(|last| last.outcome), Some(Outcome::Unsealed));
    }

    /// One round of what the server does by itself, at another time.
    pub async fn tick(&self, now: Timestamp) {
        let server = Arc::clone(&self.running().server);
        server
            .blocking(move |server| background::tick(server, now))
            .await;
    }

    pub fn audit_log(&self) -> String {
        std::fs::read_to_string(self.data().join("audit.log")).unwrap()
    }
}

/// Submits one share.
pub async fn submit(
    client: &Client,
    kind: &str,
    ceremony: &CeremonyStatus,
    share: &str,
) -> Result<Submitted, ClientError> {
    let body = SubmitShare {
        ceremony: ceremony.ceremony,
        digest: ceremony.digest,
        share: ShareText::new(Zeroizing::new(share.to_owned())),
    };
    client.post(&format!("/v1/{kind}/submit"), &body).await
}

pub fn init_request(threshold: u8, holders: &[&str]) -> InitRequest {
    let holder = |name: &&str| Holder {
        name: name.parse().unwrap(),
        age: None,
    };
    InitRequest {
        threshold,
        holders: holders.iter().map(holder).collect(),
    }
}

pub fn shares(made: Vec<holdfast_keystore::api::init::NewShare>) -> Vec<Share> {
    let share = |share: holdfast_keystore::api::init::NewShare| Share {
        holder: share.holder.to_string(),
        text: share.share.unwrap().expose_secret().to_owned(),
    };
    made.into_iter().map(share).collect()
}

/// A request and its private key, PEM.
pub fn request() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    (request.pem().unwrap(), key.serialize_pem())
}

/// The call must be refused in this way.
#[track_caller]
pub fn refused<T>(result: Result<T, ClientError>, code: ErrorCode) -> ErrorBody {
    match result {
        Err(ClientError::Refused(body)) => {
            assert_eq!(body.code, code, "{body:?}");
            assert!(
                !body.sentence.is_empty() && !body.next_step.is_empty(),
                "{body:?}"
            );
            *body
        }
        Err(error) => panic!("not refused but failed: {error}"),
        Ok(_) => panic!("it was not refused"),
    }
}

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}
