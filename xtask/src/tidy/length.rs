//! Lengths. A file past 600 lines is two ideas, a function past 70 lines is two steps.

use super::Finding;
use super::allowed::Allowed;
use super::source::{CodeLine, indentation, without_tests};
use crate::tree::TextFile;

/// Lines of one file, its test modules excluded.
const FILE_LINES_MAX: usize = 600;
/// Lines of one function, signature and closing brace included.
const FUNCTION_LINES_MAX: usize = 70;

/// Checks every Rust file; functions only where they are not tests.
pub(crate) fn check(files: &[TextFile], allowed: &mut Allowed) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let lines = without_tests(&file.text);
        if lines.len() > FILE_LINES_MAX && !allowed.take(&file.path) {
            let message = format!("has {} lines, more than {FILE_LINES_MAX}: it is two ideas", lines.len());
            findings.push(Finding::new(&file.path, 0, message));
        }
        if is_tests(&file.path) {
            continue;
        }
        for function in functions(&lines) {
            if function.lines > FUNCTION_LINES_MAX && !allowed.take(&format!("{} {}", file.path, function.name)) {
                let message = format!(
                    "fn {} has {} lines, more than {FUNCTION_LINES_MAX}: it is two steps",
                    function.name, function.lines
                );
                findings.push(Finding::new(&file.path, function.at, message));
            }
        }
    }
    findings
}

fn is_tests(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// A function with a body of more than one line.
#[derive(Debug, PartialEq, Eq)]
struct Function<'a> {
    name: &'a str,
    at: usize,
    lines: usize,
}

/// Goes by rustfmt's indentation: a function ends with the first line that begins with `}` at the indentation of its `fn`.
fn functions<'a>(lines: &[CodeLine<'a>]) -> Vec<Function<'a>> {
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line.text) else { continue };
        let indent = indentation(line.text);
        if has_no_body_below(line.text) {
            continue;
        }
        let closing = lines[index + 1..].iter().find(|later| {
            let text = later.text.trim_start();
            indentation(later.text) == indent
                && (text.starts_with('}') || (text.starts_with(')') && text.ends_with(';')))
        });
        if let Some(closing) = closing.filter(|closing| closing.text.trim_start().starts_with('}')) {
            found.push(Function { name, at: line.number, lines: closing.number - line.number + 1 });
        }
    }
    found
}

fn has_no_body_below(line: &str) -> bool {
    let line = line.trim_end();
    line.ends_with(';') || line.ends_with('}')
}

/// The name, if a function begins in this line.
fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    if let Some(after) = rest.strip_prefix("pub") {
        rest = after.trim_start();
        if rest.starts_with('(') {
            rest = rest.split_once(')')?.1.trim_start();
        }
    }
    for word in ["default ", "const ", "async ", "unsafe ", "extern \"C\" "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    (end > 0).then(|| &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_names() {
        let cases = [
            ("fn a() {", Some("a")),
            ("    pub(crate) const fn b<T>(", Some("b")),
            ("pub async fn c(", Some("c")),
            ("    pub unsafe extern \"C\" fn d(x: u8) {", Some("d")),
            ("// fn e()", None),
            ("let f: fn() = x;", None),
        ];
        for (line, name) in cases {
            assert_eq!(function_name(line), name, "{line}");
        }
    }

    #[test]
    fn functions_end_at_their_indentation() {
        let text = "fn a() {\n    if x {\n    }\n}\ntrait T {\n    fn b(\n        x: u8,\n    );\n    fn c(\n    ) {\n        y\n    }\n    fn d();\n}\n";
        let found = functions(&without_tests(text));
        let found: Vec<_> = found.iter().map(|function| (function.name, function.at, function.lines)).collect();
        assert_eq!(found, [("a", 1, 4), ("c", 9, 4)]);
    }

    #[test]
    fn long_ones_are_found() {
        let body = "    x();\n".repeat(FUNCTION_LINES_MAX);
        let long = TextFile { path: "crates/x/src/x.rs".to_owned(), text: format!("fn a() {{\n{body}}}\n") };
        let test = TextFile { path: "tests/x.rs".to_owned(), ..long.clone() };
        assert_eq!(check(std::slice::from_ref(&long), &mut Allowed::default()).len(), 1);
        assert!(check(&[test], &mut Allowed::default()).is_empty());
        let file = TextFile { text: "\n".repeat(FILE_LINES_MAX + 1), ..long };
        assert_eq!(check(&[file], &mut Allowed::default()).len(), 1);
    }
}
