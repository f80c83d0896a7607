//! From create to delete: order of events, ends, stop, kill, pause, update, restarts, and what works for processes as well.

use hostler_model::event::EventKind;
use hostler_model::workload::RunState;
use hostler_model::{Cause, ExitStatus};
use hostler_tests::container::{Oci, Place};
use hostler_tests::events::is_of;
use hostler_tests::{PATIENCE, leaks, signal, until, until_gone, with_each_oci_runtime};

with_each_oci_runtime! {
    events_in_order,
    fast_ends_never_beat_their_start,
    ends,
    stop_and_kill,
    signals_reach_the_program,
    pause_and_resume,
    a_paused_one_can_be_stopped,
    update_while_running,
    out_of_memory,
    stdin_is_closed,
    restarts,
    queues_hooks_and_schedules,
    processes_with_both_numbers,
    the_name_is_free_again,
    many_at_once,
}

fn exit_of(place: &Place, name: &str) -> hostler_model::exit::Exit {
    match place.state_of(name) {
        RunState::Ended { exit } => exit,
        other => panic!("{name}: {other:?}"),
    }
}

fn events_in_order(oci: Oci) {
    let place = oci.start();
    place.detach("c", &[], "until [ -e /tmp/go ]; do sleep 0.02; done; exit 3");
    place.exec("c", "exit 4").code(4);
    std::fs::write(place.rootfs().join("tmp/go"), "").expect("write");
    place.ended("c");
    let expected = ["workload.created", "run.created", "run.started", "exec.started", "exec.exited", "run.exited"];
    assert_eq!(place.history("c"), expected);
    place.cli(&["rm", "c"]).ok();
    assert_eq!(place.history("c").last().map(String::as_str), Some("workload.removed"));
    place.finish();
}

fn fast_ends_never_beat_their_start(oci: Oci) {
    let place = oci.start();
    for round in 0..12 {
        let name = format!("fast-{round}");
        place.run(&["--name", &name], &["true"]).code(0);
        assert_eq!(place.history(&name), ["workload.created", "run.created", "run.started", "run.exited"]);
    }
    place.detach("host", &[], "sleep 600");
    for _ in 0..12 {
        place.cli(&["exec", "host", "--", "true"]).code(0);
    }
    let history = place.history("host");
    for pair in history[3..].chunks(2) {
        assert_eq!(pair, ["exec.started", "exec.exited"], "{history:?}");
    }
    place.finish();
}

fn ends(oci: Oci) {
    let place = oci.start();
    let cases: [(&str, i32); 6] = [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 255", 255),
        ("kill -9 $$; exit 7", 7),
        ("exec false", 1),
        ("no-such-command", 127),
    ];
    for (script, code) in cases {
        place.sh(&[], script).code(code);
    }
    place.run(&[], &["no-such-command"]).refused(127, "no-such-command");
    place.run(&[], &["/etc/passwd"]).code(126);
    let missing = place.run(&["--name", "missing"], &["no-such-command"]).code(127);
    assert!(missing.err().contains(oci.name), "{}", missing.err());
    assert_eq!(place.history("missing"), ["workload.created", "run.created", "run.failed"]);
    // A signal from outside ends the first process, which ignores those from inside.
    let pid = place.detach("killed", &[], "sleep 600");
    signal(pid, 9);
    assert_eq!(place.ended("killed").exit_code, Some(137));
    let exit = exit_of(&place, "killed");
    assert!(exit.cause == Cause::Signal && matches!(exit.status, ExitStatus::Signal(signal) if signal.number() == 9));
    // What is still there when the first process ends is ended with it.
    place.sh(&["--name", "family"], "sleep 600 & sleep 600 & echo both; exit 6").code(6);
    place
        .cli(&[
            "run",
            "-d",
            "--max-time",
            "300ms",
            "--name",
            "slow",
            "--rootfs",
            "root",
            "--oci-runtime",
            oci.name,
            "--",
            "sleep",
            "600",
        ])
        .ok();
    place.ended("slow");
    assert_eq!(exit_of(&place, "slow").cause, Cause::Timeout);
    place.finish();
}

fn stop_and_kill(oci: Oci) {
    let place = oci.start();
    place.detach("good", &[], "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.02; done");
    until("the trap", PATIENCE, || place.log_of("good").contains("ready").then_some(()));
    place.cli(&["stop", "good"]).ok();
    assert_eq!(place.ended("good").exit_code, Some(9));
    assert_eq!(place.log_of("good"), "ready\nbye");
    // The first process of a pid namespace ignores what it does not handle: it is killed after its time.
    place.detach("deaf", &["--stop-timeout", "300ms"], "exec sleep 600");
    place.cli(&["stop", "deaf"]).ok();
    assert_eq!(exit_of(&place, "deaf").cause, Cause::Killed);
    place.detach("gone", &[], "sleep 600 & sleep 600");
    place.cli(&["kill", "gone"]).ok();
    assert_eq!(place.ended("gone").exit_code, Some(137));
    place.cli(&["start", "gone"]).ok();
    place.main_pid("gone");
    place.cli(&["restart", "-t", "100ms", "gone"]).ok();
    place.main_pid("gone");
    place.cli(&["rm", "-f", "gone"]).ok();
    place.finish();
}

fn signals_reach_the_program(oci: Oci) {
    let place = oci.start();
    place.detach("usr", &[], "trap 'echo got USR1' USR1; echo ready; while :; do sleep 0.02; done");
    until("the trap", PATIENCE, || place.log_of("usr").contains("ready").then_some(()));
    place.cli(&["kill", "-s", "USR1", "usr"]).ok();
    until("the signal", PATIENCE, || place.log_of("usr").contains("got USR1").then_some(()));
    // The same for a second program, by its id.
    let script = "trap 'echo exec got USR2; exit 8' USR2; echo ready; while :; do sleep 0.02; done";
    let mut exec = place.command(&["exec", "usr", "--", "sh", "-c", script]).spawn();
    exec.line_with("ready");
    let started = place.wait_kind("usr", "exec.started");
    let EventKind::ExecStarted { exec: id, .. } = started.event.kind else { panic!("{started:?}") };
    place.cli(&["kill", "-s", "USR2", "--exec", &id.to_string(), "usr"]).ok();
    exec.line_with("exec got USR2");
    exec.end().code(8);
    place.finish();
}

fn pause_and_resume(oci: Oci) {
    let place = oci.start();
    place.detach("p", &[], "i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.01; done");
    let count = || std::fs::read_to_string(place.rootfs().join("tmp/count")).unwrap_or_default();
    until("a count", PATIENCE, || (!count().is_empty()).then_some(()));
    place.cli(&["pause", "p"]).ok();
    place.wait_kind("p", "run.paused");
    let frozen = leaks::run_groups(place.tag().expect("a tag"))
        .into_iter()
        .find_map(|group| std::fs::read_to_string(group.join("freezer.state")).ok());
    assert_eq!(frozen.as_deref().map(str::trim), Some("FROZEN"));
    assert_eq!(place.inspect("p").phase.as_str(), "paused");
    place.cli(&["pause", "p"]).refused(1, "paused already");
    let stood = count();
    place.cli(&["resume", "p"]).ok();
    until("the count goes on", PATIENCE, || (count() != stood && !count().is_empty()).then_some(()));
    place.cli(&["resume", "p"]).refused(1, "not paused");
    let history = place.history("p");
    assert_eq!(history[3..], ["run.paused", "run.resumed"], "{history:?}");
    place.cli(&["kill", "p"]).ok();
    place.ended("p");
    place.cli(&["pause", "p"]).refused(1, "not running");
    place.finish();
}

fn a_paused_one_can_be_stopped(oci: Oci) {
    let mut place = oci.start();
    for (name, verb) in [("a", "stop"), ("b", "kill"), ("c", "rm")] {
        place.detach(name, &[], "trap 'exit 5' TERM; while :; do sleep 0.02; done");
        place.cli(&["pause", name]).ok();
        match verb {
            // A signal would wait in it until it goes on.
            "kill" => {
                place.cli(&["kill", name]).refused(1, "resume it first");
                let pid = place.main_pid(name).to_string();
                place.cli(&["kill", "--pid", &pid, name]).refused(1, "resume it first");
            }
            "rm" => drop(place.cli(&["rm", "-f", name]).ok()),
            _ => drop(place.cli(&["stop", name]).ok()),
        }
    }
    place.ended("a");
    place.cli(&["stop", "-t", "0s", "b"]).ok();
    // A paused one is still paused, and still there, for the next daemon.
    let pid = place.detach("d", &[], "sleep 600");
    place.cli(&["pause", "d"]).ok();
    place.kill_and_start();
    assert_eq!((place.inspect("d").phase.as_str(), place.main_pid("d")), ("paused", pid));
    place.cli(&["resume", "d"]).ok();
    assert_eq!(place.exec("d", "echo here").ok(), "here");
    place.finish();
}

fn update_while_running(oci: Oci) {
    let place = oci.start();
    place.detach("u", &["--memory", "64M"], "sleep 600");
    let seen = |path: &str| place.exec("u", &format!("cat /sys/fs/cgroup/{path}")).ok();
    assert_eq!(seen("memory/memory.limit_in_bytes"), "67108864");
    place.cli(&["update", "--memory", "96M", "--memory-reservation", "32M", "--pids", "33", "u"]).ok();
    assert_eq!(seen("memory/memory.limit_in_bytes"), "100663296");
    assert_eq!(seen("memory/memory.soft_limit_in_bytes"), "33554432");
    assert_eq!(seen("pids/pids.max"), "33");
    place.cli(&["update", "--cpu-shares", "256", "--cpu-quota", "30000", "--cpu-period", "60000", "u"]).ok();
    assert_eq!(seen("cpu/cpu.shares"), "256");
    assert_eq!(seen("cpu/cpu.cfs_quota_us"), "30000");
    place.cli(&["update", "--cpuset-cpus", "0", "u"]).ok();
    assert_eq!(seen("cpuset/cpuset.cpus"), "0");
    // What was not named stays: an unset number is no zero.
    assert_eq!((seen("memory/memory.limit_in_bytes"), seen("pids/pids.max")), ("100663296".into(), "33".into()));
    assert!(place.history("u").contains(&"workload.updated".to_owned()));
    place.finish();
}

fn out_of_memory(oci: Oci) {
    let place = oci.start();
    place.sh(&["-d", "--name", "hungry", "--memory", "24M"], "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done").ok();
    place.ended("hungry");
    let exit = exit_of(&place, "hungry");
    assert_eq!(exit.cause, Cause::Oom, "{exit:?}");
    assert!(exit.oom_kills >= 1);
    place.wait_kind("hungry", "run.oom");
    // Only a child: the container goes on, and the event tells.
    place.detach(
        "parent",
        &["--memory", "24M"],
        "sh -c 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done'; echo survived; sleep 600",
    );
    place.wait_kind("parent", "run.oom");
    until("the parent's word", PATIENCE, || place.log_of("parent").contains("survived").then_some(()));
    place.finish();
}

fn stdin_is_closed(oci: Oci) {
    let place = oci.start();
    let rootfs = place.rootfs().display().to_string();
    let mut cat = place.command(&["run", "-i", "--oci-runtime", oci.name, "--rootfs", &rootfs, "--", "cat"]).spawn();
    cat.write(b"one\n");
    assert_eq!(cat.next_line(), "one");
    cat.close_stdin();
    cat.end().code(0);
    place.detach("c", &[], "sleep 600");
    let mut exec = place.command(&["exec", "-i", "c", "--", "sh", "-c", "cat; exit 7"]).spawn();
    exec.write(b"two\n");
    assert_eq!(exec.next_line(), "two");
    exec.close_stdin();
    exec.end().code(7);
    place.finish();
}

fn restarts(oci: Oci) {
    let place = oci.start();
    place
        .sh(
            &["-d", "--name", "thrice", "--restart", "on-failure:2", "--restart-delay", "10ms"],
            "echo try >>/tmp/tries; exit 1",
        )
        .ok();
    until("the last try", PATIENCE, || (place.inspect("thrice").workload.runs == 3).then_some(()));
    place.ended("thrice");
    assert_eq!(std::fs::read_to_string(place.rootfs().join("tmp/tries")).expect("tries").lines().count(), 3);
    let first = place.detach("always", &["--restart", "always", "--restart-delay", "10ms"], "sleep 600");
    signal(first, 9);
    until_gone(first);
    until("the second run", PATIENCE, || (place.inspect("always").workload.runs == 2).then_some(()));
    assert_ne!(place.main_pid("always"), first);
    place.cli(&["stop", "-t", "100ms", "always"]).ok();
    place.finish();
}

fn queues_hooks_and_schedules(oci: Oci) {
    let place = oci.start();
    place.cli(&["queue", "set", "q", "--parallel", "1"]).ok();
    for name in ["one", "two", "three"] {
        place
            .sh(
                &["-d", "--queue", "q", "--name", name],
                "[ ! -e /tmp/busy ] || exit 9; touch /tmp/busy; sleep 0.05; rm /tmp/busy",
            )
            .ok();
    }
    for name in ["one", "two", "three"] {
        assert_eq!(place.ended(name).exit_code, Some(0), "two at the same time");
    }
    // A hook is the machine's: it sees the machine.
    let told = place.work().join("told");
    let command = format!("echo $HOSTLER_HOOK_WORKLOAD >{}", told.display());
    place.sh(&["-d", "--name", "hooked", "--on-failure", &command], "exit 2").ok();
    place.wait_kind("hooked", "hook.succeeded");
    assert_eq!(std::fs::read_to_string(told).expect("told").trim(), "hooked");
    place.sh(&["--name", "timed", "--every", "100ms"], "echo tick").ok();
    until("two turns", PATIENCE, || (place.inspect("timed").workload.runs >= 2).then_some(()));
    place.cli(&["rm", "-f", "timed"]).ok();
    place.finish();
}

fn processes_with_both_numbers(oci: Oci) {
    let place = oci.start();
    let main = place.detach("c", &[], "sleep 601 & sleep 602 & wait");
    let seen = until("three processes", PATIENCE, || {
        let shown = place.cli(&["inspect", "c"]).json()[0]["processes"].clone();
        (shown.as_array().is_some_and(|all| all.len() == 3)).then_some(shown)
    });
    let of = |pid: u32| seen.as_array().expect("a list").iter().find(|it| it["pid"] == pid).cloned();
    assert_eq!(of(main).expect("the first")["namespace_pid"], 1, "{seen}");
    let top = place.cli(&["top", "c"]).ok();
    assert!(top.contains("sleep 601") && top.contains("sleep 602"), "{top}");
    let pids: Vec<u64> =
        seen.as_array().expect("a list").iter().filter_map(|it| it["namespace_pid"].as_u64()).collect();
    assert!(pids.iter().all(|pid| *pid < 20), "not those of the container: {seen}");
    place.finish();
}

fn the_name_is_free_again(oci: Oci) {
    let place = oci.start();
    for round in 0..4 {
        let pid = place.detach("same", &[], "sleep 600");
        match round % 2 {
            0 => signal(pid, 9),
            _ => signal(place.run_file("same").agent.pid, 9),
        }
        until_gone(pid);
        place.wait_event("its end", |event| {
            is_of(event, "same") && matches!(event.event.kind, EventKind::RunExited { .. } | EventKind::RunLost { .. })
        });
        place.ended("same");
        place.cli(&["rm", "same"]).ok();
    }
    place.finish();
}

fn many_at_once(oci: Oci) {
    let place = oci.start();
    let names: Vec<String> = (0..12).map(|number| format!("m{number}")).collect();
    let running: Vec<_> = names
        .iter()
        .map(|name| {
            let rootfs = place.rootfs().display().to_string();
            let script = format!("echo {name}; exit {}", name.len());
            place
                .command(&[
                    "run",
                    "--name",
                    name,
                    "--oci-runtime",
                    oci.name,
                    "--rootfs",
                    &rootfs,
                    "--",
                    "sh",
                    "-c",
                    &script,
                ])
                .spawn()
        })
        .collect();
    for (name, running) in names.iter().zip(running) {
        let done = running.end().code(i32::try_from(name.len()).expect("small"));
        assert_eq!(done.out().trim(), name);
    }
    place.finish();
}
