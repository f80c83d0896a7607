//! The default list of system calls, as data: for the filter of a confined process, and for the `linux.seccomp` of an OCI
//! configuration.
//!
//! [`Profile`] has the shape of that object, and is serialised as it: `serde_json::to_value(profile::default(&kept))` is
//! what goes into a `config.json`, when `kept` are the capabilities of the container's bounding set. For our own processes
//! [`super::compile`] makes a program of the same value.
//!
//! What is on the list follows containerd's default profile (2.x): everything that an ordinary program needs, what a kept
//! capability is for, and nothing of the kernel's seldom used corners: no keys (`keyctl`), no `bpf`, no
//! `perf_event_open`, no `userfaultfd`, no `io_uring`, no new namespaces, no mounts. What is not on it answers `EPERM`.
//! It differs in one place: containerd permits every address family above `AF_VSOCK`, by a comparison of 64 bits of which the
//! kernel looks at 32 only; here each family that exists is named.

use std::borrow::Cow;

use hostler_model::Capability;
use serde::{Deserialize, Serialize};

/// What becomes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the OCI runtime specification")]
pub enum Action {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// An error: the rule's `errno_ret`, the profile's, or `EPERM`.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// `SIGSYS`.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// Allowed, and in the kernel's log.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the OCI runtime specification")]
pub enum Comparison {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// The argument and `value` is `value_two`.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// A condition on an argument, unsigned, 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Argument {
    /// Which one, from 0.
    pub index: u8,
    /// What it is compared with.
    pub value: u64,
    /// Used by [`Comparison::MaskedEqual`] only.
    #[serde(default)]
    pub value_two: u64,
    /// How.
    pub op: Comparison,
}

/// What becomes of some system calls. Of several that fit a call, the first counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Which; names that this machine does not have are passed over.
    pub names: Vec<Cow<'static, str>>,
    /// What becomes of them.
    pub action: Action,
    /// The error for [`Action::Errno`], the message for [`Action::Trace`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Argument>,
}

/// A filter of system calls, in the shape of `linux.seccomp` of an OCI configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// For what no rule fits.
    pub default_action: Action,
    /// Its error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// Kinds of programs that it is for. Our own filter is for the machine's own kind, and ends others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<Cow<'static, str>>,
    /// The rules.
    #[serde(default)]
    pub syscalls: Vec<Rule>,
}

/// Kinds of programs that run on this machine, as OCI configurations name them.
#[cfg(target_arch = "x86_64")]
pub const ARCHITECTURES: &[&str] = &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
/// Kinds of programs that run on this machine, as OCI configurations name them.
#[cfg(target_arch = "aarch64")]
pub const ARCHITECTURES: &[&str] = &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"];

/// Permitted to everybody.
const ALWAYS: &str = "
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
    ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list
    get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32
    getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
    getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday
    getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set
    ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link
    linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lsm_get_self_attr
    lsm_list_modules lsm_set_self_attr lstat lstat64 madvise map_shadow_stack membarrier memfd_create
    memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr
    mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap
    mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll
    ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64
    pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
    remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget
    semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list
    set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
    setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32
    setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt
    shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat
    stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
    truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork
    vmsplice wait4 waitid waitpid write writev
    process_vm_readv process_vm_writev ptrace
";

/// Permitted on this kind of machine.
#[cfg(target_arch = "x86_64")]
const HERE: &str = "arch_prctl modify_ldt";
/// Permitted on this kind of machine.
#[cfg(target_arch = "aarch64")]
const HERE: &str = "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2";

/// Permitted to those who keep a capability.
const WITH_CAPABILITY: &[(&str, &str)] = &[
    ("BPF", "bpf"),
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    ("PERFMON", "perf_event_open"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYSLOG", "syslog"),
    ("SYS_MODULE", "delete_module finit_module init_module"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("SYS_RAWIO", "ioperm iopl"),
    ("SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("SYS_TTY_CONFIG", "vhangup"),
];

/// Flags of `clone` that make a namespace: of mounts, host names, IPC, users, processes, networks, cgroups.
pub(super) const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;

/// Execution domains: Linux, with addresses that are not random, or with kernel releases called 2.6; all ones asks only.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Families of sockets: all that there are, but for 38 (`AF_ALG`) and 40 (`AF_VSOCK`, which leads out of a virtual machine).
/// Equal, or below: only so what the kernel does not look at, the upper half of the argument, makes no difference.
const FAMILIES: [(Comparison, u64); 7] = [
    (Comparison::Less, libc::AF_ALG as u64),
    (Comparison::Equal, 39),
    (Comparison::Equal, 41),
    (Comparison::Equal, 42),
    (Comparison::Equal, 43),
    (Comparison::Equal, 44),
    (Comparison::Equal, 45),
];

fn words(list: &'static str) -> impl Iterator<Item = Cow<'static, str>> {
    list.split_ascii_whitespace().map(Cow::Borrowed)
}

fn allow(names: Vec<Cow<'static, str>>, args: Vec<Argument>) -> Rule {
    Rule { names, action: Action::Allow, errno_ret: None, args }
}

/// The rules for somebody who keeps these capabilities.
#[must_use]
pub fn rules(capabilities: &[Capability]) -> Vec<Rule> {
    let mut names: Vec<Cow<'static, str>> = words(ALWAYS).chain(words(HERE)).collect();
    for (capability, also) in WITH_CAPABILITY {
        if capabilities.iter().any(|kept| kept.to_string() == *capability) {
            names.extend(words(also));
        }
    }
    names.sort_unstable();
    names.dedup();
    let mut rules = vec![allow(names, Vec::new())];
    let on_first = |value, value_two, op| vec![Argument { index: 0, value, value_two, op }];
    for (op, family) in FAMILIES {
        rules.push(allow(vec!["socket".into()], on_first(family, 0, op)));
    }
    for domain in PERSONALITIES {
        rules.push(allow(vec!["personality".into()], on_first(domain, 0, Comparison::Equal)));
    }
    if !capabilities.contains(&Capability::SYS_ADMIN) {
        rules.push(allow(vec!["clone".into()], on_first(NEW_NAMESPACES, 0, Comparison::MaskedEqual)));
        // Its flags are in memory, where a filter cannot look; programs fall back to `clone` when it does not exist.
        rules.push(Rule {
            names: vec!["clone3".into()],
            action: Action::Errno,
            errno_ret: Some(libc::ENOSYS.cast_unsigned()),
            args: Vec::new(),
        });
    }
    rules
}

/// The profile for somebody who keeps these capabilities.
#[must_use]
pub fn default(capabilities: &[Capability]) -> Profile {
    Profile {
        default_action: Action::Errno,
        default_errno_ret: None,
        architectures: ARCHITECTURES.iter().map(|name| Cow::Borrowed(*name)).collect(),
        syscalls: rules(capabilities),
    }
}

#[cfg(test)]
mod tests {
    use super::super::numbers::number;
    use super::*;

    #[test]
    fn nothing_of_the_kernels_corners_is_permitted_by_default() {
        let rules = rules(&[]);
        let permitted =
            |name: &str| rules.iter().any(|rule| rule.args.is_empty() && rule.names.iter().any(|it| it == name));
        for name in
            "keyctl add_key request_key bpf perf_event_open userfaultfd io_uring_setup unshare setns mount umount2
            pivot_root open_tree move_mount fsopen init_module finit_module delete_module kexec_load reboot swapon
            iopl ioperm settimeofday clock_settime open_by_handle_at chroot acct quotactl syslog mbind"
                .split_ascii_whitespace()
        {
            assert!(!permitted(name), "{name}");
            assert!(number(name).is_some() || cfg!(target_arch = "aarch64"), "{name}");
        }
        for name in "read execve mmap ptrace rseq statx openat2 landlock_create_ruleset".split_ascii_whitespace() {
            assert!(permitted(name), "{name}");
        }
    }

    #[test]
    fn a_capability_brings_its_calls() {
        for (name, calls) in WITH_CAPABILITY {
            let capability: Capability = name.parse().expect(name);
            let rules = rules(&[capability]);
            for call in calls.split_ascii_whitespace() {
                assert!(rules[0].names.iter().any(|it| it == call), "{name}: {call}");
            }
            let admin = *name == "SYS_ADMIN";
            assert_eq!(rules.iter().any(|rule| rule.names == ["clone3"]), !admin);
        }
    }

    #[test]
    fn has_the_shape_of_an_oci_configuration() {
        let json = serde_json::to_value(default(&[])).expect("print");
        assert_eq!(json["defaultAction"], "SCMP_ACT_ERRNO");
        let rules = json["syscalls"].as_array().expect("a list");
        let clone3 = serde_json::json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38});
        assert!(rules.contains(&clone3));
        let clone = serde_json::json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 2_114_060_288_u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]});
        assert!(rules.contains(&clone));
        let again: Profile = serde_json::from_value(json).expect("parse");
        assert_eq!(again, default(&[]));
    }
}
