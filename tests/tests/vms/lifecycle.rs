//! From start to end as it is asked for: stop, kill, pause, restarts, time limits, the order of events, numbers.

use hostler_model::workload::Phase;
use hostler_model::{Cause, ExitStatus};
use hostler_tests::{Host, PATIENCE, until};

#[test]
fn stop_and_kill() {
    let Some(host) = Host::start() else { return };
    // It hears the first signal and stays.
    let trap = "trap 'echo heard' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done";
    host.detach("stays", &[], trap);
    until("its trap", PATIENCE, || host.log_of("stays").contains("ready").then_some(()));
    host.cli(&["kill", "--signal", "USR1", "stays"]).ok();
    until("the signal", PATIENCE, || host.log_of("stays").contains("usr1").then_some(()));
    host.cli(&["stop", "-t", "300ms", "stays"]).ok();
    let exit = host.exit_of("stays");
    assert_eq!((exit.status.shell_code(), exit.cause), (137, Cause::Killed));
    assert!(host.log_of("stays").contains("heard"));
    assert_eq!(
        host.history("stays"),
        ["workload.created", "run.created", "run.started", "workload.stopping", "run.exited"],
    );
    host.until_no_guest("stopped");

    // It leaves when it is asked to.
    host.detach("leaves", &[], "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done");
    until("its trap", PATIENCE, || host.log_of("leaves").contains("ready").then_some(()));
    host.cli(&["stop", "leaves"]).ok();
    let exit = host.exit_of("leaves");
    assert_eq!(exit.status, ExitStatus::Code(5));
    assert_eq!(host.log_of("leaves"), "ready\nbye");

    host.detach("gone", &[], "sleep 600 & exec sleep 600");
    host.cli(&["kill", "gone"]).ok();
    let exit = host.exit_of("gone");
    assert_eq!((exit.status.shell_code(), exit.cause), (137, Cause::Killed));
    host.finish();
}

#[test]
fn a_paused_guest_stands_still() {
    let Some(host) = Host::start() else { return };
    let vmm = host.detach("c", &[], "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.02; done");
    until("its first words", PATIENCE, || host.log_of("c").contains('3').then_some(()));
    host.cli(&["pause", "c"]).ok();
    assert_eq!(host.inspect("c").phase, Phase::Paused);
    let ticks = || hostler_linux::procfs::stats(vmm).map(|stats| stats.cpu_us).expect("the VMM is there");
    // What was on its way when it was paused may still come.
    let mut last = (ticks(), host.log_of("c"));
    until("standing still", PATIENCE, || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let now = (ticks(), host.log_of("c"));
        (std::mem::replace(&mut last, now.clone()) == now).then_some(())
    });
    let before = last.1.lines().count();
    // What only the guest knows is refused at once, and not waited for.
    for command in [&["top", "c"][..], &["stats", "--no-stream", "c"], &["exec", "c", "--", "true"]] {
        let done = host.cli(command);
        assert!(done.code != 0 && done.err().contains("is paused"), "{command:?}: {}", done.err());
    }
    host.cli(&["resume", "c"]).ok();
    until("going on", PATIENCE, || (host.log_of("c").lines().count() > before + 3).then_some(()));
    assert_eq!(host.exec("c", "echo here").ok(), "here");
    let log = host.log_of("c");
    let numbers: Vec<u32> = log.lines().map(|line| line.parse().expect("a number")).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "lines are missing: {log}");
    // One that stands still can be stopped.
    host.cli(&["pause", "c"]).ok();
    host.cli(&["stop", "-t", "200ms", "c"]).ok();
    assert_eq!(host.exit_of("c").cause, Cause::Killed);
    host.finish();
}

#[test]
fn restarts_and_time_limits() {
    let Some(host) = Host::start() else { return };
    host.sh(&["-d", "--name", "again", "--restart", "on-failure:2", "--restart-delay", "10ms"], "echo run; exit 3")
        .ok();
    until("its last run", PATIENCE * 2, || (host.inspect("again").workload.runs == 3).then_some(()));
    assert_eq!(host.ended("again").exit_code, Some(3));
    assert_eq!(host.log_of("again"), "run\nrun\nrun");
    let of_runs: Vec<_> = host.history("again").into_iter().filter(|name| name.starts_with("run.")).collect();
    let one = ["run.created", "run.started", "run.exited"];
    assert_eq!(of_runs, [one, one, one].concat());

    let done = host.sh(&["--name", "late", "--max-time", "400ms", "--stop-timeout", "100ms"], "exec sleep 600");
    assert_ne!(done.code, 0);
    let exit = host.exit_of("late");
    assert_eq!(exit.cause, Cause::Timeout, "{exit:?}");
    assert!(exit.duration_ms >= 400, "{exit:?}");
    // The time of a program begins when it does, and not when its guest boots.
    host.sh(&["--max-time", "900ms"], "exit 0").code(0);
    host.finish();
}

#[test]
fn numbers_and_processes() {
    let Some(host) = Host::start() else { return };
    host.detach("c", &["--stats-interval", "100ms"], "sleep 601 & sleep 602 & wait");
    let top = until("three processes", PATIENCE, || {
        Some(host.cli(&["top", "c"]).ok()).filter(|top| top.contains("sleep 601") && top.contains("sleep 602"))
    });
    assert!(!top.contains("qemu") && !top.contains("/init"), "{top}");
    let shown = host.cli(&["inspect", "c"]).json();
    assert_eq!(shown[0]["processes"].as_array().map(Vec::len), Some(3), "{shown}");
    assert_eq!(shown[0]["spec"]["vm"]["memory_bytes"], 128 << 20);
    let stats = host.cli(&["stats", "--no-stream", "c"]).ok();
    let of_it = stats.lines().find(|line| line.contains(" c ")).unwrap_or_else(|| panic!("{stats}"));
    assert_eq!(of_it.split_whitespace().nth(5), Some("3"), "PIDS in {stats}");
    host.cli(&["update", "--memory", "512M", "c"]).refused(1, "memory of its virtual machine");
    // Processes are counted in the guest: what makes it has threads of its own.
    host.exec("c", "for n in 1 2 3 4 5 6; do sleep 603 & done; echo all").code(0);
    host.cli(&["update", "--pids", "4", "c"]).ok();
    assert!(!host.exec("c", "sleep 604 & sleep 605 & sleep 606 & wait").err().is_empty());
    host.cli(&["stop", "-t", "100ms", "c"]).ok();
    let exit = host.exit_of("c");
    assert!(exit.statistics.is_some(), "{exit:?}");
    let few = host.sh(&["--pids", "3"], "sleep 0.1 & sleep 0.1 & sleep 0.1 & sleep 0.1 & wait");
    assert!(few.err().contains("can't fork"), "{few:?}");
    host.finish();
}
