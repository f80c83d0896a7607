//! Documents: decisions are numbered without gaps, and relative links lead to files that exist.

use super::Finding;
use crate::tree::TextFile;

/// Where decisions lie.
const DECISIONS: &str = "docs/decisions";

/// Checks numbers and links.
pub(crate) fn check(files: &[TextFile]) -> Vec<Finding> {
    let mut findings = check_numbers(files);
    let documents = files.iter().filter(|file| file.path.ends_with(".md"));
    findings.extend(documents.flat_map(|document| check_links(document, files)));
    findings
}

fn check_numbers(files: &[TextFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut expected = 1;
    for file in files.iter().filter(|file| file.is_in(DECISIONS)) {
        let name = &file.path[DECISIONS.len() + 1..];
        let number: Option<u32> =
            name.split_once('-').filter(|(digits, _)| digits.len() == 4).and_then(|(digits, _)| digits.parse().ok());
        match number {
            Some(number) if number == expected => expected += 1,
            Some(_) => {
                findings.push(Finding::new(&file.path, 0, format!("has another number than the next, {expected:04}")))
            }
            None => findings.push(Finding::new(&file.path, 0, "is not named NNNN-title.md")),
        }
    }
    findings
}

fn check_links(document: &TextFile, files: &[TextFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_code = false;
    for (index, line) in document.text.lines().enumerate() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        for target in links(line) {
            let path = resolve(&document.path, target);
            let exists = files.iter().any(|file| file.path == path || file.is_in(&path));
            if !exists {
                findings.push(Finding::new(
                    &document.path,
                    index + 1,
                    format!("links to {target:?}, which does not exist"),
                ));
            }
        }
    }
    findings
}

/// Targets of `[…](target)` that are files, without their `#part`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files =
        targets.filter(|target| !target.contains("://") && !target.starts_with('#') && !target.starts_with("mailto:"));
    files.map(|target| target.split('#').next().unwrap_or(target))
}

/// The link's target relative to the project's root.
fn resolve(document: &str, target: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn numbers_have_no_gaps() {
        let named = |names: &[&str]| -> Vec<TextFile> {
            names.iter().map(|name| file(&format!("{DECISIONS}/{name}"), "")).collect()
        };
        assert!(check_numbers(&named(&["0001-a.md", "0002-b.md"])).is_empty());
        assert_eq!(check_numbers(&named(&["0001-a.md", "0003-b.md"])).len(), 1);
        assert_eq!(check_numbers(&named(&["0001-a.md", "0001-b.md"])).len(), 1);
        assert_eq!(check_numbers(&named(&["notes.md"])).len(), 1);
    }

    #[test]
    fn links_lead_somewhere() {
        let others = [file("docs/a.md", ""), file("crates/x/src/lib.rs", "")];
        let cases = [
            ("README.md", "[a](docs/a.md) [b](docs/b.md)", 1),
            ("README.md", "[x](crates/x) [y](https://example.org/y) [z](#part) [w](docs/a.md#part)", 0),
            ("docs/c.md", "[a](a.md) [r](../crates/x/src/lib.rs) [n](../n.md)", 1),
            ("README.md", "```\n[a](nothing)\n```", 0),
        ];
        for (path, text, count) in cases {
            let document = file(path, text);
            assert_eq!(check_links(&document, &others).len(), count, "{text}");
        }
    }
}
