//! Where a container's group is, whoever made it, and that nothing of a node is left anywhere.

use super::*;

/// The daemon is in a sub-group where memory is limited and in the root elsewhere, as systemd and others leave it.
fn machine() -> (TempDir, Hierarchies) {
    let root = TempDir::new().unwrap();
    let mut mountinfo = String::new();
    for (number, name) in ["memory", "pids", "freezer", "cpuset", "devices", "name=systemd"].iter().enumerate() {
        let point = root.path().join(name);
        fs::create_dir_all(&point).unwrap();
        mountinfo += &format!("{number} 99 0:1 / {} rw - cgroup cgroup rw,{name}\n", point.display());
    }
    fs::create_dir_all(root.path().join("memory/a/b")).unwrap();
    fs::create_dir_all(root.path().join("unified")).unwrap();
    mountinfo += &format!("9 99 0:1 / {} rw - cgroup2 cgroup2 rw\n", root.path().join("unified").display());
    put(root.path(), &[("cpuset/cpuset.cpus", "0-1\n"), ("cpuset/cpuset.mems", "0\n")]);
    let own = "6:memory:/a/b\n5:pids:/\n4:freezer:/\n3:cpuset:/\n2:devices:/x\n1:name=systemd:/y\n0::/\n";
    let hierarchies = Hierarchies::parse(&mountinfo, own).unwrap();
    (root, hierarchies)
}

const HIERARCHIES: [&str; 7] = ["memory", "pids", "freezer", "cpuset", "devices", "name=systemd", "unified"];

#[test]
fn a_containers_group_is_at_one_path_in_all() {
    let (root, hierarchies) = machine();
    let parent = Parent::new(&hierarchies, None, TAG);
    assert_eq!(parent.oci_path("run").as_deref(), Some("/a/b/h010203/run"));
    assert_eq!(parent.oci_path("../run"), None);
    for agents in [parent.clone(), Parent::from_arg(&parent.to_arg()).unwrap()] {
        assert_eq!(agents.oci_path("run").as_deref(), Some("/a/b/h010203/run"));
        assert!(!agents.open("run").exists());
        // The runtime's work.
        for hierarchy in HIERARCHIES {
            let files = [("cgroup.procs", "41\n42\n"), ("tasks", "")];
            put(&root.path().join(hierarchy).join("a/b/h010203/run"), &files);
        }
        put(
            root.path(),
            &[
                ("memory/a/b/h010203/run/memory.oom_control", "oom_kill 3\n"),
                ("memory/a/b/h010203/run/memory.usage_in_bytes", "77\n"),
                ("pids/a/b/h010203/run/pids.current", "5\n"),
                ("freezer/a/b/h010203/run/freezer.state", "FROZEN\n"),
            ],
        );
        assert_eq!(agents.names(), ["run"]);
        for group in [agents.open("run"), agents.find("run")] {
            assert!(group.exists() && group.is_frozen().unwrap());
            assert_eq!(group.pids().unwrap(), [41, 42]);
            assert_eq!(group.members().unwrap(), [41, 42]);
            assert_eq!(group.oom_kills(), 3);
            let stats = group.stats().unwrap();
            assert_eq!((stats.memory_bytes, stats.pids), (77, 5));
            group.thaw().unwrap();
            assert_eq!(text(root.path(), "freezer/a/b/h010203/run/freezer.state"), "THAWED");
            fs::write(root.path().join("freezer/a/b/h010203/run/freezer.state"), "FROZEN").unwrap();
        }
        for hierarchy in HIERARCHIES {
            let group = root.path().join(hierarchy).join("a/b/h010203/run");
            fs::remove_dir_all(&group).unwrap();
            fs::create_dir(&group).unwrap();
        }
        agents.open("run").remove().unwrap();
        assert!(agents.names().is_empty());
    }
}

/// A plain run's group is found where it always was, and costs no more places.
#[test]
fn a_plain_runs_group_stays_where_it_was() {
    let (root, hierarchies) = machine();
    let parent = Parent::new(&hierarchies, None, TAG);
    let group = parent.create("run", &Limits::default()).unwrap();
    for (hierarchy, made) in [("memory/a/b", true), ("pids", true), ("cpuset", false), ("devices", false)] {
        assert_eq!(root.path().join(hierarchy).join("h010203/run").exists(), made, "{hierarchy}");
    }
    assert!(!root.path().join("pids/a").exists());
    group.remove().unwrap();
    let group = parent.create("set", &serde_json::from_str(r#"{"cpuset_cpus":"1"}"#).unwrap());
    // No such files in a plain directory: what was made is removed again.
    assert!(matches!(group, Err(CgroupError::Unavailable { limit: "cpuset", .. })), "{group:?}");
    assert!(parent.names().is_empty());
}

#[test]
fn nothing_of_a_node_is_left() {
    let (root, hierarchies) = machine();
    let parent = Parent::new(&hierarchies, None, TAG);
    let other = Parent::new(&hierarchies, None, NodeTag::from_bytes([4, 5, 6]));
    assert!(parent.oci_path("run").is_some() && other.oci_path("run").is_some());
    for hierarchy in HIERARCHIES {
        assert!(root.path().join(hierarchy).join("a/b/h010203").is_dir(), "{hierarchy}");
    }
    fs::create_dir_all(root.path().join("devices/a/b/h010203/run")).unwrap();
    assert!(parent.remove().is_err(), "a run is left");
    parent.open("run").remove().unwrap();
    parent.remove().unwrap();
    for hierarchy in HIERARCHIES {
        assert!(!root.path().join(hierarchy).join("a/b/h010203").exists(), "{hierarchy}");
        assert!(root.path().join(hierarchy).join("a/b/h040506").exists(), "{hierarchy}");
    }
    other.remove().unwrap();
    assert!(root.path().join("memory/a/b").is_dir(), "the daemon's own group is not ours to remove");
}

/// On v2 there is one place for everything, and the runtime's group is watched from whenever we like.
#[test]
fn a_containers_group_on_v2() {
    let (root, hierarchies) = v2();
    let parent = Parent::new(&hierarchies, None, TAG);
    assert_eq!(parent.oci_path("run").as_deref(), Some("/own/h010203/run"));
    let run = root.path().join("own/h010203/run");
    put(
        &run,
        &[
            ("cgroup.procs", "7\n"),
            ("cgroup.events", "populated 1\nfrozen 0\n"),
            ("cgroup.freeze", "0\n"),
            ("memory.events", "low 0\nmax 3\noom 1\noom_kill 1\n"),
            ("memory.stat", "anon 4096\nfile_mapped 100\n"),
            ("below/memory.events", "oom_kill 1\n"),
        ],
    );
    let agents = Parent::from_arg(&parent.to_arg()).unwrap();
    assert_eq!((agents.oci_path("run"), agents.names()), (parent.oci_path("run"), vec!["run".to_owned()]));
    let group = agents.find("run");
    assert!(group.exists() && !group.is_frozen().unwrap());
    assert_eq!((group.members().unwrap(), group.stats().unwrap().rss_bytes), (vec![7], Some(4_196)));
    assert_eq!(group.oom_kills(), 1, "the kernel has added up what is below");
    let watch = group.oom_watch().unwrap();
    assert!(!readable(&watch));
    fs::write(run.join("memory.events"), "low 0\nmax 4\noom 2\noom_kill 2\n").unwrap();
    assert!(readable(&watch));
    assert_eq!(group.oom_kills(), 2);
    // Read until there is nothing more: it never blocks.
    let mut events = [0u8; 256];
    while rustix::io::read(&watch, &mut events).is_ok() {}
    assert!(!readable(&watch));
    // Frozen only when the kernel says so; what does not stop in time runs on, and is an error.
    let error = group.freeze_within(std::time::Duration::from_millis(1)).unwrap_err();
    assert!(matches!(error, CgroupError::FreezeTimeout { waited_ms: 1, .. }), "{error}");
    assert_eq!(text(&run, "cgroup.freeze"), "0");
    fs::write(run.join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
    group.freeze_within(std::time::Duration::from_secs(1)).unwrap();
    assert!(group.is_frozen().unwrap());
    assert_eq!(text(&run, "cgroup.freeze"), "1");
    // Nothing was made for it beside the one place.
    assert!(agents.find("other").oom_watch().is_err() && !root.path().join("h010203").exists());
}
