//! Set-ups made ahead of need: filled, taken, given back, proved clean and used again; what happens when there are no more.

use std::net::UdpSocket;
use std::process::Command;

use hostler_model::ProblemKind;
use hostler_tests::container::Oci;
use hostler_tests::raw::Reply;
use hostler_tests::{PATIENCE, Setup, machine, until, with_each_oci_runtime};

use super::{Yard, netns};

with_each_oci_runtime! {
    filled_taken_and_filled_again,
    only_what_is_clean_is_used_again,
    an_address_that_rests_is_given_up,
    addresses_run_out,
    a_burst_stays_within_its_bounds,
    queued_jobs_wait_for_room,
}

fn pool(idle: u32, max: u32) -> Setup {
    Setup::new().config(&format!("[pool.network.blue]\nidle = {idle}\nmax = {max}\n"))
}

fn filled_taken_and_filled_again(oci: Oci) {
    let Some(mut yard) = Yard::with(oci, pool(2, 4)) else { return };
    yard.network(&["blue", "--ipv6"]);
    let view = yard.settled("blue", 2, 0);
    assert_eq!((view.target, view.max, view.waiting, view.failures), (2, 4, 0, 0));
    yard.assert_setups(2, "filled");
    let ready = yard.setups().1;
    let seat = yard.sleeper("one", &["--network", "blue"]);
    assert!(ready.iter().any(|name| seat.namespace_path.ends_with(name)), "{ready:?}: {seat:?}");
    yard.settled("blue", 2, 1);
    yard.sleeper("two", &["--network", "blue"]);
    yard.settled("blue", 2, 2);
    yard.sleeper("three", &["--network", "blue"]);
    yard.settled("blue", 1, 3);
    yard.assert_setups(4, "as many as may be");
    // The next daemon finds them as they are.
    let before = yard.setups().1;
    yard.kill_and_start();
    yard.settled("blue", 1, 3);
    assert_eq!(yard.setups().1, before);
    for name in ["one", "two", "three"] {
        yard.end(name);
    }
    yard.settled("blue", 2, 0);
    yard.assert_setups(2, "given back");
    let kept = yard.setups().1;
    assert!(kept.iter().all(|name| before.contains(name)), "used again: {kept:?} of {before:?}");
    yard.cli(&["network", "rm", "blue"]).ok();
    until("the end of all set-ups", PATIENCE, || yard.setups().1.is_empty().then_some(()));
    yard.finish();
}

/// What a run does to its set-up, or somebody for it, and whether it may be used again.
fn only_what_is_clean_is_used_again(oci: Oci) {
    let Some(yard) = Yard::with(oci, pool(1, 1)) else { return };
    yard.network(&["blue", "--ipv6"]);
    let mut last = yard.settled("blue", 1, 0);
    let mut next = |name: &str, options: &[&str], act: &dyn Fn(&std::path::Path)| {
        assert_eq!((last.idle, last.occupied), (1, 0), "{name}");
        let seat = yard.sleeper(name, &[&["--network", "blue"], options].concat());
        act(&netns(&seat));
        yard.end(name);
        last = yard.settled("blue", 1, 0);
        seat.namespace_path
    };
    let ip = |path: &std::path::Path, words: &str| {
        machine::inside(path, || {
            let done = Command::new("ip").args(words.split(' ')).output().expect("ip");
            assert!(done.status.success(), "{words}: {done:?}");
        });
    };
    let nothing = |_: &std::path::Path| {};
    let first = next("first", &[], &nothing);
    assert_eq!(next("again", &[], &nothing), first, "nobody has changed it");
    assert_eq!(next("admin", &["--cap-add", "NET_ADMIN"], &nothing), first);
    let second = next("after-admin", &[], &|path| ip(path, "addr add 10.99.0.1/24 dev eth0"));
    assert_ne!(second, first, "he could have changed it");
    let third = next("after-address", &[], &|path| ip(path, "route add 10.98.0.0/24 dev lo"));
    assert_ne!(third, second, "it has another address");
    let fourth = next("routes", &[], &|path| ip(path, "link set eth0 mtu 1300"));
    let fifth = next("after-mtu", &[], &nothing);
    assert_ne!(fifth, fourth, "its interface is not what it was");
    // A socket that somebody elsewhere holds.
    let seat = yard.sleeper("held", &["--network", "blue"]);
    assert_eq!(seat.namespace_path, fifth);
    let socket = machine::inside(&netns(&seat), || UdpSocket::bind("0.0.0.0:0").expect("a socket"));
    yard.end("held");
    yard.settled("blue", 1, 0);
    let sixth = yard.sleeper("after-socket", &["--network", "blue"]).namespace_path;
    assert_ne!(sixth, fifth, "somebody can still be heard in it");
    drop(socket);
    // A program that is still in it: nobody gets it before that one is gone.
    let mut stays = machine::inside(sixth.as_ref(), || Command::new("sleep").arg("600").spawn().expect("sleep"));
    yard.end("after-socket");
    yard.until_pool("blue", "being left", |pool| (pool.idle, pool.leaving) == (0, 1));
    assert!(netns(&seat) != std::path::Path::new(&sixth) && std::path::Path::new(&sixth).exists());
    stays.kill().and_then(|()| stays.wait()).expect("killed");
    yard.settled("blue", 1, 0);
    assert_eq!(yard.sleeper("last", &["--network", "blue"]).namespace_path, sixth);
    yard.finish();
}

/// Of all addresses the one that an idle set-up happens to have.
fn an_address_that_rests_is_given_up(oci: Oci) {
    let Some(yard) = Yard::with(oci, pool(2, 4)) else { return };
    yard.network(&["blue", "--subnet", "10.5.0.0/24"]);
    yard.settled("blue", 2, 0);
    let ips: Vec<String> =
        machine::leases(yard.root()).iter().map(|(_, lease)| lease["ip"].as_str().expect("one").to_owned()).collect();
    assert_eq!(ips.len(), 2);
    let seat = yard.sleeper("one", &["--network", &format!("blue,ip={}", ips[0])]);
    assert_eq!(seat.ip.map(|ip| ip.to_string()), Some(ips[0].clone()));
    yard.settled("blue", 2, 1);
    yard.run(&["--network", &format!("blue,ip={}", ips[0])], &["true"]).refused(125, "is in use");
    yard.finish();
}

/// `POST /v1/workloads` of a container in this network.
fn post(yard: &Yard, name: &str, network: &str) -> Reply {
    let body = serde_json::json!({
        "name": name,
        "command": ["sleep", "600"],
        "workdir": "/",
        "stop": { "grace_ms": 0 },
        "container": {
            "rootfs": yard.rootfs().to_str(),
            "oci_runtime": yard.oci().name,
            "network": { "named": { "name": network } },
        },
    });
    yard.post(&body.to_string())
}

fn addresses_run_out(oci: Oci) {
    let Some(yard) = Yard::new(oci) else { return };
    yard.network(&["blue", "--subnet", "10.5.0.0/29"]);
    let ips: std::collections::BTreeSet<_> =
        (0..5).map(|number| yard.sleeper(&format!("w{number}"), &["--network", "blue"]).ip).collect();
    assert_eq!(ips.len(), 5, "{ips:?}");
    let full = yard.settled("blue", 0, 5);
    assert_eq!(full.max, 5);
    let refused = post(&yard, "late", "blue");
    let problem = refused.problem(ProblemKind::TryAgain);
    assert!(
        refused.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok_and(|s| s > 0)),
        "{refused:?}"
    );
    assert!(problem.detail.contains("all 5 places of network blue"), "{problem:?}");
    assert_eq!(yard.all().len(), 5, "nothing was made of it");
    yard.end("w3");
    yard.settled("blue", 0, 4);
    assert_eq!(post(&yard, "late", "blue").status, 201);
    yard.main_pid("late");
    assert!(ips.contains(&yard.seat("late").ip));
    yard.finish();
}

fn a_burst_stays_within_its_bounds(oci: Oci) {
    let Some(yard) = Yard::with(oci, pool(2, 6)) else { return };
    yard.network(&["blue"]);
    yard.settled("blue", 2, 0);
    let (over, is_over) = std::sync::mpsc::channel::<()>();
    let (replies, most) = std::thread::scope(|scope| {
        // Gone with whatever ends this, a panic as well.
        let over = over;
        let watch = scope.spawn(|| {
            let is_over = is_over;
            let mut most = 0;
            while is_over.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                most = most.max(yard.setups().0.len());
                let pool = yard.pool("blue");
                assert!(pool.idle + pool.occupied + pool.making + pool.leaving <= 6, "{pool:?}");
            }
            most
        });
        let posted: Vec<_> = (0..20)
            .map(|number| {
                let yard = &yard;
                scope.spawn(move || (number, post(yard, &format!("w{number}"), "blue")))
            })
            .collect();
        let replies: Vec<_> = posted.into_iter().map(|posted| posted.join().expect("no panic")).collect();
        yard.until_pool("blue", "full", |pool| pool.occupied == 6 && pool.making + pool.leaving == 0);
        drop(over);
        (replies, watch.join().expect("within its bounds"))
    });
    assert!(most <= 6, "{most}");
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for (number, reply) in &replies {
        match reply.status {
            201 => accepted.push(format!("w{number}")),
            _ => refused += u32::from(reply.problem(ProblemKind::TryAgain).detail.contains("places")),
        }
    }
    assert!(accepted.len() >= 6 && accepted.len() + refused as usize == 20, "{accepted:?}, {refused}");
    // Those that were accepted beyond it wait for the end of others, and then begin.
    while !accepted.is_empty() {
        let name = until("one that runs", PATIENCE, || {
            accepted.iter().find(|name| yard.inspect(name).phase.as_str() == "running").cloned()
        });
        yard.end(&name);
        accepted.retain(|other| *other != name);
    }
    yard.settled("blue", 2, 0);
    yard.assert_setups(2, "afterwards");
    yard.finish();
}

fn queued_jobs_wait_for_room(oci: Oci) {
    let Some(yard) = Yard::with(oci, pool(0, 2)) else { return };
    yard.network(&["blue"]);
    yard.cli(&["queue", "set", "q", "--parallel", "6"]).ok();
    let names: Vec<_> = (0..8).map(|number| format!("job{number}")).collect();
    for name in &names {
        yard.run(&["-d", "--name", name, "--network", "blue", "--queue", "q"], &["sleep", "0.05"]).ok();
    }
    for name in &names {
        assert_eq!(yard.ended(name).exit_code, Some(0), "{name}");
    }
    yard.settled("blue", 0, 0);
    yard.finish();
}
