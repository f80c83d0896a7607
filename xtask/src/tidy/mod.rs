//! Rules that the compiler does not know. Each is a function of values, tested on small inputs beside it.
//!
//! - [`edges`]: which crate may name which, and the heavy crates only one room names
//! - [`purity`]: what is absent from the sources of `model` and `supervisor`, and where `unsafe` is forbidden
//! - [`length`]: files and functions that have become two ideas
//! - [`words`]: what must not be in any file of the project
//! - [`documents`]: decisions numbered without gaps, links that lead somewhere
//! - [`allowed`]: the list of exceptions, each with its reason
//!
//! Not here: formatting (rustfmt), lints (clippy), licences and bans (cargo-deny).

mod allowed;
mod documents;
mod edges;
mod length;
mod purity;
mod source;
mod words;

use std::fmt;
use std::path::Path;

use anyhow::Result;

use crate::tree;

/// One thing to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The file, relative to the project's root.
    path: String,
    /// Its line, from 1; 0 when the whole file is meant.
    line: usize,
    /// What is wrong, and what to do.
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Applies every rule to the project.
pub(crate) fn run(root: &Path) -> Result<Vec<Finding>> {
    let files = tree::read(root)?;
    let packages = edges::packages(root)?;
    let mut allowed = allowed::read(&files)?;
    let mut findings = edges::check(&packages);
    findings.extend(purity::check(&files));
    findings.extend(purity::check_unsafe(&packages, &files));
    findings.extend(length::check(&files, &mut allowed));
    findings.extend(allowed.unused());
    findings.extend(words::check(&files));
    findings.extend(documents::check(&files));
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_is_tidy() {
        let findings = run(&tree::project_root()).expect("the rules run");
        let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(list.is_empty(), "{} to mend:\n{}", list.len(), list.join("\n"));
    }
}
