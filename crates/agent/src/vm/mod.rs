//! A virtual machine, as the agent on the node has it: the parent of the program that makes it, and the host of the agent in
//! its guest. To its own node it is what it is for any run: one run directory, one log, one end.
//!
//! ```text
//!            spawned              call answered           furnished, rebound
//!  Booting ───────────► Calling ───────────────► Settling ──────────────────► Ready
//!     ▲                    │ deadline: killed, and once more from the beginning   │ its run ends, or is killed
//!     └────────────────────┘                                                       ▼
//!   Gone ◄─── reaped ────────────────────────────────────────────────────────── Leaving
//! ```
//! - [`console`]: what the guest's kernel says, kept for the error
//! - [`warm`]: without a run yet
//! - [`relay`]: its run, and what is told to the guest; [`told`]: what the guest tells
//! - [`channel`]: the streams of its programs; [`input`]: stdin on its way to the guest
//!
//! Not here: which program makes it, and how that is told what to make. Its command line comes complete.

mod channel;
mod console;
pub(crate) mod input;
mod relay;
mod told;
mod warm;

pub(crate) use channel::GuestChannelState;
pub(crate) use relay::InGuest;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use hostler_linux::cgroup::Group;
use hostler_linux::epoll::Interest;
use hostler_linux::process::Reaped;
use hostler_linux::spawn::{self, ChildSetup, ChildStream, Mounts, Report, Start, Terminal};
use hostler_linux::{clock, daemon, net, process};
use hostler_model::exit::ExitStatus;
use hostler_model::guest::{GuestChannel, GuestIdentity, VmBoot};
use hostler_model::limits::{VM_CONSOLE_TOLD, VM_KNOCK_MS, VM_POWER_OFF_MS};
use hostler_model::rundir::ProcessId;
use hostler_model::spec::Limits;
use hostler_model::units::{Signal, format_duration};
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_wire::{FromAgent, PROTOCOL_MAX, PROTOCOL_MIN, ToAgent, encode_control};

use crate::child::system_failure;
use crate::link::{Health, Link};
use crate::shared::{Shared, TokenKind, token};
use console::Console;

/// Where the machine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The program that makes it is being started.
    Booting,
    /// The guest's agent is being called.
    Calling,
    /// It answers, and is told what to mount and who it is.
    Settling,
    /// A run may begin.
    Ready,
    /// It is being ended.
    Leaving,
    /// Nothing of it is left.
    Gone,
}

/// What happened to the machine that its run has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// Its program is this process.
    Spawned(u32),
    /// The guest waits for a run.
    Ready,
    /// There will be no guest; what was there of it is gone.
    Failed(StartFailure, Reaped),
    /// It is gone.
    Gone(Reaped),
}

/// A request of ours to the guest's agent; those of the node have smaller numbers.
const OWN_REQUEST: u64 = 1 << 63;

/// A virtual machine.
pub(crate) struct Vm {
    pub(crate) boot: Box<VmBoot>,
    identity: GuestIdentity,
    pub(crate) stage: Stage,
    attempt: u32,
    /// The program that makes it; 0 while there is none.
    pub(crate) pid: u32,
    serial: u32,
    control: Option<OwnedFd>,
    group: Option<Group>,
    console: Console,
    /// The console of a guest without an agent, until its run has it.
    output: Option<OwnedFd>,
    line: Option<Link>,
    pub(crate) outbox: Vec<u8>,
    /// When the guest's agent has to have answered.
    deadline_ms: Option<u64>,
    /// When its socket is tried again.
    knock_ms: Option<u64>,
    /// When it is killed, if it does not leave by itself.
    kill_ms: Option<u64>,
    /// Answers of the guest that must come before it is ready.
    awaited: u32,
    /// Why it is being ended before it was ready.
    failure: Option<StartFailure>,
    /// It is being ended to be made once more.
    again: bool,
    /// A run could begin in it.
    was_ready: bool,
    /// How the program that makes it ended.
    ended: Option<ExitStatus>,
}

fn no_guest(message: String) -> StartFailure {
    StartFailure { kind: StartFailureKind::Sandbox, message }
}

impl Vm {
    /// Nothing is made yet.
    pub(crate) fn new(boot: Box<VmBoot>, identity: GuestIdentity) -> Box<Self> {
        Box::new(Self {
            boot,
            identity,
            stage: Stage::Booting,
            attempt: 0,
            pid: 0,
            serial: 0,
            control: None,
            group: None,
            console: Console::default(),
            output: None,
            line: None,
            outbox: Vec::new(),
            deadline_ms: None,
            knock_ms: None,
            kill_ms: None,
            awaited: 0,
            failure: None,
            again: false,
            was_ready: false,
            ended: None,
        })
    }

    fn directory(&self) -> PathBuf {
        self.boot.directory.as_path().to_owned()
    }

    pub(crate) fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    pub(crate) fn has_agent(&self) -> bool {
        self.boot.channel != GuestChannel::None
    }

    /// Starts the program that makes it.
    pub(crate) fn start(&mut self, shared: &mut Shared) -> Result<(), StartFailure> {
        self.attempt += 1;
        self.stage = Stage::Booting;
        self.serial = shared.next_serial();
        if self.group.is_none()
            && let (Some(name), Some(parent)) = (&self.boot.cgroup, &shared.config.cgroup)
        {
            let made = parent.create(name, &self.boot.limits);
            self.group = Some(made.map_err(|error| StartFailure {
                kind: StartFailureKind::Limit,
                message: crate::run::with_source(&error),
            })?);
        }
        let (ours, theirs) = hostler_linux::streams::pipe_from_child()
            .map_err(|error| system_failure("make the console of the guest", &error))?;
        let null = ChildStream::Descriptor(std::os::fd::AsFd::as_fd(&shared.null));
        let said = ChildStream::Descriptor(std::os::fd::AsFd::as_fd(&theirs));
        let setup = ChildSetup {
            program: &self.boot.program,
            streams: [null, said, said],
            terminal: Terminal::None,
            group: self.group.as_ref(),
            mounts: Mounts::Shared,
            network: self.boot.network_namespace.as_ref(),
            filter: None,
            oom_score: shared.config.oom_score,
            start: Start::AtOnce,
            door: None,
        };
        let spawned = spawn::spawn(&setup)?;
        self.pid = spawned.pid;
        let failed = |error: io::Error| system_failure("watch the new machine", &error);
        shared
            .epoll
            .add(&spawned.control, token(TokenKind::VmmControl, self.serial), Interest::Read)
            .map_err(failed)?;
        self.control = Some(spawned.control);
        if self.has_agent() {
            shared.epoll.add(&ours, token(TokenKind::GuestConsole, self.serial), Interest::Read).map_err(failed)?;
            self.console.open(ours);
        } else {
            // It is all that there is of the guest, and so it is its output.
            self.output = Some(ours);
        }
        let now_ms = clock::boot_ms();
        self.deadline_ms = self.has_agent().then(|| now_ms.saturating_add(self.boot.boot_max_ms));
        Ok(())
    }

    /// One of its descriptors has something.
    pub(crate) fn event(
        &mut self,
        kind: TokenKind,
        serial: u32,
        event: hostler_linux::epoll::Event,
        shared: &mut Shared,
    ) -> Option<News> {
        match kind {
            TokenKind::GuestLine => {
                if let Some(line) = self.line.as_mut().filter(|line| line.serial == serial) {
                    line.event(event);
                }
                None
            }
            TokenKind::GuestConsole if serial == self.serial => {
                self.console.read(&shared.epoll);
                None
            }
            TokenKind::VmmControl if serial == self.serial => self.reported(shared),
            _ => None,
        }
    }

    fn reported(&mut self, shared: &mut Shared) -> Option<News> {
        let report = spawn::read_report(self.control.as_ref()?);
        match report {
            Report::Nothing | Report::Ready | Report::Moved { .. } => return None,
            Report::Executed if self.stage == Stage::Booting => {
                self.stage = if self.has_agent() { Stage::Calling } else { Stage::Ready };
                self.was_ready = !self.has_agent();
                self.knock_ms = self.has_agent().then(clock::boot_ms);
            }
            Report::Executed => {}
            Report::Failed(failure) => {
                let message = format!("{} could not be started: {}", self.boot.vmm, failure.message);
                self.failure = Some(StartFailure { kind: StartFailureKind::Sandbox, message });
                self.stage = Stage::Leaving;
            }
        }
        if let Some(control) = self.control.take() {
            shared.epoll.remove(&control);
        }
        matches!(self.stage, Stage::Calling | Stage::Ready).then_some(News::Spawned(self.pid))
    }

    /// Connects to the socket by which the guest is reached, as soon as it is there.
    fn knock(&mut self, shared: &mut Shared, now_ms: u64) {
        let (socket, port) = match &self.boot.channel {
            GuestChannel::None => return,
            GuestChannel::Stream { socket } => (socket, None),
            GuestChannel::Vsock { socket, port } => (socket, Some(*port)),
        };
        let connected = net::connect(&self.directory().join(socket));
        let line = connected.and_then(|socket| Link::new(socket.into(), TokenKind::GuestLine, shared));
        match line {
            Ok(mut line) => {
                let before = port.map(|port| format!("CONNECT {port}\n")).unwrap_or_default();
                line.call(before.as_bytes(), u64::from_le_bytes(daemon::random_bytes()));
                self.line = Some(line);
                self.knock_ms = None;
                let hello = ToAgent::Hello {
                    protocol_min: PROTOCOL_MIN,
                    protocol_max: PROTOCOL_MAX,
                    store: shared.config.store,
                };
                self.outbox.clear();
                self.tell(&hello);
            }
            Err(_) => self.knock_ms = Some(now_ms + VM_KNOCK_MS),
        }
    }

    /// Queues a message to the guest's agent.
    pub(crate) fn tell(&mut self, message: &ToAgent) {
        encode_control(&mut self.outbox, message);
    }

    /// The guest's agent answers: it is told what it needs before a run. What was there before is mounted already.
    fn greeted(&mut self) {
        if self.stage != Stage::Calling {
            return;
        }
        self.stage = Stage::Settling;
        if let Some(furnish) = self.boot.furnish.clone() {
            self.awaited += 1;
            self.tell(&ToAgent::Furnish { request: OWN_REQUEST, furnish: Box::new(furnish) });
        }
        self.rebind();
    }

    fn rebind(&mut self) {
        let machine_id: [u8; 16] = daemon::random_bytes();
        let identity = GuestIdentity {
            machine_id: machine_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            wall_ms: clock::wall_ms(),
            seed: Some(daemon::random_bytes::<64>().to_vec().into()),
            ..self.identity.clone()
        };
        self.awaited += 1;
        self.tell(&ToAgent::Rebind { request: OWN_REQUEST + 1, identity: Box::new(identity) });
    }

    /// Puts the limits of its run upon the program that makes it. Its memory stays what the machine needs, and processes are
    /// counted in the guest.
    pub(crate) fn limit(&self, limits: &Limits) -> Result<(), StartFailure> {
        let Some(group) = &self.group else { return Ok(()) };
        let limits = Limits { memory_bytes: None, pids: None, ..limits.clone() };
        let failed = |error| StartFailure { kind: StartFailureKind::Limit, message: crate::run::with_source(&error) };
        group.set_limits(&limits).map_err(failed)
    }

    /// Why it is being ended is known already.
    fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Its guest, which waits, is this one from now on; a run begins when it has said so.
    pub(crate) fn be(&mut self, identity: GuestIdentity) {
        self.identity = identity;
        self.stage = Stage::Settling;
        self.deadline_ms = Some(clock::boot_ms().saturating_add(self.boot.boot_max_ms));
        self.rebind();
    }

    /// Its guest is about to be copied.
    pub(crate) fn suspend(&mut self) {
        if self.stage == Stage::Ready {
            self.tell(&ToAgent::Suspend);
        }
    }

    /// An answer to what we have asked ourselves.
    fn answered(&mut self, request: u64, error: Option<String>) -> Option<News> {
        if self.awaited == 0 {
            // Nothing was asked: it only says so.
            return None;
        }
        let what = if request == OWN_REQUEST { "could not be furnished" } else { "could not take its identity" };
        if let Some(error) = error {
            let error = cut(error);
            self.fail(no_guest(format!("the guest {what}: {error}")));
            return None;
        }
        self.awaited = self.awaited.saturating_sub(1);
        if self.awaited > 0 || self.stage != Stage::Settling {
            return None;
        }
        self.stage = Stage::Ready;
        self.was_ready = true;
        self.deadline_ms = None;
        Some(News::Ready)
    }

    /// There will be no guest: what there is of it is ended.
    fn fail(&mut self, failure: StartFailure) {
        self.failure.get_or_insert(failure);
        self.leave();
    }

    /// Ends it at once.
    pub(crate) fn leave(&mut self) {
        if self.stage == Stage::Gone {
            return;
        }
        self.stage = Stage::Leaving;
        self.deadline_ms = None;
        self.knock_ms = None;
        self.kill_ms = None;
        self.again = false;
        if self.pid != 0 {
            // Not reaped, so the number is still its own; what it started goes with it.
            let _ = process::kill_tree(self.pid);
            let _ = process::signal(self.pid, Signal::KILL);
        } else {
            self.be_gone();
        }
    }

    fn be_gone(&mut self) {
        self.stage = Stage::Gone;
        // What cannot be removed is found by its name, and removed by the node.
        let _ = fs::remove_dir_all(self.boot.directory.as_path());
    }

    /// Has it leave by itself, with everything on its disks; soon it is killed.
    pub(crate) fn power_off(&mut self, now_ms: u64) {
        if self.stage != Stage::Ready {
            return self.leave();
        }
        if self.kill_ms.is_none() {
            self.kill_ms = Some(now_ms + VM_POWER_OFF_MS);
            self.tell(&ToAgent::PowerOff);
        }
    }

    /// Whether what was written has to be on its disks first.
    pub(crate) fn keeps_disks(&self) -> bool {
        self.boot.keeps_disks && self.stage == Stage::Ready
    }

    /// Does what is due.
    pub(crate) fn advance(&mut self, shared: &mut Shared, now_ms: u64) {
        if self.knock_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.knock(shared, now_ms);
        }
        if self.kill_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.leave();
        }
        if self.deadline_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.deadline_ms = None;
            if self.attempt >= self.boot.attempts || self.stage == Stage::Settling {
                let time = format_duration(self.boot.boot_max_ms);
                let times = if self.attempt > 1 { format!(", {} times", self.attempt) } else { String::new() };
                self.fail(no_guest(format!("the agent in the guest did not answer within {time}{times}")));
            } else {
                eprintln!("hostler-agent: a guest does not answer and is made once more");
                self.leave();
                self.again = true;
            }
        }
    }

    /// When something is due.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        [self.knock_ms, self.kill_ms, self.deadline_ms].into_iter().flatten().min()
    }

    /// Its program has ended.
    pub(crate) fn reaped(&mut self, reaped: Reaped, shared: &mut Shared) -> Option<News> {
        self.pid = 0;
        self.ended = Some(reaped.status);
        self.close(shared);
        if std::mem::take(&mut self.again) {
            match self.start(shared) {
                Ok(()) => return None,
                Err(failure) => self.failure = Some(failure),
            }
        }
        self.be_gone();
        if self.was_ready && self.failure.is_none() {
            return Some(News::Gone(reaped));
        }
        let ended = || no_guest(format!("{} ended before the agent in the guest answered", self.boot.vmm));
        let mut failure = self.failure.take().unwrap_or_else(ended);
        if let Some(said) = self.last_words() {
            failure.message = format!("{}; its console ends with: {said}", failure.message);
        }
        Some(News::Failed(failure, reaped))
    }

    /// The end of what the guest's kernel has said.
    pub(crate) fn last_words(&self) -> Option<String> {
        self.console.tail(VM_CONSOLE_TOLD)
    }

    /// What is told of an end that the machine brought about: the kernel's own reason, or how its maker ended.
    pub(crate) fn why_it_ended(&self) -> Option<String> {
        let said = self.last_words().filter(|said| said.contains(console::PANIC));
        let ended = |status| match status {
            ExitStatus::Code(code) => format!("{} ended by itself with code {code}", self.boot.vmm),
            ExitStatus::Signal(signal) => format!("{} was killed by SIG{signal}, and not by hostler", self.boot.vmm),
        };
        said.or_else(|| self.ended.map(ended))
    }

    /// Lets go of everything that is watched.
    fn close(&mut self, shared: &mut Shared) {
        self.console.close(&shared.epoll);
        if let Some(line) = self.line.take() {
            line.close(&shared.epoll);
        }
        if let Some(control) = self.control.take() {
            shared.epoll.remove(&control);
        }
        self.outbox = Vec::new();
        self.deadline_ms = None;
        self.knock_ms = None;
        self.kill_ms = None;
        self.awaited = 0;
    }

    /// Nothing of it is left.
    pub(crate) fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    /// Who makes it, for the run directory.
    pub(crate) fn process(&self) -> io::Result<ProcessId> {
        hostler_linux::procfs::process_id(self.pid)
    }
}

/// Words of the guest, of whom nobody knows what it is, as they are passed on.
fn cut(mut words: String) -> String {
    let mut end = words.len().min(VM_CONSOLE_TOLD);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    words.truncate(end);
    words.retain(|c| c == '\n' || !c.is_control());
    words
}

/// Makes the directory of a machine, unless it is there.
pub(crate) fn make_directory(boot: &VmBoot) -> io::Result<()> {
    let path = boot.directory.as_path();
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match &boot.program.identity {
        Some(identity) if process::effective_uid() == 0 => {
            std::os::unix::fs::chown(path, Some(identity.uid), Some(identity.gid))
        }
        _ => Ok(()),
    }
}

impl Vm {
    /// Reads once from the guest; whether the line is of any more use.
    fn read(&mut self, scratch: &mut Vec<u8>) -> Health {
        match self.line.as_mut().filter(|line| line.wants_read(&self.outbox)) {
            Some(line) => line.read(scratch),
            None => Health::Alive,
        }
    }

    /// Nothing is said to the guest any more, and nothing heard of it.
    fn hang_up(&mut self, shared: &Shared) {
        if let Some(line) = self.line.take() {
            line.close(&shared.epoll);
        }
        self.outbox.clear();
    }

    /// The line broke: the guest's end, or soon again. A guest that was ready and cannot be talked to is of no use.
    fn line_broke(&mut self, shared: &Shared) {
        self.hang_up(shared);
        match self.stage {
            Stage::Calling | Stage::Settling => {
                self.stage = Stage::Calling;
                self.awaited = 0;
                self.knock_ms = Some(clock::boot_ms() + VM_KNOCK_MS);
            }
            Stage::Ready => {
                self.kill_ms.get_or_insert(clock::boot_ms() + VM_POWER_OFF_MS);
            }
            Stage::Booting | Stage::Leaving | Stage::Gone => {}
        }
    }

    fn is_own_request(message: &FromAgent) -> Option<(u64, Option<String>)> {
        match message {
            FromAgent::Done { request, error } if *request >= OWN_REQUEST => Some((*request, error.clone())),
            _ => None,
        }
    }
}
