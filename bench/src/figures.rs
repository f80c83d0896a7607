//! The measurements.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::client::Method;
use anyhow::{Context, ensure};
use hostler_linux::procfs;
use serde_json::Value;

use crate::floor;
use crate::node::Node;
use crate::report::{Figure, Report, median};

const TRUE: &str = r#"{"command":["/bin/true"],"remove":true}"#;
const UNTIL_ENDED: &str = "/v1/workloads?wait=ended";
const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 5;

/// `POST` to durable end, one at a time, and the CLI as a whole program.
pub async fn latency(binaries: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("one at a time");
    let node = Node::start(binaries, "").await?;
    let mut client = node.client().await?;
    let (mut syncs, mut posts, mut programs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        client.ask(Method::Post, UNTIL_ENDED, TRUE).await?;
    }
    // In turns, so that a slow spell of the disk meets all three.
    for _ in 0..20 {
        syncs.extend(floor::sync_ms(node.root(), 20)?);
        for _ in 0..20 {
            let began = Instant::now();
            client.ask(Method::Post, UNTIL_ENDED, TRUE).await?;
            posts.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
        for _ in 0..5 {
            let began = Instant::now();
            let status = node.cli().args(["run", "--rm", "--", "true"]).status()?;
            programs.push(began.elapsed().as_secs_f64() * 1_000.0);
            ensure!(status.success(), "hostler run -- true: {status}");
        }
    }
    let sync = median(&mut syncs);
    let note = format!("two fdatasync ({sync:.2} ms each, p50 of {}) + ", syncs.len());
    report.add(Figure {
        name: "POST to durable end, one at a time, p50",
        value: median(&mut posts),
        unit: "ms",
        bound: Some(2.0 * sync + 3.0),
        at_least: false,
        note: format!("{note}3 ms"),
    });
    report.add(Figure {
        name: "hostler run -- true, whole program, p50",
        value: median(&mut programs),
        unit: "ms",
        bound: Some(2.0 * sync + 8.0),
        at_least: false,
        note: format!("{note}8 ms"),
    });
    node.down().await
}

/// Many in flight against spawn and wait on all cores.
pub async fn throughput(binaries: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("{IN_FLIGHT} in flight");
    let reusing = Node::start(binaries, "[pool.process]\nidle = 16\n").await?;
    let fresh = Node::start(binaries, "[pool.process]\nidle = 16\nreuse = false\n").await?;
    let time = Duration::from_secs(3);
    rate(&reusing, Duration::from_secs(1)).await?;
    let (mut floors, mut reused, mut ratios, mut singles) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let floor = tokio::task::spawn_blocking(move || floor::spawn_rate(time)).await?;
        let rate_reused = rate(&reusing, time).await?;
        floors.push(floor);
        reused.push(rate_reused);
        ratios.push(rate_reused / floor);
        singles.push(rate(&fresh, time).await?);
    }
    let floor = median(&mut floors);
    report.add(Figure {
        name: "64 in flight, durable ends, re-used agents",
        value: median(&mut ratios),
        unit: "ratio",
        bound: Some(0.5),
        at_least: true,
        note: format!("{:.0}/s beside {floor:.0}/s bare posix_spawn + wait on all cores", median(&mut reused)),
    });
    report.add(Figure {
        name: "64 in flight, one agent a job",
        value: median(&mut singles),
        unit: "/s",
        bound: None,
        at_least: true,
        note: "the same without re-use".to_owned(),
    });
    reusing.down().await?;
    fresh.down().await
}

/// Nothing but the jobs of [`throughput`] on re-used agents, for a profiler to look at. `HOSTLER_BENCH_CONFIG` may hold
/// another configuration to compare with.
pub async fn load(binaries: &Path) -> anyhow::Result<()> {
    let config = std::env::var("HOSTLER_BENCH_CONFIG").unwrap_or_else(|_| "[pool.process]\nidle = 16\n".to_owned());
    let node = Node::start(binaries, &config).await?;
    for _ in 0..ROUNDS {
        eprintln!("{:.0}/s", rate(&node, Duration::from_secs(3)).await?);
    }
    node.down().await
}

async fn rate(node: &Node, time: Duration) -> anyhow::Result<f64> {
    let count = Arc::new(AtomicU32::new(0));
    let began = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..IN_FLIGHT {
        let mut client = node.client().await?;
        let count = count.clone();
        tasks.push(tokio::spawn(async move {
            while began.elapsed() < time {
                client.ask(Method::Post, UNTIL_ENDED, TRUE).await?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(f64::from(count.load(Ordering::Relaxed)) / began.elapsed().as_secs_f64())
}

/// Agents with an idle child, and the daemon with nothing to do.
pub async fn memory(binaries: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("memory and wake-ups");
    const AGENTS: u32 = 100;
    const WATCH: Duration = Duration::from_secs(10);
    let node = Node::start(binaries, "").await?;
    tokio::time::sleep(Duration::from_secs(12)).await;
    let before = procfs::context_switches(node.pid())?;
    tokio::time::sleep(WATCH).await;
    let switches = procfs::context_switches(node.pid())? - before;
    report.add(Figure {
        name: "daemon, idle: resident memory",
        value: procfs::stats(node.pid())?.rss_bytes as f64 / 1e6,
        unit: "MB",
        bound: Some(20.0),
        at_least: false,
        note: "before any work".to_owned(),
    });
    report.add(Figure {
        name: "daemon, idle: wake-ups a second",
        value: switches as f64 / WATCH.as_secs_f64(),
        unit: "/s",
        bound: Some(1.0),
        at_least: false,
        note: format!("context switches of all threads in {WATCH:?}"),
    });
    start_many(&node, AGENTS).await?;
    let agents = agents_of(&node)?;
    ensure!(agents.len() == AGENTS as usize, "{} agents", agents.len());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pss: Vec<u64> = agents.iter().map(|pid| procfs::pss_bytes(*pid)).collect::<Result<_, _>>()?;
    let before: u64 = agents.iter().map(|pid| procfs::context_switches(*pid).unwrap_or(0)).sum();
    tokio::time::sleep(WATCH).await;
    let after: u64 = agents.iter().map(|pid| procfs::context_switches(*pid).unwrap_or(0)).sum();
    report.add(Figure {
        name: "agent with a running child: mean PSS",
        value: pss.iter().sum::<u64>() as f64 / pss.len() as f64 / 1024.0,
        unit: "KiB",
        bound: Some(200.0),
        at_least: false,
        note: format!("over {AGENTS} agents"),
    });
    report.add(Figure {
        name: "agents with an idle child: wake-ups",
        value: (after - before) as f64,
        unit: "",
        bound: Some(0.0),
        at_least: false,
        note: format!("context switches of {AGENTS} agents in {WATCH:?}"),
    });
    node.down().await
}

/// The agents that have a run, by their run directories.
pub(crate) fn agents_of(node: &Node) -> anyhow::Result<Vec<u32>> {
    Ok(run_files(node)?.into_values().filter_map(|run| run["agent"]["pid"].as_u64()).map(|pid| pid as u32).collect())
}

fn run_files(node: &Node) -> anyhow::Result<HashMap<String, Value>> {
    let mut files = HashMap::new();
    for entry in std::fs::read_dir(node.root().join("run"))? {
        let path = entry?.path();
        let file: Value = serde_json::from_slice(&std::fs::read(path.join("run.json"))?)?;
        files.insert(file["run"].as_str().context("run")?.to_owned(), file);
    }
    Ok(files)
}

async fn start_many(node: &Node, count: u32) -> anyhow::Result<()> {
    const SLEEP: &str = r#"{"command":["/bin/sleep","600"],"stop":{"signal":"KILL"}}"#;
    let mut client = node.client().await?;
    for _ in 0..count {
        client.ask(Method::Post, "/v1/workloads?wait=started", SLEEP).await?;
    }
    Ok(())
}

/// 1,000 running, the store full, the daemon killed and started; then all of them end without it.
pub async fn adoption(binaries: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("adoption");
    const RUNNING: u32 = 1_000;
    let mut node = Node::start(binaries, "").await?;
    let mut client = node.client().await?;
    loop {
        let info = client.json(Method::Get, "/v1/node", "").await?;
        let last = info["last_event"].as_str().and_then(|id| id.rsplit('-').next()?.parse::<u64>().ok());
        if last.context("last_event")? >= 100_000 {
            break;
        }
        rate(&node, Duration::from_secs(3)).await?;
    }
    start_many(&node, RUNNING).await?;
    let before = run_files(&node)?;
    ensure!(before.len() == RUNNING as usize, "{} run directories", before.len());
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        node.kill()?;
        times.push(node.up().await?.as_secs_f64() * 1_000.0);
        let mut client = node.client().await?;
        let info = client.json(Method::Get, "/v1/node", "").await?;
        ensure!(info["workloads"]["running"] == RUNNING, "{info}");
    }
    let after = run_files(&node)?;
    ensure!(before == after, "processes were disturbed");
    report.add(Figure {
        name: "1,000 running, store full: killed, up again",
        value: median(&mut times),
        unit: "ms",
        bound: Some(1_000.0),
        at_least: false,
        note: "from exec to the first answer, all adopted, same processes".to_owned(),
    });
    node.kill()?;
    for run in after.values() {
        let pid = run["main"]["pid"].as_u64().context("pid")?;
        std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status()?;
    }
    wait_for_exits(&node, RUNNING as usize).await?;
    let up = node.up().await?.as_secs_f64() * 1_000.0;
    let ends = ends_of(&node).await?;
    ensure!(ends.values().all(|count| *count == 1), "an end was told twice");
    report.add(Figure {
        name: "1,000 ends while the daemon is down: recorded",
        value: after.keys().filter(|run| ends.contains_key(*run)).count() as f64,
        unit: "",
        bound: Some(f64::from(RUNNING)),
        at_least: true,
        note: format!("each exactly once; the daemon was up in {up:.0} ms"),
    });
    node.down().await
}

/// The agents write their exit records and leave.
async fn wait_for_exits(node: &Node, count: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let directories = std::fs::read_dir(node.root().join("run"))?;
        let ended = directories.flatten().filter(|entry| entry.path().join("exit.json").exists()).count();
        if ended == count {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(60), "{ended} of {count} ends on disk");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How often each run's end is in the journal.
async fn ends_of(node: &Node) -> anyhow::Result<HashMap<String, u32>> {
    let mut client = node.client().await?;
    let filter = "/v1/events?no_follow=true&filter=type%3Drun.exited";
    let body = client.ask(Method::Get, filter, "").await?;
    let mut ends = HashMap::new();
    for line in String::from_utf8_lossy(&body).lines() {
        let Some(data) = line.strip_prefix("data:") else { continue };
        let event: Value = serde_json::from_str(data.trim_start())?;
        if let Some(run) = event["subject"]["run"].as_str() {
            *ends.entry(run.to_owned()).or_insert(0) += 1;
        }
    }
    Ok(ends)
}
