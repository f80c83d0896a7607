//! How it is found out that a unit is ready, or still alive: with every value parsed.

use serde::{Deserialize, Serialize};

use crate::ByteString;

/// One question to a run, asked from outside of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// This address takes a connection.
    Tcp {
        /// Name or number.
        host: String,
        /// Port.
        port: u16,
    },
    /// This page answers with a status from 200 to 399.
    Http {
        /// Name or number.
        host: String,
        /// Port.
        port: u16,
        /// Path and query, beginning with a slash.
        path: String,
    },
    /// This command, run inside the run, succeeds.
    Exec {
        /// Program and arguments.
        command: Vec<ByteString>,
    },
}

/// A probe with its times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TimedProbe {
    /// The question.
    pub probe: Probe,
    /// Between two of them, milliseconds.
    pub interval_ms: u64,
    /// Longest time one may take, milliseconds.
    pub timeout_ms: u64,
}

/// What makes a service ready.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReadyWhen {
    /// Its program runs.
    #[default]
    Started,
    /// It has run for so long.
    Delay {
        /// How long, milliseconds.
        delay_ms: u64,
    },
    /// A line of its output matches.
    Match {
        /// A regular expression.
        pattern: String,
    },
    /// The probe succeeds.
    Probe(TimedProbe),
    /// It has ended with success: a job.
    Success,
}

/// When a unit is ready, and by when it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Readiness {
    /// What makes it ready.
    pub when: ReadyWhen,
    /// Longest time from its start until then, milliseconds. Jobs have none: `max_time` bounds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// How it is found out that a service is dead though it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Liveness {
    /// The question and its times.
    #[serde(flatten)]
    pub probe: TimedProbe,
    /// Failures in a row that make it dead.
    pub failures: u32,
}
