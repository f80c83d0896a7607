//! up, down, info, lame-duck, doctor, and the daemon's own options.

use std::process::Command;

use hostler_tests::{PATIENCE, Setup, TestNode, binary, is_alive, until, until_gone};

#[test]
fn up_starts_a_daemon_that_stays() {
    let node = Setup::new().make();
    node.cli(&["ps"]).refused(1, "no node is running");
    assert!(node.cli(&["ps"]).err().contains("hint: start one with `"));
    assert!(node.cli(&["down"]).ok().contains("nothing to do"));
    let up = node.cli(&["up"]).ok();
    assert!(up.contains("node is up"), "{up}");
    assert!(node.cli(&["node", "up"]).ok().contains("already up"));
    assert_eq!(node.cli(&["run", "--", "echo", "hello"]).ok(), "hello");
    node.cli(&["run", "-d", "--name", "stays", "--", "sleep", "60"]).ok();
    let daemon = node.info().pid;
    let workload = node.main_pid("stays");
    let down = node.cli(&["down"]).ok();
    assert!(down.contains("node is down") && down.contains("1 workload keeps running"), "{down}");
    assert!(!is_alive(daemon) && is_alive(workload));
    assert!(!node.socket().exists());
    let up = node.cli(&["--json", "up"]).json();
    assert_eq!(up["workloads"]["running"], 1);
    assert_eq!(node.main_pid("stays"), workload);
    let down = node.cli(&["node", "down", "--stop-workloads"]).ok();
    assert!(down.contains("1 workload was stopped"), "{down}");
    until_gone(workload);
    node.cli(&["up"]).ok();
    assert_eq!(node.inspect("stays").phase.as_str(), "ended");
    node.finish();
}

#[test]
fn up_in_the_foreground_ends_with_ctrl_c() {
    let node = Setup::new().make();
    let daemon = node.command(&["up", "--foreground"]).spawn();
    until("an answer", PATIENCE, || node.block_on(node.api().node()).ok());
    assert_eq!(node.info().pid, daemon.pid());
    daemon.signal(2);
    daemon.end().code(0);
    assert!(!node.socket().exists());
    node.finish();
}

#[test]
fn a_daemon_that_cannot_start_says_why() {
    let node = Setup::new().config("[node]\nworkers = 2\ncolour = \"red\"\n").make();
    let failed = node.cli(&["up"]).code(1).err();
    assert!(failed.contains("colour") && failed.contains("line 3") && failed.contains("hint:"), "{failed}");
    let file = node.root().join("hostler.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).expect("write");
        Command::new(binary("hostlerd"))
            .arg("--root")
            .arg(node.root())
            .arg("--check-config")
            .output()
            .expect("hostlerd")
    };
    let cases = [
        ("", true, "is good"),
        ("[pool.process]\nidle = 2\n", true, "is good"),
        ("[pool.process]\nidle = \"two\"\n", false, "line 2"),
        ("[node]\nworkers = 0\n", false, "node.workers"),
        ("[cgroup]\nparent = \"../x\"\n", false, "cgroup.parent"),
        ("not toml at all", false, "line 1"),
    ];
    for (text, good, words) in cases {
        let output = check(text);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.success(), good, "{text:?}: {said}");
        assert!(said.contains(words), "{text:?}: {said}");
    }
    std::fs::remove_file(&file).expect("rm");
    let missing =
        Command::new(binary("hostlerd")).args(["--check-config", "--config"]).arg(&file).output().expect("hostlerd");
    assert!(!missing.status.success());
    node.finish();
}

#[test]
fn info_and_doctor() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--", "sleep", "60"]).ok();
    let info = node.cli(&["node", "info"]).ok();
    for words in [&*node.root().display().to_string(), "1 running", &format!("pid {}", node.pid()), "taken"] {
        assert!(info.contains(words), "{info} lacks {words}");
    }
    let json = node.cli(&["--json", "node", "info"]).json();
    assert_eq!(json["pid"], node.pid());
    assert_eq!(json["workloads"]["running"], 1);
    assert!(json["memory_total_bytes"].as_u64() > json["memory_available_bytes"].as_u64());
    let doctor = node.cli(&["--json", "doctor"]);
    let report: serde_json::Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    assert!(checks.len() >= 4, "{report}");
    for check in checks {
        assert!(!check["detail"].as_str().expect("a detail").is_empty(), "{check}");
        if check["status"] == "missing" {
            assert!(check["mend"].is_string(), "{check} does not say how to mend it");
        }
    }
    let text = node.cli(&["doctor"]);
    for check in checks {
        let name = check["name"].as_str().expect("a name");
        assert!(text.out().contains(name), "{} lacks {name}", text.out());
    }
    // Without a daemon it says what it can.
    let mut node = node;
    node.down();
    assert!(node.cli(&["doctor"]).out().contains("cgroups"));
    node.finish();
}

#[test]
fn a_lame_duck_finishes_its_work_and_takes_no_new() {
    let mut node = TestNode::new();
    node.cli(&["run", "-d", "--name", "old", "--", "sh", "-c", "until [ -e go ]; do sleep 0.02; done; exit 3"]).ok();
    node.cli(&["run", "--name", "ready", "--", "true"]).ok();
    node.cli(&["node", "lame-duck"]).ok();
    node.cli(&["run", "--", "true"]).refused(125, "lame duck");
    node.cli(&["start", "ready"]).refused(1, "lame duck");
    assert!(node.cli(&["exec", "old", "--", "echo", "still"]).ok().contains("still"));
    // It is remembered.
    node.kill_and_start();
    assert!(node.cli(&["node", "info"]).ok().contains("refused (lame duck)"));
    node.cli(&["run", "--", "true"]).refused(125, "lame-duck --off");
    std::fs::write(node.work().join("go"), "").expect("write");
    assert_eq!(node.cli(&["wait", "old"]).code(3).out(), "3\n");
    node.cli(&["node", "lame-duck", "--off"]).ok();
    assert_eq!(node.cli(&["run", "--", "echo", "again"]).ok(), "again");
    node.finish();
}

#[test]
fn several_people_start_it_at_once() {
    let node = Setup::new().make();
    let starts: Vec<_> = (0..4).map(|_| node.command(&["up"]).spawn()).collect();
    for start in starts {
        let output = start.end().code(0);
        assert!(output.out().contains("node is "), "{}", output.out());
    }
    assert_eq!(
        node.cli(&["--root", &node.root().display().to_string(), "run", "--", "echo", "one node"]).ok(),
        "one node"
    );
    let starts = node.journal().iter().filter(|event| event.event.kind.name() == "node.started").count();
    assert_eq!(starts, 1);
    node.finish();
}
