//! Create, start, delete. Each is a call of the OCI runtime, but for two of runc. A container of its waits at a FIFO in
//! its state directory for somebody to read from it, and so it starts when we do, without another process; and its
//! `delete` mostly does no more than we do anyhow.
//!
//! Whatever goes wrong, in whichever step, everything of the container is killed, `delete` is called where there is
//! something that only it does, and what is left (its cgroup, its state) is removed by hand.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use hostler_linux::cgroup::{Group, Hierarchies};
use hostler_linux::epoll::Interest;
use hostler_linux::process::Reaped;
use hostler_linux::spawn::ChildStream;
use hostler_linux::streams::{self, Direction, Read};
use hostler_linux::{clock, procfs};
use hostler_model::ByteString;
use hostler_model::container::Userns;
use hostler_model::launch::{ContainerLaunch, Launch, OciKind};
use hostler_model::limits::{OCI_CALL_MAX_MS, OCI_CREATE_MAX_MS, OWNER_GRACE_MS};
use hostler_model::rundir::{ContainerFile, RunFile, USERS_DIRECTORY};
use hostler_model::spec::Stdio;
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_wire::AttachTarget;

use super::call::{Call, CallStreams, Purpose};
use super::console::Console;
use super::users::Claim;
use super::{Container, Stage, config};
use crate::child::{self, Plan, Theirs, system_failure};
use crate::ending::Children;
use crate::record;
use crate::run::{Phase, Run, with_source};
use crate::shared::{Shared, TokenKind, token};
use crate::start::in_sandbox;
use crate::target::Owner;

/// Where the bundle is, in the sandbox.
pub(crate) const BUNDLE: &str = "bundle";

impl Run {
    /// Has the container made. `Prepared` comes when the call is over.
    pub(crate) fn create_container(
        &mut self,
        mut launch: Launch,
        container: ContainerLaunch,
        shared: &mut Shared,
    ) -> Result<(), StartFailure> {
        let file = run_file(&launch, &container, shared);
        let stdio = std::mem::take(&mut launch.stdio);
        self.group = launch.cgroup.as_ref().and_then(|name| Some(shared.config.cgroup.as_ref()?.open(name)));
        let mut container = Box::new(Container {
            id: launch.run.to_string(),
            unified: hidden_hierarchy(container.oci.kind),
            launch: container,
            program: launch.program,
            limits: launch.limits,
            file,
            bundle: shared.config.sandbox_dir.join(BUNDLE),
            stage: Stage::New,
            calls: Vec::new(),
            strangers: Vec::new(),
            consoles: Vec::new(),
            starting: None,
            has_poststart: false,
            has_delete: false,
            filter: None,
            images: None,
            users: None,
        });
        let made = self.make_ready(&mut container, stdio, shared);
        let restores = container.launch.restore.is_some();
        self.container = Some(container);
        made?;
        if restores {
            // The programs go on as soon as they are restored, so that has to wait for the go-ahead.
            self.phase = Phase::Prepared;
            return Ok(());
        }
        self.call_to_make(Purpose::Create, shared)
    }

    /// Everything that is made before the OCI runtime is called.
    fn make_ready(&mut self, container: &mut Container, stdio: Stdio, shared: &mut Shared) -> Result<(), StartFailure> {
        if container.launch.container.userns == Userns::Auto {
            let claim = Claim::take(&users_directory(container), container.file.run);
            container.users = Some(claim.map_err(|error| in_sandbox("claim user ids", &error))?);
        }
        self.name_directory(&container.file, shared)?;
        write_bundle(container, &stdio, shared)?;
        let expected = Owner::Expected { until_ms: Some(clock::boot_ms() + OWNER_GRACE_MS) };
        let owner = if stdio.owner { expected } else { Owner::Nobody };
        let without_terminal = Stdio { tty: None, ..stdio.clone() };
        let plan = Plan { program: &container.program, stdio: &without_terminal, group: None, door: None };
        let (mut main, theirs) = if stdio.tty.is_some() {
            child::open_without_streams(AttachTarget::Main, owner, shared)
        } else {
            child::open(AttachTarget::Main, &plan, owner, shared)?
        };
        if let Some(size) = stdio.tty {
            container.consoles.push(Console::open(&mut main, size, shared)?);
        }
        child::watch(&mut main, shared)?;
        main.held = true;
        self.targets.push(main);
        self.container_streams = Some(Box::new((theirs, stdio)));
        Ok(())
    }

    /// Takes the run's name, so that a container that is being made can be found.
    fn name_directory(&mut self, file: &RunFile, shared: &mut Shared) -> Result<(), StartFailure> {
        let Some(spare) = shared.spare.take() else { return Ok(()) };
        let root = &shared.config.run_root;
        match spare.name(root, file) {
            Ok(()) => {
                self.directory = Some(spare.bound(root, self.id));
                Ok(())
            }
            Err(error) => {
                spare.remove();
                Err(in_sandbox("write run.json", &error))
            }
        }
    }

    /// `create` or `restore`, with the program's streams.
    fn call_to_make(&mut self, purpose: Purpose, shared: &mut Shared) -> Result<(), StartFailure> {
        let (Some(container), Some(streams)) = (&mut self.container, self.container_streams.take()) else {
            return Ok(());
        };
        let (theirs, stdio) = *streams;
        let mut arguments: Vec<ByteString> = match (&container.launch.restore, purpose) {
            (Some(restore), Purpose::Restore) => {
                let mut arguments =
                    vec!["restore".into(), "--detach".into(), "--image-path".into(), restore.images.clone()];
                arguments.extend(["--work-path".into(), path(&container.bundle)]);
                arguments.extend(super::exec::checkpoint_flags(restore.options));
                arguments
            }
            _ => vec!["create".into()],
        };
        // A pid that is read is of this call.
        let _ = fs::remove_file(pid_file(shared));
        arguments.extend(["--bundle".into(), path(&container.bundle), "--pid-file".into(), path(&pid_file(shared))]);
        if let Some(console) = container.consoles.first() {
            arguments.extend(["--console-socket".into(), console.address(shared)]);
        }
        if container.launch.container.no_pivot {
            arguments.push("--no-pivot".into());
        }
        arguments.push(container.id.as_str().into());
        let files = open_files(&stdio)?;
        let null = std::io::stdin();
        let connected = [0, 1, 2].map(|index| stream(index, &theirs, &files, &null));
        // With a terminal there is nothing to hand down, and what it says is log.
        let streams = if stdio.tty.is_some() { CallStreams::Own } else { CallStreams::Theirs(connected) };
        let call = Call::begin(purpose, container, &arguments, streams, OCI_CREATE_MAX_MS, shared)?;
        container.calls.push(call);
        container.stage = if purpose == Purpose::Create { Stage::Creating } else { Stage::Starting };
        Ok(())
    }

    /// A child ended. Whether it was a call, or may be somebody whom a call will name.
    pub(crate) fn container_reaped(&mut self, reaped: Reaped, shared: &mut Shared) -> bool {
        let Some(container) = &mut self.container else { return false };
        let Some(place) = container.calls.iter().position(|call| call.pid == reaped.pid) else {
            let known = self.targets.iter().any(|target| target.pid == reaped.pid && target.is_alive());
            if !known {
                container.remember(reaped);
            }
            return !known;
        };
        let call = container.calls.swap_remove(place);
        let (purpose, name) = (call.purpose, container.runtime_name());
        let outcome = call.end(reaped.status, &name, shared);
        match purpose {
            Purpose::Create => self.created(outcome, shared),
            Purpose::Restore => self.restored(outcome, shared),
            Purpose::Start => self.start_called(outcome, shared),
            Purpose::Exec(exec) => self.exec_called(exec, outcome, shared),
            Purpose::Checkpoint { request } => self.checkpoint_called(request, outcome, shared),
            Purpose::Delete => self.deleted(outcome, shared),
        }
        if let Some(container) = &mut self.container
            && container.calls.is_empty()
        {
            container.strangers.clear();
        }
        true
    }

    fn created(&mut self, outcome: Result<(), StartFailure>, shared: &mut Shared) {
        // Taken back meanwhile: what was made is being killed.
        if self.phase != Phase::Preparing {
            return;
        }
        match outcome.and_then(|()| self.adopt_main(shared)) {
            Ok(()) => {
                if let Some(container) = &mut self.container {
                    container.stage = Stage::Created;
                }
                self.phase = Phase::Prepared;
                if self.execute {
                    self.start_container(shared);
                }
            }
            Err(failure) => self.fail(failure, shared),
        }
    }

    /// The container's first process is our child now: names it in the run directory, and puts its limits in force.
    fn adopt_main(&mut self, shared: &mut Shared) -> Result<(), StartFailure> {
        let Some(container) = &mut self.container else { return Ok(()) };
        let file = pid_file(shared);
        let pid = read_pid(&file)?;
        let _ = fs::remove_file(&file);
        if container.stranger(pid).is_some() {
            let message = "the container ended before its program was started".to_owned();
            return Err(StartFailure { kind: StartFailureKind::Sandbox, message });
        }
        let main =
            procfs::process_id(pid).map_err(|error| system_failure("look at the container's process", &error))?;
        container.file.main = Some(main);
        if let Some(directory) = &self.directory {
            directory.identify(&container.file).map_err(|error| in_sandbox("write run.json", &error))?;
        }
        // Where the OCI runtime has made it; what is asked of it costs no look at other places.
        if let (Some(name), Some(parent)) = (&container.file.cgroup, &shared.config.cgroup) {
            self.group = Some(parent.find(name));
        }
        if let Some(group) = self.group.as_ref().filter(|_| !container.limits.is_empty()) {
            let set = group.set_limits(&container.limits);
            set.map_err(|error| StartFailure { kind: StartFailureKind::Limit, message: with_source(&error) })?;
        }
        self.watch_for_oom(shared);
        if let Some(target) = self.main() {
            target.pid = pid;
        }
        Ok(())
    }

    /// The program may be executed.
    pub(crate) fn start_container(&mut self, shared: &mut Shared) {
        let Some(container) = &mut self.container else { return };
        self.phase = Phase::Starting;
        if container.launch.restore.is_some() {
            if let Err(failure) = self.call_to_make(Purpose::Restore, shared) {
                self.fail(failure, shared);
            }
            return;
        }
        container.stage = Stage::Starting;
        if container.launch.oci.kind == OciKind::Runc && !container.has_poststart {
            let fifo = streams::open_fifo(&container.state_directory().join(FIFO));
            if let Ok(fifo) = fifo
                && shared.epoll.add(&fifo, token(TokenKind::ContainerStart, 0), Interest::Read).is_ok()
            {
                container.starting = Some(fifo);
                return;
            }
        }
        let arguments = ["start".into(), container.id.as_str().into()];
        match Call::begin(Purpose::Start, container, &arguments, CallStreams::Own, OCI_CALL_MAX_MS, shared) {
            Ok(call) => container.calls.push(call),
            Err(failure) => self.fail(failure, shared),
        }
    }

    /// The container's first process has written to its FIFO: in this moment it executes the program.
    pub(crate) fn container_starts(&mut self, shared: &mut Shared) {
        let Some(container) = &mut self.container else { return };
        let Some(fifo) = &container.starting else { return };
        if !matches!(streams::read(fifo, &mut [0; 16]), Read::Bytes(_)) {
            return;
        }
        if let Some(fifo) = container.starting.take() {
            shared.epoll.remove(&fifo);
        }
        // As its own `start` does it: without the FIFO the container counts as running.
        let _ = fs::remove_file(container.state_directory().join(FIFO));
        self.container_runs(shared);
    }

    fn start_called(&mut self, outcome: Result<(), StartFailure>, shared: &mut Shared) {
        if self.phase != Phase::Starting {
            return;
        }
        match outcome {
            Ok(()) => self.container_runs(shared),
            Err(failure) => self.fail(failure, shared),
        }
    }

    fn restored(&mut self, outcome: Result<(), StartFailure>, shared: &mut Shared) {
        if self.phase != Phase::Starting {
            return;
        }
        match outcome.and_then(|()| self.adopt_main(shared)) {
            Ok(()) => self.container_runs(shared),
            Err(mut failure) => {
                let log = self.container.as_ref().map(|container| container.bundle.join("restore.log"));
                if let Some(said) = log.and_then(|log| super::exec::criu_error(&log)) {
                    failure.message = format!("{}; CRIU says: {said}", failure.message);
                }
                self.fail(failure, shared);
            }
        }
    }

    fn container_runs(&mut self, shared: &mut Shared) {
        if let Some(container) = &mut self.container {
            container.stage = Stage::Started;
        }
        if let Some(main) = self.main() {
            main.held = false;
        }
        self.main_executed(shared);
    }

    /// Ends it before it ran, or while it is being made: what runs of it is killed, and then it is deleted.
    pub(crate) fn undo_container(&mut self, shared: &Shared) {
        let Some(container) = &mut self.container else { return };
        container.calls.iter().for_each(Call::kill);
        if let Some(fifo) = container.starting.take() {
            shared.epoll.remove(&fifo);
        }
        self.container_streams = None;
        if container.stage == Stage::New {
            container.consoles.drain(..).for_each(|console| console.close(shared));
            clean(container);
            container.stage = Stage::Gone;
            return;
        }
        if !matches!(container.stage, Stage::Deleting | Stage::Gone) {
            container.stage = Stage::Killing;
            self.start_killing();
        }
    }

    /// Does what is due: deadlines of calls, and the delete when nothing of the container is left.
    pub(crate) fn advance_container(&mut self, children: Children, shared: &mut Shared, now_ms: u64) {
        let stuck = self.killing.as_ref().is_some_and(crate::ending::Killing::is_stuck);
        let is_over = matches!(self.phase, Phase::Ended { .. });
        let Some(container) = &mut self.container else { return };
        container.calls.iter_mut().for_each(|call| call.enforce(now_ms));
        let killed = container.stage == Stage::Killing && (children == Children::None || stuck);
        if killed || is_over {
            self.killing = None;
            self.delete_container(shared);
        }
    }

    /// Has it taken away. Its programs are gone.
    pub(crate) fn delete_container(&mut self, shared: &mut Shared) {
        let Some(container) = &mut self.container else { return };
        if matches!(container.stage, Stage::Deleting | Stage::Gone) {
            return;
        }
        container.stage = Stage::Deleting;
        if let Some(fifo) = container.starting.take() {
            shared.epoll.remove(&fifo);
        }
        container.consoles.drain(..).for_each(|console| console.close(shared));
        // What runc's `delete` does besides is to remove the state and the groups, and so do we.
        let is_over = self.group.as_ref().is_some_and(is_empty);
        if container.launch.oci.kind == OciKind::Runc && !container.has_delete && is_over {
            return self.deleted(Ok(()), shared);
        }
        let arguments = ["delete".into(), "--force".into(), container.id.as_str().into()];
        match Call::begin(Purpose::Delete, container, &arguments, CallStreams::Own, OCI_CALL_MAX_MS, shared) {
            Ok(call) => container.calls.push(call),
            Err(failure) => self.deleted(Err(failure), shared),
        }
    }

    fn deleted(&mut self, outcome: Result<(), StartFailure>, shared: &mut Shared) {
        let Some(container) = &mut self.container else { return };
        if let Err(failure) = outcome {
            eprintln!("hostler-agent: run {}: {}; removing it by hand", self.id, failure.message);
        }
        let _ = fs::remove_dir_all(container.state_directory());
        if let Some(group) = &self.group
            && !is_empty(group)
            && !group.kill_all().unwrap_or(false)
        {
            // Somebody still has the user ids: the node gives them back when it removes the rest.
            container.users = None;
        }
        clean(container);
        container.stage = Stage::Gone;
        if self.committed.is_some() {
            self.remove_records(shared);
            self.remove_group();
        }
        self.undone(shared);
    }

    /// Its end was just recorded: once that is told, it is taken away.
    pub(crate) fn is_container_over(&self) -> bool {
        let here = |container: &Container| !matches!(container.stage, Stage::Deleting | Stage::Gone);
        matches!(self.phase, Phase::Ended { .. }) && self.container.as_deref().is_some_and(here)
    }

    /// When something is to be done for the container, if nothing else happens before.
    pub(crate) fn container_next_ms(&self) -> Option<u64> {
        self.container.as_ref()?.calls.iter().filter_map(|call| call.deadline_ms).min()
    }

    /// The main process is gone before its program ran.
    pub(crate) fn container_main_ended(&mut self, shared: &mut Shared) {
        if self.container.is_some() {
            let message = "the container ended before its program was started".to_owned();
            self.fail(StartFailure { kind: StartFailureKind::Sandbox, message }, shared);
        }
    }

    /// Whether nothing of a container is left, or there was none.
    pub(crate) fn is_container_gone(&self) -> bool {
        self.container.as_ref().is_none_or(|container| container.is_gone())
    }

    /// One of its descriptors has something.
    pub(crate) fn container_event(&mut self, kind: TokenKind, serial: u32, shared: &mut Shared) {
        match kind {
            TokenKind::OciLog => {
                let calls = self.container.iter_mut().flat_map(|container| &mut container.calls);
                calls.filter(|call| call.serial == serial).for_each(Call::listen);
            }
            TokenKind::Console => self.console_ready(serial, shared),
            _ => self.container_starts(shared),
        }
    }
}

/// In the state directory of runc: its first process waits here to be started.
const FIFO: &str = "exec.fifo";

fn path(path: &Path) -> ByteString {
    path.as_os_str().into()
}

fn pid_file(shared: &Shared) -> PathBuf {
    shared.config.sandbox_dir.join("container.pid")
}

pub(super) fn read_pid(path: &Path) -> Result<u32, StartFailure> {
    let text = fs::read_to_string(path).map_err(|error| system_failure("read the OCI runtime's pid file", &error))?;
    text.trim().parse().map_err(|_| StartFailure {
        kind: StartFailureKind::Sandbox,
        message: format!(
            "the OCI runtime wrote no number to its pid file: {:?}",
            text.chars().take(40).collect::<String>()
        ),
    })
}

fn run_file(launch: &Launch, container: &ContainerLaunch, shared: &Shared) -> RunFile {
    RunFile { container: Some(ContainerFile { oci: container.oci.clone() }), ..record::run_file(launch, shared) }
}

fn hidden_hierarchy(kind: OciKind) -> Option<std::ffi::CString> {
    let found = if kind == OciKind::Crun { Hierarchies::detect().ok()? } else { return None };
    std::ffi::CString::new(found.unified()?.as_os_str().as_encoded_bytes()).ok()
}

fn write_bundle(container: &mut Container, stdio: &Stdio, shared: &Shared) -> Result<(), StartFailure> {
    let cgroups_path = container.file.cgroup.as_deref().and_then(|name| shared.config.cgroup.as_ref()?.oci_path(name));
    let files = super::files::write(&container.launch, &shared.config.sandbox_dir);
    let files = files.map_err(|error| in_sandbox("write the files of its network", &error))?;
    let asked = config::Asked {
        files: &files,
        container: &container.launch,
        program: &container.program,
        tty: stdio.tty,
        cgroups_path: cgroups_path.as_deref(),
        user_ids_from: container.users.as_ref().map_or(0, |claim| claim.first),
    };
    let (config, filter) = config::make(&asked)?;
    container.filter = filter;
    let has_hooks = |kind: &str| config["hooks"][kind].as_array().is_some_and(|hooks| !hooks.is_empty());
    container.has_poststart = has_hooks("poststart");
    // Without a path the groups are the OCI runtime's own choice.
    container.has_delete = cgroups_path.is_none() || has_hooks("poststop") || !config["linux"]["intelRdt"].is_null();
    let write = || {
        match fs::create_dir(&container.bundle) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        fs::write(container.bundle.join("config.json"), serde_json::to_vec(&config)?)
    };
    write().map_err(|error| in_sandbox("write config.json", &error))
}

/// Beside the states of all containers.
fn users_directory(container: &Container) -> PathBuf {
    let state = container.launch.oci.state.as_path();
    state.with_file_name(USERS_DIRECTORY)
}

/// Whether no process is in it.
fn is_empty(group: &Group) -> bool {
    group.members().is_ok_and(|pids| pids.is_empty())
}

/// Takes away what was made for it here.
fn clean(container: &mut Container) {
    // The directory is kept for the next: on ext4 it costs more to make one than all the rest.
    let _ = fs::remove_file(container.bundle.join("config.json"));
    if container.launch.restore.is_some() {
        // CRIU has worked in it.
        let _ = fs::remove_dir_all(&container.bundle);
    }
    if let Some(claim) = container.users.take() {
        claim.release();
    }
}

/// Files for the standard streams, opened as the node's user: a container's paths are its own, and these are ours.
fn open_files(stdio: &Stdio) -> Result<[Option<std::os::fd::OwnedFd>; 3], StartFailure> {
    let open = |path: &Option<ByteString>, direction| {
        let Some(path) = path else { return Ok(None) };
        streams::open_for(path.as_path(), direction).map(Some).map_err(|error| StartFailure {
            kind: StartFailureKind::Stdio,
            message: format!("cannot open {:?}: {}", path.to_string_lossy(), hostler_linux::spawn::errno_text(&error)),
        })
    };
    Ok([
        open(&stdio.stdin, Direction::Read)?,
        open(&stdio.stdout, Direction::Append)?,
        open(&stdio.stderr, Direction::Append)?,
    ])
}

pub(super) fn stream<'a>(
    index: usize,
    theirs: &'a Theirs,
    files: &'a [Option<std::os::fd::OwnedFd>; 3],
    null: &'a std::io::Stdin,
) -> ChildStream<'a> {
    match theirs.end(index).or(files[index].as_ref()) {
        Some(end) => ChildStream::Descriptor(end.as_fd()),
        None if index == 0 => ChildStream::Descriptor(null.as_fd()),
        None => ChildStream::Null,
    }
}
