//! Hooks on the command line: short ones as options, everything else in a file.

use std::path::Path;

use hostler_model::hook::{Hook, HookAction, HookOn};
use hostler_model::units::parse_duration_ms;
use hostler_model::{ByteString, limits};
use serde::Deserialize;

use crate::cli::Run;
use crate::failure::Failure;

/// `--hook WHEN=ACTION`.
pub(crate) fn hook(text: &str) -> Result<Hook, String> {
    let (when, action) = text.split_once('=').ok_or_else(|| format!("{text:?} has no action: write WHEN=ACTION"))?;
    if action.is_empty() {
        return Err(format!("{text:?} has no action: write WHEN=ACTION"));
    }
    Ok(with_defaults(on(when)?, self::action(action)?))
}

fn on(text: &str) -> Result<HookOn, String> {
    Ok(match text.split_once(':') {
        Some(("line", pattern)) if !pattern.is_empty() => HookOn::Line { pattern: pattern.to_owned(), stream: None },
        Some(("after", time)) => {
            HookOn::Delay { after_ms: parse_duration_ms(time).map_err(|error| error.to_string())? }
        }
        None if text == "started" => HookOn::Started,
        None if text == "success" => HookOn::Success,
        None if text == "failure" => HookOn::Failure,
        None if text == "end" => HookOn::End,
        _ => {
            return Err(format!(
                "{text:?} is nothing to wait for: write started, success, failure, end, after:TIME or line:PATTERN; \
                 a pattern with = in it goes into a file, see --hooks"
            ));
        }
    })
}

fn action(text: &str) -> Result<HookAction, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(HookAction::Http { url: text.to_owned(), headers: std::collections::BTreeMap::new() });
    }
    match text.strip_prefix("start:") {
        Some(name) => Ok(HookAction::Start { workload: name.parse().map_err(|error| format!("{error}"))? }),
        None => Ok(shell(text)),
    }
}

fn shell(text: &str) -> HookAction {
    let command = ["sh", "-c", text].map(ByteString::from).to_vec();
    HookAction::Command { command, env: Vec::new() }
}

fn with_defaults(on: HookOn, action: HookAction) -> Hook {
    Hook { on, action, deadline_ms: limits::HOOK_DEADLINE_MS, attempts: limits::HOOK_ATTEMPTS }
}

/// All hooks of a `run`, in the order of the options' description.
pub(crate) fn of_run(run: &Run) -> Result<Vec<Hook>, Failure> {
    let shells = |on: HookOn, texts: &[String]| {
        texts.iter().map(|text| with_defaults(on.clone(), shell(text))).collect::<Vec<_>>()
    };
    let mut hooks = shells(HookOn::Success, &run.on_success);
    hooks.extend(shells(HookOn::Failure, &run.on_failure));
    hooks.extend(shells(HookOn::End, &run.on_end));
    hooks.extend(run.hook.iter().cloned());
    for file in &run.hooks {
        hooks.extend(read(file)?);
    }
    Ok(hooks)
}

fn read(file: &Path) -> Result<Vec<Hook>, Failure> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        hooks: Vec<Hook>,
    }
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("--hooks {}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    if text.trim_start().starts_with('[') && !text.trim_start().starts_with("[[") {
        return serde_json::from_str(&text).map_err(|error| wrong(&error));
    }
    toml::from_str::<File>(&text).map(|file| file.hooks).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms() {
        let json = |text: &str| {
            let hook = hook(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            (serde_json::to_string(&hook.on).expect("json"), serde_json::to_string(&hook.action).expect("json"))
        };
        let cases = [
            ("started=true", r#""started""#, r#"{"command":{"command":["sh","-c","true"]}}"#),
            ("success=start:b-2", r#""success""#, r#"{"start":{"workload":"b-2"}}"#),
            (
                "after:2s=echo a=b",
                r#"{"delay":{"after_ms":2000}}"#,
                r#"{"command":{"command":["sh","-c","echo a=b"]}}"#,
            ),
            (
                "line:^up: \\d=https://x/y?z=1",
                r#"{"line":{"pattern":"^up: \\d"}}"#,
                r#"{"http":{"url":"https://x/y?z=1"}}"#,
            ),
        ];
        for (text, on, action) in cases {
            assert_eq!(json(text), (on.to_owned(), action.to_owned()));
        }
        for bad in ["", "end", "end=", "ended=x", "line:=x", "after:=x", "after:soon=x", "success=start:a b"] {
            assert!(hook(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn files_are_toml_or_json() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("hooks");
        let texts = [
            "[[hooks]]\non = { line = { pattern = 'a=b' } }\naction = { start = { workload = 'x' } }\nattempts = 1\n",
            "# a comment\n[[hooks]]\non = 'end'\naction = { http = { url = 'http://x/' } }\n",
            r#" [{"on":"end","action":{"start":{"workload":"x"}}}]"#,
        ];
        for text in texts {
            std::fs::write(&file, text).expect("write");
            assert_eq!(read(&file).expect(text).len(), 1);
        }
        for bad in ["[[hooks]]\non = 'ended'", "[1]", "hook = 1"] {
            std::fs::write(&file, bad).expect("write");
            assert!(read(&file).is_err(), "{bad}");
        }
    }
}
