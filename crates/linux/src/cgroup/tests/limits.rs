//! Each limit over plain directories: what is written where, and that it is all or nothing.

use super::*;

fn limits(json: &str) -> Limits {
    serde_json::from_str(json).expect(json)
}

/// Files and what is in them.
type Files = &'static [(&'static str, &'static str)];

const RATES: &str = r#"{"device_read_bps":[{"device":"8:0","per_second":1000}],
    "device_write_bps":[{"device":"8:16","per_second":0}],"device_read_iops":[{"device":"8:0","per_second":7}],
    "device_write_iops":[{"device":"8:0","per_second":8}]}"#;

/// A v1 machine with everything, and a group on it.
fn on_v1() -> (TempDir, Group) {
    let root = TempDir::new().unwrap();
    let mut mountinfo = String::new();
    for (number, name) in ["memory", "cpu", "cpuset", "blkio", "pids", "freezer"].iter().enumerate() {
        let point = root.path().join(name);
        fs::create_dir_all(&point).unwrap();
        mountinfo += &format!("{number} 99 0:1 / {} rw - cgroup cgroup rw,{name}\n", point.display());
    }
    let own = "6:memory:/\n5:cpu:/\n4:cpuset:/\n3:blkio:/\n2:pids:/\n1:freezer:/\n";
    let parent = Parent::new(&Hierarchies::parse(&mountinfo, own).unwrap(), None, TAG);
    put(
        root.path(),
        &[
            ("memory/h010203/run/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/h010203/run/memory.memsw.limit_in_bytes", "9223372036854771712\n"),
            ("memory/h010203/run/memory.soft_limit_in_bytes", "9223372036854771712\n"),
            ("cpu/h010203/run/cpu.shares", "1024\n"),
            ("cpu/h010203/run/cpu.cfs_quota_us", "-1\n"),
            ("cpu/h010203/run/cpu.cfs_period_us", "100000\n"),
            ("cpuset/cpuset.cpus", "0-3\n"),
            ("cpuset/cpuset.mems", "0\n"),
            ("cpuset/h010203/cpuset.cpus", "\n"),
            ("cpuset/h010203/cpuset.mems", "\n"),
            ("cpuset/h010203/cpuset.effective_cpus", "0-3\n"),
            ("cpuset/h010203/run/cpuset.cpus", "\n"),
            ("cpuset/h010203/run/cpuset.mems", "\n"),
            ("blkio/h010203/run/blkio.bfq.weight", "100\n"),
            ("blkio/h010203/run/blkio.bfq.weight_device", ""),
            ("blkio/h010203/run/blkio.throttle.read_bps_device", ""),
            ("blkio/h010203/run/blkio.throttle.write_bps_device", "8:0 55\n"),
            ("blkio/h010203/run/blkio.throttle.read_iops_device", ""),
            ("blkio/h010203/run/blkio.throttle.write_iops_device", ""),
            ("pids/h010203/run/pids.max", "max\n"),
        ],
    );
    let group = parent.open("run");
    (root, group)
}

fn on_v2() -> (TempDir, Group) {
    let (root, hierarchies) = v2();
    let parent = Parent::new(&hierarchies, None, TAG);
    for (file, value) in [
        ("memory.max", "max\n"),
        ("memory.swap.max", "max\n"),
        ("memory.low", "0\n"),
        ("cpu.max", "max 100000\n"),
        ("cpu.weight", "100\n"),
        ("cpuset.cpus", "\n"),
        ("cpuset.mems", "\n"),
        ("io.max", "8:0 rbps=5 wbps=max riops=max wiops=max\n"),
        ("io.bfq.weight", "default 100\n"),
        ("pids.max", "max\n"),
    ] {
        put(&root.path().join("own/h010203/run"), &[(file, value)]);
    }
    let group = parent.open("run");
    (root, group)
}

#[test]
fn each_limit_goes_into_its_file() {
    let (root_v1, group_v1) = on_v1();
    let (root_v2, group_v2) = on_v2();
    // The limits, then what is in which file on v1 and on v2.
    let data: [(&str, Files, Files); 12] = [
        (
            r#"{"memory_bytes":2097152,"memory_swap_bytes":1048576,"memory_reservation_bytes":1000}"#,
            &[
                ("memory/h010203/run/memory.limit_in_bytes", "2097152"),
                ("memory/h010203/run/memory.memsw.limit_in_bytes", "3145728"),
                ("memory/h010203/run/memory.soft_limit_in_bytes", "1000"),
            ],
            &[("memory.max", "2097152"), ("memory.swap.max", "1048576"), ("memory.low", "1000")],
        ),
        (
            // More memory, and the swap on top of it stays.
            r#"{"memory_bytes":4194304}"#,
            &[
                ("memory/h010203/run/memory.limit_in_bytes", "4194304"),
                ("memory/h010203/run/memory.memsw.limit_in_bytes", "5242880"),
            ],
            &[("memory.max", "4194304"), ("memory.swap.max", "1048576")],
        ),
        (
            r#"{"memory_swap_bytes":18446744073709551615}"#,
            &[
                ("memory/h010203/run/memory.limit_in_bytes", "4194304"),
                ("memory/h010203/run/memory.memsw.limit_in_bytes", "-1"),
            ],
            &[("memory.max", "4194304"), ("memory.swap.max", "max")],
        ),
        (
            r#"{"cpu_period_us":50000}"#,
            &[("cpu/h010203/run/cpu.cfs_period_us", "50000"), ("cpu/h010203/run/cpu.cfs_quota_us", "-1")],
            &[("cpu.max", "max 50000")],
        ),
        (
            r#"{"cpu_quota_us":25000}"#,
            &[("cpu/h010203/run/cpu.cfs_period_us", "50000"), ("cpu/h010203/run/cpu.cfs_quota_us", "25000")],
            &[("cpu.max", "25000 50000")],
        ),
        (r#"{"cpu_shares":2}"#, &[("cpu/h010203/run/cpu.shares", "2")], &[("cpu.weight", "1")]),
        (r#"{"cpu_shares":1024}"#, &[("cpu/h010203/run/cpu.shares", "1024")], &[("cpu.weight", "39")]),
        (r#"{"cpu_shares":262144}"#, &[("cpu/h010203/run/cpu.shares", "262144")], &[("cpu.weight", "10000")]),
        (
            r#"{"cpuset_cpus":"0-1","cpuset_mems":"0"}"#,
            &[("cpuset/h010203/run/cpuset.cpus", "0-1"), ("cpuset/h010203/run/cpuset.mems", "0")],
            &[("cpuset.cpus", "0-1"), ("cpuset.mems", "0")],
        ),
        (
            r#"{"blkio_weight":500}"#,
            &[("blkio/h010203/run/blkio.bfq.weight", "500")],
            &[("io.bfq.weight", "default 500")],
        ),
        (
            r#"{"blkio_weight_device":[{"device":"8:0","weight":300}]}"#,
            &[("blkio/h010203/run/blkio.bfq.weight_device", "8:0 300")],
            &[("io.bfq.weight", "8:0 300")],
        ),
        (
            RATES,
            &[
                ("blkio/h010203/run/blkio.throttle.read_bps_device", "8:0 1000"),
                ("blkio/h010203/run/blkio.throttle.write_bps_device", "8:16 0"),
                ("blkio/h010203/run/blkio.throttle.read_iops_device", "8:0 7"),
                ("blkio/h010203/run/blkio.throttle.write_iops_device", "8:0 8"),
            ],
            // The last of the four writes.
            &[("io.max", "8:0 wiops=8")],
        ),
    ];
    for (json, on_v1, on_v2) in data {
        let limits = limits(json);
        group_v1.set_limits(&limits).unwrap();
        group_v2.set_limits(&limits).unwrap();
        for (path, expected) in on_v1 {
            assert_eq!(text(root_v1.path(), path), *expected, "{path}: {json}");
        }
        for (file, expected) in on_v2 {
            assert_eq!(text(&root_v2.path().join("own/h010203/run"), file), *expected, "{file}: {json}");
        }
    }
}

#[test]
fn weights_without_bfq_have_another_scale() {
    let (root, group) = on_v2();
    let run = root.path().join("own/h010203/run");
    fs::remove_file(run.join("io.bfq.weight")).unwrap();
    put(&run, &[("io.weight", "default 100\n")]);
    for (weight, expected) in [(10, "default 1"), (500, "default 4950"), (1_000, "default 10000")] {
        group.set_limits(&limits(&format!(r#"{{"blkio_weight":{weight}}}"#))).unwrap();
        assert_eq!(text(&run, "io.weight"), expected);
    }
}

/// What can be given is taken back when something cannot, and the error says what.
#[test]
fn all_or_nothing() {
    let (root, group) = on_v1();
    let run = |path: &str| text(root.path(), path);
    let all = limits(
        r#"{"memory_bytes":2097152,"cpu_shares":5,"cpu_quota_us":5000,"cpu_period_us":20000,"cpuset_cpus":"0",
            "blkio_weight":20,"device_write_bps":[{"device":"8:0","per_second":9}],"pids":5}"#,
    );
    fs::remove_file(root.path().join("pids/h010203/run/pids.max")).unwrap();
    let error = group.set_limits(&all).unwrap_err();
    assert!(matches!(&error, CgroupError::Unavailable { limit: "pids", .. }), "{error}");
    let before = [
        ("memory/h010203/run/memory.limit_in_bytes", "9223372036854771712"),
        ("memory/h010203/run/memory.memsw.limit_in_bytes", "9223372036854771712"),
        ("cpu/h010203/run/cpu.shares", "1024"),
        ("cpu/h010203/run/cpu.cfs_quota_us", "-1"),
        ("cpu/h010203/run/cpu.cfs_period_us", "100000"),
        ("cpuset/h010203/run/cpuset.cpus", ""),
        ("blkio/h010203/run/blkio.bfq.weight", "100"),
        ("blkio/h010203/run/blkio.throttle.write_bps_device", "8:0 55"),
    ];
    for (path, expected) in before {
        assert_eq!(run(path), expected, "{path}");
    }

    let (root, group) = on_v2();
    fs::remove_file(root.path().join("own/h010203/run/pids.max")).unwrap();
    assert!(group.set_limits(&all).is_err());
    let before = [
        ("memory.max", "max"),
        ("memory.swap.max", "max"),
        ("cpu.max", "max 100000"),
        ("cpu.weight", "100"),
        ("io.max", "8:0 rbps=5 wbps=max riops=max wiops=max"),
        ("io.bfq.weight", "default 100"),
    ];
    for (file, expected) in before {
        assert_eq!(text(&root.path().join("own/h010203/run"), file), expected, "{file}");
    }
}

#[test]
fn what_cannot_be_limited_is_named() {
    let (root, group) = on_v1();
    let (_root_v2, group_v2) = on_v2();
    for (json, limit, why) in [
        (r#"{"memory_swap_bytes":5}"#, "memory swap", "there is none"),
        (r#"{"device_read_bps":[{"device":"/dev/null","per_second":5}]}"#, "device_read_bps", "not a block device"),
        (r#"{"blkio_weight_device":[{"device":"/dev/x y z","weight":50}]}"#, "blkio_weight_device", "/dev/x y z"),
    ] {
        for group in [&group, &group_v2] {
            let error = group.set_limits(&limits(json)).unwrap_err();
            let CgroupError::Unavailable { limit: told, why: reason } = &error else { panic!("{error}") };
            assert!(*told == limit && reason.contains(why), "{json}: {error}");
        }
    }
    fs::remove_file(root.path().join("memory/h010203/run/memory.memsw.limit_in_bytes")).unwrap();
    let error = group.set_limits(&limits(r#"{"memory_bytes":2097152,"memory_swap_bytes":5}"#)).unwrap_err();
    assert!(error.to_string().contains("does not account swap"), "{error}");
    group.set_limits(&limits(r#"{"memory_bytes":2097152}"#)).unwrap();
    fs::remove_file(root.path().join("cpuset/h010203/run/cpuset.cpus")).unwrap();
    fs::create_dir(root.path().join("cpuset/h010203/run/cpuset.cpus")).unwrap();
    let error = group.set_limits(&limits(r#"{"cpuset_cpus":"7"}"#)).unwrap_err();
    assert!(error.to_string().contains("7 is not within 0-3"), "{error}");
}
