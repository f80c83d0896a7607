//! Schedules: what many of them cost while nothing is due, and how late a due one is.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use hostler_linux::procfs;
use serde_json::Value;

use crate::client::Method;
use crate::floor;
use crate::node::Node;
use crate::report::{Figure, Report, median};

const SCHEDULES: usize = 10_000;
const CALLERS: usize = 32;
/// With dates each second, beside all those that are not due.
const DUE: usize = 4;

/// Wake-ups between fire times, and lateness at them.
pub async fn schedules(binaries: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("schedules");
    let node = Node::start(binaries, "").await?;
    let idle = quietest(&node).await?;
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let mut client = node.client().await?;
        callers.push(tokio::spawn(async move {
            for _ in (caller..SCHEDULES).step_by(CALLERS) {
                let spec = r#"{"command":["/bin/true"],"schedule":{"cron":"0 0 1 1 *","time_zone":"Europe/Zurich"}}"#;
                client.ask(Method::Post, "/v1/workloads", spec).await?;
            }
            anyhow::Ok(())
        }));
    }
    for caller in callers {
        caller.await??;
    }
    let with = quietest(&node).await?;
    report.add(Figure {
        name: "10,000 schedules: wake-ups between fire times",
        value: with.saturating_sub(idle) as f64,
        unit: "",
        bound: Some(0.0),
        at_least: false,
        note: format!("context switches of all threads in {WATCH:?}, {with}, beyond those of the idle daemon, {idle}"),
    });
    report.add(Figure {
        name: "10,000 schedules: resident memory",
        value: procfs::stats(node.pid())?.rss_bytes as f64 / 1e6,
        unit: "MB",
        bound: None,
        at_least: false,
        note: "of the daemon, after it accepted them".to_owned(),
    });
    lateness(&node, report).await?;
    node.down().await
}

const WATCH: Duration = Duration::from_secs(5);

/// Context switches of the daemon in the quietest of some watches, after what was asked for has settled.
async fn quietest(node: &Node) -> anyhow::Result<u64> {
    tokio::time::sleep(Duration::from_secs(12)).await;
    let mut least = u64::MAX;
    for _ in 0..3 {
        let before = procfs::context_switches(node.pid())?;
        tokio::time::sleep(WATCH).await;
        least = least.min(procfs::context_switches(node.pid())? - before);
    }
    Ok(least)
}

async fn lateness(node: &Node, report: &mut Report) -> anyhow::Result<()> {
    let mut client = node.client().await?;
    for _ in 0..DUE {
        let spec = r#"{"command":["/bin/true"],"schedule":{"cron":"* * * * * *"}}"#;
        client.ask(Method::Post, "/v1/workloads", spec).await?;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    // A connection that nobody uses for so long is closed.
    let mut client = node.client().await?;
    let sync = median(&mut floor::sync_ms(node.root(), 100)?);
    let body = client.ask(Method::Get, "/v1/events?no_follow=true", "").await?;
    let (mut late, mut executed) = (Vec::new(), Vec::new());
    // Of each workload: when its last fire was decided.
    let mut decided: HashMap<String, u64> = HashMap::new();
    for line in String::from_utf8_lossy(&body).lines() {
        let Some(data) = line.strip_prefix("data:") else { continue };
        let event: Value = serde_json::from_str(data.trim_start())?;
        let Some(workload) = event["subject"]["workload"].as_str() else { continue };
        let time_ms = event["time_ms"].as_u64().context("time_ms")?;
        match event["type"].as_str() {
            Some("schedule.fired") => {
                late.push(time_ms.saturating_sub(event["due_ms"].as_u64().context("due_ms")?) as f64);
                decided.insert(workload.to_owned(), time_ms);
            }
            Some("run.exited") => {
                let fired_ms = decided.get(workload).context("a run without a fire")?;
                let started_ms = event["exit"]["started_at_ms"].as_u64().context("started_at_ms")?;
                executed.push(started_ms.saturating_sub(*fired_ms) as f64);
            }
            _ => {}
        }
    }
    ensure!(late.len() >= DUE * 25, "{} fires", late.len());
    let most = late.iter().copied().fold(0.0, f64::max);
    let how = format!("{} fires of {DUE} schedules among {SCHEDULES}, whole milliseconds", late.len());
    let mut figure = |name, value, bound, note: &str| {
        report.add(Figure { name, value, unit: "ms", bound: Some(bound), at_least: false, note: note.to_owned() });
    };
    figure("a due job is decided within, p50", median(&mut late), 10.0, &how);
    figure("a due job is decided within, max", most, 10.0, &how);
    let note = format!("one fdatasync ({sync:.2} ms) + 3 ms");
    figure("from that decision to the executed program, p50", median(&mut executed), sync + 3.0, &note);
    Ok(())
}
