//! The escape table: what a container must not be able to do by default, as root in it. Each row is tried, and is refused
//! by the kernel, by what is mounted, or by the filter of system calls; and where an option grants it, that works, so that
//! the row tests what it says.

use hostler_tests::container::{self, Oci};
use hostler_tests::with_each_oci_runtime;

with_each_oci_runtime! {
    what_a_shell_can_try,
    set_uid_programs_gain_nothing,
    what_a_program_can_try,
}

/// What is tried, and words of which one must be in the answer. `;` is between alternatives.
const ROWS: [(&str, &str); 32] = [
    ("echo 1 >/proc/sys/kernel/sysrq", "Read-only file system;nonexistent"),
    ("echo 1 >/proc/sys/net/ipv4/ip_forward", "Read-only file system"),
    ("echo core >/proc/sys/kernel/core_pattern", "Read-only file system"),
    ("echo b >/proc/sysrq-trigger", "Read-only file system;nonexistent"),
    ("sysctl -w kernel.panic=1", "Read-only file system"),
    ("mount -t tmpfs none /tmp", "ermission denied;not permitted"),
    ("mount -t proc none /tmp", "ermission denied;not permitted"),
    ("mount -o remount,rw /proc/sys", "ermission denied;not permitted"),
    ("mount -o remount,rw /sys", "ermission denied;not permitted"),
    ("mount -o bind / /tmp", "ermission denied;not permitted"),
    ("umount /proc/kcore", "not permitted;ermission denied;Invalid argument"),
    ("umount /proc/sys", "not permitted;ermission denied;Invalid argument"),
    ("mkdir /sys/fs/cgroup/memory/sub", "Read-only file system"),
    ("echo 1 >/sys/fs/cgroup/memory/notify_on_release", "Read-only file system"),
    (
        "echo /tmp/x >/sys/fs/cgroup/memory/release_agent",
        "Read-only file system;nonexistent;No such file;ermission denied",
    ),
    ("echo x >/sys/kernel/uevent_helper", "Read-only file system;nonexistent;No such file;ermission denied"),
    ("echo 0 >/sys/class/net/lo/mtu", "Read-only file system"),
    ("dd if=/proc/kcore bs=1 count=1 of=/tmp/x; wc -c /tmp/x", "0 /tmp/x;No such file"),
    ("wc -c </proc/keys", "0\n;No such file"),
    ("wc -c </proc/timer_list", "0\n;No such file"),
    ("ls /sys/firmware | wc -l", "0\n;No such file"),
    ("mknod /tmp/disk b 8 0", "not permitted"),
    ("mknod /tmp/kmsg c 1 11", "not permitted"),
    ("cat /dev/mem", "No such file"),
    ("cat /dev/kmsg", "No such file;not permitted"),
    ("dmesg", "not permitted"),
    ("ping -c 1 -W 1 127.0.0.1", "ermission denied;not permitted"),
    ("ip link add d0 type dummy", "not permitted"),
    ("ip link set lo down", "not permitted"),
    ("insmod /bin/busybox", "not permitted;Exec format;Permission"),
    ("hostname other", "not permitted;you must be root"),
    ("chmod 777 /proc/sys/kernel/hostname", "Read-only file system;not permitted"),
];

fn what_a_shell_can_try(oci: Oci) {
    let place = oci.start();
    place.detach("c", &[], "sleep 600");
    let mut wrong = Vec::new();
    for (script, expected) in ROWS {
        let done = place.exec("c", script);
        let said = format!("{}{}", done.out(), done.err());
        if !expected.split(';').any(|words| said.contains(words)) {
            wrong.push(format!("{script}: {} {said:?}", done.code));
        }
    }
    assert!(wrong.is_empty(), "not refused:\n{}", wrong.join("\n"));
    // Processes of the machine are not there to be touched.
    let outside = std::process::id().to_string();
    place.exec("c", &format!("kill -0 {outside} || ls /proc/{outside}")).code(1);
    // The first process is the container's own, and even that does not lead out.
    assert!(place.exec("c", "ls /proc/1/root/bin/busybox").ok().contains("busybox"));
    let mounts = place.exec("c", "cut -d\" \" -f5 /proc/1/mountinfo").ok();
    let root = place.root().display().to_string();
    assert!(!mounts.contains(&root), "{mounts}");
    place.exec("c", "ls /proc/1/root/../../hostler.sock").code(1);
    place.finish();
}

fn set_uid_programs_gain_nothing(oci: Oci) {
    use std::os::unix::fs::PermissionsExt;
    let place = oci.start();
    let su = place.rootfs().join("bin/su");
    std::fs::remove_file(&su).expect("a link");
    std::fs::copy(container::program("busybox").expect("busybox"), &su).expect("a copy");
    std::fs::set_permissions(&su, std::fs::Permissions::from_mode(0o4755)).expect("chmod");
    let tried = "/bin/su -c 'id -u' root 2>&1 </dev/null; true";
    assert!(place.sh(&["--user", "web"], tried).ok().contains("must be suid"));
    // Where privileges may be gained it would work, up to the password.
    let granted = place.sh(&["--user", "web", "--security-opt", "no-new-privileges=false"], tried).ok();
    assert!(!granted.contains("must be suid"), "{granted}");
    place.finish();
}

/// Tries system calls, and says by which error each was refused; `-` when it was not.
const SYSTEM_CALLS: &str = r#"
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(number, *(ctypes.c_long(argument) for argument in arguments))
    return "-" if result >= 0 else errno.errorcode.get(ctypes.get_errno(), "?")
def forked(number, *arguments):
    # What it does to the process is done to a child.
    here, there = os.pipe()
    if os.fork() == 0:
        os.write(there, call(number, *arguments).encode())
        os._exit(0)
    os.close(there)
    said = os.read(here, 16).decode()
    os.wait()
    return said
def raw(family, kind, protocol):
    try:
        socket.socket(family, kind, protocol).close()
        return "-"
    except OSError as error:
        return errno.errorcode[error.errno]
x = ctypes.addressof(ctypes.create_string_buffer(128))
NEWUSER, NEWNS, NEWNET = 0x10000000, 0x20000, 0x40000000
rows = {
    "add_key": call(248, x, x, x, 0, -2), "request_key": call(249, x, x, 0, -2), "keyctl": call(250, 0, -3, 1),
    "unshare user": forked(272, NEWUSER), "unshare mount": forked(272, NEWNS), "unshare net": forked(272, NEWNET),
    "mount": call(165, x, x, x, 0, 0), "umount2": call(166, x, 0), "pivot_root": call(155, x, x), "fsopen": call(430, x, 0),
    "init_module": call(175, x, 0, x), "finit_module": call(313, 0, x, 0), "delete_module": call(176, x, 0),
    "kexec_load": call(246, 0, 0, 0, 0), "reboot": call(169, 0xfee1dead, 672274793, 0x89ABCDEF, 0),
    "swapon": call(167, x, 0), "settimeofday": call(164, x, 0), "clock_settime": call(227, 0, x), "acct": call(163, 0),
    "bpf": call(321, 0, x, 0), "perf_event_open": call(298, x, 0, -1, -1, 0), "userfaultfd": call(323, 0),
    "open_by_handle_at": call(304, -1, x, 0), "iopl": call(172, 3), "ioperm": call(173, 0, 1, 1), "quotactl": call(179, 0, 0, 0, 0),
    "setns": call(308, 0, NEWNET), "move_pages of 1": call(279, os.getpid() + 100000, 0, 0, 0, 0, 0),
    "io_uring_setup": call(425, 1, x), "nfsservctl": call(180, 0, 0, 0), "vhangup": forked(153), "syslog": call(103, 2, x, 1),
    "sethostname": call(170, x, 1), "mbind": call(237, 0, 0, 0, 0, 0, 0), "kcmp": call(312, 1, 1, 0, 0, 0),
    "packet socket": raw(socket.AF_PACKET, socket.SOCK_RAW, 0), "raw socket": raw(socket.AF_INET, socket.SOCK_RAW, 1),
    "vsock": raw(40, socket.SOCK_STREAM, 0),
}
for name, refused in rows.items():
    print(f"{name}: {refused}")
"#;

/// Rows of which it is enough that they are refused with whatever error, on kernels that have them.
const REFUSED: [&str; 31] = [
    "add_key",
    "request_key",
    "keyctl",
    "unshare user",
    "unshare mount",
    "unshare net",
    "mount",
    "umount2",
    "pivot_root",
    "fsopen",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "reboot",
    "swapon",
    "settimeofday",
    "clock_settime",
    "acct",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "open_by_handle_at",
    "iopl",
    "ioperm",
    "setns",
    "io_uring_setup",
    "vhangup",
    "syslog",
    "packet socket",
    "raw socket",
];

fn what_a_program_can_try(oci: Oci) {
    let Some(debian) = container::debian() else { return };
    let place = oci.start();
    let root = debian.display().to_string();
    let run = |options: &[&str]| {
        let first = ["run", "--oci-runtime", oci.name, "--rootfs", &root, "--read-only", "--tmpfs", "/tmp"];
        place.cli(&[&first, options, &["--", "python3", "-c", SYSTEM_CALLS]].concat()).ok()
    };
    if cfg!(target_arch = "x86_64") {
        let said = run(&[]);
        for name in REFUSED {
            let answer = said.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            // Not only by an argument that made no sense: by somebody who forbids it.
            assert!(
                matches!(answer, Some("EPERM" | "EACCES" | "ENOSYS")),
                "{name} is answered by {answer:?} in:\n{said}"
            );
        }
        // Processes of the machine cannot be traced: there are none to be seen.
        let script = "import ctypes, errno, sys; c = ctypes.CDLL(None, use_errno=True); \
                      r = c.ptrace(16, int(sys.argv[1]), 0, 0); print(r, errno.errorcode.get(ctypes.get_errno()))";
        let host = std::process::id().to_string();
        let command = ["--rootfs", &root, "--read-only", "--", "python3", "-c", script, &host];
        let traced = place.cli(&[&["run", "--oci-runtime", oci.name][..], &command].concat()).ok();
        assert!(matches!(traced.as_str(), "-1 ESRCH" | "-1 EPERM"), "{traced}");
        // Not everything is refused to everybody.
        let granted = run(&["--privileged"]);
        assert!(granted.contains("unshare mount: -") && granted.contains("keyctl: -"), "{granted}");
        let granted = run(&["--cap-add", "NET_RAW"]);
        assert!(granted.contains("raw socket: -"), "{granted}");
    }
    place.finish();
}
