//! The result of a workload in one word, and when it has one.

use serde::{Deserialize, Serialize};

use crate::exit::Cause;
use crate::workload::{Desired, RunState, StartFailureKind, Workload};

/// What became of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Code 0.
    Success,
    /// Any other code.
    Error,
    /// A signal that nobody asked us to send.
    Signal,
    /// It ran longer than its `max_time`.
    Timeout,
    /// It was stopped or killed because someone asked.
    Killed,
    /// The kernel killed it for its memory limit.
    Oom,
    /// Its virtual machine ended under it.
    Machine,
    /// It could not be started.
    Failed,
    /// Nobody knows how it ended.
    Lost,
    /// It was taken back before it was started.
    Cancelled,
}

impl Outcome {
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
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
        }
    }

    /// The outcome of a run; `None` while it is live.
    #[must_use]
    pub fn of_run(state: &RunState) -> Option<Self> {
        Some(match state {
            RunState::Ended { exit } => match exit.cause {
                Cause::Success => Self::Success,
                Cause::Error => Self::Error,
                Cause::Signal => Self::Signal,
                Cause::Timeout => Self::Timeout,
                Cause::Killed => Self::Killed,
                Cause::Oom => Self::Oom,
                Cause::Machine => Self::Machine,
            },
            RunState::Failed { failure } if failure.kind == StartFailureKind::Cancelled => Self::Cancelled,
            RunState::Failed { .. } => Self::Failed,
            RunState::Lost { .. } => Self::Lost,
            RunState::Preparing { .. } | RunState::Running | RunState::Stopping { .. } => return None,
        })
    }
}

impl Workload {
    /// What became of it: that of its last run, unless that is live or another attempt is waiting for its time.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.run {
            _ if self.restart_at_boot_ms.is_some() || self.queued.is_some() => None,
            Some(run) => Outcome::of_run(&run.state),
            // Accepted, and stopped before it had a run.
            None => (self.desired != Desired::Run).then_some(Outcome::Cancelled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(run: &str, more: &str) -> Workload {
        let json = format!(
            r#"{{"id":"00ff1234abcd","namespace":"default","name":"x","generation":1,"spec":{{"command":["true"]}},
            "identity":{{"uid":0,"gid":0}},"limits":{{}},"desired":"run","created_at_ms":0,"runs":1{more}{run}}}"#
        );
        serde_json::from_str(&json).expect("a workload")
    }

    fn run(state: &str) -> String {
        format!(r#","run":{{"id":"00ff1234abcd-1","created_at_ms":0,{state}}}"#)
    }

    fn ended(status: &str, cause: &str) -> String {
        let times = r#""started_at_ms":0,"ended_at_ms":1,"duration_ms":1"#;
        run(&format!(r#""state":"ended","exit":{{"status":{status},"cause":"{cause}",{times}}}"#))
    }

    #[test]
    fn one_word_for_each_end_and_none_before_it() {
        let failed = |kind| run(&format!(r#""state":"failed","failure":{{"kind":"{kind}","message":""}}"#));
        let cases = [
            (ended(r#"{"code":0}"#, "success"), Some("success")),
            (ended(r#"{"code":3}"#, "error"), Some("error")),
            (ended(r#"{"signal":"SEGV"}"#, "signal"), Some("signal")),
            (ended(r#"{"signal":"TERM"}"#, "timeout"), Some("timeout")),
            (ended(r#"{"signal":"TERM"}"#, "killed"), Some("killed")),
            (ended(r#"{"signal":"KILL"}"#, "oom"), Some("oom")),
            (ended(r#"{"signal":"KILL"}"#, "machine"), Some("machine")),
            (failed("command_not_found"), Some("failed")),
            (failed("cancelled"), Some("cancelled")),
            (run(r#""state":"lost","reason":"reboot""#), Some("lost")),
            (run(r#""state":"running""#), None),
            (run(r#""state":"stopping""#), None),
            (String::new(), None),
        ];
        for (run, expected) in cases {
            let workload = workload(&run, "");
            assert_eq!(workload.outcome().map(Outcome::as_str), expected, "{run}");
            if let Some(outcome) = workload.outcome() {
                assert_eq!(serde_json::to_value(outcome).expect("print"), outcome.as_str());
            }
        }
        assert_eq!(workload(&ended(r#"{"code":3}"#, "error"), r#","restart_at_boot_ms":7"#).outcome(), None);
    }
}
