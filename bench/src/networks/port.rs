//! What goes through a published port, beside a path made by hand: a pair of links and one rule of nftables.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hostler_linux::netns;

use super::Machine;
use crate::client::Method;
use crate::containers::busybox_root;
use crate::node::Node;
use crate::report::{Figure, Report, median};

const ROUNDS: usize = 7;
const TIME: Duration = Duration::from_secs(1);
const PORT: u16 = 7_080;
const BY_HAND: u16 = 7_081;
const INNER: u16 = 9_000;

/// Takes whatever comes, until nobody is left.
fn sink(listener: TcpListener) {
    for mut connection in listener.incoming().flatten() {
        let mut buffer = vec![0; 128 * 1024];
        while connection.read(&mut buffer).is_ok_and(|length| length > 0) {}
    }
}

/// Bytes a second to this address, over one connection.
fn rate(from: &Machine, address: SocketAddr) -> anyhow::Result<f64> {
    let mut connection = from.within(|| Ok(TcpStream::connect_timeout(&address, Duration::from_secs(5))?))?;
    let buffer = vec![7; 128 * 1024];
    let (began, mut sent) = (Instant::now(), 0_u64);
    while began.elapsed() < TIME {
        sent += connection.write(&buffer)? as u64;
    }
    Ok(sent as f64 / began.elapsed().as_secs_f64())
}

/// A second machine on a wire, from which everything is sent.
pub async fn throughput(binaries: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("through a published port");
    let (machine, client) = (Machine::new()?, Machine::new()?);
    let there = std::fs::File::open(&client.path)?;
    let held = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&there));
    machine.ip(&format!("link add wire type veth peer name wire netns {held}"))?;
    machine.ip("addr add 192.0.2.1/24 dev wire")?;
    machine.ip("link set wire up")?;
    client.ip("addr add 192.0.2.2/24 dev wire")?;
    client.ip("link set wire up")?;

    let place = tempfile::Builder::new().prefix("hostler-bench-").tempdir()?;
    let root = busybox_root(place.path())?;
    let node = Node::start_on(Some(&machine.path), binaries, "").await?;
    let mut api = node.client().await?;
    api.json(Method::Post, "/v1/networks", r#"{"name":"bench"}"#).await?;
    let publish = serde_json::json!([{ "host_port": PORT, "port": INNER }]);
    let network = serde_json::json!({ "named": { "name": "bench", "publish": publish } });
    let container = serde_json::json!({ "rootfs": root, "oci_runtime": "runc", "network": network });
    let body =
        serde_json::json!({ "command": ["/bin/sleep", "600"], "container": container, "stop": { "signal": "KILL" } });
    let view = api.json(Method::Post, "/v1/workloads?wait=started", &body.to_string()).await?;
    let id = view["id"].as_str().context("id")?;
    let view = api.json(Method::Get, &format!("/v1/workloads/{id}"), "").await?;
    let inner = view["network"]["namespace_path"].as_str().context("its network")?.to_owned();
    let ours = netns::within(Path::new(&inner), || TcpListener::bind(("0.0.0.0", INNER)))??;
    std::thread::spawn(move || sink(ours));

    let by_hand = by_hand(&machine)?;
    let theirs = by_hand.within(|| Ok(TcpListener::bind(("0.0.0.0", INNER))?))?;
    std::thread::spawn(move || sink(theirs));

    let (mut ratios, mut our_rates, mut their_rates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let measure = |port| rate(&client, SocketAddr::from(([192, 0, 2, 1], port)));
        let (our, their) = (measure(PORT)?, measure(BY_HAND)?);
        if round > 0 {
            ratios.push(our / their);
            our_rates.push(our / 1e9);
            their_rates.push(their / 1e9);
        }
    }
    report.add(Figure {
        name: "TCP through a published port: × veth and nftables by hand",
        value: median(&mut ratios),
        unit: "ratio",
        bound: Some(0.9),
        at_least: true,
        note: format!(
            "{:.2} GB/s beside {:.2} GB/s, from another machine on a wire, {ROUNDS} rounds in turns",
            median(&mut our_rates),
            median(&mut their_rates)
        ),
    });
    node.down().await
}

/// A network namespace with a pair of links to the machine, and one port of the machine that leads to it.
fn by_hand(machine: &Machine) -> anyhow::Result<Machine> {
    let inner = Machine::new()?;
    let there = std::fs::File::open(&inner.path)?;
    let held = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&there));
    machine.ip(&format!("link add byhand type veth peer name eth0 netns {held}"))?;
    machine.ip("addr add 10.99.0.1/24 dev byhand")?;
    machine.ip("link set byhand up")?;
    inner.ip("addr add 10.99.0.2/24 dev eth0")?;
    inner.ip("link set eth0 up")?;
    inner.ip("route add default via 10.99.0.1")?;
    let rules = format!(
        "table ip byhand {{\n chain in {{\n type nat hook prerouting priority dstnat;\n tcp dport {BY_HAND} dnat to 10.99.0.2:{INNER}\n }}\n}}\n"
    );
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), rules)?;
    machine.within(|| {
        let out = std::process::Command::new("nft").arg("-f").arg(file.path()).output()?;
        ensure!(out.status.success(), "nft: {}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    })?;
    Ok(inner)
}
