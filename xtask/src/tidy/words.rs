//! What must not be in any file: the machine it was written on, where its packages were fetched, and who helped.
//! The project speaks of itself alone. The words are written in two parts here, so that this file does not hold them.

use super::Finding;
use crate::tree::TextFile;

/// Absolute paths of somebody's machine.
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/.ca", "rgo/registry")];

/// Settings and hosts of package registries. The lock file and deny.toml name the public index, and no other.
const REGISTRIES: [&str; 8] = [
    concat!("spa", "rse+http"),
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("artif", "actory"),
    concat!("registry.npm", "js"),
    concat!("py", "pi.org"),
    concat!("proxy.gol", "ang.org"),
    concat!("replace", "-with ="),
];

/// Names of tools, as whole words, in any case.
const TOOLS: [&str; 9] = [
    concat!("cla", "ude"),
    concat!("anth", "ropic"),
    concat!("chat", "gpt"),
    concat!("open", "ai"),
    concat!("cop", "ilot"),
    concat!("gem", "ini"),
    concat!("co", "dex"),
    concat!("language ", "model"),
    concat!("l", "lm"),
];

/// The only registry a lock file may name.
const PUBLIC_INDEX: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks every file.
pub(crate) fn check(files: &[TextFile]) -> Vec<Finding> {
    files.iter().flat_map(|file| if file.path == "Cargo.lock" { check_lock(file) } else { check_file(file) }).collect()
}

fn check_file(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let lower = line.to_lowercase();
        let mut complain = |word: &str, what: &str| {
            findings.push(Finding::new(&file.path, index + 1, format!("{word:?} {what}")));
        };
        for path in MACHINE_PATHS.iter().filter(|path| has_path(line, path)) {
            complain(path, "is a path of one machine");
        }
        for host in REGISTRIES.iter().filter(|host| lower.contains(**host)) {
            complain(host, "names a package registry: that is the machine's matter");
        }
        for tool in TOOLS.iter().filter(|tool| has_word(&lower, tool)) {
            complain(tool, "is not a word of this project");
        }
    }
    findings
}

/// Whether the line holds the path from its very beginning: the same directory inside a longer path is another thing.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        path.starts_with("/.") || !before.is_some_and(|c| c.is_alphanumeric() || "_.-})>*".contains(c))
    })
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

fn check_lock(file: &TextFile) -> Vec<Finding> {
    let sources = file.text.lines().enumerate().filter(|(_, line)| line.starts_with("source = "));
    let foreign = sources.filter(|(_, line)| !line.contains(PUBLIC_INDEX));
    foreign.map(|(index, line)| Finding::new(&file.path, index + 1, format!("{line}: not the public index"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_and_their_likes_are_not() {
        let bad = [
            format!("see {}x", MACHINE_PATHS[0]),
            format!("\"{}.config\"", MACHINE_PATHS[1]),
            format!("index = \"{}s://x\"", REGISTRIES[0]),
            format!("made by {}", TOOLS[0].to_uppercase()),
        ];
        for line in bad {
            let file = TextFile { path: "a.md".to_owned(), text: line.clone() };
            assert_eq!(check(&[file]).len(), 1, "{line}");
        }
        let good = ["OpenAPI document", "tests/work/x", concat!("{root}/ro", "ot/x"), "decodex", "target/work/"];
        for line in good {
            let file = TextFile { path: "a.md".to_owned(), text: line.to_owned() };
            assert_eq!(check(&[file]), [], "{line}");
        }
    }

    #[test]
    fn a_lock_file_names_one_index() {
        let lock = |source: &str| TextFile { path: "Cargo.lock".to_owned(), text: format!("source = \"{source}\"\n") };
        assert!(check(&[lock(PUBLIC_INDEX)]).is_empty());
        assert_eq!(check(&[lock("git+https://example.org/x")]).len(), 1);
    }
}
