//! Numbers, for `HOSTLER_AGENT=<static agent> cargo test --release -p hostler-agent -- --ignored --nocapture measure`.

use std::time::Instant;

use hostler_linux::procfs;
use hostler_wire::{FromAgent, ToAgent};

use crate::client::Node;

/// What one agent with a running, quiet program may cost, bytes.
const PSS_MAX: u64 = 200 * 1024;

#[test]
#[ignore = "a measurement: needs the static build"]
fn measure_memory_of_100_agents() {
    let mut nodes: Vec<Node> = (0..100).map(|_| Node::new()).collect();
    for node in &mut nodes {
        let launch = node.launch(&["sleep", "600"]);
        node.start(&launch);
    }
    let sum: u64 = nodes.iter().map(|node| procfs::pss_bytes(node.agent.id()).unwrap()).sum();
    let rss = procfs::stats(nodes[0].agent.id()).unwrap().rss_bytes;
    let mean = sum / 100;
    eprintln!("mean PSS of 100 agents: {} KiB (RSS {} KiB)", mean / 1024, rss / 1024);
    assert!(mean <= PSS_MAX, "{mean}");
}

/// CPU time of a process itself, microseconds, as the scheduler counts it.
fn own_cpu_us(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1_000
}

/// CPU time of a process's reaped children, microseconds, in clock ticks.
fn children_cpu_us(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = text.rsplit(')').next().unwrap().split_whitespace().skip(13).take(2);
    fields.map(|field| field.parse::<u64>().unwrap() * 10_000).sum()
}

#[test]
#[ignore = "a measurement: needs the static build"]
fn measure_runs_on_a_warm_agent() {
    const RUNS: u64 = 2_000;
    let mut node = Node::new();
    for _ in 0..20 {
        let launch = node.launch(&["/bin/true"]);
        node.whole(&launch);
    }
    let (before, children) = (own_cpu_us(node.agent.id()), children_cpu_us(node.agent.id()));
    let begin = Instant::now();
    for _ in 0..RUNS {
        let launch = node.launch(&["/bin/true"]);
        let run = launch.run;
        node.link.send_all(&[ToAgent::Prepare { launch: Box::new(launch) }, ToAgent::Execute { run }]);
        while !matches!(node.link.message(), FromAgent::Exited { .. }) {}
        node.link.send(&ToAgent::Committed { run, reuse: true, assume_idle: false });
        assert_eq!(node.link.message(), FromAgent::Idle);
    }
    let elapsed = begin.elapsed().as_micros();
    let (after, children_after) = (own_cpu_us(node.agent.id()), children_cpu_us(node.agent.id()));
    eprintln!(
        "/bin/true on a warm agent: {} us each; CPU: agent {} us, child {} us",
        elapsed / u128::from(RUNS),
        (after - before) / RUNS,
        (children_after - children) / RUNS
    );
    // The same without us.
    let (begin, children) = (Instant::now(), children_cpu_us(std::process::id()));
    for _ in 0..RUNS {
        std::process::Command::new("/bin/true").status().unwrap();
    }
    let (elapsed, children) = (begin.elapsed().as_micros(), children_cpu_us(std::process::id()) - children);
    let (each, child) = (elapsed / u128::from(RUNS), children / RUNS);
    eprintln!("bare posix_spawn and wait of it: {each} us each; CPU: child {child} us");
}
