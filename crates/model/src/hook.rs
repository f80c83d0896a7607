//! Hooks: what is done when something happens to a workload's run. Each hook of a run fires once at most.
//!
//! ```text
//!   trigger ──► event hook.fired, and a HookCall in the same commit ──► delivered, at least once ──► event hook.succeeded
//!                    │ its id is the key that a receiver can tell repetitions by                 └── or hook.failed
//!                    └── `start` needs no delivery: the other workload is started in the same step
//! ```
//! `started`, `delay` and `line` speak of each run; `success`, `failure` and `end` of the last one, when the restart
//! policy lets no other follow. That a pattern compiles is for `provision` to check: regular expressions live there.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bytes::ByteString;
use crate::error::{Problem, ProblemKind};
use crate::event::Subject;
use crate::ids::{RunId, WorkloadName};
use crate::limits;
use crate::log_stream::LogStream;
use crate::spec::Spec;
use crate::url::HttpUrl;
use crate::workload::{Identity, RunState};

/// One hook of a workload. Its number is its place in the spec's list, from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// When.
    pub on: HookOn,
    /// What is done.
    pub action: HookAction,
    /// Longest time that one attempt may take, milliseconds.
    #[serde(default = "default_deadline_ms")]
    pub deadline_ms: u64,
    /// Attempts at most, the first included.
    #[serde(default = "default_attempts")]
    pub attempts: u32,
}

fn default_deadline_ms() -> u64 {
    limits::HOOK_DEADLINE_MS
}

fn default_attempts() -> u32 {
    limits::HOOK_ATTEMPTS
}

/// When a hook fires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HookOn {
    /// The program runs and its main process is known.
    Started,
    /// The first line of the run's output that matches.
    Line {
        /// A regular expression in the syntax of Rust's `regex` crate, searched for anywhere in a line.
        pattern: String,
        /// Only lines of this stream; of both when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<LogStream>,
    },
    /// So long after the program's start, if it has not ended by then.
    Delay {
        /// Milliseconds.
        after_ms: u64,
    },
    /// The last run ended with code 0.
    Success,
    /// The last run ended in any other way: another code, a signal, never started, lost.
    Failure,
    /// The last run ended.
    End,
}

/// A [`HookOn`] in one word, for events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words are those of HookOn")]
pub enum HookTrigger {
    Started,
    Line,
    Delay,
    Success,
    Failure,
    End,
}

impl HookTrigger {
    /// The word as JSON and people see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Line => "line",
            Self::Delay => "delay",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::End => "end",
        }
    }
}

impl HookOn {
    /// In one word.
    #[must_use]
    pub fn trigger(&self) -> HookTrigger {
        match self {
            Self::Started => HookTrigger::Started,
            Self::Line { .. } => HookTrigger::Line,
            Self::Delay { .. } => HookTrigger::Delay,
            Self::Success => HookTrigger::Success,
            Self::Failure => HookTrigger::Failure,
            Self::End => HookTrigger::End,
        }
    }
}

/// What a hook does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HookAction {
    /// POST a JSON document; any 2xx answer is success. Redirects are not followed.
    Http {
        /// `http://` or `https://`.
        url: String,
        /// Headers on top of those that Hostler sets.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
    },
    /// Run a command as a job of its own, as the workload's user, in its directory and environment.
    Command {
        /// Program and arguments.
        command: Vec<ByteString>,
        /// `KEY=VALUE` on top of the workload's own.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        env: Vec<ByteString>,
    },
    /// Start another workload of the same namespace; one that runs is started again after its end.
    Start {
        /// Its name.
        workload: WorkloadName,
    },
}

/// What was known when a hook fired.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct HookContext {
    /// The main process, while the run was live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How the run ended, if it had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<RunState>,
    /// The line that matched, cut to a bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<ByteString>,
    /// The line's stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
}

impl HookContext {
    /// Why the run ended, in one word: an exit's cause, `failed` or `lost`.
    #[must_use]
    pub fn cause(&self) -> Option<&'static str> {
        match self.end.as_ref()? {
            RunState::Ended { exit } => Some(exit.cause.as_str()),
            RunState::Failed { .. } => Some("failed"),
            RunState::Lost { .. } => Some("lost"),
            _ => None,
        }
    }
}

/// What a command of a hook inherits, also when the workload is gone by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HookOrigin {
    /// The workload's spec.
    pub spec: Arc<Spec>,
    /// Who it runs as.
    pub identity: Arc<Identity>,
}

/// Identifies a call: no run fires a hook twice.
pub type HookKey = (RunId, u8);

/// A hook that has fired and whose action is not done: kept until its outcome is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HookCall {
    /// Whose hook.
    pub run: RunId,
    /// Its number.
    pub hook: u8,
    /// Sequence number of its `hook.fired`, which the store gives; 0 before.
    #[serde(default)]
    pub sequence: u64,
    /// When it fired, wall clock, milliseconds.
    pub fired_at_ms: u64,
    /// The hook as it was then.
    pub definition: Hook,
    /// The workload as it stood then.
    pub subject: Subject,
    /// What was known then.
    #[serde(default)]
    pub context: HookContext,
    /// For commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Arc<HookOrigin>>,
}

impl HookCall {
    /// Which call.
    #[must_use]
    pub fn key(&self) -> HookKey {
        (self.run, self.hook)
    }
}

/// A run that is over and whose last output was not yet searched for the patterns of its `line` hooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LineTail {
    /// The run's number.
    pub run: u32,
    /// Numbers of its hooks that may still fire.
    pub hooks: Vec<u8>,
}

fn invalid(hook: usize, what: &str) -> Problem {
    Problem::new(ProblemKind::InvalidSpec, format!("hooks[{hook}] {what}"))
}

/// Headers that are set for every call, or that would break the request.
const RESERVED_HEADERS: [&str; 7] =
    ["connection", "content-length", "content-type", "host", "idempotency-key", "transfer-encoding", "user-agent"];

/// Everything about a spec's hooks that can be judged without looking at the machine.
pub(crate) fn check(spec: &Spec) -> Result<(), Problem> {
    if spec.hooks.len() > limits::HOOKS_MAX {
        let detail = format!("hooks has {} entries, more than {}", spec.hooks.len(), limits::HOOKS_MAX);
        return Err(Problem::new(ProblemKind::InvalidSpec, detail));
    }
    for (number, hook) in spec.hooks.iter().enumerate() {
        if hook.deadline_ms == 0 || hook.deadline_ms > limits::HOOK_DEADLINE_MAX_MS {
            return Err(invalid(number, "deadline_ms: must be above 0 and at most a day"));
        }
        if hook.attempts == 0 || hook.attempts > limits::HOOK_ATTEMPTS_MAX {
            return Err(invalid(number, &format!("attempts: must be from 1 to {}", limits::HOOK_ATTEMPTS_MAX)));
        }
        check_on(&hook.on, spec).map_err(|what| invalid(number, what))?;
        check_action(&hook.action, spec).map_err(|what| invalid(number, &what))?;
    }
    Ok(())
}

fn check_on(on: &HookOn, spec: &Spec) -> Result<(), &'static str> {
    match on {
        HookOn::Line { pattern, stream } => {
            if pattern.is_empty() || pattern.len() > limits::HOOK_PATTERN_MAX {
                return Err("on.line.pattern: must have from 1 to 1024 bytes");
            }
            let stdio = &spec.stdio;
            let out = stdio.stdout.is_none();
            // A terminal is one stream.
            let err = stdio.stderr.is_none() && stdio.tty.is_none();
            let heard = match stream {
                Some(LogStream::Stdout) => out,
                Some(LogStream::Stderr) => err,
                None => out || err,
            };
            if !heard {
                return Err("on.line: its output does not go to the log, so no line of it could ever match");
            }
            Ok(())
        }
        HookOn::Delay { after_ms } if *after_ms == 0 || *after_ms > limits::TIME_MAX_MS => {
            Err("on.delay.after_ms: must be above 0 and at most a year")
        }
        _ => Ok(()),
    }
}

fn check_action(action: &HookAction, spec: &Spec) -> Result<(), String> {
    match action {
        HookAction::Http { url, headers } => {
            HttpUrl::parse(url).map_err(|why| format!("action.http.url: {why}"))?;
            if headers.len() > limits::HOOK_HEADERS_MAX {
                return Err(format!("action.http.headers: has more than {} entries", limits::HOOK_HEADERS_MAX));
            }
            headers.iter().try_for_each(|(name, value)| check_header(name, value))
        }
        HookAction::Command { command, env } => {
            let total: usize = command.iter().chain(env).map(|text| text.as_bytes().len() + 9).sum();
            if total > limits::HOOK_COMMAND_MAX {
                return Err(format!("action.command: has more than {} bytes", limits::HOOK_COMMAND_MAX));
            }
            // The rules of any workload: what is refused there would fail here when it is too late.
            let mut job = Spec::new(command.clone());
            job.env.clone_from(env);
            job.check().map_err(|problem| format!("action.command: {}", problem.detail))
        }
        HookAction::Start { workload } if spec.name.as_ref() == Some(workload) => {
            Err("action.start: a workload that starts itself again is what restart is for".to_owned())
        }
        HookAction::Start { .. } => Ok(()),
    }
}

fn check_header(name: &str, value: &str) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let bound = limits::HOOK_HEADER_MAX;
    if name.is_empty() || name.len() + value.len() > bound || !name.bytes().all(is_token) {
        return Err(format!("action.http.headers: {name:?} is not a header of at most {bound} bytes"));
    }
    // Values can be secrets: they are not repeated in a message.
    if !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
        return Err(format!("action.http.headers: the value of {name} is not plain text"));
    }
    if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("action.http.headers: {name} is set by Hostler"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(hooks: &str, more: &str) -> Option<String> {
        let text = format!(r#"{{"command":["true"],"name":"me"{more},"hooks":{hooks}}}"#);
        match serde_json::from_str::<Spec>(&text) {
            Ok(spec) => spec.check().err().map(|problem| problem.detail),
            Err(error) => Some(error.to_string()),
        }
    }

    #[test]
    fn every_trigger_and_action_is_accepted_and_survives_json() {
        let hooks = r#"[
            {"on":"started","action":{"command":{"command":["true"],"env":["A=1"]}}},
            {"on":{"line":{"pattern":"^ready","stream":"stderr"}},"action":{"start":{"workload":"other"}}},
            {"on":{"delay":{"after_ms":5}},"action":{"http":{"url":"http://[::1]:80/x?y","headers":{"X-A":"b"}}}},
            {"on":"success","action":{"http":{"url":"https://example.org"}},"deadline_ms":1,"attempts":1},
            {"on":"failure","action":{"start":{"workload":"other"}}},
            {"on":"end","action":{"start":{"workload":"other"}}}]"#;
        assert_eq!(refusal(hooks, ""), None);
        let hooks: Vec<Hook> = serde_json::from_str(hooks).expect("parse");
        let again: Vec<Hook> = serde_json::from_str(&serde_json::to_string(&hooks).expect("print")).expect("parse");
        assert_eq!(hooks, again);
        assert_eq!((hooks[0].deadline_ms, hooks[0].attempts), (30_000, 3));
    }

    #[test]
    fn refuses_what_could_never_work() {
        let start = r#""action":{"start":{"workload":"x"}}"#;
        let http = |rest: &str| format!(r#"[{{"on":"end","action":{{"http":{{"url":{rest}}}}}}}]"#);
        let files = r#","stdio":{"stdout":"/a","stderr":"/b"}"#;
        let terminal = r#","stdio":{"tty":{"columns":1,"rows":1}}"#;
        let line = format!(r#"[{{"on":{{"line":{{"pattern":"x"}}}},{start}}}]"#);
        let stderr = format!(r#"[{{"on":{{"line":{{"pattern":"x","stream":"stderr"}}}},{start}}}]"#);
        let many = format!("[{}]", vec![format!(r#"{{"on":"end",{start}}}"#); 17].join(","));
        let cases = [
            (format!(r#"[{{"on":"ended",{start}}}]"#), "", "ended"),
            (format!(r#"[{{"on":{{"line":{{"pattern":""}}}},{start}}}]"#), "", "pattern"),
            (format!(r#"[{{"on":{{"delay":{{"after_ms":0}}}},{start}}}]"#), "", "after_ms"),
            (format!(r#"[{{"on":{{"delay":{{"after_ms":1,"x":1}}}},{start}}}]"#), "", "unknown field"),
            (format!(r#"[{{"on":"end","attempts":0,{start}}}]"#), "", "attempts"),
            (format!(r#"[{{"on":"end","deadline_ms":0,{start}}}]"#), "", "deadline_ms"),
            (r#"[{"on":"end","action":{"start":{"workload":"me"}}}]"#.to_owned(), "", "restart"),
            (r#"[{"on":"end","action":{"start":{"workload":"default/x"}}}]"#.to_owned(), "", "workload name"),
            (r#"[{"on":"end","action":{"command":{"command":[]}}}]"#.to_owned(), "", "command"),
            (http(r#""ftp://x""#), "", "http://"),
            (http(r#""http://u:p@x""#), "", "credentials"),
            (http(r#""http://x","headers":{"Host":"y"}"#), "", "set by Hostler"),
            (http(r#""http://x","headers":{"A b":"y"}"#), "", "not a header"),
            (http(r#""http://x","headers":{"A":"y\r\nB: c"}"#), "", "plain text"),
            (line, files, "log"),
            (stderr, terminal, "log"),
            (many, "", "16"),
        ];
        for (hooks, more, word) in cases {
            let refusal = refusal(&hooks, more).unwrap_or_else(|| panic!("{hooks} is accepted"));
            assert!(refusal.contains(word), "{refusal:?} does not name {word:?}");
        }
    }
}
