//! Limits in full, and what is told about a run: everything the kernel accounts, its processes, and all runs at once.

use hostler_api::types::Stats;
use hostler_api::usage::{StatsList, StatsListQuery};
use hostler_model::event::EventKind;
use hostler_model::process::{Processes, Role};
use hostler_tests::{PATIENCE, TestNode, is_root, leaks, skip, until, until_gone};

/// A node on cgroup v1 hierarchies that can do all this; the files of v2 are tested over plain directories.
fn node() -> Option<TestNode> {
    if !is_root() {
        skip("limits need root here");
        return None;
    }
    if !["memory", "cpuset", "blkio", "pids"]
        .iter()
        .all(|name| std::path::Path::new("/sys/fs/cgroup").join(name).exists())
    {
        skip("no cgroup v1 hierarchies of memory, cpuset, blkio and pids");
        return None;
    }
    Some(TestNode::new())
}

/// The value of a file of the run's group in the hierarchy that has it.
fn group_value(node: &TestNode, name: &str) -> Option<String> {
    let groups = leaks::run_groups(node.tag().expect("a tag"));
    groups.iter().find_map(|group| std::fs::read_to_string(group.join(name)).ok()).map(|text| text.trim().to_owned())
}

fn disk() -> Option<String> {
    let disks = std::fs::read_dir("/sys/block").ok()?.flatten();
    let plain = disks.filter(|disk| !disk.file_name().to_string_lossy().starts_with("loop"));
    plain.filter_map(|disk| std::fs::read_to_string(disk.path().join("dev")).ok()).map(|text| text.trim().into()).next()
}

#[test]
fn every_limit_from_the_command_line_to_the_kernel() {
    let Some(node) = node() else { return };
    let Some(disk) = disk() else {
        skip("no disk");
        return node.finish();
    };
    let rate = format!("{disk}:2M");
    node.cli(&[
        "run",
        "-d",
        "--name",
        "l",
        "--memory",
        "64M",
        "--memory-swap",
        "80M",
        "--memory-reservation",
        "32M",
        "--cpu-shares",
        "512",
        "--cpu-quota",
        "40000",
        "--cpu-period",
        "80000",
        "--cpuset-cpus",
        "0",
        "--cpuset-mems",
        "0",
        "--device-write-bps",
        &rate,
        "--pids",
        "30",
        "--",
        "sleep",
        "600",
    ])
    .ok();
    let data = [
        ("memory.limit_in_bytes", "67108864".to_owned()),
        ("memory.memsw.limit_in_bytes", "83886080".to_owned()),
        ("memory.soft_limit_in_bytes", "33554432".to_owned()),
        ("cpu.shares", "512".to_owned()),
        ("cpu.cfs_quota_us", "40000".to_owned()),
        ("cpu.cfs_period_us", "80000".to_owned()),
        ("cpuset.cpus", "0".to_owned()),
        ("cpuset.mems", "0".to_owned()),
        ("blkio.throttle.write_bps_device", format!("{disk} 2097152")),
        ("pids.max", "30".to_owned()),
    ];
    for (file, expected) in &data {
        assert_eq!(group_value(&node, file).as_ref(), Some(expected), "{file}");
    }
    // An update writes what it names.
    node.cli(&["update", "--cpu-shares", "100", "--device-write-bps", &format!("{disk}:0"), "l"]).ok();
    assert_eq!(group_value(&node, "cpu.shares").as_deref(), Some("100"));
    assert_eq!(group_value(&node, "blkio.throttle.write_bps_device").as_deref(), Some(""));
    assert_eq!(group_value(&node, "cpu.cfs_quota_us").as_deref(), Some("40000"));
    let limits = node.inspect("l").workload.limits.clone();
    assert_eq!((limits.cpu_shares, limits.cpu_quota_us, limits.device_write_bps.len()), (Some(100), Some(40_000), 0));
    let told = node.wait_kind("l", "workload.updated");
    assert!(matches!(&told.event.kind, EventKind::WorkloadUpdated { limits: told } if *told == limits));

    // The kernel refuses a part: nothing changes, in the kernel or in what is told. This much is in use for certain.
    let refused = [
        (vec!["update", "--cpu-shares", "7", "--memory-reservation", "65M", "l"], "must not be above"),
        (vec!["update", "--cpu-shares", "7", "--cpuset-cpus", "60000", "l"], "60000 is not within"),
        (vec!["update", "--cpu-shares", "7", "--device-read-bps", "/dev/null:1M", "l"], "not a block device"),
        (vec!["update", "--cpu-shares", "7", "--device-read-iops", "/dev/no-such:1", "l"], "No such file"),
        (vec!["update", "--cpu-shares", "7", "--device-read-bps", "4000:9:1M", "l"], "there is no device 4000:9"),
        (vec!["update", "--cpus", "600", "l"], "cores"),
    ];
    for (arguments, words) in refused {
        node.cli(&arguments).refused(1, words);
        assert_eq!(group_value(&node, "cpu.shares").as_deref(), Some("100"), "{words}");
    }
    assert_eq!(node.inspect("l").workload.limits, limits);
    if std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
        .all(|disk| !std::fs::read_to_string(disk.path().join("queue/scheduler")).unwrap_or_default().contains("[bfq]"))
    {
        node.cli(&["run", "-d", "--blkio-weight", "100", "--", "true"]).refused(125, "BFQ");
    }
    node.cli(&["rm", "-f", "l"]).ok();
    until("the group's removal", PATIENCE, || leaks::run_groups(node.tag().expect("a tag")).is_empty().then_some(()));
    node.finish();
}

/// A run that has memory limited late is watched from then on.
#[test]
fn a_memory_limit_that_comes_late_is_watched() {
    let Some(node) = node() else { return };
    let go = node.work().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done; tail /dev/zero; sleep 600", go.display());
    let mut spec = node.script(&script);
    spec.name = Some("late".parse().expect("a name"));
    spec.limits.pids = Some(20);
    node.create_started(&spec);
    node.cli(&["update", "--memory", "24M", "--cpuset-cpus", "0", "late"]).ok();
    std::fs::write(&go, "").expect("written");
    let told = node.wait_kind("late", "run.oom");
    assert!(matches!(told.event.kind, EventKind::RunOom { oom_kills } if oom_kills >= 1));
    node.cli(&["rm", "-f", "late"]).ok();
    node.finish();
}

#[test]
fn all_that_the_kernel_accounts() {
    let Some(node) = node() else { return };
    let script = "head -c 4000000 /dev/zero > f; sync f 2>/dev/null; cat f > /dev/null; i=0; \
                  while [ $i -lt 20000 ]; do i=$((i+1)); done; echo counted; exec sleep 600";
    let mut spec = node.spec(&["unshare", "-n", "sh", "-c", script]);
    spec.name = Some("u".parse().expect("a name"));
    spec.limits.memory_bytes = Some(64 << 20);
    spec.limits.cpu_millis = Some(1_000);
    node.create_started(&spec);
    until("its output", PATIENCE, || node.log_of("u").contains("counted").then_some(()));
    let stats = node.block_on(node.api().stats("u")).expect("statistics");
    let full = stats.accounting.clone().expect("in full");
    assert!(full.cpu.user_us.is_some() && full.cpu.system_us.is_some() && !full.cpu.per_cpu_us.is_empty(), "{full:?}");
    assert!(full.cpu.per_cpu_us.iter().sum::<u64>() > 0 && full.cpu.periods.is_some(), "{full:?}");
    assert_eq!(full.memory.limit_bytes, Some(64 << 20));
    assert!(full.memory.max_usage_bytes >= full.memory.usage_bytes, "{full:?}");
    assert!(full.memory.cache_bytes.is_some_and(|bytes| bytes > 0), "{full:?}");
    assert!(full.memory.fail_count.is_some() && full.memory.kernel_bytes.is_some(), "{full:?}");
    assert!(full.network.iter().any(|interface| interface.name == "lo"), "a network of its own: {full:?}");
    // One that shares our network has none of its own.
    node.cli(&["run", "-d", "--name", "shares", "--", "sleep", "600"]).ok();
    let shares = node.block_on(node.api().stats("shares")).expect("statistics");
    assert!(shares.accounting.expect("in full").network.is_empty());

    // All at once, as a list and as a stream; without what costs much.
    let list = node.block_on(node.api().stats_of_all(&StatsListQuery::default())).expect("a list");
    let names: Vec<_> = list.workloads.iter().map(|found| found.name.to_string()).collect();
    assert_eq!(names, ["shares", "u"]);
    assert!(list.unanswered.is_empty() && list.workloads.iter().all(|found| found.stats.accounting.is_none()));
    let of_u = &list.workloads[1].stats;
    assert!(of_u.cpu_us >= stats.cpu_us && of_u.rss_bytes > 0 && of_u.memory_limit_bytes == Some(64 << 20), "{of_u:?}");
    assert!(list.workloads[0].stats.rss_bytes > 0 && list.workloads[0].stats.pids == 1);
    let filtered = StatsListQuery { filter: Some("name=sh*".to_owned()), ..StatsListQuery::default() };
    assert_eq!(node.block_on(node.api().stats_of_all(&filtered)).expect("a list").workloads.len(), 1);
    let streamed: Vec<StatsList> = node.block_on(async {
        let mut stream = node.api().stats_of_all_stream(&StatsListQuery::default()).await.expect("a stream");
        let mut lists = Vec::new();
        while lists.len() < 2 {
            lists.push(stream.next().await.expect("goes on").expect("a list"));
        }
        lists
    });
    assert!(streamed.iter().all(|list| list.workloads.len() == 2));

    let told: Vec<serde_json::Value> = node.cli(&["--json", "stats", "--no-stream", "u"]).json_lines();
    let told: Stats = serde_json::from_value(told[0].clone()).expect("statistics");
    assert!(told.accounting.is_some_and(|full| !full.network.is_empty()));
    let table = node.cli(&["stats", "--no-stream", "u"]).ok();
    assert!(table.contains("RECEIVED") && table.contains("SENT"), "{table}");
    let table = node.cli(&["stats", "--no-stream"]).ok();
    assert!(table.contains("shares") && table.lines().count() == 3, "{table}");

    // Asked when somebody scrapes; who has no limits has no series.
    let metrics = String::from_utf8(node.http("GET", "/metrics", &[], b"").body).expect("text");
    let series = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name) && line.contains("workload=\"u\""));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    for name in
        ["hostler_workload_cpu_seconds_total", "hostler_workload_memory_bytes", "hostler_workload_resident_bytes"]
    {
        assert!(series(name).is_some_and(|value| value > 0.0), "{name}\n{metrics}");
    }
    assert!(
        !metrics.contains("workload=\"shares\"") && metrics.contains("hostler_unmeasured_workloads 0"),
        "{metrics}"
    );
    node.cli(&["rm", "-f", "u", "shares"]).ok();
    node.finish();
}

#[test]
fn processes_by_both_their_numbers() {
    let Some(node) = node() else { return };
    // With a group and without; each with a process that is number 1 of a pid namespace.
    for (name, pids) in [("grouped", Some(50)), ("plain", None)] {
        let script = "unshare -p -f sh -c 'sleep 601; true' & sleep 602; wait";
        let mut spec = node.script(script);
        spec.name = Some(name.parse().expect("a name"));
        spec.limits.pids = pids;
        node.create_started(&spec);
        let mut exec = node.command(&["exec", name, "sh", "-c", "echo up; exec sleep 603"]).spawn();
        exec.line_with("up");
        let list: Processes = until("all of them", PATIENCE, || {
            let list = node.block_on(node.api().processes(name)).expect("a list");
            let has =
                |number: &str| list.processes.iter().any(|process| process.command.last() == Some(&number.into()));
            (has("601") && has("602") && has("603")).then_some(list)
        });
        let of = |number: &str| {
            let found = list.processes.iter().find(|process| process.command.last() == Some(&number.into()));
            found.unwrap_or_else(|| panic!("{number} is not in {list:?}"))
        };
        let main = list.processes.iter().find(|process| process.role == Role::Main).expect("a main process");
        assert_eq!(main.pid, node.main_pid(name));
        assert_eq!((of("602").parent_pid, of("602").role), (main.pid, Role::Other));
        assert!(matches!(of("603").role, Role::Exec(_)), "{list:?}");
        assert_eq!((of("603").namespace_pid, of("603").threads), (of("603").pid, 1));
        // Its parent is number 1 of their namespace.
        let inner = of("601");
        assert!(inner.namespace_pid != inner.pid && inner.namespace_pid < 20, "{inner:?}");
        let first = list.processes.iter().find(|process| process.pid == inner.parent_pid).expect("its parent");
        assert_eq!(first.namespace_pid, 1);
        assert!(
            list.processes.iter().all(|process| process.started_at_ms > 1_600_000_000_000 && process.rss_bytes > 0)
        );
        assert!(list.processes.is_sorted_by_key(|process| process.pid) && list.left_out == 0);

        let table = node.cli(&["top", name]).ok();
        assert!(table.contains("main") && table.contains("exec ") && table.contains("sleep 601"), "{table}");
        let inspected = node.cli(&["inspect", name]).json();
        let told = inspected[0]["processes"].as_array().expect("a list");
        assert!(told.len() >= 5 && told.iter().any(|process| process["namespace_pid"] == 1), "{inspected}");

        // Each of them can be signalled, and nobody else.
        let (orphan, stranger) = (of("601").pid, std::process::id().to_string());
        node.cli(&["kill", "--signal", "USR1", "--pid", &orphan.to_string(), name]).ok();
        until_gone(orphan);
        node.cli(&["kill", "--signal", "CONT", "--pid", &stranger, name]).refused(1, "is no process of it");
        node.cli(&["kill", "--pid", "1", name]).refused(1, "is no process of it");
        node.cli(&["kill", "--pid", "0", name]).refused(1, "is no process of it");
        node.cli(&["kill", "--pid", "1", "--exec", "1", name]).code(2);
        node.cli(&["rm", "-f", name]).ok();
        exec.end();
    }
    node.cli(&["run", "-d", "--name", "over", "--", "true"]).ok();
    node.ended("over");
    node.cli(&["top", "over"]).refused(1, "has no processes");
    node.finish();
}

#[test]
fn limits_of_a_stack() {
    let Some(node) = node() else { return };
    let file = node.work().join("stack.toml");
    let text = "[service.web]\ncommand = [\"sleep\", \"600\"]\n[service.web.limits]\nmemory = \"64M\"\nswap = \"16M\"\n\
                cpu_shares = 300\ncpuset_cpus = 0\n";
    std::fs::write(&file, text).expect("written");
    node.cli(&["stack", "apply", file.to_str().expect("plain")]).ok();
    until("its group", PATIENCE, || group_value(&node, "cpu.shares").filter(|shares| shares == "300"));
    assert_eq!(group_value(&node, "memory.memsw.limit_in_bytes").as_deref(), Some("83886080"));
    assert_eq!(group_value(&node, "cpuset.cpus").as_deref(), Some("0"));
    node.cli(&["stack", "down", "stack"]).ok();
    node.finish();
}
