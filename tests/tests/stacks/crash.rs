//! The daemon dies in between; startup files; the node goes down with its workloads.

use hostler_tests::events::assert_history;
use hostler_tests::node::Setup;
use hostler_tests::{PATIENCE, TestNode, until};

use super::{apply, order, reason, states, touch, unit, until_state, until_view, view, write};

/// Five in a chain; each leaves a line for each time that it is executed.
fn chain() -> String {
    let unit = |n: u32| {
        let requires = if n == 0 { String::new() } else { format!("requires = \"u{}\"\n", n - 1) };
        format!(
            "[service.u{n}]\ncommand = \"echo u{n} >>order; exec sleep 600\"\nworkdir = \".\"\nready.delay = \"30ms\"\n{requires}"
        )
    };
    (0..5).map(unit).collect()
}

#[test]
fn a_daemon_that_dies_in_the_middle_of_an_apply_goes_on_with_it() {
    let mut node = TestNode::new();
    node.kill();
    // In the middle of different commits: of the acceptance, of the starts, of the facts that follow.
    for (index, hit) in [2, 4, 6, 9, 12].into_iter().enumerate() {
        let name = format!("s{index}");
        node.start_or_die(&[("HOSTLER_TEST_FAILPOINT", &format!("committed:{hit}"))]);
        let path = write(&node, &name, &chain());
        // It may die before it has answered; then it is asked again.
        let applying = node.command(&["stack", "apply", "-d", path.to_str().expect("a path")]).spawn();
        node.wait_daemon_end_or_kill();
        drop(applying);
        let _ = std::fs::remove_file(node.work().join("order"));
        node.start();
        if node.block_on(node.api().stack(&name)).is_err() {
            apply(&node, &name, &chain());
        }
        let settled = until_view(&node, &name, "an end", |view| view.settled);
        assert!(settled.units.iter().all(|unit| unit.state.as_str() == "ready"), "{settled:?}");
        assert!(settled.units.iter().all(|unit| unit.members.len() == 1 && unit.members[0].runs == 1), "{settled:?}");
        node.cli(&["stack", "down", &name]).ok();
        node.kill();
    }
    node.start();
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn a_stack_is_not_disturbed_by_a_dead_daemon_and_its_deadlines_hold() {
    let mut node = TestNode::new();
    let text = chain()
        + "[service.slow]\ncommand = [\"sleep\", \"600\"]\nworkdir = \".\"\nready = { exec = \"test -e there\", interval = \"20ms\" }\n\
           [service.never]\ncommand = [\"sleep\", \"600\"]\nready = { exec = [\"false\"], deadline = \"700ms\" }\n";
    apply(&node, "s", &text);
    until_state(&node, "s", "u4", "ready");
    let pids: Vec<u32> = (0..5).map(|n| node.main_pid(&format!("s.u{n}"))).collect();
    node.kill();
    touch(&node, "there");
    node.start();
    // Its probes go on.
    until_state(&node, "s", "slow", "ready");
    assert_eq!(reason(&until_state(&node, "s", "never", "failed")), "it was not ready within 700ms");
    assert_eq!((0..5).map(|n| node.main_pid(&format!("s.u{n}"))).collect::<Vec<_>>(), pids);
    node.cli(&["stack", "down", "s"]).ok();
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn a_stack_going_down_goes_on_after_a_crash() {
    let mut node = TestNode::new();
    apply(&node, "s", &chain());
    until_state(&node, "s", "u4", "ready");
    node.cli(&["stack", "down", "-d", "s"]).ok();
    node.kill_and_start();
    until("the end of the stack", PATIENCE, || {
        node.block_on(node.api().stacks()).ok()?.stacks.is_empty().then_some(())
    });
    assert!(node.all().is_empty());
    node.finish();
}

#[test]
fn after_a_reboot_everything_starts_along_the_graph() {
    let mut node = TestNode::new();
    let text = chain()
        + "[job.once]\ncommand = \"echo once >>order\"\nworkdir = \".\"\n[service.last]\ncommand = \"echo last >>order; exec sleep 600\"\nworkdir = \".\"\nrequires = [\"u4\", \"once\"]\n";
    apply(&node, "s", &text);
    until_state(&node, "s", "last", "ready");
    let pids: Vec<u32> = (0..5).map(|n| node.main_pid(&format!("s.u{n}"))).chain([node.main_pid("s.last")]).collect();
    let agents: Vec<u32> =
        ["s.u0", "s.u1", "s.u2", "s.u3", "s.u4", "s.last"].iter().map(|name| node.run_file(name).agent.pid).collect();
    node.kill();
    // What a reboot does, as far as processes are concerned.
    for agent in agents {
        hostler_tests::signal(agent, 9);
    }
    for pid in pids {
        hostler_tests::until_gone(pid);
    }
    std::fs::remove_file(node.work().join("order")).expect("remove");
    node.start_with(&[("HOSTLER_TEST_BOOT_ID", "another-boot")]);
    until_view(&node, "s", "all again", |view| {
        view.settled && view.units.iter().all(|unit| unit.state.as_str() == "ready")
    });
    until("all to have come", PATIENCE, || (order(&node).len() >= 6).then_some(()));
    assert_eq!(
        order(&node),
        ["u0", "u1", "u2", "u3", "u4", "last"],
        "in order, and the job that was done is not done again"
    );
    node.cli(&["stack", "down", "s"]).ok();
    node.finish();
}

#[test]
fn the_node_takes_its_stacks_down_in_order_and_brings_them_back() {
    let mut node = TestNode::new();
    let unit = |name: &str, more: &str| {
        let script =
            format!("echo +{name} >>order; trap 'echo -{name} >>order; exit 0' TERM; while :; do sleep 0.02; done");
        format!("[service.{name}]\ncommand = \"\"\"{script}\"\"\"\nworkdir = \".\"\nready.delay = \"50ms\"\n{more}\n")
    };
    apply(&node, "s", &(unit("db", "") + &unit("api", "requires = \"db\"") + &unit("web", "requires = \"api\"")));
    until_state(&node, "s", "web", "ready");
    node.cli(&["down", "--stop-workloads"]).ok();
    assert!(node.wait_daemon_end().success());
    assert_eq!(order(&node), ["+db", "+api", "+web", "-web", "-api", "-db"]);
    node.start();
    until_state(&node, "s", "web", "ready");
    assert_eq!(order(&node)[6..], ["+db", "+api", "+web"]);
    node.cli(&["stack", "down", "s"]).ok();
    node.finish();
}

#[test]
fn startup_files_start_with_the_node_and_a_broken_one_keeps_nobody_back() {
    let mut node = Setup::new().make();
    let directory = node.root().join("startup.d");
    std::fs::create_dir(&directory).expect("mkdir");
    let file = |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("write");
    file("10-base.toml", "name = \"base\"\n[service.a]\ncommand = [\"sleep\", \"600\"]\nenv_file = \"a.env\"\n");
    std::fs::write(directory.join("a.env"), "COLOUR=blue\n").expect("write");
    file("20-broken.toml", "[service.x\n");
    file(
        "30-partly.toml",
        "name = \"partly\"\n[service.good]\ncommand = [\"sleep\", \"600\"]\n[service.bad]\ncommand = \"x\"\nafter = \"nobody\"\n",
    );
    node.start();
    until_state(&node, "base", "a", "ready");
    until_state(&node, "partly", "good", "ready");
    assert_eq!(node.inspect("base.a").workload.spec.env, vec!["COLOUR=blue".into()]);
    until("both broken files", PATIENCE, || {
        let list = node.block_on(node.api().stacks()).expect("a list");
        (list.broken.len() == 2).then_some(())
    });
    let ls = node.cli(&["stack", "ls"]).code(0);
    assert!(ls.err().contains("20-broken.toml") && ls.err().contains("service.bad.after"), "{}", ls.err());
    assert!(node.daemon_log().contains("20-broken.toml"));
    let doctor = node.cli(&["doctor"]);
    assert!(doctor.out().contains("startup files"), "{}", doctor.out());
    // Stopped by hand, it stays so when the daemon comes again; what is unchanged is left alone.
    let good = node.main_pid("partly.good");
    node.cli(&["stop", "base.a"]).ok();
    node.kill_and_start();
    until("the files to be applied", PATIENCE, || (view(&node, "partly").revision == 2).then_some(()));
    assert_eq!(states(&view(&node, "base")), [("a", "stopped")]);
    assert_eq!(unit(&node, "partly", "good").members[0].pid, Some(good));
    node.cli(&["stack", "down", "base", "partly"]).ok();
    std::fs::remove_dir_all(directory).expect("remove");
    node.finish();
}
