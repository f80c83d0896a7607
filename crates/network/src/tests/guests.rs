//! The handle, asked for places of virtual machines. What passes through them is tested with real guests, on whole nodes.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;

use hostler_linux::netns;
use hostler_model::network::{NetworkSpec, text};

use super::handle::Machine;
use super::on_a_machine;
use crate::{Ask, NetworkError, Networks, Rights, Take, Taker, names};

fn ask(machine: &Machine, attachment: &str, workload: &str) -> Ask {
    let taker = Taker::Machine { owner: 0 };
    Ask { taker, rights: Rights::Administers, ..machine.ask(attachment, workload) }
}

fn call(path: Option<&Path>, program: &str, arguments: &[&str]) -> String {
    let call = || std::process::Command::new(program).args(arguments).output().expect("called");
    let done = match path {
        Some(path) => netns::within(path, call).expect("entered"),
        None => call(),
    };
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[test]
fn out_of_a_pool_and_never_back() {
    on_a_machine(|| {
        let machine = Machine::new(1, 4);
        let networks = machine.daemon(&[], &[]);
        machine.network(&networks, "blue", NetworkSpec::default());
        machine.quiet(&networks);
        let wish = ask(&machine, "blue,rate=1M", "guest");
        let run = wish.run;
        let setup = machine.take(&networks, wish).expect("a place");
        let place = setup.guest.as_ref().expect("a machine's");
        assert_eq!(place.addresses.first().map(|(address, _)| *address), setup.ip.map(IpAddr::V4));
        assert!(setup.hosts.contains("guest"), "{}", setup.hosts);
        let mac = networks.of_run(run).and_then(|view| view.mac).expect("a hardware address");
        assert_eq!(mac, crate::netlink::mac_text(&place.mac));
        let links = call(Some(&setup.path), "ip", &["-o", "link"]);
        assert!(links.contains("tap0") && links.contains("br0") && !links.contains(&mac), "{links}");
        let outer = names::outer(machine.tag(), setup.id);
        for shown in [
            call(None, "tc", &["qdisc", "show", "dev", &outer]),
            call(Some(&setup.path), "tc", &["qdisc", "show", "dev", "eth0"]),
        ] {
            assert!(shown.contains("tbf"), "{shown}");
        }
        machine.quiet(&networks);
        networks.release(run);
        machine.quiet(&networks);
        assert!(!setup.path.exists(), "nobody has it after him");
        let plain = machine.take(&networks, machine.ask("blue", "next")).expect("a place");
        assert!(plain.guest.is_none() && plain.id != setup.id);
        networks.release(super::handle::run(2));
        machine.down(&networks);
    });
}

#[test]
fn over_a_crash_of_the_daemon() {
    on_a_machine(|| {
        let machine = Machine::new(0, 8);
        let networks = machine.daemon(&[], &[]);
        let record = machine.network(&networks, "blue", NetworkSpec::default());
        let mut wish = ask(&machine, "blue,ip=10.77.0.9", "live");
        wish.attachment.ip = record.bridge.as_ref().map(|bridge| bridge.subnet.nth(9));
        wish.attachment.publish = vec![text::publish("7090:9000").expect("a port")];
        let (run, gone) = (wish.run, ask(&machine, "blue", "gone"));
        let setup = machine.take(&networks, wish).expect("a place");
        let left = machine.take(&networks, gone).expect("a place");
        let machine = machine.crash(networks);
        let networks = machine.daemon(std::slice::from_ref(&record), &[run]);
        machine.quiet(&networks);
        let view = networks.of_run(run).expect("its place");
        assert_eq!((view.ip, view.problem), (setup.ip, None));
        assert!(!left.path.exists(), "whose run is gone has no place");
        // What is missing of it is found by the next one.
        let machine = machine.crash(networks);
        call(Some(&setup.path), "ip", &["link", "del", "tap0"]);
        let networks = Networks::new(machine.settings(), machine.handle());
        let adopted = networks.adopt(vec![record], &HashSet::from([run]));
        assert!(adopted.broken.len() == 1 && adopted.broken[0].1.contains("tap0"), "{adopted:?}");
        networks.release(run);
        machine.down(&networks);
    });
}

#[test]
fn networks_of_plugins_have_none() {
    on_a_machine(|| {
        let machine = Machine::new(0, 8);
        let networks = machine.daemon(&[], &[]);
        let plugin = machine.settings().cni_path[0].join("nothing");
        std::fs::create_dir_all(plugin.parent().expect("a directory")).expect("made");
        std::fs::write(&plugin, "#!/bin/sh\nexit 1\n").expect("a plugin");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&plugin, mode).expect("executable");
        let list = r#"{"cniVersion":"1.0.0","name":"cni","plugins":[{"type":"nothing"}]}"#;
        machine.network(&networks, "cni", NetworkSpec { cni: Some(list.to_owned()), ..NetworkSpec::default() });
        let refused = networks.take(ask(&machine, "cni", "guest"));
        assert!(matches!(refused, Err(NetworkError::NoGuests(_))), "{refused:?}");
        machine.quiet(&networks);
        assert!(!machine.settings().directory.join("leases").exists(), "nothing is leased for it, or made");
    });
}

#[test]
fn who_gives_up_while_it_is_changed_leaves_nothing() {
    on_a_machine(|| {
        let machine = Machine::new(1, 8);
        let networks = machine.daemon(&[], &[]);
        machine.network(&networks, "blue", NetworkSpec::default());
        machine.quiet(&networks);
        for round in 0..6 {
            let wish = ask(&machine, "blue", "guest");
            let run = wish.run;
            let Take::Later(answer) = networks.take(wish).expect("it waits") else { panic!("there is work to do") };
            if round % 2 == 0 {
                networks.release(run);
            } else {
                drop(answer);
                networks.abandon(run);
            }
            assert_eq!(networks.of_run(run), None);
        }
        machine.down(&networks);
    });
}
