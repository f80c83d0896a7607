//! What is refused, before anything is made, in words that say what to do.

use hostler_tests::container::{self, Oci};
use hostler_tests::{Setup, is_root, skip, with_each_oci_runtime};

with_each_oci_runtime! {
    what_is_not_there,
    what_makes_no_sense,
    other_callers,
}

fn what_is_not_there(oci: Oci) {
    let place = oci.start();
    let rootfs = place.rootfs().display().to_string();
    let cases: [(&[&str], &str); 13] = [
        (&["run", "--rootfs", "/no/such/root", "--", "true"], "/no/such/root is not a directory"),
        (&["run", "--rootfs", "/etc/passwd", "--", "true"], "/etc/passwd is not a directory"),
        (&["run", "--oci", "/no/such/bundle"], "has no config.json"),
        (
            &["run", "--oci-runtime", "no-such-runtime", "--rootfs", &rootfs, "--", "true"],
            "there is no OCI runtime no-such-runtime",
        ),
        (
            &["run", "--oci-runtime", "/no/such/runc", "--rootfs", &rootfs, "--", "true"],
            "there is no OCI runtime /no/such/runc",
        ),
        (
            &["run", "--oci-runtime", "/etc/passwd", "--rootfs", &rootfs, "--", "true"],
            "there is no OCI runtime /etc/passwd",
        ),
        (&["run", "--volume", "/no/such:/x", "--rootfs", &rootfs, "--", "true"], "/no/such does not exist"),
        (&["run", "--device", "/dev/no-such", "--rootfs", &rootfs, "--", "true"], "/dev/no-such does not exist"),
        (&["run", "--device", "/etc/passwd", "--rootfs", &rootfs, "--", "true"], "/etc/passwd"),
        (
            &["run", "--net", "/run/netns/nowhere", "--rootfs", &rootfs, "--", "true"],
            "/run/netns/nowhere does not exist",
        ),
        (&["run", "--network", "nowhere", "--rootfs", &rootfs, "--", "true"], "hostler network create nowhere"),
        (&["run", "--security-opt", "seccomp=/no/such", "--rootfs", &rootfs, "--", "true"], "/no/such does not exist"),
        (&["run", "--user", "nobody-here", "--rootfs", &rootfs, "--", "true"], "nobody-here"),
    ];
    for (command, words) in cases {
        place.cli(command).refused(125, words);
    }
    let failed = place.all().iter().filter(|view| view.phase.as_str() != "failed").count();
    assert_eq!(failed, 0, "nothing of it ran");
    place.finish();
}

fn what_makes_no_sense(oci: Oci) {
    let place = oci.start();
    let rootfs = place.rootfs().display().to_string();
    let with = |options: &[&str]| place.cli(&[&["run", "--rootfs", &rootfs], options, &["--", "true"]].concat());
    for options in [
        &["--volume", "/x"][..],
        &["--volume", "/tmp:relative"],
        &["--tmpfs", "/t:size=many"],
        &["--device", "null"],
        &["--cap-add", "EVERYTHING"],
        &["--cap-drop", "some"],
        &["--userns", "maybe"],
        &["--security-opt", "label=x"],
        &["--oci", "/also/this"],
    ] {
        with(options).code(2);
    }
    for (options, words) in [
        (&["--volume", "/tmp:/"][..], "below /"),
        (&["--volume", "/tmp:/a", "--tmpfs", "/a"], "two mounts"),
        (&["--hostname", "a b"], "hostname"),
        (&["--oci-runtime-arg", "--root=/elsewhere"], "--root"),
        (&["--oci-runtime-arg", "--log"], "--log"),
        (&["--privileged", "--cap-add", "CHOWN"], "no effect"),
        (&["--privileged", "--userns", "auto"], "userns"),
    ] {
        with(options).refused(125, words);
    }
    // Options of containers without one.
    place.cli(&["run", "--read-only", "--", "true"]).code(2);
    place.cli(&["run", "--privileged", "--", "true"]).code(2);
    let _ = oci;
    place.finish();
}

fn other_callers(oci: Oci) {
    let place = oci.start();
    let rootfs = place.rootfs().display().to_string();
    for options in [&[][..], &["--privileged"], &["--oci-runtime", oci.name]] {
        let command = [&["run", "--rootfs", &rootfs], options, &["--", "true"]].concat();
        place.command(&command).uid(4242).run().refused(125, "containers can be run by the node's owner only");
    }
    // Not even asked who it is: that would be done with the node's rights.
    let (theirs, mark, file) = (place.work().join("theirs"), place.work().join("mark"), place.work().join("s.toml"));
    std::fs::write(&theirs, format!("#!/bin/sh\ntouch {}\necho runc\n", mark.display())).expect("a program");
    std::fs::set_permissions(&theirs, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let container = format!("container = {{ rootfs = {rootfs:?}, oci_runtime = {:?} }}", theirs.display().to_string());
    std::fs::write(&file, format!("[job.j]\ncommand = \"true\"\n{container}\n")).expect("a stack");
    place
        .command(&["run", "--rootfs", &rootfs, "--oci-runtime", &theirs.to_string_lossy(), "--", "true"])
        .uid(4242)
        .run();
    let applied = place.command(&["stack", "apply", &file.to_string_lossy()]).uid(4242).run();
    assert!(applied.code != 0 && applied.err().contains("the node's owner only"), "{applied:?}");
    assert!(!mark.exists(), "it was run");
    place.detach("c", &[], "sleep 600");
    for command in [&["exec", "c", "--", "true"][..], &["pause", "c"], &["checkpoint", "create", "c"], &["kill", "c"]] {
        let done = place.command(command).uid(4242).run();
        assert_ne!(done.code, 0, "{command:?}");
    }
    let done = place.command(&["checkpoint", "ls", "--dir", "/tmp"]).uid(4242).run();
    done.refused(1, "only the node's owner");
    assert_eq!(place.inspect("c").phase.as_str(), "running");
    place.finish();
}

#[test]
fn a_node_without_root() {
    if !is_root() {
        return skip("a node of another user needs root");
    }
    let node = Setup::new().uid(4242).start();
    let root = node.work().join("root");
    if container::program("busybox").is_none() {
        skip("busybox is not installed");
        return node.finish();
    }
    container::busybox_root(&root);
    let command = ["run", "--rootfs", &root.display().to_string(), "--", "true"];
    node.command(&command).uid(4242).run().refused(125, "containers need a node that runs as root");
    node.finish();
}
