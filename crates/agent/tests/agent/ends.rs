//! Starts and ends: codes, signals, failures, kills, time-outs, orphans, reuse.

use std::time::Instant;

use hostler_model::exit::{Cause, ExitStatus};
use hostler_model::rundir::Outcome;
use hostler_model::spec::Stop;
use hostler_model::units::Signal;
use hostler_model::workload::StartFailureKind;
use hostler_wire::{AgentState, AttachTarget, FromAgent, SignalScope, ToAgent};

use crate::client::{Node, ended, is_alive, wait_for};

#[test]
fn codes_and_signals_one_after_the_other_in_one_agent() {
    let mut node = Node::new();
    assert_eq!(node.hello.state, AgentState::Idle);
    assert_eq!(node.hello.sandbox, node.sandbox);
    let data = [
        ("exit 0", ExitStatus::Code(0), Cause::Success),
        ("exit 3", ExitStatus::Code(3), Cause::Error),
        ("exit 255", ExitStatus::Code(255), Cause::Error),
        ("kill -SEGV $$", ExitStatus::Signal(Signal::from_number(11).unwrap()), Cause::Signal),
        ("kill -KILL $$", ExitStatus::Signal(Signal::KILL), Cause::Signal),
    ];
    for (script, status, cause) in data {
        let launch = node.launch(&["sh", "-c", script]);
        let exit = node.whole(&launch);
        assert_eq!(ended(&exit), (status, cause), "{script}");
        assert!(exit.ended_at_ms >= exit.started_at_ms && exit.usage.max_rss_bytes > 0);
        assert_eq!(exit.oom_kills, 0);
    }
    assert!(!node.path("log/w").exists(), "no log directory without output");
    node.link.send(&ToAgent::Quit);
    node.gone();
}

#[test]
fn the_run_file_is_there_before_the_program_and_names_it() {
    let mut node = Node::new();
    // Forked ahead: there is somebody to name from the beginning.
    let launch = node.launch_forked(&["sleep", "60"]);
    node.link.send(&ToAgent::Prepare { launch: Box::new(launch.clone()) });
    assert_eq!(node.link.message(), FromAgent::Prepared { run: launch.run });
    let file = node.run_file(launch.run);
    let [pid] = node.children()[..] else { panic!("one child, not {:?}", node.children()) };
    assert_eq!((file.run, file.agent.pid), (launch.run, node.agent.id()));
    assert_eq!(file.main, Some(hostler_linux::procfs::process_id(pid).unwrap()));
    assert_eq!(file.boot_id, hostler_linux::procfs::boot_id().unwrap());
    let reserved = node.path("run").join(launch.run.to_string()).join("exit.json");
    assert_eq!(std::fs::metadata(reserved).unwrap().len(), u64::from(file.exit_reserved));
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!command.starts_with(b"sleep"), "not executed before Execute");
    node.link.send(&ToAgent::Abort { run: launch.run });
    assert_eq!(node.link.message(), FromAgent::Idle);
    assert!(!node.path("run").join(launch.run.to_string()).exists());
    assert!(!is_alive(pid));

    // Plain: nobody before Execute, and the program finds itself named.
    let file = node.path("run").join("w-2/run.json").to_string_lossy().into_owned();
    let mut launch = node.launch(&["sh", "-c", "echo $$; cat $1", "sh"]);
    let file = file.replace("w-2", &launch.run.to_string());
    launch.program.command.push(file.into());
    node.link.send(&ToAgent::Prepare { launch: Box::new(launch.clone()) });
    assert_eq!(node.link.message(), FromAgent::Prepared { run: launch.run });
    let directory = node.path("run").join(launch.run.to_string());
    assert!(node.children().is_empty() && !directory.exists());
    node.link.send(&ToAgent::Abort { run: launch.run });
    assert_eq!(node.link.message(), FromAgent::Idle);
    assert!(!directory.exists());
    node.whole(&launch);
    let lines: Vec<_> = node.log_lines().iter().map(|line| line["stdout F ".len()..].trim_end().to_owned()).collect();
    let read: hostler_model::rundir::RunFile = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(read.main.unwrap().pid.to_string(), lines[0]);

    // The start is known to the tick, from the clock or from /proc.
    for _ in 0..20 {
        let launch = node.launch(&["sleep", "60"]);
        let pid = node.start(&launch);
        let process = hostler_linux::procfs::process_id(pid).unwrap();
        assert_eq!(node.run_file(launch.run).main, Some(process));
        node.link.send(&ToAgent::Kill { run: launch.run });
        node.exited();
        node.commit(launch.run);
    }
}

#[test]
fn start_failures_name_the_step() {
    for launch in [Node::launch, Node::launch_forked] {
        start_failures(launch);
    }
}

fn start_failures(make: fn(&mut Node, &[&str]) -> hostler_model::launch::Launch) {
    let mut node = Node::new();
    let text = node.path("text");
    std::fs::write(&text, "no program").unwrap();
    let script = node.path("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let bare = node.path("bare");
    std::fs::write(&bare, "echo no shebang\n").unwrap();
    for file in [&script, &bare] {
        std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let name = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let data = [
        ("/no/such/program".to_owned(), StartFailureKind::CommandNotFound),
        ("no-such-program".to_owned(), StartFailureKind::CommandNotFound),
        (name(&text), StartFailureKind::CommandNotExecutable),
        ("/usr".to_owned(), StartFailureKind::CommandNotExecutable),
        (name(&script), StartFailureKind::CommandNotFound),
        (name(&bare), StartFailureKind::CommandNotExecutable),
    ];
    for (command, kind) in data {
        let launch = make(&mut node, &[&command]);
        let failure = node.refused(&launch);
        assert_eq!(failure.kind, kind, "{command}: {}", failure.message);
        assert!(failure.message.contains(command.as_str()), "{}", failure.message);
        assert_eq!(node.exit_file(launch.run).outcome, Outcome::StartFailed { failure });
        assert!(node.children().is_empty());
        node.commit(launch.run);
    }
    let mut launch = make(&mut node, &["true"]);
    launch.program.workdir = "/no/such/directory".into();
    assert_eq!(node.refused(&launch).kind, StartFailureKind::Workdir);
    node.commit(launch.run);
    let mut launch = make(&mut node, &["true"]);
    launch.stdio.stdout = Some("/no/such/directory/file".into());
    assert_eq!(node.refused(&launch).kind, StartFailureKind::Stdio);
    node.commit(launch.run);
    let mut launch = make(&mut node, &["true"]);
    launch.cgroup = Some("x".to_owned());
    assert_eq!(node.refused(&launch).kind, StartFailureKind::Limit);
    node.commit(launch.run);
    // Longer than the kernel takes, whatever the limits of the door were.
    let mut launch = make(&mut node, &["true"]);
    let run = launch.run;
    launch.program.command.extend((0..40).map(|_| "x".repeat(100_000).into()));
    node.link.send_all(&[ToAgent::Prepare { launch: Box::new(launch) }, ToAgent::Execute { run }]);
    let FromAgent::StartFailed { failure, .. } = node.link.message() else { panic!("too long") };
    assert_eq!(failure.kind, StartFailureKind::System, "{}", failure.message);
    assert!(failure.message.contains("argument list too long"), "{}", failure.message);
    node.commit(run);
    // A directory that is in the way is not ours to remove.
    let launch = make(&mut node, &["true"]);
    let directory = node.path("run").join(launch.run.to_string());
    std::fs::create_dir(&directory).unwrap();
    assert_eq!(node.refused(&launch).kind, StartFailureKind::Sandbox);
    node.link.send(&ToAgent::Committed { run: launch.run, reuse: true, assume_idle: false });
    assert_eq!(node.link.message(), FromAgent::Idle);
    assert!(directory.exists());
    // Another namespace gets another agent.
    let mut launch = make(&mut node, &["true"]);
    launch.namespace = hostler_model::Namespace::of_uid(1000);
    assert_eq!(node.refused(&launch).kind, StartFailureKind::Sandbox);
}

#[test]
fn signals_of_the_node_are_told_from_others() {
    let mut node = Node::new();
    let (run, _) = node.shell("trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done");
    wait_for("the trap", || node.log_lines().first().cloned());
    let usr1 = Signal::from_number(10).unwrap();
    node.link.send(&ToAgent::Signal { signal: usr1, scope: SignalScope::Main });
    assert_eq!(ended(&node.exited()), (ExitStatus::Code(5), Cause::Error));
    node.commit(run);
    let (run, _) = node.shell("sleep 60");
    node.link.send(&ToAgent::Signal { signal: Signal::TERM, scope: SignalScope::Main });
    assert_eq!(ended(&node.exited()), (ExitStatus::Signal(Signal::TERM), Cause::Killed));
    node.commit(run);
    let (run, _) = node.shell("trap '' TERM; echo deaf; sleep 60 & wait; sleep 60");
    wait_for("the trap", || node.log_lines().contains(&"stdout F deaf".to_owned()).then_some(()));
    node.link.send(&ToAgent::Signal { signal: Signal::TERM, scope: SignalScope::Main });
    node.link.send(&ToAgent::Kill { run });
    assert_eq!(ended(&node.exited()), (ExitStatus::Signal(Signal::KILL), Cause::Killed));
    node.commit(run);
}

#[test]
fn leftovers_are_killed() {
    let mut node = Node::new();
    let begin = Instant::now();
    let script = "setsid sh -c 'exec >/dev/null 2>&1 </dev/null; (trap \"\" TERM; sleep 61) & echo $! > $0; sleep 62' \
                  \"$1\" & while ! test -s \"$1\"; do :; done; exec >&- 2>&-";
    let file = node.path("pid");
    let launch = node.launch(&["sh", "-c", script, "sh", file.to_str().unwrap()]);
    node.start(&launch);
    let exit = node.exited();
    assert_eq!(exit.status, ExitStatus::Code(0));
    let pid: u32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    assert!(!is_alive(pid), "the double-forked child is gone before the end is told");
    assert!(begin.elapsed().as_millis() < 900, "nothing to drain, nothing to wait for: {:?}", begin.elapsed());
    node.commit(launch.run);
    assert!(hostler_linux::procfs::children(node.agent.id()).unwrap().is_empty());
}

#[test]
fn an_orphan_that_holds_stdout_delays_the_end_but_not_for_long() {
    let mut node = Node::new();
    let begin = Instant::now();
    let (run, _) = node.shell("sleep 60 & echo $!");
    node.exited();
    let waited = begin.elapsed().as_millis();
    assert!((900..3_000).contains(&waited), "{waited} ms");
    let pid: u32 = node.log_lines()[0].rsplit(' ').next().unwrap().parse().unwrap();
    assert!(!is_alive(pid));
    node.commit(run);
    // One that only has something to say may say it.
    let (run, _) = node.shell("(sleep 0.2; echo late) & exit 4");
    assert_eq!(node.exited().status, ExitStatus::Code(4));
    assert_eq!(node.log_lines().last().unwrap(), "stdout F late");
    node.commit(run);
}

#[test]
fn max_time_stops_and_then_kills() {
    let mut node = Node::new();
    let mut launch = node.launch(&["sleep", "60"]);
    launch.max_time_ms = Some(150);
    node.start(&launch);
    let exit = node.exited();
    assert_eq!(ended(&exit), (ExitStatus::Signal(Signal::TERM), Cause::Timeout));
    assert!((150..1_500).contains(&exit.duration_ms), "{}", exit.duration_ms);
    node.commit(launch.run);

    let mut launch = node.launch(&["sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60"]);
    launch.max_time_ms = Some(300);
    launch.stop = Stop { signal: Signal::TERM, grace_ms: 150 };
    node.start(&launch);
    let exit = node.exited();
    assert_eq!(ended(&exit), (ExitStatus::Signal(Signal::KILL), Cause::Timeout));
    assert!((450..2_500).contains(&exit.duration_ms), "{}", exit.duration_ms);
    node.commit(launch.run);
}

#[test]
fn a_signal_right_behind_execute_is_not_lost() {
    let mut node = Node::new();
    for _ in 0..20 {
        let launch = node.launch(&["sleep", "60"]);
        let run = launch.run;
        node.link.send_all(&[
            ToAgent::Prepare { launch: Box::new(launch) },
            ToAgent::Execute { run },
            ToAgent::Signal { signal: Signal::TERM, scope: SignalScope::Main },
        ]);
        while !matches!(node.link.message(), FromAgent::Started { .. }) {}
        assert_eq!(ended(&node.exited()), (ExitStatus::Signal(Signal::TERM), Cause::Killed));
        node.commit(run);
    }
}

#[test]
fn kill_while_prepared_cancels() {
    let mut node = Node::new();
    let launch = node.launch(&["true"]);
    node.link.send(&ToAgent::Prepare { launch: Box::new(launch.clone()) });
    assert!(matches!(node.link.message(), FromAgent::Prepared { .. }));
    node.link.send(&ToAgent::Kill { run: launch.run });
    let FromAgent::StartFailed { failure, .. } = node.link.message() else { panic!("not cancelled") };
    assert_eq!(failure.kind, StartFailureKind::Cancelled);
    node.commit(launch.run);
}

#[test]
fn committed_without_reuse_leaves() {
    let mut node = Node::new();
    let (run, _) = node.shell("exit 0");
    node.exited();
    node.link.send(&ToAgent::Committed { run, reuse: false, assume_idle: false });
    assert!(node.link.closed());
    node.gone();
    assert!(!node.path("run").join(run.to_string()).exists());
}

#[test]
fn a_clean_agent_takes_the_next_run_with_the_end_of_the_last() {
    let mut node = Node::new();
    let mut launch = node.launch(&["true"]);
    node.start(&launch);
    for _ in 0..50 {
        let FromAgent::Exited { run, clean, .. } = node.link.message() else { panic!("not ended") };
        assert!(clean && run == launch.run);
        launch = node.launch(&["true"]);
        node.link.send_all(&[
            ToAgent::Committed { run, reuse: true, assume_idle: true },
            ToAgent::Prepare { launch: Box::new(launch.clone()) },
            ToAgent::Execute { run: launch.run },
        ]);
        assert!(matches!(node.link.message(), FromAgent::Started { run, .. } if run == launch.run));
        assert!(!node.path("run").join(run.to_string()).exists());
    }
    node.exited();
    node.link.send(&ToAgent::Committed { run: launch.run, reuse: true, assume_idle: true });
    // No word about it; an agent that is asked says how it stands.
    let directory = node.path("run").join(launch.run.to_string());
    wait_for("the run directory to go", || (!directory.exists()).then_some(()));
    assert_eq!(node.reconnect().state, AgentState::Idle);
}

#[test]
fn an_agent_with_something_left_is_not_clean() {
    let mut node = Node::new();
    // A reader: he gets everything before the next run.
    let mut launch = node.launch(&["echo", "text"]);
    launch.stdio.owner = true;
    node.start(&launch);
    let FromAgent::Exited { clean, .. } = node.link.message() else { panic!("not ended") };
    assert!(!clean);
    node.link.attach(1, AttachTarget::Main, true, false);
    assert_eq!(node.link.read_channel(1).0, b"text\n");
    node.commit(launch.run);
}

#[test]
fn a_fork_bomb_is_killed() {
    let mut node = Node::new();
    let script = "b() { [ $1 -gt 0 ] || exec sleep 60; b $(($1-1)) & b $(($1-1)) & wait; }; b 5";
    let launch = node.launch(&["sh", "-c", script]);
    node.start(&launch);
    wait_for("a crowd", || (hostler_linux::procfs::descendants(node.agent.id()).unwrap().len() > 32).then_some(()));
    node.link.send(&ToAgent::Kill { run: launch.run });
    assert_eq!(node.exited().cause, Cause::Killed);
    assert!(hostler_linux::procfs::descendants(node.agent.id()).unwrap().is_empty());
    node.commit(launch.run);
}
