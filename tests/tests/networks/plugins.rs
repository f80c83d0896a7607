//! Networks that CNI plugins make: with the real ones, and with stand-ins that hang, fail, lie and die half-way.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hostler_tests::container::{Oci, program};
use hostler_tests::{Machine, PATIENCE, Setup, machine, skip, until, with_each_oci_runtime};
use serde_json::{Value, json};

use super::{Yard, deaf, fetch, gateway, ip4, netns};

with_each_oci_runtime! {
    real_plugins,
    real_plugins_publish_ports,
    over_the_daemons_death,
    plugins_that_go_wrong,
    what_cannot_be_undone_is_tried_again,
    a_pool_that_cannot_be_filled,
    lists_that_make_no_sense,
}

/// Where Debian puts them, and where everybody else does.
const DIRECTORIES: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];
/// How long a call may take here, milliseconds.
const CALL_MAX_MS: u64 = 500;

fn has_plugins(names: &[&str]) -> bool {
    let has = |name: &&str| DIRECTORIES.iter().any(|directory| Path::new(directory).join(name).is_file());
    let all = names.iter().all(has);
    if !all {
        skip(&format!("the CNI plugins {names:?} are not installed"));
    }
    all
}

/// A stand-in plugin: it writes down each call, does what a file named like it and the call says, and otherwise tells of
/// an address.
const SCRIPT: &str = r#"#!/bin/sh
here=${0%/*}; name=${0##*/}
echo "$CNI_COMMAND $name" >>"$here/calls"
cat >/dev/null
case $(cat "$here/$name.$CNI_COMMAND" 2>/dev/null) in
Hang) exec sleep 600 ;;
HangWithChild) sleep 600 & wait ;;
Fail) echo '{"cniVersion":"1.0.0","code":11,"msg":"no more today","details":"the stand-in was told so"}'; exit 1 ;;
FailSilently) exit 3 ;;
Nonsense) echo 'well done'; exit 0 ;;
Lie) echo '{"cniVersion":"1.0.0","ips":[{"address":"10.300.0.1/24"}]}'; exit 0 ;;
Flood) head -c 3000000 /dev/zero | tr '\0' x; exit 0 ;;
Die) kill -SEGV $$ ;;
esac
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.2/24"}]}'
"#;

/// A directory of stand-in plugins.
struct StandIns {
    directory: tempfile::TempDir,
}

impl StandIns {
    fn new(names: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("htp-").tempdir_in("/tmp").expect("a directory");
        for name in names {
            let path = directory.path().join(name);
            std::fs::write(&path, SCRIPT).expect("a plugin");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        Self { directory }
    }

    fn setup(&self, more: &str) -> Setup {
        let path = self.directory.path().display().to_string();
        Setup::new().config(&format!("[network]\ncni_path = [{path:?}]\ncni_call_max_ms = {CALL_MAX_MS}\n{more}"))
    }

    /// What a plugin does when it is called for this; nothing wrong without a word.
    fn does(&self, plugin: &str, verb: &str, word: Option<&str>) {
        let path = self.directory.path().join(format!("{plugin}.{verb}"));
        match word {
            Some(word) => std::fs::write(path, word).expect("written"),
            None => drop(std::fs::remove_file(path)),
        }
    }

    /// The calls that came since this was asked last.
    fn calls(&self) -> Vec<String> {
        let path = self.directory.path().join("calls");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }
}

/// Writes a list, and makes a network of it.
fn network(yard: &Yard, name: &str, plugins: Value) {
    let list = json!({ "cniVersion": "1.0.0", "name": format!("list-{name}"), "plugins": plugins });
    let file = yard.work().join(format!("{name}.conflist"));
    std::fs::write(&file, list.to_string()).expect("written");
    yard.network(&[name, "--cni", file.to_str().expect("UTF-8")]);
}

/// A bridge with addresses, whose book is in the node's own directory.
fn bridge(yard: &Yard) -> Value {
    json!({
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": true,
        "ipMasq": false,
        "ipam": {
            "type": "host-local",
            "dataDir": leases(yard),
            "ranges": [[{ "subnet": "10.44.0.0/24" }]],
            "routes": [{ "dst": "0.0.0.0/0" }],
        },
        "dns": { "nameservers": ["192.0.2.53"], "search": ["example.org"] },
    })
}

fn leases(yard: &Yard) -> PathBuf {
    yard.work().join("host-local")
}

/// Addresses that host-local has given out.
fn given(yard: &Yard, network: &str) -> Vec<String> {
    let entries = std::fs::read_dir(leases(yard).join(format!("list-{network}"))).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("10.")).collect()
}

fn real_plugins(oci: Oci) {
    if !has_plugins(&["bridge", "host-local"]) {
        return;
    }
    let Some(yard) = Yard::with(oci, Setup::new().config("[pool.network.lan]\nidle = 1\n")) else { return };
    network(&yard, "lan", json!([bridge(&yard)]));
    yard.settled("lan", 1, 0);
    let one = yard.web("one", &["--network", "lan"]);
    let two = yard.sleeper("two", &["--network", "lan"]);
    assert_eq!(fetch(&netns(&two), (ip4(&one), 80)).as_deref(), Ok("one"));
    assert_eq!(fetch(&yard.machine.path(), (ip4(&one), 80)).as_deref(), Ok("one"), "as its plugins have it");
    assert_eq!(gateway(&one).to_string(), "10.44.0.1");
    assert_eq!(yard.exec("one", "cat /etc/resolv.conf").ok(), "nameserver 192.0.2.53\nsearch example.org");
    let shown = yard.exec("one", "ip addr show eth0").ok();
    assert!(shown.contains(&ip4(&one).to_string()) && shown.contains(one.mac.as_deref().expect("one")), "{shown}");
    yard.settled("lan", 1, 2);
    assert_eq!(given(&yard, "lan").len(), 3);
    // It is not used again without having been asked for CHECK, and then it is.
    yard.end("two");
    yard.settled("lan", 1, 1);
    let ready = machine::leases(yard.root());
    let three = yard.sleeper("three", &["--network", "lan"]);
    assert!(ready.iter().any(|(setup, _)| three.namespace_path.ends_with(setup.as_str())), "{ready:?}");
    for name in ["one", "three"] {
        yard.end(name);
    }
    yard.cli(&["network", "rm", "lan"]).ok();
    until("every address given back", PATIENCE, || given(&yard, "lan").is_empty().then_some(()));
    until("the end of every link", PATIENCE, || {
        (!yard.machine.links().iter().any(|link| link.starts_with("veth"))).then_some(())
    });
    assert!(yard.machine.links().contains(&"cni0".to_owned()), "what plugins share is theirs");
    yard.finish();
}

fn real_plugins_publish_ports(oci: Oci) {
    if !has_plugins(&["bridge", "host-local", "portmap"]) {
        return;
    }
    if program("iptables").is_none() {
        return skip("iptables is not installed, which the CNI plugin portmap needs");
    }
    let Some(machine) = Machine::new() else { return };
    let works = machine.inside(|| std::process::Command::new("iptables").args(["-t", "nat", "-L"]).output());
    if !works.is_ok_and(|done| done.status.success()) {
        return skip("iptables cannot make NAT rules here, which the CNI plugin portmap needs");
    }
    let yard = Yard::on(oci, &machine, Setup::new());
    network(&yard, "lan", json!([bridge(&yard), { "type": "portmap", "capabilities": { "portMappings": true } }]));
    machine.ip("addr add 192.0.2.1/32 dev lo");
    yard.web("web", &["--network", "lan", "-p", "8080:80"]);
    assert_eq!(fetch(&machine.path(), ([192, 0, 2, 1], 8080)).as_deref(), Ok("web"));
    let refused = yard.run(&["--network", "lan", "-p", "8080:81"], &["true"]).code(125);
    assert!(refused.err().contains("8080"), "{}", refused.err());
    yard.end("web");
    yard.settled("lan", 0, 0);
    deaf(&machine.path(), ([192, 0, 2, 1], 8080), "its run has ended");
    yard.finish();
}

fn over_the_daemons_death(oci: Oci) {
    if !has_plugins(&["bridge", "host-local"]) {
        return;
    }
    for point in ["setup-namespace", "setup-made", "setup-taken", "setup-released", "setup-freed"] {
        let Some(mut yard) = Yard::new(oci) else { return };
        network(&yard, "lan", json!([bridge(&yard)]));
        let seat = yard.web("stays", &["--network", "lan"]);
        let begins = ["setup-namespace", "setup-made", "setup-taken"].contains(&point);
        if !begins {
            yard.sleeper("victim", &["--network", "lan"]);
        }
        yard.kill();
        yard.start_with(&[("HOSTLER_TEST_FAILPOINT", point)]);
        let rootfs = yard.rootfs().display().to_string();
        let run = ["run", "-d", "--name", "victim", "--oci-runtime", oci.name, "--rootfs", &rootfs];
        let asking = match begins {
            true => yard.command(&[&run[..], &["--network", "lan", "--", "sleep", "600"]].concat()).spawn(),
            false => yard.command(&["stop", "-t", "0s", "victim"]).spawn(),
        };
        assert!(!yard.wait_daemon_end().success(), "{point}");
        yard.start();
        assert_eq!(asking.end().code, 0, "{point}");
        assert_eq!(yard.seat("stays"), seat, "{point}: CHECK finds it well");
        assert_eq!(fetch(&yard.machine.path(), (ip4(&seat), 80)).as_deref(), Ok("stays"), "{point}");
        let runs = u32::from(begins);
        yard.settled("lan", 0, 1 + runs);
        until(&format!("{point}: addresses of live runs only"), PATIENCE, || {
            (given(&yard, "lan").len() == 1 + runs as usize).then_some(())
        });
        if begins {
            assert_ne!(yard.seat("victim").ip, seat.ip);
        }
        // What plugins made and somebody took away is told by CHECK.
        yard.kill();
        yard.machine.inside(|| {
            let path = netns(&seat);
            machine::inside(&path, || {
                let done = std::process::Command::new("ip").args(["link", "del", "eth0"]).status();
                assert!(done.expect("ip").success());
            });
        });
        yard.start();
        yard.wait_kind("stays", "run.network_lost");
        let problem = yard.seat("stays").problem.expect("it is not whole");
        assert!(problem.contains("bridge") && problem.contains("CHECK"), "{problem}");
        yard.finish();
        if oci.name != "runc" {
            // Nothing of it depends on what makes the container.
            return;
        }
    }
}

fn plugins_that_go_wrong(oci: Oci) {
    let plugins = StandIns::new(&["first", "second"]);
    let Some(yard) = Yard::with(oci, plugins.setup("")) else { return };
    let list = || json!([{ "type": "first" }, { "type": "second" }]);
    network(&yard, "lan", list());
    yard.network(&["blue"]);
    yard.run(&["--network", "lan"], &["true"]).ok();
    yard.settled("lan", 0, 0);
    assert_eq!(plugins.calls(), ["ADD first", "ADD second", "DEL second", "DEL first"]);
    let rows = [
        ("Hang", "did not answer within 500 ms"),
        ("HangWithChild", "did not answer within 500 ms"),
        ("Fail", "no more today (the stand-in was told so), code 11"),
        ("FailSilently", "ended with code 3 and said nothing"),
        ("Nonsense", "gives no usable result"),
        ("Lie", "gives no usable result"),
        ("Flood", "answers more than"),
        ("Die", "ended by signal 11"),
    ];
    for (word, said) in rows {
        for plugin in ["first", "second"] {
            let case = format!("{plugin} {word}");
            plugins.does(plugin, "ADD", Some(word));
            // Others are not held up.
            let asking = yard.command(&[
                "run",
                "--oci-runtime",
                oci.name,
                "--rootfs",
                &yard.rootfs().display().to_string(),
                "--network",
                "lan",
                "--",
                "true",
            ]);
            let asking = asking.spawn();
            yard.run(&["--network", "blue"], &["true"]).ok();
            let failed = asking.end().code(125);
            let wanted = format!("the CNI plugin {plugin} {said}");
            let wanted = if word == "Fail" { format!("the CNI plugin {plugin} says: {said}") } else { wanted };
            assert!(failed.err().contains(&wanted) && failed.err().contains("network lan"), "{case}: {}", failed.err());
            plugins.does(plugin, "ADD", None);
            yard.settled("lan", 0, 0);
            yard.settled("blue", 0, 0);
            let calls = plugins.calls();
            let made = if plugin == "first" { 1 } else { 2 };
            assert_eq!(calls.iter().filter(|call| call.starts_with("ADD")).count(), made, "{case}: {calls:?}");
            // In reverse, the one that failed as well: nobody knows how far it got.
            let dels: Vec<_> = calls.iter().filter(|call| call.starts_with("DEL")).collect();
            assert!(dels.len() >= made, "{case}: {calls:?}");
            assert_eq!(dels[dels.len() - 1], "DEL first", "{case}: {calls:?}");
            yard.assert_setups(0, &case);
        }
    }
    yard.run(&["--network", "lan"], &["true"]).ok();
    yard.finish();
}

fn what_cannot_be_undone_is_tried_again(oci: Oci) {
    let plugins = StandIns::new(&["first", "second"]);
    let Some(mut yard) = Yard::with(oci, plugins.setup("")) else { return };
    network(&yard, "lan", json!([{ "type": "first" }, { "type": "second" }]));
    let seat = yard.sleeper("one", &["--network", "lan"]);
    plugins.does("first", "DEL", Some("Fail"));
    yard.end("one");
    let records = || std::fs::read_dir(yard.root().join("networks/cni")).into_iter().flatten().flatten().count();
    until("two calls of DEL", PATIENCE, || {
        let text = std::fs::read_to_string(plugins.directory.path().join("calls")).unwrap_or_default();
        (text.matches("DEL first").count() >= 2).then_some(())
    });
    assert_eq!(yard.pool("lan").leaving, 1);
    assert_eq!((machine::leases(yard.root()).len(), records()), (1, 1));
    assert!(netns(&seat).exists(), "it is there as long as there is something to undo");
    // Not even by the next daemon is it forgotten.
    yard.kill_and_start();
    assert_eq!(machine::leases(yard.root()).len(), 1);
    plugins.does("first", "DEL", None);
    yard.settled("lan", 0, 0);
    let records = std::fs::read_dir(yard.root().join("networks/cni")).into_iter().flatten().flatten().count();
    assert_eq!((machine::leases(yard.root()).len(), records), (0, 0));
    assert!(!netns(&seat).exists());
    yard.finish();
}

fn a_pool_that_cannot_be_filled(oci: Oci) {
    let plugins = StandIns::new(&["first"]);
    let Some(yard) = Yard::with(oci, plugins.setup("[pool.network.lan]\nidle = 2\n")) else { return };
    plugins.does("first", "ADD", Some("Fail"));
    network(&yard, "lan", json!([{ "type": "first" }]));
    let view = yard.until_pool("lan", "failing", |pool| pool.failures >= 3);
    assert!(view.last_failure.as_deref().is_some_and(|why| why.contains("no more today")), "{view:?}");
    let told = yard.cli(&["pool", "ls"]).ok();
    assert!(told.contains("no more today"), "{told}");
    let calls = plugins.calls().iter().filter(|call| call.starts_with("ADD")).count();
    assert!(calls < 30, "it backs off: {calls}");
    // A run has one tried for itself, and is told.
    yard.run(&["--network", "lan"], &["true"]).refused(125, "no more today");
    plugins.does("first", "ADD", None);
    let view = yard.settled("lan", 2, 0);
    assert_eq!((view.failures, view.last_failure, view.retry_in_ms), (0, None, None));
    yard.finish();
}

fn lists_that_make_no_sense(oci: Oci) {
    let plugins = StandIns::new(&["first"]);
    let Some(yard) = Yard::with(oci, plugins.setup("")) else { return };
    let rows = [
        ("not JSON", "cni"),
        (r#"{"cniVersion":"1.0.0","name":"x","plugins":[]}"#, "plugin"),
        (r#"{"cniVersion":"9.0.0","name":"x","plugins":[{"type":"first"}]}"#, "9.0.0"),
        (r#"{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"missing"}]}"#, "the CNI plugin missing is not in"),
        (r#"{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"../first"}]}"#, "first"),
    ];
    for (text, words) in rows {
        let file = yard.work().join("odd.conflist");
        std::fs::write(&file, text).expect("written");
        let refused = yard.cli(&["network", "create", "lan", "--cni", file.to_str().expect("UTF-8")]);
        assert!(matches!(refused.code, 1 | 2) && refused.err().contains(words), "{text}: {}", refused.err());
    }
    assert_eq!(yard.cli(&["--json", "network", "ls"]).json(), json!([]));
    assert!(plugins.calls().iter().all(|call| !call.starts_with("ADD")));
    yard.finish();
}
