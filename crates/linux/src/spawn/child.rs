//! What the child does between fork and exec. Nothing here returns to the parent's code.
//!
//! A child may share its parent's memory ([`Borrower`]). What it allocates and does not free before `execve` stays
//! allocated in the parent for ever, so on the way to a successful `execve` nothing is kept; and what it does to
//! descriptors, signals, limits and its working directory is its own.

use std::convert::Infallible;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicPtr, Ordering};

use hostler_model::rundir::ProcessId;
use hostler_model::spec::{Rlimit, RlimitKind};
use hostler_model::workload::{Identity, StartFailure, StartFailureKind};

use super::{
    ChildSetup, ChildStream, KINDS, OomScore, READY, REPORT_MAX, Start, Strings, Terminal, errno_text, shorten,
};
use crate::{clock, confine, procfs, signals};

/// Where the child keeps its side of the socket pair: the first number after the standard streams.
pub(crate) const CONTROL: RawFd = 3;
/// Soft limit of open files unless the spec asks for another: what `select` can take.
const NOFILE_SOFT: libc::rlim_t = 1_024;

pub(crate) struct Failure {
    pub(crate) kind: StartFailureKind,
    pub(crate) message: String,
}

pub(crate) fn fail<T>(kind: StartFailureKind, what: impl std::fmt::Display) -> Result<T, Failure> {
    let error = io::Error::last_os_error();
    Err(Failure { kind, message: format!("cannot {what}: {}", errno_text(&error)) })
}

/// The C convention: -1 is a failure whose reason is in `errno`.
pub(crate) fn check(result: libc::c_int, kind: StartFailureKind, what: impl std::fmt::Display) -> Result<(), Failure> {
    if result == -1 { fail(kind, what) } else { Ok(()) }
}

pub(crate) fn shown(path: &CStr) -> String {
    format!("{:?}", shorten(&path.to_string_lossy()))
}

/// A start on the parent's memory. The parent stands still meanwhile, so each of its fields has one user at a time.
pub(super) struct Borrower<'a> {
    setup: &'a ChildSetup<'a>,
    strings: &'a Strings,
    identify: &'a dyn Fn(ProcessId) -> Result<(), StartFailure>,
    parent: u32,
    /// The boot clock right before the child was made, ticks.
    before_ticks: u64,
    failure: Option<StartFailure>,
}

/// Stack of a child that shares its parent's memory, bytes; only the touched part is ever real.
const STACK: usize = 256 * 1024;

/// The stack of such children, one at a time: made once, for mapping and faults cost more than the pages it keeps.
fn stack() -> io::Result<*mut libc::c_void> {
    static MADE: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());
    let made = MADE.load(Ordering::Relaxed);
    if !made.is_null() {
        return Ok(made);
    }
    // SAFETY: an anonymous mapping at a place of the kernel's choice; checked below.
    let stack = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            STACK,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK,
            -1,
            0,
        )
    };
    if stack == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    MADE.store(stack, Ordering::Relaxed);
    Ok(stack)
}

impl<'a> Borrower<'a> {
    pub(super) fn new(
        setup: &'a ChildSetup<'a>,
        strings: &'a Strings,
        identify: &'a dyn Fn(ProcessId) -> Result<(), StartFailure>,
    ) -> Self {
        Self { setup, strings, identify, parent: std::process::id(), before_ticks: 0, failure: None }
    }

    /// Returns when the child has executed its program, or is dead.
    pub(super) fn start(&mut self) -> io::Result<u32> {
        let stack = stack()?;
        self.before_ticks = clock::boot_ticks();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the stack is ours, grows down from its upper end, and stays mapped. With
        // CLONE_VFORK that is when the child no longer uses our memory, so `self` outlives its use too, and no other
        // thread of ours exists (the promise of `execute`). `borrow` ends in execve or _exit.
        let pid = unsafe { libc::clone(borrow, stack.byte_add(STACK), flags, std::ptr::from_mut(self).cast()) };
        if pid == -1 { Err(io::Error::last_os_error()) } else { Ok(pid.cast_unsigned()) }
    }

    pub(super) fn failure(self) -> Option<StartFailure> {
        self.failure
    }

    fn identify_and_execute(&self) -> Result<Infallible, StartFailure> {
        let pid = std::process::id();
        // It was made within this tick, or /proc has to say when.
        let start_ticks = match clock::boot_ticks() {
            now if now == self.before_ticks => now,
            _ => procfs::start_ticks(pid).map_err(|error| StartFailure {
                kind: StartFailureKind::System,
                message: format!("cannot look at the new process: {}", errno_text(&error)),
            })?,
        };
        (self.identify)(ProcessId { pid, start_ticks })?;
        let Err(failure) = set_up_and_execute(self.setup, self.strings, None, self.parent);
        Err(StartFailure { kind: failure.kind, message: failure.message })
    }
}

/// The child's first function.
extern "C" fn borrow(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` passes its own `self`, which nobody else touches until we are gone.
    let borrower = unsafe { &mut *argument.cast::<Borrower<'_>>() };
    let Err(failure) = borrower.identify_and_execute();
    borrower.failure = Some(failure);
    exit()
}

pub(super) fn run(setup: &ChildSetup<'_>, strings: &Strings, control: &OwnedFd, parent: u32) -> ! {
    let Err(failure) = set_up_and_execute(setup, strings, Some(control), parent);
    // Early failures come before the socket has moved to its place; both numbers are tried, one of them is it.
    let record = record(&failure);
    let _ = send(control.as_raw_fd(), &record) || send(CONTROL, &record);
    exit()
}

fn record(failure: &Failure) -> Vec<u8> {
    let kind = KINDS.iter().position(|kind| *kind == failure.kind).unwrap_or(0);
    let mut record = vec![u8::try_from(kind).unwrap_or(0)];
    record.extend_from_slice(failure.message.as_bytes());
    record.truncate(REPORT_MAX);
    record
}

fn send(fd: RawFd, record: &[u8]) -> bool {
    // SAFETY: the record is valid for its length. On a number that is no socket, send answers ENOTSOCK or EBADF.
    unsafe { libc::send(fd, record.as_ptr().cast(), record.len(), libc::MSG_NOSIGNAL) >= 0 }
}

/// Tells the agent why it will not be, by the socket in its place.
pub(crate) fn report_failure(failure: &Failure) {
    send(CONTROL, &record(failure));
}

/// Tells the agent which of its new children is which.
pub(crate) fn report_moved(init: u32, main: u32) {
    let mut record = vec![super::MOVED];
    record.extend(init.to_ne_bytes());
    record.extend(main.to_ne_bytes());
    send(CONTROL, &record);
}

pub(crate) fn exit() -> ! {
    // SAFETY: ends the process without running destructors or exit handlers, which belong to the parent.
    unsafe { libc::_exit(127) }
}

fn set_up_and_execute(
    setup: &ChildSetup<'_>,
    strings: &Strings,
    control: Option<&OwnedFd>,
    parent: u32,
) -> Result<Infallible, Failure> {
    if let Some(door) = &setup.door {
        die_with(parent)?;
        connect(setup, control)?;
        // Back as another process, in the room.
        confine::become_confined(door, setup, parent)?;
        new_session()?;
        take_terminal(setup)?;
        set_limits(&setup.program.rlimits)?;
        become_inhabitant(door, setup)?;
    } else {
        set_up_plainly(setup, control, parent)?;
    }
    open_files(setup, strings)?;
    // SAFETY: the path ends in NUL.
    let entered = unsafe { libc::chdir(strings.workdir.as_ptr()) };
    check(entered, StartFailureKind::Workdir, format_args!("enter the working directory {}", shown(&strings.workdir)))?;
    if setup.program.no_new_privileges || setup.door.is_some() {
        // SAFETY: this prctl takes numbers.
        let set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        check(set, StartFailureKind::System, "set no_new_privs")?;
    }
    if let Some(door) = &setup.door {
        door.room().restrict_paths()?;
    }
    if let Some(filter) = setup.filter {
        filter.install().map_err(|error| Failure {
            kind: StartFailureKind::System,
            message: format!("cannot filter system calls: {}", errno_text(&error)),
        })?;
    }
    signals::reset_ignored();
    if control.is_none() {
        signals::unblock_all();
        execute_first(strings);
    }
    // Nobody waits for a child that is set up ahead: whatever is wrong with the program is said before the go-ahead.
    let path = look_up(strings)?;
    if setup.start == Start::OnGo && control.is_some() {
        wait_for_go();
    }
    signals::unblock_all();
    if let Some(door) = &setup.door {
        door.room().restrict_calls()?;
    }
    execute(path, strings)
}

fn set_up_plainly(setup: &ChildSetup<'_>, control: Option<&OwnedFd>, parent: u32) -> Result<(), Failure> {
    new_session()?;
    die_with(parent)?;
    if let Some(group) = setup.group
        && let Err(error) = group.join_self()
    {
        let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        return Err(Failure { kind: StartFailureKind::System, message: format!("{error}{cause}") });
    }
    if setup.oom_score == OomScore::Reset {
        // Raising one's own score is always allowed; a kernel without the file has no score to reset.
        let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    }
    if let Some(network) = setup.network {
        confine::join_network(network)?;
    }
    super::mounts::enter(setup.mounts)?;
    connect(setup, control)?;
    take_terminal(setup)?;
    set_limits(&setup.program.rlimits)?;
    match &setup.program.identity {
        Some(identity) => become_user(identity, parent),
        None => Ok(()),
    }
}

/// The rights of a process in a room, which is a child of the agent's already.
fn become_inhabitant(door: &confine::Door<'_>, setup: &ChildSetup<'_>) -> Result<(), Failure> {
    let room = door.room();
    confine::capabilities::bound(room.capabilities())?;
    if let Some(identity) = &setup.program.identity {
        // In a room with users of its own there are no groups to be had: they were set before.
        if !room.has_users() {
            set_groups(identity)?;
        }
        set_ids(identity)?;
    }
    confine::capabilities::apply(room.capabilities())?;
    // SAFETY: takes numbers. Changes of rights have cleared it.
    let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    check(set, StartFailureKind::System, "ask to be killed with the agent")
}

fn execute(path: &CStr, strings: &Strings) -> Result<Infallible, Failure> {
    // SAFETY: path ends in NUL; both arrays end in a null pointer, and their strings are alive.
    unsafe { libc::execve(path.as_ptr(), strings.argv.as_ptr(), strings.envp.as_ptr()) };
    let error = io::Error::last_os_error();
    let name = shown(path);
    Err(match error.raw_os_error() {
        Some(libc::ENOENT) => Failure {
            kind: StartFailureKind::CommandNotFound,
            message: format!("cannot execute {name}: its interpreter does not exist"),
        },
        Some(libc::ENOEXEC) => Failure {
            kind: StartFailureKind::CommandNotExecutable,
            message: format!("cannot execute {name}: neither a program for this machine nor a script with #!"),
        },
        Some(code) => {
            Failure { kind: kind_of(code), message: format!("cannot execute {name}: {}", errno_text(&error)) }
        }
        None => Failure { kind: StartFailureKind::System, message: format!("cannot execute {name}") },
    })
}

fn new_session() -> Result<(), Failure> {
    // SAFETY: takes nothing. A fresh child leads no group, so it cannot fail for that.
    check(unsafe { libc::setsid() }, StartFailureKind::System, "make a session")
}

/// The kernel kills us when the parent dies; if it died before we asked, we leave.
fn die_with(parent: u32) -> Result<(), Failure> {
    // SAFETY: this prctl takes numbers.
    let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    check(set, StartFailureKind::System, "ask to be killed with the agent")?;
    // SAFETY: takes nothing.
    if unsafe { libc::getppid() }.cast_unsigned() != parent {
        exit();
    }
    Ok(())
}

/// Puts the given streams in their places, the socket behind them, and closes everything else.
fn connect(setup: &ChildSetup<'_>, control: Option<&OwnedFd>) -> Result<(), Failure> {
    let kind = StartFailureKind::Stdio;
    for (target, stream) in (0..).zip(&setup.streams) {
        if let ChildStream::Descriptor(fd) = stream {
            // SAFETY: both are numbers; what the standard streams of the parent were is not used by the child.
            check(unsafe { libc::dup2(fd.as_raw_fd(), target) }, kind, "connect the standard streams")?;
        }
    }
    let mut first_unused = CONTROL;
    if let Some(from) = control.map(AsRawFd::as_raw_fd) {
        first_unused += 1;
        if from != CONTROL {
            // SAFETY: number 3 belongs to some value of the parent, whose copy in this process nobody uses any more.
            check(unsafe { libc::dup3(from, CONTROL, libc::O_CLOEXEC) }, kind, "connect to the agent")?;
        }
    }
    // SAFETY: closes copies of the parent's descriptors, which nobody in this process uses any more.
    unsafe { libc::syscall(libc::SYS_close_range, first_unused, u32::MAX, 0) };
    for (target, stream) in (0..).zip(&setup.streams) {
        if matches!(stream, ChildStream::Null) {
            open_at(c"/dev/null", libc::O_RDWR, target, kind)?;
        }
    }
    Ok(())
}

fn take_terminal(setup: &ChildSetup<'_>) -> Result<(), Failure> {
    if setup.terminal == Terminal::Stdin {
        // SAFETY: the argument is a number; 0 means not to take the terminal from another session.
        check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }, StartFailureKind::Stdio, "take the terminal")?;
    }
    Ok(())
}

fn open_at(path: &CStr, flags: libc::c_int, target: RawFd, kind: StartFailureKind) -> Result<(), Failure> {
    // SAFETY: the path ends in NUL. The new descriptor is moved to a standard stream's place and closed.
    unsafe {
        let fd = libc::open(path.as_ptr(), flags | libc::O_CLOEXEC | libc::O_NOCTTY, 0o644);
        check(fd, kind, format_args!("open {}", shown(path)))?;
        check(libc::dup2(fd, target), kind, format_args!("connect {}", shown(path)))?;
        libc::close(fd);
    }
    Ok(())
}

fn open_files(setup: &ChildSetup<'_>, strings: &Strings) -> Result<(), Failure> {
    for (target, (stream, path)) in (0..).zip(setup.streams.iter().zip(&strings.files)) {
        if let (ChildStream::File(_), Some(path)) = (stream, path) {
            let flags = if target == 0 { libc::O_RDONLY } else { libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT };
            open_at(path, flags, target, StartFailureKind::Stdio)?;
        }
    }
    Ok(())
}

/// This process's own hard limit; `None` is unlimited.
pub fn hard_limit(kind: RlimitKind) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is valid for writes for the length of the call.
    let asked = unsafe { libc::getrlimit(resource(kind), &mut limit) };
    // What cannot be asked can be assumed to be nothing.
    if asked != 0 {
        return Some(0);
    }
    (limit.rlim_max != libc::RLIM_INFINITY).then_some(limit.rlim_max)
}

const fn resource(kind: RlimitKind) -> libc::__rlimit_resource_t {
    match kind {
        RlimitKind::As => libc::RLIMIT_AS,
        RlimitKind::Core => libc::RLIMIT_CORE,
        RlimitKind::Cpu => libc::RLIMIT_CPU,
        RlimitKind::Data => libc::RLIMIT_DATA,
        RlimitKind::Fsize => libc::RLIMIT_FSIZE,
        RlimitKind::Locks => libc::RLIMIT_LOCKS,
        RlimitKind::Memlock => libc::RLIMIT_MEMLOCK,
        RlimitKind::Msgqueue => libc::RLIMIT_MSGQUEUE,
        RlimitKind::Nice => libc::RLIMIT_NICE,
        RlimitKind::Nofile => libc::RLIMIT_NOFILE,
        RlimitKind::Nproc => libc::RLIMIT_NPROC,
        RlimitKind::Rss => libc::RLIMIT_RSS,
        RlimitKind::Rtprio => libc::RLIMIT_RTPRIO,
        RlimitKind::Rttime => libc::RLIMIT_RTTIME,
        RlimitKind::Sigpending => libc::RLIMIT_SIGPENDING,
        RlimitKind::Stack => libc::RLIMIT_STACK,
    }
}

/// Raises hard limits only, as far as they are to be above ours: later nobody has the right to.
pub(crate) fn raise_hard_limits(rlimits: &[Rlimit]) -> Result<(), Failure> {
    for rlimit in rlimits {
        let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let hard = rlimit.hard.unwrap_or(libc::RLIM_INFINITY);
        // SAFETY: the pointer is valid for writes, then for reads.
        let raised = unsafe {
            if libc::getrlimit(resource(rlimit.kind), &mut now) != 0 || now.rlim_max >= hard {
                continue;
            }
            now.rlim_max = hard;
            libc::setrlimit(resource(rlimit.kind), &now)
        };
        let name = format!("{:?}", rlimit.kind).to_lowercase();
        check(raised, StartFailureKind::Limit, format_args!("raise the hard limit of {name} to {hard}"))?;
    }
    Ok(())
}

fn set_limits(rlimits: &[Rlimit]) -> Result<(), Failure> {
    if !rlimits.iter().any(|rlimit| rlimit.kind == RlimitKind::Nofile) {
        let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the pointer is valid for writes, then for reads.
        unsafe {
            if libc::getrlimit(libc::RLIMIT_NOFILE, &mut now) == 0 && now.rlim_cur != NOFILE_SOFT.min(now.rlim_max) {
                now.rlim_cur = NOFILE_SOFT.min(now.rlim_max);
                libc::setrlimit(libc::RLIMIT_NOFILE, &now);
            }
        }
    }
    for rlimit in rlimits {
        let value = libc::rlimit {
            rlim_cur: rlimit.soft.unwrap_or(libc::RLIM_INFINITY),
            rlim_max: rlimit.hard.unwrap_or(libc::RLIM_INFINITY),
        };
        // SAFETY: the pointer is valid for reads.
        let set = unsafe { libc::setrlimit(resource(rlimit.kind), &value) };
        let text = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
        let name = format!("{:?}", rlimit.kind).to_lowercase();
        check(
            set,
            StartFailureKind::Limit,
            format_args!("set rlimit {name} to {} (hard limit {})", text(rlimit.soft), text(rlimit.hard)),
        )?;
    }
    Ok(())
}

/// Whether this process already is that user, groups included.
pub(super) fn is_user(identity: &Identity) -> bool {
    let mut uids = [0; 3];
    let mut gids = [0; 3];
    let mut have = vec![0; 256];
    // SAFETY: the pointers are valid for writes; the list has room for as many groups as it says.
    let count = unsafe {
        libc::getresuid(&mut uids[0], &mut uids[1], &mut uids[2]);
        libc::getresgid(&mut gids[0], &mut gids[1], &mut gids[2]);
        libc::getgroups(256, have.as_mut_ptr())
    };
    // More groups than that: not known to be the same.
    let Ok(count) = usize::try_from(count) else { return false };
    have.truncate(count);
    have.sort_unstable();
    have.dedup();
    let mut asked = identity.groups.clone();
    asked.sort_unstable();
    asked.dedup();
    // The primary group counts whether or not it is listed again.
    have.retain(|group| *group != identity.gid);
    asked.retain(|group| *group != identity.gid);
    uids == [identity.uid; 3] && gids == [identity.gid; 3] && have == asked
}

pub(crate) fn set_groups(identity: &Identity) -> Result<(), Failure> {
    // SAFETY: the list is valid for its length.
    let set = unsafe { libc::setgroups(identity.groups.len(), identity.groups.as_ptr()) };
    check(set, StartFailureKind::Credentials, "set the supplementary groups")
}

fn set_ids(identity: &Identity) -> Result<(), Failure> {
    let kind = StartFailureKind::Credentials;
    let (uid, gid) = (identity.uid, identity.gid);
    // SAFETY: take numbers. All three ids are set, so none can be taken back.
    unsafe {
        check(libc::setresgid(gid, gid, gid), kind, format_args!("become group {gid}"))?;
        check(libc::setresuid(uid, uid, uid), kind, format_args!("become user {uid}"))
    }
}

pub(crate) fn become_user(identity: &Identity, parent: u32) -> Result<(), Failure> {
    if is_user(identity) {
        return Ok(());
    }
    set_groups(identity)?;
    set_ids(identity)?;
    // A change of user clears it.
    die_with(parent)
}

const fn kind_of(code: i32) -> StartFailureKind {
    match code {
        libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG | libc::ELOOP => StartFailureKind::CommandNotFound,
        libc::EACCES | libc::ENOEXEC | libc::EISDIR | libc::EPERM | libc::ETXTBSY => {
            StartFailureKind::CommandNotExecutable
        }
        _ => StartFailureKind::System,
    }
}

/// Why this path cannot be executed, as far as can be told without doing it.
fn obstacle(path: &CStr) -> Option<i32> {
    let mut about = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path ends in NUL, the pointer is valid for writes, and is read only after success.
    unsafe {
        if libc::stat(path.as_ptr(), about.as_mut_ptr()) == -1 {
            return io::Error::last_os_error().raw_os_error();
        }
        if about.assume_init().st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Some(libc::EISDIR);
        }
        // The real user is the effective one by now.
        if libc::access(path.as_ptr(), libc::X_OK) == -1 {
            return io::Error::last_os_error().raw_os_error();
        }
    }
    None
}

/// As `execvp` does: the first that can be executed; if there is none, one that exists explains why.
fn look_up(strings: &Strings) -> Result<&CStr, Failure> {
    let mut refused: Option<(&CStr, i32)> = None;
    for path in &strings.candidates {
        match obstacle(path) {
            None => return Ok(path),
            Some(code) if kind_of(code) == StartFailureKind::CommandNotFound && strings.candidates.len() > 1 => {}
            Some(code) => refused = refused.or(Some((path, code))),
        }
    }
    Err(match refused {
        Some((path, code)) => Failure {
            kind: kind_of(code),
            message: format!("cannot execute {}: {}", shown(path), errno_text(&io::Error::from_raw_os_error(code))),
        },
        None => {
            let name = strings.arguments.first().map(|name| shown(name)).unwrap_or_default();
            Failure {
                kind: StartFailureKind::CommandNotFound,
                message: format!("cannot execute {name}: not found in the PATH of the workload's environment"),
            }
        }
    })
}

/// Executes the first candidate that can be executed, as `execvp` does. Returns when none can: the look-up that
/// follows explains why.
fn execute_first(strings: &Strings) {
    for path in &strings.candidates {
        // SAFETY: path ends in NUL; both arrays end in a null pointer, and their strings are alive.
        unsafe { libc::execve(path.as_ptr(), strings.argv.as_ptr(), strings.envp.as_ptr()) };
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EACCES) => {}
            Some(code) if kind_of(code) == StartFailureKind::CommandNotFound => {}
            _ => return,
        }
    }
}

fn wait_for_go() {
    let mut byte = [READY];
    // SAFETY: one valid byte, sent, then received into. A closed socket means that nobody wants the program any more.
    unsafe {
        if libc::send(CONTROL, byte.as_ptr().cast(), 1, libc::MSG_NOSIGNAL) != 1 {
            exit();
        }
        loop {
            match libc::recv(CONTROL, byte.as_mut_ptr().cast(), 1, 0) {
                1 => return,
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                _ => exit(),
            }
        }
    }
}
