//! Second programs: many at once, those that hold pipes, those that hang, and those whose container ends.

use std::collections::BTreeSet;

use hostler_model::event::EventKind;
use hostler_tests::container::{self, Oci};
use hostler_tests::events::is_of;
use hostler_tests::stand_in::{StandIn, Wrong};
use hostler_tests::{PATIENCE, Setup, until, until_gone, with_each_oci_runtime};

with_each_oci_runtime! {
    many_at_once_each_with_its_own_end,
    options_of_exec,
    a_child_that_holds_the_pipe,
    a_held_pipe_delays_the_end_by_a_second,
    a_hanging_exec_delays_the_end_by_a_second,
    they_end_before_their_container,
    what_cannot_be_executed,
}

fn many_at_once_each_with_its_own_end(oci: Oci) {
    let place = oci.start();
    place.detach("c", &[], "sleep 600");
    let running: Vec<_> = (0..10)
        .map(|number| {
            let script = format!("echo begin-{number}; sleep 0.1; echo end-{number}; exit {}", 20 + number);
            place.command(&["exec", "c", "--", "sh", "-c", &script]).spawn()
        })
        .collect();
    for (number, running) in running.into_iter().enumerate() {
        let done = running.end().code(20 + i32::try_from(number).expect("small"));
        assert_eq!(done.out().trim(), format!("begin-{number}\nend-{number}"));
    }
    let journal = place.journal();
    let mut started = BTreeSet::new();
    let mut codes = BTreeSet::new();
    for view in journal.iter().filter(|view| is_of(view, "c")) {
        match &view.event.kind {
            EventKind::ExecStarted { exec, .. } => assert!(started.insert(*exec), "{exec} started twice"),
            EventKind::ExecExited { exec, exit } => {
                assert!(started.contains(exec), "{exec} ended before it started");
                assert!(codes.insert(exit.status.shell_code()), "{exit:?}");
            }
            _ => {}
        }
    }
    assert_eq!((started.len(), codes.into_iter().collect::<Vec<_>>()), (10, (20..30).collect()));
    place.finish();
}

fn options_of_exec(oci: Oci) {
    let place = oci.start();
    place.detach("c", &["--env", "FROM=run", "--workdir", "/srv", "--cap-drop", "CHOWN"], "sleep 600");
    assert_eq!(place.exec("c", "echo $FROM; pwd").ok(), "run\n/srv");
    assert_eq!(
        place.cli(&["exec", "--env", "FROM=exec", "--workdir", "/etc", "c", "--", "sh", "-c", "echo $FROM; pwd"]).ok(),
        "exec\n/etc"
    );
    assert_eq!(
        place.cli(&["exec", "--user", "web", "c", "--", "sh", "-c", "id -u; grep CapEff /proc/self/status"]).ok(),
        "33\nCapEff:\t0000000000000000"
    );
    // The same confinement as the container's own program.
    place.exec("c", "touch /tmp/x; chown 1 /tmp/x").code(1);
    assert!(place.exec("c", "grep NoNewPrivs /proc/self/status").ok().ends_with('1'));
    assert_eq!(place.exec("c", "cat; echo $?").ok(), "0");
    assert_eq!(place.cli(&["exec", "--rlimit", "nofile=50", "c", "--", "sh", "-c", "ulimit -n"]).ok(), "50");
    place.finish();
}

/// What the program itself printed is there, and the child goes on; the exec does not wait for it.
fn a_child_that_holds_the_pipe(oci: Oci) {
    let place = oci.start();
    place.detach("c", &[], "sleep 600");
    let done = place.exec("c", "sleep 555 & echo $! >/tmp/child; echo done; exit 3").code(3);
    assert_eq!(done.out(), "done\n");
    place.wait_kind("c", "exec.exited");
    assert!(place.exec("c", "kill -0 $(cat /tmp/child) && echo there").ok().contains("there"));
    place.cli(&["kill", "c"]).ok();
    place.ended("c");
    let history = place.history("c");
    assert_eq!(history.last().map(String::as_str), Some("run.exited"), "{history:?}");
    place.finish();
}

/// Milliseconds between the end of the main program and the moment when that was told.
fn delay_ms(place: &container::Place, name: &str) -> u64 {
    place.ended(name);
    let told = place.wait_kind(name, "run.exited");
    let EventKind::RunExited { exit } = &told.event.kind else { panic!("{told:?}") };
    told.event.time_ms.saturating_sub(exit.ended_at_ms)
}

/// Without a pid namespace of its own, a container's programs do not end with its first one.
fn a_held_pipe_delays_the_end_by_a_second(oci: Oci) {
    let place = oci.start();
    let bundle = place.work().join("bundle");
    let script = "until [ -e /tmp/go ]; do sleep 0.02; done; exit 3";
    container::bundle(&bundle, &["sh", "-c", script], |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    place.cli(&["run", "-d", "--name", "c", "--oci-runtime", oci.name, "--oci", &bundle.display().to_string()]).ok();
    place.main_pid("c");
    place.exec("c", "setsid sleep 777 & echo $!").code(0);
    let held = place.command(&["exec", "c", "--", "sh", "-c", "echo ready; setsid sleep 778 & sleep 779"]).spawn();
    let mut held = held;
    held.line_with("ready");
    std::fs::write(bundle.join("rootfs/tmp/go"), "").expect("write");
    assert!(delay_ms(&place, "c") < 6_000, "a held pipe delays the end");
    held.end();
    let history = place.history("c");
    assert_eq!(history.last().map(String::as_str), Some("run.exited"), "{history:?}");
    place.finish();
}

fn a_hanging_exec_delays_the_end_by_a_second(oci: Oci) {
    let place = oci.start_with(Setup::new());
    let stand_in = StandIn::new(place.work().join("stand-in"), oci);
    stand_in.set("exec", Wrong::HangWithChild);
    let program = stand_in.program().display().to_string();
    let rootfs = place.rootfs().display().to_string();
    let script = "until [ -e /tmp/go ]; do sleep 0.02; done; exit 3";
    place
        .cli(&["run", "-d", "--name", "c", "--oci-runtime", &program, "--rootfs", &rootfs, "--", "sh", "-c", script])
        .ok();
    let pid = place.main_pid("c");
    let exec = place.command(&["exec", "c", "--", "true"]).spawn();
    until("the call", PATIENCE, || (stand_in.count("exec") == 1).then_some(()));
    std::fs::write(place.rootfs().join("tmp/go"), "").expect("write");
    until_gone(pid);
    assert!(delay_ms(&place, "c") < 6_000, "an exec that hangs delays the end");
    exec.end().code(125);
    place.finish();
}

fn they_end_before_their_container(oci: Oci) {
    let place = oci.start();
    let pid = place.detach("c", &[], "sleep 600");
    let mut execs: Vec<_> =
        (0..3).map(|_| place.command(&["exec", "c", "--", "sh", "-c", "echo ready; sleep 600"]).spawn()).collect();
    execs.iter_mut().for_each(|exec| drop(exec.line_with("ready")));
    hostler_tests::signal(pid, 9);
    for exec in execs {
        exec.end().code(137);
    }
    place.ended("c");
    let history = place.history("c");
    assert_eq!(history.iter().filter(|name| *name == "exec.exited").count(), 3, "{history:?}");
    assert_eq!(history.last().map(String::as_str), Some("run.exited"), "{history:?}");
    place.cli(&["exec", "c", "--", "true"]).refused(125, "not running");
    place.finish();
}

fn what_cannot_be_executed(oci: Oci) {
    let place = oci.start();
    place.detach("c", &[], "sleep 600");
    place.cli(&["exec", "c", "--", "no-such-command"]).refused(127, "no-such-command");
    place.cli(&["exec", "c", "--", "/etc/passwd"]).code(126);
    place.cli(&["exec", "--user", "nobody-here", "c", "--", "true"]).refused(125, "nobody-here");
    assert_eq!(place.exec("c", "echo still here").ok(), "still here");
    let history = place.history("c");
    assert_eq!(history[3..], ["exec.started", "exec.exited"], "only the one that ran: {history:?}");
    place.finish();
}
