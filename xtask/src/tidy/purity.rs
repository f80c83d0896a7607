//! What is absent: sockets, files, clocks and processes from `model` and `supervisor`; `unsafe` from all but `linux`.

use super::edges::Package;
use super::source::{code, mentions, without_tests};
use super::{Finding, edges};
use crate::tree::TextFile;

/// Rooms that are pure.
const PURE: [&str; 2] = ["crates/model/src", "crates/supervisor/src"];

/// What a pure room must not name. Time, ids and randomness come in as arguments.
const IMPURE: [&str; 12] = [
    "tokio",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os::unix::net",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "libc",
    "rustix",
];

/// Parts of a grouped import, `use std::{…}`, that would hide one of the above.
const IMPURE_PARTS: [&str; 6] = ["env", "fs", "io", "net", "process", "thread"];

/// Checks the sources of the pure rooms, their tests excluded.
pub(crate) fn check(files: &[TextFile]) -> Vec<Finding> {
    let pure = files.iter().filter(|file| file.is_rust() && PURE.iter().any(|room| file.is_in(room)));
    pure.filter(|file| !is_tests(&file.path)).flat_map(check_file).collect()
}

fn is_tests(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn check_file(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for line in without_tests(&file.text) {
        let text = code(line.text);
        let named = IMPURE.iter().find(|name| mentions(text, name));
        let hidden = IMPURE_PARTS.iter().find(|part| text.contains("std::{") && mentions(text, part));
        if let Some(name) = named.or(hidden) {
            let message =
                format!("names {name}: this crate is pure, so time, files and randomness come in as arguments");
            findings.push(Finding::new(&file.path, line.number, message));
        }
    }
    findings
}

/// The attribute that every library and program but `linux` begins with.
const FORBID: &str = "#![forbid(unsafe_code)]";

/// Every library and program but `linux` forbids `unsafe`.
pub(crate) fn check_unsafe(packages: &[Package], files: &[TextFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| package.name != edges::UNSAFE_ROOM) {
        for entry in &package.entry_points {
            let file = files.iter().find(|file| file.path == *entry);
            if file.is_some_and(|file| !file.text.lines().any(|line| line.trim() == FORBID)) {
                findings.push(Finding::new(
                    entry,
                    0,
                    format!("lacks {FORBID}: unsafe code lives in crates/linux only"),
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn pure_rooms_name_nothing_impure() {
        let cases = [
            ("use std::fs;", 1),
            ("use std::{collections::BTreeMap, fs};", 1),
            ("let now = Instant::now();", 1),
            ("use std::io::Write as _;", 1),
            ("// tokio is absent here", 0),
            ("use std::fmt;", 0),
            ("#[cfg(test)]\nmod tests {\n    use std::fs;\n}", 0),
        ];
        for (text, count) in cases {
            assert_eq!(check(&[file("crates/model/src/x.rs", text)]).len(), count, "{text}");
            assert!(check(&[file("crates/store/src/x.rs", text)]).is_empty(), "{text}");
        }
    }

    #[test]
    fn unsafe_is_forbidden_by_name() {
        let package = |name: &str| Package {
            name: name.to_owned(),
            dependencies: Vec::new(),
            entry_points: vec!["crates/x/src/lib.rs".to_owned()],
        };
        let without = [file("crates/x/src/lib.rs", "//! X.\n")];
        let with = [file("crates/x/src/lib.rs", "//! X.\n#![forbid(unsafe_code)]\n")];
        assert_eq!(check_unsafe(&[package("hostler-x")], &without).len(), 1);
        assert!(check_unsafe(&[package("hostler-linux")], &without).is_empty());
        assert!(check_unsafe(&[package("hostler-x")], &with).is_empty());
    }
}
