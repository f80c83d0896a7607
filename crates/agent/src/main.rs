//! `hostler-agent`: the parent of a run. It outlives the daemon, holds the program's streams, log, limits and
//! deadline, and has the end on disk before it tells anyone.
//!
//! ```text
//!            Prepare           Execute            the end is recorded
//!   idle ─────────────► prepared ──────► running ─────────────► ended ──┐ Committed{reuse}
//!    ▲                     │ Abort                                      │
//!    └─────────────────────┴────────────────────────────────────────────┘        (or it leaves)
//! ```
//! - [`reactor`]: the event loop; [`dispatch`]: messages of the node; [`link`]: the connection
//! - [`run`]: a run's states; [`start`]: how it begins; [`ending`]: how it ends; [`record`]: its directory
//! - [`room`]: programs that are kept apart from the machine
//! - [`child`], [`target`]: programs with their streams; [`streams`]: rings and stdin; [`channels`]: who reads them
//! - [`oci`]: containers, by an OCI runtime
//! - [`vm`]: virtual machines, as the parent of what makes one; [`guest`]: as the first process in one
//! - [`log`]: CRI lines in segments
//!
//! One thread, no timers while nothing is due, buffers only while something flows: what it takes is taken once for every
//! workload of the machine. No `unsafe` here; that is in `hostler-linux`. It looks up nothing: names, paths and limits
//! come resolved.
#![forbid(unsafe_code)]

mod channels;
mod child;
mod dispatch;
mod ending;
mod guest;
mod link;
mod log;
mod oci;
mod reactor;
mod record;
mod room;
mod run;
mod shared;
mod start;
mod streams;
mod target;
mod usage;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use hostler_linux::cgroup::Parent;
use hostler_linux::signals::Signals;
use hostler_linux::spawn::OomScore;
use hostler_linux::{memory, net, process, procfs};
use hostler_model::rundir::AGENT_SOCKET;
use hostler_wire::{PROTOCOL_MAX, PROTOCOL_MIN};

use crate::reactor::{Agent, Door};
use crate::shared::{Config, Place};

/// Agents die after their programs when memory is short, and before the system.
const OOM_SCORE: i32 = -500;

const USAGE: &str = "usage: hostler-agent --sandbox ID --sandbox-dir DIR --run-root DIR --store ID [--cgroup ARG]\n\
                     started by hostlerd, with its connection as fd 0";

/// The command line as it was given.
#[derive(Default)]
struct Arguments {
    sandbox: Option<String>,
    sandbox_dir: Option<PathBuf>,
    run_root: Option<PathBuf>,
    store: Option<String>,
    cgroup: Option<String>,
}

fn parse(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    while let Some(name) = arguments.next() {
        let name = name.to_string_lossy().into_owned();
        let value = arguments.next().ok_or_else(|| format!("{name:?} needs a value, or is not an option\n{USAGE}"))?;
        let text = || value.clone().into_string().map_err(|_| format!("the value of {name} is not text"));
        match name.as_str() {
            "--sandbox" => parsed.sandbox = Some(text()?),
            "--sandbox-dir" => parsed.sandbox_dir = Some(PathBuf::from(&value)),
            "--run-root" => parsed.run_root = Some(PathBuf::from(&value)),
            "--store" => parsed.store = Some(text()?),
            "--cgroup" => parsed.cgroup = Some(text()?),
            _ => return Err(format!("{name:?} is not an option\n{USAGE}")),
        }
    }
    Ok(parsed)
}

fn configure(arguments: Arguments) -> Result<Config, String> {
    let missing = |name: &str| format!("{name} is missing\n{USAGE}");
    let absolute = |path: PathBuf| run::absolute(&path).map_err(|error| format!("{}: {error}", path.display()));
    let sandbox = arguments.sandbox.ok_or_else(|| missing("--sandbox"))?;
    let store = arguments.store.ok_or_else(|| missing("--store"))?;
    let cgroup = arguments.cgroup.as_deref().map(Parent::from_arg).transpose();
    let proc = |error: std::io::Error| format!("cannot read /proc: {error}");
    Ok(Config {
        place: Place::Node,
        sandbox: sandbox.parse().map_err(|error| format!("--sandbox: {error}"))?,
        store: store.parse().map_err(|error| format!("--store: {error}"))?,
        sandbox_dir: absolute(arguments.sandbox_dir.ok_or_else(|| missing("--sandbox-dir"))?)?,
        run_root: absolute(arguments.run_root.ok_or_else(|| missing("--run-root"))?)?,
        cgroup: cgroup.map_err(|error| format!("--cgroup: {error}"))?,
        boot_id: procfs::boot_id().map_err(proc)?,
        own: procfs::process_id(std::process::id()).map_err(proc)?,
        oom_score: OomScore::Inherit,
    })
}

fn start(arguments: Arguments) -> Result<(), String> {
    let failed = |what: &'static str| move |error: std::io::Error| format!("cannot {what}: {error}");
    memory::give_back_early();
    hostler_linux::streams::fill_standard_streams().map_err(failed("open /dev/null"))?;
    hostler_linux::streams::close_from(3);
    let mut config = configure(arguments)?;
    process::new_session();
    process::set_name(c"hostler-agent");
    process::set_umask();
    let signals = Signals::take_over().map_err(failed("take over the signals"))?;
    process::become_subreaper().map_err(failed("become a subreaper"))?;
    if let Some(parent) = &config.cgroup {
        // Without it the agent shares the daemon's group, where it is only less safe.
        let _ = parent.join_agents();
    }
    if process::lower_oom_score(OOM_SCORE) {
        config.oom_score = OomScore::Reset;
    }
    let connection = hostler_linux::streams::take_stdin().map_err(failed("take the connection"))?;
    let first = net::is_unix_stream(&connection).then_some(connection);
    std::env::set_current_dir(&config.sandbox_dir).map_err(failed("enter the sandbox directory"))?;
    let door = listen().map_err(failed("listen in the sandbox directory"))?;
    let agent = Agent::new(config, signals, door, first, None).map_err(failed("begin"))?;
    agent.run().map_err(failed("go on"))
}

fn listen() -> std::io::Result<Door> {
    // A dead agent's socket; the directory is ours alone.
    let _ = std::fs::remove_file(AGENT_SOCKET);
    let listener = net::listen(AGENT_SOCKET.as_ref())?;
    listener.set_nonblocking(true)?;
    Ok(Door::Socket(listener))
}

fn main() -> ExitCode {
    if std::process::id() == 1 {
        guest::main();
    }
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == "--version") {
        println!("hostler-agent {} (protocol {PROTOCOL_MIN} to {PROTOCOL_MAX})", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let is_hook = arguments.peek().is_some_and(|first| first == oci::loopback::ARGUMENT);
    let done = if is_hook { oci::loopback::raise() } else { parse(arguments).and_then(start) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("hostler-agent: {message}");
            ExitCode::FAILURE
        }
    }
}
