//! Containers, beside what people make them with today: the same OCI runtime by hand, and containerd.
//!
//! Every peer gets the same root directory and, where it takes one, the very configuration that Hostler makes, so that
//! all of them confine the program in the same way.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hostler_linux::procfs;
use serde_json::Value;

use crate::client::{Client, Method};
use crate::node::Node;
use crate::report::{Figure, Report, median};

const ROUNDS: usize = 5;
/// Containers at a time.
const AT_ONCE: usize = 8;
/// Containers of one round.
const JOBS: usize = 48;
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// All figures about containers.
pub async fn containers(binaries: &Path, report: &mut Report) -> anyhow::Result<()> {
    let missing = ["runc", "containerd", "ctr"].into_iter().find(|name| !is_there(name));
    if let Some(missing) = missing {
        report.skip("containers", &format!("{missing} is not installed; scripts/setup.sh bench installs it"));
        return Ok(());
    }
    if !Path::new(BUSYBOX).exists() {
        report.skip("containers", "busybox-static is not installed; scripts/setup.sh bench installs it");
        return Ok(());
    }
    let place = tempfile::Builder::new().prefix("hostler-bench-").tempdir()?;
    let root = busybox_root(place.path())?;
    let node = Node::start(binaries, "[pool.process]\nidle = 10\n").await?;
    let peer = Runc::new(&node, &root, place.path()).await?;
    latency(&node, &root, &peer, report).await?;
    rate(&node, &root, &peer, place.path(), report).await?;
    exec(&node, &root, report).await?;
    node.down().await?;
    many(binaries, &root, report).await
}

pub(crate) fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

pub(crate) fn busybox_root(place: &Path) -> anyhow::Result<PathBuf> {
    let root = place.join("root");
    for directory in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    std::fs::copy(BUSYBOX, root.join("bin/busybox"))?;
    for applet in ["sh", "sleep", "true"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
    }
    Ok(root)
}

fn spec(root: &Path, command: &[&str]) -> String {
    let container = serde_json::json!({ "rootfs": root, "oci_runtime": "runc" });
    serde_json::json!({ "command": command, "container": container, "remove": true, "stop": { "signal": "KILL" } })
        .to_string()
}

/// runc, called by hand with the configuration of a container of the node.
struct Runc {
    bundle: PathBuf,
    plain: PathBuf,
    state: PathBuf,
}

impl Runc {
    async fn new(node: &Node, root: &Path, place: &Path) -> anyhow::Result<Self> {
        let mut client = node.client().await?;
        let view = client.json(Method::Post, "/v1/workloads?wait=started", &spec(root, &["/bin/sleep", "600"])).await?;
        let mut config = config_of(node)?;
        let id = view["id"].as_str().context("id")?;
        client.ask(Method::Post, &format!("/v1/workloads/{id}/stop"), r#"{"grace_ms":0}"#).await?;
        config["process"]["args"] = serde_json::json!(["/bin/true"]);
        config["linux"]["cgroupsPath"] = format!("/hostler-bench-{}/peer", std::process::id()).into();
        let peer = Self { bundle: place.join("bundle"), plain: place.join("plain"), state: place.join("runc") };
        std::fs::create_dir(&peer.bundle)?;
        std::fs::write(peer.bundle.join("config.json"), config.to_string())?;
        std::fs::create_dir(&peer.plain)?;
        ensure!(Command::new("runc").arg("spec").current_dir(&peer.plain).status()?.success(), "runc spec");
        let mut plain: Value = serde_json::from_slice(&std::fs::read(peer.plain.join("config.json"))?)?;
        plain["process"]["args"] = serde_json::json!(["/bin/true"]);
        plain["process"]["terminal"] = false.into();
        plain["root"] = serde_json::json!({ "path": root, "readonly": false });
        std::fs::write(peer.plain.join("config.json"), plain.to_string())?;
        Ok(peer)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&self.state).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// The whole of `runc run`.
    fn run_ms(&self, bundle: &Path, id: &str) -> anyhow::Result<f64> {
        let began = Instant::now();
        let status = self.command().args(["run", "--bundle"]).arg(bundle).arg(id).status()?;
        ensure!(status.success(), "runc run: {status}");
        Ok(began.elapsed().as_secs_f64() * 1_000.0)
    }

    /// `run -d`, and `delete` once it has ended: what a daemon of one's own would do.
    fn run_and_delete(&self, id: &str) -> anyhow::Result<()> {
        let bundle = self.own_bundle(id)?;
        let status = self.command().args(["run", "-d", "--bundle"]).arg(&bundle).arg(id).status()?;
        ensure!(status.success(), "runc run -d: {status}");
        let deleted = self.command().args(["delete", "--force", id]).status()?;
        ensure!(deleted.success(), "runc delete: {deleted}");
        std::fs::remove_dir_all(&bundle)?;
        Ok(())
    }

    /// Containers at the same time need groups of their own, and so a configuration each.
    fn own_bundle(&self, id: &str) -> anyhow::Result<PathBuf> {
        let bundle = self.bundle.with_file_name(format!("bundle-{id}"));
        std::fs::create_dir(&bundle)?;
        let text = std::fs::read_to_string(self.bundle.join("config.json"))?;
        std::fs::write(bundle.join("config.json"), text.replace("/peer\"", &format!("/{id}\"")))?;
        Ok(bundle)
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        let name = format!("hostler-bench-{}", std::process::id());
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join(&name));
        }
    }
}

/// The configuration that the agent made for the only container there is.
fn config_of(node: &Node) -> anyhow::Result<Value> {
    for entry in std::fs::read_dir(node.root().join("sandbox"))? {
        let path = entry?.path().join("bundle/config.json");
        if path.exists() {
            return Ok(serde_json::from_slice(&std::fs::read(path)?)?);
        }
    }
    anyhow::bail!("no agent has a bundle")
}

/// One at a time, in turns.
async fn latency(node: &Node, root: &Path, peer: &Runc, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("containers, one at a time");
    let mut client = node.client().await?;
    let (mut ours, mut theirs, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    let body = spec(root, &["/bin/true"]);
    for round in 0..65 {
        let began = Instant::now();
        client.ask(Method::Post, "/v1/workloads?wait=ended", &body).await?;
        let our = began.elapsed().as_secs_f64() * 1_000.0;
        let their = peer.run_ms(&peer.bundle, &format!("a{round}"))?;
        let bare = peer.run_ms(&peer.plain, &format!("b{round}"))?;
        if round >= 5 {
            ours.push(our);
            theirs.push(their);
            plain.push(bare);
        }
    }
    let (our, their, bare) = (median(&mut ours), median(&mut theirs), median(&mut plain));
    report.add(Figure {
        name: "true in a container: p50 × runc run",
        value: our / their,
        unit: "ratio",
        bound: Some(1.15),
        at_least: false,
        note: format!(
            "{our:.1} ms to the durable end beside {their:.1} ms, the same configuration, p50 of {}",
            ours.len()
        ),
    });
    report.add(Figure {
        name: "the same × runc run of `runc spec`",
        value: our / bare,
        unit: "ratio",
        bound: None,
        at_least: false,
        note: format!("{bare:.1} ms, without a filter of system calls and with fewer things hidden"),
    });
    Ok(())
}

/// Many at a time.
async fn rate(node: &Node, root: &Path, peer: &Runc, place: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("containers, {AT_ONCE} at a time");
    let containerd = Containerd::start(place)?;
    let (mut ours, mut runc, mut ctr) = (Vec::new(), Vec::new(), Vec::new());
    let (mut by_runc, mut by_ctr) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let our = our_rate(node, &spec(root, &["/bin/true"])).await?;
        let their = at_once(JOBS, |job| peer.run_and_delete(&format!("r{round}-{job}")))?;
        let other = at_once(JOBS / 2, |job| containerd.run(root, &format!("c{round}-{job}")))?;
        if round > 0 {
            ours.push(our);
            runc.push(their);
            ctr.push(other);
            by_runc.push(our / their);
            by_ctr.push(our / other);
        }
    }
    let (our, their, other) = (median(&mut ours), median(&mut runc), median(&mut ctr));
    report.add(Figure {
        name: "true in containers, 8 at a time: × runc run -d + delete",
        value: median(&mut by_runc),
        unit: "ratio",
        bound: Some(0.9),
        at_least: true,
        note: format!("{our:.0}/s, durable ends, beside {their:.0}/s, the same configuration"),
    });
    report.add(Figure {
        name: "the same: × ctr run --rm of containerd",
        value: median(&mut by_ctr),
        unit: "ratio",
        bound: Some(3.0),
        at_least: true,
        note: format!("{our:.0}/s beside {other:.0}/s"),
    });
    Ok(())
}

async fn our_rate(node: &Node, body: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..AT_ONCE {
        let mut client = node.client().await?;
        let body = body.to_owned();
        tasks.push(tokio::spawn(async move {
            for _ in 0..JOBS / AT_ONCE {
                client.ask(Method::Post, "/v1/workloads?wait=ended", &body).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    // Taking them away is part of it, as it is with the peers.
    while has_leftovers(node)? {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(JOBS as f64 / began.elapsed().as_secs_f64())
}

fn has_leftovers(node: &Node) -> anyhow::Result<bool> {
    Ok(std::fs::read_dir(node.root().join("oci"))?.next().is_some())
}

/// Containers a second with [`AT_ONCE`] threads.
fn at_once(jobs: usize, run: impl Fn(usize) -> anyhow::Result<()> + Sync) -> anyhow::Result<f64> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let run = &run;
        let thread = |first: usize| move || (first..jobs).step_by(AT_ONCE).try_for_each(run);
        let threads: Vec<_> = (0..AT_ONCE).map(|first| scope.spawn(thread(first))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
    })?;
    Ok(jobs as f64 / began.elapsed().as_secs_f64())
}

/// A containerd of its own.
struct Containerd {
    daemon: Child,
    address: PathBuf,
}

impl Containerd {
    fn start(place: &Path) -> anyhow::Result<Self> {
        let at = |name: &str| place.join("containerd").join(name);
        std::fs::create_dir_all(at("root"))?;
        let log = std::fs::File::create(at("log"))?;
        std::fs::write(at("config.toml"), "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(at("config.toml")).arg("--root").arg(at("root")).arg("--state").arg(at("state"));
        command.arg("--address").arg(at("sock")).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let containerd = Self { daemon: command.spawn().context("starting containerd")?, address: at("sock") };
        let began = Instant::now();
        while !containerd.ctr().args(["version"]).status()?.success() {
            ensure!(began.elapsed() < Duration::from_secs(20), "containerd does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(containerd)
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn run(&self, root: &Path, id: &str) -> anyhow::Result<()> {
        let status = self.ctr().args(["run", "--rm", "--rootfs"]).arg(root).args([id, "/bin/true"]).status()?;
        ensure!(status.success(), "ctr run: {status}");
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // In order, so that it leaves nothing mounted.
        let _ = Command::new("kill").arg("-TERM").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
    }
}

/// A second program, whole programs on both sides.
async fn exec(node: &Node, root: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("exec in a container");
    let mut client = node.client().await?;
    let body = spec(root, &["/bin/sleep", "600"]);
    let view = client.json(Method::Post, "/v1/workloads?wait=started", &body).await?;
    let id = view["id"].as_str().context("id")?;
    let state = node.root().join("oci");
    let run = format!("{id}-1");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // Far enough apart that neither is spared the kernel's wait for moving a process by the other's, just before.
    let apart = || tokio::time::sleep(Duration::from_millis(50));
    for round in 0..65 {
        apart().await;
        let began = Instant::now();
        ensure!(node.cli().args(["exec", id, "/bin/true"]).status()?.success(), "hostler exec");
        let our = began.elapsed().as_secs_f64() * 1_000.0;
        apart().await;
        let began = Instant::now();
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(&state).args(["exec", &run, "/bin/true"]).stdin(Stdio::null()).stdout(Stdio::null());
        ensure!(runc.status()?.success(), "runc exec");
        let their = began.elapsed().as_secs_f64() * 1_000.0;
        if round >= 5 {
            ours.push(our);
            theirs.push(their);
        }
    }
    let (our, their) = (median(&mut ours), median(&mut theirs));
    report.add(Figure {
        name: "exec of true in a container: × runc exec",
        value: our / their,
        unit: "ratio",
        bound: Some(1.2),
        at_least: false,
        note: format!("{our:.1} ms beside {their:.1} ms, whole programs, p50 of {}", ours.len()),
    });
    Ok(())
}

/// What many running ones cost, and how long it takes to know all about them.
async fn many(binaries: &Path, root: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("many running containers");
    const MEASURED: usize = 100;
    const RUNNING: usize = 200;
    let mut node = Node::start(binaries, "").await?;
    let mut client = node.client().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = procfs::pss_bytes(node.pid())?;
    start(&mut client, root, MEASURED).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let daemon = procfs::pss_bytes(node.pid())?.saturating_sub(before);
    let agents = crate::figures::agents_of(&node)?;
    ensure!(agents.len() == MEASURED, "{} agents", agents.len());
    let agents: u64 = agents.into_iter().map(procfs::pss_bytes).sum::<Result<u64, _>>()?;
    report.add(Figure {
        name: "a running container, above its own processes: PSS",
        value: (agents + daemon) as f64 / MEASURED as f64 / 1024.0,
        unit: "KiB",
        bound: Some(400.0),
        at_least: false,
        note: format!("mean over {MEASURED}: agents {} KiB, growth of the daemon {} KiB", agents / 1024, daemon / 1024),
    });
    start(&mut client, root, RUNNING - MEASURED).await?;
    let (mut ups, mut lists, mut stats) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        node.kill()?;
        ups.push(node.up().await?.as_secs_f64() * 1_000.0);
        client = node.client().await?;
        let info = client.json(Method::Get, "/v1/node", "").await?;
        ensure!(info["workloads"]["running"] == RUNNING, "{info}");
    }
    for _ in 0..20 {
        let began = Instant::now();
        let list = client.json(Method::Get, "/v1/workloads", "").await?;
        lists.push(began.elapsed().as_secs_f64() * 1_000.0);
        ensure!(list["workloads"].as_array().is_some_and(|all| all.len() == RUNNING), "ps");
        let began = Instant::now();
        let all = client.json(Method::Get, "/v1/stats", "").await?;
        stats.push(began.elapsed().as_secs_f64() * 1_000.0);
        ensure!(all["workloads"].as_array().is_some_and(|all| all.len() == RUNNING), "stats of all: {all:.300}");
    }
    let mut add = |name, values: &mut Vec<f64>, bound, note: &str| {
        let (value, note) = (median(values), note.to_owned());
        report.add(Figure { name, value, unit: "ms", bound: Some(bound), at_least: false, note });
    };
    add("200 running containers: killed, up again", &mut ups, 1_000.0, "to the first answer, all adopted");
    add("200 running containers: ps", &mut lists, 50.0, "GET /v1/workloads, read and parsed");
    add("200 running containers: stats of all", &mut stats, 50.0, "GET /v1/stats, read and parsed");
    node.down().await
}

async fn start(client: &mut Client, root: &Path, count: usize) -> anyhow::Result<()> {
    let body = spec(root, &["/bin/sleep", "600"]);
    for _ in 0..count {
        client.ask(Method::Post, "/v1/workloads?wait=started", &body).await?;
    }
    Ok(())
}
