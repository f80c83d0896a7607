//! Programs that are kept apart from the machine: what the agent sees of them, and what they see.

use hostler_linux::procfs;
use hostler_model::ExitStatus;
use hostler_model::exit::Cause;
use hostler_model::isolation::Isolation;
use hostler_model::launch::{Confinement, Launch};
use hostler_model::units::Signal;
use hostler_model::workload::{Identity, StartFailureKind};
use hostler_wire::{FromAgent, SignalScope, ToAgent};

use crate::client::{Node, PATIENCE, is_root, program};

/// Kept apart by a profile with these changes, as JSON.
fn isolated(node: &mut Node, command: &[&str], changes: &str) -> Launch {
    let mut launch = node.launch(command);
    let asked: Isolation = serde_json::from_str(changes).expect("isolation");
    asked.check().expect("valid");
    let profile = asked.profile.clone().unwrap_or_else(|| "default".to_owned());
    let isolation = asked.on(Isolation::built_in(&profile).expect("built in"));
    let hidden = vec![node.path("").as_os_str().into()];
    launch.program.confinement = Some(Box::new(Confinement { isolation, hostname: "kept-apart".to_owned(), hidden }));
    launch
}

/// Whether this machine lets anybody be kept apart; says why not.
fn can_isolate() -> bool {
    match hostler_linux::confine::support::look().user_namespaces {
        Ok(()) => true,
        Err(why) => {
            eprintln!("skipped: no user namespaces: {why}");
            false
        }
    }
}

fn lines(node: &Node) -> Vec<String> {
    node.log_lines().iter().map(|line| line["stdout F ".len()..].to_owned()).collect()
}

/// `ps` runs alone: of a pipeline it would see parts that are not yet what they become.
const SELF: &str = "id -u; hostname; all=$(ps -e -o comm=); echo \"$all\" | sort -u | tr '\\n' ' '; echo; ls /tmp | wc -l; \
                    grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status; \
                    tr -d '\\0' </proc/1/cmdline | wc -c";

#[test]
fn sees_only_its_own() {
    if !can_isolate() {
        return;
    }
    let mut node = Node::new();
    let launch = isolated(&mut node, &["sh", "-c", SELF], "{}");
    node.whole(&launch);
    let lines = lines(&node);
    assert_eq!(lines[1], "kept-apart");
    assert_eq!(lines[2].trim(), "hostler-init ps sh", "{lines:?}");
    assert_eq!(lines[3], "0");
    for (line, name) in lines[4..9].iter().zip(["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
        assert_eq!(*line, format!("{name}:\t0000000000000000"));
    }
    assert_eq!(lines[9..11], ["NoNewPrivs:\t1", "Seccomp:\t2"]);
    // What is gone with the agent's command line is where the node has its things.
    assert_eq!(lines[11], "hostler-init".len().to_string(), "{lines:?}");
}

#[test]
fn a_user_with_his_groups() {
    if !is_root() || !can_isolate() {
        return eprintln!("skipped: needs root");
    }
    let identity = Identity { uid: 12_345, gid: 23_456, groups: vec![34_567], user: None, home: None };
    for (changes, groups) in [("{}", "23456 65534"), (r#"{"userns":"host"}"#, "23456 34567")] {
        let mut node = Node::new();
        let mut launch = isolated(&mut node, &["sh", "-c", "id -u; id -g; id -G; ls -ld /tmp | cut -c1-10"], changes);
        launch.program.identity = Some(identity.clone());
        node.whole(&launch);
        assert_eq!(lines(&node), ["12345", "23456", groups, "drwxrwxrwt"], "{changes}");
    }
    // What he keeps, he has without being root.
    let mut node = Node::new();
    let mut launch = isolated(
        &mut node,
        &["sh", "-c", "grep -E '^Cap(Prm|Bnd|Amb)' /proc/self/status | cut -f2"],
        r#"{"userns":"host","capabilities":["NET_RAW","CHOWN"]}"#,
    );
    launch.program.identity = Some(identity);
    node.whole(&launch);
    assert_eq!(lines(&node), ["0000000000002001"; 3]);
}

#[test]
fn nothing_is_left_of_what_was_prepared() {
    if !can_isolate() {
        return;
    }
    let mut node = Node::new();
    // At every moment of the preparation, and after it.
    for wait in 0..12 {
        let launch = isolated(&mut node, &["true"], "{}");
        let run = launch.run;
        node.link.send(&ToAgent::Prepare { launch: Box::new(launch) });
        if wait == 11 {
            assert!(matches!(node.link.message(), FromAgent::Prepared { .. }));
        } else {
            std::thread::sleep(std::time::Duration::from_micros(400 * wait));
        }
        node.link.send(&ToAgent::Abort { run });
        while !matches!(node.link.message(), FromAgent::Idle) {}
        assert!(!node.path("run").join(run.to_string()).exists());
        until_childless(&node);
    }
    // The next one is fine.
    let launch = isolated(&mut node, &["true"], "{}");
    assert_eq!(node.whole(&launch).cause, Cause::Success);
    until_childless(&node);
}

fn until_childless(node: &Node) {
    let began = std::time::Instant::now();
    while !node.children().is_empty() {
        assert!(began.elapsed() < PATIENCE, "{:?}", node.children());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn failures_name_what_cannot_be_had() {
    if !can_isolate() {
        return;
    }
    let mut node = Node::new();
    let cases = [
        (r#"{"writable":["/no/such/path"]}"#, "/no/such/path"),
        (r#"{"volumes":[{"source":"/usr","target":"/no/such/path"}]}"#, "/no/such/path"),
        (r#"{"network":{"namespace":"/no/such/path"}}"#, "/no/such/path"),
        (r#"{"network":{"namespace":"/etc/passwd"}}"#, "/etc/passwd"),
        (r#"{"seccomp":{"file":"/no/such/path"}}"#, "/no/such/path"),
        (r#"{"seccomp":{"file":"/etc/passwd"}}"#, "not a seccomp profile"),
        (r#"{"seccomp":{"file":"/dev/zero"}}"#, "not a file"),
        (r#"{"landlock":{"read":["/no/such/path"]}}"#, "/no/such/path"),
    ];
    for (changes, word) in cases {
        let launch = isolated(&mut node, &["true"], changes);
        let failure = node.refused(&launch);
        assert_eq!(failure.kind, StartFailureKind::Isolation, "{changes}: {failure:?}");
        assert!(failure.message.contains(word), "{changes}: {failure:?}");
        node.commit(launch.run);
        until_childless(&node);
    }
    let launch = isolated(&mut node, &["/no/such/program"], "{}");
    assert_eq!(node.refused(&launch).kind, StartFailureKind::CommandNotFound);
    node.commit(launch.run);
    let mut launch = isolated(&mut node, &["true"], "{}");
    launch.program.workdir = "/boot/below".into();
    assert_eq!(node.refused(&launch).kind, StartFailureKind::Workdir);
    node.commit(launch.run);
}

#[test]
fn signals_ends_and_execs() {
    if !can_isolate() {
        return;
    }
    let mut node = Node::new();
    let launch = isolated(&mut node, &["sh", "-c", "(sleep 600 & sleep 600) & exec sleep 600"], "{}");
    let main = node.start(&launch);
    let status = std::fs::read_to_string(format!("/proc/{main}/status")).expect("alive");
    let numbers = status.lines().find(|line| line.starts_with("NSpid:")).expect("its numbers");
    assert_eq!(numbers.split_ascii_whitespace().nth(1), Some(main.to_string().as_str()), "the machine's number");
    assert_eq!(procfs::stats(main).expect("alive").ppid, node.agent.id());
    let exec = hostler_model::ids::ExecId::from_bytes([7; 4]);
    let asked =
        hostler_model::launch::ExecLaunch { program: program(&["sh", "-c", "exit 4"]), interactive: false, tty: None };
    node.link.send(&ToAgent::Exec { exec, launch: Box::new(asked) });
    assert!(matches!(node.link.message(), FromAgent::ExecStarted { .. }));
    let FromAgent::ExecExited { exit, .. } = node.link.message() else { panic!("no end") };
    assert_eq!(exit.status, ExitStatus::Code(4));
    node.link.send(&ToAgent::Signal { signal: Signal::TERM, scope: SignalScope::Main });
    let exit = node.exited();
    assert_eq!((exit.status, exit.cause), (ExitStatus::Signal(Signal::TERM), Cause::Killed));
    until_childless(&node);
    node.commit(launch.run);
}
