//! A program that is kept apart lives and ends as any other: signals, ends, streams, execs, the deaths of daemon and agent.

use hostler_model::event::EventKind;
use hostler_model::spec::TtySize;
use hostler_model::workload::{LostReason, RunState};
use hostler_model::{Cause, ExitStatus};
use hostler_tests::events::assert_history;
use hostler_tests::pty::Terminal;
use hostler_tests::{PATIENCE, Setup, TestNode, is_alive, is_root, leaks, signal, skip, until, until_gone};

use crate::can_isolate;

fn node() -> Option<TestNode> {
    let node = TestNode::new();
    if can_isolate(&node) {
        return Some(node);
    }
    node.finish();
    None
}

fn exit(node: &TestNode, name: &str) -> (ExitStatus, Cause) {
    node.ended(name);
    match node.state_of(name) {
        RunState::Ended { exit } => (exit.status, exit.cause),
        other => panic!("{other:?}"),
    }
}

/// Processes of a run as the machine sees them, by the word in their command line.
fn with_word(word: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    };
    pids.filter(has).collect()
}

/// A number of seconds that no other test sleeps.
fn sleep_of(tens: u32) -> String {
    format!("{}{tens}", 100_000 + std::process::id())
}

#[test]
fn ends_are_exact() {
    let Some(node) = node() else { return };
    for (line, code) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
    {
        node.cli(&["run", "--rm", "--isolate", "--", "sh", "-c", line]).code(code);
    }
    node.cli(&["run", "--name", "e", "--isolate", "--", "sh", "-c", "kill -USR1 $$"]).code(138);
    assert_eq!(exit(&node, "e"), (ExitStatus::Signal("USR1".parse().expect("a signal")), Cause::Signal));
    node.cli(&["run", "--rm", "--isolate", "--", "/no/such/program"]).refused(127, "no program");
    node.cli(&["run", "--rm", "--isolate", "--", "/boot/hidden"]).code(127);
    node.finish();
}

#[test]
fn signals_reach_it_from_without() {
    let Some(node) = node() else { return };
    let trap = "trap 'echo asked; exit 5' TERM; trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done";
    node.cli(&["run", "-d", "--name", "t", "--isolate", "--", "sh", "-c", trap]).ok();
    until("its traps", PATIENCE, || node.log_of("t").contains("ready").then_some(()));
    node.cli(&["kill", "--signal", "HUP", "t"]).ok();
    until("the hang-up", PATIENCE, || node.log_of("t").contains("hup").then_some(()));
    node.cli(&["stop", "t"]).ok();
    assert_eq!(exit(&node, "t"), (ExitStatus::Code(5), Cause::Error));
    // Without a handler, as everywhere: the first process of a namespace would not have taken it.
    node.cli(&["run", "-d", "--name", "s", "--isolate", "--", "sleep", "600"]).ok();
    node.cli(&["stop", "s"]).ok();
    assert_eq!(exit(&node, "s").0, ExitStatus::Signal(hostler_model::units::Signal::TERM));
    node.cli(&["run", "-d", "--name", "m", "--isolate", "--max-time", "100ms", "--", "sleep", "600"]).ok();
    assert_eq!(exit(&node, "m").1, Cause::Timeout);
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn orphans_die_with_the_run() {
    let Some(node) = node() else { return };
    let word = sleep_of(1);
    let script = format!("setsid sh -c 'trap \"\" TERM HUP; sleep {word} & sleep {word}' >/dev/null 2>&1 & sleep 0.2");
    node.cli(&["run", "--rm", "--isolate", "--", "sh", "-c", &script]).ok();
    assert_eq!(with_word(&word), Vec::<u32>::new());
    // While it runs, orphans are reaped by nobody else: there are no zombies.
    let script = "for i in 1 2 3 4 5; do sh -c 'true & true &'; done; sleep 0.3; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
    assert_eq!(node.cli(&["run", "--rm", "--isolate", "--", "sh", "-c", script]).ok(), "0");
    node.finish();
}

#[test]
fn streams_and_terminals_are_those_of_any_program() {
    let Some(node) = node() else { return };
    let echoed =
        node.command(&["run", "-i", "--rm", "--isolate", "--", "cat"]).stdin(b"what goes in".to_vec()).run().ok();
    assert_eq!(echoed, "what goes in");
    let line = ["run", "--rm", "--isolate", "--stdin-text", "sealed", "--", "sh", "-c", "cat; echo >&2 apart"];
    let done = node.cli(&line);
    assert_eq!((done.out().as_str(), done.err().as_str()), ("sealed", "apart\n"));
    let size = TtySize { columns: 91, rows: 17 };
    let mut terminal =
        Terminal::hostler(&node, size, &["run", "-it", "--name", "pty", "--isolate", "--env", "PS1=# ", "--", "sh"]);
    terminal.wait_for("# ");
    terminal.type_in("stty size; test -t 0 && echo is-a-terminal; exit 3\n");
    let shown = terminal.wait_for("is-a-terminal\r");
    assert!(shown.contains("17 91"), "{shown}");
    assert_eq!(terminal.end().0, Some(3));
    let waits = "while ! test -e /tmp/go; do sleep 0.02; done; echo got through";
    node.cli(&["run", "-d", "--name", "echo", "--isolate", "--", "sh", "-c", waits]).ok();
    let attached = node.command(&["attach", "echo"]).spawn();
    node.cli(&["exec", "echo", "--", "touch", "/tmp/go"]).ok();
    assert!(attached.end().out().contains("got through"));
    until("its log", PATIENCE, || node.log_of("echo").contains("got through").then_some(()));
    node.finish();
}

const IS: &str = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$n; done; id -u; id -g; \
                  grep -E '^(Cap...|NoNewPrivs|Seccomp):' /proc/self/status; cat /proc/self/uid_map; hostname; \
                  touch /x 2>&1; touch /tmp/shared && ls /tmp; perl -e 'syscall(272, 0x10000000)==-1 and printf \"refused %d\\n\", $!'";

#[test]
fn execs_are_kept_apart_as_the_run_is() {
    let Some(node) = node() else { return };
    let both = format!("{IS}; exec sleep 600");
    let profiles: &[&[&str]] = match is_root() {
        true => &[&["--isolate"], &["--isolate=network-service"], &["--isolate", "--user", "4242:4343"]],
        false => &[&["--isolate"]],
    };
    for (place, options) in profiles.iter().enumerate() {
        let name = format!("x{place}");
        let run = [&["run", "-d", "--name", &name], *options, &["--", "sh", "-c", &both]].concat();
        node.cli(&run).ok();
        until("what it is", PATIENCE, || node.log_of(&name).contains("refused").then_some(()));
        let exec = node.cli(&["exec", &name, "--", "sh", "-c", IS]).out();
        assert_eq!(node.log_of(&name), exec.trim_end());
        assert!(exec.contains("Read-only") || exec.contains("ermission denied"), "{exec}");
        // Ends and signals of execs are their own.
        node.cli(&["exec", &name, "--", "sh", "-c", "exit 9"]).code(9);
        node.cli(&["exec", &name, "--", "sh", "-c", "kill -TERM $$"]).code(143);
        node.cli(&["exec", &name, "--", "/no/such"]).refused(127, "/no/such");
        assert_eq!(node.command(&["exec", "-i", &name, "cat"]).stdin(b"in".to_vec()).run().ok(), "in");
        node.cli(&["rm", "-f", &name]).ok();
    }
    if is_root() {
        // Only its own user exists in there.
        node.cli(&["run", "-d", "--name", "u", "--isolate", "--", "sleep", "600"]).ok();
        node.cli(&["exec", "--user", "4242", "u", "--", "true"]).refused(125, "become");
        node.cli(&["rm", "-f", "u"]).ok();
    }
    node.finish();
}

/// A run with a child in a session of its own: main, child.
fn family(node: &TestNode, name: &str, word: &str) -> (u32, u32) {
    let script = format!("setsid sleep {word} & exec sleep 601");
    node.cli(&["run", "-d", "--name", name, "--isolate", "--", "sh", "-c", &script]).ok();
    let child = until("the child", PATIENCE, || with_word(word).into_iter().find(|pid| *pid != node.main_pid(name)));
    (node.main_pid(name), child)
}

#[test]
fn it_outlives_the_daemon_and_is_adopted() {
    let Some(mut node) = node() else { return };
    let (main, child) = family(&node, "job", &sleep_of(2));
    node.kill_and_start();
    assert_eq!(node.main_pid("job"), main);
    assert!(is_alive(main) && is_alive(child));
    assert_eq!(node.cli(&["exec", "job", "--", "sh", "-c", "hostname; touch /x || echo $?"]).ok(), "job\n1");
    node.cli(&["stop", "job"]).ok();
    until_gone(child);
    // It ends while there is no daemon.
    node.cli(&["run", "-d", "--name", "late", "--isolate", "--", "sh", "-c", "sleep 0.3; exit 6"]).ok();
    node.kill();
    node.start();
    assert_eq!(exit(&node, "late"), (ExitStatus::Code(6), Cause::Error));
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn a_killed_agent_leaves_nothing() {
    let Some(node) = node() else { return };
    let (main, child) = family(&node, "job", &sleep_of(3));
    let agent = node.run_file("job").agent.pid;
    let rooms: Vec<u32> = hostler_linux::procfs::descendants(agent).expect("/proc");
    assert_eq!(rooms.len(), 3, "its first process, main and child: {rooms:?}");
    signal(agent, 9);
    let lost = node.wait_kind("job", "run.lost");
    assert!(matches!(lost.event.kind, EventKind::RunLost { reason: LostReason::Agent }));
    rooms.iter().for_each(|pid| until_gone(*pid));
    until_gone(main);
    until_gone(child);
    node.finish();
}

#[test]
fn limits_are_of_the_program_and_not_of_what_keeps_it_apart() {
    if !is_root() {
        return skip("limits need root here");
    }
    let Some(node) = node() else { return };
    let line = ["run", "-d", "--name", "l", "--isolate", "--memory", "64M", "--pids", "5", "--", "sleep", "600"];
    if node.cli(&line).code != 0 {
        skip("this machine's cgroups cannot be used");
        return node.finish();
    }
    let file = node.run_file("l");
    let in_group = |pid: u32| {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("alive").contains(&file.run.to_string())
    };
    let main = file.main.expect("it runs").pid;
    let below = hostler_linux::procfs::descendants(file.agent.pid).expect("/proc");
    assert_eq!(below.iter().filter(|pid| in_group(**pid)).collect::<Vec<_>>(), [&main], "{below:?}");
    assert_eq!(std::fs::read_to_string(format!("/proc/{main}/oom_score_adj")).expect("alive").trim(), "0");
    let exec = node.cli(&["exec", "l", "--", "sh", "-c", "cat /proc/self/cgroup"]).ok();
    assert!(exec.contains(&file.run.to_string()), "{exec}");
    let stats = node.block_on(node.api().stats("l")).expect("stats");
    assert_eq!(stats.pids, 1);
    let hog = "perl -e '$x = \"x\" x 200_000_000'";
    node.cli(&["run", "--name", "hog", "--isolate", "--memory", "32M", "--", "sh", "-c", &format!("exec {hog}")])
        .code(137);
    assert_eq!(exit(&node, "hog").1, Cause::Oom);
    node.cli(&["rm", "-f", "l", "hog"]).ok();
    until("the group's removal", PATIENCE, || leaks::run_groups(node.tag().expect("a tag")).is_empty().then_some(()));
    node.finish();
}

#[test]
fn works_without_root() {
    if !is_root() {
        return skip("the other tests have shown it");
    }
    let node = Setup::new().uid(4242).start();
    if can_isolate(&node) {
        let run = |options: &[&str], line: &str| {
            node.command(&[&["run", "--rm"], options, &["--", "sh", "-c", line]].concat()).uid(4242).run()
        };
        let seen = run(&["--isolate"], "id -u; hostname; ls /proc | grep -c '^[0-9]'; touch /tmp/x; touch /home/x");
        assert!(seen.out().starts_with("4242\nsh-"), "{}{}", seen.out(), seen.err());
        assert!(seen.err().contains("Read-only"), "{}", seen.err());
        run(&["--isolate=strict"], "exit 4").code(4);
        run(&["--isolate=network-service"], "true").refused(125, "runs as root");
        node.command(&["run", "-d", "--name", "s", "--isolate", "--", "sleep", "600"]).uid(4242).run().ok();
        let exec = node.command(&["exec", "s", "--", "sh", "-c", "id -u; hostname"]).uid(4242).run().ok();
        assert_eq!(exec, "4242\ns");
        node.command(&["stop", "s"]).uid(4242).run().ok();
    }
    node.finish();
}
