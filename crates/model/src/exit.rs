//! How a run or an exec ended. A code and a signal are never confused, and the cause says *why*, not only *what*.

use serde::{Deserialize, Serialize};

use crate::statistics::Statistics;
use crate::units::Signal;

/// What `wait` reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// The program returned this code, 0 to 255.
    Code(u8),
    /// The program was ended by this signal.
    Signal(Signal),
}

impl ExitStatus {
    /// The shell's convention: the code, or 128 + the signal's number.
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128u8.saturating_add(signal.number()),
        }
    }

    /// Code 0 and nothing else.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Code 0.
    Success,
    /// Any other code.
    Error,
    /// A signal that nobody asked us to send.
    Signal,
    /// It ran longer than `max_time`.
    Timeout,
    /// A signal that we sent because someone asked: `stop`, `kill`, `rm -f`, shutdown.
    Killed,
    /// The kernel killed it for its memory limit.
    Oom,
    /// Its virtual machine ended under it.
    Machine,
}

impl Cause {
    /// The word as JSON and people see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Signal => "signal",
            Self::Timeout => "timeout",
            Self::Killed => "killed",
            Self::Oom => "oom",
            Self::Machine => "machine",
        }
    }
}

/// What a run used, from `wait4` and its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Usage {
    /// CPU time in user mode, microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, microseconds.
    pub system_us: u64,
    /// Largest resident set of any one process, bytes.
    pub max_rss_bytes: u64,
}

/// A place in a workload's log: the number of a segment, and an offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogPlace {
    /// Number of the segment.
    pub segment: u32,
    /// Where in it, bytes.
    pub offset: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The end of a run or an exec that was started: exactly one for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Exit {
    /// Code or signal.
    pub status: ExitStatus,
    /// Why.
    pub cause: Cause,
    /// Whether a core was dumped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub core_dumped: bool,
    /// How many processes of the run the kernel killed for memory.
    #[serde(default)]
    pub oom_kills: u64,
    /// When `execve` succeeded, wall clock, milliseconds.
    pub started_at_ms: u64,
    /// When the main process was reaped, wall clock, milliseconds.
    pub ended_at_ms: u64,
    /// How long it ran by the boot clock, milliseconds: right even when the wall clock was set meanwhile.
    pub duration_ms: u64,
    /// What else is known of it, for people: the last words of a virtual machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Box<str>>,
    /// Resources used.
    #[serde(default)]
    pub usage: Usage,
    /// Lines that the log took from stdout, a last one without newline included; 0 for an exec, which is not logged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stdout_lines: u64,
    /// The same of stderr.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stderr_lines: u64,
    /// Where the run's part of the log begins; absent when it wrote nothing there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_from: Option<LogPlace>,
    /// What the samples at `stats_interval_ms` came to; absent when none was taken. Boxed: most ends have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<Box<Statistics>>,
}

impl Exit {
    /// Whether nothing of the run was written to the log, or tried to be.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.log_from.is_none() && self.stdout_lines == 0 && self.stderr_lines == 0
    }

    /// An end of which no more is known than how and when, wall clock, milliseconds.
    #[must_use]
    pub fn new(status: ExitStatus, cause: Cause, started_at_ms: u64, ended_at_ms: u64) -> Self {
        Self {
            status,
            cause,
            core_dumped: false,
            oom_kills: 0,
            started_at_ms,
            ended_at_ms,
            duration_ms: ended_at_ms.saturating_sub(started_at_ms),
            note: None,
            usage: Usage::default(),
            stdout_lines: 0,
            stderr_lines: 0,
            log_from: None,
            statistics: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_older_agents_are_read_and_what_is_not_there_costs_nothing() {
        let older = r#"{"status":{"code":0},"cause":"success","started_at_ms":1,"ended_at_ms":2,"duration_ms":1}"#;
        let exit: Exit = serde_json::from_str(older).expect("an exit");
        assert_eq!((exit.stdout_lines, exit.stderr_lines, exit.log_from, &exit.statistics), (0, 0, None, &None));
        let json = serde_json::to_string(&exit).expect("print");
        for key in ["stdout_lines", "stderr_lines", "log_from", "statistics"] {
            assert!(!json.contains(key), "{json}");
        }
        let full = Exit {
            stdout_lines: 7,
            log_from: Some(LogPlace { segment: 2, offset: 3 }),
            statistics: Some(Box::new(Statistics { samples: 1, ..Statistics::default() })),
            ..exit
        };
        let json = serde_json::to_string(&full).expect("print");
        assert_eq!(serde_json::from_str::<Exit>(&json).expect("an exit"), full);
    }
}
