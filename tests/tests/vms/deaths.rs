//! The daemon, the VMM, the agent of this side or the guest's kernel dies, or memory runs out: what is told, and what is left.

use hostler_api::types::CreateQuery;
use hostler_model::Cause;
use hostler_model::event::EventKind;
use hostler_model::workload::{LostReason, RunState};
use hostler_tests::{Host, PATIENCE, signal, until, until_gone};

#[test]
fn adopted_by_the_next_daemon() {
    let Some(mut host) = Host::start() else { return };
    let vmm = host.detach("c", &[], "i=0; while :; do i=$((i + 1)); echo line $i; sleep 0.02; done");
    until("its words", PATIENCE, || host.log_of("c").contains("line 3").then_some(()));
    for _ in 0..2 {
        host.kill_and_start();
        assert_eq!((host.main_pid("c"), host.inspect("c").workload.runs), (vmm, 1));
        assert_eq!(host.exec("c", "echo here; exit 3").code(3).out(), "here\n");
    }
    assert!(host.cli(&["top", "c"]).ok().contains("line"), "processes of the guest");
    host.cli(&["pause", "c"]).ok();
    host.kill_and_start();
    host.cli(&["resume", "c"]).ok();
    host.cli(&["stop", "-t", "100ms", "c"]).ok();
    until_gone(vmm);
    let log = host.log_of("c");
    let numbers: Vec<u32> = log.lines().map(|line| line[5..].parse().expect("a number")).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "lines are missing: {log}");

    // It ends while nobody looks.
    host.detach("unseen", &[], "echo before; sleep 0.5; seq 1 500; echo after; exit 7");
    let run = host.run_file("unseen").run;
    host.kill();
    until("the exit record", PATIENCE, || host.exit_file(run));
    host.start();
    assert_eq!(host.ended("unseen").exit_code, Some(7));
    assert!(host.log_of("unseen").ends_with("499\n500\nafter"));
    host.finish();
}

#[test]
fn the_daemon_dies_while_the_guest_boots() {
    let Some(mut host) = Host::start() else { return };
    let running = host.command(&["run", "--vm", "--name", "boots", "--", "sh", "-c", "echo booted; exit 6"]).spawn();
    host.until_boot();
    host.kill_and_start();
    assert_eq!(host.ended("boots").exit_code, Some(6), "{:?}", host.state_of("boots"));
    assert_eq!(host.log_of("boots"), "booted");
    assert_eq!(running.end().code(6).out(), "booted");
    host.until_no_guest("after a boot that was adopted");
    // And once more, and the next daemon is asked to take it back.
    let running = host.command(&["run", "--vm", "--name", "back", "--", "sleep", "600"]).spawn();
    let vmm = host.until_boot();
    host.kill_and_start();
    host.cli(&["rm", "-f", "back"]).ok();
    until_gone(vmm);
    assert_ne!(running.end().code, 0);
    host.finish();
}

/// The daemon dies at each of these points, and what was accepted happens once, or is told not to have happened.
fn survive(points: &[(&str, u32)]) {
    /// A guest boots and ends in less; a point that is not reached by then will not be.
    const LIFE: std::time::Duration = std::time::Duration::from_secs(12);
    let Some(mut host) = Host::start() else { return };
    host.kill();
    let mut known = 0;
    for (point, hit) in points {
        let came_up = host.start_or_die(&[("HOSTLER_TEST_FAILPOINT", &format!("{point}:{hit}"))]);
        let point = &*format!("{point}-{hit}");
        if came_up {
            let mut spec = host.script("echo happened; exit 3");
            (spec.name, spec.workdir) = (Some(point.parse().expect("a name")), None);
            spec.vm = Some(Box::default());
            match host.block_on(host.api().create(&spec, &CreateQuery::default(), None)) {
                Err(error) if !error.is_disconnect() => panic!("{point}: {error}"),
                _ => {}
            }
        }
        // Perhaps only at the end of the guest.
        assert!(host.wait_daemon_end_or_kill_after(LIFE), "{point} was not reached");
        host.start();
        if host.all().iter().any(|view| view.workload.name.as_str() == point) {
            assert_eq!(host.ended(point).exit_code, Some(3), "{point}: {:?}", host.state_of(point));
            assert_eq!(host.log_of(point), "happened", "{point}");
            known += 1;
        }
        host.until_no_guest(point);
        host.kill();
    }
    host.start();
    assert!(known > 0, "nothing was ever accepted");
    host.finish();
}

#[test]
fn the_daemon_dies_while_it_accepts() {
    survive(&[
        ("decided", 1),
        ("decided", 2),
        ("prepared", 1),
        ("committed", 1),
        ("committed", 2),
        ("before-answer", 1),
    ]);
}

#[test]
fn the_daemon_dies_while_it_starts_and_hears() {
    survive(&[("before-execute", 1), ("executed", 1), ("started", 1), ("exited", 1), ("before-release", 1)]);
}

#[test]
fn the_machine_dies() {
    let Some(host) = Host::start() else { return };
    let vmm = host.detach("killed", &[], "echo words; exec sleep 600");
    until("its words", PATIENCE, || (host.log_of("killed") == "words").then_some(()));
    let mut exec = host.command(&["exec", "killed", "--", "sh", "-c", "echo ready; exec sleep 600"]).spawn();
    exec.line_with("ready");
    signal(vmm, 9);
    let exit = host.exit_of("killed");
    assert_eq!((exit.cause, exit.status.shell_code()), (Cause::Machine, 137), "{exit:?}");
    assert_eq!(exit.note.as_deref(), Some("qemu was killed by SIGKILL, and not by hostler"));
    assert_ne!(exec.end().code, 0);
    host.until_no_guest("the VMM was killed");

    // The kernel of the guest gives up.
    let done =
        host.sh(&["--name", "panic"], "echo before; sleep 0.2; echo c >/proc/sysrq-trigger; sleep 600").code(137);
    assert_eq!(done.out(), "before\n");
    let exit = host.exit_of("panic");
    let note = exit.note.as_deref().unwrap_or_default();
    assert!(
        exit.cause == Cause::Machine && note.contains("Kernel panic - not syncing: sysrq triggered crash"),
        "{exit:?}"
    );
    assert!(done.err().contains("sysrq triggered crash"), "{}", done.err());

    // A program in it switches it off: the machine has ended, and the program did not say how it did.
    host.sh(&["--name", "off"], "echo o >/proc/sysrq-trigger; sleep 600").code(137);
    let exit = host.exit_of("off");
    assert!(exit.cause == Cause::Machine && exit.note.is_some_and(|note| note.contains("ended by itself")));

    // A service goes on in another machine.
    let first = host.detach("svc", &["--restart", "always", "--restart-delay", "10ms"], "exec sleep 600");
    signal(first, 9);
    until("the next run", PATIENCE, || (host.inspect("svc").workload.runs == 2).then_some(()));
    assert_ne!(host.main_pid("svc"), first);
    host.finish();
}

#[test]
fn the_agent_dies() {
    let Some(mut host) = Host::start() else { return };
    let vmm = host.detach("c", &[], "exec sleep 600");
    signal(host.run_file("c").agent.pid, 9);
    let lost = host.wait_kind("c", "run.lost");
    assert!(matches!(lost.event.kind, EventKind::RunLost { reason: LostReason::Agent }));
    until_gone(vmm);
    host.until_no_guest("the agent was killed");
    host.cli(&["rm", "c"]).ok();

    // While the guest boots.
    let running = host.command(&["run", "--vm", "--name", "boots", "--", "sleep", "600"]).spawn();
    let vmm = host.until_boot();
    let agent = hostler_linux::procfs::stats(vmm).expect("the VMM is there").ppid;
    signal(agent, 9);
    until_gone(vmm);
    assert_ne!(running.end().code, 0);
    host.until_no_guest("the agent was killed while the guest booted");

    // Together with the daemon.
    let vmm = host.detach("both", &[], "exec sleep 600");
    let agent = host.run_file("both").agent.pid;
    host.kill();
    signal(agent, 9);
    until_gone(agent);
    host.start();
    until_gone(vmm);
    assert!(matches!(host.state_of("both"), RunState::Lost { reason: LostReason::Agent }));
    host.until_no_guest("both were killed");

    // With all of the machine.
    let vmm = host.detach("all", &[], "exec sleep 600");
    let agent = host.run_file("all").agent.pid;
    host.kill();
    for pid in [agent, vmm] {
        if hostler_tests::is_alive(pid) {
            signal(pid, 9);
        }
        until_gone(pid);
    }
    host.start_with(&[("HOSTLER_TEST_BOOT_ID", "00000000-1111-2222-3333-555555555555")]);
    assert!(
        matches!(host.state_of("all"), RunState::Lost { reason: LostReason::Reboot }),
        "{:?}",
        host.state_of("all")
    );
    host.until_no_guest("after a reboot");
    host.finish();
}

#[test]
fn memory_runs_out() {
    let Some(host) = Host::start() else { return };
    host.sh(&["--name", "main"], "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done").code(137);
    let exit = host.exit_of("main");
    assert_eq!((exit.cause, exit.oom_kills), (Cause::Oom, 1), "{exit:?}");
    // A second program runs out of it, and the first goes on.
    host.detach("c", &["--memory", "96M"], "exec sleep 600");
    host.exec("c", "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done").code(137);
    assert_eq!(host.exec("c", "echo here").ok(), "here");
    host.wait_kind("c", "run.oom");
    host.cli(&["kill", "c"]).ok();
    host.finish();
}
