//! `hostlerd`: the daemon. Wiring and signals; everything else has its own room.
//!
//! Up: configuration → directories → store (whose lock makes this the only daemon of its root) → agent installed →
//! runs adopted → socket open → ready. Down, by a signal or a request: the door closes, what was accepted is
//! committed, idle agents leave, workloads go on. When the store fails under it, the daemon replaces itself by a
//! fresh one, which adopts what runs.
#![forbid(unsafe_code)]

mod accept;
mod agent_binary;
mod checkpoints;
mod config;
mod doctor;
mod doors;
mod filter;
mod hooks;
mod isolation;
mod limited;
mod logs;
mod matcher;
mod metrics;
mod networks;
mod node;
mod oci;
mod probes;
mod sampling;
mod stacks;

use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::networks::NetworkRoom;
use anyhow::Context;
use clap::Parser;
use hostler_api::paths::{DAEMON_EXISTS, Layout};
use hostler_linux::{cgroup, clock, daemon, failpoint, process, procfs};
use hostler_model::config::Config;
use hostler_model::ids::{NodeTag, StoreId};
use hostler_model::limits;
use hostler_runtime::Runtime;
use hostler_store::{Ballast, NewStore, OpenError, Options, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Runs workloads on this machine, and loses nothing of what becomes of them.
#[derive(Debug, Parser)]
#[command(name = "hostlerd", version)]
struct Arguments {
    /// Keep everything of this node under one directory.
    #[arg(long, env = "HOSTLER_ROOT", value_name = "DIR")]
    root: Option<PathBuf>,
    /// Read this file instead of the usual hostler.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration, say what is wrong with it, and end.
    #[arg(long)]
    check_config: bool,
    /// Leave the session of whoever started this.
    #[arg(long, hide = true)]
    detached: bool,
}

/// Counts how often in a row a daemon replaced itself.
const REPLACED: &str = "HOSTLER_REPLACED";
/// After so many times in a row it gives up: the disk does not come back.
const REPLACED_MAX: u32 = 5;
/// Having lived so long, it starts to count anew.
const REPLACED_RESET: Duration = Duration::from_secs(30);
/// How long the lock of a store may be left over, and how often it is looked at.
const LOCK_WAIT: Duration = Duration::from_millis(300);
const LOCK_LOOK: Duration = Duration::from_millis(10);
/// How long short answers, and then the store, may take to finish on the way down.
const FINISH: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(&arguments) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hostlerd: {error:#}");
            match error.downcast_ref::<OpenError>() {
                Some(OpenError::Locked { .. }) => ExitCode::from(DAEMON_EXISTS),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let uid = process::effective_uid();
    let layout = Layout::new(arguments.root.as_deref(), uid).context("finding the node's directory")?;
    let path = arguments.config.clone().unwrap_or_else(|| layout.config_file());
    let config = config::load(&path, arguments.config.is_some())?;
    let filter = log_filter(&config)?;
    if arguments.check_config {
        let what = if path.exists() { "is good" } else { "does not exist; the defaults are used" };
        println!("{} {what}", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.detached {
        process::new_session();
    }
    start_log(filter);
    if let Err(error) = daemon::raise_open_files() {
        tracing::warn!(%error, "raising the limit of open files");
    }
    // The node has this thread, and those who ask it have others: nothing that a request does can hold up a run.
    let core = async_runtime(&mut tokio::runtime::Builder::new_current_thread())?;
    let workers = usize::from(config.node.workers);
    let doors = async_runtime(tokio::runtime::Builder::new_multi_thread().worker_threads(workers))?;
    let began = clock::boot_ms();
    let ended = core.block_on(run(&layout, config, uid, doors.handle()));
    doors.shutdown_timeout(Duration::from_secs(2));
    core.shutdown_timeout(Duration::from_secs(2));
    let ended = ended?;
    match ended {
        Ended::Down => Ok(ExitCode::SUCCESS),
        Ended::Failed(failure) => Err(replace(&layout, &failure, began)),
    }
}

fn async_runtime(builder: &mut tokio::runtime::Builder) -> anyhow::Result<tokio::runtime::Runtime> {
    let builder = builder.max_blocking_threads(64).thread_keep_alive(Duration::from_secs(2)).enable_all();
    builder.build().context("starting the async runtime")
}

/// `node.log`, read. A single word must be a level: the filter's own syntax would take it for a module that says nothing.
fn log_filter(config: &Config) -> anyhow::Result<tracing_subscriber::EnvFilter> {
    let text = &config.node.log;
    let is_word = !text.contains(['=', ',', '[']);
    let good = !is_word || text.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    let filter = tracing_subscriber::EnvFilter::try_new(text).ok().filter(|_| good);
    filter.with_context(|| {
        format!("node.log = {text:?} is neither a level (error, warn, info, debug, trace) nor a filter")
    })
}

fn start_log(filter: tracing_subscriber::EnvFilter) {
    let colour = io::IsTerminal::is_terminal(&io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colour).init();
}

enum Ended {
    Down,
    Failed(node::Failure),
}

async fn run(layout: &Layout, config: Config, uid: u32, doors: &tokio::runtime::Handle) -> anyhow::Result<Ended> {
    make_directories(layout, uid == 0)?;
    let (store, loaded) = open_store(layout, &config)?;
    let ballast = Ballast::beside(&layout.store());
    if daemon::free_bytes(&layout.data).unwrap_or(0) > limits::BALLAST * 4
        && let Err(error) = ballast.ensure()
    {
        tracing::warn!(%error, "no ballast for a full disk");
    }
    let pid_file = layout.pid_file();
    std::fs::write(&pid_file, format!("{}\n", std::process::id()))
        .with_context(|| format!("writing {}", pid_file.display()))?;
    let agent = agent_binary::install(&layout.agents()).context("installing the agent")?;
    let cgroup = cgroup_parent(&config, loaded.meta.tag);
    let (facts_sender, facts) = mpsc::channel(limits::SUPERVISOR_QUEUE);
    let networks = networks::open(layout, &config, &loaded.meta, uid, doors);
    let settings = settings(layout, &config, loaded.meta.store, &agent, cgroup.clone(), networks.clone());
    let runtime = Runtime::start(settings, facts_sender);
    let watcher = {
        let _doors = doors.enter();
        logs::Watcher::new().context("watching logs")?
    };
    let boot_id = procfs::boot_id().context("reading the boot id")?;
    let created = loaded.created;
    let parts = node::Parts {
        store,
        loaded,
        runtime,
        facts,
        layout: layout.clone(),
        config,
        networks: NetworkRoom::new(networks),
        cgroup,
        uid,
        boot_id,
        watcher: watcher.clone(),
        doors: doors.clone(),
    };
    let (node, handles) = node::start(parts).await.context("finding out what runs")?;
    let socket = layout.socket();
    let listener = {
        let _doors = doors.enter();
        doors::http::listen(&socket, uid == 0).with_context(|| format!("listening on {}", socket.display()))?
    };
    if let Err(error) = agent_binary::remove_unused(&layout.agents(), &agent) {
        tracing::warn!(%error, "looking for agents of older builds");
    }
    tokio::spawn(node.clone().watch_disk());
    doors.spawn(node.clone().check_networks());
    doors.spawn(stacks::startup::apply(node.clone()));
    tracing::info!(node = %node.meta.store, created, socket = %socket.display(), "ready");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    let node::Handles { failure, down, closed, calls, news } = handles;
    doors.spawn(hooks::run(node.clone(), watcher.clone(), calls, news));
    let open = || doors.spawn(doors::http::serve(listener, node.clone(), watcher));
    let ended = serve(&node, failure, down, open).await?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    if matches!(ended, Ended::Down) {
        go_down(&node, closed).await;
        let _ = std::fs::remove_file(&socket);
        let _ = std::fs::remove_file(&pid_file);
        tracing::info!("down");
    }
    Ok(ended)
}

/// What no live run needs goes, and the store is closed.
async fn go_down(node: &node::Node, closed: tokio::task::JoinHandle<()>) {
    node.runtime.shutdown().await;
    node.networks.shut_down().await;
    node.close().await;
    if tokio::time::timeout(FINISH, closed).await.is_err() {
        tracing::warn!("the store takes long to close");
    }
    remove_groups(node).await;
}

fn settings(
    layout: &Layout,
    config: &Config,
    store: hostler_model::ids::StoreId,
    agent: &Path,
    cgroup: Option<cgroup::Parent>,
    networks: hostler_network::Networks,
) -> hostler_runtime::Settings {
    hostler_runtime::Settings {
        store,
        agent: agent.to_owned(),
        sandboxes: layout.sandboxes(),
        runs: layout.runs(),
        agent_log: Some(layout.daemon_log()),
        oci_state: layout.oci_state(),
        idle: config.pool.process.idle as usize,
        reuse: config.pool.process.reuse,
        cgroup,
        networks,
        pools: pools(config),
        guests: hostler_runtime::GuestSettings {
            kernels: config.vm.kernel_dir.as_ref().map_or_else(|| layout.kernels(), PathBuf::from),
            cache: layout.machine_cache(),
            machines: layout.machines(),
            qemu: config.vm.qemu.as_ref().map(PathBuf::from),
            firecracker: config.vm.firecracker.as_ref().map(PathBuf::from),
        },
    }
}

/// The pools of machines; the configuration was checked.
fn pools(config: &Config) -> Vec<hostler_runtime::PoolSettings> {
    use hostler_runtime::MadeBy;
    let pool = |(name, pool): (&String, &hostler_model::config::MachinePool)| {
        Some(hostler_runtime::PoolSettings {
            name: name.clone(),
            shape: pool.shape().ok()?,
            idle: pool.idle as usize,
            max: pool.max as usize,
            max_age_ms: pool.max_age_ms().ok()?,
            made_by: if pool.snapshot { MadeBy::Copy } else { MadeBy::Boot },
        })
    };
    config.pool.machines.iter().filter_map(pool).collect()
}

/// Opens the door and waits until the daemon is told to end, or has to be replaced.
async fn serve(
    node: &node::Node,
    mut failure: tokio::sync::watch::Receiver<Option<node::Failure>>,
    mut down: tokio::sync::watch::Receiver<bool>,
    open: impl FnOnce() -> tokio::task::JoinHandle<()>,
) -> anyhow::Result<Ended> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;
    // Only now: whoever gets an answer may send a signal.
    let door = open();
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM"),
        _ = interrupt.recv() => tracing::info!("SIGINT"),
        // The terminal of a node in the foreground is gone; what runs goes on, as after every end of the daemon.
        _ = hang_up.recv() => tracing::info!("SIGHUP"),
        _ = down.wait_for(|down| *down) => {}
        failure = failure.wait_for(Option::is_some) => if let Ok(Some(failure)) = failure.as_deref() {
            return Ok(Ended::Failed(failure.clone()));
        }
    }
    node.go_down();
    match tokio::time::timeout(FINISH, door).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(error).context("serving the socket"),
        Err(_) => tracing::warn!("some answers did not finish in time"),
    }
    Ok(Ended::Down)
}

/// Without a live run nobody needs the node's groups any more. Those of live runs stay, with what is above them.
async fn remove_groups(node: &node::Node) {
    /// An agent that has left is in its group until the kernel has done with it.
    const ATTEMPTS: usize = 100;
    let Some(parent) = &node.cgroup else { return };
    let mut left = String::new();
    for _ in 0..ATTEMPTS {
        if node.view.live_runs() > 0 {
            return;
        }
        let Err(error) = parent.remove() else { return };
        left = error.to_string();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let names = parent.names();
    tracing::warn!(error = left, groups = ?names, "the node's cgroups could not all be removed; the next start does it");
}

fn make_directories(layout: &Layout, privileged: bool) -> anyhow::Result<()> {
    let make = |path: &Path, mode: u32| {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .with_context(|| format!("making the directory {}", path.display()))
    };
    // Others may pass through to the socket, and see nothing else on the way.
    make(&layout.runtime, if privileged { 0o711 } else { 0o700 })?;
    make(&layout.data, 0o700)?;
    for closed in [layout.sandboxes(), layout.runs(), layout.logs(), layout.oci_state()] {
        make(&closed, 0o700)?;
    }
    Ok(())
}

fn open_store(layout: &Layout, config: &Config) -> anyhow::Result<(Store, hostler_store::Loaded)> {
    let options = Options {
        events_max: config.retention.events,
        events_age_max_ms: u64::from(config.retention.events_hours) * 3_600_000,
        ..Options::default()
    };
    let identity = NewStore {
        store: StoreId::from_bytes(node::random()),
        tag: NodeTag::from_bytes(node::random()),
        now_ms: clock::wall_ms(),
    };
    // A daemon that was killed while it spawned an agent has left a child that holds its files, and with them the lock,
    // until it has become that agent: a few milliseconds.
    let began = Instant::now();
    let mut ballast = Some(Ballast::beside(&layout.store()));
    loop {
        match Store::open(&layout.store(), options.clone(), identity) {
            // What the log holds has to go into the tables, and ends are to be recorded: this is what it is for.
            Err(OpenError::NoSpace { .. }) if ballast.take().is_some_and(|it| it.release().unwrap_or(false)) => {
                tracing::warn!("the disk is full: the ballast is given up to open the store");
            }
            Err(OpenError::Locked { .. }) if began.elapsed() < LOCK_WAIT && !other_lives(layout) => {
                std::thread::sleep(LOCK_LOOK);
            }
            opened => return Ok(opened?),
        }
    }
}

/// Whether the daemon that wrote the pid file is there: then the lock is its own.
fn other_lives(layout: &Layout) -> bool {
    let written = std::fs::read_to_string(layout.pid_file()).ok().and_then(|text| text.trim().parse::<u32>().ok());
    written.is_some_and(|pid| procfs::stats(pid).is_ok_and(|stats| !matches!(stats.state, 'Z' | 'X' | 'x')))
}

/// Where limits are enforced; a machine without usable cgroups runs work without them, and `doctor` says so.
fn cgroup_parent(config: &Config, tag: NodeTag) -> Option<cgroup::Parent> {
    match cgroup::Hierarchies::detect() {
        Ok(hierarchies) => {
            let parent = cgroup::Parent::new(&hierarchies, config.cgroup.parent.as_deref(), tag);
            let _ = parent.available();
            Some(parent)
        }
        Err(error) => {
            tracing::warn!(%error, "no limits for workloads");
            None
        }
    }
}

/// Puts a fresh daemon in the place of this one: same process, same arguments, nothing of its memory.
fn replace(layout: &Layout, failure: &node::Failure, began_ms: u64) -> anyhow::Error {
    if failure.no_space {
        match Ballast::beside(&layout.store()).release() {
            Ok(true) => tracing::warn!("the disk is full: gave up the ballast, so that ends can still be recorded"),
            Ok(false) => tracing::error!("the disk is full, and the ballast is used up"),
            Err(error) => tracing::error!(%error, "giving up the ballast"),
        }
    }
    let lived = Duration::from_millis(clock::boot_ms().saturating_sub(began_ms));
    let before = std::env::var(REPLACED).ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    let count = if lived > REPLACED_RESET { 1 } else { before + 1 };
    if count > REPLACED_MAX {
        return anyhow::anyhow!(
            "{}; tried {REPLACED_MAX} times in a row; workloads go on without a daemon",
            failure.what
        );
    }
    // A disk that was full may have room again in a moment.
    std::thread::sleep(Duration::from_millis(100 * u64::from(count)));
    // This very build, even where an upgrade has put another in its place meanwhile.
    let error = std::process::Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env(REPLACED, count.to_string())
        .exec();
    anyhow::Error::new(error).context("replacing the daemon after a failed commit")
}
