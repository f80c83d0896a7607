//! `hostler`, the command line. Everything is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    hostler_cli::main()
}
