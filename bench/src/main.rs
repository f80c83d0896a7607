//! The promised numbers of SPECIFICATION.md, measured on real nodes: each beside its floor or peer of the same run,
//! as medians, because machines are shared. Prints a table, and JSON to `target/bench.json`.
//!
//! - [`node`]: a node under a directory of its own, from the release binaries
//! - [`client`]: as little HTTP client as possible, so that it is not what is measured
//! - [`floor`]: the machine without us: spawn and wait, append and sync
//! - [`figures`]: the measurements
//! - [`containers`]: beside runc and containerd
//! - [`guests`]: boots, guests that wait, copies
//! - [`networks`]: set-ups, containers with them, published ports
//! - [`queues`]: jobs from queues; [`stacks`]: services along their graph
//! - [`figures`], [`schedules`]: the measurements
//! - [`report`]: table and JSON
#![forbid(unsafe_code)]

mod client;
mod containers;
mod figures;
mod floor;
mod guests;
mod networks;
mod node;
mod queues;
mod report;
mod schedules;
mod stacks;

use std::path::PathBuf;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let only = std::env::args().nth(1);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| name.contains(only));
    let binaries =
        std::env::current_exe()?.parent().map(PathBuf::from).context("the bench lies beside the binaries")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if only.as_deref() == Some("load") {
        return runtime.block_on(figures::load(&binaries));
    }
    let mut report = report::Report::default();
    runtime.block_on(async {
        if wanted("latency") {
            figures::latency(&binaries, &mut report).await?;
        }
        if wanted("throughput") {
            figures::throughput(&binaries, &mut report).await?;
        }
        if wanted("queues") {
            queues::queues(&binaries, &mut report).await?;
        }
        if wanted("containers") {
            containers::containers(&binaries, &mut report).await?;
        }
        if wanted("networks") {
            networks::networks(&binaries, &mut report).await?;
        }
        if wanted("guests") {
            guests::guests(&binaries, &mut report).await?;
        }
        if wanted("stacks") {
            stacks::stacks(&binaries, &mut report).await?;
        }
        if wanted("memory") {
            figures::memory(&binaries, &mut report).await?;
        }
        if wanted("schedules") {
            schedules::schedules(&binaries, &mut report).await?;
        }
        if wanted("adoption") {
            figures::adoption(&binaries, &mut report).await?;
        }
        anyhow::Ok(())
    })?;
    report.print();
    let json = binaries.parent().unwrap_or(&binaries).join("bench.json");
    std::fs::write(&json, report.json()?).with_context(|| format!("writing {}", json.display()))?;
    println!("\nJSON: {}", json.display());
    Ok(())
}
