//! The escape table: what a program that is kept apart tries, as root of its own user namespace, and the error it gets.
//! Perl makes the bare system calls: it is on every Debian, and needs nothing.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use hostler_linux::confine::seccomp::numbers::number;
use hostler_model::ExitStatus;
use hostler_model::workload::RunState;
use hostler_tests::{Output, TestNode, is_root, skip};

use crate::can_isolate;

/// What is tried.
enum Try {
    /// A system call by name, with arguments in Perl; the error's number is the exit code.
    Call(&'static str, &'static str),
    /// A shell line.
    Shell(&'static str),
    /// Perl in full.
    Perl(&'static str),
}

use Try::{Call, Perl, Shell};

/// Errors by their usual names.
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const EROFS: i32 = 30;
const ENOSYS: i32 = 38;
const ECONNREFUSED: i32 = 111;

/// Name, what is tried (`HOST` is a process of the machine, `KEY` a memory segment of it, `ROOT` the node's directory), the expected exit
/// code: of Perl an error's number, of the shell what it says.
const TABLE: &[(&str, Try, i32)] = &[
    ("a system setting, by file", Perl("open(F, '>', '/proc/sys/kernel/hostname') or exit $!+0"), EROFS),
    ("the pattern of core files", Perl("open(F, '>', '/proc/sys/kernel/core_pattern') or exit $!+0"), EROFS),
    ("a setting in /sys", Perl("open(F, '>', '/sys/kernel/profiling') or exit $!+0"), EROFS),
    (
        "its own OOM protection",
        Perl("open(F, '>', '/proc/self/oom_score_adj'); syswrite(F, '-900') or exit $!+0"),
        EACCES,
    ),
    (
        "another cgroup",
        Shell(
            "f=$(find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs | head -n 1); test -n \"$f\" && sh -c \"echo 0 >$f\" 2>&1 | grep -q Read-only",
        ),
        0,
    ),
    ("a mount", Call("mount", "'none', '/tmp', 'tmpfs', 0, 0"), EPERM),
    ("a remount to write", Call("mount", "'none', '/', 0, 4096|32, 0"), EPERM),
    ("a mount by descriptors", Call("fsopen", "'tmpfs', 0"), EPERM),
    ("a copy of a mount", Call("open_tree", "-100, '/', 1"), EPERM),
    ("taking a mount away", Call("umount2", "'/proc/sys', 2"), EPERM),
    ("another root", Call("pivot_root", "'/tmp', '/tmp'"), EPERM),
    ("a change of root", Call("chroot", "'/tmp'"), EPERM),
    ("tracing a process of the machine", Call("ptrace", "16, HOST, 0, 0"), ESRCH),
    ("tracing the first process", Call("ptrace", "16, 1, 0, 0"), EPERM),
    ("memory of the first process", Perl("open(F, '<', '/proc/1/mem') or exit $!+0"), EACCES),
    ("environment of the first process", Perl("open(F, '<', '/proc/1/environ') or exit $!+0"), EACCES),
    ("files by the first process", Perl("opendir(D, '/proc/1/root/') or exit $!+0"), EACCES),
    ("signalling a process of the machine", Perl("kill(0, HOST) or exit $!+0"), ESRCH),
    (
        "killing the first process",
        Shell("kill -9 1; kill -STOP 1; kill -TERM 1; grep -q '^State:.[SR]' /proc/1/status"),
        0,
    ),
    ("seeing a process of the machine", Perl("stat('/proc/HOST') or exit $!+0"), ENOENT),
    ("seeing many processes", Shell("test $(ls -d /proc/[0-9]* | wc -l) -lt 8"), 0),
    ("a descriptor of the machine", Call("pidfd_open", "HOST, 0"), ESRCH),
    ("a raw socket", Call("socket", "2, 3, 1"), EPERM),
    ("a packet socket", Call("socket", "17, 3, 768"), EPERM),
    ("a socket out of a virtual machine", Call("socket", "40, 1, 0"), EPERM),
    ("the same, with a bit that nobody looks at", Call("socket", "40 | (1 << 32), 1, 0"), EPERM),
    ("the kernel's cryptography", Call("socket", "38, 5, 0"), EPERM),
    ("loading a module", Call("init_module", "'x', 1, ''"), EPERM),
    ("loading a module from a file", Call("finit_module", "0, '', 0"), EPERM),
    ("taking a module away", Call("delete_module", "'x', 0"), EPERM),
    ("another kernel", Call("kexec_load", "0, 0, 0, 0"), EPERM),
    ("a reboot", Call("reboot", "0, 0, 0, 0"), EPERM),
    ("swap", Call("swapon", "'/tmp/x', 0"), EPERM),
    ("ports of the machine", Call("iopl", "3"), EPERM),
    ("a character device", Call("mknod", "'/tmp/zero', 0020666, 261"), EPERM),
    ("a block device", Call("mknod", "'/tmp/disk', 0060666, 65024"), EPERM),
    (
        "other devices",
        Shell("! ls /dev/mem /dev/kmsg /dev/kvm /dev/[svx]d* /dev/loop* /dev/fuse 2>/dev/null | grep -q ."),
        0,
    ),
    ("keys", Call("keyctl", "0, -3, 1"), EPERM),
    ("a key", Call("add_key", "'user', 'x', 'y', 1, -3"), EPERM),
    ("somebody's key", Call("request_key", "'user', 'x', 0, -3"), EPERM),
    ("users of its own", Call("unshare", "0x10000000"), EPERM),
    ("a network of its own", Call("unshare", "0x40000000"), EPERM),
    ("a child with users of its own", Call("clone", "0x10000011, 0, 0, 0, 0"), EPERM),
    ("the same by the newer call", Call("clone3", "0, 0"), ENOSYS),
    ("another's namespace", Call("setns", "0, 0"), EPERM),
    ("programs in the kernel", Call("bpf", "0, 0, 0"), EPERM),
    ("counters of the machine", Call("perf_event_open", "0, 0, -1, -1, 0"), EPERM),
    ("faults of its own", Call("userfaultfd", "0"), EPERM),
    ("calls past the filter", Call("io_uring_setup", "1, 0"), EPERM),
    ("files by number", Call("open_by_handle_at", "0, 0, 0"), EPERM),
    ("the kernel's log", Call("syslog", "3, 0, 0"), EPERM),
    ("the clock", Call("clock_settime", "0, 0"), EPERM),
    ("the host name", Call("sethostname", "'x', 1"), EPERM),
    ("an execution domain", Call("personality", "0x0400000"), EPERM),
    ("another user", Call("setresuid", "1, 1, 1"), EINVAL),
    ("groups", Call("setgroups", "0, 0"), EPERM),
    ("files for another user", Perl("open(F, '>', '/tmp/x'); chown(1, 1, '/tmp/x') or exit $!+0"), EINVAL),
    ("capabilities back", Shell("grep -q '^CapBnd:.0000000000000000' /proc/self/status"), 0),
    ("passwords", Shell("test -z \"$(cat /etc/shadow /etc/gshadow)\""), 0),
    ("root's files", Shell("test -z \"$(find /root /run /boot -mindepth 1)\""), 0),
    ("hiding nothing any more", Perl("rmdir('/root') or exit $!+0"), EROFS),
    ("a program of the machine", Perl("open(F, '>>', '/etc/hosts') or exit $!+0"), EROFS),
    ("a new file of the machine", Perl("open(F, '>', '/usr/bin/x') or exit $!+0"), EROFS),
    ("a file in a hidden place", Perl("open(F, '>', '/run/x') or exit $!+0"), EROFS),
    ("a device directory", Perl("open(F, '>', '/dev/x') or exit $!+0"), EROFS),
    ("/tmp of the machine", Shell("test -z \"$(find /tmp /var/tmp /dev/shm -mindepth 1)\""), 0),
    ("the node's own files", Perl("stat('ROOT') or exit $!+0"), ENOENT),
    ("a memory segment of the machine", Perl("defined(shmget(KEY, 1, 0)) or exit $!+0"), ENOENT),
    (
        "a socket of the machine without a file",
        Perl("socket(S, 1, 1, 0); connect(S, pack('S a*', 1, \"\\0ABSTRACT\")) or exit $!+0"),
        ECONNREFUSED,
    ),
    (
        "the machine's network",
        Shell(
            "test \"$(ls /proc/self/net/dev_snmp6 2>/dev/null; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ')\" != x && ! tail -n +3 /proc/net/dev | grep -qv lo:",
        ),
        0,
    ),
    ("command line of the agent", Shell("! tr '\\0' ' ' </proc/1/cmdline | grep -q -e sandbox -e /"), 0),
];

struct Machine {
    host: u32,
    root: String,
    key: u32,
    name: String,
}

fn program(tried: &Try, machine: &Machine) -> Option<Vec<String>> {
    let fill = |text: &str| {
        text.replace("HOST", &machine.host.to_string())
            .replace("ROOT", &machine.root)
            .replace("KEY", &machine.key.to_string())
            .replace("ABSTRACT", &machine.name)
    };
    Some(match tried {
        Call(name, arguments) => {
            let line =
                format!("my @a = ({1}); syscall({0}, @a) == -1 and exit $!+0; exit 0", number(name)?, fill(arguments));
            vec!["perl".to_owned(), "-e".to_owned(), line]
        }
        Perl(text) => vec!["perl".to_owned(), "-e".to_owned(), fill(text)],
        Shell(text) => vec!["sh".to_owned(), "-c".to_owned(), fill(text)],
    })
}

fn run(node: &TestNode, options: &[&str], program: &[String]) -> Output {
    let program: Vec<&str> = program.iter().map(String::as_str).collect();
    node.cli(&[&["run", "--rm"], options, &["--"], &program[..]].concat())
}

/// What a row found, when it is not what it should.
fn try_row(node: &TestNode, options: &[&str], row: &(&str, Try, i32), machine: &Machine) -> Option<String> {
    let (name, tried, expected) = row;
    // A call that this kind of machine does not have.
    let program = program(tried, machine)?;
    let done = run(node, options, &program);
    (done.code != *expected)
        .then(|| format!("{name}: {} instead of {expected} ({program:?}): {}", done.code, done.err()))
}

fn has_perl() -> bool {
    std::process::Command::new("perl").args(["-e", "1"]).status().is_ok_and(|status| status.success())
}

/// Of a segment that exists on the machine as long as this lives.
struct Segment(u32);

impl Segment {
    fn make() -> Self {
        let key = 0x4800_0000 | std::process::id();
        perl(&format!("defined(shmget({key}, 4096, 01600)) or die $!"));
        Self(key)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        perl(&format!("shmctl(shmget({}, 1, 0), 0, 0) or die $!", self.0));
    }
}

fn perl(line: &str) {
    let status = std::process::Command::new("perl").args(["-e", line]).status().expect("perl");
    assert!(status.success(), "{line}");
}

#[test]
fn each_way_out_is_refused() {
    if !is_root() || !has_perl() {
        return skip("needs root, to be refused what root could do, and perl");
    }
    let node = TestNode::new();
    if !can_isolate(&node) {
        return node.finish();
    }
    let segment = Segment::make();
    let name = format!("hostler-escape-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("a socket");
    let root = node.root().display().to_string();
    let machine = Machine { host: node.pid(), root, key: segment.0, name };
    // They show something: the same is possible for those who are not kept apart.
    for open in ["stat('/proc/HOST') or exit $!+0", "kill(0, HOST) or exit $!+0", "stat('ROOT') or exit $!+0"] {
        assert_eq!(run(&node, &[], &program(&Perl(open), &machine).expect("perl")).code, 0, "{open}");
    }
    let of_machine =
        TABLE.iter().filter(|row| row.0.contains("of the machine") && matches!(row.2, ENOENT | ECONNREFUSED));
    let mut shown = 0;
    for row in of_machine {
        shown += 1;
        assert_eq!(run(&node, &[], &program(&row.1, &machine).expect("perl")).code, 0, "{}", row.0);
    }
    assert_eq!(shown, 3);
    for profile in ["--isolate", "--isolate=strict"] {
        let failed: Vec<String> = TABLE.iter().filter_map(|row| try_row(&node, &[profile], row, &machine)).collect();
        assert!(failed.is_empty(), "{profile}:\n{}", failed.join("\n"));
    }
    node.finish();
}

/// What holds without the filter of system calls, by namespaces and rights alone.
#[test]
fn most_ways_are_closed_twice() {
    if !is_root() || !has_perl() {
        return skip("needs root and perl");
    }
    let node = TestNode::new();
    if !can_isolate(&node) {
        return node.finish();
    }
    let rows = [
        ("mount", "'none', '/tmp', 'tmpfs', 0, 0", EPERM),
        ("mount", "'none', '/', 0, 4096|32, 0", EPERM),
        ("umount2", "'/proc/sys', 2", EPERM),
        ("chroot", "'/tmp'", EPERM),
        ("socket", "2, 3, 1", EPERM),
        ("reboot", "0xfee1dead, 672274793, 0, 0", EPERM),
        ("mknod", "'/tmp/disk', 0060666, 65024", EPERM),
        ("unshare", "0x40000000", EPERM),
        ("sethostname", "'x', 1", EPERM),
        ("syslog", "3, 0, 0", EPERM),
        ("ptrace", "16, 1, 0, 0", EPERM),
    ];
    let work = node.work().join("unfiltered.json");
    std::fs::write(&work, r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).expect("write");
    for (name, arguments, expected) in rows {
        let line =
            format!("my @a = ({arguments}); syscall({}, @a) == -1 and exit $!+0", number(name).unwrap_or(u32::MAX));
        let mut spec = node.spec(&["perl", "-e", &line]);
        spec.workdir = None;
        let asked = serde_json::json!({"seccomp": {"file": work}});
        spec.isolation = Some(serde_json::from_value(asked).expect("isolation"));
        let view = node.create(&spec);
        let ended = node.ended(&view.workload.id.to_string());
        let state = ended.workload.run.as_ref().map(|run| run.state.clone());
        let Some(RunState::Ended { exit, .. }) = state else { panic!("{name}: {state:?}") };
        assert_eq!(exit.status, ExitStatus::Code(u8::try_from(expected).expect("small")), "{name}");
    }
    node.finish();
}

/// A set-uid program of root's, run by somebody else in it: it stays his.
#[test]
fn set_uid_programs_give_nothing() {
    if !is_root() {
        return skip("needs root, to make such a program");
    }
    let node = TestNode::new();
    if !can_isolate(&node) {
        return node.finish();
    }
    let copy = node.work().join("id");
    std::fs::copy("/usr/bin/id", &copy).expect("copy");
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).expect("chmod");
    let copy = copy.to_str().expect("text");
    for profile in ["--isolate", "--isolate=network-service"] {
        let done =
            node.cli(&["run", "--rm", profile, "--user", "4242:4242", "--writable-path", copy, "--", copy, "-u"]);
        // The node's own directories are hidden, whatever is asked.
        done.refused(127, "id");
        let place = tempfile::tempdir_in("/var/tmp").expect("a directory");
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let other = place.path().join("id");
        std::fs::copy(copy, &other).expect("copy");
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o4755)).expect("chmod");
        let other = other.to_str().expect("text");
        let line = ["run", "--rm", profile, "--user", "4242:4242", "--writable-path", other, "--", other, "-u"];
        assert_eq!(node.cli(&line).ok(), "4242");
    }
    node.finish();
}
