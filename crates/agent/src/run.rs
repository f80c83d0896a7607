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
//! readers have not got is sent. The start is in [`crate::start`], the end in [`crate::ending`].

use std::os::fd::OwnedFd;
use std::path::Path;

use hostler_linux::cgroup::Group;
use hostler_linux::clock;
use hostler_linux::process::{self, Reaped};
use hostler_linux::spawn::Report;
use hostler_model::RunId;
use hostler_model::exit::Exit;
use hostler_model::ids::ExecId;
use hostler_model::launch::Launch;
use hostler_model::rundir::{ExecEnd, Outcome};
use hostler_model::spec::{Stdio, Stop};
use hostler_model::statistics::Statistics;
use hostler_model::units::Signal;
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_wire::{AgentState, AttachTarget, ExecFailure, FromAgent};

use crate::channels::Channels;
use crate::child::{self, Theirs};
use crate::ending::{Killing, Reuse};
use crate::log::{Log, Source};
use crate::oci::Container;
use crate::record::RunDirectory;
use crate::room::RunRoom;
use crate::shared::Shared;
use crate::start::Pending;
use crate::streams::Got;
use crate::target::{Ended, Owner, Started, Target};
use crate::vm::{InGuest, Vm};

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

/// Whether a run stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    Still,
    Up,
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

/// A run.
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) phase: Phase,
    pub(crate) execute: bool,
    /// The node was told that it is prepared.
    announced: bool,
    /// It came together with the end of another: there is much to do, and less haste.
    pub(crate) follows: bool,
    /// Its outputs are not watched yet: a program that ends at once is read when it is reaped, and costs no other wake-up.
    pub(crate) watches_late: bool,
    pub(crate) pending: Option<Box<Pending>>,
    /// Signals that came between `Execute` and the execve, bit n-1 for signal n.
    early_signals: u64,
    pub(crate) stop: Stop,
    pub(crate) max_time_ms: Option<u64>,
    pub(crate) directory: Option<RunDirectory>,
    pub(crate) group: Option<Group>,
    /// What it runs in, if it is a container.
    pub(crate) container: Option<Box<Container>>,
    /// The container's ends of the main program's streams, until it is made.
    pub(crate) container_streams: Option<Box<(Theirs, Stdio)>>,
    /// The guest that it runs in.
    pub(crate) guest: Option<Box<InGuest>>,
    /// Where its programs are kept apart from the machine.
    pub(crate) room: Option<Box<RunRoom>>,
    pub(crate) oom_watch: Option<OwnedFd>,
    pub(crate) oom_kills: u64,
    /// Looks at the kill counter still to make, and when: the notification may come before the kill.
    pub(crate) oom_looks: u32,
    pub(crate) oom_look_at_ms: Option<u64>,
    /// The main program first, once it was forked, then the execs.
    pub(crate) targets: Vec<Target>,
    /// Ends of execs that the node has not recorded, oldest first.
    pub(crate) exec_ends: Vec<ExecEnd>,
    pub(crate) channels: Channels,
    pub(crate) log: Log,
    /// What the samples came to so far.
    pub(crate) statistics: Option<Box<Statistics>>,
    pub(crate) timed_out: bool,
    /// All of it stands still.
    pub(crate) paused: bool,
    pub(crate) kill_at_ms: Option<u64>,
    pub(crate) killing: Option<Killing>,
    pub(crate) committed: Option<Reuse>,
    /// When a reader last took something, boot clock.
    pub(crate) progress_ms: u64,
}

impl Run {
    /// Makes everything ready; what fails is reported, and is a state of the run like any other.
    pub(crate) fn prepare(launch: Launch, warm: Option<Box<Vm>>, follows: bool, shared: &mut Shared) -> Self {
        let mut run = Self {
            id: launch.run,
            phase: Phase::Preparing,
            execute: false,
            announced: false,
            follows,
            watches_late: false,
            pending: None,
            early_signals: 0,
            stop: launch.stop,
            max_time_ms: launch.max_time_ms,
            directory: None,
            group: None,
            container: None,
            container_streams: None,
            guest: None,
            room: None,
            oom_watch: None,
            oom_kills: 0,
            oom_looks: 0,
            oom_look_at_ms: None,
            targets: Vec::new(),
            exec_ends: Vec::new(),
            channels: Channels::default(),
            log: Log::new(launch.log_directory.as_path(), launch.log, launch.run.number),
            statistics: None,
            timed_out: false,
            paused: false,
            kill_at_ms: None,
            killing: None,
            committed: None,
            progress_ms: 0,
        };
        if let Err(failure) = run.set_up(launch, warm, shared) {
            run.fail(failure, shared);
        }
        run
    }

    pub(crate) fn main(&mut self) -> Option<&mut Target> {
        self.targets.first_mut().filter(|target| target.key == AttachTarget::Main)
    }

    fn main_pid(&self) -> u32 {
        self.targets.first().map_or(0, |main| main.pid)
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
            Phase::Starting | Phase::Running | Phase::Ending { .. } if self.guest.is_some() => {
                self.signal_in_guest(key, signal);
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
            main.close_in_guest();
            if main.is_alive() {
                let _ = process::signal(main.pid, Signal::KILL);
            }
        }
        self.undo_container(shared);
        if let Some(guest) = &mut self.guest {
            guest.vm.leave();
        }
        self.leave_room();
        self.undone(shared);
    }

    /// The rest of undoing, once no child is left of it.
    pub(crate) fn undone(&mut self, shared: &mut Shared) {
        let Phase::Undoing(undo) = &self.phase else { return };
        // What makes a room has children besides, and is not gone before they are.
        let room_is_busy = self.room.is_some() && process::has_children();
        let is_left = room_is_busy || !self.is_container_gone() || !self.is_machine_gone();
        if self.targets.iter().any(Target::is_alive) || is_left {
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
                    let _ = directory.write_exit(self.id, Outcome::StartFailed { failure: failure.clone() }, &[]);
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

    /// Lets everything in it stand still, or go on.
    pub(crate) fn pause(&mut self, stand: Stand) -> Result<(), String> {
        if self.phase != Phase::Running {
            return Err("the run is not running".to_owned());
        }
        let Some(group) = &self.group else { return Err("the run has no cgroup".to_owned()) };
        let done = match stand {
            Stand::Still => group.freeze(),
            Stand::Up => group.thaw(),
        };
        done.map_err(|error| with_source(&error))?;
        self.paused = stand == Stand::Still;
        Ok(())
    }

    /// A child has something to say.
    pub(crate) fn hear(&mut self, serial: u32, shared: &mut Shared) {
        loop {
            let Some(index) = self.targets.iter().position(|target| target.serial == serial) else { return };
            let report = self.targets[index].report(shared);
            match (report, self.targets[index].key) {
                (Report::Nothing, _) => return,
                (Report::Moved { init, main }, _) => self.moved(index, (init, main), shared),
                (Report::Ready, AttachTarget::Main) => self.main_ready(),
                (Report::Executed, AttachTarget::Main) => return self.main_executed(shared),
                (Report::Failed(failure), AttachTarget::Main) => {
                    if !matches!(self.phase, Phase::Undoing(_)) {
                        self.fail(failure, shared);
                    }
                    return;
                }
                (Report::Ready, AttachTarget::Exec(_)) => self.targets[index].go(),
                (Report::Executed, AttachTarget::Exec(exec)) => {
                    let target = &mut self.targets[index];
                    target.started = Some(Started::now());
                    let pid = target.pid;
                    return shared.send(&FromAgent::ExecStarted { exec, pid });
                }
                (Report::Failed(failure), AttachTarget::Exec(exec)) => {
                    return self.exec_failed(index, exec, failure, shared);
                }
            }
        }
    }

    pub(crate) fn exec_failed(&mut self, index: usize, exec: ExecId, failure: StartFailure, shared: &mut Shared) {
        self.targets[index].close_streams(shared, &mut Vec::new());
        self.targets[index].reported = true;
        self.targets[index].owner = Owner::Nobody;
        shared.send(&FromAgent::ExecFailed(ExecFailure { exec, failure }));
    }

    pub(crate) fn main_ready(&mut self) {
        if self.phase == Phase::Preparing {
            self.phase = if self.execute { Phase::Starting } else { Phase::Prepared };
        }
    }

    pub(crate) fn main_executed(&mut self, shared: &mut Shared) {
        match self.phase {
            Phase::Starting => {
                let started =
                    self.main().map_or_else(Started::now, |main| *main.started.get_or_insert_with(Started::now));
                self.phase = Phase::Running;
                shared.send(&FromAgent::Started { run: self.id, pid: self.main_pid(), started_at_ms: started.wall_ms });
                if self.follows {
                    shared.hold();
                }
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
        if self.container_reaped(reaped, shared) || self.machine_reaped(reaped, shared) {
            return;
        }
        let ended = || Some(Ended { reaped, boot_ms: clock::boot_ms(), wall_ms: clock::wall_ms() });
        self.hear_staged(reaped.pid, shared);
        let Some(target) = self.targets.iter_mut().find(|target| target.pid == reaped.pid && target.is_alive()) else {
            return self.undone(shared);
        };
        // First of all: its number is no longer its own.
        target.ended = ended();
        let serial = target.serial;
        // What it said last is reported before its end.
        self.hear(serial, shared);
        let Some(target) = self.targets.iter_mut().find(|target| target.serial == serial) else { return };
        if target.pid != reaped.pid {
            // Only the process that made or entered its room.
            target.ended = None;
            return;
        }
        target.close_control(shared);
        let now_ms = clock::boot_ms();
        target.over(Ended { reaped, boot_ms: now_ms, wall_ms: clock::wall_ms() });
        if target.key == AttachTarget::Main {
            match self.phase {
                Phase::Undoing(_) => self.undone(shared),
                Phase::Running | Phase::Starting => self.main_ended(now_ms),
                Phase::Preparing | Phase::Prepared => self.container_main_ended(shared),
                _ => {}
            }
        }
    }

    /// It lives longer than a moment: its outputs are watched like anybody's.
    pub(crate) fn watch_outputs(&mut self, shared: &mut Shared) {
        if std::mem::take(&mut self.watches_late)
            && let Some(main) = self.main()
            && child::watch_outputs(main, shared).is_err()
        {
            // The kernel has no room for it: what is written is looked for again in a moment.
            main.outputs.iter_mut().for_each(|output| output.readable = output.is_open());
            self.watches_late = true;
            shared.hold();
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
            paused: self.paused,
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

    /// Execs whose program is not executed yet.
    pub(crate) fn exec_starts(&self) -> Vec<ExecId> {
        let starting =
            self.targets.iter().filter(|target| target.started.is_none() && target.is_live() && !target.reported);
        starting
            .filter_map(|target| match target.key {
                AttachTarget::Exec(exec) => Some(exec),
                AttachTarget::Main => None,
            })
            .collect()
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
