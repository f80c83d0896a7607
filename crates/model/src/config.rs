//! `hostler.toml`. Every key has an effect; unknown keys are refused with their line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::isolation::{Isolation, is_profile_name};
use crate::limits;
use crate::network::Subnet4;
use crate::units::{parse_duration_ms, parse_size_bytes};
use crate::vm::Vmm;

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
    /// Networks of workloads.
    pub network: Network,
    /// Virtual machines.
    pub vm: Vm,
    /// Profiles of isolation, by name, beside `default`, `strict` and `network-service`. `profile` in one is which of these
    /// it begins with.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub isolation: BTreeMap<String, Isolation>,
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
#[serde(default)]
pub struct Pool {
    /// Agents for host processes.
    pub process: ProcessPool,
    /// Set-ups of networks, kept ready: `[pool.network.NAME]`, of another namespace than the owner's `"namespace/NAME"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub network: BTreeMap<String, NetworkPool>,
    /// Guests that wait for a run, kept ready: `[pool.NAME]`.
    #[serde(flatten)]
    pub machines: BTreeMap<String, MachinePool>,
}

/// `[pool.NAME]`: a run of `--vm` that asks for a machine of this shape gets one that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MachinePool {
    /// What runs in them: `microvm`.
    pub runtime: PoolRuntime,
    /// The program that makes them.
    #[serde(default)]
    pub vmm: Vmm,
    /// Their kernel; that of `hostler vm setup` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Words for the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_args: Option<String>,
    /// A directory or an image that is their root; a small system with the usual commands when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<String>,
    /// Their root cannot be written to.
    #[serde(default)]
    pub read_only: bool,
    /// Their processors.
    #[serde(default = "one")]
    pub vcpus: u8,
    /// Their memory, such as `"256M"`.
    #[serde(default = "default_memory")]
    pub memory: String,
    /// Guests kept waiting.
    #[serde(default)]
    pub idle: u32,
    /// Guests at most, those that have a run among them.
    pub max: u32,
    /// One that has waited so long is replaced, such as `"1h"`; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
    /// Boot one, and make all others as copies of its memory: quicker, and they share what they do not change.
    #[serde(default)]
    pub snapshot: bool,
}

/// What runs in the sandboxes of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PoolRuntime {
    /// Guests.
    Microvm,
}

fn one() -> u8 {
    1
}

fn default_memory() -> String {
    "128M".to_owned()
}

impl MachinePool {
    /// The shape of its machines, or what is wrong with it.
    pub fn shape(&self) -> Result<crate::vm::Vm, String> {
        let path = |path: &Option<String>| path.as_deref().map(crate::ByteString::from);
        let vm = crate::vm::Vm {
            vmm: self.vmm,
            kernel: path(&self.kernel),
            kernel_args: self.kernel_args.clone(),
            rootfs: path(&self.rootfs),
            read_only: self.read_only,
            vcpus: self.vcpus,
            memory_bytes: parse_size_bytes(&self.memory).map_err(|error| format!("memory: {error}"))?,
            ..crate::vm::Vm::default()
        };
        vm.check().map_err(|problem| problem.detail.replace("vm.", ""))?;
        Ok(vm)
    }

    /// How old one that waits may become, milliseconds.
    pub fn max_age_ms(&self) -> Result<Option<u64>, String> {
        let age_ms = self.max_age.as_deref().map(parse_duration_ms).transpose();
        let age_ms = age_ms.map_err(|error| format!("max_age: {error}"))?;
        match age_ms {
            Some(age_ms) if age_ms < limits::POOL_AGE_MIN_MS => Err("max_age must be at least 10s".to_owned()),
            age_ms => Ok(age_ms),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.max == 0 || self.max > limits::POOL_MACHINES_MAX || self.idle > self.max {
            return Err(format!("idle must be at most max, and max from 1 to {}", limits::POOL_MACHINES_MAX));
        }
        self.max_age_ms()?;
        self.shape().map(drop)
    }
}

/// `[pool.network.NAME]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NetworkPool {
    /// Set-ups kept ready.
    pub idle: u32,
    /// Set-ups at most, those that are in use among them.
    pub max: u32,
}

impl Default for NetworkPool {
    fn default() -> Self {
        Self { idle: 0, max: limits::SETUPS_MAX }
    }
}

/// `[network]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// The range in which networks that ask for none get a `/24` each.
    pub ranges: Subnet4,
    /// Directories with CNI plugins.
    pub cni_path: Vec<String>,
    /// Longest call of a CNI plugin, milliseconds.
    pub cni_call_max_ms: u64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            ranges: Subnet4::around(core::net::Ipv4Addr::new(10, 219, 0, 0), 16),
            cni_path: vec!["/usr/lib/cni".to_owned(), "/opt/cni/bin".to_owned()],
            cni_call_max_ms: limits::CNI_CALL_MAX_MS,
        }
    }
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

/// `[vm]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Vm {
    /// Directory with the kernels that virtual machines boot, as `hostler vm setup` makes them; `vm/kernels` in the data
    /// directory when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_dir: Option<String>,
    /// Path of QEMU; `qemu-system-x86_64` where programs usually are when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qemu: Option<String>,
    /// Path of Firecracker; `firecracker` where programs usually are when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firecracker: Option<String>,
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
        self.check_networks()?;
        for (name, pool) in &self.pool.machines {
            if name.parse::<crate::WorkloadName>().is_err() {
                return Err(format!("pool.{name:?}: a name is letters, digits, dots, dashes and underscores"));
            }
            pool.check().map_err(|what| format!("pool.{name}: {what}"))?;
        }
        let paths =
            [("kernel_dir", &self.vm.kernel_dir), ("qemu", &self.vm.qemu), ("firecracker", &self.vm.firecracker)];
        for (key, path) in paths {
            if path.as_ref().is_some_and(|path| !path.starts_with('/') || path.contains('\0')) {
                return Err(format!("vm.{key} must be an absolute path"));
            }
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
        self.isolation.iter().try_for_each(|(name, profile)| check_profile(name, profile))?;
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

impl Config {
    fn check_networks(&self) -> Result<(), String> {
        for (name, pool) in &self.pool.network {
            if pool.max == 0 || pool.max > limits::SETUPS_MAX || pool.idle > pool.max {
                let what = format!("idle must be at most max, and max from 1 to {}", limits::SETUPS_MAX);
                return Err(format!("pool.network.{name}: {what}"));
            }
            let (namespace, network) = name.split_once('/').unwrap_or(("default", name));
            if namespace.parse::<crate::Namespace>().is_err() || network.parse::<crate::NetworkName>().is_err() {
                return Err(format!("pool.network.{name:?} is no network: write NAME or \"namespace/NAME\""));
            }
        }
        if !self.network.ranges.is_usable() || self.network.ranges.length() > 24 {
            return Err("network.ranges must be a range of IPv4 addresses from /8 to /24".to_owned());
        }
        if self.network.cni_path.iter().any(|path| !path.starts_with('/') || path.contains(':')) {
            return Err("network.cni_path must be absolute paths without a colon".to_owned());
        }
        if !(100..=600_000).contains(&self.network.cni_call_max_ms) {
            return Err("network.cni_call_max_ms must be from 100 to 600000".to_owned());
        }
        Ok(())
    }
}

fn check_profile(name: &str, profile: &Isolation) -> Result<(), String> {
    if !is_profile_name(name) {
        return Err(format!("isolation.{name:?}: a name is 1 to 64 lower-case letters, digits or dashes"));
    }
    if Isolation::built_in(name).is_some() {
        return Err(format!("isolation.{name} is a profile that every node has; take another name"));
    }
    if let Some(base) = &profile.profile
        && Isolation::built_in(base).is_none()
    {
        return Err(format!("isolation.{name}.profile must be {}", Isolation::BUILT_IN.join(", ")));
    }
    if profile.landlock.as_ref().is_some_and(|landlock| landlock.abi.is_some()) {
        return Err(format!("isolation.{name}.landlock.abi is said by the node, not to it"));
    }
    profile.check().map_err(|problem| format!("isolation.{name}: {}", problem.detail))
}
