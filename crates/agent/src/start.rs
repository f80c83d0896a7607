//! From `Prepare` and `Execute` to a program that runs, and execs: what is made, in which order, by whom.
//!
//! A plain program is executed on the spot, by a child that shares our memory and names itself in the run directory first.
//! Every other is forked at `Prepare`, named, and waits for the go-ahead. Execs are forked and go ahead at once.

use std::cell::Cell;

use hostler_linux::cgroup::{CgroupError, Group};
use hostler_linux::epoll::Interest;
use hostler_linux::spawn::{self, Start};
use hostler_linux::{clock, procfs};
use hostler_model::ids::ExecId;
use hostler_model::launch::{ExecLaunch, Launch, Program};
use hostler_model::limits::{EXECS_PER_RUN_MAX, OWNER_GRACE_MS};
use hostler_model::rundir::{ProcessId, RunFile};
use hostler_model::spec::Stdio;
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_wire::{AttachTarget, ExecFailure, FromAgent};

use crate::child::{self, Plan, Theirs, system_failure};
use crate::record::{self, Spare};
use crate::room::RunRoom;
use crate::run::{Phase, Run, with_source};
use crate::shared::{Shared, TokenKind, token};
use crate::target::{Owner, Target};
use crate::vm::Vm;

/// Execs whose streams are still kept, ended ones included.
const EXECS_KEPT_MAX: usize = 2 * EXECS_PER_RUN_MAX;

/// What a plain program needs at `Execute`.
pub(crate) struct Pending {
    program: Program,
    stdio: Stdio,
    theirs: Theirs,
    file: RunFile,
}

impl Run {
    pub(crate) fn set_up(
        &mut self,
        mut launch: Launch,
        warm: Option<Box<Vm>>,
        shared: &mut Shared,
    ) -> Result<(), StartFailure> {
        if shared.spare.is_none() {
            let spare = Spare::create(&shared.config.sandbox_dir);
            shared.spare = Some(spare.map_err(|error| in_sandbox("make the run directory", &error))?);
        }
        if let Some(asked) = launch.vm.take() {
            return self.prepare_in_guest(launch, *asked, warm, shared);
        }
        if let Some(container) = launch.container.take() {
            return self.create_container(launch, *container, shared);
        }
        if let Some(name) = &launch.cgroup {
            self.group = Some(make_group(name, &launch, shared)?);
            // In a guest the limit is that of the machine.
            if launch.limits.memory_bytes.is_some() || shared.is_guest() {
                self.watch_for_oom(shared);
            }
        }
        // He attaches ahead; who does not come in this time never will, and the program must not wait for him.
        let expected = Owner::Expected { until_ms: Some(clock::boot_ms() + OWNER_GRACE_MS) };
        let owner = if launch.stdio.owner { expected } else { Owner::Nobody };
        self.room = launch.program.confinement.clone().map(|asked| RunRoom::new(*asked)).transpose()?;
        let door = self.room.as_ref().map(|room| room.door());
        let plan = Plan { program: &launch.program, stdio: &launch.stdio, group: self.group.as_ref(), door };
        let (mut main, theirs) = child::open(AttachTarget::Main, &plan, owner, shared)?;
        let is_plain = child::is_plain(&plan, &theirs, shared);
        self.watches_late = self.follows && is_plain && main.input.fd.is_none();
        if !self.watches_late {
            child::watch(&mut main, shared)?;
        }
        let forked = if is_plain { Ok(()) } else { child::fork(&mut main, &plan, &theirs, Start::OnGo, shared) };
        let pid = main.pid;
        self.targets.push(main);
        forked?;
        let is_forked = !is_plain && self.room.is_none();
        let main = is_forked.then(|| procfs::process_id(pid)).transpose();
        let main = main.map_err(|error| system_failure("look at the new process", &error))?;
        let file = RunFile { main, ..record::run_file(&launch, shared) };
        if is_plain {
            let (program, stdio) = (launch.program, launch.stdio);
            self.pending = Some(Box::new(Pending { program, stdio, theirs, file }));
            self.phase = Phase::Prepared;
            return Ok(());
        }
        if let Some(room) = &mut self.room {
            // Who it will be is not known yet.
            room.file = Some(file);
            return Ok(());
        }
        self.name(&file, shared)
    }

    /// Takes the run directory, and says in it who runs here.
    pub(crate) fn name(&mut self, file: &RunFile, shared: &mut Shared) -> Result<(), StartFailure> {
        let Some(spare) = shared.spare.take() else { return Ok(()) };
        let root = &shared.config.run_root;
        match spare.name(root, file) {
            Ok(()) => self.directory = Some(spare.bound(root, self.id)),
            Err(error) => {
                spare.remove();
                return Err(in_sandbox("write run.json", &error));
            }
        }
        Ok(())
    }

    /// The program may be executed.
    pub(crate) fn execute(&mut self, shared: &mut Shared) {
        self.execute = true;
        if self.container.is_some() {
            if self.phase == Phase::Prepared {
                self.start_container(shared);
            }
            return;
        }
        if self.guest.is_some() {
            return self.execute_in_guest(shared);
        }
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
        let plan = Plan { program: &pending.program, stdio: &pending.stdio, group: None, door: None };
        let executed = child::execute(main, &plan, &pending.theirs, shared, &identify);
        // Somebody killed it before it had come so far: its end is to be recorded all the same.
        if executed.is_ok() && !named.get() {
            named.set(spare.name(root, &pending.file).is_ok());
        }
        if named.get() {
            self.directory = Some(spare.bound(root, self.id));
        } else {
            spare.remove();
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
        // One that is not known yet goes when it is.
        if let Some(main) = self.main().filter(|main| !main.staged) {
            main.go();
        }
        if self.phase == Phase::Prepared {
            self.phase = Phase::Starting;
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
        let alive = self.targets.iter().filter(|target| target.key != AttachTarget::Main && target.is_live());
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
        let started = if self.guest.is_some() {
            Ok(self.exec_in_guest(exec, launch, shared))
        } else if self.container.is_some() {
            self.exec_in_container(key, exec, launch, shared)
        } else {
            self.start_exec(key, launch, shared)
        };
        match started {
            Ok(target) => self.targets.push(target),
            Err(failure) => shared.send(&FromAgent::ExecFailed(ExecFailure { exec, failure })),
        }
    }

    fn start_exec(&self, key: AttachTarget, launch: &ExecLaunch, shared: &mut Shared) -> Result<Target, StartFailure> {
        let stdio = Stdio { interactive: launch.interactive, tty: launch.tty, owner: true, ..Stdio::default() };
        let door = self.room.as_ref().map(|room| room.door());
        let plan = Plan { program: &launch.program, stdio: &stdio, group: self.group.as_ref(), door };
        let owner = Owner::Expected { until_ms: Some(clock::boot_ms() + OWNER_GRACE_MS) };
        let (mut target, theirs) = child::open(key, &plan, owner, shared)?;
        child::watch(&mut target, shared)?;
        // Plain or not: a path that hangs must not hold up an agent whose run is alive.
        // In a room it waits until we have put it into its group.
        let start = if door.is_some() { Start::OnGo } else { Start::AtOnce };
        child::fork(&mut target, &plan, &theirs, start, shared)?;
        Ok(target)
    }
}

impl Run {
    /// Has the kernel tell when the run's group is out of memory, from now on.
    pub(crate) fn watch_for_oom(&mut self, shared: &Shared) {
        if self.oom_watch.is_none()
            && let Some(Ok(watch)) = self.group.as_ref().map(Group::oom_watch)
            && shared.epoll.add(&watch, token(TokenKind::Oom, 0), Interest::Read).is_ok()
        {
            self.oom_watch = Some(watch);
        }
    }
}

pub(crate) fn in_sandbox(what: &str, error: &std::io::Error) -> StartFailure {
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
