//! What the system tests share: the real binary, homes, mounted drives, real S3 servers, and trees
//! with every kind of file.
//!
//! Nothing here skips: what is missing is named, with the command that installs it. Whatever is
//! started is ended by its process id, and whatever is mounted is unmounted, also when a test panics.

pub mod compare;
pub mod drive;
pub mod home;
pub mod servers;
pub mod trees;

pub use drive::Drive;
pub use home::{Home, Run};
pub use servers::{S3Server, Seaweed};

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

/// A program that a test may use if the machine has it.
pub fn find_program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Fails with what to do where nothing can be mounted.
pub fn require_fuse() {
    assert!(
        std::path::Path::new("/dev/fuse").exists(),
        "there is no /dev/fuse; as root: mknod /dev/fuse c 10 229, or modprobe fuse"
    );
}
