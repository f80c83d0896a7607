//! Request and response bodies. Times are wall-clock milliseconds since the Unix epoch, sizes are bytes.

use std::sync::Arc;

use hostler_model::accounting::Accounting;
use hostler_model::error::ProblemDocument;
use hostler_model::ids::{ExecId, NodeTag, QueueName, StoreId, WorkloadId, WorkloadName};
pub use hostler_model::log_stream::LogStream;
use hostler_model::network::RunNetwork;
use hostler_model::queue::QueueRecord;
use hostler_model::spec::{Limits, Rlimit, TtySize};
use hostler_model::statistics::Used;
use hostler_model::units::Signal;
use hostler_model::workload::{Phase, Workload};
use hostler_model::{ByteString, Namespace, Spec};
use serde::{Deserialize, Serialize};

/// `POST /v1/workloads`: the spec is the body. These are its query parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CreateQuery {
    /// Whose workload; the caller's own namespace when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Answer at once (`accepted`, the default), when the program runs, or when it has ended for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitFor>,
}

/// What a program is given to read may be a secret: it is not shown again.
pub fn hide_stdin(spec: &mut Spec) {
    if spec.stdio.stdin_data.is_some() {
        spec.stdio.stdin_data = None;
    }
}

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// The acceptance is on disk.
    Accepted,
    /// The program runs, or the start failed.
    Started,
    /// No run is live, and none will come by itself, or only by the schedule.
    Ended,
}

/// Query of `GET /v1/workloads`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ListQuery {
    /// Whose workloads; the caller's own namespace when absent. `*` is every namespace, for the node's owner only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Those at rest too.
    pub all: bool,
    /// `name=…` (a `*` at its end matches any rest), `phase=…`, `label=key`, `label=key=value` or `tag=…`; several, separated
    /// by commas, must all match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// A namespace as the only query.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NamespaceQuery {
    /// Where the reference is looked up; the caller's own namespace when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
}

/// A workload as readers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkloadView {
    /// Where it stands, in one word.
    pub phase: Phase,
    /// What a shell would return, once the last run has ended: the code, 128 + signal, 125–127 for start failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// Where it stands in its queue, while it waits there; only where one workload is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<QueuePlace>,
    /// How many bytes of stdin came with the spec: they are kept for its runs, and not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_data_bytes: Option<u64>,
    /// Its place in its network, while a run of it is live; only where workloads are shown or listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<RunNetwork>,
    /// Everything else.
    #[serde(flatten)]
    pub workload: Arc<Workload>,
}

/// Where a job stands in its queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueuePlace {
    /// Which queue.
    pub queue: QueueName,
    /// From 1: the next one.
    pub position: u64,
    /// How long it has waited so far, milliseconds.
    pub waited_ms: u64,
}

impl From<Arc<Workload>> for WorkloadView {
    fn from(mut workload: Arc<Workload>) -> Self {
        let exit_code = workload.run.as_ref().and_then(|run| run.state.shell_code());
        let stdin_data_bytes = workload.spec.stdio.stdin_data.as_ref().map(|data| data.as_bytes().len() as u64);
        if stdin_data_bytes.is_some() {
            let shown = Arc::make_mut(&mut workload);
            hide_stdin(Arc::make_mut(&mut shown.spec));
        }
        Self { phase: workload.phase(), exit_code, place: None, stdin_data_bytes, network: None, workload }
    }
}

/// Body of `GET /v1/workloads`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkloadList {
    /// Newest first.
    pub workloads: Vec<WorkloadView>,
}

/// Body of `GET /v1/queues`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueueList {
    /// By namespace and name.
    pub queues: Vec<QueueView>,
}

/// A queue as readers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueueView {
    /// What is kept of it.
    #[serde(flatten)]
    pub queue: QueueRecord,
    /// Jobs that wait.
    pub waiting: u64,
    /// Jobs under way: from their turn to their result.
    pub running: u64,
    /// The first of those that wait, in their order; only where one queue is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<QueuedJob>,
}

/// A job that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueuedJob {
    /// From 1: the next one.
    pub position: u64,
    /// Its id.
    pub id: WorkloadId,
    /// Its name.
    pub name: WorkloadName,
    /// Its priority.
    pub priority: i32,
    /// How long it has waited so far, milliseconds.
    pub waited_ms: u64,
    /// Its command.
    pub command: Vec<ByteString>,
}

/// Query of `GET /v1/queues/{queue}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct QueueQuery {
    /// Whose queue; the caller's own namespace when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Waiting jobs to show; 100 when absent, at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Query of `GET /v1/queues`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct QueuesQuery {
    /// Whose queues; the caller's own namespace when absent. `*` is every namespace, for the node's owner only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Query of `DELETE /v1/queues/{queue}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct QueueRemoveQuery {
    /// Whose queue; the caller's own namespace when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Cancel the jobs that wait in it.
    pub force: bool,
}

/// Answer of `POST /v1/workloads/batch`, whose body is a list of specs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BatchReport {
    /// One for each spec, in the same order.
    pub results: Vec<BatchResult>,
}

/// What became of one workload of a batch: it has an id and a name, or a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BatchResult {
    /// The workload that was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<WorkloadId>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<WorkloadName>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemDocument>,
}

/// Body of `POST /v1/workloads/bulk`: one thing done to many. What is protected is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BulkRequest {
    /// What is done.
    pub action: BulkAction,
    /// For `kill`; `KILL` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// For `remove`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// To which: a filter as of `GET /v1/workloads`; all of the namespace when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// What is done to many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BulkAction {
    /// Stop, and keep stopped; those that wait in a queue are cancelled.
    Stop,
    /// Send a signal to those that run.
    Kill,
    /// Forget what is not live; with `force` kill what is live first.
    Remove,
}

/// Answer of `POST /v1/workloads/bulk`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BulkReport {
    /// It was asked of these.
    pub done: Vec<WorkloadId>,
    /// These are protected, and were left out.
    pub protected: Vec<WorkloadId>,
}

/// Body of `POST …/stop` and `POST …/restart`; all optional.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct StopRequest {
    /// Instead of the spec's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// Instead of the spec's, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
}

/// Body of `POST …/kill`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KillRequest {
    /// The signal; `KILL` when absent.
    #[serde(default = "default_kill")]
    pub signal: Signal,
    /// To this exec instead of the main process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecId>,
    /// To this one of its processes instead, by its pid on the machine, as `…/processes` lists them. Not with `exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

fn default_kill() -> Signal {
    Signal::KILL
}

/// Body of `PATCH …`: the limits to change; those absent stay.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct UpdateRequest {
    /// What changes.
    pub limits: Limits,
}

/// Query of `DELETE …`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RemoveQuery {
    /// Where the reference is looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Stop it first if it is live.
    pub force: bool,
}

/// Query of `GET …/wait`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct WaitQuery {
    /// Where the reference is looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// What to wait for; `ended` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<WaitFor>,
    /// Answer `504` after this time, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Query of `GET …/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LogsQuery {
    /// Where the reference is looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Go on with new lines until the workload is at rest.
    pub follow: bool,
    /// Only the last lines, count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<u64>,
    /// Only lines from this time on, wall clock, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// `stdout` or `stderr`; both when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
}

/// Query of `GET /v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct EventsQuery {
    /// Whose events; the caller's own namespace when absent; `*` is every namespace and the node's own events, for
    /// the node's owner only (and his default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// From this event id on (exclusive), or from this time on (milliseconds since the epoch); from now on when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Up to this time, milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// `type=…` (a `*` at its end matches any rest), `workload=<name or id prefix>`; several, separated by commas,
    /// must all match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// End after the events that are there now; without `since`: all that are kept.
    pub no_follow: bool,
}

/// Query of `GET …/stats`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct StatsQuery {
    /// Where the reference is looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Once a second as server-sent events, until the workload is at rest.
    pub follow: bool,
    /// With the samples that are kept of a workload with `stats_interval_ms`; also when it has ended.
    pub history: bool,
}

/// Resources in use now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stats {
    /// When measured, wall clock, milliseconds.
    pub time_ms: u64,
    /// CPU time used so far by the run, microseconds.
    pub cpu_us: u64,
    /// Memory in use, bytes.
    pub memory_bytes: u64,
    /// The memory limit in force, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Processes; with limits, processes and threads.
    pub pids: u32,
    /// The limit on them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u64>,
    /// Bytes read from storage so far, where the kernel tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    /// Bytes written to storage so far, where the kernel tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
    /// Sum of the resident memory of its processes, bytes; pages that they share are counted for each.
    #[serde(default)]
    pub rss_bytes: u64,
    /// Swapped out, bytes.
    #[serde(default)]
    pub swap_bytes: u64,
    /// Output that could not be logged, bytes.
    pub log_dropped_bytes: u64,
    /// Everything that the kernel accounts for it; of one workload only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounting: Option<Box<Accounting>>,
    /// With `history`: the newest samples, oldest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Vec<Sample>>,
}

/// One look at the resources of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sample {
    /// When, wall clock, milliseconds.
    pub time_ms: u64,
    /// Which run of the workload, from 1; totals begin at 0 with each.
    pub run: u32,
    /// Processes.
    pub pids: u32,
    /// Memory in use, bytes: with limits also what the kernel caches for it.
    pub memory_bytes: u64,
    /// What it uses, and has used so far.
    #[serde(flatten)]
    pub used: Used,
}

/// First message of an exec stream: what to run inside the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<ByteString>,
    /// On top of the workload's environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<ByteString>,
    /// Instead of the workload's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<ByteString>,
    /// Instead of the workload's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Instead of the workload's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Keep stdin open.
    #[serde(default)]
    pub interactive: bool,
    /// Give it a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<TtySize>,
}

/// Body of `GET /v1/node`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeInfo {
    /// The daemon's version.
    pub version: String,
    /// The store's id: the node's identity.
    pub store: StoreId,
    /// Mark in every machine-global name of this node.
    pub tag: NodeTag,
    /// The daemon's process.
    pub pid: u32,
    /// When the daemon started, wall clock, milliseconds.
    pub started_at_ms: u64,
    /// Directory of the store, logs and runs.
    pub data_directory: ByteString,
    /// Whether new work is refused because somebody said so.
    pub lame_duck: bool,
    /// Whether new work is refused because there is less free space than `node.free_space_min_bytes`.
    #[serde(default)]
    pub disk_full: bool,
    /// Whether the daemon runs as root.
    pub privileged: bool,
    /// Workloads by phase.
    pub workloads: std::collections::BTreeMap<String, u32>,
    /// Agents waiting for work.
    pub idle_agents: u32,
    /// Free bytes where the data is.
    pub free_bytes: u64,
    /// Cores.
    pub cpus: u32,
    /// The machine's memory, bytes.
    pub memory_total_bytes: u64,
    /// Of it available, bytes.
    pub memory_available_bytes: u64,
    /// Id of the newest event.
    pub last_event: String,
}

/// Body of `POST /v1/node/lame-duck`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LameDuckRequest {
    /// On or off.
    pub lame_duck: bool,
}

/// Body of `POST /v1/node/down`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DownRequest {
    /// Stop every workload first; otherwise they go on without a daemon.
    pub stop_workloads: bool,
}

/// Answer of `POST /v1/node/down`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DownReport {
    /// Runs that were stopped.
    pub stopped: u32,
    /// Runs that go on.
    pub left_running: u32,
}

/// Body of `GET /v1/node/doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DoctorReport {
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// One thing the machine can or cannot do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Check {
    /// What.
    pub name: String,
    /// How it stands.
    pub status: CheckStatus,
    /// What was found.
    pub detail: String,
    /// How to mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// Works.
    Ok,
    /// Works with a restriction.
    Limited,
    /// Does not work.
    Missing,
}
