//! What the program finds when it is executed: streams, signals, limits, user, environment, cgroup.

use hostler_linux::cgroup::{Hierarchies, Parent};
use hostler_model::exit::Cause;
use hostler_model::ids::NodeTag;
use hostler_model::spec::{Limits, Rlimit, RlimitKind};
use hostler_model::workload::{Identity, StartFailureKind};
use hostler_wire::{FromAgent, ToAgent};

use crate::client::{Node, Options, is_root};

#[test]
fn nothing_of_the_agent_is_inherited() {
    let mut node = Node::new();
    let script = "ls /proc/self/fd | wc -l; grep -E '^(SigBlk|SigIgn|NoNewPrivs)' /proc/self/status; ulimit -Sn; \
                  umask; pwd; echo $$ $(ps -o sid= -p $$); env | sort | tr '\\n' ' '; cat /proc/self/oom_score_adj";
    let mut launch = node.launch(&["sh", "-c", script]);
    launch.program.workdir = "/usr".into();
    launch.program.env.push("A=b c".into());
    node.whole(&launch);
    let lines: Vec<_> = node.log_lines().iter().map(|line| line["stdout F ".len()..].to_owned()).collect();
    // Three streams, and ls's own descriptor of the directory.
    assert_eq!(lines[0], "4", "{lines:?}");
    assert_eq!(lines[1..4], ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "NoNewPrivs:\t1"]);
    assert_eq!(lines[4..7], ["1024", "0022", "/usr"]);
    let (pid, sid) = lines[7].split_once(' ').unwrap();
    assert_eq!(pid, sid.trim(), "its own session");
    assert!(lines[8].starts_with("A=b c PATH=") || lines[8].starts_with("A=b c OLDPWD"), "{}", lines[8]);
    assert!(!lines[8].contains("CARGO"), "{}", lines[8]);
}

#[test]
fn bytes_that_are_not_text() {
    let mut node = Node::new();
    let mut launch = node.launch(&["sh", "-c", "printf %s \"$V\" | od -An -tx1; printf %s \"$1\" | od -An -tx1", "sh"]);
    launch.program.env.push(b"V=\xff\xfe".to_vec().into());
    launch.program.command.push(b"\x80\n".to_vec().into());
    node.whole(&launch);
    assert_eq!(node.log_lines(), ["stdout F  ff fe", "stdout F  80 0a"]);
}

#[test]
fn another_user_with_his_groups_and_his_rights() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let mut node = Node::new();
    let identity = Identity { uid: 12_345, gid: 23_456, groups: vec![34_567, 45_678], user: None, home: None };
    let mut launch = node.launch(&["sh", "-c", "id -u; id -g; id -G; cat /etc/shadow; exit 0"]);
    launch.program.identity = Some(identity.clone());
    node.whole(&launch);
    let lines = node.log_lines();
    assert_eq!(lines[..3], ["stdout F 12345", "stdout F 23456", "stdout F 23456 34567 45678"]);
    assert!(lines[3].contains("ermission denied"), "{lines:?}");
    // He opens his files himself, and dies with the agent like everyone.
    let mut launch = node.launch(&["true"]);
    launch.program.identity = Some(identity.clone());
    launch.stdio.stdout = Some(node.path("run/mine").as_os_str().into());
    assert_eq!(node.refused(&launch).kind, StartFailureKind::Stdio);
    node.commit(launch.run);
    let mut launch = node.launch(&["sleep", "60"]);
    launch.program.identity = Some(identity.clone());
    let pid = node.start(&launch);
    node.agent.kill().unwrap();
    node.agent.wait().unwrap();
    crate::client::wait_for("the program to die", || (!crate::client::is_alive(pid)).then_some(()));
    // A terminal is his own.
    let mut node = Node::new();
    let mut launch = node.launch(&["sh", "-c", "stat -c %u $(tty); echo x > /dev/tty"]);
    launch.program.identity = Some(identity);
    launch.stdio.tty = Some(hostler_model::spec::TtySize::default());
    node.whole(&launch);
    assert_eq!(node.log_lines(), ["stdout F 12345", "stdout F x"]);
}

#[test]
fn rlimits_as_asked_or_refused() {
    let mut node = Node::new();
    let rlimit = |kind, soft, hard| Rlimit { kind, soft: Some(soft), hard: Some(hard) };
    let mut launch = node.launch(&["sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -Sc"]);
    launch.program.rlimits = vec![rlimit(RlimitKind::Nofile, 100, 200), rlimit(RlimitKind::Core, 0, 0)];
    node.whole(&launch);
    assert_eq!(node.log_lines(), ["stdout F 100", "stdout F 200", "stdout F 0"]);
    let mut launch = node.launch(&["true"]);
    // Above what any kernel gives.
    launch.program.rlimits = vec![rlimit(RlimitKind::Nofile, 1 << 40, 1 << 40)];
    let failure = node.refused(&launch);
    assert_eq!(failure.kind, StartFailureKind::Limit, "{}", failure.message);
    assert!(failure.message.contains("rlimit nofile"), "{}", failure.message);
}

/// A cgroup parent of this test's own; `None`, with a word why, where none can be had.
fn parent(tag: u8) -> Option<Parent> {
    let parent =
        Parent::new(&Hierarchies::detect().ok()?, None, NodeTag::from_bytes([0xa9, tag, std::process::id() as u8]));
    match parent.available().memory {
        Ok(()) => Some(parent),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

/// Removes the parent's groups when the test ends, however it ends.
struct Removed(Parent);

impl Drop for Removed {
    fn drop(&mut self) {
        for name in self.0.names() {
            let group = self.0.open(&name);
            let _ = group.kill_all();
            let _ = group.remove();
        }
        crate::client::wait_for("the groups to be free", || self.0.remove().ok());
    }
}

#[test]
fn out_of_memory_is_a_cause_of_its_own() {
    let Some(parent) = parent(1) else { return };
    let parent = Removed(parent);
    let arg = parent.0.to_arg();
    let mut node = Node::with(&Options { cgroup: Some(&arg), ..Options::default() });
    // One endless line.
    let mut launch = node.launch(&["tail", "/dev/zero"]);
    launch.limits = Limits { memory_bytes: Some(24 << 20), ..Limits::default() };
    launch.cgroup = Some("oom".to_owned());
    node.start(&launch);
    let mut told = 0;
    let exit = loop {
        match node.link.message() {
            FromAgent::Oom { oom_kills, .. } => told = oom_kills,
            FromAgent::Exited { exit, .. } => break exit,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((exit.cause, exit.oom_kills), (Cause::Oom, 1));
    eprintln!("oom kills told while it ran: {told}");
    node.commit(launch.run);
    assert!(!parent.0.open("oom").exists(), "the group is removed");

    // Within a shell: the shell sees it, the agent tells it, and the end is the shell's own.
    let mut launch = node.launch(&["sh", "-c", "tail /dev/zero; sleep 60"]);
    launch.limits = Limits { memory_bytes: Some(24 << 20), ..Limits::default() };
    launch.cgroup = Some("within".to_owned());
    node.start(&launch);
    assert!(matches!(node.link.message(), FromAgent::Oom { oom_kills: 1, .. }));
    node.link.send(&ToAgent::Update { request: 8, limits: Box::new(Limits { pids: Some(50), ..Limits::default() }) });
    assert!(matches!(node.link.message(), FromAgent::Done { request: 8, error: None }));
    node.link.send(&ToAgent::Stats { request: 9, sample: false, depth: Default::default() });
    match node.link.message() {
        FromAgent::Stats { request: 9, stats } => {
            assert!(stats.memory_limit_bytes == Some(24 << 20) && stats.pids >= 1, "{stats:?}");
        }
        other => panic!("{other:?}"),
    }
    node.link.send(&ToAgent::Kill { run: launch.run });
    let exit = node.exited();
    assert_eq!((exit.cause, exit.oom_kills), (Cause::Killed, 1));
    node.commit(launch.run);
    node.link.send(&ToAgent::Quit);
    node.gone();
}

#[test]
fn without_a_cgroup_limits_cannot_be_updated_and_statistics_come_from_proc() {
    let mut node = Node::new();
    let launch = node.launch(&["sh", "-c", "sleep 60 & wait"]);
    let pid = node.start(&launch);
    crate::client::wait_for("the child", || (!hostler_linux::procfs::children(pid).unwrap().is_empty()).then_some(()));
    node.link.send(&ToAgent::Update { request: 1, limits: Box::default() });
    match node.link.message() {
        FromAgent::Done { request: 1, error: Some(error) } => assert!(error.contains("has no cgroup"), "{error}"),
        other => panic!("{other:?}"),
    }
    node.link.send(&ToAgent::Stats { request: 2, sample: false, depth: Default::default() });
    match node.link.message() {
        FromAgent::Stats { request: 2, stats } => assert!(stats.pids == 2 && stats.memory_bytes > 0, "{stats:?}"),
        other => panic!("{other:?}"),
    }
    node.link.send(&ToAgent::Kill { run: launch.run });
    node.exited();
    node.commit(launch.run);
}
