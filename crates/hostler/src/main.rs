//! `hostler`, the command line. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    hostler_cli::main()
}
