//! `xtask/tidy-allow.txt`: exceptions from the length rules, one a line: `<path>` or `<path> <function>`, then `# why`.

use anyhow::{Result, bail};

use super::Finding;
use crate::tree::TextFile;

/// Where the list lies.
const PATH: &str = "xtask/tidy-allow.txt";

/// The list, and which of its lines were needed.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    line: usize,
    /// The path, and for a function its name after a blank.
    what: String,
    used: bool,
}

/// Reads the list; a line without a reason is an error.
pub(crate) fn read(files: &[TextFile]) -> Result<Allowed> {
    let Some(file) = files.iter().find(|file| file.path == PATH) else { return Ok(Allowed::default()) };
    parse(&file.text)
}

fn parse(text: &str) -> Result<Allowed> {
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((what, reason)) = line.split_once('#') else { bail!("{PATH}:{}: says no reason after #", index + 1) };
        if reason.trim().is_empty() {
            bail!("{PATH}:{}: says no reason after #", index + 1);
        }
        entries.push(Entry { line: index + 1, what: what.trim().to_owned(), used: false });
    }
    Ok(Allowed { entries })
}

impl Allowed {
    /// Whether this is an exception; remembers that it was asked for.
    pub(crate) fn take(&mut self, what: &str) -> bool {
        let entry = self.entries.iter_mut().find(|entry| entry.what == what);
        entry.map(|entry| entry.used = true).is_some()
    }

    /// Exceptions that nothing needs any more.
    pub(crate) fn unused(&self) -> Vec<Finding> {
        let unused = self.entries.iter().filter(|entry| !entry.used);
        unused
            .map(|entry| {
                Finding::new(PATH, entry.line, format!("{:?} needs no exception: remove the line", entry.what))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_have_reasons_and_are_used() {
        assert!(parse("crates/x/src/a.rs").is_err());
        assert!(parse("crates/x/src/a.rs #  ").is_err());
        let mut allowed = parse("# list\n\na.rs # one table\nb.rs long # one match\n").expect("parse");
        assert!(allowed.take("b.rs long"));
        assert!(!allowed.take("b.rs"));
        assert_eq!(allowed.unused().len(), 1);
        assert_eq!(allowed.unused()[0].line, 3);
    }
}
