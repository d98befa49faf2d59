//! Who may call what, and when: the whole table, by hand, against the running server.

use std::collections::BTreeSet;

use holdfast_keystore::api::calls::CALLS;
use holdfast_keystore::api::error::{ErrorBody, ErrorCode};
use holdfast_keystore::client::Client;
use holdfast_keystore::names::Role;
use holdfast_keystore::server::Phase;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::enrolment::devices_of_every_state;
use crate::support::{HOLDERS, Person, TestServer};

/// Method, path, who may (o)perator, (h)older, (a)uditor, (r)ecovery admin, a (p)rovisional device, an active (d)evice, one that is out (x), (-) anyone; when: (0) uninitialised, (s)ealed, (u)nsealed.
const TABLE: &[(&str, &str, &str, &str)] = &[
    ("GET", "/v1/health", "-oharpdx", "0su"),
    ("GET", "/v1/openapi.json", "-oharpdx", "0su"),
    ("GET", "/metrics", "oha", "0su"),
    ("GET", "/v1/status", "ohar", "0su"),
    ("POST", "/v1/init", "o", "0s"),
    ("POST", "/v1/unseal/start", "o", "s"),
    ("POST", "/v1/unseal/submit", "oh", "s"),
    ("POST", "/v1/unseal/cancel", "o", "s"),
    ("POST", "/v1/seal", "o", "u"),
    ("POST", "/v1/share/verify", "oh", "su"),
    ("POST", "/v1/reshare/start", "o", "u"),
    ("POST", "/v1/reshare/submit", "oh", "u"),
    ("POST", "/v1/reshare/cancel", "o", "u"),
    ("POST", "/v1/rotate/data-key", "o", "u"),
    ("GET", "/v1/me", "ohar", "u"),
    ("GET", "/v1/operators", "oa", "0u"),
    ("POST", "/v1/operators", "o", "0u"),
    ("DELETE", "/v1/operators/{name}", "o", "0u"),
    ("GET", "/v1/snapshot", "o", "u"),
    ("POST", "/v1/snapshot/restore", "o", "0"),
    ("GET", "/v1/audit/tail", "oa", "u"),
    ("GET", "/v1/audit/verify", "oa", "u"),
    ("GET", "/v1/users", "oa", "u"),
    ("POST", "/v1/users", "o", "u"),
    ("PUT", "/v1/users/{name}/state", "o", "u"),
    ("GET", "/v1/users/{name}/devices", "oa", "u"),
    (
        "POST",
        "/v1/users/{name}/devices/{device}/deauthorise",
        "o",
        "u",
    ),
    ("GET", "/v1/policy", "oarpd", "u"),
    ("PUT", "/v1/policy", "o", "u"),
    ("POST", "/v1/enrol/begin", "-oharpdx", "u"),
    ("POST", "/v1/enrol/password", "-oharpdx", "u"),
    ("POST", "/v1/enrol/certificate", "-oharpdx", "u"),
    ("POST", "/v1/enrol/account", "p", "u"),
    ("POST", "/v1/enrol/authorise", "pd", "u"),
    ("POST", "/v1/enrol/stored", "d", "u"),
    ("POST", "/v1/login/start", "-oharpdx", "u"),
    ("POST", "/v1/login/finish", "-oharpdx", "u"),
    ("GET", "/v1/slots", "pd", "u"),
    ("PUT", "/v1/slots", "pd", "u"),
    ("POST", "/v1/password/start", "d", "u"),
    ("POST", "/v1/password/finish", "d", "u"),
    ("GET", "/v1/device/half", "pd", "u"),
    ("POST", "/v1/device/ready", "pd", "u"),
    ("POST", "/v1/device/certificate", "d", "u"),
    ("GET", "/v1/device/watch", "pdx", "u"),
    ("POST", "/v1/device/confirm", "x", "u"),
    ("GET", "/v1/devices", "d", "u"),
    ("POST", "/v1/devices/{device}/deauthorise", "d", "u"),
    ("GET", "/v1/store", "pd", "u"),
    ("POST", "/v1/grants", "pd", "u"),
    ("GET", "/v1/objects", "pd", "u"),
    ("GET", "/v1/objects/{archive}/{name}", "-oharpdx", "u"),
    ("PUT", "/v1/objects/{archive}/{name}", "-oharpdx", "u"),
    ("POST", "/v1/gc", "o", "u"),
];

struct Callers {
    operator: Client,
    holder: Client,
    auditor: Client,
    recovery_admin: Client,
    removed: Client,
    anonymous: Client,
    /// In their order: provisional, active, out. There are none before the keystore is open.
    devices: Vec<(char, Client)>,
}

impl Callers {
    async fn of(
        server: &TestServer,
        holder: &Person,
        auditor: &Person,
        recovery_admin: &Person,
        removed: &Person,
    ) -> Callers {
        Callers {
            operator: server.operator(),
            holder: server.client(holder),
            auditor: server.client(auditor),
            recovery_admin: server.client(recovery_admin),
            removed: server.client(removed),
            anonymous: server.anonymous(),
            devices: Vec::new(),
        }
    }
}

/// Calls with a body that no route takes, so that whoever is let in gets no further than the body.
async fn call(client: &Client, method: &str, path: &str) -> (StatusCode, Option<ErrorBody>) {
    let path = path
        .replace("{name}", "Nobody!")
        .replace("{device}", "none")
        .replace("{archive}", "none");
    let method: Method = method.parse().unwrap();
    let mut request = client.request(method.clone(), &path);
    if [Method::POST, Method::PUT].contains(&method) {
        request = request
            .header("content-type", "application/json")
            .body("no JSON");
    }
    let response = request.send().await.unwrap();
    let status = response.status();
    (status, response.json().await.ok())
}

fn code(answer: &(StatusCode, Option<ErrorBody>)) -> Option<ErrorCode> {
    answer.1.as_ref().map(|body| body.code)
}

fn let_in(answer: &(StatusCode, Option<ErrorBody>)) -> bool {
    let stopped = [
        ErrorCode::NoCertificate,
        ErrorCode::UnknownCertificate,
        ErrorCode::Role,
        ErrorCode::DeviceState,
        ErrorCode::Deauthorised,
        ErrorCode::Sealed,
        ErrorCode::Uninitialised,
        ErrorCode::AlreadyUnsealed,
        ErrorCode::AlreadyInitialised,
    ];
    !code(answer).is_some_and(|code| stopped.contains(&code))
}

async fn walk(callers: &Callers, phase: Phase) {
    let letter = match phase {
        Phase::Uninitialised => '0',
        Phase::Sealed => 's',
        Phase::Unsealed => 'u',
    };
    for (method, path, who, when) in TABLE {
        let now = when.contains(letter);
        let by_role = [
            ('o', &callers.operator),
            ('h', &callers.holder),
            ('a', &callers.auditor),
            ('r', &callers.recovery_admin),
        ];
        for (role, client) in by_role {
            let answer = call(client, method, path).await;
            let at = format!("{method} {path} by {role}, {phase:?}: {answer:?}");
            if !who.contains(role) && !now && who.contains(['p', 'd', 'x']) {
                assert!(!let_in(&answer), "{at}");
            } else if !who.contains(role) {
                assert_eq!(code(&answer), Some(ErrorCode::Role), "{at}");
                assert_eq!(answer.0, StatusCode::FORBIDDEN, "{at}");
            } else if now {
                assert!(let_in(&answer), "{at}");
            } else {
                let wanted = match phase {
                    Phase::Uninitialised => vec![ErrorCode::Uninitialised],
                    Phase::Sealed => vec![ErrorCode::Sealed, ErrorCode::AlreadyInitialised],
                    Phase::Unsealed => {
                        vec![ErrorCode::AlreadyUnsealed, ErrorCode::AlreadyInitialised]
                    }
                };
                assert!(wanted.contains(&code(&answer).unwrap()), "{at}");
            }
        }
        for (state, client) in &callers.devices {
            let answer = call(client, method, path).await;
            let at = format!("{method} {path} by a device {state}, {phase:?}: {answer:?}");
            assert_eq!(let_in(&answer), now && who.contains(*state), "{at}");
            if *state == 'x' && who.contains('d') && !who.contains('x') && now {
                assert_eq!(code(&answer), Some(ErrorCode::Deauthorised), "{at}");
            }
        }
        let open = who.contains('-');
        // Who a device is stands behind the barrier: a sealed server says that it is sealed before it asks for a certificate.
        let of_devices = !who.contains(['o', 'h', 'a', 'r', '-']);
        if of_devices && phase != Phase::Unsealed {
            let answer = call(&callers.anonymous, method, path).await;
            assert_eq!(answer.0, StatusCode::SERVICE_UNAVAILABLE, "{method} {path}");
            continue;
        }
        let answer = call(&callers.anonymous, method, path).await;
        let stopped = code(&answer) == Some(ErrorCode::NoCertificate);
        assert_eq!(
            stopped, !open,
            "{method} {path} without a certificate: {answer:?}"
        );
        let answer = call(&callers.removed, method, path).await;
        let stopped = code(&answer) == Some(ErrorCode::UnknownCertificate);
        assert_eq!(
            stopped, !open,
            "{method} {path} by somebody who was removed: {answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_and_call_in_every_state() {
    let server = TestServer::start().await;
    let mut holders = Vec::new();
    for name in HOLDERS {
        holders.push(server.add(name, Role::Holder).await);
    }
    let auditor = server.add("audrey", Role::Auditor).await;
    let recovery_admin = server.add("frank", Role::RecoveryAdmin).await;
    let removed = server.add("rick", Role::Operator).await;
    let gone = server
        .operator()
        .request(Method::DELETE, "/v1/operators/rick");
    server.operator().send(gone).await.unwrap();
    let mut callers = Callers::of(&server, &holders[0], &auditor, &recovery_admin, &removed).await;
    walk(&callers, Phase::Uninitialised).await;
    let shares = server.init(3, &HOLDERS).await;
    walk(&callers, Phase::Sealed).await;
    server.unseal(&holders, &shares[..3]).await;
    callers.devices = devices_of_every_state(&server).await;
    walk(&callers, Phase::Unsealed).await;
    // The call itself changes nothing here: its body is none.
    let seal = server.operator().request(Method::POST, "/v1/seal");
    server
        .operator()
        .send(seal.json(&serde_json::json!({})))
        .await
        .unwrap();
    assert_eq!(server.status().await.phase, Phase::Sealed);
    walk(&callers, Phase::Sealed).await;
}

/// The table above, the server's own, and its description name the same calls.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_complete_and_the_description_is_true_to_it() {
    let server = TestServer::start().await;
    let here: BTreeSet<(String, String)> = TABLE
        .iter()
        .map(|(method, path, ..)| (method.to_lowercase(), (*path).to_owned()))
        .collect();
    let of_server: BTreeSet<(String, String)> = CALLS
        .iter()
        .map(|call| (call.method.to_lowercase(), call.path.to_owned()))
        .collect();
    assert_eq!(here, of_server);
    let document: Value = server.anonymous().get("/v1/openapi.json").await.unwrap();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            described.insert((method.clone(), path.clone()));
        }
    }
    assert_eq!(here, described);
}

/// What is not there, and what is called in another way, is answered in the same shape.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_methods() {
    let server = TestServer::start().await;
    let operator = server.operator();
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/keys",
        "/v1/operators/a/b",
        "/v1/../v1/unknown",
        "//v1/health",
    ] {
        let response = operator.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        let body: ErrorBody = response.json().await.unwrap();
        assert_eq!(body.code, ErrorCode::NotFound);
    }
    for (method, path, allow) in [
        (Method::DELETE, "/v1/health", "GET"),
        (Method::PUT, "/v1/operators", "GET, POST"),
        (Method::GET, "/v1/init", "POST"),
        (Method::OPTIONS, "/v1/status", "GET"),
        (Method::TRACE, "/v1/status", "GET"),
    ] {
        let response = operator.request(method.clone(), path).send().await.unwrap();
        assert_eq!(
            response.status(),
            StatusCode::METHOD_NOT_ALLOWED,
            "{method} {path}"
        );
        assert_eq!(response.headers()["allow"], allow);
    }
}
