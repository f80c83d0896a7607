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
/// Queues that one stack describes.
pub const STACK_QUEUES_MAX: usize = 64;
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
/// Tags on one workload.
pub const TAGS_MAX: usize = 64;
/// Longest tag, bytes.
pub const TAG_LENGTH_MAX: usize = 256;
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
/// Stdin that lies in the spec itself, bytes: it is stored with the workload, and sent with each of its runs.
pub const STDIN_DATA_MAX: usize = 256 * 1024;
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
/// Hooks of one workload.
pub const HOOKS_MAX: usize = 16;
/// Longest regular expression of a hook, bytes.
pub const HOOK_PATTERN_MAX: usize = 1_024;
/// What a compiled expression may take, bytes; as much again for each of its caches.
pub const HOOK_PATTERN_COMPILED_MAX: usize = 256 * 1024;
/// Longest address that a hook calls, bytes.
pub const HOOK_URL_MAX: usize = 2_048;
/// Headers that a hook adds to its request.
pub const HOOK_HEADERS_MAX: usize = 16;
/// Longest header of a hook, name and value, bytes.
pub const HOOK_HEADER_MAX: usize = 2_048;
/// A hook's command with its own environment, bytes.
pub const HOOK_COMMAND_MAX: usize = 64 * 1024;
/// Longest time of one attempt, unless the hook says otherwise, milliseconds.
pub const HOOK_DEADLINE_MS: u64 = 30_000;
/// Longest time of one attempt that can be asked for, milliseconds.
pub const HOOK_DEADLINE_MAX_MS: u64 = 24 * 3_600 * 1_000;
/// Attempts, unless the hook says otherwise.
pub const HOOK_ATTEMPTS: u32 = 3;
/// Most attempts that can be asked for.
pub const HOOK_ATTEMPTS_MAX: u32 = 100;
/// Pause after the first attempt that failed, milliseconds; doubles with each.
pub const HOOK_BACKOFF_INITIAL_MS: u64 = 500;
/// Longest pause between two attempts, milliseconds.
pub const HOOK_BACKOFF_MAX_MS: u64 = 60_000;
/// Calls of hooks that wait or are under way on a node; one more fails at once. A namespace other than the owner's may
/// have its share of [`LIVE_RUNS_SHARE`].
pub const HOOK_CALLS_MAX: usize = 10_000;
/// How long a hook's command waits for room to run before it is given up, milliseconds.
pub const HOOK_ROOM_WAIT_MAX_MS: u64 = 3_600 * 1_000;
/// How often it asks, milliseconds.
pub const HOOK_ROOM_ASK_MS: u64 = 1_000;
/// A workload that a hook starts and that began to run less than this ago waits as long: two that start each other
/// must not spin, milliseconds.
pub const HOOK_START_PAUSE_MS: u64 = 1_000;
/// Requests of hooks under way to one address for one namespace; others wait, and hold up no other address.
pub const HOOK_REQUESTS_PER_ADDRESS_MAX: usize = 4;
/// Requests of hooks under way for one namespace.
pub const HOOK_REQUESTS_PER_NAMESPACE_MAX: usize = 64;
/// Requests of hooks under way on a node.
pub const HOOK_REQUESTS_MAX: usize = 512;
/// Of a line that matched, what a hook is told, bytes.
pub const HOOK_LINE_MAX: usize = 4 * 1024;
/// Of a line longer than a log record, what is searched for a pattern, bytes.
pub const MATCH_LINE_MAX: usize = 64 * 1024;
/// Runs of one workload that are over and whose last output is still to be searched; the oldest is given up first.
pub const LINE_TAILS_MAX: usize = 16;
/// Execs alive in one run.
pub const EXECS_PER_RUN_MAX: usize = 64;
/// Volumes and other mounts of one container, or paths that an isolated process sees in another way.
pub const MOUNTS_MAX: usize = 128;
/// Devices of one container.
pub const DEVICES_MAX: usize = 64;
/// Longest host name, bytes: the kernel's own.
pub const HOSTNAME_MAX: usize = 64;
/// Arguments for the OCI runtime itself.
pub const OCI_ARGUMENTS_MAX: usize = 32;
/// Longest of them, bytes.
pub const OCI_ARGUMENT_MAX: usize = 4_096;
/// A bundle's `config.json`, or a file with a seccomp profile, bytes.
pub const OCI_CONFIG_MAX: usize = 1024 * 1024;
/// One call of the OCI runtime for a container that exists, milliseconds: to start, exec, delete.
pub const OCI_CALL_MAX_MS: u64 = 10_000;
/// Making or restoring a container, milliseconds. A start has its own deadline, which is mostly sooner.
pub const OCI_CREATE_MAX_MS: u64 = 600_000;
/// A checkpoint, milliseconds: all memory of a container goes to the disk.
pub const OCI_CHECKPOINT_MAX_MS: u64 = 600_000;
/// Checkpoints that are listed of one directory.
pub const CHECKPOINTS_MAX: usize = 1_000;
/// Of what the OCI runtime says while it works, what is kept, bytes.
pub const OCI_LOG_MAX: usize = 16 * 1024;
/// Queues known to the node.
pub const QUEUES_MAX: usize = 1_024;
/// Queues of one namespace other than the owner's.
pub const QUEUES_SHARE_MAX: usize = 256;
/// Jobs of one queue that run at one time, at most.
pub const QUEUE_PARALLEL_MAX: u32 = 1_024;
/// Highest priority in a queue; the lowest is its negative.
pub const QUEUE_PRIORITY_MAX: i32 = 1_000;
/// Waiting jobs that one request cancels when a queue is removed; more take more requests.
pub const QUEUE_CANCEL_MAX: usize = 1_000;
/// Waiting jobs shown of one queue.
pub const QUEUE_SHOWN_MAX: usize = 1_000;
/// Dates of schedules that one step counts; what is due beyond that is decided in the next.
pub const DATES_PER_STEP: u32 = 4_096;
/// Batches of specs that are checked at one time.
pub const BATCHES_CHECKED_MAX: usize = 2;
/// Names of hooks' addresses that are looked up at one time.
pub const HOOK_LOOKUPS_MAX: usize = 8;
/// Workloads that one request creates.
pub const BATCH_MAX: usize = 1_000;
/// Workloads that one request for many is about.
pub const BULK_MAX: usize = 1_000;
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
/// Length of the store's write-ahead log, bytes: some hundred jobs from beginning to end. What it holds is in memory too.
pub const STORE_LOG: u64 = 1024 * 1024;
/// A job that ended within this makes the next ones of its queue be permitted ahead, milliseconds.
pub const QUEUE_SHORT_JOB_MS: u64 = 50;
/// How long a permission ahead is kept, milliseconds: after a loss of power a job that has one counts as lost.
pub const QUEUE_AHEAD_MS: u64 = 100;
/// Jobs of one queue permitted ahead, at most.
pub const QUEUE_AHEAD_MAX: u32 = 64;
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

/// Lines of each stream in a result, unless asked otherwise.
pub const RESULT_LINES_DEFAULT: u32 = 10;
/// Lines of each stream that can be asked for in a result.
pub const RESULT_LINES_MAX: u32 = 1_000;
/// Of one line, what a result shows, bytes.
pub const RESULT_LINE_MAX: usize = 4 * 1024;
/// Log that is searched backwards for the lines of a result, bytes: more than the default log.
pub const RESULT_SCAN_MAX: u64 = 64 * 1024 * 1024;

/// Shortest interval of statistics that can be asked for, milliseconds.
pub const STATS_INTERVAL_MIN_MS: u64 = 100;
/// Samples kept of one workload: an hour at one every five seconds.
pub const SAMPLES_PER_WORKLOAD_MAX: usize = 720;
/// Samples kept of all workloads together, 16 MB; many workloads share it evenly.
pub const SAMPLES_MAX: usize = 200_000;
/// Workloads of which samples are kept; the one that was not sampled for longest is forgotten first.
pub const SAMPLED_WORKLOADS_MAX: usize = 10_000;
/// Samples being taken at one time; the others wait for their turn.
pub const SAMPLES_UNDER_WAY_MAX: usize = 64;
/// Processes of a run that one look at its resources goes through.
pub const STATS_PROCESSES_MAX: usize = 1_024;

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

/// CPUs told one by one in the statistics of a run.
pub const STATS_CPUS_MAX: usize = 256;
/// Block devices, sizes of huge pages and network interfaces told in the statistics of a run, of each.
pub const STATS_DEVICES_MAX: usize = 64;
/// Runs asked for their statistics at the same time, for a list of all.
pub const STATS_UNDER_WAY_MAX: usize = 64;
/// Answers of a list of statistics that are not waited for longer, milliseconds: one agent that hangs does not hold up the
/// others.
pub const STATS_LIST_MAX_MS: u64 = 2_000;
/// Workloads with series of their own in the metrics.
pub const METRICS_WORKLOADS_MAX: usize = 256;
/// Processes of a run told in one answer.
pub const PROCESSES_TOLD_MAX: usize = 512;
/// Bytes of a process's command line that are told.
pub const PROCESS_COMMAND_MAX: usize = 1_024;

/// Block devices with limits of their own, in each list of a spec.
pub const LIMITED_DEVICES_MAX: usize = 64;
/// Longest path of a device in a spec, bytes.
pub const DEVICE_PATH_MAX: usize = 256;
/// Longest list of CPUs or memory nodes, bytes.
pub const CPU_LIST_MAX: usize = 1_024;

/// First restart delay, milliseconds; doubles with each failure in a row.
pub const BACKOFF_INITIAL_MS: u64 = 100;
/// Longest restart delay, milliseconds.
pub const BACKOFF_MAX_MS: u64 = 60_000;
/// A run that lived this long clears the count of failures in a row, milliseconds.
pub const HEALTHY_AFTER_MS: u64 = 10_000;

/// Shortest interval of a schedule, milliseconds.
pub const SCHEDULE_EVERY_MIN_MS: u64 = 100;
/// Longest cron expression, and longest name of a time zone, bytes.
pub const CRON_LENGTH_MAX: usize = 256;
/// A fire that is late by no more than this is no misfire: a daemon was replaced, a machine was busy, a clock was
/// corrected. Milliseconds.
pub const SCHEDULE_TOLERANCE_MS: u64 = 10_000;
/// Fires of one schedule that wait for the end of the run before them.
pub const SCHEDULE_WAITING_MAX: u32 = 100;
/// Missed fire times of one schedule that are counted one by one.
pub const SCHEDULE_MISSED_COUNT_MAX: u32 = 1_000;
/// Timers and fires decided in one step; the others follow at once, after whatever else waits.
pub const DUE_PER_STEP: usize = 256;

/// Longest name of a network, bytes.
pub const NETWORK_NAME_LENGTH_MAX: usize = 64;
/// Networks of a node.
pub const NETWORKS_MAX: usize = 1_024;
/// Networks that one stack describes.
pub const STACK_NETWORKS_MAX: usize = 16;
/// Resolvers named in one place.
pub const NETWORK_DNS_MAX: usize = 8;
/// Other names of a workload in its network.
pub const NETWORK_ALIASES_MAX: usize = 16;
/// Published ports of one workload.
pub const PUBLISH_MAX: usize = 64;
/// Slowest and fastest rate that can be asked for, bytes a second.
pub const NETWORK_RATE_MIN: u64 = 1_000;
/// See above.
pub const NETWORK_RATE_MAX: u64 = 1 << 37;
/// Longest CNI configuration list, bytes.
pub const CNI_LIST_MAX: usize = 256 * 1024;
/// Plugins of one CNI configuration list.
pub const CNI_PLUGINS_MAX: usize = 16;
/// What a CNI plugin may answer, bytes.
pub const CNI_ANSWER_MAX: usize = 1024 * 1024;
/// Longest time of one call of a CNI plugin, unless configured otherwise, milliseconds.
pub const CNI_CALL_MAX_MS: u64 = 30_000;
/// Longest name of a network in a CNI configuration list, and of a plugin, bytes: both become file names.
pub const CNI_NAME_LENGTH_MAX: usize = 255;
/// Of what a CNI plugin says on its way to an error, what is kept, bytes.
pub const CNI_SAID_MAX: usize = 2_048;
/// Longest record of what CNI plugins have set up, bytes: a list and an answer, escaped.
pub const CNI_RECORD_MAX: usize = 8 * 1024 * 1024;
/// CNI plugins that are told of.
pub const CNI_FOUND_MAX: usize = 256;
/// How long a CNI plugin that was killed is waited for, milliseconds.
pub const CNI_KILLED_MAX_MS: u64 = 2_000;
/// Longest time of a call of `nft` or `tc`, milliseconds.
pub const NETWORK_TOOL_MAX_MS: u64 = 10_000;
/// Longest wait for the kernel's answer to one netlink request, milliseconds.
pub const NETLINK_MAX_MS: u64 = 5_000;
/// Set-ups of one network, unless configured otherwise.
pub const SETUPS_MAX: u32 = 1_024;
/// Set-ups that are made, cleaned or removed at one time.
pub const SETUP_WORK_PARALLEL: usize = 4;
/// Of these in CNI networks, at most: plugins may hang.
pub const CNI_WORK_MAX: usize = 24;
/// First wait after a set-up could not be made, milliseconds; doubles with each failure in a row.
pub const SETUP_BACKOFF_INITIAL_MS: u64 = 250;
/// Longest of these waits, milliseconds.
pub const SETUP_BACKOFF_MAX_MS: u64 = 60_000;
/// Between two looks whether the processes of a set-up that was given back are gone, milliseconds.
pub const SETUP_LOOK_AGAIN_MS: u64 = 20;
/// How long that is waited for before it is removed under them, milliseconds.
pub const SETUP_USER_GONE_MAX_MS: u64 = 15_000;
/// The same for sockets that some process elsewhere holds, milliseconds.
pub const SETUP_SOCKETS_GONE_MAX_MS: u64 = 1_000;
/// How long a wish for a port or an address that another run has waits for the end of that run, milliseconds.
pub const NETWORK_KNOCK_MAX_MS: u64 = 1_500;
/// Seconds after which a caller who found a network full may try again.
pub const NETWORK_RETRY_AFTER_S: u32 = 2;
/// Questions about names that one network forwards at one time.
pub const DNS_FORWARDED_MAX: usize = 256;
/// Longest wait for one resolver's answer, milliseconds.
pub const DNS_UPSTREAM_MAX_MS: u64 = 2_000;
/// Connections for questions about names that one network serves at one time.
pub const DNS_CONNECTIONS_MAX: usize = 32;
/// How long an answer about a name in a network may be kept, seconds.
pub const DNS_TTL_S: u32 = 5;
/// Largest question about a name, and largest answer in one datagram, bytes.
pub const DNS_DATAGRAM_MAX: usize = 4_096;
/// How long a connection for questions about names may say nothing, or not take an answer, milliseconds.
pub const DNS_IDLE_MAX_MS: u64 = 5_000;
/// How long the addresses that a resolver listens at may take to become usable, milliseconds.
pub const DNS_LISTEN_MAX_MS: u64 = 1_000;
/// How often the machine's list of resolvers is looked at again, milliseconds.
pub const DNS_MACHINE_LOOK_MS: u64 = 1_000;
/// What is read of the machine's list of resolvers, bytes.
pub const DNS_MACHINE_LIST_MAX: usize = 64 * 1024;

/// Memory of a guest that asks for none, bytes.
pub const VM_MEMORY_DEFAULT: u64 = 128 * 1024 * 1024;
/// Least and most memory of a guest, bytes.
pub const VM_MEMORY_MIN: u64 = 64 * 1024 * 1024;
/// See above.
pub const VM_MEMORY_MAX: u64 = 1 << 40;
/// Most processors of a guest: what Firecracker has.
pub const VM_VCPUS_MAX: u8 = 32;
/// Smallest and largest disk for what a guest writes, bytes.
pub const VM_DISK_MIN: u64 = 16 * 1024 * 1024;
/// See above.
pub const VM_DISK_MAX: u64 = 16 << 40;
/// Volumes of a guest: with its root and what it writes to that, they are its drives.
pub const VM_VOLUMES_MAX: usize = VM_DRIVES_MAX - 2;
/// Words for the kernel of a guest, bytes: its whole command line may have 2,048.
pub const VM_KERNEL_ARGS_MAX: usize = 1_024;
/// How long a guest may take until its agent answers, unless the spec says otherwise, milliseconds: ten times what one takes
/// whose instructions are translated; and two attempts are within [`START_DEADLINE_MS`].
pub const VM_BOOT_MS: u64 = 12_000;
/// Shortest such time that can be asked for, milliseconds.
pub const VM_BOOT_MIN_MS: u64 = 100;
/// How often a guest that does not answer is made, in all.
pub const VM_BOOT_ATTEMPTS: u32 = 2;
/// A guest that waits for a run, and whose node is away, is switched off after this time, milliseconds: a daemon that is
/// replaced finds it, and nobody else will.
pub const WARM_ORPHAN_MS: u64 = 60_000;
/// Machines of one pool, at most.
pub const POOL_MACHINES_MAX: u32 = 1_000;
/// Youngest age at which one that waits may be replaced, milliseconds.
pub const POOL_AGE_MIN_MS: u64 = 10_000;
/// Seconds after which a caller who found a pool full may try again.
pub const POOL_RETRY_AFTER_S: u32 = 2;
/// Between two attempts to reach the agent of a guest, milliseconds.
pub const VM_KNOCK_MS: u64 = 5;
/// Of a guest's console, what is kept for an error, bytes.
pub const VM_CONSOLE_KEPT: usize = 16 * 1024;
/// Of it, what an error tells, bytes.
pub const VM_CONSOLE_TOLD: usize = 600;
/// How long a guest may take to kill its programs before it is switched off, milliseconds.
pub const VM_KILL_MS: u64 = 2_000;
/// How long a guest may take to bring what it wrote to its disks and to switch itself off, milliseconds.
pub const VM_POWER_OFF_MS: u64 = 5_000;
/// What the program that makes a guest needs beside the guest's own memory, bytes: the bound of its cgroup.
pub const VM_OVERHEAD: u64 = 192 * 1024 * 1024;
/// Largest kernel of a virtual machine, unpacked or not, bytes.
pub const KERNEL_IMAGE_MAX: u64 = 512 * 1024 * 1024;
/// Largest module of such a kernel, and largest busybox beside it, bytes.
pub const KERNEL_MODULE_MAX: u64 = 64 * 1024 * 1024;
/// Files and directories that are looked at to find a kernel's modules.
pub const KERNEL_FILES_MAX: usize = 65_536;
/// Longest version of a kernel, bytes: it becomes a directory's name.
pub const KERNEL_VERSION_LENGTH_MAX: usize = 128;
/// Kernels kept in one directory that are looked at.
pub const KERNELS_MAX: usize = 256;
/// Longest record of a kernel, bytes.
pub const KERNEL_RECORD_MAX: u64 = 64 * 1024;
/// Longest fetch of a package, milliseconds.
pub const PACKAGE_FETCH_MAX_MS: u64 = 600_000;
/// Longest call of a program that unpacks, lists or formats, milliseconds.
pub const UNPACK_MAX_MS: u64 = 120_000;
/// How long another set-up of a kernel in the same directory is waited for, milliseconds.
pub const KERNEL_SETUP_WAIT_MAX_MS: u64 = 900_000;
/// Largest agent that an initramfs is made with, bytes.
pub const INITRAMFS_AGENT_MAX: u64 = 64 * 1024 * 1024;
/// Names of busybox in one initramfs.
pub const INITRAMFS_APPLETS_MAX: usize = 2_048;
/// How long another maker of an initramfs is waited for, milliseconds.
pub const INITRAMFS_WAIT_MAX_MS: u64 = 30_000;
/// Initramfs files kept in one directory; the oldest go first.
pub const INITRAMFS_KEPT_MAX: usize = 8;
/// Files, directories and links in the root of one block image.
pub const BLOCK_ENTRIES_MAX: u64 = 1_000_000;
/// Bytes of the files in it.
pub const BLOCK_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// How deep its directories may be.
pub const BLOCK_DEPTH_MAX: usize = 512;
/// Mounts in it that are left out.
pub const BLOCK_MOUNTS_MAX: usize = 256;
/// How long making one may take, milliseconds.
pub const BLOCK_BUILD_MAX_MS: u64 = 600_000;
/// How long another maker of the same one is waited for, milliseconds.
pub const BLOCK_WAIT_MAX_MS: u64 = 900_000;
/// Smallest and largest writable layer of a virtual machine, bytes.
pub const LAYER_MIN: u64 = 16 * 1024 * 1024;
/// See above.
pub const LAYER_MAX: u64 = 1 << 40;
/// Formatted layers kept to be copied, one a size; the oldest go first.
pub const LAYER_TEMPLATES_MAX: usize = 32;
/// How long another maker of such a template is waited for, milliseconds.
pub const LAYER_WAIT_MAX_MS: u64 = 180_000;
/// How long a program that only says its version may take, milliseconds.
pub const VERSION_MAX_MS: u64 = 5_000;
/// Longest id of a microVM, bytes: a path component, and what was usual before.
pub const VM_ID_LENGTH_MAX: usize = 76;
/// Drives of one microVM. With cards, shares, channel and entropy they fit into the 24 places of QEMU's `microvm`.
pub const VM_DRIVES_MAX: usize = 8;
/// Network cards of one microVM.
pub const VM_NICS_MAX: usize = 4;
/// Shared directories of one microVM.
pub const VM_SHARES_MAX: usize = 8;
/// Longest id of a drive or a card, bytes: a drive's is its serial number, of which virtio has 20.
pub const VM_DEVICE_ID_MAX: usize = 20;
/// Longest tag of a shared directory, bytes: virtio-fs has 36.
pub const VM_SHARE_TAG_MAX: usize = 36;
/// Longest arguments of a guest's kernel, bytes; ours come on top, and x86 reads 2,048 with the NUL.
pub const VM_KERNEL_ARGUMENTS_MAX: usize = 1_536;
/// Longest time in which a bucket of a rate limit fills, milliseconds.
pub const VM_REFILL_MAX_MS: u64 = 3_600 * 1_000;
/// How long the socket of a VMM that was spawned may take to answer, milliseconds.
pub const VMM_SOCKET_MAX_MS: u64 = 10_000;
/// Longest first wait for a socket that is there and does not take connections yet, milliseconds; doubles.
pub const VMM_SOCKET_WAIT_MAX_MS: u64 = 50;
/// One call of a VMM's API, milliseconds.
pub const VMM_CALL_MAX_MS: u64 = 5_000;
/// Starting the processors of a guest, or loading a snapshot, milliseconds.
pub const VMM_START_MAX_MS: u64 = 30_000;
/// Writing a snapshot, milliseconds: all memory of a guest may go to the disk.
pub const VMM_SNAPSHOT_MAX_MS: u64 = 600_000;
/// Asking a VMM's program for its version, milliseconds.
pub const VMM_VERSION_MAX_MS: u64 = 5_000;
/// One message of QEMU's monitor, bytes.
pub const QMP_LINE_MAX: usize = 256 * 1024;
/// Events of QEMU's monitor that nobody has asked for yet; the oldest is forgotten first.
pub const QMP_EVENTS_MAX: usize = 64;
/// One answer of Firecracker's API, head or body, bytes.
pub const FIRECRACKER_ANSWER_MAX: usize = 64 * 1024;
/// Of one line of a VMM's log, what is kept, bytes.
pub const VMM_LOG_LINE_MAX: usize = 4 * 1024;
/// Lines of one VMM's log that are passed on in a second; the others are counted.
pub const VMM_LOG_LINES_PER_S: u32 = 100;
/// One line of metrics of a VMM, bytes.
pub const VMM_METRICS_LINE_MAX: usize = 256 * 1024;
/// How long a boot under KVM may take to its first word, milliseconds.
pub const KVM_PROOF_MAX_MS: u64 = 10_000;
/// What is remembered of that, bytes.
pub const KVM_PROOF_FILE_MAX: u64 = 16 * 1024;

/// Below this free space no new work is accepted, bytes.
pub const FREE_SPACE_MIN: u64 = 64 * 1024 * 1024;
/// The file given up when the disk is full, so that ends can still be recorded, bytes.
pub const BALLAST: u64 = 4 * 1024 * 1024;
