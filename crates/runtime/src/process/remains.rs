//! What is left of a run whose agent is gone: its end if the agent still wrote it, processes, cgroup, directories.
//! Everything here blocks, and runs only when something went wrong.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hostler_linux::pidfd::Pidfd;
use hostler_linux::procfs;
use hostler_model::ids::RunId;
use hostler_model::limits;
use hostler_model::rundir::{EXIT_FILE, ExecEnd, ExitFile, Outcome, ProcessId, RUN_FILE, RunFile};

use super::spawn::{remove_dir, sandbox_dir};
use crate::{Fact, Found, FoundExec, FoundState, Settings};

/// Between two looks at processes that are being killed.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What a run directory says about who runs there.
#[derive(Debug)]
pub(crate) enum RunRead {
    Missing,
    Unreadable(String),
    Found(Box<RunFile>),
}

pub(crate) fn run_dir(settings: &Settings, run: RunId) -> PathBuf {
    settings.runs.join(run.to_string())
}

/// Reads `run.json`.
pub(crate) fn read_run(settings: &Settings, run: RunId) -> RunRead {
    let path = run_dir(settings, run).join(RUN_FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return RunRead::Missing,
        Err(error) => return RunRead::Unreadable(format!("cannot read {}: {error}", path.display())),
    };
    match serde_json::from_slice::<RunFile>(&text) {
        // A directory that goes from one run to the next has the next one's file for a moment under the last one's name:
        // nothing of the next was executed then, and the last is over.
        Ok(file) if file.store == settings.store => RunRead::Found(Box::new(RunFile { run, ..file })),
        Ok(file) if file.run == run => RunRead::Found(Box::new(file)),
        Ok(file) => RunRead::Unreadable(format!("{} is of run {}", path.display(), file.run)),
        Err(error) => RunRead::Unreadable(format!("{} makes no sense: {error}", path.display())),
    }
}

/// The end that the agent wrote, if it got that far.
pub(crate) fn read_end(settings: &Settings, run: RunId) -> Option<ExitFile> {
    let bytes = std::fs::read(run_dir(settings, run).join(EXIT_FILE)).ok()?;
    // Room for an end, one of an earlier run in the same directory, or torn.
    hostler_wire::exit_file::decode(&bytes).filter(|file| file.run == run)
}

/// Ends of execs come before that of their run.
pub(crate) fn facts_of(end: ExitFile) -> Vec<Fact> {
    let run = end.run;
    let execs = end.execs.into_iter().flat_map(|ExecEnd { exec, pid, exit }| {
        [Fact::ExecStarted { run, exec, pid }, Fact::ExecExited { run, exec, exit }]
    });
    let last = match end.outcome {
        Outcome::Exited { exit } => Fact::Exited { run, exit },
        Outcome::StartFailed { failure } => Fact::StartFailed { run, failure },
    };
    execs.chain([last]).collect()
}

pub(crate) fn exec_of(end: ExecEnd) -> FoundExec {
    FoundExec { exec: end.exec, pid: Some(end.pid), exit: Some(end.exit) }
}

pub(crate) fn found_of(end: ExitFile) -> Found {
    let state = match end.outcome {
        Outcome::Exited { exit } => FoundState::Ended { exit },
        Outcome::StartFailed { failure } => FoundState::StartFailed { failure },
    };
    Found { run: end.run, state, execs: end.execs.into_iter().map(exec_of).collect() }
}

/// The end of a run whose agent died, after nothing of it is left.
pub(crate) fn end(settings: &Settings, run: RunId) -> Option<ExitFile> {
    let file = match read_run(settings, run) {
        RunRead::Found(file) if file.store == settings.store => Some(*file),
        _ => None,
    };
    // The end is of the main process; orphans and exec'd programs may live on.
    if let Some(file) = file {
        kill(settings, std::slice::from_ref(&file));
        forget_container(&file);
        forget_machine(&file);
    }
    read_end(settings, run)
}

/// Kills what is left of these runs of this boot, their agents included, and waits until it is gone, [`limits::KILL_MAX_MS`] at most.
pub(crate) fn kill(settings: &Settings, files: &[RunFile]) {
    let boot_id = procfs::boot_id().unwrap_or_default();
    let deadline = Instant::now() + Duration::from_millis(limits::KILL_MAX_MS);
    let mut left: Vec<&RunFile> = files.iter().filter(|file| file.boot_id == boot_id).collect();
    loop {
        let marked = marked(settings, &left);
        left.retain(|file| !kill_once(settings, file, &marked));
        if left.is_empty() {
            return;
        }
        if Instant::now() >= deadline {
            for file in left {
                tracing::error!(run = %file.run, "processes of a lost run are stuck in the kernel");
            }
            return;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// What was started for these runs and lost its parents. Without a cgroup, its environment is all that tells it from the
/// rest of the machine. A run whose end is written needs no search: its agent left nothing before it wrote that.
fn marked(settings: &Settings, files: &[&RunFile]) -> Vec<(RunId, ProcessId)> {
    let searched: HashSet<RunId> = files
        .iter()
        .filter(|file| file.cgroup.is_none() && read_end(settings, file.run).is_none())
        .map(|file| file.run)
        .collect();
    if searched.is_empty() {
        return Vec::new();
    }
    let run_of =
        |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<RunId>().ok().filter(|run| searched.contains(run));
    procfs::with_environment(b"HOSTLER_RUN", run_of).unwrap_or_default()
}

/// Whether nothing is left.
fn kill_once(settings: &Settings, file: &RunFile, marked: &[(RunId, ProcessId)]) -> bool {
    // The agent first: while it lives, it answers to what we do.
    if let Some(pidfd) = Pidfd::open(file.agent) {
        pidfd.kill();
        return false;
    }
    let group_gone = file.cgroup.as_deref().is_none_or(|name| kill_group(settings, name));
    let held: Vec<_> =
        marked.iter().filter(|(run, _)| *run == file.run).filter_map(|(_, id)| Pidfd::open(*id)).collect();
    held.iter().for_each(Pidfd::kill);
    file.main.is_none_or(kill_tree) && group_gone && held.is_empty()
}

fn forget_container(file: &RunFile) {
    if let Some(container) = &file.container {
        crate::oci::forget(container.oci.state.as_path(), file.run);
    }
}

/// What was made for a virtual machine is in one directory.
fn forget_machine(file: &RunFile) {
    if let Some(vm) = &file.vm {
        remove_dir(vm.directory.as_path());
    }
}

/// Kills the process and, as long as it has not left them orphaned, its descendants.
fn kill_tree(main: ProcessId) -> bool {
    let Some(pidfd) = Pidfd::open(main) else { return true };
    let descendants = procfs::descendants(main.pid).unwrap_or_default();
    let descendants: Vec<_> = descendants.into_iter().filter_map(|pid| procfs::process_id(pid).ok()).collect();
    pidfd.kill();
    for descendant in descendants {
        if let Some(pidfd) = Pidfd::open(descendant) {
            pidfd.kill();
        }
    }
    !procfs::is_same_process(main)
}

/// Kills everything in a group of ours and removes it. Whether it is gone.
pub(crate) fn kill_group(settings: &Settings, name: &str) -> bool {
    match &settings.cgroup {
        Some(parent) => crate::os::remove_group(parent, name),
        None => true,
    }
}

/// Removes everything of a run whose end is recorded and whose agent is gone; the run directory last, so that a
/// crash in between begins again. A directory of another store is not touched.
pub(crate) fn remove(settings: &Settings, run: RunId) {
    match read_run(settings, run) {
        RunRead::Found(file) if file.store != settings.store => return,
        RunRead::Found(file) => {
            kill(settings, std::slice::from_ref(&file));
            forget_container(&file);
            forget_machine(&file);
            remove_dir(&sandbox_dir(settings, file.sandbox));
        }
        RunRead::Missing | RunRead::Unreadable(_) => {}
    }
    remove_dir(&run_dir(settings, run));
}
