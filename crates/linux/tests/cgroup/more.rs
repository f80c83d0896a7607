//! Limits beyond memory, CPU and processes, as this machine's kernel takes them.

use super::*;

fn limits(json: &str) -> Limits {
    serde_json::from_str(json).expect(json)
}

/// A disk that can be limited.
fn disk() -> Option<String> {
    let disks = std::fs::read_dir("/sys/block").ok()?.flatten();
    let numbers = disks.filter(|disk| !disk.file_name().to_string_lossy().starts_with("loop"));
    numbers
        .filter_map(|disk| std::fs::read_to_string(disk.path().join("dev")).ok())
        .map(|text| text.trim().into())
        .next()
}

fn place(node: &Node, controller: &str) -> Option<String> {
    let argument = node.0.to_arg();
    argument.split(';').find_map(|field| field.strip_prefix(controller)?.strip_prefix('=').map(str::to_owned))
}

fn value(node: &Node, controller: &str, file: &str) -> String {
    let path = format!("{}/run/{file}", place(node, controller).expect(controller));
    std::fs::read_to_string(&path).unwrap_or_else(|error| format!("{path}: {error}")).trim().to_owned()
}

#[test]
fn each_of_them_and_while_it_runs() {
    let Some(node) = Node::new() else { return };
    let more = node.0.available_more();
    let Some(disk) = disk() else {
        eprintln!("skipped: no disk");
        return;
    };
    if place(&node, "memory").is_none() || more.cpuset.is_err() || more.device_rates.is_err() || more.swap.is_err() {
        eprintln!("skipped: not the cgroup v1 hierarchies that this reads: {more:?}");
        return;
    }
    let first = format!(
        r#"{{"memory_bytes":67108864,"memory_swap_bytes":1048576,"memory_reservation_bytes":33554432,"cpu_shares":512,
             "cpu_quota_us":40000,"cpu_period_us":80000,"cpuset_cpus":"0","cpuset_mems":"0",
             "device_write_bps":[{{"device":"{disk}","per_second":1048576}}]}}"#
    );
    let group = node.0.create("run", &limits(&first)).unwrap();
    let mut child = node.start("run", "echo ready; exec 1>&-; while :; do sleep 1; done");
    let data = [
        ("memory", "memory.memsw.limit_in_bytes", "68157440".to_owned()),
        ("memory", "memory.soft_limit_in_bytes", "33554432".to_owned()),
        ("cpu", "cpu.shares", "512".to_owned()),
        ("cpu", "cpu.cfs_quota_us", "40000".to_owned()),
        ("cpu", "cpu.cfs_period_us", "80000".to_owned()),
        ("cpuset", "cpuset.cpus", "0".to_owned()),
        ("blkio", "blkio.throttle.write_bps_device", format!("{disk} 1048576")),
    ];
    for (controller, file, expected) in data {
        assert_eq!(value(&node, controller, file), expected, "{file}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");

    // A change names what it changes, and nothing else.
    let change = format!(r#"{{"cpu_quota_us":20000,"device_write_bps":[{{"device":"{disk}","per_second":0}}]}}"#);
    group.set_limits(&limits(&change)).unwrap();
    assert_eq!(value(&node, "cpu", "cpu.cfs_quota_us"), "20000");
    assert_eq!(value(&node, "cpu", "cpu.cfs_period_us"), "80000");
    assert_eq!(value(&node, "blkio", "blkio.throttle.write_bps_device"), "");
    assert_eq!(value(&node, "memory", "memory.memsw.limit_in_bytes"), "68157440");

    // One part that cannot be given takes the others with it, and says which it is.
    let bad = r#"{"memory_bytes":50331648,"cpu_shares":100,"cpuset_cpus":"60000"}"#;
    let error = group.set_limits(&limits(bad)).unwrap_err();
    assert!(matches!(&error, CgroupError::Unavailable { limit: "cpuset cpus", .. }), "{error}");
    assert_eq!(value(&node, "memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(value(&node, "memory", "memory.memsw.limit_in_bytes"), "68157440");
    assert_eq!(value(&node, "cpu", "cpu.shares"), "512");
    for (json, limit, why) in [
        (r#"{"cpuset_cpus":"60000"}"#, "cpuset cpus", "not within"),
        (r#"{"device_read_bps":[{"device":"/dev/null","per_second":1}]}"#, "device_read_bps", "not a block device"),
        (r#"{"device_read_bps":[{"device":"/dev/no-such","per_second":1}]}"#, "device_read_bps", "No such file"),
    ] {
        let (told, reason) = node.0.judge(&limits(json)).unwrap_err();
        assert!(told == limit && reason.contains(why), "{json}: {told}: {reason}");
    }
    let absent = group.set_limits(&limits(r#"{"device_read_bps":[{"device":"4000:77","per_second":1}]}"#)).unwrap_err();
    assert!(absent.to_string().contains("there is no device 4000:77"), "{absent}");
    kill(&group);
    child.wait().unwrap();
    group.remove().unwrap();
}

/// A run that was in no cpuset and no block I/O group comes to one when a limit asks for it.
#[test]
fn limits_that_come_late() {
    let Some(node) = Node::new() else { return };
    let more = node.0.available_more();
    if place(&node, "memory").is_none() || more.cpuset.is_err() || more.device_rates.is_err() {
        eprintln!("skipped: not the cgroup v1 hierarchies that this reads: {more:?}");
        return;
    }
    let Some(disk) = disk() else { return };
    let group = node.0.create("run", &Limits::default()).unwrap();
    let mut child = node.start("run", "echo ready; exec 1>&-; while :; do sleep 1; done");
    let joined = |controller: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        text.lines().any(|line| line.contains(&format!(":{controller}:")) && line.ends_with("/run"))
    };
    assert!(joined("memory") && !joined("cpuset") && !joined("blkio") && !joined("cpu"));
    let late =
        format!(r#"{{"cpuset_cpus":"0","device_read_iops":[{{"device":"{disk}","per_second":900}}],"cpu_shares":9}}"#);
    group.set_limits(&limits(&late)).unwrap();
    assert!(joined("cpuset") && joined("blkio") && joined("cpu"));
    assert_eq!(value(&node, "cpuset", "cpuset.mems"), value(&node, "cpuset", "cpuset.effective_mems"));
    kill(&group);
    child.wait().unwrap();
    group.remove().unwrap();
}

#[test]
fn frozen_within_a_time_of_the_callers() {
    let Some(node) = Node::new() else { return };
    let group = node.0.create("run", &Limits::default()).unwrap();
    let mut child = node.start("run", "echo ready; exec 1>&-; while :; do sleep 1; done");
    assert!(!group.is_frozen().unwrap());
    group.freeze_within(Duration::from_secs(10)).unwrap();
    assert!(group.is_frozen().unwrap());
    group.thaw().unwrap();
    assert!(!group.is_frozen().unwrap());
    kill(&group);
    child.wait().unwrap();
}
