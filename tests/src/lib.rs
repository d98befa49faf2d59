//! What the system tests share: the real binary, homes, mounted drives, real S3 servers, and trees
//! with every kind of file.
//!
//! Nothing here skips: what is missing is named, with the command that installs it. Whatever is
//! started is ended by its process id, and whatever is mounted is unmounted, also when a test panics.

pub mod commands;
pub mod compare;
pub mod drive;
pub mod enrolled;
pub mod fixture;
#[path = "../fuzz/src/lib.rs"]
pub mod fuzz_targets;
pub mod home;
pub mod keystore;
pub mod proxy;
pub mod servers;
pub mod tls;
pub mod trees;

pub use drive::Drive;
pub use home::{Home, Run};
pub use servers::{Garage, Minio, S3Server, Seaweed};

use std::path::PathBuf;

/// The binary of this build. It stands beside the tests' own folder.
pub fn holdfast() -> PathBuf {
    if let Some(path) = std::env::var_os("HOLDFAST_BINARY") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let binary = test
        .ancestors()
        .nth(2)
        .expect("a test lies in target/PROFILE/deps")
        .join("holdfast");
    assert!(
        binary.exists(),
        "{} is not built; run: cargo build --release -p holdfast (make test does it)",
        binary.display()
    );
    binary
}

/// A program that a test cannot do without.
pub fn program(name: &str, install: &str) -> PathBuf {
    let variable = format!("HOLDFAST_{}", name.to_uppercase());
    if let Some(path) = std::env::var_os(&variable) {
        return path.into();
    }
    find_program(name)
        .unwrap_or_else(|| panic!("{name} is not on PATH; install it with: {install}"))
}

/// The folder `tests/` of the checkout that the tests were started from: it need not be the one that they were built in.
pub fn tests_folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .expect("cargo test sets it")
        .into()
}

/// The Python that has what the independent reader needs.
pub fn python() -> PathBuf {
    let venv = tests_folder().join("../.venv/bin/python");
    match std::env::var_os("HOLDFAST_PYTHON") {
        Some(path) => path.into(),
        None if venv.exists() => venv,
        None => program(
            "python3",
            "apt-get install python3-venv; then: make setup-test",
        ),
    }
}

/// A program that a test may use if the machine has it: on PATH, in the folder `HOLDFAST_TOOLS`, or where
/// the set-up keeps what it has built.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = std::env::var_os("HOLDFAST_TOOLS").map(PathBuf::from);
    let target = std::env::current_exe().ok();
    let built = target.and_then(|test| Some(test.ancestors().nth(3)?.join("tools/bin")));
    std::env::split_paths(&path)
        .chain(tools)
        .chain(built)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// SHA-256 as the names of objects have it.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// Writes over a file of the store, which may be read-only.
pub fn overwrite(path: &std::path::Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(path);
    std::fs::write(path, bytes).expect("the object is replaced");
}

/// Fails with what to do where nothing can be mounted.
pub fn require_fuse() {
    assert!(
        std::path::Path::new("/dev/fuse").exists(),
        "there is no /dev/fuse; as root: mknod /dev/fuse c 10 229, or modprobe fuse"
    );
}
