//! The node itself: up, down, info, lame-duck.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hostler_api::client::{Client, ClientError};
use hostler_api::paths::{DAEMON_EXISTS, Layout};
use hostler_api::types::{DownRequest, LameDuckRequest, NodeInfo};
use hostler_model::units::{format_duration, format_size};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::time::Instant;

use super::Context;
use crate::cli::{Down, LameDuck, Up};
use crate::failure::Failure;
use crate::output::{local_time, now_ms, own_name, say, say_json};
use crate::terminal::with_spinner;

/// A daemon answers within this time, or it is said that it did not.
const UP_MAX: Duration = Duration::from_secs(15);
const UP_PAUSE_MIN: Duration = Duration::from_millis(2);
const UP_PAUSE_MAX: Duration = Duration::from_millis(20);
/// A daemon that has said nothing for this long hangs.
const HUNG_AFTER: Duration = Duration::from_secs(15);
/// A daemon that was told to go is gone within this time.
const DOWN_MAX: Duration = Duration::from_secs(30);
const DOWN_PAUSE: Duration = Duration::from_millis(5);
/// Lines of the daemon's log that are shown when it did not start.
const LOG_LINES: usize = 10;

pub(super) async fn up(context: &Context, up: &Up) -> Result<u8, Failure> {
    // Never the system node by accident: `up` is about the own one.
    let client = Client::new(context.layout.socket()).with_deadline(HUNG_AFTER);
    match client.node().await {
        Ok(node) => return tell_up(context, &client, &node, "node is already up"),
        Err(error @ ClientError::Timeout(_)) => return Err(hung(context, error)),
        Err(_) => {}
    }
    let program = find_daemon()?;
    if up.foreground {
        let error = daemon(&program, context).exec();
        return Err(Failure::new(format!("cannot become {}: {error}", program.display())));
    }
    let (mut child, log_start) = spawn(&program, context)?;
    let node = with_spinner("starting the node", until_up(context, &client, &mut child, log_start)).await?;
    tell_up(context, &client, &node, "node is up")
}

fn tell_up(context: &Context, client: &Client, node: &NodeInfo, what: &str) -> Result<u8, Failure> {
    if context.json() {
        say_json(node)?;
        return Ok(0);
    }
    say(format!("{what} · pid {} · socket {}", node.pid, client.socket().display()))?;
    let running = node.workloads.get("running").copied().unwrap_or(0);
    if running > 0 {
        say(format!("{} · `{} ps` lists them", count(running, "workload runs", "workloads run"), own_name()))?;
    } else {
        say(format!("next: {} run -- echo hello", own_name()))?;
    }
    Ok(0)
}

/// `1 workload runs`, `3 workloads run`.
fn count(number: u32, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// `hostlerd` beside this program, or in `PATH`.
pub(super) fn find_daemon() -> Result<PathBuf, Failure> {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("hostlerd")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|directory| directory.join("hostlerd"));
    beside.into_iter().chain(in_path).find(|candidate| candidate.is_file()).ok_or_else(|| {
        Failure::new("hostlerd is neither beside this program nor in PATH")
            .with_hint("build it with `make build`, or install it with `make install`")
    })
}

fn daemon(program: &Path, context: &Context) -> Command {
    let mut command = Command::new(program);
    if let Some(root) = &context.root {
        command.arg("--root").arg(root);
    }
    command
}

/// Starts the daemon in the background, its words appended to its log; also the log's length before.
fn spawn(program: &Path, context: &Context) -> Result<(Child, u64), Failure> {
    let path = context.layout.daemon_log();
    let refused = |error| Failure::new(format!("cannot open the daemon's log {}: {error}", path.display()));
    // As the daemon makes it: with root's node others may pass through to the socket, and no more.
    let mode = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(&context.layout.data).map_err(refused)?;
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(refused)?;
    let length = log.metadata().map_err(refused)?.len();
    let mut command = daemon(program, context);
    command.arg("--detached").stdin(Stdio::null()).current_dir("/").process_group(0);
    command.stdout(log.try_clone().map_err(refused)?).stderr(log);
    let child =
        command.spawn().map_err(|error| Failure::new(format!("cannot start {}: {error}", program.display())))?;
    Ok((child, length))
}

async fn until_up(context: &Context, client: &Client, child: &mut Child, log_start: u64) -> Result<NodeInfo, Failure> {
    let layout = &context.layout;
    let begin = Instant::now();
    let mut pause = UP_PAUSE_MIN;
    loop {
        match client.node().await {
            Ok(node) => return Ok(node),
            Err(error) if error.is_disconnect() || matches!(error, ClientError::Permission { .. }) => {}
            Err(error @ ClientError::Timeout(_)) => return Err(hung(context, error)),
            Err(error) => return Err(error.into()),
        }
        let what = match child.try_wait() {
            // Another `up` was faster than this one: its daemon will answer in a moment.
            Ok(Some(status)) if status.code() != Some(DAEMON_EXISTS.into()) => {
                format!("the daemon did not start ({status})")
            }
            Ok(Some(_)) if begin.elapsed() >= UP_MAX => {
                let failure = Failure::new(format!(
                    "a daemon has the store in {}, but none answers at {}",
                    layout.data.display(),
                    client.socket().display()
                ));
                return Err(with_kill_hint(layout, failure));
            }
            _ if begin.elapsed() >= UP_MAX => format!("the daemon does not answer after {}", format_duration(15_000)),
            _ => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(UP_PAUSE_MAX);
                continue;
            }
        };
        let log = layout.daemon_log();
        let said = last_lines(&log, log_start);
        let message = if said.is_empty() { what } else { format!("{what}: {said}") };
        return Err(Failure::new(message).with_hint(format!("all it said is in {}", log.display())));
    }
}

/// A daemon took the connection and then said nothing.
fn hung(context: &Context, error: ClientError) -> Failure {
    with_kill_hint(&context.layout, Failure::from(error))
}

/// How to get rid of a daemon that does not go by itself.
fn with_kill_hint(layout: &Layout, failure: Failure) -> Failure {
    match recorded_daemon(&layout.pid_file()) {
        Some(pid) => failure.with_hint(format!(
            "it is process {pid}: end it with `kill -9 {pid}`, then `{} up`; workloads go on meanwhile",
            own_name()
        )),
        None => failure,
    }
}

/// The daemon of the pid file, if there is still such a process and it is one.
pub(super) fn recorded_daemon(pid_file: &Path) -> Option<u32> {
    let pid = std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim_end() == "hostlerd").then_some(pid)
}

/// The end of the log from this offset on.
fn last_lines(log: &Path, from: u64) -> String {
    /// More than ten lines never need, bytes.
    const TAIL_MAX: u64 = 16 * 1024;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let from = from.max(file.metadata()?.len().saturating_sub(TAIL_MAX));
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        file.take(TAIL_MAX).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

pub(super) async fn down(context: &Context, down: &Down) -> Result<u8, Failure> {
    let client = context.client.clone().with_deadline(HUNG_AFTER);
    let node = match client.node().await {
        Ok(node) => node,
        Err(error @ ClientError::Timeout(_)) => return Err(hung(context, error)),
        Err(ClientError::NotRunning { socket }) if !context.json() => {
            say(format!("no node is running at {}; nothing to do", socket.display()))?;
            return Ok(0);
        }
        Err(error) => return Err(error.into()),
    };
    let process = open_process(node.pid);
    let request = DownRequest { stop_workloads: down.stop_workloads };
    let what = if down.stop_workloads { "stopping the workloads" } else { "stopping the node" };
    let report = match with_spinner(what, client.down(&request)).await {
        Err(error @ ClientError::Timeout(_)) => return Err(hung(context, error)),
        answer => answer?,
    };
    if let Some(process) = process {
        with_spinner("waiting for the daemon to end", until_gone(&process, node.pid)).await?;
    }
    if context.json() {
        say_json(&report)?;
        return Ok(0);
    }
    let hostler = own_name();
    say(match report.stopped {
        0 => "node is down".to_owned(),
        stopped => format!("node is down, {} stopped", count(stopped, "workload was", "workloads were")),
    })?;
    if report.left_running > 0 {
        let left = count(report.left_running, "workload keeps running", "workloads keep running");
        say(format!(
            "{left}: `{hostler} up` finds them again, `{hostler} up && {hostler} down --stop-workloads` stops them"
        ))?;
    }
    Ok(0)
}

/// A handle on the process, so that another with the same number is never taken for it.
fn open_process(pid: u32) -> Option<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

async fn until_gone(process: &OwnedFd, pid: u32) -> Result<(), Failure> {
    let begin = Instant::now();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    while rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now)) == Ok(0) {
        if begin.elapsed() >= DOWN_MAX {
            return Err(Failure::new(format!("the daemon was told to end, but process {pid} is still there"))
                .with_hint(format!("its log says why; `kill -9 {pid}` ends it, and no workload is disturbed")));
        }
        tokio::time::sleep(DOWN_PAUSE).await;
    }
    Ok(())
}

pub(super) async fn info(context: &Context) -> Result<u8, Failure> {
    let node = context.client.node().await?;
    if context.json() {
        say_json(&node)?;
        return Ok(0);
    }
    let up = format_duration(now_ms().saturating_sub(node.started_at_ms));
    let workloads: Vec<String> = node.workloads.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
    let lines = [
        ("node", format!("{} (tag {})", node.store, node.tag)),
        (
            "daemon",
            format!(
                "hostlerd {} · pid {} · {}",
                node.version,
                node.pid,
                if node.privileged { "as root" } else { "without root" }
            ),
        ),
        ("up", format!("{up}, since {}", local_time(node.started_at_ms))),
        ("new work", new_work(&node).to_owned()),
        ("workloads", if workloads.is_empty() { "none".to_owned() } else { workloads.join(", ") }),
        ("idle agents", node.idle_agents.to_string()),
        ("data", format!("{} · {} free", node.data_directory.to_string_lossy(), format_size(node.free_bytes))),
        ("socket", context.client.socket().display().to_string()),
        (
            "machine",
            format!(
                "{} · memory {}, {} available",
                count(node.cpus, "core", "cores"),
                format_size(node.memory_total_bytes),
                format_size(node.memory_available_bytes)
            ),
        ),
        ("last event", node.last_event.clone()),
    ];
    for (what, value) in lines {
        say(format!("{what:<12} {value}"))?;
    }
    Ok(0)
}

fn new_work(node: &NodeInfo) -> &'static str {
    match (node.lame_duck, node.disk_full) {
        (true, _) => "refused (lame duck)",
        (false, true) => "refused (the disk is full: less is free than node.free_space_min_bytes)",
        (false, false) => "taken",
    }
}

pub(super) async fn lame_duck(context: &Context, request: &LameDuck) -> Result<u8, Failure> {
    let node = context.client.lame_duck(&LameDuckRequest { lame_duck: !request.off }).await?;
    if context.json() {
        say_json(&node)?;
    } else if node.lame_duck {
        say("lame duck: no new work is taken, what runs may finish")?;
        say(format!("take work again with: {} node lame-duck --off", own_name()))?;
    } else {
        say("new work is taken")?;
    }
    Ok(0)
}
