//! Groups on this machine's own hierarchies. Each test makes its own node's group, and leaves nothing.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, but not their helpers")]

mod containers;
mod more;

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hostler_linux::cgroup::{CgroupError, Hierarchies, Parent, Version};
use hostler_linux::procfs;
use hostler_model::NodeTag;
use hostler_model::resources::Limits;
use rustix::event::{PollFd, PollFlags, Timespec};

const PARENT_VARIABLE: &str = "HOSTLER_TEST_PARENT";
const NAME_VARIABLE: &str = "HOSTLER_TEST_NAME";
const SCRIPT_VARIABLE: &str = "HOSTLER_TEST_SCRIPT";

fn tag() -> NodeTag {
    let mut tag = [0; 3];
    rustix::rand::getrandom(&mut tag, rustix::rand::GetRandomFlags::empty()).unwrap();
    NodeTag::from_bytes(tag)
}

/// A node of one test.
struct Node(Parent);

impl Node {
    fn new() -> Option<Self> {
        let hierarchies = Hierarchies::detect().unwrap();
        let node = Self(Parent::new(&hierarchies, None, tag()));
        let available = node.0.available();
        let missing = [available.memory, available.cpu, available.pids].into_iter().find_map(Result::err);
        if !rustix::process::geteuid().is_root() || hierarchies.version() == Version::None || missing.is_some() {
            eprintln!("skipped: {}", missing.unwrap_or_else(|| "needs root".to_owned()));
            return None;
        }
        Some(node)
    }

    /// The v2 mount beside v1 ones: no controllers, but joining, freezing and killing work there as they do everywhere.
    fn unified() -> Option<Self> {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let only: Vec<_> = mountinfo.lines().filter(|line| line.contains(" - cgroup2 ")).collect();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let node = Self(Parent::new(&Hierarchies::parse(&only.join("\n"), &own).unwrap(), None, tag()));
        match node.0.create("probe", &Limits::default()).map(|group| group.remove()) {
            Ok(_) => Some(node),
            Err(error) => {
                eprintln!("skipped: {error}");
                None
            }
        }
    }

    /// A shell that joins the group before it is executed; returns when it has said "ready".
    fn start(&self, name: &str, script: &str) -> Child {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "helper_joins_and_executes", "--nocapture", "--test-threads=1"])
            .env(PARENT_VARIABLE, self.0.to_arg())
            .env(NAME_VARIABLE, name)
            .env(SCRIPT_VARIABLE, script)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.ends_with("ready")), "the helper did not get ready");
        child
    }

    /// What is left of this node anywhere.
    fn leftovers(&self) -> Vec<String> {
        let argument = self.0.to_arg();
        let paths = argument.split(';').filter_map(|field| field.split_once('=')).map(|(_, path)| path.to_owned());
        paths.filter(|path| std::path::Path::new(path).exists()).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for name in self.0.names() {
            let group = self.0.open(&name);
            let deadline = Instant::now() + Duration::from_secs(5);
            while !matches!(group.kill_all(), Ok(true)) && Instant::now() < deadline {}
            let _ = group.remove();
        }
        let _ = self.0.remove();
        if !std::thread::panicking() {
            assert_eq!(self.leftovers(), Vec::<String>::new());
        }
    }
}

/// Not a test: what [`Node::start`] runs.
#[test]
fn helper_joins_and_executes() {
    let (Ok(parent), Ok(name)) = (std::env::var(PARENT_VARIABLE), std::env::var(NAME_VARIABLE)) else { return };
    let parent = Parent::from_arg(&parent).unwrap();
    if name == "agents" {
        parent.join_agents().unwrap();
    } else {
        parent.open(&name).join_self().unwrap();
    }
    // The thread that joined becomes the process.
    let error = Command::new("sh").args(["-c", &std::env::var(SCRIPT_VARIABLE).unwrap()]).exec();
    panic!("cannot execute sh: {error}");
}

fn readable(fd: &OwnedFd, seconds: i64) -> bool {
    let mut poll = [PollFd::new(fd, PollFlags::IN)];
    rustix::event::poll(&mut poll, Some(&Timespec { tv_sec: seconds, tv_nsec: 0 })).unwrap() == 1
}

/// Kills until the group is empty; each pass must be short.
fn kill(group: &hostler_linux::cgroup::Group) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let start = Instant::now();
        let empty = group.kill_all().unwrap();
        // Generous: the machine is shared.
        assert!(start.elapsed() < Duration::from_millis(1_000), "a pass took {:?}", start.elapsed());
        if empty {
            return;
        }
        assert!(Instant::now() < deadline, "the group will not die: {:?}", group.stats());
    }
}

#[test]
fn limits_joining_and_figures() {
    let Some(node) = Node::new() else { return };
    let limits = Limits { memory_bytes: Some(64 << 20), cpu_millis: Some(1_000), pids: Some(32), ..Limits::default() };
    let start = Instant::now();
    let group = node.0.create("run", &limits).unwrap();
    eprintln!("create took {:?}", start.elapsed());
    assert_eq!(node.0.names(), ["run"]);
    assert!(group.kill_all().unwrap(), "nobody is in it yet");

    let script = "x=$(head -c 20000000 /dev/zero | tr '\\0' a); echo ready; exec 1>&-; while :; do sleep 1; done";
    let mut child = node.start("run", script);
    let pids = group.pids().unwrap();
    assert!(pids.contains(&child.id()), "{pids:?} lacks {}", child.id());
    let stats = group.stats().unwrap();
    assert!(stats.cpu_us > 0 && stats.pids > 0 && stats.memory_bytes > 20_000_000, "{stats:?}");
    assert_eq!((stats.memory_limit_bytes, stats.pids_limit), (Some(64 << 20), Some(32)));

    let busy = group.set_limits(&Limits { memory_bytes: Some(4 << 20), ..Limits::default() }).unwrap_err();
    assert!(matches!(&busy, CgroupError::Unavailable { limit: "memory", why } if why.contains("in use")), "{busy}");
    for bytes in [128 << 20, 96 << 20] {
        group.set_limits(&Limits { memory_bytes: Some(bytes), pids: Some(40), ..Limits::default() }).unwrap();
        let stats = group.stats().unwrap();
        assert_eq!((stats.memory_limit_bytes, stats.pids_limit), (Some(bytes), Some(40)));
    }
    assert!(matches!(group.remove(), Err(CgroupError::Busy { .. })));
    assert!(
        matches!(node.0.create("run", &Limits::default()), Err(CgroupError::Busy { .. })),
        "a left-over group is not given out"
    );
    assert!(node.0.remove().is_err(), "the parent has children");

    kill(&group);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    group.remove().unwrap();
    group.remove().unwrap();
    assert!(node.0.names().is_empty() && !group.exists());
}

/// `killer` is the node's parent, perhaps with less to kill with.
fn bomb(node: &Node, killer: &Parent) {
    // Bounded in every way: this machine has other users.
    let limits = Limits { memory_bytes: Some(256 << 20), cpu_millis: Some(500), pids: Some(48), ..Limits::default() };
    let group = node.0.create("bomb", &limits).unwrap();
    let mut child = node.start("bomb", "exec perl -e '$| = 1; print \"ready\\n\"; close STDOUT; while (1) { fork }'");
    let deadline = Instant::now() + Duration::from_secs(20);
    while group.stats().unwrap().pids < 40 {
        assert!(Instant::now() < deadline, "the bomb does not go off: {:?}", group.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
    let start = Instant::now();
    kill(&killer.open("bomb"));
    eprintln!("the bomb was dead after {:?}", start.elapsed());
    child.wait().unwrap();
    assert!(group.pids().unwrap().is_empty());
    group.remove().unwrap();
}

#[test]
fn a_fork_bomb_dies() {
    let Some(node) = Node::new() else { return };
    bomb(&node, &node.0);
}

#[test]
fn a_fork_bomb_dies_without_a_freezer() {
    let Some(node) = Node::new() else { return };
    let argument = node.0.to_arg();
    let without: Vec<_> = argument.split(';').filter(|field| !field.starts_with("freezer=")).collect();
    bomb(&node, &Parent::from_arg(&without.join(";")).unwrap());
}

#[test]
fn out_of_memory_is_counted_and_told() {
    let Some(node) = Node::new() else { return };
    let group = node.0.create("hog", &Limits { memory_bytes: Some(24 << 20), ..Limits::default() }).unwrap();
    let watch = group.oom_watch().unwrap();
    assert!(!readable(&watch, 0));
    assert_eq!(group.oom_kills(), 0);
    let mut child = node.start("hog", "echo ready; exec tail /dev/zero");
    assert!(readable(&watch, 20), "nobody told us");
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!(group.oom_kills(), 1);
    group.remove().unwrap();
}

#[test]
fn freezing() {
    let Some(node) = Node::new() else { return };
    let group = node.0.create("still", &Limits { cpu_millis: Some(200), ..Limits::default() }).unwrap();
    let mut child = node.start("still", "echo ready; exec 1>&-; while :; do :; done");
    group.freeze().unwrap();
    let before = procfs::context_switches(child.id()).unwrap();
    let cpu = group.stats().unwrap().cpu_us;
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(procfs::context_switches(child.id()).unwrap(), before);
    assert_eq!(group.stats().unwrap().cpu_us, cpu);
    group.thaw().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while group.stats().unwrap().cpu_us == cpu {
        assert!(Instant::now() < deadline, "it does not run on");
        std::thread::sleep(Duration::from_millis(1));
    }
    group.freeze().unwrap();
    kill(&group);
    assert_eq!(child.wait().unwrap().signal(), Some(9), "killed while frozen");
}

#[test]
fn v2_freezes_and_kills() {
    let Some(node) = Node::unified() else { return };
    let group = node.0.create("run", &Limits::default()).unwrap();
    let script = "(while :; do sleep 1; done) & echo ready; exec 1>&-; while :; do sleep 1; done";
    let mut child = node.start("run", script);
    let stats = group.stats().unwrap();
    assert!(group.pids().unwrap().contains(&child.id()) && stats.pids >= 2, "{stats:?}");
    group.freeze().unwrap();
    assert!(matches!(group.remove(), Err(CgroupError::Busy { .. })));
    group.thaw().unwrap();
    group.freeze().unwrap();
    kill(&group);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    group.remove().unwrap();
}

#[test]
fn v1_takes_a_quota_above_its_parents() {
    let Some(node) = Node::new() else { return };
    let argument = node.0.to_arg();
    let cpu = argument.split(';').find_map(|field| field.strip_prefix("cpu=").or(field.strip_prefix("cpu,cpuacct=")));
    let Some(cpu) = cpu else {
        eprintln!("skipped: no cgroup v1 cpu hierarchy");
        return;
    };
    std::fs::write(format!("{cpu}/cpu.cfs_quota_us"), "50000").unwrap();
    let group = node.0.create("run", &Limits { cpu_millis: Some(2_000), ..Limits::default() }).unwrap();
    assert_eq!(std::fs::read_to_string(format!("{cpu}/run/cpu.cfs_quota_us")).unwrap().trim(), "-1");
    group.set_limits(&Limits { cpu_millis: Some(250), ..Limits::default() }).unwrap();
    assert_eq!(std::fs::read_to_string(format!("{cpu}/run/cpu.cfs_quota_us")).unwrap().trim(), "25000");
}

#[test]
fn a_cpu_limit_comes_late_and_too_high() {
    let Some(node) = Node::new() else { return };
    let group = node.0.create("late", &Limits::default()).unwrap();
    let mut child = node.start("late", "echo ready; exec 1>&-; while :; do sleep 1; done");
    group.set_limits(&Limits { cpu_millis: Some(250), ..Limits::default() }).unwrap();
    let line = |pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = line(child.id());
    assert!(
        own.lines().filter(|line| line.contains("cpu:") || line.starts_with("0:")).any(|l| l.ends_with("/late")),
        "{own}"
    );
    group
        .set_limits(&Limits {
            cpu_millis: Some(4_000_000),
            memory_bytes: Some(1 << 50),
            pids: Some(u32::MAX),
            ..Limits::default()
        })
        .unwrap();
    kill(&group);
    child.wait().unwrap();
}

#[test]
fn agents_are_not_a_run() {
    let Some(node) = Node::new() else { return };
    let mut child = node.start("agents", "echo ready; exec 1>&-; read forever < /dev/zero; exec sleep 60");
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    assert!(own.lines().any(|line| line.ends_with("/agents")), "{own}");
    assert!(node.0.names().is_empty());
    assert!(matches!(node.0.open("agents").kill_all(), Err(CgroupError::Name { .. })));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn groups_made_by_the_workload_go_too() {
    let Some(node) = Node::new() else { return };
    let group = node.0.create("nest", &Limits::default()).unwrap();
    let argument = node.0.to_arg();
    let pids = argument.split(';').filter_map(|field| field.strip_prefix("pids=").or(field.strip_prefix('='))).next();
    let pids = pids.unwrap();
    let script =
        format!("mkdir -p {pids}/nest/a/b && echo $$ > {pids}/nest/a/b/cgroup.procs; echo ready; exec sleep 60");
    let mut child = node.start("nest", &script);
    assert!(group.pids().unwrap().contains(&child.id()));
    kill(&group);
    child.wait().unwrap();
    group.remove().unwrap();
}
