//! One run, from `Prepare` to `Committed`.
//!
//! ```text
//!               child ready          Execute            execve           main reaped          recorded
//!  Preparing ───────────────► Prepared ───► Starting ──────────► Running ───────────► Ending ──────────► Ended
//!      │  failure                 │ Abort       │ failure                                                  │
//!      └──────► Undoing ◄─────────┴─────────────┘                                                Committed │
//!                  │ reaped                                                                                ▼
//!                  └──────► Failed (Committed: over) | over (Abort)                             over: idle or leave
//! ```
//! A plain program has no child until `Execute`, and is prepared as soon as its streams are there. For the others `Execute`
//! may come before the child is ready; it is remembered. After `Committed` a run may linger until what its
//! readers have not got is sent. The end is in [`crate::ending`].

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::path::Path;

use hostler_linux::cgroup::{CgroupError, Group};
use hostler_linux::epoll::Interest;
use hostler_linux::process::{self, Reaped};
use hostler_linux::spawn::{self, Report, Start};
use hostler_linux::{clock, procfs};
use hostler_model::RunId;
use hostler_model::exit::Exit;
use hostler_model::ids::ExecId;
use hostler_model::launch::{ExecLaunch, Launch, Program};
use hostler_model::limits::{EXECS_PER_RUN_MAX, OWNER_GRACE_MS};
use hostler_model::rundir::{Outcome, ProcessId, RunFile};
use hostler_model::spec::{Stdio, Stop};
use hostler_model::units::Signal;
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_wire::{AgentState, AttachTarget, ExecFailure, FromAgent};

use crate::channels::Channels;
use crate::child::{self, Plan, Theirs, system_failure};
use crate::ending::{Killing, Reuse};
use crate::log::{Log, Source};
use crate::record::{EXIT_RESERVED, RunDirectory, Spare};
use crate::shared::{Shared, TokenKind, token};
use crate::streams::Got;
use crate::target::{Ended, Owner, Started, Target};

/// Execs whose streams are still kept, ended ones included.
const EXECS_KEPT_MAX: usize = 2 * EXECS_PER_RUN_MAX;

/// What happens when the child that will not be executed is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Undo {
    Abort,
    Fail(StartFailure),
}

/// Where the run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    Preparing,
    Prepared,
    Starting,
    Running,
    Undoing(Undo),
    Ending { drain_until_ms: u64 },
    Ended { exit: Exit, sync_at_ms: Option<u64> },
    Failed { failure: StartFailure, sync_at_ms: Option<u64> },
}

/// What became of the run when all is done that can be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It goes on.
    Stay,
    /// It was undone: nothing of it is left.
    Undone,
    /// It is committed, and its readers have everything.
    Over { reuse: Reuse },
    /// It ended without a node; everything is on disk.
    Leave,
}

/// What a plain program needs at `Execute`.
struct Pending {
    program: Program,
    stdio: Stdio,
    theirs: Theirs,
    file: RunFile,
}

/// A run.
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) phase: Phase,
    execute: bool,
    /// The node was told that it is prepared.
    announced: bool,
    pending: Option<Box<Pending>>,
    /// Signals that came between `Execute` and the execve, bit n-1 for signal n.
    early_signals: u64,
    pub(crate) stop: Stop,
    pub(crate) max_time_ms: Option<u64>,
    pub(crate) directory: Option<RunDirectory>,
    pub(crate) group: Option<Group>,
    pub(crate) oom_watch: Option<OwnedFd>,
    pub(crate) oom_kills: u64,
    /// Looks at the kill counter still to make, and when: the notification may come before the kill.
    pub(crate) oom_looks: u32,
    pub(crate) oom_look_at_ms: Option<u64>,
    /// The main program first, once it was forked, then the execs.
    pub(crate) targets: Vec<Target>,
    pub(crate) channels: Channels,
    pub(crate) log: Log,
    pub(crate) timed_out: bool,
    pub(crate) kill_at_ms: Option<u64>,
    pub(crate) killing: Option<Killing>,
    pub(crate) committed: Option<Reuse>,
    /// When a reader last took something, boot clock.
    pub(crate) progress_ms: u64,
}

impl Run {
    /// Makes everything ready; what fails is reported, and is a state of the run like any other.
    pub(crate) fn prepare(launch: Launch, shared: &mut Shared) -> Self {
        let mut run = Self {
            id: launch.run,
            phase: Phase::Preparing,
            execute: false,
            announced: false,
            pending: None,
            early_signals: 0,
            stop: launch.stop,
            max_time_ms: launch.max_time_ms,
            directory: None,
            group: None,
            oom_watch: None,
            oom_kills: 0,
            oom_looks: 0,
            oom_look_at_ms: None,
            targets: Vec::new(),
            channels: Channels::default(),
            log: Log::new(launch.log_directory.as_path(), launch.log),
            timed_out: false,
            kill_at_ms: None,
            killing: None,
            committed: None,
            progress_ms: 0,
        };
        if let Err(failure) = run.set_up(launch, shared) {
            run.fail(failure, shared);
        }
        run
    }

    fn set_up(&mut self, launch: Launch, shared: &mut Shared) -> Result<(), StartFailure> {
        if shared.spare.is_none() {
            let spare = Spare::create(&shared.config.sandbox_dir);
            shared.spare = Some(spare.map_err(|error| in_sandbox("make the run directory", &error))?);
        }
        if let Some(name) = &launch.cgroup {
            let group = make_group(name, &launch, shared)?;
            if launch.limits.memory_bytes.is_some()
                && let Ok(watch) = group.oom_watch()
                && shared.epoll.add(&watch, token(TokenKind::Oom, 0), Interest::Read).is_ok()
            {
                self.oom_watch = Some(watch);
            }
            self.group = Some(group);
        }
        // He attaches ahead; who does not come in this time never will, and the program must not wait for him.
        let expected = Owner::Expected { until_ms: Some(clock::boot_ms() + OWNER_GRACE_MS) };
        let owner = if launch.stdio.owner { expected } else { Owner::Nobody };
        let plan = Plan { program: &launch.program, stdio: &launch.stdio, group: self.group.as_ref() };
        let (mut main, theirs) = child::open(AttachTarget::Main, &plan, owner, shared)?;
        let is_plain = child::is_plain(&plan, &theirs, shared);
        let forked = if is_plain { Ok(()) } else { child::fork(&mut main, &plan, &theirs, Start::OnGo, shared) };
        let pid = main.pid;
        self.targets.push(main);
        forked?;
        let main = (!is_plain).then(|| procfs::process_id(pid)).transpose();
        let file = RunFile {
            store: shared.config.store,
            run: launch.run,
            namespace: launch.namespace,
            sandbox: shared.config.sandbox,
            boot_id: shared.config.boot_id.clone(),
            agent: shared.config.own,
            main: main.map_err(|error| system_failure("look at the new process", &error))?,
            cgroup: launch.cgroup,
            exit_reserved: EXIT_RESERVED,
        };
        if is_plain {
            let (program, stdio) = (launch.program, launch.stdio);
            self.pending = Some(Box::new(Pending { program, stdio, theirs, file }));
            self.phase = Phase::Prepared;
            return Ok(());
        }
        let Some(spare) = shared.spare.take() else { return Ok(()) };
        let root = &shared.config.run_root;
        match spare.name(root, &file) {
            Ok(()) => self.directory = Some(spare.bound(root, self.id)),
            Err(error) => {
                spare.remove();
                return Err(in_sandbox("write run.json", &error));
            }
        }
        Ok(())
    }

    pub(crate) fn main(&mut self) -> Option<&mut Target> {
        self.targets.first_mut().filter(|target| target.key == AttachTarget::Main)
    }

    fn main_pid(&self) -> u32 {
        self.targets.first().map_or(0, |main| main.pid)
    }

    /// The program may be executed.
    pub(crate) fn execute(&mut self, shared: &mut Shared) {
        self.execute = true;
        match (self.phase.clone(), self.pending.take()) {
            (Phase::Prepared, Some(pending)) => self.execute_plain(&pending, shared),
            (Phase::Preparing | Phase::Prepared, _) => self.go(),
            _ => {}
        }
    }

    /// Returns when it runs or has failed. The child names itself in the run directory first.
    fn execute_plain(&mut self, pending: &Pending, shared: &mut Shared) {
        let (Some(spare), Some(main)) = (shared.spare.take(), self.targets.first_mut()) else {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return self.fail(in_sandbox("find the prepared run directory", &missing), shared);
        };
        let root = &shared.config.run_root;
        let named = Cell::new(false);
        let identify = |main: ProcessId| {
            let file = RunFile { main: Some(main), ..pending.file.clone() };
            spare.name(root, &file).map_err(|error| in_sandbox("write run.json", &error))?;
            named.set(true);
            Ok(())
        };
        let plan = Plan { program: &pending.program, stdio: &pending.stdio, group: None };
        let executed = child::execute(main, &plan, &pending.theirs, shared, &identify);
        if named.get() {
            self.directory = Some(spare.bound(root, self.id))
        } else {
            spare.remove()
        }
        match executed {
            Ok(()) => {
                self.phase = Phase::Starting;
                self.main_executed(shared);
            }
            Err(failure) => self.fail(failure, shared),
        }
    }

    fn go(&mut self) {
        if let Some(control) = self.main().and_then(|main| main.control.as_ref()) {
            spawn::send_go(control);
        }
        if self.phase == Phase::Prepared {
            self.phase = Phase::Starting;
        }
    }

    /// Says that it is prepared, unless it is already more than that.
    pub(crate) fn announce(&mut self, shared: &mut Shared) {
        if self.phase == Phase::Prepared && !self.announced {
            self.announced = true;
            shared.send(&FromAgent::Prepared { run: self.id });
        }
    }

    /// Sends a signal to a program. One that is about to be executed gets it then.
    pub(crate) fn signal(&mut self, key: AttachTarget, signal: Signal) {
        match self.phase {
            Phase::Preparing if self.execute && key == AttachTarget::Main => {
                self.early_signals |= 1 << (signal.number() - 1);
            }
            Phase::Starting | Phase::Running | Phase::Ending { .. } => {
                if let Some(target) = self.target_mut(key) {
                    target.signal(signal);
                }
            }
            _ => {}
        }
    }

    /// Takes back what was prepared.
    pub(crate) fn abort(&mut self, shared: &mut Shared) {
        match self.phase {
            Phase::Preparing | Phase::Prepared if !self.execute => self.undo(Undo::Abort, shared),
            Phase::Failed { .. } => {
                self.remove_records(shared);
                self.phase = Phase::Undoing(Undo::Abort);
            }
            _ => {}
        }
    }

    /// The program will not be executed: ends the child, and goes on when it is reaped.
    fn undo(&mut self, undo: Undo, shared: &mut Shared) {
        self.phase = Phase::Undoing(undo);
        self.pending = None;
        if let Some(main) = self.main() {
            main.close_control(shared);
            main.close_streams(shared, &mut Vec::new());
            if main.is_alive() {
                let _ = process::signal(main.pid, Signal::KILL);
            }
        }
        self.undone(shared);
    }

    /// The rest of undoing, once no child is left of it.
    pub(crate) fn undone(&mut self, shared: &mut Shared) {
        let Phase::Undoing(undo) = &self.phase else { return };
        if self.targets.iter().any(Target::is_alive) {
            return;
        }
        let undo = undo.clone();
        self.targets.clear();
        self.close_oom_watch(shared);
        self.remove_group();
        match undo {
            Undo::Abort => self.remove_records(shared),
            Undo::Fail(failure) => {
                if let Some(directory) = &self.directory {
                    let _ = directory.write_exit(self.id, Outcome::StartFailed { failure: failure.clone() });
                }
                shared.send(&FromAgent::StartFailed { run: self.id, failure: failure.clone() });
                self.phase = Phase::Failed { failure, sync_at_ms: Some(shared.sync_at_ms()) };
            }
        }
    }

    pub(crate) fn fail(&mut self, failure: StartFailure, shared: &mut Shared) {
        self.undo(Undo::Fail(failure), shared);
    }

    /// Takes the run directory back for the next run; unless that comes right now, it then goes home.
    pub(crate) fn remove_records(&mut self, shared: &mut Shared) {
        if let Some(directory) = self.directory.take() {
            shared.spare = directory.release();
        }
    }

    pub(crate) fn remove_group(&mut self) {
        if let Some(group) = self.group.take() {
            // What stays behind is found by name and removed by the node.
            let _ = group.remove();
        }
    }

    pub(crate) fn close_oom_watch(&mut self, shared: &Shared) {
        if let Some(watch) = self.oom_watch.take() {
            shared.epoll.remove(&watch);
        }
    }

    /// A child has something to say.
    pub(crate) fn hear(&mut self, serial: u32, shared: &mut Shared) {
        loop {
            let Some(index) = self.targets.iter().position(|target| target.serial == serial) else { return };
            let report = self.targets[index].report(shared);
            match (report, self.targets[index].key) {
                (Report::Nothing, _) => return,
                (Report::Ready, AttachTarget::Main) => self.main_ready(),
                (Report::Executed, AttachTarget::Main) => return self.main_executed(shared),
                (Report::Failed(failure), AttachTarget::Main) => {
                    if !matches!(self.phase, Phase::Undoing(_)) {
                        self.fail(failure, shared);
                    }
                    return;
                }
                (Report::Ready, AttachTarget::Exec(_)) => {}
                (Report::Executed, AttachTarget::Exec(exec)) => {
                    let target = &mut self.targets[index];
                    target.started = Some(Started::now());
                    let pid = target.pid;
                    return shared.send(&FromAgent::ExecStarted { exec, pid });
                }
                (Report::Failed(failure), AttachTarget::Exec(exec)) => {
                    self.targets[index].close_streams(shared, &mut Vec::new());
                    self.targets[index].reported = true;
                    self.targets[index].owner = Owner::Nobody;
                    return shared.send(&FromAgent::ExecFailed(ExecFailure { exec, failure }));
                }
            }
        }
    }

    fn main_ready(&mut self) {
        if self.phase == Phase::Preparing {
            self.phase = if self.execute { Phase::Starting } else { Phase::Prepared };
        }
    }

    fn main_executed(&mut self, shared: &mut Shared) {
        match self.phase {
            Phase::Starting => {
                let started =
                    self.main().map_or_else(Started::now, |main| *main.started.get_or_insert_with(Started::now));
                self.phase = Phase::Running;
                shared.send(&FromAgent::Started { run: self.id, pid: self.main_pid(), started_at_ms: started.wall_ms });
                let early = std::mem::take(&mut self.early_signals);
                for number in (1..=64).filter(|number| early & (1 << (number - 1)) != 0) {
                    if let Some(signal) = Signal::from_number(number) {
                        self.signal(AttachTarget::Main, signal);
                    }
                }
            }
            Phase::Preparing | Phase::Prepared => self.fail(
                StartFailure {
                    kind: StartFailureKind::System,
                    message: "the prepared process ended before it was executed".to_owned(),
                },
                shared,
            ),
            _ => {}
        }
    }

    /// A child was reaped; others than ours were orphans.
    pub(crate) fn reaped(&mut self, reaped: Reaped, shared: &mut Shared) {
        let ended = || Some(Ended { reaped, boot_ms: clock::boot_ms(), wall_ms: clock::wall_ms() });
        let Some(target) = self.targets.iter_mut().find(|target| target.pid == reaped.pid && target.is_alive()) else {
            return;
        };
        // First of all: its number is no longer its own.
        target.ended = ended();
        let serial = target.serial;
        // What it said last is reported before its end.
        self.hear(serial, shared);
        let Some(target) = self.targets.iter_mut().find(|target| target.serial == serial) else { return };
        target.close_control(shared);
        target.ended = ended();
        let now_ms = clock::boot_ms();
        for output in &mut target.outputs {
            output.readable = output.is_open();
            output.hung_up = true;
        }
        if target.key == AttachTarget::Main {
            match self.phase {
                Phase::Undoing(_) => self.undone(shared),
                Phase::Running | Phase::Starting => self.main_ended(now_ms),
                _ => {}
            }
        }
    }

    /// Reads every output that has something, once.
    pub(crate) fn read_outputs(&mut self, scratch: &mut Vec<u8>, shared: &Shared) {
        let Self { targets, log, .. } = self;
        for target in targets.iter_mut() {
            for index in 0..2 {
                if !target.wants_read(index) {
                    continue;
                }
                let (room, keep_from, logged) = (target.room(index), target.keep_from(index), target.logged);
                let source = if index == 0 { Source::Stdout } else { Source::Stderr };
                let got = target.outputs[index].read(room, keep_from, scratch, |data| {
                    if logged {
                        log.write(source, data);
                    }
                });
                if got == Got::End {
                    target.outputs[index].close(&shared.epoll);
                    if logged {
                        log.end(source);
                    }
                }
            }
        }
    }

    /// Starts a second program.
    pub(crate) fn exec(&mut self, exec: ExecId, launch: &ExecLaunch, shared: &mut Shared) {
        let refuse = |message: &str| {
            FromAgent::ExecFailed(ExecFailure {
                exec,
                failure: StartFailure { kind: StartFailureKind::Sandbox, message: message.to_owned() },
            })
        };
        if self.phase != Phase::Running || self.killing.is_some() {
            return shared.send(&refuse("the run is not running"));
        }
        let key = AttachTarget::Exec(exec);
        let alive = self.targets.iter().filter(|target| target.key != AttachTarget::Main && target.is_alive());
        if alive.count() >= EXECS_PER_RUN_MAX {
            return shared.send(&refuse(&format!("the run has {EXECS_PER_RUN_MAX} execs already")));
        }
        if self.targets.iter().any(|target| target.key == key) {
            return shared.send(&refuse("this exec exists already"));
        }
        if self.targets.len() > EXECS_KEPT_MAX
            && let Some(oldest) = self.targets.iter().position(|target| target.reported)
        {
            self.targets.remove(oldest);
        }
        match self.start_exec(key, launch, shared) {
            Ok(target) => self.targets.push(target),
            Err(failure) => shared.send(&FromAgent::ExecFailed(ExecFailure { exec, failure })),
        }
        if let Some(target) = self.target_mut(key).filter(|target| target.started.is_some()) {
            let pid = target.pid;
            shared.send(&FromAgent::ExecStarted { exec, pid });
        }
    }

    fn start_exec(&self, key: AttachTarget, launch: &ExecLaunch, shared: &mut Shared) -> Result<Target, StartFailure> {
        let stdio = Stdio { interactive: launch.interactive, tty: launch.tty, owner: true, ..Stdio::default() };
        let plan = Plan { program: &launch.program, stdio: &stdio, group: self.group.as_ref() };
        let owner = Owner::Expected { until_ms: Some(clock::boot_ms() + OWNER_GRACE_MS) };
        let (mut target, theirs) = child::open(key, &plan, owner, shared)?;
        if child::is_plain(&plan, &theirs, shared) {
            child::execute(&mut target, &plan, &theirs, shared, &|_| Ok(()))?;
        } else {
            child::fork(&mut target, &plan, &theirs, Start::AtOnce, shared)?;
        }
        Ok(target)
    }

    pub(crate) fn target_mut(&mut self, key: AttachTarget) -> Option<&mut Target> {
        self.targets.iter_mut().find(|target| target.key == key)
    }

    /// The node is gone: its channels are closed, and owners have their time to come back.
    pub(crate) fn disconnected(&mut self, now_ms: u64) {
        self.channels.clear();
        for target in &mut self.targets {
            target.owner_is_away(now_ms);
        }
        if let Phase::Ended { sync_at_ms, .. } | Phase::Failed { sync_at_ms, .. } = &mut self.phase {
            *sync_at_ms = sync_at_ms.map(|_| now_ms);
        }
    }

    /// How it stands, for the hello.
    pub(crate) fn state(&self) -> AgentState {
        let (run, pid) = (self.id, self.main_pid());
        let running = |started: Option<Started>| AgentState::Running {
            run,
            pid,
            started_at_ms: started.map_or_else(clock::wall_ms, |started| started.wall_ms),
            oom_kills: self.oom_kills,
        };
        match &self.phase {
            Phase::Preparing if self.execute => running(None),
            Phase::Preparing | Phase::Prepared | Phase::Undoing(Undo::Abort) => AgentState::Prepared { run },
            Phase::Starting | Phase::Running | Phase::Ending { .. } => {
                running(self.targets.first().and_then(|main| main.started))
            }
            Phase::Undoing(Undo::Fail(failure)) | Phase::Failed { failure, .. } => {
                AgentState::Failed { run, failure: failure.clone() }
            }
            Phase::Ended { exit, .. } => AgentState::Ended { run, exit: exit.clone() },
        }
    }

    /// Execs that are alive.
    pub(crate) fn execs(&self) -> Vec<(ExecId, u32)> {
        let alive = self.targets.iter().filter(|target| target.started.is_some() && !target.reported);
        alive
            .filter_map(|target| match target.key {
                AttachTarget::Exec(exec) => Some((exec, target.pid)),
                AttachTarget::Main => None,
            })
            .collect()
    }
}

fn in_sandbox(what: &str, error: &std::io::Error) -> StartFailure {
    StartFailure { kind: StartFailureKind::Sandbox, message: format!("cannot {what}: {}", spawn::errno_text(error)) }
}

fn make_group(name: &str, launch: &Launch, shared: &Shared) -> Result<Group, StartFailure> {
    let Some(parent) = &shared.config.cgroup else {
        return Err(StartFailure {
            kind: StartFailureKind::Limit,
            message: "limits were asked for, and this node has no cgroups".to_owned(),
        });
    };
    parent.create(name, &launch.limits).map_err(|error| StartFailure {
        kind: match error {
            CgroupError::Unavailable { .. } => StartFailureKind::Limit,
            _ => StartFailureKind::Sandbox,
        },
        message: with_source(&error),
    })
}

/// An error with its cause.
pub(crate) fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Whether a path can be used by a process that changes its working directory.
pub(crate) fn absolute(path: &Path) -> std::io::Result<std::path::PathBuf> {
    std::path::absolute(path)
}
