//! What someone wants run. A [`Spec`] is parsed once, checked once, and immutable once accepted.
//!
//! The spec says what was *asked*; what was resolved from it on this machine (numeric ids, the environment as
//! the program gets it) is in [`crate::launch`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bytes::ByteString;
use crate::container::Container;
use crate::error::{Problem, ProblemKind};
use crate::hook::{self, Hook};
use crate::ids::{QueueName, WorkloadName};
use crate::isolation::{self, Isolation};
use crate::limits;
pub use crate::resources::Limits;
use crate::schedule::Schedule;
use crate::seldom::{Seldom, shared};
use crate::units::Signal;
use crate::vm::{self, Vm};

/// A workload as it is asked for. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The program and its arguments; a program without a slash is looked up in the workload's `PATH`.
    pub command: Vec<ByteString>,
    /// Run it as an OCI container; as a process of this machine when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<Container>>,
    /// Run it as a microVM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<Box<Vm>>,
    /// Unique in the namespace; made from the program's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<WorkloadName>,
    /// `KEY=VALUE` entries, byte for byte, in this order; a later one wins over an earlier one of the same key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<ByteString>,
    /// Working directory, absolute; `/` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<ByteString>,
    /// `UID[:GID]` or `NAME[:GROUP]`; the caller when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The queue in which each of its starts waits for its turn; made when it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueName>,
    /// In the queue, a higher one goes first; from -1,000 to 1,000.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// When it is started again.
    #[serde(default)]
    pub restart: Seldom<Restart>,
    /// It comes back after every end, whatever the restart policy says, unless it is stopped by name; what is done to
    /// many at once leaves it out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
    /// When it runs by itself; without one it is started once, when it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Box<Schedule>>,
    /// How it is asked to stop.
    #[serde(default)]
    pub stop: Stop,
    /// What is done when something happens to a run.
    #[serde(default, skip_serializing_if = "Seldom::is_default")]
    pub hooks: Seldom<Vec<Hook>>,
    /// Longest time one run may take, milliseconds; then it is stopped with cause `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_time_ms: Option<u64>,
    /// Longest time from acceptance of a run to its started program, milliseconds.
    #[serde(default = "default_start_deadline_ms")]
    pub start_deadline_ms: u64,
    /// Limits of the run as a whole; any of them gives the run a cgroup of its own.
    #[serde(default, skip_serializing_if = "Seldom::is_default")]
    pub limits: Seldom<Limits>,
    /// Sample CPU, memory, swap and I/O of each run this often, milliseconds; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats_interval_ms: Option<u64>,
    /// Limits of each process (`setrlimit`).
    #[serde(default, skip_serializing_if = "Seldom::is_default")]
    pub rlimits: Seldom<Vec<Rlimit>>,
    /// Where stdin, stdout and stderr are connected.
    #[serde(default)]
    pub stdio: Seldom<Stdio>,
    /// Free `key: value` marks, for filters.
    #[serde(default, skip_serializing_if = "Seldom::is_default")]
    pub labels: Seldom<BTreeMap<String, String>>,
    /// Free words, for filters and for whoever reads the result.
    #[serde(default, skip_serializing_if = "Seldom::is_default")]
    pub tags: Seldom<Vec<String>>,
    /// Remove the workload and its log as soon as it has ended for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remove: bool,
    /// How much log is kept.
    #[serde(default)]
    pub log: Log,
    /// Forbid gaining privileges through set-uid programs. On unless root says otherwise.
    #[serde(default = "yes")]
    pub no_new_privileges: bool,
    /// Keep it apart from this machine; not when absent. Not for containers, which have their own ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Box<Isolation>>,
}

fn default_start_deadline_ms() -> u64 {
    limits::START_DEADLINE_MS
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

fn yes() -> bool {
    true
}

/// Whether a workload is started again after an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RestartWhen {
    /// One run, whatever its end.
    #[default]
    Never,
    /// After any end but success.
    OnFailure,
    /// After every end: a service.
    Always,
}

/// The restart policy. The delay before attempt n is `min(initial · 2ⁿ, max)`, of which a random half may be left off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// When.
    pub when: RestartWhen,
    /// Restarts in a row without a healthy run between, at most; unlimited when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// First delay, milliseconds.
    pub backoff_initial_ms: u64,
    /// Longest delay, milliseconds.
    pub backoff_max_ms: u64,
    /// A run that lived this long clears the count of attempts, milliseconds.
    pub healthy_after_ms: u64,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            when: RestartWhen::Never,
            max_attempts: None,
            backoff_initial_ms: limits::BACKOFF_INITIAL_MS,
            backoff_max_ms: limits::BACKOFF_MAX_MS,
            healthy_after_ms: limits::HEALTHY_AFTER_MS,
        }
    }
}

/// Stop escalation: `signal` to the main process, `grace_ms` later a kill of everything in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// The first signal.
    pub signal: Signal,
    /// Time to react to it, milliseconds.
    pub grace_ms: u64,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: Signal::TERM, grace_ms: limits::STOP_GRACE_MS }
    }
}

/// Which `setrlimit` resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are setrlimit(2)'s own")]
pub enum RlimitKind {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

impl RlimitKind {
    /// The resource of this name, in lower case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "as" => Self::As,
            "core" => Self::Core,
            "cpu" => Self::Cpu,
            "data" => Self::Data,
            "fsize" => Self::Fsize,
            "locks" => Self::Locks,
            "memlock" => Self::Memlock,
            "msgqueue" => Self::Msgqueue,
            "nice" => Self::Nice,
            "nofile" => Self::Nofile,
            "nproc" => Self::Nproc,
            "rss" => Self::Rss,
            "rtprio" => Self::Rtprio,
            "rttime" => Self::Rttime,
            "sigpending" => Self::Sigpending,
            "stack" => Self::Stack,
            _ => return None,
        })
    }
}

/// One `setrlimit`. Absent means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// Which.
    pub kind: RlimitKind,
    /// Soft limit, in the resource's own unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<u64>,
    /// Hard limit, in the resource's own unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard: Option<u64>,
}

/// Where a run's standard streams are connected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Stdio {
    /// Keep stdin open for `attach` and foreground runs; otherwise it is empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interactive: bool,
    /// Give the program a terminal; stdout and stderr become one stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<TtySize>,
    /// The caller will attach as the owner of the streams: output waits for him instead of being dropped.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub owner: bool,
    /// Read stdin from this file, opened as the workload's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<ByteString>,
    /// These bytes are stdin, then its end: for each run again. Of a workload that was accepted, only their number is
    /// shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin_data: Option<ByteString>,
    /// Append stdout to this file, opened as the workload's user, instead of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<ByteString>,
    /// Append stderr to this file, opened as the workload's user, instead of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<ByteString>,
}

shared!(Restart, Stdio, Limits, Vec<Rlimit>, Vec<Hook>, Vec<String>, BTreeMap<String, String>);

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TtySize {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

impl Default for TtySize {
    fn default() -> Self {
        Self { columns: 80, rows: 24 }
    }
}

/// How much log is kept: at most `segments` files of about `segment_bytes` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Size at which a segment is closed, bytes.
    pub segment_bytes: u64,
    /// Segments kept, the open one included.
    pub segments: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self { segment_bytes: limits::LOG_SEGMENT_DEFAULT, segments: limits::LOG_SEGMENTS_DEFAULT }
    }
}

pub(crate) fn invalid(field: &str, what: &str) -> Problem {
    Problem::new(ProblemKind::InvalidSpec, format!("{field} {what}"))
}

impl Spec {
    /// A spec of this command with every default.
    #[must_use]
    pub fn new(command: Vec<ByteString>) -> Self {
        Self {
            command,
            container: None,
            vm: None,
            name: None,
            env: Vec::new(),
            workdir: None,
            user: None,
            queue: None,
            priority: 0,
            restart: Seldom::default(),
            protected: false,
            schedule: None,
            stop: Stop::default(),
            hooks: Seldom::default(),
            max_time_ms: None,
            start_deadline_ms: limits::START_DEADLINE_MS,
            limits: Seldom::default(),
            stats_interval_ms: None,
            rlimits: Seldom::default(),
            stdio: Seldom::default(),
            labels: Seldom::default(),
            tags: Seldom::default(),
            remove: false,
            log: Log::default(),
            no_new_privileges: true,
            isolation: None,
        }
    }

    /// Everything about the spec that can be judged without looking at the machine.
    pub fn check(&self) -> Result<(), Problem> {
        if self.name.as_ref().is_some_and(|name| name.as_str().parse::<crate::ids::WorkloadId>().is_ok()) {
            return Err(invalid(
                "name",
                "looks like a workload id; take one that cannot be mistaken for another workload",
            ));
        }
        self.check_command()?;
        self.check_paths()?;
        crate::tags::check_labels(&self.labels)?;
        crate::tags::check(&self.tags)?;
        crate::statistics::check_interval(self.stats_interval_ms)?;
        self.check_schedule()?;
        self.limits.check()?;
        self.container.as_ref().map_or(Ok(()), |container| container.check())?;
        isolation::check(self)?;
        vm::check(self)?;
        hook::check(self)?;
        for rlimit in &self.rlimits {
            if rlimit.soft.unwrap_or(u64::MAX) > rlimit.hard.unwrap_or(u64::MAX) {
                return Err(invalid("rlimits", &format!("{:?}: the soft limit is above the hard one", rlimit.kind)));
            }
        }
        let times = [self.max_time_ms.unwrap_or(1), self.start_deadline_ms, self.stop.grace_ms.max(1)];
        if times.iter().any(|ms| *ms == 0 || *ms > limits::TIME_MAX_MS) {
            return Err(invalid("max_time_ms, start_deadline_ms, stop.grace_ms", "must be above 0 and at most a year"));
        }
        let restart = &self.restart;
        if restart.backoff_initial_ms < limits::BACKOFF_MIN_MS || restart.backoff_initial_ms > restart.backoff_max_ms {
            let what = format!("must be from {} to restart.backoff_max_ms", limits::BACKOFF_MIN_MS);
            return Err(invalid("restart.backoff_initial_ms", &what));
        }
        if restart.backoff_max_ms > limits::TIME_MAX_MS {
            return Err(invalid("restart.backoff_max_ms", "must be at most a year"));
        }
        if restart.when == RestartWhen::Never && restart.max_attempts.is_some() {
            return Err(invalid("restart.max_attempts", "has no effect when restart.when is never"));
        }
        let log_bytes = self.log.segment_bytes.saturating_mul(u64::from(self.log.segments));
        if self.log.segments == 0 || self.log.segment_bytes < 4_096 || log_bytes > limits::LOG_TOTAL_MAX {
            return Err(invalid(
                "log",
                "must keep at least 1 segment of at least 4096 bytes, and 64 GiB in all at most",
            ));
        }
        if self.queue.is_none() && self.priority != 0 {
            return Err(invalid("priority", "has no effect without a queue"));
        }
        if self.priority.unsigned_abs() > limits::QUEUE_PRIORITY_MAX.unsigned_abs() {
            return Err(invalid("priority", &format!("must be from -{0} to {0}", limits::QUEUE_PRIORITY_MAX)));
        }
        if self.protected && self.remove {
            return Err(invalid("remove", "has no effect on a protected workload: it never ends by itself"));
        }
        if self.remove && restart.when == RestartWhen::Always {
            return Err(invalid("remove", "has no effect with restart always: such a workload never ends by itself"));
        }
        self.check_stdio()
    }

    /// The bundle that says what is run, if it is one.
    #[must_use]
    pub fn bundle(&self) -> Option<&ByteString> {
        self.container.as_ref()?.bundle.as_ref()
    }

    fn check_command(&self) -> Result<(), Problem> {
        // A bundle says itself what is run, unless the spec does; a guest without an agent, always.
        let has_its_own = self.bundle().is_some() || self.vm.as_ref().is_some_and(|vm| vm.no_agent);
        let may_be_absent = self.command.is_empty() && has_its_own;
        if !may_be_absent && self.command.first().is_none_or(|program| program.as_bytes().is_empty()) {
            return Err(invalid("command", "must name a program"));
        }
        if self.command.len() > limits::ARGUMENTS_MAX {
            return Err(Problem::new(
                ProblemKind::ArgumentsTooLong,
                format!("command has {} arguments, more than {}", self.command.len(), limits::ARGUMENTS_MAX),
            ));
        }
        if self.env.len() > limits::ENVIRONMENT_MAX {
            return Err(invalid("env", &format!("has more than {} entries", limits::ENVIRONMENT_MAX)));
        }
        for entry in &self.env {
            if !entry.as_bytes().iter().skip(1).any(|byte| *byte == b'=') || entry.as_bytes()[0] == b'=' {
                return Err(invalid("env", &format!("entry {:?} is not KEY=VALUE", shorten(entry))));
            }
        }
        let mut total = 0;
        for text in self.command.iter().chain(&self.env) {
            if text.contains_nul() {
                return Err(invalid("command, env", "must not contain a NUL byte"));
            }
            if text.as_bytes().len() > limits::ARGUMENT_LENGTH_MAX {
                return Err(Problem::new(
                    ProblemKind::ArgumentsTooLong,
                    format!(
                        "one argument or environment entry has {} bytes; Linux takes at most {}",
                        text.as_bytes().len(),
                        limits::ARGUMENT_LENGTH_MAX
                    ),
                ));
            }
            total += text.as_bytes().len() + 9;
        }
        if total > limits::ARGUMENTS_TOTAL_MAX {
            return Err(Problem::new(
                ProblemKind::ArgumentsTooLong,
                format!(
                    "command and env take {total} bytes together, more than {}; pass large data through stdin or a file",
                    limits::ARGUMENTS_TOTAL_MAX
                ),
            ));
        }
        Ok(())
    }

    fn check_schedule(&self) -> Result<(), Problem> {
        let Some(schedule) = &self.schedule else { return Ok(()) };
        schedule.check()?;
        if self.restart.when == RestartWhen::Always {
            return Err(invalid(
                "restart.when",
                "cannot be always with a schedule: a run would never make room for the next",
            ));
        }
        if self.protected {
            return Err(invalid(
                "protected",
                "cannot be set with a schedule: a run would never make room for the next",
            ));
        }
        if self.remove {
            return Err(invalid("remove", "has no effect with a schedule: such a workload never ends by itself"));
        }
        if self.stdio.owner {
            return Err(invalid(
                "stdio.owner",
                "cannot be set with a schedule: nobody is there to own each of its runs",
            ));
        }
        Ok(())
    }

    fn check_paths(&self) -> Result<(), Problem> {
        let paths = [
            ("workdir", &self.workdir),
            ("stdio.stdin", &self.stdio.stdin),
            ("stdio.stdout", &self.stdio.stdout),
            ("stdio.stderr", &self.stdio.stderr),
        ];
        for (field, path) in paths {
            let Some(path) = path else { continue };
            if path.as_bytes().first() != Some(&b'/') {
                return Err(invalid(field, &format!("{:?} must be an absolute path", shorten(path))));
            }
            if path.contains_nul() || path.as_bytes().len() > limits::PATH_LENGTH_MAX {
                return Err(invalid(
                    field,
                    &format!("must have no NUL byte and at most {} bytes", limits::PATH_LENGTH_MAX),
                ));
            }
        }
        Ok(())
    }

    fn check_stdio(&self) -> Result<(), Problem> {
        let stdio = &self.stdio;
        if stdio.interactive && stdio.stdin.is_some() {
            return Err(invalid("stdio.stdin", "cannot be a file when stdio.interactive is set"));
        }
        if let Some(data) = &stdio.stdin_data {
            if stdio.interactive || stdio.tty.is_some() || stdio.stdin.is_some() {
                let what = "cannot be combined with stdio.interactive, stdio.tty or stdio.stdin";
                return Err(invalid("stdio.stdin_data", what));
            }
            if data.as_bytes().len() > limits::STDIN_DATA_MAX {
                let what = format!("has more than {} bytes; name a file in stdio.stdin", limits::STDIN_DATA_MAX);
                return Err(invalid("stdio.stdin_data", &what));
            }
        }
        if stdio.tty.is_some() && (stdio.stdin.is_some() || stdio.stdout.is_some() || stdio.stderr.is_some()) {
            return Err(invalid("stdio.tty", "cannot be combined with files for stdin, stdout or stderr"));
        }
        Ok(())
    }
}

fn shorten(text: &ByteString) -> String {
    text.to_string_lossy().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<(), String> {
        let spec: Spec = serde_json::from_str(json).map_err(|error| error.to_string())?;
        spec.check().map_err(|problem| problem.detail)
    }

    #[test]
    fn accepts_the_minimum_and_survives_json() {
        let spec: Spec = serde_json::from_str(r#"{"command":["true"]}"#).expect("parse");
        spec.check().expect("valid");
        let again: Spec = serde_json::from_str(&serde_json::to_string(&spec).expect("print")).expect("parse");
        assert_eq!(spec, again);
        assert_eq!(spec, Spec::new(vec!["true".into()]));
    }

    #[test]
    fn refuses_with_the_field_named() {
        let long = format!(r#"{{"command":["true","{}"]}}"#, "x".repeat(200_000));
        let much = format!(r#"{{"command":["cat"],"stdio":{{"stdin_data":"{}"}}}}"#, "x".repeat(262_145));
        let cases = [
            (r#"{"command":[]}"#, "command"),
            (r#"{"command":[""]}"#, "command"),
            (r#"{"command":["a\u0000b"]}"#, "NUL"),
            (r#"{"command":["true"],"colour":1}"#, "colour"),
            (r#"{"command":["true"],"env":["=x"]}"#, "KEY=VALUE"),
            (r#"{"command":["true"],"env":["x"]}"#, "KEY=VALUE"),
            (r#"{"command":["true"],"workdir":"tmp"}"#, "workdir"),
            (r#"{"command":["true"],"name":"../x"}"#, "name"),
            (r#"{"command":["true"],"limits":{"pids":0}}"#, "pids"),
            (r#"{"command":["true"],"limits":{"memory_bytes":4096}}"#, "memory"),
            (r#"{"command":["true"],"restart":{"max_attempts":3}}"#, "no effect"),
            (r#"{"command":["true"],"rlimits":[{"kind":"nofile","soft":5,"hard":4}]}"#, "soft"),
            (r#"{"command":["true"],"stdio":{"tty":{"columns":1,"rows":1},"stdout":"/x"}}"#, "tty"),
            (r#"{"command":["true"],"stdio":{"stdin_data":"x","interactive":true}}"#, "stdin_data"),
            (r#"{"command":["true"],"stdio":{"stdin_data":"x","stdin":"/x"}}"#, "stdin_data"),
            (r#"{"command":["true"],"stdio":{"stdin_data":"x","tty":{"columns":1,"rows":1}}}"#, "stdin_data"),
            (much.as_str(), "262144"),
            (r#"{"command":["true"],"tags":["a","a"]}"#, "twice"),
            (r#"{"command":["true"],"stats_interval_ms":99}"#, "at least 100"),
            (r#"{"command":["true"],"remove":true,"restart":{"when":"always"}}"#, "remove"),
            (r#"{"command":["true"],"schedule":{}}"#, "every_ms or cron"),
            (r#"{"command":["true"],"schedule":{"every_ms":1000,"at":5}}"#, "at"),
            (r#"{"command":["true"],"schedule":{"every_ms":1000},"remove":true}"#, "remove"),
            (r#"{"command":["true"],"schedule":{"every_ms":1000},"restart":{"when":"always"}}"#, "restart.when"),
            (r#"{"command":["true"],"schedule":{"every_ms":1000},"stdio":{"owner":true}}"#, "stdio.owner"),
            (r#"{"command":["true"],"isolation":{"hidden":["/"]}}"#, "isolation.hidden"),
            (r#"{"command":["true"],"isolation":{},"no_new_privileges":false}"#, "no_new_privileges"),
            (r#"{"command":["true"],"isolation":{},"container":{"rootfs":"/r"}}"#, "container"),
            (long.as_str(), "131071"),
        ];
        for (json, word) in cases {
            let error = check(json).expect_err(json);
            assert!(error.contains(word), "{error:?} does not name {word:?}");
        }
    }
}
