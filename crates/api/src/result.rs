//! What became of a workload, with the last of its output: `GET …/result`.

use std::collections::BTreeMap;

use hostler_model::exit::{ExitStatus, Usage};
use hostler_model::ids::WorkloadId;
use hostler_model::outcome::Outcome;
use hostler_model::statistics::Statistics;
use hostler_model::{ByteString, Namespace, RunId, WorkloadName};
use serde::{Deserialize, Serialize};

/// Query of `GET …/result`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ResultQuery {
    /// Where the reference is looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Last lines of each stream, count: 10 when absent, 1,000 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
}

/// The result of a workload: that of its last run. A workload that is live, or waits for another attempt, has none: the
/// question is answered with a `conflict` problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkloadResult {
    /// Its id.
    pub id: WorkloadId,
    /// Whose it is.
    pub namespace: Namespace,
    /// Its name.
    pub name: WorkloadName,
    /// What became of it, in one word.
    pub outcome: Outcome,
    /// Code or signal, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ExitStatus>,
    /// What a shell would return: the code, 128 + signal, 125 to 127 where there is neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// Why, in words, where there is neither code nor signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The run that this is the end of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Attempts, this one included.
    pub runs: u32,
    /// When it was accepted, wall clock, milliseconds.
    pub created_at_ms: u64,
    /// When the program was started, wall clock, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_ms: Option<u64>,
    /// When the program ended, wall clock, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<u64>,
    /// How long it ran, milliseconds: right even when the wall clock was set meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// What it used, as its parent was told at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Processes that the kernel killed for memory.
    #[serde(default)]
    pub oom_kills: u64,
    /// What the samples at `stats_interval_ms` came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<Statistics>,
    /// The spec's.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The spec's.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The end of its stdout.
    pub stdout: ResultStream,
    /// The end of its stderr.
    pub stderr: ResultStream,
}

/// The end of one stream of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResultStream {
    /// Lines of the run that are not among `lines`: those before them, also when the log no longer has them. `null` when
    /// nobody has counted, because the run was lost.
    pub left_out: Option<u64>,
    /// The last lines, oldest first.
    pub lines: Vec<ResultLine>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResultLine {
    /// When the agent read it, or its first part.
    pub time: String,
    /// Its bytes, without the newline, the first 4 KiB at most.
    pub text: ByteString,
    /// Bytes of it that are not shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut_bytes: u64,
}

fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}
