//! The command line of Hostler: asks the node over its socket and says the answer in plain words.
//!
//! - [`cli`]: the arguments; `parse`: values in them; `hooks`: those of `run --hook`
//! - `commands`: one file for each group of verbs
//! - `foreground`: the loop that `run`, `exec` and `attach` share; `stdio`: its stdin and outputs
//! - `output`: tables, colours, times; `terminal`: sizes, raw mode, the spinner; `failure`: what is said when it goes wrong
//!
//! Not here: any decision about a workload, and any file of the node except the daemon's log when it does not start.
#![forbid(unsafe_code)]

pub mod cli;
mod commands;
mod failure;
mod foreground;
mod hooks;
mod output;
mod parse;
mod stdio;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

/// The program: parses the arguments, does the work, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version are "errors" to clap; it knows which stream and which code.
        Err(error) => error.exit(),
    };
    let json = arguments.global.json;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return failure::Failure::new(format!("cannot start: {error}")).report(failure::Form::of(json));
        }
    };
    let result = runtime.block_on(commands::execute(arguments));
    // A thread may still be waiting for stdin or for a reader of stdout.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(failure::Form::of(json)),
    }
}
