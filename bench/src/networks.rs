//! Networks: the room alone, what a container pays for one, and what goes through a published port.
//!
//! Everything happens on *machines* of its own: network namespaces, so that nothing of this machine's network is touched.

mod port;
mod raw;
mod room;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use hostler_linux::netns;

use crate::client::Method;
use crate::containers::{busybox_root, is_there};
use crate::node::Node;
use crate::report::{Figure, Report, median};

/// A network namespace that stands for a machine.
pub struct Machine {
    path: PathBuf,
    _place: tempfile::TempDir,
}

impl Machine {
    fn new() -> anyhow::Result<Self> {
        let place = tempfile::Builder::new().prefix("hostler-bench-").tempdir()?;
        let path = place.path().join("machine");
        netns::create(&path, || ()).context("making a network namespace")?;
        let machine = Self { path, _place: place };
        machine.ip("link set lo up")?;
        Ok(machine)
    }

    /// Does something there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        netns::within(&self.path, work)?
    }

    /// `ip` with these arguments.
    pub fn ip(&self, arguments: &str) -> anyhow::Result<()> {
        self.within(|| {
            let out = std::process::Command::new("ip").args(arguments.split(' ')).output()?;
            anyhow::ensure!(out.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&out.stderr));
            Ok(())
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = netns::release(&self.path);
    }
}

/// All figures about networks.
pub async fn networks(binaries: &Path, report: &mut Report) -> anyhow::Result<()> {
    if let Some(missing) = room::hindrance() {
        report.skip("networks", &format!("{missing} is not installed; scripts/setup.sh bench installs it"));
        return Ok(());
    }
    let machine = Machine::new()?;
    room::filling(&machine, report)?;
    room::thousand(&machine, report)?;
    if is_there("runc") && Path::new(crate::containers::BUSYBOX).exists() {
        containers(&machine, binaries, report).await?;
        port::throughput(binaries, report).await?;
    } else {
        report.skip(
            "containers in networks",
            "runc or busybox-static is not installed; scripts/setup.sh bench installs it",
        );
    }
    Ok(())
}

/// What a container pays for a network from a filled pool.
async fn containers(machine: &Machine, binaries: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("containers with a network from a pool");
    let place = tempfile::Builder::new().prefix("hostler-bench-").tempdir()?;
    let root = busybox_root(place.path())?;
    let config = "[pool.process]\nidle = 10\n[pool.network.bench]\nidle = 16\nmax = 200\n";
    let node = Node::start_on(Some(&machine.path), binaries, config).await?;
    let mut client = node.client().await?;
    client.json(Method::Post, "/v1/networks", r#"{"name":"bench"}"#).await?;
    let body = |network: serde_json::Value| {
        let container = serde_json::json!({ "rootfs": root, "oci_runtime": "runc", "network": network });
        serde_json::json!({ "command": ["/bin/true"], "container": container, "remove": true }).to_string()
    };
    let (with, without) = (body(serde_json::json!({ "named": { "name": "bench" } })), body("none".into()));
    let (mut withs, mut withouts, mut differences) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..65 {
        let mut one = async |body: &str| {
            let began = Instant::now();
            client.ask(Method::Post, "/v1/workloads?wait=started", body).await?;
            let took = began.elapsed().as_secs_f64() * 1_000.0;
            // What it leaves behind is cleaned before the next begins.
            tokio::time::sleep(std::time::Duration::from_millis(60)).await;
            anyhow::Ok(took)
        };
        let (a, b) = (one(&with).await?, one(&without).await?);
        if round >= 5 {
            withs.push(a);
            withouts.push(b);
            differences.push(a - b);
        }
    }
    report.add(Figure {
        name: "a container with a network from a pool: later by, p50",
        value: median(&mut differences),
        unit: "ms",
        bound: Some(3.0),
        at_least: false,
        note: format!(
            "started after {:.1} ms beside {:.1} ms without one, in turns, p50 of {}",
            median(&mut withs),
            median(&mut withouts),
            withs.len()
        ),
    });
    node.down().await
}
