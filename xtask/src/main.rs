//! What the project does to itself: `cargo run -p xtask -- tidy` and `… generate [--check]`.
//!
//! - [`tree`]: the project's text files, read once
//! - [`tidy`]: rules that the compiler does not know: who may name whom, what is absent where, lengths, words, links
//! - [`generate`]: files made from the code: the API document, the configuration's schema, man pages, completions
//!
//! Both also run as tests, so that `make test` finds what `make check` would.

#![forbid(unsafe_code)]

mod generate;
mod tidy;
mod tree;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Checks and generated files of this project.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check what the compiler does not: edges between crates, purity, lengths, words, links.
    Tidy,
    /// Write the generated files.
    Generate {
        /// Write nothing; fail when one of them is stale.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<ExitCode> {
    let root = tree::project_root();
    let complaints = match Arguments::parse().command {
        Command::Tidy => tidy::run(&root)?.iter().map(ToString::to_string).collect(),
        Command::Generate { check: true } => generate::stale(&root)?,
        Command::Generate { check: false } => {
            generate::write(&root)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    for complaint in &complaints {
        eprintln!("error: {complaint}");
    }
    if complaints.is_empty() {
        println!("nothing to mend");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{} to mend", complaints.len());
    Ok(ExitCode::FAILURE)
}
