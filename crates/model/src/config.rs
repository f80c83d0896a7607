//! `hostler.toml`. Every key has an effect; unknown keys are refused with their line.

use serde::{Deserialize, Serialize};

use crate::limits;

/// The whole file. Every key is optional.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The node itself.
    pub node: Node,
    /// Warm sandboxes.
    pub pool: Pool,
    /// What is kept, and for how long.
    pub retention: Retention,
    /// Where limits are enforced.
    pub cgroup: Cgroup,
    /// By what containers are made.
    pub oci: Oci,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// Threads that answer requests. What runs is looked after by one of its own.
    pub workers: u8,
    /// Live runs on this node, at most.
    pub live_runs_max: u32,
    /// Of them from queues, at most, over all queues; as many as live runs when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_jobs_max: Option<u32>,
    /// Below this free space in the data directory no new work is accepted, bytes.
    pub free_space_min_bytes: u64,
    /// What the daemon logs: `error`, `warn`, `info`, `debug` or `trace`, or a filter of the `tracing` syntax.
    pub log: String,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            workers: 2,
            live_runs_max: limits::LIVE_RUNS_MAX as u32,
            queue_jobs_max: None,
            free_space_min_bytes: limits::FREE_SPACE_MIN,
            log: "info".to_owned(),
        }
    }
}

/// `[pool]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// Agents for host processes.
    pub process: ProcessPool,
}

/// `[pool.process]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ProcessPool {
    /// Agents kept ready.
    pub idle: u32,
    /// Whether an agent whose job ended clean takes the next job of the same namespace.
    pub reuse: bool,
}

impl Default for ProcessPool {
    fn default() -> Self {
        Self { idle: 4, reuse: true }
    }
}

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Events kept, count.
    pub events: u64,
    /// Events kept, age in hours.
    pub events_hours: u32,
    /// Ended workloads kept for `ps -a`, `logs` and `inspect`, count; the oldest end goes first.
    pub ended_workloads: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events: limits::EVENTS_DEFAULT,
            events_hours: (limits::EVENTS_AGE_DEFAULT_MS / 3_600_000) as u32,
            ended_workloads: limits::ENDED_WORKLOADS_DEFAULT as u32,
        }
    }
}

/// `[cgroup]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Cgroup {
    /// Directory under each hierarchy that the node's groups are made in, such as `hostler-runs.service`;
    /// the daemon's own group when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// `[oci]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Oci {
    /// Name or absolute path of the program that makes containers; `runc`, or else `crun`, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Arguments of that program, before its command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Directory with the `criu` by which checkpoints are made; where programs usually are when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub criu_dir: Option<String>,
}

impl Config {
    /// Judges values that have a type but no sense.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=64).contains(&self.node.workers) {
            return Err("node.workers must be from 1 to 64".to_owned());
        }
        if self.node.live_runs_max == 0 || self.node.live_runs_max as usize > limits::LIVE_RUNS_MAX {
            return Err(format!("node.live_runs_max must be from 1 to {}", limits::LIVE_RUNS_MAX));
        }
        if self.node.queue_jobs_max == Some(0) {
            return Err("node.queue_jobs_max must be at least 1".to_owned());
        }
        if self.pool.process.idle > 1_024 {
            return Err("pool.process.idle must be at most 1024".to_owned());
        }
        if self.retention.events < 1_000 || self.retention.events_hours == 0 {
            return Err("retention.events must be at least 1000 and retention.events_hours at least 1".to_owned());
        }
        if self.retention.ended_workloads as usize > limits::WORKLOADS_MAX {
            return Err(format!("retention.ended_workloads must be at most {}", limits::WORKLOADS_MAX));
        }
        if self.oci.criu_dir.as_ref().is_some_and(|path| !path.starts_with('/') || path.contains(':')) {
            return Err("oci.criu_dir must be an absolute path without a colon".to_owned());
        }
        if let Some(runtime) = &self.oci.runtime {
            let container = crate::container::Container {
                rootfs: Some("/".into()),
                oci_runtime: Some(runtime.as_str().into()),
                oci_runtime_args: self.oci.args.iter().map(|arg| arg.as_str().into()).collect(),
                ..Default::default()
            };
            container.check().map_err(|problem| problem.detail.replace("container.oci_runtime", "oci.runtime"))?;
        }
        if let Some(parent) = &self.cgroup.parent {
            let good =
                !parent.is_empty() && parent.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
            if !good {
                return Err("cgroup.parent must be a relative path without empty, . or .. parts".to_owned());
            }
        }
        Ok(())
    }
}
