//! Guests that do not come up, and starts that are taken back: what is said, and what is left.

use hostler_model::workload::Phase;
use hostler_tests::{Host, PATIENCE, Setup, guest, until, until_gone};

#[test]
fn kernels_that_do_not_boot() {
    let Some(host) = Host::start() else { return };
    let at = |name: &str| host.work().join(name).display().to_string();
    std::fs::write(at("garbage"), b"no kernel \x1b[31m at all\n".repeat(1000)).expect("write");
    std::fs::write(at("empty"), "").expect("write");
    let kernel = std::fs::read(guest::kernel()).expect("a kernel");
    std::fs::write(at("half"), &kernel[..kernel.len() / 64]).expect("write");
    for name in ["garbage", "empty", "half"] {
        let done = host.run(&["--kernel", &at(name), "--boot-timeout", "2s"], &["true"]).code(125);
        assert!(done.err().contains("qemu"), "{name}: {}", done.err());
        assert!(!done.err().contains('\x1b'), "{name}: {:?}", done.err());
        host.until_no_guest(name);
    }
    host.run(&["--kernel", &at("none")], &["true"]).refused(125, "vm.kernel");
    host.finish();
}

#[test]
fn a_guest_that_never_answers() {
    let Some(host) = Host::start() else { return };
    let began = std::time::Instant::now();
    let options = ["--name", "slow", "--boot-timeout", "600ms", "--kernel-args", "loglevel=7"];
    let done = host.run(&options, &["true"]).refused(125, "within 600ms, 2 times");
    assert!(done.err().contains("console ends with"), "{}", done.err());
    assert!(began.elapsed().as_secs() < 8, "{:?}", began.elapsed());
    assert_eq!(host.inspect("slow").phase, Phase::Failed);
    assert!(!host.history("slow").contains(&"run.started".to_owned()));
    host.until_no_guest("it never answered");
    // A kernel that has no first process says so before the time is over.
    let options = ["--kernel-args", "rdinit=/no/init init=/no/init"];
    let done = host.run(&options, &["true"]).code(125);
    assert!(done.err().contains("Kernel panic - not syncing"), "{}", done.err());
    host.finish();
}

#[test]
fn a_start_is_taken_back() {
    let Some(host) = Host::start() else { return };
    for command in [&["rm", "-f"][..], &["stop"], &["kill"]] {
        let name = format!("by-{}", command[0]);
        let running = host.command(&["run", "--vm", "--name", &name, "--", "sleep", "600"]).spawn();
        let vmm = host.until_boot();
        host.cli(&[command, &[&name]].concat());
        until_gone(vmm);
        assert_ne!(running.end().code, 0, "{name}");
        host.until_no_guest(&name);
    }
    // The one who asked is gone before the guest is there.
    let running = host.command(&["run", "--rm", "--vm", "--name", "left", "--", "sleep", "600"]).spawn();
    let vmm = host.until_boot();
    running.signal(15);
    drop(running);
    until("the end of it", PATIENCE, || host.cli(&["inspect", "left"]).code.ne(&0).then_some(()));
    until_gone(vmm);
    // Asked to go while a guest boots, the node leaves nothing.
    let waits = host.command(&["run", "-d", "--vm", "--name", "down", "--", "sleep", "600"]).spawn();
    host.until_boot();
    host.cli(&["stop", "-t", "0s", "down"]);
    waits.end();
    host.finish();
}

#[test]
fn a_kernel_of_ones_own_and_none_of_ours() {
    let Some(host) = Host::start() else { return };
    let kernel = guest::kernel().display().to_string();
    let options = ["--kernel", &kernel, "--kernel-args", "with=these words=too"];
    assert_eq!(
        host.run(&options, &["grep", "-o", "with=these words=too", "/proc/cmdline"]).ok(),
        "with=these words=too"
    );
    // Without an agent in it the console is the output, and the end of the machine is the end.
    let options = ["--name", "bare", "--kernel", &kernel, "--no-agent", "--kernel-args", "loglevel=7"];
    let done = host.run(&options, &[]);
    let said = format!("{}{}", done.out(), done.err());
    assert!(said.contains("Kernel panic") || said.contains("Linux version"), "{said}");
    host.cli(&["stop", "-t", "0s", "bare"]);
    host.ended("bare");
    host.finish();
}

#[test]
fn what_a_node_lacks() {
    if guest::config().is_none() {
        return;
    }
    let node = Setup::new().start();
    node.cli(&["run", "--vm", "--", "true"]).refused(125, "hostler vm setup");
    node.finish();
    let config = format!("{}qemu = \"/no/such/qemu\"\n", guest::config().expect("asked before"));
    let node = Setup::new().config(&config).start();
    node.cli(&["run", "--vm", "--", "true"]).refused(125, "qemu");
    node.cli(&["run", "--vm", "--vmm", "firecracker", "--", "true"]).refused(125, "firecracker");
    node.finish();
    // One that only looks like it.
    let config = format!("{}qemu = \"/bin/false\"\n", guest::config().expect("asked before"));
    let node = Setup::new().config(&config).start();
    let done = node.cli(&["run", "--vm", "--name", "f", "--", "true"]).code(125);
    assert!(done.err().contains("ended before the agent in the guest answered"), "{}", done.err());
    assert!(!matches!(node.inspect("f").phase, Phase::Ended));
    node.finish();
}
