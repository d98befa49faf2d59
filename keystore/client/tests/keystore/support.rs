//! A keystore in this process, open, and users who enrol at it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use holdfast_keystore::api::init::{Holder, InitRequest, InitResponse};
use holdfast_keystore::api::json::ShareText;
use holdfast_keystore::api::operators::{AddPerson, AddedPerson};
use holdfast_keystore::api::status::CeremonyStatus;
use holdfast_keystore::api::unseal::{Nothing, SubmitShare, Submitted};
use holdfast_keystore::client::{Client as Operator, Credential};
use holdfast_keystore::clock::Clock;
use holdfast_keystore::config::Config;
use holdfast_keystore::hygiene::Memory;
use holdfast_keystore::names::Role;
use holdfast_keystore::serve::Running;
use holdfast_keystore_client::escrow::{
    EnrolmentToken, PasswordCost, RecoveryCode, SecondFactor, UserKey,
};
use holdfast_keystore_client::messages::{AddUser, AddedUser, EscrowPolicy};
use holdfast_keystore_client::names::HexBytes;
use holdfast_keystore_client::{
    AccountError, Certified, Credentials, DeviceKey, Enrolment, NewDevice,
};
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

/// A server with a data folder of its own.
pub struct Keystore {
    folder: tempfile::TempDir,
    running: Running,
    ahead_seconds: Arc<AtomicI64>,
    holder: String,
    shares: Vec<String>,
}

/// Somebody who is enrolled, with all secrets.
pub struct Enrolled {
    pub certified: Certified,
    pub user_key: UserKey,
    pub code: RecoveryCode,
    pub factor: SecondFactor,
    pub device: HexBytes<8>,
    pub key: DeviceKey,
}

impl Keystore {
    /// Initialised and open.
    pub async fn open() -> Keystore {
        let folder = tempfile::tempdir().unwrap();
        let ahead_seconds: Arc<AtomicI64> = Arc::default();
        let running = run(folder.path(), &ahead_seconds).await;
        let mut keystore = Keystore {
            folder,
            running,
            ahead_seconds,
            holder: String::new(),
            shares: Vec::new(),
        };
        keystore.initialise().await;
        keystore.unseal().await;
        keystore
    }

    async fn initialise(&mut self) {
        let key = DeviceKey::generate();
        let wanted = AddPerson {
            name: "holder".parse().unwrap(),
            role: Role::Holder,
            request: key.request(),
        };
        let added: AddedPerson = self
            .operator()
            .post("/v1/operators", &wanted)
            .await
            .unwrap();
        self.holder = format!(
            "{}{}{}",
            added.certificate,
            *key.expose_pem(),
            added.authority
        );
        let holder = || Holder {
            name: "holder".parse().unwrap(),
            age: None,
        };
        let init = InitRequest {
            threshold: 3,
            holders: std::iter::repeat_with(holder).take(5).collect(),
        };
        let made: InitResponse = self.operator().post("/v1/init", &init).await.unwrap();
        let text = |share: Option<ShareText>| share.unwrap().expose_secret().to_owned();
        self.shares = made.shares.into_iter().map(|s| text(s.share)).collect();
    }

    pub async fn unseal(&self) {
        let ceremony: CeremonyStatus = self
            .operator()
            .post("/v1/unseal/start", &Nothing {})
            .await
            .unwrap();
        for share in &self.shares[..3] {
            let body = SubmitShare {
                ceremony: ceremony.ceremony,
                digest: ceremony.digest,
                share: ShareText::new(Zeroizing::new(share.clone())),
            };
            let _: Submitted = self
                .speaker(&self.holder)
                .post("/v1/unseal/submit", &body)
                .await
                .unwrap();
        }
    }

    pub async fn seal(&self) {
        let _: serde_json::Value = self.operator().post("/v1/seal", &Nothing {}).await.unwrap();
    }

    /// Moves the server's clock on.
    pub fn pass(&self, seconds: i64) {
        self.ahead_seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn address(&self) -> String {
        format!("https://localhost:{}", self.running.address.port())
    }

    pub fn operator(&self) -> Operator {
        let file = self.folder.path().join("data/first-operator.pem");
        self.speaker(&std::fs::read_to_string(file).unwrap())
    }

    fn speaker(&self, credential: &str) -> Operator {
        let credential = Credential::parse(credential.as_bytes()).unwrap();
        Operator::new(&self.address(), &credential, &[]).unwrap()
    }

    pub fn audit_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("data/audit.log")).unwrap()
    }

    /// A code of the second factor that was not used yet: time passes for it.
    pub fn next_code(&self, factor: &SecondFactor) -> Zeroizing<String> {
        self.pass(30);
        let now = Timestamp::now().as_second() + self.ahead_seconds.load(Ordering::SeqCst);
        factor.code(now.try_into().unwrap())
    }

    pub async fn invite(&self, name: &str, policy: EscrowPolicy) -> EnrolmentToken {
        let wanted = AddUser {
            name: name.parse().unwrap(),
            policy,
            quota_bytes: None,
        };
        let added: AddedUser = self.operator().post("/v1/users", &wanted).await.unwrap();
        let mut token: EnrolmentToken = added.token.expose_secret().parse().unwrap();
        // The server listens on a port that nobody has chosen.
        token.address = self.address();
        token
    }

    /// Steps 1 to 6.
    pub async fn certify(
        &self,
        token: &EnrolmentToken,
        password: &str,
    ) -> Result<(Certified, SecondFactor, HexBytes<8>, DeviceKey), AccountError> {
        let password = Zeroizing::new(password.to_owned());
        let enrolment = Enrolment::begin(token, password, PasswordCost::for_tests()).await?;
        let factor = SecondFactor::from_address(enrolment.second_factor()).unwrap();
        enrolment.confirm(self.next_code(&factor)).await?;
        let (device, key) = new_device();
        let certified = enrolment
            .certify(NewDevice {
                id: device,
                name: "laptop",
                key: &key,
            })
            .await?;
        Ok((certified, factor, device, key))
    }

    /// All nine steps.
    pub async fn enrol(&self, name: &str, password: &str) -> Enrolled {
        let token = self.invite(name, EscrowPolicy::Private).await;
        let (certified, factor, device, key) = self.certify(&token, password).await.unwrap();
        let (user_key, code) = (UserKey::generate(), RecoveryCode::generate());
        let escrowed = certified.escrow(&user_key, &code).await.unwrap();
        escrowed.authorise().await.unwrap();
        certified.client.enrol_stored().await.unwrap();
        Enrolled {
            certified,
            user_key,
            code,
            factor,
            device,
            key,
        }
    }
}

pub fn new_device() -> (HexBytes<8>, DeviceKey) {
    let key = DeviceKey::generate();
    let digest = holdfast_crypto::Digest::of(key.request().as_bytes());
    let id = digest.0.first_chunk::<8>().copied().unwrap();
    (HexBytes(id), key)
}

pub fn credentials(user: &str, password: &str) -> Credentials {
    Credentials {
        user: user.parse().unwrap(),
        password: Zeroizing::new(password.to_owned()),
        cost: PasswordCost::for_tests(),
    }
}

async fn run(folder: &std::path::Path, ahead_seconds: &Arc<AtomicI64>) -> Running {
    let mut config = Config::for_data(&folder.join("data"));
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.snapshots.every_hours = 0;
    let ahead = Arc::clone(ahead_seconds);
    let clock = Clock::from_fn(move || {
        Timestamp::now() + SignedDuration::from_secs(ahead.load(Ordering::SeqCst))
    });
    let started = Running::start_at(config, Memory::NotLocked, clock).await;
    started.unwrap_or_else(|error| panic!("{error}"))
}
