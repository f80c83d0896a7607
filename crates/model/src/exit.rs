//! How a run or an exec ended. A code and a signal are never confused, and the cause says *why*, not only *what*.

use serde::{Deserialize, Serialize};

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
    /// Resources used.
    #[serde(default)]
    pub usage: Usage,
}
