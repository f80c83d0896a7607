//! The bound of every queue, input, count and wait, in one place. Names end in their unit.

/// Longest workload or namespace name, bytes.
pub const NAME_LENGTH_MAX: usize = 63;
/// Longest name of a stack, bytes: with a unit's and a replica's number it is a workload's.
pub const STACK_NAME_LENGTH_MAX: usize = 24;
/// Longest name of a service or job in a stack, bytes.
pub const UNIT_NAME_LENGTH_MAX: usize = 28;
/// Stacks in one namespace.
pub const STACKS_PER_NAMESPACE_MAX: usize = 256;
/// Services and jobs of one stack.
pub const STACK_UNITS_MAX: usize = 1_000;
/// Replicas of one service.
pub const REPLICAS_MAX: u32 = 256;
/// Workloads of one stack: units times replicas.
pub const STACK_MEMBERS_MAX: usize = 2_000;
/// Names in one unit's `after` and `requires`.
pub const STACK_EDGES_MAX: usize = 128;
/// One stack file, or one `env_file`, bytes.
pub const STACK_FILE_MAX: usize = 1024 * 1024;
/// Files in a directory of stacks.
pub const STACK_FILES_MAX: usize = 256;
/// How deep `all`, `any` and `not` of a condition may be nested.
pub const CONDITION_DEPTH_MAX: usize = 8;
/// Conditions in one `all` or `any`.
pub const CONDITION_PARTS_MAX: usize = 64;
/// How long a unit may take to become ready, unless it says otherwise, milliseconds.
pub const READY_DEADLINE_MS: u64 = 60_000;
/// Between two attempts to find a unit ready, unless it says otherwise, milliseconds.
pub const READY_INTERVAL_MS: u64 = 100;
/// Between two probes whether a unit still lives, unless it says otherwise, milliseconds.
pub const LIVENESS_INTERVAL_MS: u64 = 10_000;
/// Shortest time between two probes that can be asked for, milliseconds.
pub const PROBE_INTERVAL_MIN_MS: u64 = 10;
/// How long one probe may take, unless the unit says otherwise, milliseconds.
pub const PROBE_TIMEOUT_MS: u64 = 1_000;
/// Probes in a row that must fail before a run is taken for dead, unless the unit says otherwise.
pub const LIVENESS_FAILURES: u32 = 3;
/// Probes under way at one time on a node; the rest wait.
pub const PROBES_MAX: usize = 64;
/// Bytes of an answer that an HTTP probe reads to find the status.
pub const PROBE_ANSWER_MAX: usize = 8 * 1024;
/// Labels on one workload.
pub const LABELS_MAX: usize = 64;
/// Longest label key or value, bytes.
pub const LABEL_LENGTH_MAX: usize = 256;
/// Arguments of one command, count.
pub const ARGUMENTS_MAX: usize = 16_384;
/// Longest single argument or `K=V`, bytes: the kernel's own `MAX_ARG_STRLEN` (32 pages), its NUL included.
pub const ARGUMENT_LENGTH_MAX: usize = 131_071;
/// Arguments and environment together, bytes. The kernel takes 2 MiB at the default stack limit, pointers included.
pub const ARGUMENTS_TOTAL_MAX: usize = 1_500_000;
/// Environment variables of one workload, count.
pub const ENVIRONMENT_MAX: usize = 4_096;
/// Longest path in a spec, bytes: the kernel's `PATH_MAX`, its NUL included.
pub const PATH_LENGTH_MAX: usize = 4_095;
/// Connections to the node's socket at one time; more wait in the kernel's queue.
pub const HTTP_CONNECTIONS_MAX: usize = 2_048;
/// Connections of one user at one time, unless the node is his.
pub const HTTP_CONNECTIONS_PER_CALLER_MAX: usize = 128;
/// How long the head of a request may take, from the connection or the last answer on, milliseconds.
pub const HTTP_HEADER_MAX_MS: u64 = 30_000;
/// Body of one HTTP request, bytes.
pub const HTTP_BODY_MAX: usize = 4 * 1024 * 1024;
/// `Idempotency-Key` header, bytes.
pub const IDEMPOTENCY_KEY_MAX: usize = 128;
/// Idempotency keys remembered, count; the oldest is forgotten first.
pub const IDEMPOTENCY_KEYS_MAX: usize = 4_096;
/// How long an idempotency key is remembered, milliseconds.
pub const IDEMPOTENCY_AGE_MAX_MS: u64 = 24 * 3_600 * 1_000;

/// Workloads known to the node, ended ones included.
pub const WORKLOADS_MAX: usize = 200_000;
/// Live (not ended) runs on one node; `pid_max` is 32,768 by default and each run needs two processes.
pub const LIVE_RUNS_MAX: usize = 10_000;
/// Of the live runs of a node, the part that one namespace other than the owner's may have: one in this many.
pub const LIVE_RUNS_SHARE: usize = 4;
/// Workloads known in one namespace other than the owner's.
pub const WORKLOADS_PER_NAMESPACE_MAX: usize = 10_000;
/// Execs alive in one run.
pub const EXECS_PER_RUN_MAX: usize = 64;
/// Ended workloads kept for `ps -a` unless configured otherwise.
pub const ENDED_WORKLOADS_DEFAULT: usize = 1_000;
/// Events kept unless configured otherwise, count.
pub const EVENTS_DEFAULT: u64 = 100_000;
/// Events kept unless configured otherwise, age in milliseconds: seven days.
pub const EVENTS_AGE_DEFAULT_MS: u64 = 7 * 24 * 3_600 * 1_000;

/// Inputs waiting for the supervisor.
pub const SUPERVISOR_QUEUE: usize = 4_096;
/// Inputs decided in one batch, at most.
pub const SUPERVISOR_BATCH: usize = 256;
/// Batches waiting for the store's writer.
pub const STORE_QUEUE: usize = 1_024;
/// Batches that one commit gathers, at most.
pub const STORE_GROUP: usize = 512;
/// How long a batch that nobody waits for may linger, so that it shares the next commit, milliseconds.
pub const STORE_LINGER_MS: u64 = 20;
/// Events read from the store in one short transaction.
pub const EVENTS_PAGE: usize = 512;

/// One control frame between node and agent, bytes: a spec with all its arguments, base64 at worst.
pub const FRAME_CONTROL_MAX: usize = 8 * 1024 * 1024;
/// One data frame between node and agent, bytes.
pub const FRAME_DATA_MAX: usize = 32 * 1024;
/// Bytes a channel's receiver grants ahead of what it has consumed.
pub const CHANNEL_CREDIT: u32 = 256 * 1024;
/// Channels open on one agent connection.
pub const CHANNELS_MAX: usize = 256;
/// Live output the agent keeps for the next attach, bytes for each run or exec.
pub const ATTACH_BACKLOG: usize = 64 * 1024;
/// Stdin the agent holds for a program that does not read, bytes.
pub const STDIN_BUFFER: usize = 64 * 1024;
/// Longest part of a line in one log record, bytes; longer lines are split into `P` records.
pub const LOG_LINE_MAX: usize = 16 * 1024;
/// Size at which a log segment is closed, unless configured otherwise.
pub const LOG_SEGMENT_DEFAULT: u64 = 10 * 1024 * 1024;
/// Log segments kept for a workload, unless configured otherwise.
pub const LOG_SEGMENTS_DEFAULT: u32 = 5;

/// From `Prepare` to a started program, unless the spec says otherwise, milliseconds.
pub const START_DEADLINE_MS: u64 = 30_000;
/// From the stop signal to the kill, unless the spec says otherwise, milliseconds.
pub const STOP_GRACE_MS: u64 = 10_000;
/// Longest grace, `max_time` and start deadline that can be asked for, milliseconds: a year.
pub const TIME_MAX_MS: u64 = 365 * 24 * 3_600 * 1_000;
/// Longest grace when the node goes down with its workloads, milliseconds.
pub const SHUTDOWN_GRACE_MAX_MS: u64 = 60_000;
/// Shortest restart delay that can be asked for, milliseconds.
pub const BACKOFF_MIN_MS: u64 = 10;
/// Largest log that can be asked for, bytes: segments times their size.
pub const LOG_TOTAL_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// How long the end of a run waits for orphans that hold its stdout, milliseconds.
pub const DRAIN_MAX_MS: u64 = 1_000;
/// How long an agent waits for the daemon to have the end on disk before it syncs its own record, milliseconds.
pub const EXIT_SYNC_AFTER_MS: u64 = 100;
/// How long killing everything in a run may take before it is reported as stuck, milliseconds.
pub const KILL_MAX_MS: u64 = 10_000;
/// An owner whose connection broke may come back within this time before his stream turns to dropping, milliseconds.
pub const OWNER_GRACE_MS: u64 = 10_000;
/// An idle agent without a daemon leaves after this time, milliseconds; the next daemon makes its own.
pub const AGENT_ORPHAN_IDLE_MS: u64 = 500;
/// Answer to a hello, milliseconds.
pub const HELLO_MAX_MS: u64 = 5_000;
/// Answer to a request that an agent settles by itself (stats, update, signal), milliseconds.
pub const AGENT_ANSWER_MAX_MS: u64 = 5_000;

/// First restart delay, milliseconds; doubles with each failure in a row.
pub const BACKOFF_INITIAL_MS: u64 = 100;
/// Longest restart delay, milliseconds.
pub const BACKOFF_MAX_MS: u64 = 60_000;
/// A run that lived this long clears the count of failures in a row, milliseconds.
pub const HEALTHY_AFTER_MS: u64 = 10_000;

/// Below this free space no new work is accepted, bytes.
pub const FREE_SPACE_MIN: u64 = 64 * 1024 * 1024;
/// The file given up when the disk is full, so that ends can still be recorded, bytes.
pub const BALLAST: u64 = 4 * 1024 * 1024;
