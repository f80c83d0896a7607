//! When a unit is left out. A condition is judged at the unit's start over [`Facts`] that were gathered for it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::check::Mistakes;
use crate::limits;

/// What must hold. Several keys in one condition must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Condition {
    /// This file or directory exists; absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The daemon has this environment variable: `KEY`, or `KEY=VALUE` for one value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The kernel was booted with this parameter: `NAME`, or `NAME=VALUE` for one value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The machine is of this architecture, such as `x86_64` or `aarch64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// All of these hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<Condition>>,
    /// At least one of these holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<Condition>>,
    /// This does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<Condition>>,
}

/// What a condition may ask about, gathered before it is judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Of the files asked about, those that exist.
    pub files: BTreeSet<String>,
    /// Of the variables asked about, those that are set.
    pub env: BTreeMap<String, String>,
    /// The kernel's parameters.
    pub kernel: BTreeMap<String, Option<String>>,
    /// The machine's architecture.
    pub arch: String,
}

impl Facts {
    /// The kernel's parameters from the text of `/proc/cmdline`.
    #[must_use]
    pub fn kernel_of(cmdline: &str) -> BTreeMap<String, Option<String>> {
        let part = |word: &str| match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word.to_owned(), None),
        };
        cmdline.split_whitespace().map(part).collect()
    }
}

impl Condition {
    /// The first part that does not hold, in words; nothing when all does.
    #[must_use]
    pub fn unmet(&self, facts: &Facts) -> Option<String> {
        if let Some(file) = &self.file
            && !facts.files.contains(file)
        {
            return Some(format!("there is no {file}"));
        }
        if let Some(env) = &self.env
            && !holds(env, |key| facts.env.get(key).map(|value| Some(value.as_str())))
        {
            return Some(format!("the daemon's environment has no {env}"));
        }
        if let Some(kernel) = &self.kernel
            && !holds(kernel, |key| facts.kernel.get(key).map(Option::as_deref))
        {
            return Some(format!("the kernel was booted without {kernel}"));
        }
        if let Some(arch) = &self.arch
            && *arch != facts.arch
        {
            return Some(format!("the machine is {}, not {arch}", facts.arch));
        }
        if let Some(unmet) = self.all.iter().flatten().find_map(|part| part.unmet(facts)) {
            return Some(unmet);
        }
        if let Some(any) = &self.any {
            let unmet: Vec<_> = any.iter().map(|part| part.unmet(facts)).collect();
            if unmet.iter().all(Option::is_some) {
                let words: Vec<_> = unmet.into_iter().flatten().collect();
                return Some(words.join(", and "));
            }
        }
        match &self.not {
            Some(not) if not.unmet(facts).is_none() => Some(format!("{} holds", not.words())),
            _ => None,
        }
    }

    /// The files and variables that it asks about.
    pub fn asks(&self, files: &mut BTreeSet<String>, env: &mut BTreeSet<String>) {
        files.extend(self.file.clone());
        env.extend(self.env.as_ref().map(|env| key(env).to_owned()));
        let parts = self.all.iter().chain(&self.any).flatten().chain(self.not.as_deref());
        for part in parts {
            part.asks(files, env);
        }
    }

    fn words(&self) -> String {
        let named = [("file", &self.file), ("env", &self.env), ("kernel", &self.kernel), ("arch", &self.arch)];
        let mut words: Vec<String> =
            named.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name} {value}"))).collect();
        let list = |parts: &[Self], by: &str| {
            let words: Vec<_> = parts.iter().map(Self::words).collect();
            format!("({})", words.join(by))
        };
        words.extend(self.all.as_ref().map(|parts| list(parts, " and ")));
        words.extend(self.any.as_ref().map(|parts| list(parts, " or ")));
        words.extend(self.not.as_ref().map(|part| format!("not {}", part.words())));
        words.join(" and ")
    }

    pub(super) fn check(&self, path: &str, depth: usize, mistakes: &mut Mistakes) {
        if depth > limits::CONDITION_DEPTH_MAX {
            mistakes.add(path, format!("is nested more than {} deep", limits::CONDITION_DEPTH_MAX));
            return;
        }
        if *self == Self::default() {
            mistakes.add(path, "asks for nothing: name a file, env, kernel, arch, all, any or not");
        }
        if self.file.as_ref().is_some_and(|file| !file.starts_with('/') || file.contains('\0')) {
            mistakes.add(&format!("{path}.file"), "must be an absolute path");
        }
        for (field, text) in [("env", &self.env), ("kernel", &self.kernel)] {
            if text.as_ref().is_some_and(|text| key(text).is_empty()) {
                mistakes.add(&format!("{path}.{field}"), "must be NAME or NAME=VALUE");
            }
        }
        for (field, parts) in [("all", &self.all), ("any", &self.any)] {
            let Some(parts) = parts else { continue };
            if parts.is_empty() || parts.len() > limits::CONDITION_PARTS_MAX {
                let what = format!("must have 1 to {} parts", limits::CONDITION_PARTS_MAX);
                mistakes.add(&format!("{path}.{field}"), what);
            }
            for (index, part) in parts.iter().enumerate() {
                part.check(&format!("{path}.{field}[{index}]"), depth + 1, mistakes);
            }
        }
        if let Some(not) = &self.not {
            not.check(&format!("{path}.not"), depth + 1, mistakes);
        }
    }
}

fn key(text: &str) -> &str {
    text.split('=').next().unwrap_or_default()
}

fn holds<'a>(wanted: &str, found: impl Fn(&str) -> Option<Option<&'a str>>) -> bool {
    match wanted.split_once('=') {
        None => found(wanted).is_some(),
        Some((key, value)) => found(key) == Some(Some(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            files: ["/there".to_owned()].into(),
            env: [("SET".to_owned(), "yes".to_owned())].into(),
            kernel: Facts::kernel_of("quiet root=/dev/sda1 hostler=on\n"),
            arch: "x86_64".to_owned(),
        }
    }

    #[test]
    fn conditions_are_judged_over_facts() {
        let cases = [
            (r#"{"file":"/there"}"#, None),
            (r#"{"file":"/gone"}"#, Some("there is no /gone")),
            (r#"{"env":"SET"}"#, None),
            (r#"{"env":"SET=yes"}"#, None),
            (r#"{"env":"SET=no"}"#, Some("no SET=no")),
            (r#"{"kernel":"quiet"}"#, None),
            (r#"{"kernel":"hostler=on"}"#, None),
            (r#"{"kernel":"quiet=1"}"#, Some("without quiet=1")),
            (r#"{"arch":"x86_64","file":"/gone"}"#, Some("no /gone")),
            (r#"{"arch":"riscv64"}"#, Some("x86_64, not riscv64")),
            (r#"{"any":[{"file":"/gone"},{"env":"SET"}]}"#, None),
            (r#"{"any":[{"file":"/gone"},{"env":"UNSET"}]}"#, Some(", and ")),
            (r#"{"all":[{"file":"/there"},{"not":{"file":"/gone"}}]}"#, None),
            (r#"{"not":{"any":[{"file":"/there"},{"env":"UNSET"}]}}"#, Some("(file /there or env UNSET) holds")),
            (r#"{"not":{"not":{"file":"/there"}}}"#, None),
        ];
        for (json, expected) in cases {
            let condition: Condition = serde_json::from_str(json).expect(json);
            let unmet = condition.unmet(&facts());
            match expected {
                None => assert_eq!(unmet, None, "{json}"),
                Some(words) => assert!(unmet.as_ref().is_some_and(|unmet| unmet.contains(words)), "{json}: {unmet:?}"),
            }
        }
    }

    #[test]
    fn what_is_asked_about_is_known_before() {
        let json = r#"{"all":[{"file":"/a"},{"not":{"env":"B=1"}}],"any":[{"file":"/c"}]}"#;
        let (mut files, mut env) = Default::default();
        serde_json::from_str::<Condition>(json).expect("valid").asks(&mut files, &mut env);
        assert_eq!((files.len(), env.first().map(String::as_str)), (2, Some("B")));
    }

    #[test]
    fn depth_and_emptiness_are_mistakes() {
        let mut condition = Condition { file: Some("/x".to_owned()), ..Condition::default() };
        for _ in 0..=limits::CONDITION_DEPTH_MAX {
            condition = Condition { not: Some(Box::new(condition)), ..Condition::default() };
        }
        let mut mistakes = Mistakes::default();
        condition.check("c", 1, &mut mistakes);
        Condition::default().check("d", 1, &mut mistakes);
        Condition { any: Some(Vec::new()), ..Condition::default() }.check("e", 1, &mut mistakes);
        let paths: Vec<_> = mistakes.0.iter().map(|mistake| mistake.path.as_str()).collect();
        assert!(paths[0].starts_with("c.not.not") && paths[1..] == ["d", "e.any"], "{paths:?}");
    }
}
