//! Regular expressions that callers give us. Time is linear in the text by the engine's nature; memory is bounded here.

use hostler_model::hook::HookOn;
use hostler_model::spec::Spec;
use hostler_model::{Problem, ProblemKind, limits};
use regex::bytes::{Regex, RegexBuilder};

/// An expression that compiled.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles it; the error is for whoever wrote it.
    pub fn new(text: &str) -> Result<Self, String> {
        let bound = limits::HOOK_PATTERN_COMPILED_MAX;
        let built = RegexBuilder::new(text).size_limit(bound).dfa_size_limit(bound).build();
        built.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("{text:?} is too large an expression"),
            error => error.to_string(),
        })
    }

    /// Whether it matches anywhere in these bytes, which need not be UTF-8.
    #[must_use]
    pub fn is_match(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }
}

/// Refuses a spec with a pattern that could never be searched for.
pub(crate) fn check(spec: &Spec) -> Result<(), Problem> {
    for (number, hook) in spec.hooks.iter().enumerate() {
        if let HookOn::Line { pattern, .. } = &hook.on {
            Pattern::new(pattern).map_err(|why| {
                Problem::new(ProblemKind::InvalidSpec, format!("hooks[{number}] on.line.pattern: {why}"))
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_searched_and_bombs_refused() {
        let pattern = Pattern::new("^ready \\d+").expect("an expression");
        assert!(pattern.is_match(b"ready 5 \xff"));
        assert!(!pattern.is_match(b"not ready 5"));
        assert!(Pattern::new("(").is_err());
        let bomb = Pattern::new("(a{1000}){1000}").expect_err("too large");
        assert!(bomb.contains("too large"), "{bomb}");
    }
}
