//! What is refused, the form of the interface, nodes side by side, and that many guests one after another leave nothing.

use hostler_tests::{Host, leaks};
use serde_json::{Value, json};

#[test]
fn flags_of_containers_are_refused() {
    let Some(host) = Host::start() else { return };
    let cases: [&[&str]; 14] = [
        &["--tmpfs", "/x"],
        &["--cap-add", "KILL"],
        &["--cap-drop", "ALL"],
        &["--device", "/dev/null"],
        &["--userns", "auto"],
        &["--privileged"],
        &["--oci-runtime", "runc"],
        &["--no-pivot"],
        &["--isolate"],
        &["--oci", "/x"],
        &["--landlock", "read:/"],
        &["--hide-path", "/etc"],
        &["--private-tmp", "yes"],
        &["--security-opt", "seccomp=unconfined"],
    ];
    for options in cases {
        let done = host.run(options, &["true"]);
        assert!(matches!(done.code, 2 | 125), "{options:?}: {} {}", done.code, done.err());
        assert!(done.err().contains(options[0]), "{options:?}: {}", done.err());
    }
    for (options, word) in [
        (&["--memory", "10M"][..], "vm.memory_bytes"),
        (&["--vcpus", "0"], "vm.vcpus"),
        (&["--boot-timeout", "1ms"], "vm.boot_max_ms"),
        (&["--net", "host"], "vm.network"),
        (&["--kernel-args", "a\nb"], "vm.kernel_args"),
        (&["--stdout", "/tmp/x"], "stdio.stdout"),
        (&["--user", "web"], "web"),
    ] {
        host.run(options, &["true"]).refused(125, word);
    }
    // None of it without --vm.
    for options in [&["--vcpus", "2"][..], &["--kernel", "/k"], &["--boot-timeout", "3s"]] {
        let done = host.cli(&[&["run"], options, &["--", "true"]].concat());
        assert_eq!(done.code, 2, "{options:?}: {}", done.err());
    }
    assert_eq!(host.all().len(), 0);
    host.command(&["run", "--vm", "--", "true"]).uid(4242).run().refused(125, "owner");
    host.finish();
}

#[test]
fn a_spec_goes_through_the_interface() {
    let Some(host) = Host::start() else { return };
    let vm = json!({ "vmm": "qemu", "vcpus": 2, "memory_bytes": 100 << 20, "hostname": "box", "boot_max_ms": 9000 });
    let spec = json!({ "name": "asked", "command": ["sh", "-c", "hostname; exit 2"], "vm": vm });
    let made = host.post(&spec.to_string());
    assert_eq!(made.status, 201, "{}", made.text());
    let view = host.ended("asked");
    assert_eq!(view.exit_code, Some(2));
    assert_eq!(host.log_of("asked"), "box");
    let shown: Value = host.cli(&["inspect", "asked"]).json();
    assert_eq!(shown[0]["spec"]["vm"], vm);
    // What is told can be asked again.
    let mut again = shown[0]["spec"].clone();
    again["name"] = json!("again");
    assert_eq!(host.post(&again.to_string()).status, 201);
    assert_eq!(host.ended("again").exit_code, Some(2));
    for (key, value, word) in [
        ("colour", json!(1), "colour"),
        ("vmm", json!("xen"), "xen"),
        ("vcpus", json!(200), "vm.vcpus"),
        ("memory_bytes", json!(5), "vm.memory_bytes"),
        ("kernel", json!("../k"), "vm.kernel"),
        ("volumes", json!([{ "source": "/etc", "target": "/a/../../b" }]), "vm.volumes"),
        ("rootfs", json!("/x\0y"), "vm.rootfs"),
    ] {
        let mut bad = spec.clone();
        bad["name"] = json!("bad");
        bad["vm"][key] = value;
        let refused = host.post(&bad.to_string());
        assert!((400..500).contains(&refused.status), "{key}: {}", refused.status);
        assert!(refused.text().contains(word), "{key}: {}", refused.text());
    }
    host.finish();
}

#[test]
fn nodes_side_by_side() {
    let (Some(one), Some(mut other)) = (Host::start(), Host::start()) else { return };
    let pids = [&one, &other].map(|host| host.detach("same", &[], "hostname; exec sleep 600"));
    assert_ne!(pids[0], pids[1]);
    other.kill_and_start();
    assert_eq!([&one, &other].map(|host| host.main_pid("same")), pids);
    one.cli(&["rm", "-f", "same"]).ok();
    hostler_tests::until_gone(pids[0]);
    assert_eq!(other.exec("same", "echo here").ok(), "here");
    one.finish();
    assert_eq!(other.exec("same", "echo here").ok(), "here");
    other.finish();
}

#[test]
fn many_one_after_another_leave_nothing() {
    let Some(host) = Host::start() else { return };
    host.run(&[], &["true"]).ok();
    host.until_no_guest("the first");
    let daemon = host.pid();
    let descriptors = || std::fs::read_dir(format!("/proc/{daemon}/fd")).expect("the daemon's").count();
    let before = descriptors();
    for round in 0..20_u8 {
        // Some end well, some badly, some are killed, some do not boot.
        match round % 4 {
            0 => drop(host.sh(&["--rm"], "exit 0").code(0)),
            1 => drop(host.sh(&["--rm"], "exit 9").code(9)),
            2 => {
                host.detach("k", &[], "exec sleep 600");
                host.cli(&["rm", "-f", "k"]).ok();
            }
            _ => drop(host.run(&["--rm", "--boot-timeout", "100ms"], &["true"]).code(125)),
        }
    }
    host.until_no_guest("after twenty");
    assert!(leaks::vmms(host.root()).is_empty());
    let after = hostler_tests::until("descriptors that are closed", hostler_tests::PATIENCE, || {
        Some(descriptors()).filter(|count| *count <= before + 2)
    });
    assert!(after <= before + 2, "{before} descriptors before, {after} after");
    let cached = host.directories("vm/cache");
    assert!(cached.len() <= 2, "{cached:?}");
    host.finish();
}
