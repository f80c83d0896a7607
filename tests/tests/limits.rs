//! Limits: processes, memory, CPU, time, and the disk.

use std::path::{Path, PathBuf};

use hostler_api::types::QueueQuery;
use hostler_model::event::EventKind;
use hostler_model::workload::RunState;
use hostler_model::{Cause, ProblemKind};
use hostler_tests::events::assert_history;
use hostler_tests::{PATIENCE, Setup, TestNode, is_root, leaks, skip, until, until_gone};

fn can_limit(node: &TestNode) -> bool {
    let report = node.block_on(node.api().doctor()).expect("a report");
    report.checks.iter().any(|check| {
        (check.name.contains("cgroup") || check.name.contains("memory"))
            && check.status == hostler_api::types::CheckStatus::Ok
    })
}

/// The value of a file of the run's group, in whichever hierarchy has it.
fn group_value(node: &TestNode, names: &[&str]) -> Option<String> {
    let groups = leaks::run_groups(node.tag().expect("a tag"));
    let files = groups.iter().flat_map(|group| names.iter().map(move |name| group.join(name)));
    files.filter_map(|file| std::fs::read_to_string(file).ok()).map(|text| text.trim().to_owned()).next()
}

#[test]
fn limits_are_what_the_kernel_enforces_and_can_be_changed() {
    if !is_root() {
        return skip("limits need root here");
    }
    let node = TestNode::new();
    if !can_limit(&node) {
        skip("this machine's cgroups cannot be used");
        return node.finish();
    }
    node.cli(&["run", "-d", "--name", "l", "--memory", "64M", "--cpus", "0.5", "--pids", "20", "--", "sleep", "600"])
        .ok();
    let memory = ["memory.limit_in_bytes", "memory.max"];
    assert_eq!(group_value(&node, &memory).as_deref(), Some("67108864"));
    assert_eq!(group_value(&node, &["pids.max"]).as_deref(), Some("20"));
    let quota = |node: &TestNode| {
        if let Some(quota) = group_value(node, &["cpu.cfs_quota_us"]) {
            let period: f64 =
                group_value(node, &["cpu.cfs_period_us"]).and_then(|text| text.parse().ok()).expect("a period");
            return quota.parse::<f64>().expect("a quota") / period;
        }
        let text = group_value(node, &["cpu.max"]).expect("cpu.max");
        let (quota, period) = text.split_once(' ').expect("two numbers");
        quota.parse::<f64>().expect("a quota") / period.parse::<f64>().expect("a period")
    };
    assert!((quota(&node) - 0.5).abs() < 0.01, "{}", quota(&node));
    node.cli(&["update", "--memory", "128M", "--cpus", "1.5", "--pids", "30", "l"]).ok();
    assert_eq!(group_value(&node, &memory).as_deref(), Some("134217728"));
    assert_eq!(group_value(&node, &["pids.max"]).as_deref(), Some("30"));
    assert!((quota(&node) - 1.5).abs() < 0.01, "{}", quota(&node));
    // Smaller again; what is in use stays.
    node.cli(&["update", "--memory", "32M", "l"]).ok();
    assert_eq!(group_value(&node, &memory).as_deref(), Some("33554432"));
    // The main process is in it, its agent is not.
    let file = node.run_file("l");
    let in_group = |pid: u32| {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("alive").contains(&file.run.to_string())
    };
    assert!(in_group(file.main.expect("it runs").pid) && !in_group(file.agent.pid));
    // The limits that were changed are those of the next run.
    node.cli(&["restart", "l"]).ok();
    assert_eq!(group_value(&node, &memory).as_deref(), Some("33554432"));
    node.cli(&["rm", "-f", "l"]).ok();
    until("the group's removal", PATIENCE, || leaks::run_groups(node.tag().expect("a tag")).is_empty().then_some(()));
    node.finish();
}

#[test]
fn a_fork_bomb_is_contained_and_removed() {
    if !is_root() {
        return skip("limits need root here");
    }
    let node = TestNode::new();
    if !can_limit(&node) {
        skip("this machine's cgroups cannot be used");
        return node.finish();
    }
    // `setsid`: not even one session can be told from the others.
    let bomb = "bomb() { setsid sleep 600 & bomb & bomb & wait; }; trap '' TERM; bomb & exec sleep 601";
    node.cli(&["run", "-d", "--name", "bomb", "--pids", "50", "--stop-timeout", "200ms", "--", "sh", "-c", bomb]).ok();
    until("a refused fork", PATIENCE, || {
        let stats = node.block_on(node.api().stats("bomb")).ok()?;
        assert!(stats.pids <= 50, "{stats:?}");
        let refused = group_value(&node, &["pids.events"])?;
        refused.strip_prefix("max ").and_then(|count| count.parse::<u64>().ok()).filter(|count| *count > 0)
    });
    // The node and other work are not affected.
    assert_eq!(node.cli(&["run", "--", "echo", "fine"]).ok(), "fine");
    node.cli(&["stop", "bomb"]).ok();
    node.cli(&["rm", "bomb"]).ok();
    until("the end of all of them", PATIENCE, || {
        let left = leaks::processes(node.root());
        let bombs = left.iter().filter(|(_, what)| what.contains("sleep 60") || what.contains("bomb")).count();
        (bombs == 0).then_some(())
    });
    node.finish();
}

#[test]
fn out_of_memory_is_told_as_such() {
    if !is_root() {
        return skip("limits need root here");
    }
    let node = TestNode::new();
    if !can_limit(&node) {
        skip("this machine's cgroups cannot be used");
        return node.finish();
    }
    let hungry = "x=0123456789abcdef; while :; do x=$x$x; done";
    let output = node.cli(&["run", "--name", "hungry", "--memory", "32M", "--", "sh", "-c", hungry]).code(137);
    assert!(output.err().contains("memory limit"), "{}", output.err());
    let RunState::Ended { exit } = node.state_of("hungry") else { panic!("{:?}", node.state_of("hungry")) };
    assert_eq!(exit.cause, Cause::Oom);
    assert!(exit.oom_kills >= 1);
    let told = node.wait_kind("hungry", "run.oom");
    assert!(matches!(told.event.kind, EventKind::RunOom { oom_kills } if oom_kills >= 1));
    // A child that is killed is no end of the run, but it is told.
    let parent = format!("sh -c '{hungry}'; echo survived $?; until [ -e go ]; do sleep 0.02; done; exit 6");
    node.cli(&["run", "-d", "--name", "parent", "--memory", "32M", "--", "sh", "-c", &parent]).ok();
    node.wait_kind("parent", "run.oom");
    std::fs::write(node.work().join("go"), "").expect("write");
    assert_eq!(node.cli(&["wait", "parent"]).code(6).out(), "6\n");
    let RunState::Ended { exit } = node.state_of("parent") else { panic!("{:?}", node.state_of("parent")) };
    assert!(exit.oom_kills >= 1 && exit.cause == Cause::Error, "{exit:?}");
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn who_ignores_sigterm_is_killed_with_all_its_children() {
    let node = TestNode::new();
    let script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ >child; while :; do sleep 0.1; done' & \
                  echo ready; while :; do sleep 0.1; done";
    node.cli(&["run", "-d", "--name", "deaf", "--stop-timeout", "300ms", "--", "sh", "-c", script]).ok();
    let main = node.main_pid("deaf");
    let child = until("the child", PATIENCE, || {
        std::fs::read_to_string(node.work().join("child")).ok()?.trim().parse::<u32>().ok()
    });
    node.cli(&["stop", "deaf"]).ok();
    until_gone(main);
    until_gone(child);
    let RunState::Ended { exit } = node.state_of("deaf") else { panic!("{:?}", node.state_of("deaf")) };
    assert_eq!(exit.cause, Cause::Killed);
    node.finish();
}

/// A file system of its own, small; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).expect("mkdir");
        let options = format!("size={size},mode=755");
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "hostler-test"]).arg(at);
        let output = mount.output().ok()?;
        output.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = until("the disk not to be in use", PATIENCE, || {
            std::process::Command::new("umount").arg(&self.0).output().ok().filter(|output| output.status.success())
        });
        assert!(done.status.success());
    }
}

/// A node on a disk of 28 MB, and a directory that is not on it. `None` where that cannot be had, which is told.
fn node_on_a_small_disk() -> Option<(tempfile::TempDir, SmallDisk, TestNode)> {
    if !is_root() {
        skip("mounting a small disk needs root");
        return None;
    }
    let place = tempfile::Builder::new().prefix("ht-disk-").tempdir_in("/tmp").expect("a directory");
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let Some(disk) = SmallDisk::mount(&place.path().join("d"), "28M") else {
        skip("a tmpfs cannot be mounted here");
        return None;
    };
    let node = Setup::new().root(&disk.0).config("[node]\nfree_space_min_bytes = 3000000\n").start();
    Some((place, disk, node))
}

/// To the last byte.
fn fill_up(root: &Path) -> PathBuf {
    let fill = root.join("work/fill");
    let mut file = std::fs::File::create(&fill).expect("create");
    let piece = vec![b'x'; 64 * 1024];
    while std::io::Write::write_all(&mut file, &piece).is_ok() {}
    while std::io::Write::write_all(&mut file, b"x").is_ok() {}
    fill
}

#[test]
fn a_full_disk_under_a_filled_queue_holds_it_and_loses_no_job() {
    let Some((place, disk, node)) = node_on_a_small_disk() else { return };
    let root = disk.0.clone();
    let (go, effects) = (place.path().join("go"), place.path().join("effects"));
    let queue = |node: &TestNode| {
        let view = node.block_on(node.api().queue("q", &QueueQuery::default())).ok()?;
        Some((view.running, view.waiting))
    };
    node.cli(&["queue", "set", "q", "--parallel", "2"]).ok();
    for number in 0..30 {
        let line = format!("echo {number} >>{}; until [ -e {} ]; do sleep 0.02; done", effects.display(), go.display());
        node.cli(&["run", "-d", "--queue", "q", "--name", &format!("j{number}"), "--", "sh", "-c", &line]).ok();
    }
    let lines = || std::fs::read_to_string(&effects).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    until("two jobs under way", PATIENCE, || (lines().len() == 2).then_some(()));
    let fill = fill_up(&root);
    until("the refusal of new work", PATIENCE, || {
        let reply = node.post(r#"{"command":["true"]}"#);
        (reply.status == 507).then(|| reply.problem(ProblemKind::DiskFull))
    });
    std::fs::write(&go, "").expect("write");
    // The daemon may have to replace itself to give up its ballast.
    until("the ends of the two, and nothing new", PATIENCE, || (queue(&node)? == (0, 28)).then_some(()));
    assert_eq!(lines().len(), 2);
    std::fs::remove_file(&fill).expect("rm");
    until("the end of all", PATIENCE, || (queue(&node)? == (0, 0)).then_some(()));
    let mut seen: Vec<u32> = lines().iter().map(|line| line.parse().expect("a number")).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
    for number in 0..30 {
        assert_eq!(node.ended(&format!("j{number}")).exit_code, Some(0));
    }
    assert_history(&node.journal());
    node.finish();
    drop(disk);
}

#[test]
fn a_full_disk_loses_no_end_and_takes_no_new_work() {
    let Some((place, disk, node)) = node_on_a_small_disk() else { return };
    let root = disk.0.clone();
    let go = place.path().join("go");
    let script = format!("echo begun; until [ -e {} ]; do sleep 0.02; done; exit 7", go.display());
    for name in ["one", "two", "three"] {
        node.cli(&["run", "-d", "--name", name, "--", "sh", "-c", &script]).ok();
        node.main_pid(name);
    }
    let fill = fill_up(&root);
    until("the refusal of new work", PATIENCE, || {
        let reply = node.post(r#"{"command":["true"],"name":"new"}"#);
        (reply.status == 507).then(|| reply.problem(ProblemKind::DiskFull))
    });
    node.cli(&["run", "--", "true"]).refused(125, "disk space");
    std::fs::write(&go, "").expect("write");
    for name in ["one", "two", "three"] {
        // The daemon may have to replace itself to give up its ballast.
        let code = until("the recorded end", PATIENCE, || {
            let view = node.block_on(node.api().inspect(name)).ok()?;
            view.workload.is_at_rest().then_some(view.exit_code)
        });
        assert_eq!(code, Some(7), "{name}");
    }
    std::fs::remove_file(&fill).expect("rm");
    until("work being accepted again", PATIENCE, || {
        let output = node.cli(&["run", "--", "echo", "again"]);
        (output.code == 0 && output.out() == "again\n").then_some(())
    });
    assert_history(&node.journal());
    node.finish();
    drop(disk);
}
