//! Jobs from queues: against bare spawn and wait, against task-spooler, and a hundred thousand of them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hostler_linux::procfs;
use serde_json::Value;

use crate::client::{Client, Method};
use crate::floor;
use crate::node::Node;
use crate::report::{Figure, Report, median};

const ROUNDS: usize = 5;
const JOBS: usize = 4_000;
const PEER_JOBS: usize = 500;
const MANY: usize = 100_000;

/// All figures about queues.
pub async fn queues(binaries: &Path, report: &mut Report) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    rate(binaries, cores * 2, report).await?;
    peer(binaries, cores * 2, report).await?;
    many(binaries, report).await
}

fn job(queue: &str) -> String {
    format!(r#"{{"command":["/bin/true"],"queue":"{queue}","remove":true}}"#)
}

async fn set(client: &mut Client, queue: &str, change: &str) -> anyhow::Result<()> {
    client.ask(Method::Patch, &format!("/v1/queues/{queue}"), change).await?;
    Ok(())
}

async fn until_idle(client: &mut Client, queue: &str) -> anyhow::Result<()> {
    loop {
        let view = client.json(Method::Get, &format!("/v1/queues/{queue}?limit=0"), "").await?;
        if view["waiting"] == 0 && view["running"] == 0 {
            return Ok(());
        }
        // Looking often would take from what is measured.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Short jobs from a queue that was filled while it was paused.
async fn rate(binaries: &Path, parallel: usize, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("short jobs from a filled queue");
    let node = Node::start(binaries, "").await?;
    let mut client = node.client().await?;
    set(&mut client, "q", &format!(r#"{{"parallel":{parallel},"paused":true}}"#)).await?;
    let time = Duration::from_secs(2);
    let (mut floors, mut rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let floor = tokio::task::spawn_blocking(move || floor::spawn_rate(time)).await?;
        let body = format!("[{}]", vec![job("q"); JOBS / 8].join(","));
        for _ in 0..8 {
            client.ask(Method::Post, "/v1/workloads/batch", &body).await?;
        }
        let began = Instant::now();
        set(&mut client, "q", r#"{"paused":false}"#).await?;
        until_idle(&mut client, "q").await?;
        let rate = JOBS as f64 / began.elapsed().as_secs_f64();
        set(&mut client, "q", r#"{"paused":true}"#).await?;
        // The first is for warming up.
        if round > 0 {
            floors.push(floor);
            rates.push(rate);
            ratios.push(rate / floor);
        }
    }
    let note = format!(
        "{:.0}/s, {parallel} at a time, beside {:.0}/s bare posix_spawn + wait on all cores",
        median(&mut rates),
        median(&mut floors)
    );
    report.add(Figure {
        name: "short jobs from a filled queue",
        value: median(&mut ratios),
        unit: "ratio",
        bound: Some(0.6),
        at_least: true,
        note,
    });
    node.down().await
}

/// The same jobs with task-spooler, submission included in both.
async fn peer(binaries: &Path, parallel: usize, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("short jobs, beside task-spooler");
    if Command::new("tsp").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        report.skip("short jobs, submission included", "tsp is not installed; scripts/setup.sh bench installs it");
        return Ok(());
    }
    let node = Node::start(binaries, "").await?;
    let mut client = node.client().await?;
    set(&mut client, "q", &format!(r#"{{"parallel":{parallel}}}"#)).await?;
    let spooler = Spooler::start(node.root(), parallel)?;
    let lines = node.root().join("lines");
    std::fs::write(&lines, "x\n".repeat(PEER_JOBS))?;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let peer = spooler.rate()?;
        let began = Instant::now();
        let status = node
            .cli()
            .args(["run", "-d", "--rm", "--queue", "q", "--each"])
            .arg(&lines)
            .args(["--", "/bin/true"])
            .status()?;
        ensure!(status.success(), "hostler run --each: {status}");
        until_idle(&mut client, "q").await?;
        let rate = PEER_JOBS as f64 / began.elapsed().as_secs_f64();
        if round > 0 {
            ours.push(rate);
            theirs.push(peer);
            ratios.push(rate / peer);
        }
    }
    let note = format!("{:.0}/s beside {:.0}/s of tsp, {parallel} at a time", median(&mut ours), median(&mut theirs));
    report.add(Figure {
        name: "short jobs, submission included: × tsp",
        value: median(&mut ratios),
        unit: "ratio",
        bound: Some(2.0),
        at_least: true,
        note,
    });
    drop(spooler);
    node.down().await
}

/// A task-spooler of its own.
struct Spooler {
    directory: std::path::PathBuf,
}

impl Spooler {
    fn start(directory: &Path, parallel: usize) -> anyhow::Result<Self> {
        let spooler = Self { directory: directory.to_owned() };
        ensure!(spooler.command().arg("-S").arg(parallel.to_string()).status()?.success(), "tsp -S");
        Ok(spooler)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tsp");
        command
            .env("TS_SOCKET", self.directory.join("tsp.sock"))
            .env("TMPDIR", &self.directory)
            .env("TS_MAXFINISHED", "10");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Jobs a second, from the first submission to the last end: its client is a program, so one is started for each.
    fn rate(&self) -> anyhow::Result<f64> {
        let began = Instant::now();
        for _ in 0..PEER_JOBS {
            ensure!(self.command().arg("/bin/true").status()?.success(), "tsp");
        }
        ensure!(self.command().arg("-w").status()?.success(), "tsp -w");
        Ok(PEER_JOBS as f64 / began.elapsed().as_secs_f64())
    }
}

impl Drop for Spooler {
    fn drop(&mut self) {
        let _ = self.command().arg("-K").status();
    }
}

/// A hundred thousand jobs that wait: memory and acceptance.
async fn many(binaries: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("{MANY} jobs that wait");
    let node = Node::start(binaries, "").await?;
    let mut client = node.client().await?;
    set(&mut client, "deep", r#"{"paused":true}"#).await?;
    set(&mut client, "empty", r#"{"paused":true}"#).await?;
    accept(&mut client, "empty", 400).await?;
    let before = procfs::stats(node.pid())?.rss_bytes;
    let some = MANY / 100;
    let body = format!("[{}]", vec![job("deep"); some].join(","));
    let (mut empty, mut deep) = (Vec::new(), Vec::new());
    for _ in 0..99 {
        client.ask(Method::Post, "/v1/workloads/batch", &body).await?;
    }
    let filled = procfs::stats(node.pid())?.rss_bytes;
    report.add(Figure {
        name: "100,000 jobs that wait: memory of the daemon for each",
        value: (filled - before) as f64 / (some * 99) as f64,
        unit: "bytes",
        bound: Some(1_024.0),
        at_least: false,
        note: "growth of its resident memory".to_owned(),
    });
    // A node without such a queue, in turns with this one.
    let other = Node::start(binaries, "").await?;
    let mut others = other.client().await?;
    set(&mut others, "empty", r#"{"paused":true}"#).await?;
    accept(&mut others, "empty", 400).await?;
    for _ in 0..10 {
        empty.extend(accept(&mut others, "empty", 50).await?);
        deep.extend(accept(&mut client, "deep", 50).await?);
    }
    let (empty, deep) = (median(&mut empty), median(&mut deep));
    report.add(Figure {
        name: "100,000 jobs that wait: acceptance, p50 × empty queue",
        value: deep / empty,
        unit: "ratio",
        bound: Some(1.2),
        at_least: false,
        note: format!("{deep:.2} ms beside {empty:.2} ms"),
    });
    let view: Value = client.json(Method::Get, "/v1/queues/deep?limit=1", "").await?;
    ensure!(view["waiting"].as_u64().context("waiting")? as usize >= MANY - some, "{view}");
    other.down().await?;
    node.down().await
}

/// How long acceptance takes, one at a time, milliseconds.
async fn accept(client: &mut Client, queue: &str, times: usize) -> anyhow::Result<Vec<f64>> {
    let body = job(queue);
    let mut samples = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        client.ask(Method::Post, "/v1/workloads", &body).await?;
        samples.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(samples)
}
