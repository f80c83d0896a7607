//! Verbs that ask and print: answers, refusals, and nobody there.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use crate::fake::{FakeNode, ID, Reply, ended, hostler, outcome, problem, workload};

#[test]
fn nobody_there_is_said_with_a_hint() {
    let root = tempfile::TempDir::new().expect("a directory");
    for (arguments, code) in
        [(&["ps"][..], 1), (&["stop", "x"], 1), (&["run", "true"], 125), (&["exec", "x", "true"], 125)]
    {
        let (exit, out, error) = outcome(&mut hostler(root.path(), arguments));
        assert_eq!(exit, Some(code), "{arguments:?}: {error}");
        assert_eq!(out, "");
        assert!(
            error.starts_with("hostler: no node is running at ") && error.contains("hint: ") && error.contains(" up`"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 2, "{error}");
    }
    let (exit, _, error) = outcome(&mut hostler(root.path(), &["--json", "ps"]));
    assert_eq!(exit, Some(1));
    assert!(error.starts_with(r#"{"type":"urn:hostler:problem:unavailable""#), "{error}");
    let (exit, out, _) = outcome(&mut hostler(root.path(), &["down"]));
    assert!(exit == Some(0) && out.contains("nothing to do"), "{out}");
    let (exit, out, _) = outcome(&mut hostler(root.path(), &["doctor"]));
    assert!(exit == Some(1) && out.contains("✗ daemon: no node is running") && out.contains("mend: "), "{out}");
}

#[test]
fn a_refusal_is_its_detail_and_a_hint() {
    let node = FakeNode::start(|_| problem("not-found", 404, "there is no workload \\\"x\\\""));
    let (exit, _, error) = outcome(&mut node.hostler(&["stop", "x", "y"]));
    assert_eq!(exit, Some(1));
    assert_eq!(error.matches("hostler: there is no workload \"x\"\n  hint: ").count(), 2, "{error}");
    let (_, _, error) = outcome(&mut node.hostler(&["--json", "inspect", "x"]));
    assert!(error.contains(r#""status":404"#), "{error}");
}

#[test]
fn bad_arguments_exit_with_2() {
    let root = tempfile::TempDir::new().expect("a directory");
    for arguments in [
        &["run"][..],
        &["frobnicate"],
        &["logs", "--since", "yesterday", "x"],
        &["run", "--env-file", "/absent", "true"],
        &["stats", "--history"],
        &["stats", "--history", "a", "b"],
    ] {
        let (exit, _, error) = outcome(&mut hostler(root.path(), arguments));
        assert_eq!(exit, Some(2), "{arguments:?}: {error}");
    }
}

#[test]
fn ps_and_inspect() {
    let node = FakeNode::start(|request| {
        let view = workload("ended", &ended(3));
        let list = format!(r#"{{"workloads":[{view}]}}"#);
        Reply::Json(200, if request.is("GET", "/v1/workloads") { list } else { view })
    });
    let (exit, out, _) = outcome(&mut node.hostler(&["ps", "-a", "--filter", "name=j*", "--filter", "phase=ended"]));
    assert_eq!(exit, Some(0));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("ID            NAME  STATE"), "{out}");
    assert!(lines[1].starts_with("00ff1234abcd  job   ended 3 "), "{out}");
    assert!(!out.contains('\x1b'), "colours only on a terminal");
    let target = &node.requests()[0].target;
    assert!(target.contains("all=true") && target.contains("filter=name%3Dj%2A%2Cphase%3Dended"), "{target}");

    let (_, out, _) = outcome(&mut node.hostler(&["ps", "-q"]));
    assert_eq!(out, format!("{ID}\n"));
    let (_, out, _) = outcome(&mut node.hostler(&["inspect", "job"]));
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json[0]["name"], "job");
}

#[test]
fn stop_waits_and_wait_returns_the_code() {
    let node = FakeNode::start(|request| {
        if request.is("POST", "/v1/workloads/job/stop") {
            assert_eq!(request.body, r#"{"grace_ms":2000}"#);
            return Reply::Json(200, workload("stopping", r#""state":"stopping""#));
        }
        let mut view = workload("ended", &ended(7));
        view.insert_str(1, r#""exit_code":7,"#);
        Reply::Json(200, view)
    });
    let (exit, out, error) = outcome(&mut node.hostler(&["stop", "-t", "2s", "job"]));
    assert_eq!((exit, out.as_str()), (Some(0), "job\n"), "{error}");
    let (exit, out, _) = outcome(&mut node.hostler(&["wait", "job"]));
    assert_eq!((exit, out.as_str()), (Some(7), "7\n"));
}

#[test]
fn logs_go_on_where_they_broke() {
    let line = |id: &str, stream: &str, text: &str, more: &str| {
        format!("id: {id}\nevent: line\ndata: {{\"time\":\"t\",\"stream\":\"{stream}\",\"text\":\"{text}\"{more}}}\n\n")
    };
    let node = FakeNode::start(move |request| match request.last_event_id.as_deref() {
        None => Reply::Events(line("0:1", "stdout", "one", "") + &line("0:2", "stdout", "tw", ",\"partial\":true")),
        Some("0:2") => {
            let rest = line("0:3", "stdout", "o", "") + &line("0:4", "stderr", "bad", "");
            Reply::Events(rest + "event: end\ndata: {}\n\n")
        }
        Some(other) => panic!("resumed from {other}"),
    });
    let (exit, out, error) = outcome(&mut node.hostler(&["logs", "-f", "--timestamps", "job"]));
    assert_eq!(exit, Some(0), "{error}");
    assert_eq!(out, "t one\nt two\n");
    assert_eq!(error, "hostler: the connection to the node broke, trying again for 30s\nt bad\n");
}

#[test]
fn a_daemon_that_does_not_start_is_quoted() {
    let root = tempfile::TempDir::new().expect("a directory");
    let bin = root.path().join("bin");
    std::fs::create_dir(&bin).expect("create");
    std::fs::copy(env!("CARGO_BIN_EXE_hostler"), bin.join("hostler")).expect("copy");
    let daemon = bin.join("hostlerd");
    std::fs::write(&daemon, "#!/bin/sh\necho \"got $*\"\necho 'the store is corrupt' >&2\nexit 3\n").expect("write");
    std::fs::set_permissions(&daemon, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut command = std::process::Command::new(bin.join("hostler"));
    let (exit, _, error) = outcome(command.arg("up").env("HOSTLER_ROOT", root.path().join("node")));
    assert_eq!(exit, Some(1));
    let expected = format!("got --root {0}/node --detached; the store is corrupt\n", root.path().display());
    assert!(error.contains("the daemon did not start (exit status: 3)") && error.contains(&expected), "{error}");
    assert!(error.contains("hostlerd.log"), "{error}");
}

#[test]
fn a_node_on_its_way_down_is_waited_for() {
    for arguments in [
        &["wait", "job"][..],
        &["stop", "job"],
        &["restart", "job"],
        &["stats", "--no-stream", "job"],
        &["logs", "-f", "job"],
        &["events", "--no-follow"],
    ] {
        // Each question is refused the first time.
        let refused = Mutex::new(HashSet::new());
        let node = FakeNode::start(move |request| {
            let path = request.target.split('?').next().unwrap_or_default().replace(ID, "job");
            if refused.lock().expect("not poisoned").insert(path) {
                return problem("unavailable", 503, "the node is going down");
            }
            if request.target.contains("/logs") || request.is("GET", "/v1/events") {
                return Reply::Events("event: end\ndata: {}\n\n".to_owned());
            }
            if request.target.contains("/stats") {
                let stats = r#"{"time_ms":1,"cpu_us":1,"memory_bytes":1,"pids":1,"log_dropped_bytes":0}"#;
                return Reply::Json(200, stats.to_owned());
            }
            Reply::Json(200, workload("ended", &ended(0)))
        });
        let (exit, _, error) = outcome(&mut node.hostler(arguments));
        assert_eq!(exit, Some(0), "{arguments:?}: {error}");
        assert!(error.contains("trying again for 30s") && !error.contains("going down"), "{arguments:?}: {error}");
    }
}

#[test]
fn wait_fails_with_codes_of_its_own() {
    let node = FakeNode::start(|request| {
        if request.target.contains("timeout_ms") {
            return problem("timeout", 504, "job has not ended in time");
        }
        problem("not-found", 404, "there is no job")
    });
    let (exit, _, error) = outcome(&mut node.hostler(&["wait", "--timeout", "1s", "job"]));
    assert_eq!(exit, Some(124), "{error}");
    for arguments in [["wait", "job"], ["attach", "job"]] {
        let (exit, _, error) = outcome(&mut node.hostler(&arguments));
        assert_eq!(exit, Some(125), "{arguments:?}: {error}");
    }
}

#[test]
fn a_bad_line_of_an_environment_file_is_named() {
    let root = tempfile::TempDir::new().expect("a directory");
    let file = root.path().join("env");
    std::fs::write(&file, "A=1\nexport B=2\n").expect("write");
    let file = file.to_str().expect("text");
    let (exit, _, error) = outcome(&mut hostler(root.path(), &["run", "--env-file", file, "true"]));
    assert!(exit == Some(2) && error.contains(&format!("{file}:2: ")), "{error}");
}

#[test]
fn a_hung_daemon_is_named_by_doctor() {
    let node = FakeNode::start(|_| {
        std::thread::sleep(std::time::Duration::from_secs(60));
        Reply::Json(200, String::new())
    });
    let (exit, out, error) = outcome(&mut node.hostler(&["doctor"]));
    assert!(exit == Some(1) && out.contains("did not answer within 3s"), "{out} {error}");
}
