//! Daemon, agent or both die, the machine is rebooted, or somebody takes parts of a container away.

use std::collections::BTreeMap;

use hostler_api::types::CreateQuery;
use hostler_model::event::EventKind;
use hostler_model::workload::{LostReason, RunState};
use hostler_tests::container::{Oci, Place};
use hostler_tests::events::is_of;
use hostler_tests::{PATIENCE, is_alive, leaks, signal, until, until_gone, with_each_oci_runtime};

with_each_oci_runtime! {
    adopted_by_the_next_daemon,
    ended_while_nobody_looks,
    the_agent_dies,
    daemon_and_agent_die,
    after_a_reboot,
    the_daemon_dies_while_it_accepts,
    the_daemon_dies_while_it_starts,
    the_daemon_dies_while_it_hears_and_adopts,
    its_state_is_removed_by_hand,
    its_cgroups_are_removed_by_hand,
    exec_of_a_dead_daemon,
}

fn adopted_by_the_next_daemon(oci: Oci) {
    let mut place = oci.start();
    let script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done";
    let pid = place.detach("c", &["--memory", "64M", "--userns", "auto"], script);
    let mut attached = place.command(&["logs", "-f", "c"]).spawn();
    attached.line_with("line 3");
    for _ in 0..3 {
        place.kill_and_start();
        assert_eq!((place.main_pid("c"), place.inspect("c").workload.runs), (pid, 1));
        assert_eq!(place.exec("c", "echo here").ok(), "here");
    }
    drop(attached);
    // Everything can still be done with it.
    place.cli(&["pause", "c"]).ok();
    place.cli(&["resume", "c"]).ok();
    place.cli(&["update", "--memory", "96M", "c"]).ok();
    assert!(
        place.cli(&["stats", "--no-stream", "c"]).ok().contains("96.0M")
            || place.inspect("c").workload.limits.memory_bytes == Some(96 << 20)
    );
    let log = place.log_of("c");
    let numbers: Vec<u32> = log.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "lines are missing");
    place.cli(&["stop", "-t", "100ms", "c"]).ok();
    until_gone(pid);
    place.finish();
}

fn ended_while_nobody_looks(oci: Oci) {
    let mut place = oci.start();
    let pid =
        place.detach("c", &[], "echo before; until [ -e /tmp/go ]; do sleep 0.02; done; seq 1 500; echo after; exit 7");
    let oom = place.detach(
        "oom",
        &["--memory", "24M"],
        "until [ -e /tmp/go ]; do sleep 0.02; done; x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done",
    );
    let run = place.run_file("c").run;
    place.kill();
    std::fs::write(place.rootfs().join("tmp/go"), "").expect("write");
    until_gone(pid);
    until_gone(oom);
    until("the exit record", PATIENCE, || place.exit_file(run));
    place.start();
    assert_eq!(place.ended("c").exit_code, Some(7));
    let log = place.log_of("c");
    assert!(log.starts_with("before\n1\n") && log.ends_with("500\nafter"), "{log}");
    place.ended("oom");
    let RunState::Ended { exit } = place.state_of("oom") else { panic!("{:?}", place.state_of("oom")) };
    assert_eq!(exit.cause, hostler_model::Cause::Oom, "{exit:?}");
    place.finish();
}

fn the_agent_dies(oci: Oci) {
    let place = oci.start();
    for (name, options) in [("plain", &["--userns", "host"][..]), ("users", &["--userns", "auto"]), ("paused", &[])] {
        let pid = place.detach(name, options, "setsid sleep 600 & sleep 600");
        if name == "paused" {
            place.cli(&["pause", name]).ok();
        }
        signal(place.run_file(name).agent.pid, 9);
        let lost = place.wait_kind(name, "run.lost");
        assert!(matches!(lost.event.kind, EventKind::RunLost { reason: LostReason::Agent }));
        until_gone(pid);
        settled(&place, name);
        // The name can be used again at once.
        place.cli(&["rm", name]).ok();
        assert_eq!(place.sh(&["--rm", "--name", name], "echo again").ok(), "again");
    }
    let first = place.detach("svc", &["--restart", "always", "--restart-delay", "10ms"], "sleep 600");
    signal(place.run_file("svc").agent.pid, 9);
    until_gone(first);
    place.wait_event("the next start", |event| {
        is_of(event, "svc")
            && matches!(event.event.kind, EventKind::RunStarted { .. })
            && event.event.subject.as_ref().is_some_and(|subject| subject.runs == 2)
    });
    assert_ne!(place.main_pid("svc"), first);
    place.finish();
}

/// Nothing of a run that is over: state, groups, user ids, run directory.
fn settled(place: &Place, what: &str) {
    let empty =
        |name: &str| std::fs::read_dir(place.root().join(name)).map_or(true, |mut entries| entries.next().is_none());
    until(&format!("{what}: nothing left"), PATIENCE, || {
        let groups = leaks::run_groups(place.tag().expect("a tag"));
        (empty("oci") && empty("run") && empty("user-ids") && groups.is_empty()).then_some(())
    });
}

fn daemon_and_agent_die(oci: Oci) {
    let mut place = oci.start();
    let pid = place.detach("c", &["--userns", "auto"], "setsid sleep 600 & sleep 600");
    let paused = place.detach("paused", &[], "sleep 600");
    place.cli(&["pause", "paused"]).ok();
    let agents = ["c", "paused"].map(|name| place.run_file(name).agent.pid);
    place.kill();
    for agent in agents {
        signal(agent, 9);
        until_gone(agent);
    }
    // One that was killed before its run had a directory.
    std::os::unix::fs::symlink("0a1b2c3d4e5f-1", place.root().join("user-ids/7")).expect("a claim");
    place.start();
    until_gone(pid);
    until_gone(paused);
    assert!(matches!(place.state_of("c"), RunState::Lost { reason: LostReason::Agent }));
    settled(&place, "both killed");
    assert_eq!(place.sh(&["--rm"], "echo again").ok(), "again");
    place.finish();
}

fn after_a_reboot(oci: Oci) {
    let mut place = oci.start();
    let pids = [
        place.detach("job", &["--userns", "auto"], "sleep 600"),
        place.detach("svc", &["--restart", "always"], "sleep 600"),
    ];
    let agents = ["job", "svc"].map(|name| place.run_file(name).agent.pid);
    place.kill();
    for pid in agents.into_iter().chain(pids) {
        if is_alive(pid) {
            signal(pid, 9);
        }
        until_gone(pid);
    }
    assert_eq!(std::fs::read_dir(place.root().join("oci")).expect("states").count(), 2, "what a reboot leaves");
    place.start_with(&[("HOSTLER_TEST_BOOT_ID", "00000000-1111-2222-3333-555555555555")]);
    assert!(
        matches!(place.state_of("job"), RunState::Lost { reason: LostReason::Reboot }),
        "{:?}",
        place.state_of("job")
    );
    until("the service's next run", PATIENCE, || (place.inspect("svc").workload.runs == 2).then_some(()));
    place.main_pid("svc");
    let left = || std::fs::read_dir(place.root().join("oci")).expect("states").count();
    until("only the new one's state", PATIENCE, || (left() == 1).then_some(()));
    assert_eq!(std::fs::read_dir(place.root().join("user-ids")).map_or(0, Iterator::count), 0);
    place.cli(&["rm", "-f", "svc"]).ok();
    place.finish();
}

fn effects(place: &Place) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(place.rootfs().join("tmp/effects")).unwrap_or_default();
    let mut counts = BTreeMap::new();
    text.lines().for_each(|line| *counts.entry(line.to_owned()).or_insert(0) += 1);
    counts
}

/// The daemon dies at each of these points, and what was accepted happens once.
fn survive(oci: Oci, points: &[&str]) {
    let mut place = oci.start();
    place.kill();
    for point in points {
        for hit in [1, 2] {
            let name = format!("{point}-{hit}");
            let came_up = place.start_or_die(&[("HOSTLER_TEST_FAILPOINT", &format!("{point}:{hit}"))]);
            if came_up {
                // Asked once: the command would ask the next daemon again.
                let mut spec = place.script("echo $HOSTLER_NAME >>/tmp/effects; exit 3");
                (spec.name, spec.workdir) = (Some(name.parse().expect("a name")), None);
                spec.container = Some(Box::new(place.container()));
                match place.block_on(place.api().create(&spec, &CreateQuery::default(), None)) {
                    Err(error) if !error.is_disconnect() => panic!("{name}: {error}"),
                    _ => {}
                }
            }
            place.wait_daemon_end_or_kill();
            place.start();
            let known = place.all().iter().any(|view| view.workload.name.as_str() == name);
            if known {
                assert_eq!(place.ended(&name).exit_code, Some(3), "{name}: {:?}", place.state_of(&name));
            }
            assert_eq!(effects(&place).get(&name).copied().unwrap_or(0), usize::from(known), "{name}");
            settled(&place, &name);
            place.kill();
        }
    }
    place.start();
    place.finish();
}

fn the_daemon_dies_while_it_accepts(oci: Oci) {
    survive(oci, &["decided", "prepared", "committed", "before-answer"]);
}

fn the_daemon_dies_while_it_starts(oci: Oci) {
    survive(oci, &["before-execute", "executed", "started"]);
}

fn the_daemon_dies_while_it_hears_and_adopts(oci: Oci) {
    survive(oci, &["exited", "adopted", "before-release"]);
}

fn its_state_is_removed_by_hand(oci: Oci) {
    let place = oci.start();
    let pid = place.detach("c", &[], "sleep 600");
    for entry in std::fs::read_dir(place.root().join("oci")).expect("states").flatten() {
        std::fs::remove_dir_all(entry.path()).expect("remove");
    }
    let refused = place.exec("c", "true").code(125);
    assert!(refused.err().contains(&format!("{} could not execute in the container", oci.name)), "{}", refused.err());
    // What needs no OCI runtime goes on, and so does the end.
    place.cli(&["pause", "c"]).ok();
    place.cli(&["resume", "c"]).ok();
    place.cli(&["stop", "-t", "100ms", "c"]).ok();
    until_gone(pid);
    place.finish();
}

fn its_cgroups_are_removed_by_hand(oci: Oci) {
    let place = oci.start();
    let pid = place.detach("c", &["--memory", "64M"], "sleep 600 & sleep 600");
    for group in leaks::run_groups(place.tag().expect("a tag")) {
        let parent = group.parent().expect("a group is in another");
        let members = std::fs::read_to_string(group.join("cgroup.procs")).expect("members");
        for member in members.lines() {
            let above = parent.ancestors().find(|above| std::fs::write(above.join("cgroup.procs"), member).is_ok());
            assert!(above.is_some(), "{member} stays in {}", group.display());
        }
        std::fs::remove_dir(&group).unwrap_or_else(|error| panic!("{}: {error}", group.display()));
    }
    place.cli(&["pause", "c"]).code(1);
    place.cli(&["stats", "--no-stream", "c"]);
    place.cli(&["kill", "c"]).ok();
    place.ended("c");
    until_gone(pid);
    place.finish();
}

/// A second program goes on without a daemon, and its end is told by the next one.
fn exec_of_a_dead_daemon(oci: Oci) {
    let mut place = oci.start();
    place.detach("c", &[], "sleep 600");
    let script = "echo ready; until [ -e /tmp/go ]; do sleep 0.02; done; exit 6";
    let mut exec = place.command(&["exec", "c", "--", "sh", "-c", script]).spawn();
    exec.line_with("ready");
    place.kill();
    std::fs::write(place.rootfs().join("tmp/go"), "").expect("write");
    place.start();
    let told = place.wait_kind("c", "exec.exited");
    let EventKind::ExecExited { exit, .. } = &told.event.kind else { panic!("{told:?}") };
    assert_eq!(exit.status, hostler_model::ExitStatus::Code(6));
    drop(exec);
    place.finish();
}
