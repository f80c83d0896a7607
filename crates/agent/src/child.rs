//! Starting a program: its pipes or terminal and our side of them in the event loop ([`open`]); then its process, forked
//! ([`fork`]) or executed on the spot ([`execute`]). Execs are always forked.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use hostler_linux::cgroup::Group;
use hostler_linux::confine::Door;
use hostler_linux::epoll::Interest;
use hostler_linux::spawn::{self, ChildSetup, ChildStream, Mounts, Start, Terminal};
use hostler_linux::streams;
use hostler_model::launch::Program;
use hostler_model::rundir::ProcessId;
use hostler_model::spec::Stdio;
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_wire::AttachTarget;

use crate::shared::{Shared, TokenKind, token};
use crate::streams::{Input, Output};
use crate::target::{Owner, Started, Target};

/// A program to be started.
pub(crate) struct Plan<'a> {
    pub(crate) program: &'a Program,
    pub(crate) stdio: &'a Stdio,
    pub(crate) group: Option<&'a Group>,
    /// The room to make or to enter.
    pub(crate) door: Option<Door<'a>>,
}

pub(crate) fn system_failure(what: &str, error: &io::Error) -> StartFailure {
    StartFailure { kind: StartFailureKind::System, message: format!("cannot {what}: {}", spawn::errno_text(error)) }
}

/// The program's ends of its streams, until it has them.
#[derive(Default)]
pub(crate) struct Theirs([Option<OwnedFd>; 3]);

impl Theirs {
    /// One of them, if it is ours to give.
    pub(crate) fn end(&self, index: usize) -> Option<&OwnedFd> {
        self.0[index].as_ref()
    }
}

/// Our ends of the program's streams, and the program's.
#[derive(Default)]
struct Ends {
    input: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
    theirs: Theirs,
}

fn make_ends(plan: &Plan<'_>) -> io::Result<Ends> {
    let mut ends = Ends::default();
    let theirs = &mut ends.theirs.0;
    if let Some(size) = plan.stdio.tty {
        let owner = plan.program.identity.as_ref().map(|identity| identity.uid);
        let (master, slave) = streams::terminal(size, owner)?;
        ends.input = Some(streams::duplicate(master.as_fd())?);
        ends.outputs[0] = Some(master);
        theirs[0] = Some(slave);
        return Ok(ends);
    }
    if let Some(data) = &plan.stdio.stdin_data {
        // A file and not a pipe: nobody has to write while the program reads, so nothing can wait for each other.
        theirs[0] = Some(streams::sealed(data.as_bytes())?);
    } else if plan.stdio.interactive && plan.stdio.stdin.is_none() {
        let (ours, their) = streams::pipe_to_child()?;
        (ends.input, theirs[0]) = (Some(ours), Some(their));
    }
    for (index, file) in [&plan.stdio.stdout, &plan.stdio.stderr].into_iter().enumerate() {
        if file.is_none() {
            let (ours, their) = streams::pipe_from_child()?;
            (ends.outputs[index], theirs[index + 1]) = (Some(ours), Some(their));
        }
    }
    Ok(ends)
}

fn setup_of<'a>(plan: &Plan<'a>, theirs: &'a Theirs, start: Start, shared: &'a Shared) -> ChildSetup<'a> {
    let stdio = plan.stdio;
    let files = [&stdio.stdin, &stdio.stdout, &stdio.stderr];
    let terminal = if stdio.tty.is_some() { theirs.0[0].as_ref() } else { None };
    let stream = |index: usize| match (terminal.or(theirs.0[index].as_ref()), files[index]) {
        (Some(end), _) => ChildStream::Descriptor(end.as_fd()),
        (None, Some(path)) => ChildStream::File(path),
        // Ours is /dev/null since the connection was taken from it.
        (None, None) if index == 0 => ChildStream::Descriptor(shared.null.as_fd()),
        (None, None) => ChildStream::Null,
    };
    ChildSetup {
        program: plan.program,
        streams: [stream(0), stream(1), stream(2)],
        terminal: if terminal.is_some() { Terminal::Stdin } else { Terminal::None },
        group: plan.group,
        mounts: Mounts::Shared,
        network: None,
        filter: None,
        oom_score: shared.config.oom_score,
        start,
        door: plan.door,
    }
}

/// Makes the streams of a program that is yet to be started; [`watch`] comes next, or soon.
pub(crate) fn open(
    key: AttachTarget,
    plan: &Plan<'_>,
    owner: Owner,
    shared: &mut Shared,
) -> Result<(Target, Theirs), StartFailure> {
    let ends = make_ends(plan).map_err(|error| system_failure("make the standard streams", &error))?;
    let (mut target, _) = open_without_streams(key, owner, shared);
    target.outputs = ends.outputs.map(|end| end.map(Output::new).unwrap_or_default());
    target.input = Input::new(ends.input, plan.stdio.tty.is_some());
    target.staged = plan.door.is_some();
    Ok((target, ends.theirs))
}

/// A program whose streams are made elsewhere.
pub(crate) fn open_without_streams(key: AttachTarget, owner: Owner, shared: &mut Shared) -> (Target, Theirs) {
    let target = Target {
        key,
        serial: shared.next_serial(),
        pid: 0,
        control: None,
        outputs: Default::default(),
        // What runs in a guest is logged by the agent on the node.
        logged: key == AttachTarget::Main && !shared.is_guest(),
        input: Input::default(),
        owner,
        owner_next: [0; 2],
        started: None,
        ended: None,
        ordered_signals: 0,
        held: false,
        starting: false,
        reported: false,
        staged: false,
        guest_channel: None,
        with_machine: false,
    };
    (target, Theirs::default())
}

/// Our ends of a program's streams, in the event loop from now on.
pub(crate) fn watch(target: &mut Target, shared: &Shared) -> Result<(), StartFailure> {
    let serial = target.serial;
    if let Some(fd) = &target.input.fd {
        add(fd, TokenKind::Stdin, Interest::Write, serial, shared)?;
    }
    watch_outputs(target, shared)
}

/// The outputs alone, those that are open and not watched yet.
pub(crate) fn watch_outputs(target: &mut Target, shared: &Shared) -> Result<(), StartFailure> {
    let serial = target.serial;
    for (output, kind) in target.outputs.iter_mut().zip([TokenKind::Stdout, TokenKind::Stderr]) {
        if let Some(fd) = output.fd.as_ref().filter(|_| !output.watched) {
            add(fd, kind, Interest::Read, serial, shared)?;
            output.watched = true;
        }
    }
    Ok(())
}

fn add(fd: &OwnedFd, kind: TokenKind, interest: Interest, serial: u32, shared: &Shared) -> Result<(), StartFailure> {
    let added = shared.epoll.add(fd, token(kind, serial), interest);
    added.map_err(|error| system_failure("watch the standard streams", &error))
}

/// Whether [`execute`] may start it; [`fork`] may start everything.
pub(crate) fn is_plain(plan: &Plan<'_>, theirs: &Theirs, shared: &Shared) -> bool {
    spawn::is_plain(&setup_of(plan, theirs, Start::AtOnce, shared))
}

/// Forks a process that sets itself up, and executes the program now or when it is told to.
pub(crate) fn fork(
    target: &mut Target,
    plan: &Plan<'_>,
    theirs: &Theirs,
    start: Start,
    shared: &Shared,
) -> Result<(), StartFailure> {
    let spawned = spawn::spawn(&setup_of(plan, theirs, start, shared))?;
    target.pid = spawned.pid;
    // Should this fail, the child sees its socket close and leaves; the reaper takes it.
    add(&spawned.control, TokenKind::Control, Interest::Read, target.serial, shared)?;
    target.control = Some(spawned.control);
    Ok(())
}

/// Executes a plain program. `identify` is told who it will be before it is, in the child.
pub(crate) fn execute(
    target: &mut Target,
    plan: &Plan<'_>,
    theirs: &Theirs,
    shared: &Shared,
    identify: &dyn Fn(ProcessId) -> Result<(), StartFailure>,
) -> Result<(), StartFailure> {
    target.pid = spawn::execute(&setup_of(plan, theirs, Start::AtOnce, shared), identify)?;
    target.started = Some(Started::now());
    Ok(())
}
