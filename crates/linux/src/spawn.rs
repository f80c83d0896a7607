//! From a description of a program to a process of it: fork, confinement, exec; every failure named.
//!
//! ```text
//! parent   spawn() ──fork──► read_report() … Ready ─────► send_go() ──► Executed | Failed
//! child    session, cgroup, streams, rlimits, user, files, directory, look-up ─ Ready ─ waits ─ execve
//! ```
//! Parent and child share a pair of message sockets. The child's side closes with a successful `execve`, and with the
//! child's death: the parent sees both as [`Report::Executed`], and its `wait` tells them apart. Closing the parent's
//! side before the go-ahead makes the child leave.
//!
//! A program that needs no other user, cgroup, terminal or file ([`is_plain`]) is started by [`execute`] instead: the child
//! borrows the parent's memory, as `posix_spawn` does it, and the parent stands still until `execve`. That saves the copy
//! of the page tables, the faults that follow it on both sides, the sockets and four changes between the two. Others
//! are forked: a child with another user's rights must not share our memory, one in a group that is out of memory might
//! be killed with all that share its own, and opening a file may take for ever.
//!
//! One with a [`Door`] is kept apart from the machine: [`crate::confine`] says how.
//!
//! The order follows from what each step needs: the cgroup before anything costs memory; limits before the user can no
//! longer raise them; user before files and directories are opened with his rights; `no_new_privs` and the look-up last.
//!
//! For processes with one thread only: the child allocates. Not here: what becomes of the process later ([`crate::process`]).

pub(crate) mod child;
mod mounts;

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use hostler_model::ByteString;
use hostler_model::launch::Program;
use hostler_model::rundir::ProcessId;
use hostler_model::workload::{StartFailure, StartFailureKind};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::cgroup::Group;
use crate::confine::Door;
use crate::confine::seccomp;
use crate::process::{self, Look};
use crate::{net, streams};

pub use child::hard_limit;

/// Where one of the program's standard streams is connected.
#[derive(Debug, Clone, Copy)]
pub enum ChildStream<'a> {
    /// `/dev/null`.
    Null,
    /// This descriptor; a terminal is given to all three.
    Descriptor(BorrowedFd<'a>),
    /// This file, opened as the program's user: read for stdin, appended to for the others.
    File(&'a ByteString),
}

/// When the program is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// As soon as everything is set up.
    AtOnce,
    /// After [`send_go`].
    OnGo,
}

/// Whether the parent's OOM score may be handed down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomScore {
    /// It is fit for a program.
    Inherit,
    /// It protects the parent; the child's is set to 0.
    Reset,
}

/// Whether the program gets a terminal of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// No.
    None,
    /// Its stdin is one: it becomes the controlling terminal.
    Stdin,
}

/// The mounts of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounts<'a> {
    /// Those of this process.
    Shared,
    /// A mount namespace of its own: what it mounts goes with it, however it ends; what is mounted here reaches it.
    Own,
    /// The same, and this mount taken out of sight.
    Without(&'a CStr),
}

/// Everything the child needs to know.
#[derive(Debug, Clone, Copy)]
pub struct ChildSetup<'a> {
    /// The program with its process attributes.
    pub program: &'a Program,
    /// stdin, stdout, stderr.
    pub streams: [ChildStream<'a>; 3],
    /// The controlling terminal.
    pub terminal: Terminal,
    /// The cgroup to join.
    pub group: Option<&'a Group>,
    /// Whose mounts it sees and makes.
    pub mounts: Mounts<'a>,
    /// The network namespace to enter, a file; that of this process when absent. Only root may, and with a door the room
    /// says it.
    pub network: Option<&'a ByteString>,
    /// A filter of system calls for the program and all that it starts; needs a process with the right to it.
    pub filter: Option<&'a seccomp::Program>,
    /// What to do about the OOM score.
    pub oom_score: OomScore,
    /// When to execute.
    pub start: Start,
    /// The room to make or to enter; the cgroup and the OOM score are the parent's to set then, when it knows the
    /// process ([`Report::Moved`]).
    pub door: Option<Door<'a>>,
}

/// A forked child and the parent's side of the socket pair (does not block).
#[derive(Debug)]
pub struct Spawned {
    /// Its number; the caller reaps it.
    pub pid: u32,
    /// For [`read_report`] and [`send_go`].
    pub control: OwnedFd,
}

/// What the child has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Nothing yet.
    Nothing,
    /// What was forked is not what becomes the program: that is another child of this process, in a room with a first
    /// process. Both are to be reaped.
    Moved {
        /// The room's first process.
        init: u32,
        /// What becomes the program.
        main: u32,
    },
    /// All is set up; it waits for the go-ahead.
    Ready,
    /// It executes the program, or it is dead.
    Executed,
    /// The program was not executed. The child ends by itself.
    Failed(StartFailure),
}

/// Longest report, bytes. Messages name paths, which may be as long.
const REPORT_MAX: usize = 1_024;
const READY: u8 = u8::MAX;
const MOVED: u8 = u8::MAX - 1;

/// The kinds of failure a child can report, by their number in the report.
const KINDS: [StartFailureKind; 8] = [
    StartFailureKind::System,
    StartFailureKind::CommandNotFound,
    StartFailureKind::CommandNotExecutable,
    StartFailureKind::Workdir,
    StartFailureKind::Stdio,
    StartFailureKind::Credentials,
    StartFailureKind::Limit,
    StartFailureKind::Isolation,
];

fn failure(kind: StartFailureKind, message: impl Into<String>) -> StartFailure {
    StartFailure { kind, message: message.into() }
}

/// The system's words for an error, without its number.
#[must_use]
pub fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) if error.raw_os_error() == Some(libc::E2BIG) => format!("{} (E2BIG)", text[..end].to_lowercase()),
        Some(end) => {
            let mut letters = text[..end].chars();
            letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
        }
        None => text,
    }
}

/// Strings as the kernel takes them, made before the fork.
struct Strings {
    arguments: Vec<CString>,
    _environment: Vec<CString>,
    candidates: Vec<CString>,
    workdir: CString,
    files: [Option<CString>; 3],
    /// Null-terminated arrays of pointers into the two lists.
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

fn c_string(bytes: &ByteString) -> Result<CString, StartFailure> {
    CString::new(bytes.as_bytes()).map_err(|_| {
        failure(StartFailureKind::System, format!("{:?} contains a NUL byte", shorten(&bytes.to_string_lossy())))
    })
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 200 { text.to_owned() } else { text.chars().take(200).chain("…".chars()).collect() }
}

/// Where a program without a slash is looked for when the environment has no `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The paths to try, in order; one when the name has a slash.
fn candidates(program: &Program) -> Result<Vec<CString>, StartFailure> {
    let name = program
        .command
        .first()
        .filter(|name| !name.as_bytes().is_empty())
        .ok_or_else(|| failure(StartFailureKind::CommandNotFound, "no command given"))?;
    if name.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(name)?]);
    }
    let path = program.env.iter().rev().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    path.unwrap_or(DEFAULT_PATH.as_bytes())
        .split(|byte| *byte == b':')
        .map(|directory| {
            // An empty element is the working directory.
            let directory = if directory.is_empty() { b"." } else { directory };
            c_string(&ByteString::from([directory, b"/", name.as_bytes()].concat()))
        })
        .collect()
}

impl Strings {
    fn new(setup: &ChildSetup<'_>) -> Result<Self, StartFailure> {
        let all = |list: &[ByteString]| list.iter().map(c_string).collect::<Result<Vec<_>, _>>();
        let file = |stream: &ChildStream<'_>| match stream {
            ChildStream::File(path) => c_string(path).map(Some),
            _ => Ok(None),
        };
        let [stdin, stdout, stderr] = &setup.streams;
        let (arguments, environment) = (all(&setup.program.command)?, all(&setup.program.env)?);
        Ok(Self {
            argv: pointers(&arguments),
            envp: pointers(&environment),
            arguments,
            _environment: environment,
            candidates: candidates(setup.program)?,
            workdir: c_string(&setup.program.workdir)?,
            files: [file(stdin)?, file(stdout)?, file(stderr)?],
        })
    }
}

/// Forks a child that sets itself up as described. Only for processes with one thread.
pub fn spawn(setup: &ChildSetup<'_>) -> Result<Spawned, StartFailure> {
    let system = |what: &str, error: io::Error| {
        failure(StartFailureKind::System, format!("cannot {what}: {}", errno_text(&error)))
    };
    let strings = Strings::new(setup)?;
    let (ours, theirs) = net::message_pair().map_err(|error| system("make a socket pair", error))?;
    streams::set_nonblocking(&ours).map_err(|error| system("make a socket pair", error))?;
    let parent = std::process::id();
    // SAFETY: this process has one thread (the caller's promise), so the child may do whatever the parent may. It never
    // returns from `child::run`, which ends in `execve` or `_exit`.
    match unsafe { libc::fork() } {
        -1 => Err(system("fork", io::Error::last_os_error())),
        0 => {
            drop(ours);
            child::run(setup, &strings, &theirs, parent)
        }
        pid => Ok(Spawned { pid: pid.cast_unsigned(), control: ours }),
    }
}

/// Whether [`execute`] may start this program.
#[must_use]
pub fn is_plain(setup: &ChildSetup<'_>) -> bool {
    setup.group.is_none()
        && setup.door.is_none()
        && setup.network.is_none()
        && setup.terminal == Terminal::None
        && !setup.streams.iter().any(|stream| matches!(stream, ChildStream::File(_)))
        && setup.program.identity.as_ref().is_none_or(child::is_user)
}

/// Executes a plain program: when this returns its number, `execve` has succeeded, or the child was killed, which
/// its `wait` tells. The caller reaps it. Only for processes with one thread.
///
/// `identify` runs in the child with its identity before anything else. It shares the caller's memory, so it may not
/// keep, close or open descriptors that the caller knows of; what it refuses is the failure of the start.
pub fn execute(
    setup: &ChildSetup<'_>,
    identify: &dyn Fn(ProcessId) -> Result<(), StartFailure>,
) -> Result<u32, StartFailure> {
    debug_assert!(is_plain(setup), "only plain programs may borrow our memory");
    let strings = Strings::new(setup)?;
    let mut borrower = child::Borrower::new(setup, &strings, identify);
    let pid = borrower
        .start()
        .map_err(|error| failure(StartFailureKind::System, format!("cannot fork: {}", errno_text(&error))))?;
    match borrower.failure() {
        None => Ok(pid),
        Some(failed) => {
            // It leaves by itself, right now; nobody else shall see its end.
            let _ = process::wait(Look::UntilEnded(pid));
            Err(failed)
        }
    }
}

/// The next report of a child, without waiting.
#[must_use]
pub fn read_report(control: &OwnedFd) -> Report {
    let mut record = [0; REPORT_MAX];
    let length = loop {
        match rustix::net::recv(control, &mut record, RecvFlags::empty()) {
            Ok((length, _)) => break length,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Report::Nothing,
            // It left without reading our go-ahead: said once, before what it had reported; that is read next.
            Err(Errno::CONNRESET) => {}
            Err(_) => return Report::Executed,
        }
    };
    match record[..length].split_first() {
        None => Report::Executed,
        Some((&READY, _)) => Report::Ready,
        Some((&MOVED, numbers)) => moved(numbers),
        Some((kind, message)) => {
            let kind = KINDS.get(usize::from(*kind)).copied().unwrap_or(StartFailureKind::System);
            Report::Failed(failure(kind, String::from_utf8_lossy(message)))
        }
    }
}

fn moved(numbers: &[u8]) -> Report {
    let number = |at: usize| numbers.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    match (number(0), number(4)) {
        (Some(init), Some(main)) => Report::Moved { init, main },
        _ => Report::Failed(failure(StartFailureKind::System, "the new process does not make sense")),
    }
}

/// Lets the child execute the program; it may not be ready yet.
pub fn send_go(control: &OwnedFd) {
    // The child may be dead already; its report says so.
    let _ = rustix::net::send(control, &[1], SendFlags::NOSIGNAL);
}
