//! The room of networks alone, on a machine of its own: filling, taking, giving back, releasing.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hostler_linux::netns;
use hostler_model::config;
use hostler_model::ids::{Namespace, NodeTag, RunId, WorkloadId};
use hostler_model::network::{Attachment, NetworkSpec, NewNetwork};
use hostler_network::{Ask, Networks, PoolSize, Rights, Settings, Take, Taker};

use super::{Machine, raw};
use crate::report::{Figure, Report, median};

const NAME: &str = "bench";
/// Set-ups of one round of filling.
const FILLED: u32 = 200;
const ROUNDS: usize = 5;
/// As many as the room makes at one time.
const THREADS: u32 = 4;
const LONGEST: Duration = Duration::from_secs(120);

struct Room {
    runtime: tokio::runtime::Runtime,
    networks: Networks,
    tag: NodeTag,
    directory: tempfile::TempDir,
}

impl Room {
    /// A network that stands, and no set-up yet. On this thread's machine.
    fn new(idle: u32) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("hostler-bench-").tempdir()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let tag = NodeTag::from_bytes(hostler_linux::daemon::random_bytes());
        let settings = Settings {
            tag,
            directory: directory.path().join("networks"),
            privileged: true,
            pools: BTreeMap::from([(NAME.to_owned(), PoolSize { idle, max: idle })]),
            ranges: config::Network::default().ranges,
            range6: [1; 5],
            cni_path: Vec::new(),
            cni_call_max_ms: 1_000,
        };
        let networks = Networks::new(settings, runtime.handle().clone());
        networks.adopt(Vec::new(), &HashSet::new());
        let spec = NetworkSpec { subnet: Some("10.76.0.0/16".parse()?), ..NetworkSpec::default() };
        let new = NewNetwork { name: NAME.parse()?, spec };
        let record =
            networks.choose(&Namespace::owner(), new, &[], 0).map_err(|problem| anyhow::anyhow!("{problem}"))?;
        networks.add(Arc::new(record.clone()));
        runtime.block_on(networks.ready(record.id))?;
        Ok(Self { runtime, networks, tag, directory })
    }

    fn quiet(&self) -> anyhow::Result<()> {
        ensure!(self.runtime.block_on(self.networks.quiet(LONGEST)), "{:?}", self.networks.pools());
        Ok(())
    }

    fn idle(&self) -> u32 {
        self.networks.pools().first().map_or(0, |(_, _, pool)| pool.idle)
    }

    /// The time to fill the pool.
    fn fill(&self, count: u32) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.networks.fill();
        self.quiet()?;
        let took = began.elapsed();
        ensure!(self.idle() == count, "{} of {count} are idle", self.idle());
        Ok(took)
    }

    /// What is left of it on this machine when all of it went down.
    fn down(self) -> anyhow::Result<usize> {
        self.runtime.block_on(self.networks.shutdown(LONGEST));
        let own = format!("h{}", self.tag);
        let starts = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(&own);
        let kept = std::fs::read_dir(netns::DIRECTORY)?.flatten().filter(|entry| starts(&entry.file_name())).count();
        let list = |program: &str, arguments: &[&str]| {
            let out = std::process::Command::new(program).args(arguments).output().context("listing")?;
            anyhow::Ok(String::from_utf8_lossy(&out.stdout).lines().filter(|line| line.contains(&own)).count())
        };
        let (links, tables) = (list("ip", &["-o", "link"])?, list("nft", &["list", "tables"])?);
        let mut leased = HashSet::new();
        for line in std::fs::read_to_string(self.directory.path().join("networks/leases"))?.lines() {
            let entry: serde_json::Value = serde_json::from_str(line.get(9..).context("a line of the lease book")?)?;
            if let Some(setup) = entry["lease"]["setup"].as_str() {
                leased.insert(setup.to_owned());
            }
            if let Some(setup) = entry["free"].as_str() {
                leased.remove(setup);
            }
        }
        Ok(kept + links + tables + leased.len())
    }
}

fn raw_rate(bridge: u32) -> anyhow::Result<f64> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|first| {
                let mut numbers = (first..FILLED).step_by(THREADS as usize);
                scope.spawn(move || numbers.try_for_each(|number| raw::make(number, bridge)))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
    })?;
    let rate = f64::from(FILLED) / began.elapsed().as_secs_f64();
    for number in 0..FILLED {
        netns::release(&raw::path(number))?;
    }
    settle()?;
    Ok(rate)
}

/// Until the kernel has taken away what nobody holds any more: it would take its time from the next.
fn settle() -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < LONGEST {
        let out = std::process::Command::new("ip").args(["-o", "link", "show", "type", "veth"]).output()?;
        if out.stdout.is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("links stay")
}

/// Filling beside the same by hand.
pub fn filling(machine: &Machine, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("filling pools of set-ups");
    let (mut ratios, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (our, their) = machine.within(|| {
            let room = Room::new(FILLED)?;
            let our = f64::from(FILLED) / room.fill(FILLED)?.as_secs_f64();
            ensure!(room.down()? == 0, "something is left");
            settle()?;
            anyhow::Ok((our, raw_rate(bridge_by_hand()?)?))
        })?;
        if round > 0 {
            ratios.push(our / their);
            ours.push(our);
            theirs.push(their);
        }
    }
    report.add(Figure {
        name: "filling a pool of set-ups: × the same by hand",
        value: median(&mut ratios),
        unit: "ratio",
        bound: Some(0.8),
        at_least: true,
        note: format!(
            "{:.0}/s, leased and written down, beside {:.0}/s of bare system calls, {THREADS} at a time",
            median(&mut ours),
            median(&mut theirs)
        ),
    });
    Ok(())
}

/// A bridge with an address; its number.
fn bridge_by_hand() -> anyhow::Result<u32> {
    let ip = |arguments: &str| {
        let out = std::process::Command::new("ip").args(arguments.split(' ')).output()?;
        anyhow::Ok((out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned()))
    };
    if ip("link add byhand type bridge")?.0 {
        ensure!(ip("addr add 10.77.0.1/16 dev byhand")?.0 && ip("link set byhand up")?.0, "a bridge by hand");
    }
    let (_, shown) = ip("-o link show dev byhand")?;
    Ok(shown.split(':').next().context("an index")?.trim().parse()?)
}

impl Room {
    fn ask(&self, number: u32) -> anyhow::Result<Ask> {
        Ok(Ask {
            run: RunId { workload: WorkloadId::from_bytes([1; 6]), number },
            namespace: Namespace::owner(),
            attachment: Attachment::to(NAME.parse()?),
            names: vec![format!("w{number}")],
            hostname: "w".to_owned(),
            rights: Rights::Ordinary,
            taker: Taker::Processes,
        })
    }

    /// Takes everything, and tells how long each took, milliseconds.
    fn take_all(&self, count: u32) -> anyhow::Result<Vec<f64>> {
        let mut took = Vec::new();
        for number in 1..=count {
            let ask = self.ask(number)?;
            let began = Instant::now();
            let taken = self.networks.take(ask)?;
            took.push(began.elapsed().as_secs_f64() * 1_000.0);
            ensure!(matches!(taken, Take::Ready(_)), "the pool was filled");
        }
        Ok(took)
    }

    fn release_all(&self, count: u32) -> anyhow::Result<Duration> {
        let began = Instant::now();
        for number in 1..=count {
            self.networks.release(RunId { workload: WorkloadId::from_bytes([1; 6]), number });
        }
        self.quiet()?;
        Ok(began.elapsed())
    }
}

/// 1,000 of them through their whole life.
pub fn thousand(machine: &Machine, report: &mut Report) -> anyhow::Result<()> {
    const COUNT: u32 = 1_000;
    eprintln!("{COUNT} set-ups");
    let (mut took, filled, returned, reused, removed, left) = machine.within(|| {
        let room = Room::new(COUNT)?;
        let filled = room.fill(COUNT)?;
        let mut took = room.take_all(COUNT)?;
        let returned = room.release_all(COUNT)?;
        let reused = room.idle();
        took.extend(room.take_all(reused)?);
        room.release_all(reused)?;
        let began = Instant::now();
        let left = room.down()?;
        anyhow::Ok((took, filled, returned, reused, began.elapsed(), left))
    })?;
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let (half, most) = (at(0.5), at(0.99));
    report.add(Figure {
        name: "taking a set-up from a filled pool, p99",
        value: most,
        unit: "ms",
        bound: Some(1.0),
        at_least: false,
        note: format!("p50 {half:.3} ms, of {}", took.len()),
    });
    report.add(Figure {
        name: "1,000 set-ups filled, taken, given back, released: left",
        value: left as f64,
        unit: "",
        bound: Some(0.0),
        at_least: false,
        note: format!(
            "filled in {:.1} s, {reused} proved clean and idle again {:.1} s after their release, all gone in {:.1} s",
            filled.as_secs_f64(),
            returned.as_secs_f64(),
            removed.as_secs_f64()
        ),
    });
    Ok(())
}

/// Whether networks can be made here.
pub fn hindrance() -> Option<&'static str> {
    ["nft", "ip"]
        .into_iter()
        .find(|name| !["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|dir| Path::new(dir).join(name).exists()))
}
