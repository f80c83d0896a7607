//! Rust source seen line by line: which lines are code of the program, and which are comments or tests.

/// A line of code: its number from 1, and its text without a trailing comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodeLine<'a> {
    /// From 1.
    pub(crate) number: usize,
    /// The line as it is.
    pub(crate) text: &'a str,
}

/// The lines outside of `#[cfg(test)]` modules. Goes by rustfmt's indentation: a module ends with the first `}` at the
/// indentation of its `mod`.
pub(crate) fn without_tests(text: &str) -> Vec<CodeLine<'_>> {
    let mut kept = Vec::new();
    let mut lines = text.lines().enumerate().map(|(index, text)| CodeLine { number: index + 1, text }).peekable();
    while let Some(line) = lines.next() {
        let starts_tests = line.text.trim() == "#[cfg(test)]"
            && lines.peek().is_some_and(|next| next.text.trim_start().starts_with("mod ") && next.text.ends_with('{'));
        if !starts_tests {
            kept.push(line);
            continue;
        }
        let end = format!("{}}}", " ".repeat(indentation(line.text)));
        for skipped in lines.by_ref() {
            if skipped.text == end {
                break;
            }
        }
    }
    kept
}

/// Blanks at the beginning of the line.
pub(crate) fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The line without its `//` comment. Good enough for names: a `//` inside a string hides the rest of that line.
pub(crate) fn code(line: &str) -> &str {
    line.find("//").map_or(line, |at| &line[..at])
}

/// Whether `name` is in the line as a whole path, not as a part of a longer word.
pub(crate) fn mentions(line: &str, name: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + name.len()..].chars().next();
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_modules_are_left_out() {
        let text = "a\n#[cfg(test)]\nmod tests {\n    fn x() {\n    }\n}\nb\n#[cfg(test)]\nmod more;\n";
        let kept: Vec<_> = without_tests(text).iter().map(|line| (line.number, line.text)).collect();
        assert_eq!(kept, [(1, "a"), (7, "b"), (8, "#[cfg(test)]"), (9, "mod more;")]);
    }

    #[test]
    fn names_are_whole_words() {
        assert!(mentions("use std::fs;", "std::fs"));
        assert!(mentions("let x = std::fs::read(y);", "std::fs"));
        assert!(!mentions("use std::fsx;", "std::fs"));
        assert!(!mentions("let not_tokio = 1;", "tokio"));
        assert_eq!(code("x // tokio"), "x ");
    }
}
