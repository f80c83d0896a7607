//! Starting a program: its pipes or terminal, the fork, and our side of everything in the event loop. The main program
//! and execs take the same way.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use hostler_linux::cgroup::Group;
use hostler_linux::epoll::Interest;
use hostler_linux::spawn::{self, ChildSetup, ChildStream, Start, Terminal};
use hostler_linux::streams;
use hostler_model::launch::Program;
use hostler_model::spec::Stdio;
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_wire::AttachTarget;

use crate::shared::{Shared, TokenKind, token};
use crate::streams::{Input, Output};
use crate::target::{Owner, Target};

/// A program to be started.
pub(crate) struct Plan<'a> {
    pub(crate) key: AttachTarget,
    pub(crate) program: &'a Program,
    pub(crate) stdio: &'a Stdio,
    pub(crate) group: Option<&'a Group>,
    pub(crate) owner: Owner,
    pub(crate) start: Start,
}

pub(crate) fn system_failure(what: &str, error: &io::Error) -> StartFailure {
    StartFailure { kind: StartFailureKind::System, message: format!("cannot {what}: {}", spawn::errno_text(error)) }
}

/// Our ends of the program's streams, and the program's.
#[derive(Default)]
struct Ends {
    input: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
    theirs: [Option<OwnedFd>; 3],
}

fn make_ends(plan: &Plan<'_>) -> io::Result<Ends> {
    let mut ends = Ends::default();
    if let Some(size) = plan.stdio.tty {
        let owner = plan.program.identity.as_ref().map(|identity| identity.uid);
        let (master, slave) = streams::terminal(size, owner)?;
        ends.input = Some(streams::duplicate(master.as_fd())?);
        ends.outputs[0] = Some(master);
        ends.theirs[0] = Some(slave);
        return Ok(ends);
    }
    if plan.stdio.interactive && plan.stdio.stdin.is_none() {
        let (ours, theirs) = streams::pipe_to_child()?;
        (ends.input, ends.theirs[0]) = (Some(ours), Some(theirs));
    }
    for (index, file) in [&plan.stdio.stdout, &plan.stdio.stderr].into_iter().enumerate() {
        if file.is_none() {
            let (ours, theirs) = streams::pipe_from_child()?;
            (ends.outputs[index], ends.theirs[index + 1]) = (Some(ours), Some(theirs));
        }
    }
    Ok(ends)
}

/// Forks the program's process and watches its descriptors.
pub(crate) fn start(plan: &Plan<'_>, shared: &mut Shared) -> Result<Target, StartFailure> {
    let ends = make_ends(plan).map_err(|error| system_failure("make the standard streams", &error))?;
    let stdio = plan.stdio;
    let files = [&stdio.stdin, &stdio.stdout, &stdio.stderr];
    let terminal = if stdio.tty.is_some() { ends.theirs[0].as_ref() } else { None };
    let stream = |index: usize| match (terminal.or(ends.theirs[index].as_ref()), files[index]) {
        (Some(end), _) => ChildStream::Descriptor(end.as_fd()),
        (None, Some(path)) => ChildStream::File(path),
        (None, None) => ChildStream::Null,
    };
    let spawned = spawn::spawn(&ChildSetup {
        program: plan.program,
        streams: [stream(0), stream(1), stream(2)],
        terminal: if terminal.is_some() { Terminal::Stdin } else { Terminal::None },
        group: plan.group,
        oom_score: shared.config.oom_score,
        start: plan.start,
    })?;
    let [stdout, stderr] = ends.outputs.map(|end| end.map(Output::new).unwrap_or_default());
    let serial = shared.next_serial();
    let target = Target {
        key: plan.key,
        serial,
        pid: spawned.pid,
        control: Some(spawned.control),
        outputs: [stdout, stderr],
        logged: plan.key == AttachTarget::Main,
        input: Input::new(ends.input, stdio.tty.is_some()),
        owner: plan.owner,
        owner_next: [0; 2],
        started: None,
        ended: None,
        ordered_signals: 0,
        reported: false,
    };
    let watched = [
        (target.control.as_ref(), TokenKind::Control, Interest::Read),
        (target.input.fd.as_ref(), TokenKind::Stdin, Interest::Write),
        (target.outputs[0].fd.as_ref(), TokenKind::Stdout, Interest::Read),
        (target.outputs[1].fd.as_ref(), TokenKind::Stderr, Interest::Read),
    ];
    for (fd, kind, interest) in watched {
        if let Some(fd) = fd
            && let Err(error) = shared.epoll.add(fd, token(kind, serial), interest)
        {
            // The child sees its socket close and leaves; the reaper takes it.
            return Err(system_failure("watch the standard streams", &error));
        }
    }
    Ok(target)
}
