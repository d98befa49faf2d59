//! `holdfast-keystore`: arguments -> command. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast_keystore::cli::main()
}
