//! From an accepted workload to what the agent is told: the environment in full, the directories, the cgroup's name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hostler_model::container::{Container, Network};
use hostler_model::guest::{GuestIdentity, VmLaunch};
use hostler_model::isolation::Isolation;
use hostler_model::launch::{Confinement, ContainerLaunch, Launch, OciRuntime, Program};
use hostler_model::spec::Stdio;
use hostler_model::vm::Vm;
use hostler_model::workload::{Identity, Workload};
use hostler_model::{ByteString, limits};

/// `PATH` of a workload whose spec sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the node has its own things.
#[derive(Debug, Clone)]
pub struct Places {
    /// Its log directory.
    pub logs: PathBuf,
    /// Directories that no isolated process sees, whatever it asks for: there are sockets in them that only ask for the user.
    pub own: Vec<PathBuf>,
}

/// What of the node goes into every launch.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    /// Where its own things are.
    pub places: &'a Places,
    /// Whether it can run programs as anybody: it is root.
    pub may_change_user: bool,
    /// By what a container is made.
    pub oci: &'a dyn Fn(&Container) -> OciRuntime,
}

fn confinement_of(workload: &Workload, places: &Places) -> Option<Box<Confinement>> {
    let isolation = Isolation::clone(workload.spec.isolation.as_deref()?);
    let hostname = hostname_of(workload, isolation.hostname.as_ref());
    let hidden = places.own.iter().map(|path| path.as_os_str().into()).collect();
    Some(Box::new(Confinement { isolation, hostname, hidden }))
}

/// The launch of a workload's current run.
#[must_use]
pub fn launch_of(workload: &Workload, node: Node<'_>) -> Option<Launch> {
    let run = workload.run.as_ref()?.id;
    let spec = &workload.spec;
    // A bundle says itself as whom and where its program runs, unless the spec does.
    let of_bundle = spec.bundle().is_some();
    let workdir = spec.workdir.clone();
    let says_who = (node.may_change_user && (!of_bundle || spec.user.is_some())) || spec.vm.is_some();
    let program = Program {
        command: spec.command.clone(),
        env: environment(workload, &workload.identity, &[], spec.stdio.tty.is_some()),
        workdir: if of_bundle { workdir.unwrap_or_default() } else { workdir.unwrap_or_else(|| "/".into()) },
        identity: says_who.then(|| Identity::clone(&workload.identity)),
        rlimits: spec.rlimits.to_vec(),
        no_new_privileges: spec.no_new_privileges,
        confinement: confinement_of(workload, node.places),
    };
    Some(Launch {
        run,
        namespace: workload.namespace.clone(),
        program,
        container: spec.container.as_ref().map(|container| Box::new(container_of(workload, container, node))),
        vm: spec.vm.as_ref().map(|vm| Box::new(vm_of(workload, vm))),
        stdio: Stdio::clone(&spec.stdio),
        log_directory: log_directory(&node.places.logs, workload).as_os_str().as_bytes().to_vec().into(),
        log: spec.log,
        limits: hostler_model::spec::Limits::clone(&workload.limits),
        cgroup: workload.has_cgroup().then(|| run.to_string()),
        stop: spec.stop,
        max_time_ms: spec.max_time_ms,
    })
}

fn container_of(workload: &Workload, container: &Container, node: Node<'_>) -> ContainerLaunch {
    ContainerLaunch {
        hostname: container.hostname.clone().unwrap_or_else(|| workload.name.to_string()),
        names: names_of(workload, container.network.as_ref()),
        network_files: None,
        oci: (node.oci)(container),
        container: container.clone(),
        restore: workload.run.as_ref().and_then(|run| run.restore.as_deref().cloned()),
    }
}

/// The machine is made by the runtime, which knows what this node has.
fn vm_of(workload: &Workload, vm: &Vm) -> VmLaunch {
    let identity = GuestIdentity { hostname: hostname_of(workload, vm.hostname.as_ref()), ..GuestIdentity::default() };
    VmLaunch { asked: Box::new(vm.clone()), boot: None, names: names_of(workload, vm.network.as_ref()), identity }
}

/// Names of workloads may be longer than those of machines.
fn hostname_of(workload: &Workload, asked: Option<&String>) -> String {
    asked.cloned().unwrap_or_else(|| workload.name.as_str().chars().take(limits::HOSTNAME_MAX).collect())
}

/// By which names others of its network find a workload: its own, those that it asks for, and that of its unit.
fn names_of(workload: &Workload, network: Option<&Network>) -> Vec<String> {
    let Some(attachment) = network.and_then(Network::attachment) else { return Vec::new() };
    let unit = workload.stack.as_ref().map(|member| member.unit.to_string());
    let mut names = vec![workload.name.to_string()];
    for name in attachment.aliases.iter().cloned().chain(unit) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Where a workload's log segments are.
#[must_use]
pub fn log_directory(logs: &Path, workload: &Workload) -> std::path::PathBuf {
    logs.join(workload.id.to_string())
}

/// The environment: a few defaults, the spec's entries over them, `extra` over those; one entry a key, and bytes stay
/// as they are. Nothing of the daemon's own environment gets in.
#[must_use]
pub fn environment(workload: &Workload, identity: &Identity, extra: &[ByteString], tty: bool) -> Vec<ByteString> {
    let mut defaults = Vec::new();
    // A bundle has an environment of its own.
    if workload.spec.bundle().is_none() {
        defaults.push(format!("PATH={DEFAULT_PATH}"));
        defaults.push(format!("HOME={}", identity.home.as_deref().unwrap_or("/")));
    }
    if let Some(user) = identity.user.as_ref().filter(|_| workload.spec.bundle().is_none()) {
        defaults.push(format!("USER={user}"));
        defaults.push(format!("LOGNAME={user}"));
    }
    if tty {
        defaults.push("TERM=xterm".to_owned());
    }
    // Last, and so for certain: orphans of a lost run are found by them.
    let ours = [
        Some(format!("HOSTLER_WORKLOAD={}", workload.id)),
        Some(format!("HOSTLER_NAME={}", workload.name)),
        workload.run.as_ref().map(|run| format!("HOSTLER_RUN={}", run.id)),
    ];
    let defaults = defaults.into_iter().map(ByteString::from);
    let ours = ours.into_iter().flatten().map(ByteString::from);
    let asked = workload.spec.env.iter().chain(extra).cloned();
    let mut entries: Vec<ByteString> = Vec::new();
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    for entry in defaults.chain(asked).chain(ours) {
        match places.entry(key(&entry).to_vec()) {
            Entry::Occupied(place) => entries[*place.get()] = entry,
            Entry::Vacant(place) => {
                place.insert(entries.len());
                entries.push(entry);
            }
        }
    }
    entries
}

fn key(entry: &ByteString) -> &[u8] {
    let bytes = entry.as_bytes();
    &bytes[..bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len())]
}
