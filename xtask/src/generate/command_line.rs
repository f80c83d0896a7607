//! Man pages in `docs/man/` and completions in `packaging/completions/`, from the arguments of `hostler`.
//! `docs/man/hostlerd.8` is written by hand.

use anyhow::Result;
use clap::Command;
use clap_complete::aot::{Bash, Fish, Generator, Zsh};

use super::Generated;

/// Where man pages go.
const MAN: &str = "docs/man";
/// Where completions go.
const COMPLETIONS: &str = "packaging/completions";

pub(super) fn generate() -> Result<Vec<Generated>> {
    let mut command = hostler_cli::cli::command();
    let mut files = vec![
        completion(Bash, "hostler.bash", &mut command),
        completion(Zsh, "_hostler", &mut command),
        completion(Fish, "hostler.fish", &mut command),
    ];
    // The verb `help` explains itself.
    let mut command = hostler_cli::cli::command().disable_help_subcommand(true);
    command.build();
    pages(&command, &mut files)?;
    Ok(files)
}

fn completion(generator: impl Generator, name: &str, command: &mut Command) -> Generated {
    let mut content = Vec::new();
    clap_complete::generate(generator, command, "hostler", &mut content);
    Generated { path: format!("{COMPLETIONS}/{name}"), content }
}

/// A page for this command and one for each of its verbs.
fn pages(command: &Command, files: &mut Vec<Generated>) -> Result<()> {
    let page =
        clap_mangen::Man::new(command.clone()).manual("Hostler").source(concat!("hostler ", env!("CARGO_PKG_VERSION")));
    let mut content = Vec::new();
    page.render(&mut content)?;
    files.push(Generated { path: format!("{MAN}/{}", page.get_filename()), content });
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        pages(verb, files)?;
    }
    Ok(())
}

/// Pages that nothing generates any more.
pub(super) fn is_ours(path: &str) -> bool {
    path.strip_prefix(MAN).is_some_and(|name| name.ends_with(".1")) || path.starts_with(&format!("{COMPLETIONS}/"))
}
