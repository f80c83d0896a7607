//! A run in a guest: the program, its execs and their streams are there, everything else of the run is here. What the node
//! asks is passed on; what the guest's agent tells is taken in [`super::told`].

use std::collections::BTreeSet;

use hostler_linux::clock;
use hostler_linux::epoll::Event;
use hostler_linux::process::Reaped;
use hostler_model::exit::ExitStatus;
use hostler_model::guest::{GUEST_CGROUP, VmBoot, VmLaunch};
use hostler_model::ids::ExecId;
use hostler_model::launch::{ExecLaunch, Launch};
use hostler_model::limits::{OWNER_GRACE_MS, VM_KILL_MS};
use hostler_model::rundir::{RunFile, VmFile};
use hostler_model::spec::{Limits, Log, Stdio};
use hostler_model::units::Signal;
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_wire::{AttachTarget, FromAgent, SignalScope, ToAgent};

use super::channel::attach;
use super::{News, Stage, Vm, make_directory};
use crate::child;
use crate::link::Health;
use crate::record;
use crate::run::{Phase, Run};
use crate::shared::{Shared, TokenKind};
use crate::start::in_sandbox;
use crate::streams::Output;
use crate::target::{Ended, Owner, Target};

/// What a run keeps of its guest.
pub(crate) struct InGuest {
    pub(crate) vm: Box<Vm>,
    /// What the guest's agent is to start, until it is told.
    launch: Option<Box<Launch>>,
    /// It was told to execute it.
    executed: bool,
    file: RunFile,
    channels: u32,
    /// When the machine is switched off because its programs do not die.
    pub(super) kill_ms: Option<u64>,
    /// Questions of the node that the guest has not answered yet: nothing else is taken for an answer.
    pub(super) asked: BTreeSet<u64>,
    /// When the node was told last that memory ran out in it.
    pub(super) oom_told_ms: Option<u64>,
}

/// Questions to one guest at a time.
const ASKED_MAX: usize = 256;

/// The number by which a question is answered.
fn request_of(question: &ToAgent) -> Option<u64> {
    match question {
        ToAgent::SignalProcess { request, .. }
        | ToAgent::Stats { request, .. }
        | ToAgent::Update { request, .. }
        | ToAgent::Processes { request } => Some(*request),
        _ => None,
    }
}

/// What is made of a launch for the agent in the guest: its log, its owner, its deadline and its limits are here,
/// except how many processes it may have.
fn inner(launch: &Launch) -> Box<Launch> {
    Box::new(Launch {
        vm: None,
        container: None,
        stdio: Stdio { owner: true, ..launch.stdio.clone() },
        log_directory: "/run/hostler/log".into(),
        log: Log::default(),
        limits: Limits { pids: launch.limits.pids, ..Limits::default() },
        cgroup: Some(GUEST_CGROUP.to_owned()),
        max_time_ms: None,
        ..launch.clone()
    })
}

fn run_file(launch: &Launch, boot: &VmBoot, shared: &Shared) -> RunFile {
    let vm = Some(VmFile { directory: boot.directory.clone() });
    RunFile { cgroup: boot.cgroup.clone(), vm, ..record::run_file(launch, shared) }
}

impl Run {
    /// Has the machine made, or takes the one that is there. `Prepared` comes when the guest's agent says so.
    pub(crate) fn prepare_in_guest(
        &mut self,
        launch: Launch,
        asked: VmLaunch,
        warm: Option<Box<Vm>>,
        shared: &mut Shared,
    ) -> Result<(), StartFailure> {
        let vm = match (asked.boot, warm) {
            (Some(boot), _) => Vm::new(boot, asked.identity.clone()),
            (None, Some(warm)) => warm,
            (None, None) => {
                let message = "there is no machine in this sandbox".to_owned();
                return Err(StartFailure { kind: StartFailureKind::Sandbox, message });
            }
        };
        let (file, limits) = (run_file(&launch, &vm.boot, shared), launch.limits.clone());
        let expected = Owner::Expected { until_ms: Some(clock::boot_ms() + OWNER_GRACE_MS) };
        let owner = if launch.stdio.owner { expected } else { Owner::Nobody };
        let (mut main, _) = child::open_without_streams(AttachTarget::Main, owner, shared);
        if vm.has_agent() {
            let has_stdin = launch.stdio.interactive || launch.stdio.tty.is_some();
            main.open_in_guest(1, has_stdin, launch.stdio.tty.is_some());
        } else {
            main.outputs[0].expected = true;
        }
        self.targets.push(main);
        let launch = Some(inner(&launch));
        self.guest = Some(Box::new(InGuest {
            vm,
            launch,
            executed: false,
            file,
            channels: 1,
            kill_ms: None,
            asked: BTreeSet::new(),
            oom_told_ms: None,
        }));
        let Some(guest) = &mut self.guest else { return Ok(()) };
        let file = guest.file.clone();
        if guest.vm.stage == Stage::Ready {
            guest.vm.limit(&limits)?;
            guest.vm.be(asked.identity);
            let pid = guest.vm.pid;
            self.name(&file, shared)?;
            self.machine_spawned(pid, shared);
            return Ok(());
        }
        if !guest.vm.has_agent() {
            // It runs as soon as it is there, so that has to wait for the go-ahead.
            self.phase = Phase::Prepared;
            return self.name(&file, shared);
        }
        make_directory(&guest.vm.boot).map_err(|error| in_sandbox("make the machine's directory", &error))?;
        let started = guest.vm.start(shared);
        self.group = guest.vm.group().cloned();
        self.name(&file, shared)?;
        started
    }

    pub(crate) fn guest_event(&mut self, kind: TokenKind, serial: u32, event: Event, shared: &mut Shared) {
        let news = self.guest.as_mut().and_then(|guest| guest.vm.event(kind, serial, event, shared));
        self.guest_news(news, shared);
    }

    pub(super) fn guest_news(&mut self, news: Option<News>, shared: &mut Shared) {
        match news {
            None => {}
            Some(News::Spawned(pid)) => {
                self.machine_spawned(pid, shared);
                shared.send(&FromAgent::VmmStarted);
                if self.guest.as_ref().is_some_and(|guest| !guest.vm.has_agent()) {
                    self.main_executed(shared);
                }
            }
            Some(News::Ready) => self.guest_ready(),
            Some(News::Failed(_, reaped)) if matches!(self.phase, Phase::Running) => {
                self.guest_news(Some(News::Gone(reaped)), shared);
            }
            Some(News::Failed(failure, _)) => {
                self.machine_gone(None);
                if matches!(self.phase, Phase::Preparing | Phase::Prepared | Phase::Starting) {
                    self.fail(failure, shared);
                }
                self.undone(shared);
            }
            Some(News::Gone(reaped)) => {
                self.machine_gone(Some(reaped));
                match self.phase {
                    Phase::Preparing | Phase::Prepared => {
                        let message = "the virtual machine ended before the program was started".to_owned();
                        self.fail(StartFailure { kind: StartFailureKind::Sandbox, message }, shared);
                    }
                    Phase::Starting | Phase::Running => self.main_ended(clock::boot_ms()),
                    _ => {}
                }
                self.undone(shared);
            }
        }
    }

    /// The process that makes the machine is known: it is what stands for the run on this node.
    fn machine_spawned(&mut self, pid: u32, shared: &mut Shared) {
        let Some(guest) = &mut self.guest else { return };
        self.group = guest.vm.group().cloned();
        if let Ok(process) = guest.vm.process() {
            guest.file.main = Some(process);
            if let Some(directory) = &self.directory {
                // Without it the machine is found by its group.
                let _ = directory.identify(&guest.file);
            }
        }
        if let Some(main) = self.targets.first_mut() {
            main.pid = pid;
        }
        self.watch_for_oom(shared);
    }

    /// The guest waits for us: it is told everything in one piece.
    fn guest_ready(&mut self) {
        let (execute, id) = (self.execute, self.id);
        let Some(guest) = &mut self.guest else { return };
        let Some(launch) = guest.launch.take() else { return };
        guest.vm.tell(&ToAgent::Prepare { launch });
        if let Some(main) = self.targets.first_mut() {
            attach(main, &mut guest.vm);
        }
        if execute {
            guest.executed = true;
            guest.vm.tell(&ToAgent::Execute { run: id });
        }
    }

    /// Nothing of the machine is left, nor of what was in it.
    fn machine_gone(&mut self, reaped: Option<Reaped>) {
        let ended = reaped.map(|reaped| Ended { reaped, boot_ms: clock::boot_ms(), wall_ms: clock::wall_ms() });
        let killed_here = self.killing.is_some() || self.timed_out;
        let is_program = self.guest.as_ref().is_some_and(|guest| !guest.vm.has_agent());
        for target in &mut self.targets {
            target.close_in_guest();
            if target.ended.is_some() {
                continue;
            }
            match ended {
                // It ended with the machine, and the machine was ended by us or by itself.
                Some(ended) if is_program => target.over(ended),
                Some(mut ended) => {
                    ended.reaped.status = ExitStatus::Signal(Signal::KILL);
                    target.with_machine = !killed_here && target.ordered_signals == 0;
                    target.over(ended);
                }
                None => target.pid = 0,
            }
        }
        if let Some(main) = self.targets.first_mut().filter(|_| ended.is_none()) {
            main.pid = 0;
        }
    }

    /// The program may be executed. A guest that does not wait yet is told so together with what it is to be.
    pub(crate) fn execute_in_guest(&mut self, shared: &mut Shared) {
        let id = self.id;
        if self.guest.as_ref().is_some_and(|guest| !guest.vm.has_agent()) {
            return self.execute_machine(shared);
        }
        if self.phase == Phase::Prepared {
            self.phase = Phase::Starting;
        }
        if let Some(guest) = self.guest.as_mut().filter(|guest| guest.launch.is_none() && !guest.executed) {
            guest.executed = true;
            guest.vm.tell(&ToAgent::Execute { run: id });
        }
    }

    /// Of a guest without an agent, the machine is the program.
    fn execute_machine(&mut self, shared: &mut Shared) {
        let Some(guest) = &mut self.guest else { return };
        if self.phase != Phase::Prepared {
            return;
        }
        self.phase = Phase::Starting;
        let made = make_directory(&guest.vm.boot).map_err(|error| in_sandbox("make the machine's directory", &error));
        let started = made.and_then(|()| guest.vm.start(shared));
        self.group = guest.vm.group().cloned();
        let console = guest.vm.output.take();
        let watched = match (console, self.targets.first_mut()) {
            (Some(console), Some(main)) => {
                main.outputs[0] = Output::new(console);
                child::watch_outputs(main, shared)
            }
            _ => Ok(()),
        };
        if let Err(failure) = started.and(watched) {
            self.fail(failure, shared);
        }
    }

    /// Sends a signal to a program in the guest.
    pub(crate) fn signal_in_guest(&mut self, key: AttachTarget, signal: Signal) {
        let scope = match key {
            AttachTarget::Main => SignalScope::Main,
            AttachTarget::Exec(exec) => SignalScope::Exec(exec),
        };
        let Some(guest) = &mut self.guest else { return };
        if !guest.vm.has_agent() {
            if let Some(main) = self.targets.first_mut() {
                main.signal(signal);
            }
            return;
        }
        if let Some(target) = self.targets.iter_mut().find(|target| target.key == key && target.is_alive()) {
            target.ordered_signals |= 1 << (signal.number() - 1);
            guest.vm.tell(&ToAgent::Signal { signal, scope });
        }
    }

    /// Everything in the guest is to be killed. It may tell how it ended; then, or soon, the machine is.
    pub(crate) fn kill_in_guest(&mut self, now_ms: u64) {
        let id = self.id;
        let Some(guest) = &mut self.guest else { return };
        if !guest.vm.has_agent() {
            let main = self.targets.first_mut();
            main.into_iter().for_each(|main| main.ordered_signals |= 1 << (Signal::KILL.number() - 1));
            return guest.vm.leave();
        }
        if guest.vm.stage != Stage::Ready || guest.kill_ms.is_some() {
            return guest.vm.leave();
        }
        guest.kill_ms = Some(now_ms + VM_KILL_MS);
        self.targets.iter_mut().for_each(|target| target.ordered_signals |= 1 << (Signal::KILL.number() - 1));
        guest.vm.tell(&ToAgent::Kill { run: id });
    }

    /// Starts a second program in the guest.
    pub(crate) fn exec_in_guest(&mut self, exec: ExecId, launch: &ExecLaunch, shared: &mut Shared) -> Target {
        let owner = Owner::Expected { until_ms: Some(clock::boot_ms() + OWNER_GRACE_MS) };
        let (mut target, _) = child::open_without_streams(AttachTarget::Exec(exec), owner, shared);
        if let Some(guest) = &mut self.guest {
            guest.channels += 1;
            target.open_in_guest(guest.channels, launch.interactive || launch.tty.is_some(), launch.tty.is_some());
            target.starting = true;
            guest.vm.tell(&ToAgent::Exec { exec, launch: Box::new(launch.clone()) });
            attach(&mut target, &mut guest.vm);
        }
        target
    }

    /// Passes a question of the node on. Whether there is a guest that will answer it.
    pub(crate) fn ask_guest(&mut self, question: &ToAgent) -> bool {
        match &mut self.guest {
            Some(guest) if guest.vm.stage == Stage::Ready && guest.vm.has_agent() => {
                if let Some(request) = request_of(question) {
                    if guest.asked.len() >= ASKED_MAX {
                        // It has not answered so many that it will not answer this one.
                        return true;
                    }
                    guest.asked.insert(request);
                }
                guest.vm.tell(question);
                true
            }
            _ => false,
        }
    }

    /// Sends what there is to send to the guest: messages, credit, stdin. Whether that changed anything.
    pub(crate) fn flush_guest(&mut self, shared: &mut Shared) -> bool {
        let Self { guest, targets, channels, .. } = self;
        let Some(guest) = guest else { return false };
        for target in targets.iter_mut() {
            target.grant_guest(&mut guest.vm.outbox);
            let mut grants = Vec::new();
            target.input.flush_to_guest(&mut guest.vm.outbox, &mut grants);
            for (channel, bytes) in grants {
                if let Some(window) = channels.get_mut(channel).and_then(|channel| channel.stdin_window.as_mut()) {
                    *window += bytes;
                    shared.grant(channel, bytes);
                }
            }
        }
        let vm = &mut guest.vm;
        let Some(line) = &mut vm.line else { return false };
        if line.flush(&shared.epoll, &mut vm.outbox, |_| false) == Health::Dead {
            vm.line_broke(shared);
            return true;
        }
        false
    }

    /// Does what is due for the machine.
    pub(crate) fn advance_guest(&mut self, shared: &mut Shared, now_ms: u64) {
        let Some(guest) = &mut self.guest else { return };
        guest.vm.advance(shared, now_ms);
        if guest.kill_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            guest.kill_ms = None;
            guest.vm.leave();
        }
    }

    pub(crate) fn guest_next_ms(&self) -> Option<u64> {
        let guest = self.guest.as_ref()?;
        guest.vm.next_ms().into_iter().chain(guest.kill_ms).min()
    }

    /// Whether a child that ended was the machine.
    pub(crate) fn machine_reaped(&mut self, reaped: Reaped, shared: &mut Shared) -> bool {
        let Some(guest) = &mut self.guest else { return false };
        if guest.vm.pid != reaped.pid {
            // Something that the machine's program had started.
            self.undone(shared);
            return true;
        }
        let news = guest.vm.reaped(reaped, shared);
        if news.is_none() {
            // It is made once more.
            if let Some(main) = self.targets.first_mut() {
                main.pid = 0;
            }
        }
        self.guest_news(news, shared);
        true
    }

    /// Whether the machine is gone, or there was none.
    pub(crate) fn is_machine_gone(&self) -> bool {
        self.guest.as_ref().is_none_or(|guest| guest.vm.is_gone() || guest.vm.pid == 0)
    }

    /// Whether there is a guest that has something to bring to its disks before it goes.
    pub(crate) fn keeps_disks(&self) -> bool {
        self.guest.as_ref().is_some_and(|guest| guest.vm.keeps_disks())
    }

    /// The program is over and its output has come: the machine goes. Whether it still may bring something to its disks.
    pub(crate) fn end_machine(&mut self, now_ms: u64) -> bool {
        let Some(guest) = &mut self.guest else { return false };
        if guest.vm.keeps_disks() {
            guest.vm.power_off(now_ms);
            return true;
        }
        false
    }

    /// What the machine said last, for an end that it brought about.
    pub(crate) fn machine_words(&self) -> Option<Box<str>> {
        Some(self.guest.as_ref()?.vm.why_it_ended()?.into_boxed_str())
    }
}
