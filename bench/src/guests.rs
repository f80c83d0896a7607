//! Guests: their boot beside the bare program that makes them, warm ones, copies of a snapshot, and what one that waits
//! takes.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hostler_linux::procfs;
use serde_json::Value;

use crate::client::{Client, Method};
use crate::floor;
use crate::node::Node;
use crate::report::{Figure, Report, median};

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// Boots of ours, none of which may hang.
const BOOTS: usize = 100;
/// How many of them are between two bare ones.
const BOOTS_A_BARE: usize = 4;
const ROUNDS: usize = 30;
const COPIES: usize = 10;
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// All figures about guests.
pub async fn guests(binaries: &Path, report: &mut Report) -> anyhow::Result<()> {
    let kernels = binaries.parent().unwrap_or(binaries).join("tools/vm/kernels");
    let kernel = std::fs::read_dir(&kernels)
        .ok()
        .and_then(|found| found.flatten().map(|entry| entry.path().join("vmlinux")).find(|path| path.is_file()));
    let Some(kernel) = kernel.filter(|_| Path::new(QEMU).exists()) else {
        report.skip("guests", "there is no QEMU or no kernel for guests; make bench sets both up");
        return Ok(());
    };
    let config = format!("[vm]\nkernel_dir = {:?}\n", kernels.display());
    boots(binaries, &config, &kernel, report).await?;
    let pools = format!("{config}[pool.copies]\nruntime = \"microvm\"\nidle = 4\nmax = 40\nsnapshot = true\n");
    let node = Node::start(binaries, &pools).await?;
    filled(&node, 4).await?;
    warm(&node, report).await?;
    resize(&node, 0).await?;
    filled(&node, 0).await?;
    copies(&node, report).await?;
    resize(&node, COPIES).await?;
    filled(&node, COPIES).await?;
    memory(&node, report).await?;
    node.down().await
}

const GUEST: &str = r#"{"command":["true"],"vm":{"vmm":"qemu"},"remove":true}"#;
const SLEEPER: &str = r#"{"command":["sleep","600"],"vm":{"vmm":"qemu"},"stop":{"signal":"KILL"}}"#;

/// An initial RAM disk with one busybox, and nothing that loads a module or mounts anything.
fn bare_initramfs(place: &Path) -> anyhow::Result<PathBuf> {
    let path = place.join("bare.cpio");
    let script =
        "mkdir -p r/bin && cp /bin/busybox r/bin/echo && cd r && find . | cpio -o -H newc --quiet > ../bare.cpio";
    let status = Command::new("sh").arg("-c").arg(script).current_dir(place).status()?;
    ensure!(status.success() && path.is_file(), "making an initial RAM disk: {status}");
    Ok(path)
}

/// From the start of QEMU to the first word of an init that does nothing else, milliseconds.
fn bare_boot_ms(kernel: &Path, initramfs: &Path, tsc_khz: u64) -> anyhow::Result<f64> {
    let words =
        format!("console=ttyS0 quiet rdinit=/bin/echo reboot=t panic=-1 tsc_early_khz={tsc_khz} -- up-and-idle");
    let began = Instant::now();
    let mut child = Command::new(QEMU)
        .args(["-M", "microvm", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "128M", "-nodefaults"])
        .args(["-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio", "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &words])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let console = child.stdout.take().context("a console")?;
    let up = BufReader::new(console).lines().map_while(Result::ok).any(|line| line.contains("up-and-idle"));
    let took = began.elapsed();
    child.kill()?;
    child.wait()?;
    ensure!(up, "a bare guest did not come up");
    Ok(took.as_secs_f64() * 1_000.0)
}

/// As the node tells guests: the fastest processor's clock.
fn tsc_khz() -> u64 {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let clocks = text.lines().filter(|line| line.starts_with("cpu MHz"));
    let khz = clocks.filter_map(|line| line.split_once(':')?.1.trim().parse::<f64>().ok()).map(|mhz| mhz * 1_000.0);
    khz.fold(0.0, f64::max) as u64
}

async fn boots(binaries: &Path, config: &str, kernel: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("{BOOTS} boots");
    let place = tempfile::Builder::new().prefix("hostler-bench-").tempdir()?;
    let node = Node::start(binaries, config).await?;
    let initramfs = bare_initramfs(place.path())?;
    let mut client = node.client().await?;
    client.ask(Method::Post, "/v1/workloads?wait=ended", GUEST).await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for number in 0..BOOTS {
        let began = Instant::now();
        client.ask(Method::Post, "/v1/workloads?wait=started", GUEST).await?;
        ours.push(began.elapsed().as_secs_f64() * 1_000.0);
        if number % BOOTS_A_BARE == 0 {
            bare.push(bare_boot_ms(kernel, &initramfs, tsc_khz())?);
        }
    }
    let log = std::fs::read_to_string(node.root().join("hostlerd.log")).unwrap_or_default();
    let hangs = log.matches("does not answer and is made once more").count();
    let floor = median(&mut bare);
    report.add(Figure {
        name: "guest, POST to started / bare QEMU, p50",
        value: median(&mut ours) / floor,
        unit: "x",
        bound: Some(1.15),
        at_least: false,
        note: format!("bare QEMU to its init's first word {floor:.0} ms, p50 of {}", bare.len()),
    });
    report.add(Figure {
        name: "guests that hung at their boot",
        value: hangs as f64,
        unit: "",
        bound: Some(0.0),
        at_least: false,
        note: format!("of {BOOTS}; one that hangs is made once more"),
    });
    node.down().await
}

async fn pool(node: &Node) -> anyhow::Result<Value> {
    let pools = node.client().await?.json(Method::Get, "/v1/pools", "").await?;
    Ok(pools["machines"][0].clone())
}

async fn resize(node: &Node, idle: usize) -> anyhow::Result<()> {
    let body = serde_json::json!({ "resize": { "idle": idle } }).to_string();
    node.client().await?.ask(Method::Patch, "/v1/pools/copies", &body).await.map(drop)
}

/// Waits until so many wait, and nothing is being made.
async fn filled(node: &Node, idle: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let pool = pool(node).await?;
        let is_still = ["making", "leaving", "occupied"].iter().all(|count| pool[*count] == 0);
        if pool["idle"] == idle && is_still && (idle > 0 || pool["snapshot_ready"] == true) {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "the pool is not filled: {pool}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn one_at_a_time(node: &Node, idle: usize) -> anyhow::Result<(f64, f64)> {
    let mut client = node.client().await?;
    let (mut syncs, mut runs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        syncs.extend(floor::sync_ms(node.root(), 5)?);
        let began = Instant::now();
        client.ask(Method::Post, "/v1/workloads?wait=ended", GUEST).await?;
        runs.push(began.elapsed().as_secs_f64() * 1_000.0);
        // What is made in its place is not what is measured.
        filled(node, idle).await?;
    }
    Ok((median(&mut syncs), median(&mut runs)))
}

async fn warm(node: &Node, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("guests that wait");
    let (sync, run) = one_at_a_time(node, 4).await?;
    report.add(Figure {
        name: "guest that waits, POST to durable end of true, p50",
        value: run,
        unit: "ms",
        bound: Some(2.0 * sync + 20.0),
        at_least: false,
        note: format!("two fdatasync ({sync:.2} ms each) + 20 ms"),
    });
    Ok(())
}

async fn copies(node: &Node, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("copies of a snapshot");
    let (sync, run) = one_at_a_time(node, 0).await?;
    report.add(Figure {
        name: "guest from a snapshot, POST to durable end of true, p50",
        value: run,
        unit: "ms",
        bound: Some(2.0 * sync + 70.0),
        at_least: false,
        note: format!("two fdatasync ({sync:.2} ms each) + 70 ms"),
    });
    let mut times = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let mut starting = tokio::task::JoinSet::new();
        for _ in 0..COPIES {
            let socket = node.socket();
            starting.spawn(async move {
                let mut client = Client::connect(&socket).await?;
                let view = client.json(Method::Post, "/v1/workloads?wait=started", SLEEPER).await?;
                view["id"].as_str().map(str::to_owned).context("an id")
            });
        }
        let ids = starting.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        times.push(began.elapsed().as_secs_f64());
        for id in ids {
            let mut client = node.client().await?;
            client.ask(Method::Post, &format!("/v1/workloads/{id}/stop"), r#"{"grace_ms":0}"#).await?;
        }
        filled(node, 0).await?;
    }
    report.add(Figure {
        name: "10 guests from a snapshot at once, all started",
        value: median(&mut times),
        unit: "s",
        bound: Some(0.5),
        at_least: false,
        note: "p50 of 5".to_owned(),
    });
    Ok(())
}

/// What the node's programs that make guests take, and their agents.
async fn memory(node: &Node, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("memory");
    let machines = node.root().join("vm/machines");
    let is_its = |pid: u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&machines));
    let makers: Vec<u32> = procfs::processes()?.into_iter().filter(|pid| is_its(*pid)).collect();
    ensure!(makers.len() == COPIES, "{} guests wait", makers.len());
    let mut sum = 0;
    for pid in &makers {
        sum += procfs::pss_bytes(*pid)? + procfs::pss_bytes(procfs::stats(*pid)?.ppid)?;
    }
    report.add(Figure {
        name: "PSS of a guest that waits, copied, with its agent",
        value: sum as f64 / makers.len() as f64 / 1e6,
        unit: "MB",
        bound: Some(25.0),
        at_least: false,
        note: format!("128 MiB each, mean of {COPIES}"),
    });
    Ok(())
}
