//! Every path of the interface, in one table. The daemon's router is tested against it, and the OpenAPI document
//! is made from it. `{ref}` is a workload's name, its id, or a unique prefix of its id; below `/v1/stacks`, a stack's name.

/// HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are HTTP's own")]
pub enum Method {
    Get,
    Post,
    Patch,
    Put,
    Delete,
}

/// How the answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// One JSON body of this type.
    Json(&'static str),
    /// Server-sent events whose data is of this type.
    Events(&'static str),
    /// One JSON body, or server-sent events with `follow`.
    JsonOrEvents(&'static str),
    /// A WebSocket, see [`crate::stream`].
    WebSocket,
    /// Plain text.
    Text,
}

/// One path and method.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The path, with `{ref}` parts.
    pub path: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Type of the query, by schema name.
    pub query: Option<&'static str>,
    /// Type of the body, by schema name.
    pub body: Option<&'static str>,
    /// Status of success.
    pub status: u16,
    /// What success answers with.
    pub answer: Answer,
}

const fn endpoint(
    method: Method,
    path: &'static str,
    summary: &'static str,
    query: Option<&'static str>,
    body: Option<&'static str>,
    status: u16,
    answer: Answer,
) -> Endpoint {
    Endpoint { method, path, summary, query, body, status, answer }
}

/// The table.
#[rustfmt::skip]
pub const ENDPOINTS: &[Endpoint] = &[
    endpoint(Method::Get, "/healthz", "Whether the node is ready", None, None, 200, Answer::Text),
    endpoint(Method::Get, "/metrics", "Metrics in the OpenMetrics text format", None, None, 200, Answer::Text),
    endpoint(Method::Get, "/v1/openapi.json", "This document", None, None, 200, Answer::Json("OpenApi")),
    endpoint(Method::Get, "/v1/node", "What the node is and how it stands", None, None, 200, Answer::Json("NodeInfo")),
    endpoint(Method::Get, "/v1/node/doctor", "What this machine can and cannot do", None, None, 200, Answer::Json("DoctorReport")),
    endpoint(Method::Post, "/v1/node/lame-duck", "Take no new work, or take work again", None, Some("LameDuckRequest"), 200, Answer::Json("NodeInfo")),
    endpoint(Method::Post, "/v1/node/down", "Stop the daemon", None, Some("DownRequest"), 200, Answer::Json("DownReport")),
    endpoint(Method::Get, "/v1/events", "Follow events; resumable by Last-Event-ID", Some("EventsQuery"), None, 200, Answer::Events("EventView")),
    endpoint(Method::Get, "/v1/workloads", "List workloads", Some("ListQuery"), None, 200, Answer::Json("WorkloadList")),
    endpoint(Method::Post, "/v1/workloads", "Create and start a workload; Idempotency-Key makes it happen once", Some("CreateQuery"), Some("Spec"), 201, Answer::Json("WorkloadView")),
    endpoint(Method::Post, "/v1/workloads/batch", "Create many workloads, in order; each is accepted or refused for itself", Some("NamespaceQuery"), Some("Specs"), 200, Answer::Json("BatchReport")),
    endpoint(Method::Post, "/v1/workloads/bulk", "Stop, kill or remove many; what is protected is left out", Some("NamespaceQuery"), Some("BulkRequest"), 200, Answer::Json("BulkReport")),
    endpoint(Method::Get, "/v1/workloads/{ref}", "One workload", Some("NamespaceQuery"), None, 200, Answer::Json("WorkloadView")),
    endpoint(Method::Patch, "/v1/workloads/{ref}", "Change the limits of a workload, running or not", Some("NamespaceQuery"), Some("UpdateRequest"), 200, Answer::Json("WorkloadView")),
    endpoint(Method::Delete, "/v1/workloads/{ref}", "Remove a workload and its log", Some("RemoveQuery"), None, 200, Answer::Json("WorkloadView")),
    endpoint(Method::Post, "/v1/workloads/{ref}/start", "Start it again, from its beginning or from a checkpoint", Some("NamespaceQuery"), Some("StartRequest"), 200, Answer::Json("WorkloadView")),
    endpoint(Method::Post, "/v1/workloads/{ref}/stop", "Stop it, and keep it stopped", Some("NamespaceQuery"), Some("StopRequest"), 200, Answer::Json("WorkloadView")),
    endpoint(Method::Post, "/v1/workloads/{ref}/restart", "Stop it and start it again", Some("NamespaceQuery"), Some("StopRequest"), 200, Answer::Json("WorkloadView")),
    endpoint(Method::Post, "/v1/workloads/{ref}/kill", "Send a signal; the restart policy applies", Some("NamespaceQuery"), Some("KillRequest"), 200, Answer::Json("WorkloadView")),
    endpoint(Method::Post, "/v1/workloads/{ref}/pause", "Let all of it stand still", Some("NamespaceQuery"), None, 200, Answer::Json("WorkloadView")),
    endpoint(Method::Post, "/v1/workloads/{ref}/resume", "Let it go on", Some("NamespaceQuery"), None, 200, Answer::Json("WorkloadView")),
    endpoint(Method::Get, "/v1/workloads/{ref}/result", "What became of it, with its last lines", Some("ResultQuery"), None, 200, Answer::Json("WorkloadResult")),
    endpoint(Method::Post, "/v1/workloads/{ref}/schedule/pause", "Let no run start by itself until it is resumed", Some("NamespaceQuery"), None, 200, Answer::Json("WorkloadView")),
    endpoint(Method::Post, "/v1/workloads/{ref}/schedule/resume", "Let its schedule go on, counted from now", Some("NamespaceQuery"), None, 200, Answer::Json("WorkloadView")),
    endpoint(Method::Post, "/v1/workloads/{ref}/schedule/fire", "Run it now, beside the plan", Some("NamespaceQuery"), None, 200, Answer::Json("WorkloadView")),
    endpoint(Method::Get, "/v1/workloads/{ref}/wait", "Answer when it has ended for good, or until its next fire", Some("WaitQuery"), None, 200, Answer::Json("WorkloadView")),
    endpoint(Method::Get, "/v1/workloads/{ref}/logs", "Its output; resumable by Last-Event-ID", Some("LogsQuery"), None, 200, Answer::Events("LogLine")),
    endpoint(Method::Get, "/v1/workloads/{ref}/stats", "Resources in use", Some("StatsQuery"), None, 200, Answer::JsonOrEvents("Stats")),
    endpoint(Method::Get, "/v1/workloads/{ref}/processes", "Its processes", Some("NamespaceQuery"), None, 200, Answer::Json("Processes")),
    endpoint(Method::Get, "/v1/stats", "Resources in use by all that run", Some("StatsListQuery"), None, 200, Answer::JsonOrEvents("StatsList")),
    endpoint(Method::Get, "/v1/workloads/{ref}/attach", "Its streams, live, with a backlog", Some("AttachQuery"), None, 101, Answer::WebSocket),
    endpoint(Method::Get, "/v1/workloads/{ref}/exec", "Run a second program inside it", Some("NamespaceQuery"), None, 101, Answer::WebSocket),
    endpoint(Method::Get, "/v1/checkpoints", "List checkpoints", Some("CheckpointQuery"), None, 200, Answer::Json("CheckpointList")),
    endpoint(Method::Post, "/v1/checkpoints", "Make a checkpoint of a running container", Some("NamespaceQuery"), Some("CheckpointRequest"), 201, Answer::Json("CheckpointView")),
    endpoint(Method::Get, "/v1/checkpoints/{checkpoint}", "One checkpoint", Some("CheckpointQuery"), None, 200, Answer::Json("CheckpointView")),
    endpoint(Method::Delete, "/v1/checkpoints/{checkpoint}", "Remove a checkpoint, finished or not; what was removed, if it was finished", Some("CheckpointQuery"), None, 200, Answer::Json("CheckpointList")),
    endpoint(Method::Post, "/v1/checkpoints/{checkpoint}/restore", "Make a new workload that goes on where the old one was", Some("CheckpointQuery"), Some("RestoreRequest"), 201, Answer::Json("WorkloadView")),
    endpoint(Method::Get, "/v1/queues", "List queues", Some("QueuesQuery"), None, 200, Answer::Json("QueueList")),
    endpoint(Method::Get, "/v1/queues/{queue}", "One queue and the jobs that wait in it", Some("QueueQuery"), None, 200, Answer::Json("QueueView")),
    endpoint(Method::Patch, "/v1/queues/{queue}", "Make a queue, or change, pause, drain or resume it", Some("NamespaceQuery"), Some("QueueChange"), 200, Answer::Json("QueueView")),
    endpoint(Method::Delete, "/v1/queues/{queue}", "Remove a queue; with force cancel the jobs that wait in it", Some("QueueRemoveQuery"), None, 200, Answer::Json("QueueView")),
    endpoint(Method::Get, "/v1/networks", "List networks", Some("NetworksQuery"), None, 200, Answer::Json("NetworkList")),
    endpoint(Method::Post, "/v1/networks", "Make a network; answers when it is there, and leaves nothing when it cannot be", Some("NamespaceQuery"), Some("NewNetwork"), 201, Answer::Json("NetworkView")),
    endpoint(Method::Get, "/v1/networks/{network}", "One network, who is in it, and its pool", Some("NamespaceQuery"), None, 200, Answer::Json("NetworkView")),
    endpoint(Method::Delete, "/v1/networks/{network}", "Remove a network that nobody uses", Some("NamespaceQuery"), None, 200, Answer::Json("NetworkView")),
    endpoint(Method::Get, "/v1/pools", "What is kept ready, and how that stands", Some("NetworksQuery"), None, 200, Answer::Json("PoolList")),
    endpoint(Method::Patch, "/v1/pools/{pool}", "Fill, drain or resize a pool of guests that wait", None, Some("PoolChange"), 200, Answer::Json("MachinePoolView")),
    endpoint(Method::Get, "/v1/stacks", "List stacks, and the startup files that cannot be used", Some("NamespaceQuery"), None, 200, Answer::Json("StackList")),
    endpoint(Method::Get, "/v1/stacks/{ref}", "How a stack stands; with follow each time that changes", Some("StackQuery"), None, 200, Answer::JsonOrEvents("StackView")),
    endpoint(Method::Put, "/v1/stacks/{ref}", "Make a stack what it should be; what is unchanged is left alone", Some("NamespaceQuery"), Some("Stack"), 200, Answer::Json("StackView")),
    endpoint(Method::Delete, "/v1/stacks/{ref}", "Take a stack down, in reverse order, and forget it", Some("NamespaceQuery"), None, 200, Answer::Json("StackView")),
    endpoint(Method::Post, "/v1/stacks/{ref}/diff", "What applying this would change", Some("NamespaceQuery"), Some("Stack"), 200, Answer::Json("StackDiff")),
];
