//! `holdfast`: arguments -> command. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast::memory::give_back_freed_memory();
    holdfast::cli::main()
}
