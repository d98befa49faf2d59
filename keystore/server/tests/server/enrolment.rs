//! Enrolment, slots, devices and policies as the server keeps them, with the drive's own client. What that client makes of them is
//! tried in its own tests.

use holdfast_keystore::api::error::{ErrorBody, ErrorCode};
use holdfast_keystore::api::policy::PolicyDocument;
use holdfast_keystore::client::Client as Operator;
use holdfast_keystore_client::{
    AccountError, Certified, Client, Credentials, DeviceKey, Enrolment, NewDevice, Proof,
};
use holdfast_protocol::calls::{
    AddUser, AddedUser, Bytes64, DeviceReady, EscrowPolicy, PutSlots, SetUserState, User, UserState,
};
use holdfast_protocol::escrow::{
    Admin, AdminKeyPair, EnrolmentToken, PasswordCost, PolicyRootKey, RecoveryCode, RecoveryHalf,
    SecondFactor, SignedPolicy, SlotsRecord, UserKey,
};
use holdfast_protocol::names::{HexBytes, PersonName};
use reqwest::Method;
use zeroize::Zeroizing;

use crate::support::{Person, Share, TestServer};

const PASSWORD: &str = "planted-password-Xq7";

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn name(text: &str) -> PersonName {
    text.parse().unwrap()
}

/// An open keystore whose limits do not get into the way.
pub async fn open() -> (TestServer, Vec<Person>, Vec<Share>) {
    let (server, holders, shares) = TestServer::initialised(|config| {
        config.limits.logins_per_user = 1000;
        config.limits.logins_per_address = 1000;
    })
    .await;
    server.unseal(&holders, &shares[..3]).await;
    (server, holders, shares)
}

pub async fn invite(server: &TestServer, user: &str, policy: EscrowPolicy) -> EnrolmentToken {
    let wanted = AddUser {
        name: name(user),
        policy,
        quota_bytes: None,
    };
    invite_as(server, &wanted).await
}

pub async fn invite_as(server: &TestServer, wanted: &AddUser) -> EnrolmentToken {
    let added: AddedUser = server.operator().post("/v1/users", wanted).await.unwrap();
    let mut token: EnrolmentToken = added.token.expose_secret().parse().unwrap();
    // The server listens on a port that nobody has chosen.
    token.address = server.url();
    token
}

/// A user with the first device.
pub struct Enrolled {
    pub client: Client,
    pub certified: Certified,
    pub id: HexBytes<8>,
    key: DeviceKey,
    user_key: UserKey,
    code: RecoveryCode,
    factor: SecondFactor,
    record: SlotsRecord,
    half: RecoveryHalf,
}

fn now(server: &TestServer) -> u64 {
    server.running().server.clock.now().as_second() as u64
}

async fn begin(token: &EnrolmentToken) -> Result<Enrolment, AccountError> {
    Enrolment::begin(token, secret(PASSWORD), PasswordCost::for_tests()).await
}

pub async fn certify(
    server: &TestServer,
    token: &EnrolmentToken,
    device: u8,
) -> (Certified, SecondFactor, DeviceKey) {
    let enrolment = begin(token).await.unwrap();
    let factor = SecondFactor::from_address(enrolment.second_factor()).unwrap();
    enrolment.confirm(factor.code(now(server))).await.unwrap();
    let key = DeviceKey::generate();
    let new = NewDevice {
        id: HexBytes([device; 8]),
        name: "laptop",
        key: &key,
    };
    let certified = enrolment.certify(new).await.unwrap();
    (certified, factor, key)
}

pub async fn enrol(server: &TestServer, user: &str, policy: EscrowPolicy, device: u8) -> Enrolled {
    enrol_with(server, &invite(server, user, policy).await, device).await
}

pub async fn enrol_with(server: &TestServer, token: &EnrolmentToken, device: u8) -> Enrolled {
    let (certified, factor, key) = certify(server, token, device).await;
    // The call may be repeated, and answers the same.
    let account = certified.client.enrol_account().await.unwrap();
    let (user_key, code) = (UserKey::generate(), RecoveryCode::generate());
    let escrowed = certified.escrow(&user_key, &code).await.unwrap();
    escrowed.authorise().await.unwrap();
    let client = certified.client.clone();
    client.enrol_stored().await.unwrap();
    let record = SlotsRecord::parse(&client.slots().await.unwrap().record.0).unwrap();
    let half = RecoveryHalf::from_bytes(Zeroizing::new(*account.recovery_half.expose_secret()));
    Enrolled {
        client,
        certified,
        id: HexBytes([device; 8]),
        key,
        user_key,
        code,
        factor,
        record,
        half,
    }
}

async fn prove(server: &TestServer, user: &str, password: &str) -> Result<Proof, AccountError> {
    let credentials = Credentials {
        user: name(user),
        password: secret(password),
        cost: PasswordCost::for_tests(),
    };
    Proof::to_unknown(&server.url().parse().unwrap(), credentials).await
}

async fn new_computer(
    server: &TestServer,
    user: &str,
    password: &str,
    code: &str,
    device: u8,
) -> Result<Client, AccountError> {
    let proof = prove(server, user, password).await?;
    let key = DeviceKey::generate();
    let new = NewDevice {
        id: HexBytes([device; 8]),
        name: "new-laptop",
        key: &key,
    };
    Ok(proof.log_in(secret(code), new, None).await?.client)
}

#[track_caller]
fn code_of<T>(result: Result<T, impl Into<AccountError>>) -> String {
    match result.map_err(Into::into) {
        Err(error) => match error.code() {
            Some(code) => code.to_owned(),
            None => panic!("not refused but failed: {error}"),
        },
        Ok(_) => panic!("it was not refused"),
    }
}

fn wrong_password<T>(result: Result<T, AccountError>) -> bool {
    matches!(result, Err(AccountError::WrongPassword))
}

async fn put(client: &Client, record: &SlotsRecord) -> Result<(), AccountError> {
    let record = Bytes64(record.to_bytes());
    Ok(client.put_slots(&PutSlots { record }).await?)
}

/// A second user gets nowhere with the first one's devices.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_reaches_another_users_devices_or_slots() {
    let (server, _, _) = open().await;
    let alice = enrol(&server, "alice", EscrowPolicy::Private, 1).await;
    let bob = enrol(&server, "bob", EscrowPolicy::Private, 2).await;
    assert_eq!(
        code_of(bob.client.deauthorise_device(HexBytes([1; 8])).await),
        "not_found"
    );
    // A good record that is not his.
    assert_eq!(code_of(put(&bob.client, &alice.record).await), "unfit");
    let own = SlotsRecord::parse(&bob.client.slots().await.unwrap().record.0).unwrap();
    assert!(own == bob.record && own.user == name("bob"));
    assert_eq!(bob.client.devices().await.unwrap().devices.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_compared_and_swapped_and_never_lowered() {
    let (server, _, _) = open().await;
    let alice = enrol(&server, "alice", EscrowPolicy::Private, 1).await;
    let signed = |version, escrowed| {
        SlotsRecord::sign(
            name("alice"),
            alice.record.archive,
            version,
            escrowed,
            &alice.user_key,
        )
    };
    let slots = || alice.record.escrowed.clone();
    assert_eq!(
        code_of(put(&alice.client, &signed(1, slots())).await),
        "conflict"
    );
    assert_eq!(
        code_of(put(&alice.client, &signed(3, slots())).await),
        "conflict"
    );
    assert_eq!(code_of(put(&alice.client, &signed(2, None)).await), "unfit");
    put(&alice.client, &signed(2, slots())).await.unwrap();
    assert_eq!(alice.client.slots().await.unwrap().version, 2);
}

async fn set_state(
    operator: &Operator,
    state: UserState,
) -> Result<User, holdfast_keystore::client::ClientError> {
    let request = operator
        .request(Method::PUT, "/v1/users/alice/state")
        .json(&SetUserState { state });
    Ok(operator.send(request).await?.json().await.unwrap())
}

/// Blocked, deauthorised and deactivated are three acts, and each is undone.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_may_do_is_an_operators_word() {
    let (server, _, _) = open().await;
    let alice = enrol(&server, "alice", EscrowPolicy::Private, 1).await;
    let operator = server.operator();
    let log_in = |device| {
        server.pass(60);
        let code = alice.factor.code(now(&server));
        let server = &server;
        async move { new_computer(server, "alice", PASSWORD, &code, device).await }
    };
    set_state(&operator, UserState::Blocked).await.unwrap();
    assert!(wrong_password(log_in(2).await));
    alice.client.device_half().await.unwrap();
    set_state(&operator, UserState::Active).await.unwrap();
    log_in(3).await.unwrap();
    let user = set_state(&operator, UserState::Deauthorised).await.unwrap();
    assert_eq!(user.devices, 0);
    assert_eq!(code_of(alice.client.device_half().await), "deauthorised");
    let new = log_in(4).await.unwrap();
    new.device_ready(&DeviceReady { replaces: None })
        .await
        .unwrap();
    set_state(&operator, UserState::Deactivated).await.unwrap();
    assert!(wrong_password(log_in(5).await));
    set_state(&operator, UserState::Active).await.unwrap();
    set_state(&operator, UserState::Deactivated).await.unwrap();
    server.pass(31 * 86_400);
    assert!(set_state(&operator, UserState::Active).await.is_err());
}

/// Tokens end by the server's clock.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends() {
    let (server, _, _) = open().await;
    let late = invite(&server, "late", EscrowPolicy::Private).await;
    server.pass(8 * 86_400);
    assert_eq!(code_of(begin(&late).await), "login_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn tries_are_limited_and_the_limit_is_on_record() {
    let (server, holders, shares) =
        TestServer::initialised(|config| config.limits.logins_per_user = 4).await;
    server.unseal(&holders, &shares[..3]).await;
    for _ in 0..4 {
        let wrong = new_computer(&server, "alice", "guess", "000000", 1).await;
        assert!(wrong_password(wrong));
    }
    assert_eq!(
        code_of(new_computer(&server, "alice", "guess", "000000", 1).await),
        "too_often"
    );
    assert!(server.audit_log().contains("\"login_limited\""));
    let other = new_computer(&server, "bob", "guess", "000000", 1).await;
    assert!(wrong_password(other));
}

struct Organisation {
    root: PolicyRootKey,
    admins: Vec<AdminKeyPair>,
}

impl Organisation {
    fn new() -> Organisation {
        let admins = (0..3).map(|_| AdminKeyPair::generate()).collect();
        Organisation {
            root: PolicyRootKey::generate(),
            admins,
        }
    }

    fn policy(&self, threshold: u8, previous: Option<&SignedPolicy>) -> SignedPolicy {
        let admin = |(number, pair): (usize, &AdminKeyPair)| Admin {
            name: name(&format!("admin-{number}")),
            key: pair.public(),
        };
        let admins: Vec<Admin> = self.admins.iter().enumerate().map(admin).collect();
        SignedPolicy::sign(&self.root, threshold, &admins, previous).unwrap()
    }
}

async fn publish(server: &TestServer, policy: &SignedPolicy) -> Result<(), ErrorBody> {
    let document = PolicyDocument {
        policy: Bytes64(policy.as_bytes().to_vec()),
    };
    let operator = server.operator();
    match operator
        .send(operator.request(Method::PUT, "/v1/policy").json(&document))
        .await
    {
        Ok(_) => Ok(()),
        Err(holdfast_keystore::client::ClientError::Refused(body)) => Err(*body),
        Err(error) => panic!("{error}"),
    }
}

/// `standard` waits for a policy; with one, two of three admins and the server's half open the key, and the chain of policies holds.
#[tokio::test(flavor = "multi_thread")]
async fn recovery_admins_are_the_ones_that_the_root_has_signed() {
    let (server, _, _) = open().await;
    let organisation = Organisation::new();
    let early = invite(&server, "early", EscrowPolicy::Standard).await;
    assert_eq!(code_of(begin(&early).await), "conflict");
    let first = organisation.policy(2, None);
    publish(&server, &first).await.unwrap();
    let foreign = Organisation::new().policy(2, None);
    assert_eq!(
        publish(&server, &foreign).await.unwrap_err().code,
        ErrorCode::Conflict
    );
    let alice = enrol(&server, "alice", EscrowPolicy::Standard, 1).await;
    let (_, slot) = alice.record.escrowed.clone().unwrap().quorum.unwrap();
    let place = alice.record.quorum_place().unwrap();
    let piece = |number: u8| {
        let index = usize::from(number - 1);
        organisation.admins[index]
            .open(&place, number, &slot.pieces[index])
            .unwrap()
    };
    let opened = slot
        .open(&place, &alice.half, &[piece(2), piece(3)])
        .unwrap();
    assert_eq!(opened.expose_secret(), alice.user_key.expose_secret());
    publish(&server, &organisation.policy(3, Some(&first)))
        .await
        .unwrap();
    // Back to the first: it was in force once, and is not what follows.
    assert_eq!(
        publish(&server, &first).await.unwrap_err().code,
        ErrorCode::Conflict
    );
    // A server that shows other admins than the token's root has signed.
    let mut token = invite(&server, "bob", EscrowPolicy::Standard).await;
    token.policy_root = Some(foreign.root().fingerprint());
    assert!(matches!(begin(&token).await, Err(AccountError::Policy(_))));
}

/// While sealed there is neither enrolment nor login nor release: 503 with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn sealed_it_says_so_and_gives_nothing() {
    let (server, holders, shares) = open().await;
    let alice = enrol(&server, "alice", EscrowPolicy::Private, 1).await;
    let token = invite(&server, "bob", EscrowPolicy::Private).await;
    let operator = server.operator();
    operator
        .send(
            operator
                .request(Method::POST, "/v1/seal")
                .json(&serde_json::json!({})),
        )
        .await
        .unwrap();
    assert_eq!(code_of(begin(&token).await), "sealed");
    assert_eq!(
        code_of(new_computer(&server, "alice", PASSWORD, "000000", 2).await),
        "sealed"
    );
    for error in [
        alice.client.device_half().await.err(),
        alice.client.slots().await.err(),
    ] {
        assert!(error.is_some_and(|error| error.is_away() && error.code() == Some("sealed")));
    }
    server.unseal(&holders, &shares[..3]).await;
    alice.client.device_half().await.unwrap();
}

/// Neither messages nor database nor logs have what the server must never see.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_keeps_neither_password_nor_key() {
    let (server, _, _) = open().await;
    let alice = enrol(&server, "alice", EscrowPolicy::Private, 1).await;
    let planted = [
        PASSWORD.as_bytes().to_vec(),
        alice.user_key.expose_secret().to_vec(),
        hex::encode(alice.user_key.expose_secret()).into_bytes(),
        alice.code.to_printed().replace('-', "").into_bytes(),
    ];
    for file in crate::support::files(&server.data()) {
        let bytes = std::fs::read(&file).unwrap();
        for secret in &planted {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} has a secret of the user's", file.display());
        }
    }
}

/// A device in each state, for the table of who may call what.
pub async fn devices_of_every_state(server: &TestServer) -> Vec<(char, Operator)> {
    let active = enrol(server, "active", EscrowPolicy::Private, 1).await;
    let out = enrol(server, "out", EscrowPolicy::Private, 2).await;
    out.client
        .deauthorise_device(HexBytes([2; 8]))
        .await
        .unwrap();
    let token = invite(server, "provisional", EscrowPolicy::Private).await;
    let (provisional, _, key) = certify(server, &token, 3).await;
    let authority = std::fs::read_to_string(server.data().join("tls/authority.crt")).unwrap();
    let client = |certified: &Certified, key: &DeviceKey| {
        let (certificate, key) = (&certified.certificate.certificate, key.expose_pem());
        server.client_of(&format!("{certificate}{}{authority}", key.as_str()))
    };
    vec![
        ('p', client(&provisional, &key)),
        ('d', client(&active.certified, &active.key)),
        ('x', client(&out.certified, &out.key)),
    ]
}
