//! Both versions over plain directories: which files are written, and what is made of what they say.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use hostler_model::NodeTag;
use hostler_model::resources::Limits;
use tempfile::TempDir;

use super::*;

mod limits;
mod places;

const TAG: NodeTag = NodeTag::from_bytes([1, 2, 3]);
fn some_limits() -> Limits {
    Limits { memory_bytes: Some(64 << 20), cpu_millis: Some(1_500), pids: Some(32), ..Limits::default() }
}

fn put(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn text(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| format!("{path}: {error}"))
}

/// Memory in a sub-group, cpu and cpuacct together, as on many machines; all under a temporary directory.
fn v1() -> (TempDir, Hierarchies) {
    let root = TempDir::new().unwrap();
    let mut mountinfo = String::new();
    for (number, names) in ["memory", "cpu,cpuacct", "pids", "freezer"].iter().enumerate() {
        let point = root.path().join(names);
        fs::create_dir_all(point.join("sub")).unwrap();
        mountinfo += &format!("{number} 99 0:1 / {} rw - cgroup cgroup rw,{names}\n", point.display());
    }
    let own = "4:memory:/sub\n3:cpu,cpuacct:/\n2:pids:/\n1:freezer:/\n";
    let hierarchies = Hierarchies::parse(&mountinfo, own).unwrap();
    (root, hierarchies)
}

fn v2() -> (TempDir, Hierarchies) {
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("own")).unwrap();
    let mountinfo = format!("1 99 0:1 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
    let hierarchies = Hierarchies::parse(&mountinfo, "0::/own\n").unwrap();
    (root, hierarchies)
}

#[test]
fn v1_files() {
    let (root, hierarchies) = v1();
    let root = root.path();
    let run = |controller: &str, file: &str| format!("{controller}/h010203/run/{file}");
    put(
        root,
        &[
            ("memory/sub/h010203/memory.limit_in_bytes", ""),
            ("cpu,cpuacct/h010203/cpu.cfs_quota_us", "-1"),
            ("pids/h010203/pids.max", "max"),
            (&run("memory/sub", "memory.limit_in_bytes"), "9223372036854771712\n"),
            (&run("memory/sub", "memory.memsw.limit_in_bytes"), "9223372036854771712\n"),
            (&run("memory/sub", "memory.usage_in_bytes"), "4096\n"),
            (&run("memory/sub", "memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            (&run("memory/sub", "below/memory.oom_control"), "oom_kill 1\n"),
            (&run("memory/sub", "tasks"), ""),
            (&run("cpu,cpuacct", "cpu.cfs_quota_us"), "-1\n"),
            (&run("cpu,cpuacct", "cpu.cfs_period_us"), "50000\n"),
            (&run("cpu,cpuacct", "cpuacct.usage"), "7000999\n"),
            (&run("pids", "pids.max"), "max\n"),
            (&run("pids", "pids.current"), "3\n"),
            (&run("freezer", "freezer.state"), "THAWED\n"),
        ],
    );
    let parent = Parent::new(&hierarchies, None, TAG);
    assert_eq!(parent.available(), Availability { memory: Ok(()), cpu: Ok(()), pids: Ok(()) });
    let group = parent.create("run", &some_limits()).unwrap();
    let data = [
        (run("memory/sub", "memory.limit_in_bytes"), "67108864"),
        (run("memory/sub", "memory.memsw.limit_in_bytes"), "67108864"),
        (run("cpu,cpuacct", "cpu.cfs_period_us"), "100000"),
        (run("cpu,cpuacct", "cpu.cfs_quota_us"), "150000"),
        (run("pids", "pids.max"), "32"),
    ];
    for (path, expected) in data {
        assert_eq!(text(root, &path), expected, "{path}");
    }
    let stats = group.stats().unwrap();
    assert_eq!((stats.cpu_us, stats.memory_bytes, stats.pids), (7_000, 4_096, 3));
    assert_eq!((stats.memory_limit_bytes, stats.pids_limit), (Some(64 << 20), Some(32)));
    assert_eq!(group.oom_kills(), 3);
    group.freeze().unwrap();
    assert_eq!(text(root, &run("freezer", "freezer.state")), "FROZEN");
    assert!(group.kill_all().unwrap(), "nobody is in it");
    assert_eq!(text(root, &run("freezer", "freezer.state")), "THAWED", "a kill always thaws");
    assert_eq!(parent.names(), ["run"]);

    let unlimited =
        Limits { memory_bytes: Some(u64::MAX), cpu_millis: Some(1), pids: Some(u32::MAX), ..Limits::default() };
    group.set_limits(&unlimited).unwrap();
    assert_eq!(text(root, &run("memory/sub", "memory.limit_in_bytes")), "-1");
    assert_eq!(text(root, &run("cpu,cpuacct", "cpu.cfs_quota_us")), "1000", "the least that the kernel takes");
    assert_eq!(text(root, &run("pids", "pids.max")), "max");
}

#[test]
fn v2_files() {
    let (root, hierarchies) = v2();
    let root = root.path();
    put(
        root,
        &[
            ("own/cgroup.subtree_control", "memory cpu pids io cpuset hugetlb\n"),
            ("own/h010203/cgroup.subtree_control", "cpu memory pids io cpuset hugetlb\n"),
            ("own/h010203/run/memory.max", "max\n"),
            ("own/h010203/run/memory.swap.max", "max\n"),
            ("own/h010203/run/memory.current", "8192\n"),
            ("own/h010203/run/memory.events", "low 0\noom 5\noom_kill 4\noom_group_kill 0\n"),
            ("own/h010203/run/cpu.max", "max 100000\n"),
            ("own/h010203/run/cpu.stat", "usage_usec 123\nuser_usec 1\n"),
            ("own/h010203/run/pids.max", "max\n"),
            ("own/h010203/run/pids.current", "2\n"),
            ("own/h010203/run/io.stat", "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n"),
            ("own/h010203/run/cgroup.events", "populated 0\nfrozen 1\n"),
            ("own/h010203/run/cgroup.freeze", "1\n"),
            ("own/h010203/run/cgroup.procs", ""),
        ],
    );
    let parent = Parent::new(&hierarchies, None, TAG);
    assert_eq!(parent.available(), Availability { memory: Ok(()), cpu: Ok(()), pids: Ok(()) });
    let group = parent.create("run", &some_limits()).unwrap();
    let data = [
        ("own/h010203/run/memory.max", "67108864"),
        ("own/h010203/run/memory.swap.max", "0"),
        ("own/h010203/run/cpu.max", "150000 100000"),
        ("own/h010203/run/pids.max", "32"),
    ];
    for (path, expected) in data {
        assert_eq!(text(root, path), expected, "{path}");
    }
    let stats = group.stats().unwrap();
    assert_eq!((stats.cpu_us, stats.memory_bytes, stats.pids), (123, 8_192, 2));
    assert_eq!((stats.read_bytes, stats.written_bytes), (Some(11), Some(22)));
    assert_eq!(group.oom_kills(), 4);
    group.join_self().unwrap();
    assert_eq!(text(root, "own/h010203/run/cgroup.procs"), "0");
    fs::write(root.join("own/h010203/run/cgroup.procs"), "").unwrap();
    group.freeze().unwrap();
    assert!(group.kill_all().unwrap());
    assert_eq!(text(root, "own/h010203/run/cgroup.freeze"), "0");

    let watch = group.oom_watch().unwrap();
    assert!(!readable(&watch));
    fs::write(root.join("own/h010203/run/memory.events"), "oom_kill 5\n").unwrap();
    assert!(readable(&watch));

    // More in use than asked for, and nothing to reclaim.
    let error = group.set_limits(&Limits { memory_bytes: Some(4_096), ..Limits::default() }).unwrap_err();
    assert!(matches!(&error, CgroupError::Unavailable { limit: "memory", why } if why.contains("8192")), "{error}");
    assert_eq!(text(root, "own/h010203/run/memory.max"), "67108864");
}

fn readable(fd: &impl AsFd) -> bool {
    let mut poll = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut poll, Some(&rustix::event::Timespec::default())).unwrap() == 1
}

#[test]
fn v2_without_delegation_says_so_and_leaves_nothing() {
    let (root, hierarchies) = v2();
    put(root.path(), &[("own/cgroup.subtree_control", ""), ("own/cgroup.controllers", "pids\n")]);
    let parent = Parent::new(&hierarchies, None, TAG);
    let available = parent.available();
    assert!(available.memory.unwrap_err().contains("Delegate=yes"));
    let error = parent.create("run", &some_limits()).unwrap_err();
    assert!(matches!(error, CgroupError::Unavailable { limit: "memory", .. }), "{error}");
    assert_eq!(parent.names(), Vec::<String>::new(), "what was made is removed again");
    // Without a limit the group is still good for finding and killing what runs.
    let group = parent.create("run", &Limits::default()).unwrap();
    assert_eq!(parent.names(), ["run"]);
    group.remove().unwrap();
    parent.remove().unwrap();
    assert!(!root.path().join("own/h010203").exists());
}

#[test]
fn a_configured_parent() {
    let (root, hierarchies) = v2();
    put(root.path(), &[("cgroup.subtree_control", "")]);
    let parent = Parent::new(&hierarchies, Some("a.slice/b"), TAG);
    let _ = parent.available();
    assert!(root.path().join("a.slice/b/h010203").is_dir());
    parent.remove().unwrap();
    assert!(root.path().join("a.slice/b").is_dir(), "only our own group is ever removed");
    for bad in ["", "/", "..", "a/../b", "a//b", "a/", "./a"] {
        let parent = Parent::new(&hierarchies, Some(bad), TAG);
        assert!(parent.available().pids.unwrap_err().contains("cgroup.parent"), "{bad}");
        assert!(matches!(parent.create("run", &Limits::default()), Err(CgroupError::NoHierarchy { .. })), "{bad}");
    }
}

#[test]
fn a_limit_without_its_controller_is_refused() {
    let (root, _) = v1();
    let point = root.path().join("memory");
    let mountinfo = format!("1 99 0:1 / {} rw - cgroup cgroup rw,memory\n", point.display());
    let parent = Parent::new(&Hierarchies::parse(&mountinfo, "4:memory:/\n").unwrap(), None, TAG);
    for limits in [Limits { pids: Some(1), ..Limits::default() }, some_limits()] {
        assert!(matches!(parent.create("run", &limits), Err(CgroupError::Unavailable { .. })));
        assert!(parent.names().is_empty());
    }
    let none = Parent::new(&Hierarchies::parse("", "").unwrap(), None, TAG);
    assert!(none.available().memory.is_err());
    assert!(matches!(none.create("run", &some_limits()), Err(CgroupError::NoHierarchy { .. })));
    none.join_agents().unwrap();
    none.remove().unwrap();
    assert!(none.open("run").kill_all().unwrap());
    assert!(matches!(none.open("run").stats(), Err(CgroupError::Missing { .. })));
}

#[test]
fn names_stay_under_the_parent() {
    let (_root, hierarchies) = v2();
    let parent = Parent::new(&hierarchies, None, TAG);
    let long = "x".repeat(256);
    for bad in ["", ".", "..", "a/b", "../own", "a b", "a\0", "ü", "agents", &long] {
        assert!(matches!(parent.create(bad, &Limits::default()), Err(CgroupError::Name { .. })), "{bad:?}");
        let group = parent.open(bad);
        assert!(matches!(group.kill_all(), Err(CgroupError::Name { .. })), "{bad:?}");
        assert!(matches!(group.remove(), Err(CgroupError::Name { .. })), "{bad:?}");
        assert!(matches!(group.join_self(), Err(CgroupError::Name { .. })), "{bad:?}");
    }
    let missing = parent.open("0123456789ab-1");
    assert!(matches!(missing.join_self(), Err(CgroupError::Missing { .. })));
    assert!(missing.kill_all().unwrap() && missing.pids().unwrap().is_empty() && missing.oom_kills() == 0);
    missing.remove().unwrap();
}

#[test]
fn arguments_survive_and_are_checked() {
    for (_root, hierarchies) in [v1(), v2()] {
        let parent = Parent::new(&hierarchies, None, TAG);
        let again = Parent::from_arg(&parent.to_arg()).unwrap();
        assert_eq!(again.to_arg(), parent.to_arg());
        assert!(again.open("x").pids().unwrap().is_empty());
    }
    assert_eq!(Parent::from_arg("none").unwrap().to_arg(), "none");
    for good in [
        "v1;memory=/a%20b%3b/h010203;cpu,cpuacct=/h010203",
        "v2;=/c/h010203",
        "v1;memory=/c/h010203;+hugetlb=/g/h010203;+=/d/h010203;oci=/h010203",
    ] {
        assert_eq!(Parent::from_arg(good).unwrap().to_arg(), good);
    }
    let bad = [
        "",
        "v3",
        "v1;",
        "v1;memory",
        "v1;memory=",
        "v1;memory=h010203",
        "v1;memory=/a/h01020",
        "v1;memory=/a/x010203",
        "v1;memory=/a/../h010203",
        "v1;memory=/a/./h010203",
        "v1;memory=/a/h010203/..",
        "v1;memory=/a/%2e%2e/h010203",
        "v1;memory=/a%/h010203",
        "v1;memory=/a%zz/h010203",
        "v1;memory=/a%é/h010203",
        "v1;net_cls=/a/h010203",
        "v1;memory=/a/h010203;+net_cls=/b/h010203",
        "v1;memory=/a/h010203;+=/b/h010204",
        "v1;memory=/a/h010203;oci=/b/x",
        "v2;=/a/h010203;+=/b/h010203",
        "none;oci=/h010203",
        "v1;memory=/a/h010203;memory=/b/h010203",
        "v1;memory=/a/h010203;pids=/b/h010204",
        "v2;memory=/a/h010203",
        "v2;=/a/h010203;=/b/h010203",
        "none;=/a/h010203",
    ];
    for bad in bad {
        assert!(matches!(Parent::from_arg(bad), Err(CgroupError::Argument { .. })), "{bad}");
    }
}

/// CRIU mounts every hierarchy anew while it restores, in a directory of the restored container's sandbox.
#[test]
fn a_second_mount_that_shows_no_more_is_passed_over() {
    let mut mountinfo = String::new();
    for (id, base) in [(30, "/sys/fs/cgroup"), (60, "/sandbox/.criu.cgyard.x")] {
        for (offset, (names, options)) in
            [("memory", "memory"), ("devices", "devices"), ("systemd", "name=systemd")].iter().enumerate()
        {
            let id = id + offset;
            mountinfo.push_str(&format!("{id} 20 0:{id} / {base}/{names} rw - cgroup cgroup rw,{options}\n"));
        }
    }
    let found = Hierarchies::parse(&mountinfo, "5:devices:/\n4:memory:/\n1:name=systemd:/\n").unwrap();
    assert_eq!(found.others.len(), 2);
    assert!(
        found.mounts.iter().chain(&found.others).all(|mount| mount.point.starts_with("/sys/fs/cgroup")),
        "{found:?}"
    );
}
