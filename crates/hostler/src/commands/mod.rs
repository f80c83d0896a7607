//! What each verb does, one file for each group.
//!
//! - `node`: up, down, info, lame-duck; `doctor`
//! - `run`: run, exec, attach
//! - `list`: ps, inspect; `result`; `stats`
//! - `checkpoint`: create, ls, inspect, rm, restore
//! - `schedule`: ls, pause, resume, fire
//! - `lifecycle`: wait, stop, start, restart, kill, rm, update
//! - `network`: create, ls, inspect, rm; `pool`: ls
//! - `stack`: apply, down, diff, validate, ls, tree
//! - `vm`: setup, ls; by this program itself, without a node
//! - `logs`, `events`: the streams to read

mod checkpoint;
mod doctor;
mod each;
mod events;
mod lifecycle;
mod list;
mod logs;
mod network;
mod node;
mod pool;
mod queue;
mod result;
mod run;
mod schedule;
mod stack;
mod stats;
mod top;
mod vm;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hostler_api::client::{Client, ClientError};
use hostler_api::paths::Layout;
use tokio::time::Instant;

use crate::cli::{Arguments, Command, Global, NodeCommand};
use crate::failure::{Failure, Form};
use crate::output::{self, Style, remark};
use crate::terminal;

/// How long a command goes on trying to reach a daemon that went away under it.
pub(crate) const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// Said once for each break.
const BROKE: &str = "the connection to the node broke, trying again for 30s";
/// Between two attempts.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// The node gave an answer to a question of this command.
static ANSWERED: AtomicBool = AtomicBool::new(false);

/// What every verb needs.
pub(crate) struct Context {
    client: Client,
    layout: Layout,
    /// As given, made absolute.
    root: Option<PathBuf>,
    form: Form,
    style: Style,
}

impl Context {
    fn new(global: &Global) -> Result<Self, Failure> {
        let uid = rustix::process::geteuid().as_raw();
        let bad_root = |error| Failure::new(format!("the root directory has no absolute path: {error}"));
        let root = global.root.as_deref().map(std::path::absolute).transpose().map_err(bad_root)?;
        let layout = Layout::new(root.as_deref(), uid).map_err(bad_root)?;
        if let Some(root) = &global.root
            && std::env::var_os("HOSTLER_ROOT").as_deref() != Some(root.as_os_str())
        {
            output::set_own_name(format!("hostler --root {}", root.display()));
        }
        let socket = if root.is_some() { layout.socket() } else { layout.client_socket() };
        let client = Client::new(socket).in_namespace(global.namespace.as_deref());
        Ok(Self { client, layout, root, form: Form::of(global.json), style: Style::detect() })
    }

    fn json(&self) -> bool {
        self.form == Form::Json
    }
}

/// Does what was asked; the exit code.
pub(crate) async fn execute(arguments: Arguments) -> Result<u8, Failure> {
    let context = Context::new(&arguments.global)?;
    let context = &context;
    match arguments.command {
        Command::Up(up) | Command::Node(NodeCommand::Up(up)) => node::up(context, &up).await,
        Command::Down(down) | Command::Node(NodeCommand::Down(down)) => node::down(context, &down).await,
        Command::Node(NodeCommand::Info) => node::info(context).await,
        Command::Node(NodeCommand::LameDuck(lame_duck)) => node::lame_duck(context, &lame_duck).await,
        Command::Doctor => doctor::doctor(context).await,
        Command::Run(run) => run::run(context, run).await.map_err(Failure::of_tool),
        Command::Exec(exec) => run::exec(context, exec).await.map_err(Failure::of_tool),
        Command::Attach(attach) => run::attach(context, &attach).await.map_err(Failure::of_tool),
        Command::Ps(ps) => list::ps(context, &ps).await,
        Command::Inspect(inspect) => list::inspect(context, &inspect).await,
        Command::Logs(logs) => logs::logs(context, &logs).await,
        Command::Result(result) => result::result(context, &result).await,
        Command::Events(events) => events::events(context, &events).await,
        Command::Wait(wait) => lifecycle::wait(context, &wait).await.map_err(Failure::of_tool),
        Command::Stop(stop) => lifecycle::stop(context, &stop).await,
        Command::Start(start) => lifecycle::start(context, &start).await,
        Command::Pause(pause) => {
            lifecycle::each(context, &pause.references, async |name| Ok(context.client.pause(name).await?)).await
        }
        Command::Resume(resume) => {
            lifecycle::each(context, &resume.references, async |name| Ok(context.client.resume(name).await?)).await
        }
        Command::Checkpoint(command) => checkpoint::checkpoint(context, &command).await,
        Command::Restart(restart) => lifecycle::restart(context, &restart).await,
        Command::Schedule(schedule) => schedule::schedule(context, &schedule).await,
        Command::Kill(kill) => lifecycle::kill(context, &kill).await,
        Command::Rm(remove) => lifecycle::remove(context, &remove).await,
        Command::Update(update) => lifecycle::update(context, &update).await,
        Command::Queue(command) => queue::queue(context, command).await,
        Command::Network(command) => network::network(context, command).await,
        Command::Pool(command) => pool::pool(context, &command).await,
        Command::Vm(command) => vm::vm(context, command),
        Command::Stack(stack) => stack::stack(context, stack).await,
        Command::Top(arguments) => top::top(context, &arguments).await,
        Command::Stats(stats) => stats::stats(context, &stats).await,
    }
}

/// Asks, and when the connection breaks under the question asks again until the daemon is back. Only for questions
/// that may be asked twice.
pub(crate) async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let mut broken_since: Option<Instant> = None;
    loop {
        match ask().await {
            Err(error) if is_break(&error, broken_since.is_some()) => {
                let since = *broken_since.get_or_insert_with(|| {
                    output::remark(BROKE);
                    Instant::now()
                });
                if since.elapsed() >= RECONNECT_MAX {
                    return Err(error);
                }
            }
            answer => {
                ANSWERED.fetch_or(answer.is_ok(), Ordering::Relaxed);
                return answer;
            }
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// Waits a moment before a stream that broke is asked for again; gives up when it has been broken for too long.
async fn pause(broken_since: &mut Option<Instant>, error: ClientError) -> Result<(), Failure> {
    let since = *broken_since.get_or_insert_with(|| {
        remark(BROKE);
        Instant::now()
    });
    if since.elapsed() >= RECONNECT_MAX {
        return Err(error.into());
    }
    tokio::time::sleep(RECONNECT_PAUSE).await;
    Ok(())
}

/// Whether it makes sense to ask again: the connection broke, or the node is on its way down or up. Nobody there at all
/// is a break only for a command that had a node before.
fn is_break(error: &ClientError, broken_before: bool) -> bool {
    let had_node = broken_before || ANSWERED.load(Ordering::Relaxed);
    error.is_disconnect() && (had_node || !matches!(error, ClientError::NotRunning { .. }))
}

/// Of the terminal, where the output goes to one.
fn width() -> Option<usize> {
    terminal::size().filter(|_| std::io::stdout().is_terminal()).map(|size| usize::from(size.columns))
}

/// Several filters are one to the node; all must match.
fn joined(filters: &[String]) -> Option<String> {
    if filters.is_empty() { None } else { Some(filters.join(",")) }
}
