//! What there is against what should be, after a crash: the test removes and adds things while the daemon is down.

use std::process::Command;

use hostler_linux::netns;
use hostler_tests::container::Oci;
use hostler_tests::{Setup, machine, with_each_oci_runtime};

use super::{Yard, fetch};

with_each_oci_runtime! {
    what_a_live_run_has_lost_is_told,
    bridge_and_rules_are_made_again,
    idle_ones_that_are_gone_are_made_again,
    strays_go_and_what_is_anothers_stays,
    stopped_with_its_networks_up,
}

/// The outer end of a run's set-up.
fn outer(seat: &hostler_model::network::RunNetwork) -> String {
    seat.namespace_path.rsplit('/').next().expect("a name").to_owned()
}

fn what_a_live_run_has_lost_is_told(oci: Oci) {
    let Some(mut yard) = Yard::new(oci) else { return };
    yard.network(&["blue"]);
    let lost = yard.sleeper("lost", &["--network", "blue"]);
    let bare = yard.sleeper("bare", &["--network", "blue"]);
    let whole = yard.web("whole", &["--network", "blue", "-p", "8080:80"]);
    yard.kill();
    yard.machine.ip(&format!("link del {}", outer(&lost)));
    netns::release(bare.namespace_path.as_ref()).expect("released");
    yard.start();
    for (name, words) in [("lost", outer(&lost)), ("bare", bare.namespace_path.clone())] {
        let event = yard.wait_kind(name, "run.network_lost");
        let told = serde_json::to_string(&event.event).expect("JSON");
        let problem = yard.seat(name).problem.unwrap_or_else(|| panic!("{name} has no problem"));
        assert!(
            problem.contains(&words) && problem.contains("gone") && told.contains(&words),
            "{name}: {problem}: {told}"
        );
        assert_eq!(yard.inspect(name).phase.as_str(), "running", "it goes on all the same");
    }
    assert_eq!(yard.seat("whole"), whole);
    assert!(!yard.history("whole").iter().any(|kind| kind == "run.network_lost"));
    // It is told once.
    let count = |yard: &Yard| yard.history("lost").iter().filter(|kind| *kind == "run.network_lost").count();
    assert_eq!(count(&yard), 1);
    for name in ["lost", "bare"] {
        yard.end(name);
    }
    yard.settled("blue", 0, 1);
    yard.assert_setups(1, "afterwards");
    // It is well again with its next run.
    yard.sleeper("again", &["--network", "blue"]);
    assert_eq!(yard.seat("again").problem, None);
    yard.finish();
}

fn bridge_and_rules_are_made_again(oci: Oci) {
    let Some(mut yard) = Yard::new(oci) else { return };
    let here = yard.machine.path();
    yard.network(&["blue", "--ipv6"]);
    yard.network(&["red"]);
    let seat = yard.web("web", &["--network", "blue", "-p", "8080:80"]);
    let bridge = |yard: &Yard, network: &str| -> String {
        yard.cli(&["network", "inspect", network]).json()[0]["interface"].as_str().expect("a bridge").to_owned()
    };
    let (blue, red) = (bridge(&yard, "blue"), bridge(&yard, "red"));
    let table = format!("h{}", yard.tag().expect("a tag"));
    // The rules alone.
    yard.kill();
    yard.machine.call("nft", &["delete", "table", "inet", &table]);
    assert!(fetch(&here, ([127, 0, 0, 1], 8080)).is_err());
    yard.start();
    assert_eq!(fetch(&here, ([127, 0, 0, 1], 8080)).as_deref(), Ok("web"));
    assert_eq!(yard.seat("web"), seat);
    // An address of a bridge, and a bridge without anybody in it.
    yard.kill();
    yard.machine.ip(&format!("addr flush dev {blue}"));
    yard.machine.ip(&format!("link del {red}"));
    yard.start();
    assert_eq!(fetch(&here, ([127, 0, 0, 1], 8080)).as_deref(), Ok("web"));
    yard.sleeper("asks", &["--network", "blue"]);
    assert_eq!(yard.resolve("asks", "web").len(), 2);
    assert!(yard.machine.links().contains(&red));
    // The bridge of a live run: it is there again, and the run hears that it is not in it.
    yard.kill();
    yard.machine.ip(&format!("link del {blue}"));
    yard.start();
    assert!(yard.machine.links().contains(&blue));
    let problem = yard.seat("web").problem.expect("it is not whole");
    assert!(problem.contains("is not in its bridge"), "{problem}");
    yard.wait_kind("web", "run.network_lost");
    yard.end("web");
    yard.end("asks");
    yard.web("web2", &["--network", "blue", "-p", "8080:80"]);
    assert_eq!(fetch(&here, ([127, 0, 0, 1], 8080)).as_deref(), Ok("web2"));
    yard.finish();
}

fn idle_ones_that_are_gone_are_made_again(oci: Oci) {
    let setup = Setup::new().config("[pool.network.blue]\nidle = 3\n");
    let Some(mut yard) = Yard::with(oci, setup) else { return };
    yard.network(&["blue"]);
    yard.settled("blue", 3, 0);
    let before = yard.setups().1;
    yard.kill();
    netns::release(&std::path::Path::new(netns::DIRECTORY).join(&before[0])).expect("released");
    yard.machine.ip(&format!("link del {}", before[1]));
    yard.start();
    yard.settled("blue", 3, 0);
    yard.assert_setups(3, "made again");
    let after = yard.setups().1;
    assert!(after.contains(&before[2]) && !after.contains(&before[0]) && !after.contains(&before[1]), "{after:?}");
    yard.sleeper("one", &["--network", "blue"]);
    // A book that was torn at its end, and one that is gone.
    yard.settled("blue", 3, 1);
    yard.kill();
    let book = yard.root().join("networks/leases");
    let text = std::fs::read(&book).expect("the book");
    std::fs::write(&book, [&text[..], b"deadbeef {\"lease\":{\"set"].concat()).expect("torn");
    yard.start();
    yard.settled("blue", 3, 1);
    yard.end("one");
    yard.kill();
    std::fs::remove_file(&book).expect("removed");
    yard.start();
    yard.settled("blue", 3, 0);
    yard.assert_setups(3, "without a book");
    yard.finish();
}

fn strays_go_and_what_is_anothers_stays(oci: Oci) {
    let Some(mut yard) = Yard::new(oci) else { return };
    yard.network(&["blue"]);
    let seat = yard.sleeper("one", &["--network", "blue"]);
    let tag = yard.tag().expect("a tag").to_owned();
    // Another tag, that of no node.
    let other: String = tag.chars().map(|digit| if digit == '0' { '1' } else { '0' }).collect();
    let directory = std::path::Path::new(netns::DIRECTORY);
    let (own, foreign) = (format!("h{tag}00c0ffee"), format!("h{other}00c0ffee"));
    let (own_bridge, foreign_bridge) = (format!("h{tag}nc0ffee"), format!("h{other}nc0ffee"));
    let odd = format!("h{tag}-mine");
    let make = |name: &str| {
        netns::create(&directory.join(name), || {
            let done = Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(done.expect("ip").success());
        })
        .expect("a namespace");
        let path = directory.join(name);
        yard.machine.ip(&format!("link add {name} type veth peer name eth0 netns {}", path.display()));
    };
    make(&own);
    make(&foreign);
    for name in [&own_bridge, &foreign_bridge, &odd] {
        yard.machine.ip(&format!("link add {name} type bridge"));
    }
    yard.machine.call("nft", &["add", "table", "inet", &format!("h{other}")]);
    yard.kill_and_start();
    let (links, namespaces) = (yard.machine.links(), machine::namespaces());
    let tables = machine::tables(Some(&yard.machine.path()));
    // What is ours and nobody's is gone, everything else is where it was.
    for name in [&own, &own_bridge] {
        assert!(!links.contains(name) && !namespaces.contains(name), "{name}: {links:?}, {namespaces:?}");
    }
    assert!(links.contains(&foreign) && namespaces.contains(&foreign) && links.contains(&foreign_bridge), "{links:?}");
    assert!(links.contains(&odd), "a name that we do not give: {links:?}");
    assert!(tables.contains(&format!("h{other}")) && tables.contains(&format!("h{tag}")), "{tables:?}");
    assert_eq!(yard.seat("one"), seat);
    netns::release(&directory.join(&foreign)).expect("released");
    yard.machine.ip(&format!("link del {odd}"));
    yard.finish();
}

/// Down in order while workloads go on: what they have stays, what nobody needs goes, and up again it is theirs.
fn stopped_with_its_networks_up(oci: Oci) {
    let setup = Setup::new().config("[pool.network.blue]\nidle = 2\n");
    let Some(mut yard) = Yard::with(oci, setup) else { return };
    let here = yard.machine.path();
    yard.network(&["blue"]);
    yard.network(&["red"]);
    let seat = yard.web("web", &["--network", "blue", "-p", "8080:80"]);
    yard.settled("blue", 2, 1);
    yard.down();
    yard.assert_setups(1, "down");
    assert_eq!(fetch(&here, ([127, 0, 0, 1], 8080)).as_deref(), Ok("web"), "who goes on is reached");
    let bridges = yard.machine.links().into_iter().filter(|link| link.starts_with('h') && link.contains('n')).count();
    assert_eq!(bridges, 1, "that of a network without anybody is gone");
    yard.start();
    assert_eq!(yard.seat("web"), seat);
    yard.settled("blue", 2, 1);
    assert_eq!(fetch(&here, ([127, 0, 0, 1], 8080)).as_deref(), Ok("web"));
    yard.sleeper("red", &["--network", "red"]);
    yard.finish();
}
