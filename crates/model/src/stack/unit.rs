//! A service or job as it is written. Times and sizes are as people write them (`"30s"`, `"64M"`); [`super::check`]
//! parses them, so that all mistakes are told at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::container::ContainerTable;
use super::written::{Several, Written};
use crate::hook::Hook;
use crate::isolation::Isolation;

/// `[service.NAME]` or `[job.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Unit {
    /// Program and arguments as a list, or a line for `sh -c`.
    pub command: Several,
    /// Run it as an OCI container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<ContainerTable>>,
    /// Environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Written>,
    /// Files of KEY=VALUE lines, relative to the stack's file; `env` wins over them, a later file over an earlier one.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub env_file: Several,
    /// Working directory, relative to the stack's file; `/` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// `UID[:GID]` or `NAME[:GROUP]`; the caller when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Limits of each replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// `setrlimit` by name: `nofile = "1024:4096"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rlimits: BTreeMap<String, Written>,
    /// `never`, `on-failure`, `on-failure:N` or `always`, or a table. Services: `always`, jobs: `never`, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartText>,
    /// How it is asked to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Longest time one run may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_time: Option<Written>,
    /// Longest time from acceptance of a run to its started program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<Written>,
    /// Free marks, for filters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Written>,
    /// How much log is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// Read stdin from this file, relative to the stack's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Append stdout to this file instead of the log, relative to the stack's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// Append stderr to this file instead of the log, relative to the stack's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// Forbid gaining privileges through set-uid programs; on when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_new_privileges: Option<bool>,
    /// Keep it apart from the machine: the name of a profile, or a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<IsolationText>,

    /// Start after these are ready, or will not become so: order and nothing else.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub after: Several,
    /// Start when these are ready; stop when one of them has failed.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub requires: Several,
    /// When a service is ready; as soon as its program runs, when absent. A job is ready when it has succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// Leave the unit out unless this holds at its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// How it is found out that a ready service is dead though it runs: it is then stopped, and its restart policy applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Liveness>,
    /// How many of a service run side by side; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// How a changed unit takes the place of the old one: `rolling` (when absent), or `replace` (when absent, of a container
    /// with published ports or an address of its own).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<super::plan::Update>,

    /// The queue in which a job waits for its turn. Made when it is not there; see `[queue.NAME]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// In the queue, a higher one goes first; from -1,000 to 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// When a job runs, again and again: a cron expression, or a table. Such a job is ready once it is scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleText>,
    /// What is done when something happens to a run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// A service that comes back whatever happened, unless it is stopped by name; what is done to many leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// Free words, for filters and for whoever reads the result.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub tags: Several,
    /// Sample CPU, memory, swap and I/O of each run this often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats_interval: Option<Written>,
}

/// `[queue.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Jobs of it that run at one time; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
}

/// When a job runs: dates in one text, or with everything that can be said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    untagged,
    expecting = "a cron expression, or a table of every, first_after, cron, time_zone, misfire and overlap"
)]
pub enum ScheduleText {
    /// A cron expression, in UTC.
    Dates(String),
    /// An interval, or dates in a time zone.
    Table(ScheduleTable),
}

/// When a job runs: exactly one of `every` and `cron`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleTable {
    /// This long after each end of the last run, such as `"30s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Written>,
    /// With `every`: how long until the first run, which starts at once when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_after: Option<Written>,
    /// At these dates: minute, hour, day of month, month, day of week; or `@daily` and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// With `cron`: where these dates are, such as `Europe/Zurich`; `UTC` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What becomes of fire times that nobody could keep: `skip` (when absent), `once` or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misfire: Option<Written>,
    /// What becomes of a fire time while the run before it is not over: `forbid` (when absent), `queue` or `replace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Written>,
}

/// Limits as they are written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Such as `"256M"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Written>,
    /// Cores, such as `0.5`, or thousandths, such as `"250m"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Written>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Memory that is left to it when the machine is short of it, such as `"64M"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation: Option<Written>,
    /// Swap on top of `memory`, such as `"1G"`; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<Written>,
    /// Weight among those who want CPU time at the same moment; 1024 is the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// CPU time in each period, microseconds; instead of `cpus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota_us: Option<u64>,
    /// The period of the quota, microseconds; 100000 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_period_us: Option<u64>,
    /// CPUs that it may use, such as `"0-3,6"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<Written>,
    /// Memory nodes that it may use, such as `"0"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<Written>,
    /// Weight among those who want block I/O at the same moment, from 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkio_weight: Option<u16>,
    /// The same for single devices, such as `{ "/dev/sda" = 200 }`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub blkio_weight_device: BTreeMap<String, u16>,
    /// Bytes read in each second, such as `{ "/dev/sda" = "10M" }`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub device_read_bps: BTreeMap<String, Written>,
    /// Bytes written in each second.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub device_write_bps: BTreeMap<String, Written>,
    /// Reads in each second.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub device_read_iops: BTreeMap<String, u64>,
    /// Writes in each second.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub device_write_iops: BTreeMap<String, u64>,
}

/// A restart policy in one word, or with all its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "never, on-failure, on-failure:N or always, or a table with `when`")]
pub enum RestartText {
    /// `never`, `on-failure`, `on-failure:N`, `always`.
    Word(String),
    /// With a back-off of its own.
    Table(RestartTable),
}

/// A restart policy with a back-off of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RestartTable {
    /// `never`, `on-failure`, `on-failure:N`, `always`.
    pub when: String,
    /// First delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_initial: Option<Written>,
    /// Longest delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_max: Option<Written>,
    /// A run that lived this long clears the count of attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_after: Option<Written>,
}

/// Stop escalation as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// The first signal; TERM when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<Written>,
    /// Time to react to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Written>,
}

/// How much log is kept, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Size at which a segment is closed, such as `"10M"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_size: Option<Written>,
    /// Segments kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
}

/// When a service is ready: exactly one of `match`, `delay`, `tcp`, `http`, `exec`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Ready {
    /// A line of its output matches this regular expression.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub match_: Option<String>,
    /// It has run for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Written>,
    /// `HOST:PORT`, or a port of this machine, takes a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Written>,
    /// This URL answers with a status from 200 to 399.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// This command, run inside of it, succeeds.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub exec: Several,
    /// Between two attempts of `tcp`, `http` and `exec`; 100 ms when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Written>,
    /// Longest time one attempt may take; 1 s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Written>,
    /// Longest time until it must be ready; 60 s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Written>,
}

/// How it is found out that a service is dead though it runs: exactly one of `tcp`, `http`, `exec`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Liveness {
    /// `HOST:PORT`, or a port of this machine, takes a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Written>,
    /// This URL answers with a status from 200 to 399.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// This command, run inside of it, succeeds.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub exec: Several,
    /// Between two probes; 10 s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Written>,
    /// Longest time one probe may take; 1 s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Written>,
    /// Failures in a row that make it dead; 3 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
}

/// Isolation, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "the name of a profile, or a table of isolation")]
pub enum IsolationText {
    /// A profile as it is.
    Profile(String),
    /// A profile with changes.
    Table(Box<Isolation>),
}

impl IsolationText {
    /// In full.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        match self {
            Self::Profile(name) => Isolation { profile: Some(name.clone()), ..Isolation::default() },
            Self::Table(table) => Isolation::clone(table),
        }
    }
}
