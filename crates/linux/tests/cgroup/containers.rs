//! Groups that a real OCI runtime makes: found, watched, limited, frozen, emptied and removed like our own.

use std::path::{Path, PathBuf};

use super::*;

const BUSYBOX: &str = "/bin/busybox";

/// A bundle whose program is this line of shell, in the group `run` of the node.
fn bundle(directory: &Path, node: &Node, script: &str) -> PathBuf {
    let root = directory.join("root");
    for name in ["bin", "proc", "dev"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 }, "cwd": "/", "noNewPrivileges": true,
            "env": ["PATH=/bin"], "args": ["/bin/busybox", "sh", "-c", script],
        },
        "root": { "path": "root" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
        ],
        "linux": {
            "cgroupsPath": node.0.oci_path("run").unwrap(),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "access": "rw" }] },
            "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }],
        },
    });
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    directory.to_path_buf()
}

/// The runtime's command line; crun refuses a machine with both versions mounted, so it gets a view without the v2 one.
fn runtime(name: &str, state: &Path) -> Option<Command> {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/sbin"].iter().any(|at| Path::new(at).join(name).exists());
    if !found || !Path::new(BUSYBOX).exists() {
        eprintln!("skipped: {name} or a static busybox is not installed");
        return None;
    }
    let mut command = Command::new("unshare");
    let script = "if [ \"$0\" = crun ]; then umount /sys/fs/cgroup/unified 2>/dev/null; fi; exec \"$0\" \"$@\"";
    command.args(["-m", "sh", "-c", script, name, "--root"]).arg(state);
    Some(command)
}

fn call(mut command: Command, arguments: &[&str]) {
    let output = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = output.spawn().unwrap().wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `script` in a container made by `name`, and then what the test does with its group and its process.
fn with_container(name: &str, script: &str, test: impl FnOnce(&Node, &hostler_linux::cgroup::Group, u32)) {
    let Some(node) = Node::new() else { return };
    let directory = tempfile::TempDir::new().unwrap();
    let state = directory.path().join("state");
    let Some(command) = runtime(name, &state) else { return };
    let bundle = bundle(directory.path(), &node, script);
    let pid_file = directory.path().join("pid");
    let id = format!("hostler-test-{}", node.0.oci_path("run").unwrap().replace('/', "."));
    let (bundle, pid_path) = (bundle.to_str().unwrap(), pid_file.to_str().unwrap());
    // The container's output goes nowhere, so that nobody holds our pipe.
    let mut start = command;
    let status = start
        .args(["--log", directory.path().join("log").to_str().unwrap()])
        .args(["run", "-d", "--bundle", bundle, "--pid-file", pid_path, &id])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{name}: {}", std::fs::read_to_string(directory.path().join("log")).unwrap_or_default());
    let pid: u32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    // As an agent sees it.
    let agent = Parent::from_arg(&node.0.to_arg()).unwrap();
    let group = agent.find("run");
    assert_eq!(agent.names(), ["run"]);
    test(&node, &group, pid);
    call(runtime(name, &state).unwrap(), &["delete", "--force", &id]);
    let _ = agent.open("run").remove();
    assert!(!agent.open("run").exists(), "{name} left the group");
}

fn a_group_made_by(name: &str) {
    with_container(name, "while :; do sleep 1; done", |node, group, pid| {
        assert!(group.exists() && group.pids().unwrap().contains(&pid), "{:?}", group.pids());
        assert!(group.members().unwrap().contains(&pid));
        let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let path = node.0.oci_path("run").unwrap();
        assert!(own.lines().filter(|line| line.ends_with(&path)).count() >= own.lines().count() - 1, "{path}: {own}");
        let stats = group.stats().unwrap();
        assert!(stats.pids >= 1 && stats.cpu_us > 0, "{stats:?}");

        group.set_limits(&Limits { memory_bytes: Some(64 << 20), pids: Some(40), ..Limits::default() }).unwrap();
        group.set_limits(&serde_json::from_str(r#"{"cpuset_cpus":"0","cpu_shares":77}"#).unwrap()).unwrap();
        let stats = group.stats().unwrap();
        assert_eq!((stats.memory_limit_bytes, stats.pids_limit), (Some(64 << 20), Some(40)));
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");

        group.freeze_within(Duration::from_secs(5)).unwrap();
        assert!(group.is_frozen().unwrap());
        group.thaw().unwrap();
        kill(group);
        let deadline = Instant::now() + Duration::from_secs(10);
        while procfs::stats(pid).is_ok_and(|stats| stats.state != 'Z') {
            assert!(Instant::now() < deadline, "{pid} lives");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn a_group_made_by_runc() {
    a_group_made_by("runc");
}

#[test]
fn a_group_made_by_crun() {
    a_group_made_by("crun");
}

#[test]
fn out_of_memory_in_a_group_made_by_runc() {
    // It waits until it is watched: told by a file, which the container sees at its root.
    with_container("runc", "while [ ! -e /go ]; do sleep 0.05; done; tail /dev/zero; sleep 600", |node, group, pid| {
        group.set_limits(&Limits { memory_bytes: Some(24 << 20), ..Limits::default() }).unwrap();
        let watch = group.oom_watch().unwrap();
        assert!(!readable(&watch, 0));
        std::fs::write(format!("/proc/{pid}/root/go"), "").unwrap();
        assert!(readable(&watch, 20), "nobody told us");
        let deadline = Instant::now() + Duration::from_secs(10);
        while node.0.open("run").oom_kills() == 0 {
            assert!(Instant::now() < deadline, "no kill was counted");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Reading never blocks, and the watch ends with the group.
        let mut event = [0u8; 8];
        let _ = rustix::io::read(&watch, &mut event);
        assert!(rustix::io::read(&watch, &mut event).is_err_and(|error| error == rustix::io::Errno::AGAIN));
    });
}
