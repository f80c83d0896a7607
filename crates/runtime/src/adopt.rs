//! After a start of the daemon: every agent and run directory that is there is looked at once.
//!
//! | agent | run directory | found |
//! |---|---|---|
//! | says idle | – | it is told to leave |
//! | says prepared, running, failed, ended | any | that |
//! | – | of another store, or unreadable | foreign, left alone |
//! | – | no `run.json`, nothing prepared | removed: never executed, never heard of |
//! | – | `exit.json` | that end |
//! | – | of another boot | lost to the reboot |
//! | dead, or alive and silent (killed) | of this boot | what is left is killed; lost with its agent |
//!
//! Agents are asked in parallel, without a visit to the blocking pool; directories are read only for runs that no
//! agent speaks for. Then sandboxes without an agent and cgroups without a run are removed.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hostler_linux::procfs;
use hostler_model::ids::{RunId, SandboxId, StoreId};
use hostler_model::rundir::{ProcessId, RUN_FILE, RunFile};
use hostler_model::workload::LostReason;
use hostler_wire::{AgentState, Hello};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::agent::Agent;
use crate::link::{self, Link, LinkError};
use crate::process::Shared;
use crate::process::remains::{self, RunRead};
use crate::process::spawn::{Process, remove_dir};
use crate::{Adoption, ForeignRun, Found, FoundExec, FoundState, RuntimeError};
use hostler_linux::pidfd::Pidfd;

/// Agents asked at one time.
const PARALLEL_MAX: usize = 64;
/// Connections tried to an agent that lives and does not answer.
const ATTEMPTS_MAX: usize = 3;
/// The same when this process itself cannot connect: out of descriptors, out of memory; and the time between.
const OWN_ATTEMPTS: (usize, Duration) = (20, Duration::from_millis(50));

/// What became of asking one sandbox.
enum Asked {
    /// It answered, and is connected.
    Answered(Box<Hello>),
    /// Nobody listens.
    Dead,
    /// This process listens, and gave no hello.
    Silent(Option<ProcessId>),
    /// It does not speak our language; it is left alone.
    Foreign(String),
    /// Nothing is known of it: we could not even ask.
    Unasked(io::Error),
}

/// Everything found; the runs are known to `shared` afterwards. Fails when an agent could not be asked for a reason of
/// our own: nothing is decided about its run then.
pub(crate) async fn adopt(shared: &Arc<Shared>) -> Result<Adoption, RuntimeError> {
    let mut adoption = Adoption { found: Vec::new(), foreign: Vec::new() };
    let mut spoken_for = HashSet::new();
    let mut mute = HashMap::new();
    for (sandbox, asked) in ask_all(shared).await {
        match asked {
            Asked::Answered(hello) => {
                if let Some(found) = found_of(sandbox, *hello) {
                    spoken_for.insert(found.run);
                    adoption.found.push(found);
                }
            }
            Asked::Dead => {
                mute.insert(sandbox, None);
            }
            Asked::Silent(process) => {
                mute.insert(sandbox, process);
            }
            Asked::Unasked(error) => return Err(RuntimeError::Adopt(sandbox, error)),
            Asked::Foreign(problem) => {
                let path = shared.settings.sandboxes.join(sandbox.to_string());
                adoption.foreign.push(ForeignRun { path, store: None, problem });
            }
        }
    }
    let scanning = Arc::clone(shared);
    let scan = move || Scan { shared: &scanning, adoption, mute }.run(&spoken_for);
    match shared.handle.spawn_blocking(scan).await {
        Ok(adoption) => Ok(adoption),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn found_of(sandbox: SandboxId, hello: Hello) -> Option<Found> {
    let starting = hello.exec_starts.into_iter().map(|exec| FoundExec { exec, pid: None, exit: None });
    let alive = hello.execs.into_iter().map(|(exec, pid)| FoundExec { exec, pid: Some(pid), exit: None });
    let execs = starting.chain(alive).chain(hello.exec_ends.into_iter().map(remains::exec_of)).collect();
    let (run, state) = match hello.state {
        AgentState::Idle | AgentState::Booting | AgentState::Warm => return None,
        AgentState::Prepared { run } => (run, FoundState::Prepared),
        AgentState::Running { run, pid, started_at_ms, oom_kills, paused } => {
            (run, FoundState::Running { sandbox, pid, started_at_ms, oom_kills, paused })
        }
        AgentState::Failed { run, failure } => (run, FoundState::StartFailed { failure }),
        AgentState::Ended { run, exit } => (run, FoundState::Ended { exit }),
    };
    Some(Found { run, state, execs })
}

/// The entries of a directory whose names are ids, and those whose names are not.
fn entries<T: FromStr>(directory: &Path) -> (Vec<T>, Vec<PathBuf>) {
    let (mut ids, mut others) = (Vec::new(), Vec::new());
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::error!(path = %directory.display(), %error, "cannot read a directory");
            }
            return (ids, others);
        }
    };
    for entry in entries.flatten() {
        match entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            Some(id) => ids.push(id),
            None => others.push(entry.path()),
        }
    }
    (ids, others)
}

async fn ask_all(shared: &Arc<Shared>) -> Vec<(SandboxId, Asked)> {
    let (sandboxes, _) = entries::<SandboxId>(&shared.settings.sandboxes);
    let permits = Arc::new(Semaphore::new(PARALLEL_MAX));
    let mut asking = JoinSet::new();
    for sandbox in sandboxes {
        let (shared, permits) = (Arc::clone(shared), Arc::clone(&permits));
        asking.spawn(async move {
            let _permit = permits.acquire().await;
            (sandbox, ask(&shared, sandbox).await)
        });
    }
    asking.join_all().await
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | NotADirectory)
}

/// Tries again while the reason that it does not work is ours.
async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let (attempts, between) = OWN_ATTEMPTS;
    for _ in 1..attempts {
        match link::connect(directory).await {
            Err(error) if !is_gone(&error) => tokio::time::sleep(between).await,
            connected_or_gone => return connected_or_gone,
        }
    }
    link::connect(directory).await
}

async fn ask(shared: &Arc<Shared>, sandbox: SandboxId) -> Asked {
    let directory = shared.settings.sandboxes.join(sandbox.to_string());
    let mut silent = None;
    for _ in 0..ATTEMPTS_MAX {
        let stream = match connect(&directory).await {
            Ok(stream) => stream,
            // The listener is gone, so the process is, or soon will be.
            Err(error) if is_gone(&error) => {
                return if silent.is_some() { Asked::Silent(silent) } else { Asked::Dead };
            }
            Err(error) => return Asked::Unasked(error),
        };
        let peer = stream.peer_cred().ok().and_then(|peer| u32::try_from(peer.pid()?).ok());
        silent = peer.and_then(|pid| procfs::process_id(pid).ok()).or(silent);
        let mut link = Link::new(Agent::new(sandbox), stream);
        match link.hello(shared).await {
            Ok(hello) => return answered(shared, link, hello),
            Err(error @ (LinkError::Protocol { .. } | LinkError::Sandbox)) => return Asked::Foreign(error.to_string()),
            Err(error) => tracing::warn!(%sandbox, %error, "an agent does not answer"),
        }
    }
    Asked::Silent(silent)
}

fn answered(shared: &Arc<Shared>, link: Link, hello: Hello) -> Asked {
    shared.adopt(link.agent(), &hello.state);
    let process = Process::found(hello.pid);
    shared.handle.spawn(link::live(Arc::clone(shared), link, process));
    Asked::Answered(Box::new(hello))
}

/// The second half: files, and what is left of the dead. Blocks.
struct Scan<'a> {
    shared: &'a Arc<Shared>,
    adoption: Adoption,
    /// Sandboxes whose agents gave no hello, with the process if one listens.
    mute: HashMap<SandboxId, Option<ProcessId>>,
}

impl Scan<'_> {
    fn run(mut self, spoken_for: &HashSet<RunId>) -> Adoption {
        let settings = &self.shared.settings;
        let boot_id = procfs::boot_id().unwrap_or_default();
        let (runs, others) = entries::<RunId>(&settings.runs);
        for path in others {
            self.foreign(path, None, "its name is not a run id".to_owned());
        }
        let mut lost = Vec::new();
        let mut kept_groups: HashSet<String> = HashSet::new();
        let mut kept_sandboxes = HashSet::new();
        for run in runs.into_iter().filter(|run| !spoken_for.contains(run)) {
            let path = remains::run_dir(settings, run);
            let file = match remains::read_run(settings, run) {
                RunRead::Found(file) => *file,
                RunRead::Missing => {
                    self.without_run_file(run, path);
                    continue;
                }
                RunRead::Unreadable(problem) => {
                    self.foreign(path, None, problem);
                    kept_groups.insert(run.to_string());
                    continue;
                }
            };
            if file.store != settings.store {
                kept_groups.extend(file.cgroup);
                kept_sandboxes.insert(file.sandbox);
                self.foreign(path, Some(file.store), format!("it belongs to store {}", file.store));
                continue;
            }
            if file.boot_id == boot_id {
                // Its agent did not answer, three times, or its socket is gone: if it lives, it is killed as well.
                lost.push(file);
            } else {
                self.found(run, LostReason::Reboot);
            }
        }
        remains::kill(settings, &lost);
        for RunFile { run, .. } in lost {
            self.found(run, LostReason::Agent);
        }
        self.sandboxes(&kept_sandboxes);
        self.groups(spoken_for, &kept_groups);
        self.containers(spoken_for, &kept_groups);
        self.machines(spoken_for, &kept_groups);
        self.adoption
    }

    fn foreign(&mut self, path: PathBuf, store: Option<StoreId>, problem: String) {
        self.adoption.foreign.push(ForeignRun { path, store, problem });
    }

    /// A run without an agent: an end that was written wins.
    fn found(&mut self, run: RunId, reason: LostReason) {
        let end = remains::read_end(&self.shared.settings, run);
        let lost = || Found { run, state: FoundState::Lost(reason), execs: Vec::new() };
        self.shared.adopt_over(run);
        self.adoption.found.push(end.map_or_else(lost, remains::found_of));
    }

    /// `run.json` comes before anything is executed, so this is a preparation that broke off, or nothing of ours.
    fn without_run_file(&mut self, run: RunId, path: PathBuf) {
        if let Some(end) = remains::read_end(&self.shared.settings, run) {
            self.shared.adopt_over(run);
            self.adoption.found.push(remains::found_of(end));
            return;
        }
        let half_made = |name: &str| name.starts_with(RUN_FILE) || name.starts_with("exit.json");
        let ours = std::fs::read_dir(&path).is_ok_and(|mut entries| {
            entries.all(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(half_made)))
        });
        if ours {
            remove_dir(&path);
        } else {
            self.foreign(path, None, "it has no run.json".to_owned());
        }
    }

    /// Sandboxes without a hello: whose process is gone, or is ours and of no use.
    fn sandboxes(&mut self, kept: &HashSet<SandboxId>) {
        for (sandbox, process) in std::mem::take(&mut self.mute) {
            if kept.contains(&sandbox) {
                continue;
            }
            let path = self.shared.settings.sandboxes.join(sandbox.to_string());
            match process.filter(|process| procfs::is_same_process(*process)) {
                Some(process) if !is_of_store(process, self.shared.settings.store) => {
                    self.foreign(path, None, "its agent does not answer, and is not this store's".to_owned());
                    continue;
                }
                Some(process) => kill_agent(process),
                None => {}
            }
            remove_dir(&path);
        }
    }

    /// What the OCI runtime remembers of runs that are nowhere, and user ids that these have.
    fn containers(&self, spoken_for: &HashSet<RunId>, kept: &HashSet<String>) {
        let state = &self.shared.settings.oci_state;
        let (remembered, _) = entries::<RunId>(state);
        let gone = |run: &RunId| {
            !spoken_for.contains(run)
                && !kept.contains(&run.to_string())
                && !remains::run_dir(&self.shared.settings, *run).exists()
        };
        let known: HashSet<_> = remembered.into_iter().chain(crate::oci::owners(state)).collect();
        known.into_iter().filter(gone).for_each(|run| crate::oci::forget(state, run));
    }

    /// Directories of machines that belong to no run and no sandbox that was found.
    fn machines(&self, spoken_for: &HashSet<RunId>, kept: &HashSet<String>) {
        let (of_runs, others) = entries::<RunId>(self.shared.guests.machines());
        let gone = |run: &RunId| {
            !spoken_for.contains(run)
                && !kept.contains(&run.to_string())
                && !remains::run_dir(&self.shared.settings, *run).exists()
        };
        of_runs.into_iter().filter(gone).for_each(|run| self.shared.guests.forget(&run.to_string()));
        let names = others.iter().filter_map(|path| path.file_name()?.to_str()?.parse::<SandboxId>().ok());
        let is_left = |sandbox: &SandboxId| !self.is_watched(*sandbox);
        names.filter(is_left).for_each(|sandbox| self.shared.guests.forget(&sandbox.to_string()));
    }

    fn is_watched(&self, sandbox: SandboxId) -> bool {
        self.shared.state().agents.contains_key(&sandbox)
    }

    /// Groups that are named like a run, and belong to none that was found.
    fn groups(&self, spoken_for: &HashSet<RunId>, kept: &HashSet<String>) {
        let Some(parent) = &self.shared.settings.cgroup else { return };
        for name in parent.names() {
            let is_of_run = name.parse::<RunId>().is_ok_and(|run| !spoken_for.contains(&run));
            let is_of_sandbox = name.parse::<SandboxId>().is_ok_and(|sandbox| !self.is_watched(sandbox));
            if !(is_of_run || is_of_sandbox) || kept.contains(&name) {
                continue;
            }
            if !crate::os::remove_group(parent, &name) {
                tracing::warn!(name, "a cgroup without a run is still in use");
            }
        }
    }
}

fn kill_agent(agent: ProcessId) {
    if let Some(pidfd) = Pidfd::open(agent) {
        pidfd.kill();
    }
}

/// Whether the process was started as an agent of this store.
fn is_of_store(process: ProcessId, store: StoreId) -> bool {
    let arguments = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    let arguments: Vec<_> = arguments.split(|byte| *byte == 0).collect();
    let named = arguments.windows(2).any(|pair| pair[0] == b"--store" && pair[1] == store.to_string().as_bytes());
    named && procfs::is_same_process(process)
}
