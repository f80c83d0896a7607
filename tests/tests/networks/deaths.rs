//! The daemon dies, as by `kill -9`, at each step of making, taking, giving back and removing. The next one goes on: what is
//! there is what live runs and idle set-ups have, nobody who lives has lost anything, and a new run finds its place.

use std::net::UdpSocket;

use hostler_tests::container::Oci;
use hostler_tests::{Setup, machine, with_each_oci_runtime};

use super::{Yard, fetch, netns};

/// What leads to a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// A network is made.
    Network,
    /// A container begins, in a network that is made for it.
    Run,
    /// One begins out of a pool.
    RunOfPool,
    /// One ends.
    End,
    /// One ends, and its set-up goes back into a pool.
    EndOfPool,
    /// One ends, and somebody else has a socket in its network.
    EndHeld,
    /// A network that has idle set-ups is removed.
    Remove,
}

/// Each point, what leads there, and how many set-ups are kept ready meanwhile.
const POINTS: [(&str, By, u32); 24] = [
    ("bridge-made", By::Network, 0),
    ("bridge-ready:2", By::Network, 0),
    ("setup-leased", By::Run, 0),
    ("setup-namespace", By::Run, 0),
    ("setup-links", By::Run, 0),
    ("setup-joined", By::Run, 0),
    ("setup-made", By::Run, 0),
    ("setup-taken", By::Run, 0),
    ("setup-finished", By::Run, 0),
    ("setup-taken", By::RunOfPool, 1),
    ("setup-finished", By::RunOfPool, 1),
    ("setup-made", By::RunOfPool, 1),
    ("setup-released", By::End, 0),
    ("setup-unpublished", By::End, 0),
    ("setup-cleaned", By::End, 0),
    ("setup-let-go", By::End, 0),
    ("setup-freed", By::End, 0),
    ("setup-released", By::EndOfPool, 1),
    ("setup-unpublished", By::EndOfPool, 1),
    ("setup-cleaned", By::EndOfPool, 1),
    ("setup-let-go", By::EndHeld, 0),
    ("setup-unlinked", By::EndHeld, 0),
    ("setup-let-go", By::Remove, 2),
    ("setup-freed", By::Remove, 2),
];

fn while_networks_are_made(oci: Oci) {
    survive(oci, By::Network, 0..2);
}

fn while_set_ups_are_made(oci: Oci) {
    survive(oci, By::Run, 0..4);
}

fn while_runs_take_them(oci: Oci) {
    survive(oci, By::Run, 4..7);
}

fn while_runs_begin_out_of_a_pool(oci: Oci) {
    survive(oci, By::RunOfPool, 0..3);
}

fn while_runs_end(oci: Oci) {
    survive(oci, By::End, 0..3);
}

fn while_set_ups_go(oci: Oci) {
    survive(oci, By::End, 3..5);
}

fn while_set_ups_are_cleaned(oci: Oci) {
    survive(oci, By::EndOfPool, 0..3);
}

fn while_what_is_held_goes(oci: Oci) {
    survive(oci, By::EndHeld, 0..2);
}

fn while_a_network_goes(oci: Oci) {
    survive(oci, By::Remove, 0..2);
}

/// On its way up, with something to mend and to remove.
fn while_it_reconciles(oci: Oci) {
    let setup = Setup::new().config("[pool.network.blue]\nidle = 1\n");
    let Some(mut yard) = Yard::with(oci, setup) else { return };
    let here = yard.machine.path();
    yard.network(&["blue"]);
    yard.network(&["red"]);
    yard.web("stays", &["--network", "red", "-p", "8080:80"]);
    let tag = yard.tag().expect("a tag").to_owned();
    let bridge = yard.cli(&["network", "inspect", "blue"]).json()[0]["interface"].as_str().expect("one").to_owned();
    for (number, point) in
        ["bridge-made", "bridge-ready", "setup-let-go", "setup-unlinked", "setup-freed"].iter().enumerate()
    {
        yard.settled("blue", 1, 0);
        yard.kill();
        // Its bridge, so that the idle one is not in it; and one that is nobody's.
        yard.machine.ip(&format!("link del {bridge}"));
        let stray = format!("h{tag}{number:08x}");
        let path = std::path::Path::new(hostler_linux::netns::DIRECTORY).join(&stray);
        hostler_linux::netns::create(&path, || ()).expect("a namespace");
        yard.machine.ip(&format!("link add {stray} type veth peer name eth0 netns {}", path.display()));
        // It does not go by itself, so that it is removed by its name.
        let held = machine::inside(&path, || UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        let up = yard.start_or_die(&[("HOSTLER_TEST_FAILPOINT", point)]);
        // What is removed aside may go after it has come up.
        assert!(!yard.wait_daemon_end().success(), "{point}: {up}");
        assert_eq!(fetch(&here, ([127, 0, 0, 1], 8080)).as_deref(), Ok("stays"), "{point}");
        yard.start();
        drop(held);
        yard.settled("blue", 1, 0);
        yard.settled("red", 0, 1);
        yard.assert_setups(2, point);
        assert_eq!(fetch(&here, ([127, 0, 0, 1], 8080)).as_deref(), Ok("stays"), "{point}");
        assert_eq!(yard.seat("stays").problem, None, "{point}");
    }
    yard.finish();
}

with_each_oci_runtime! {
    while_it_reconciles,
    while_networks_are_made,
    while_set_ups_are_made,
    while_runs_take_them,
    while_runs_begin_out_of_a_pool,
    while_runs_end,
    while_set_ups_go,
    while_set_ups_are_cleaned,
    while_what_is_held_goes,
    while_a_network_goes,
}

/// These of the points that something leads to.
fn survive(oci: Oci, by: By, which: std::ops::Range<usize>) {
    let points: Vec<_> = POINTS.iter().filter(|(_, how, _)| *how == by).collect();
    for (point, how, idle) in &points[which] {
        let setup = Setup::new().config(&format!("[pool.network.blue]\nidle = {idle}\n"));
        let Some(mut yard) = Yard::with(oci, setup) else { return };
        one_death(&mut yard, point, *how, *idle);
        yard.finish();
    }
}

fn one_death(yard: &mut Yard, point: &str, by: By, idle: u32) {
    let case = format!("{point} by {by:?} with {idle} idle");
    yard.network(&["red"]);
    yard.web("stays", &["--network", "red", "-p", "8080:80"]);
    let victim = ["--network", "blue", "-p", "8081:80"];
    if by != By::Network {
        yard.network(&["blue"]);
        yard.settled("blue", idle, 0);
    }
    if matches!(by, By::End | By::EndOfPool | By::EndHeld) {
        // Without a port and with, so that one of them may be used again.
        yard.sleeper("victim", &victim[..if idle > 0 && point == "setup-cleaned" { 2 } else { 4 }]);
        yard.settled("blue", idle, 1);
    }
    yard.kill();
    yard.start_with(&[("HOSTLER_TEST_FAILPOINT", point)]);
    let held = (by == By::EndHeld).then(|| {
        let path = netns(&yard.seat("victim"));
        machine::inside(&path, || UdpSocket::bind("0.0.0.0:0").expect("a socket"))
    });
    let rootfs = yard.rootfs().display().to_string();
    let run = ["run", "-d", "--name", "victim", "--oci-runtime", yard.oci().name, "--rootfs", &rootfs];
    // It waits for the next daemon.
    let asking = yard.command(&match by {
        By::Network => vec!["network", "create", "blue"],
        By::Run | By::RunOfPool => [&run[..], &victim, &["--", "sleep", "600"]].concat(),
        By::End | By::EndOfPool | By::EndHeld => vec!["rm", "-f", "victim"],
        By::Remove => vec!["network", "rm", "blue"],
    });
    let asking = asking.spawn();
    let status = yard.wait_daemon_end();
    assert!(!status.success(), "{case}: {status}");
    let name = point.split(':').next().unwrap_or_default();
    assert!(yard.daemon_log().contains(&format!("failpoint {name}")), "{case}");
    let here = yard.machine.path();
    assert_eq!(fetch(&here, ([127, 0, 0, 1], 8080)).as_deref(), Ok("stays"), "{case}");
    yard.start();
    let answer = asking.end();
    // What is asked with a key is asked again, and done once. Whether a network was made or removed, one can see.
    let expected = i32::from(matches!(by, By::Network | By::Remove));
    assert_eq!(answer.code, expected, "{case}: {}", answer.err());
    afterwards(yard, &case, idle);
    drop(held);
}

/// Everything is as if nothing had happened, and goes on.
fn afterwards(yard: &Yard, case: &str, idle: u32) {
    let here = yard.machine.path();
    let has_blue = yard.cli(&["network", "ls"]).ok().contains("blue");
    if !has_blue {
        yard.network(&["blue"]);
    }
    // The victim's container may have begun or not; what is accepted has one end.
    let live = yard.cli(&["ps", "-q"]).ok().lines().count();
    let victims = u32::try_from(live).expect("few") - 1;
    let pool = yard.settled("blue", idle, victims.min(1));
    assert_eq!(pool.waiting, 0, "{case}");
    yard.settled("red", 0, 1);
    yard.assert_setups(1 + idle as usize + victims as usize, case);
    assert_eq!(fetch(&here, ([127, 0, 0, 1], 8080)).as_deref(), Ok("stays"), "{case}");
    if victims > 0 {
        yard.end("victim");
    }
    let again = yard.web("again", &["--network", "blue", "-p", "8081:80"]);
    assert_eq!(fetch(&here, ([127, 0, 0, 1], 8081)).as_deref(), Ok("again"), "{case}");
    assert_eq!(again.problem, None, "{case}");
    let tables = machine::tables(Some(&here));
    assert_eq!(tables.len(), 1, "{case}: {tables:?}");
}

/// The points that the room has are those of the table.
#[test]
fn every_point_is_armed() {
    let found = hostler_tests::failpoints("network");
    let tested: std::collections::BTreeSet<_> =
        POINTS.iter().filter_map(|(point, ..)| Some(point.split(':').next()?.to_owned())).collect();
    assert_eq!(found, tested);
    let count = |by: By| POINTS.iter().filter(|(_, how, _)| *how == by).count();
    assert_eq!((count(By::Run), count(By::End)), (7, 5), "tested in parts");
}
