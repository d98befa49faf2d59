//! schemathesis, which knows of the server nothing but its description, finds no answer that is not described.

use std::path::PathBuf;
use std::process::Command;

use crate::support::TestServer;

/// Where the test was started: it need not be where it was built.
fn crate_folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .expect("cargo test sets it")
        .into()
}

/// As `make setup-test` installs it, or where `HOLDFAST_PYTHON` is.
fn schemathesis() -> PathBuf {
    let venv = crate_folder().join("../../.venv/bin/python");
    let python = std::env::var_os("HOLDFAST_PYTHON").map_or(venv, PathBuf::from);
    let program = python.with_file_name("schemathesis");
    assert!(
        program.exists(),
        "{} is missing; run: make setup-test (it installs tests/requirements.txt)",
        program.display()
    );
    program
}

/// Runs it over every call, or over some, as the first operator.
async fn run(server: &TestServer, arguments: &'static [&'static str]) {
    let url = format!("{}/v1/openapi.json", server.url());
    let (data, folder) = (server.data(), tempfile::tempdir().unwrap());
    let run = tokio::task::spawn_blocking(move || {
        Command::new(schemathesis())
            .current_dir(folder.path())
            .arg("--config-file")
            .arg(crate_folder().join("tests/schemathesis.toml"))
            .args([
                "run",
                &url,
                "--seed",
                "1",
                "--max-examples",
                "25",
                "--no-color",
            ])
            .arg("--tls-verify")
            .arg(data.join("tls/authority.crt"))
            .arg("--request-cert")
            .arg(data.join("first-operator.pem"))
            .args(["--request-timeout", "20", "--suppress-health-check", "all"])
            .args(arguments)
            .output()
            .expect("schemathesis can be started")
    });
    let output = run.await.unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_server_answers_as_described() {
    let server = TestServer::start().await;
    run(&server, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_server_answers_as_described() {
    let (server, _, _) = TestServer::initialised(|_| {}).await;
    run(&server, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_server_answers_as_described() {
    let (server, holders, shares) = TestServer::initialised(|_| {}).await;
    server.unseal(&holders, &shares[..3]).await;
    run(&server, &["--exclude-path", "/v1/seal"]).await;
    run(&server, &["--include-path", "/v1/seal"]).await;
}
