//! Every refusal is a problem document of the right kind, and leaves nothing behind.

use hostler_model::ProblemKind::{self, *};
use hostler_tests::raw::{self, Announce};
use hostler_tests::{PATIENCE, Setup, TestNode, is_root, leaks, skip, until};

/// No workload, no run directory, no cgroup of a run.
fn assert_nothing_made(node: &TestNode, after: &str) {
    let known = node.all();
    assert!(known.is_empty(), "after {after}: {known:?}");
    assert_eq!(node.directories("run"), Vec::<std::path::PathBuf>::new(), "after {after}");
    let groups = node.tag().map(leaks::run_groups).unwrap_or_default();
    assert!(groups.is_empty(), "after {after}: {groups:?}");
    assert_eq!(node.directories("logs"), Vec::<std::path::PathBuf>::new(), "after {after}");
}

#[test]
fn specs_that_cannot_be_run() {
    let node = TestNode::new();
    let long = "x".repeat(140_000);
    let many: Vec<String> = (0..20).map(|_| "y".repeat(100_000)).collect();
    let file = node.work().join("plain");
    std::fs::write(&file, "no program").expect("write");
    let command = |command: serde_json::Value| serde_json::json!({ "command": command }).to_string();
    let with = |key: &str, value: serde_json::Value| serde_json::json!({ "command": ["true"], key: value }).to_string();
    let cases: Vec<(String, ProblemKind, &str)> = vec![
        ("{".into(), MalformedRequest, "not JSON"),
        (String::new(), MalformedRequest, "not JSON"),
        ("[]".into(), MalformedRequest, ""),
        (r#"{"command":"true"}"#.into(), MalformedRequest, "expected a sequence"),
        (r#"{"comand":["true"]}"#.into(), MalformedRequest, "comand"),
        (with("colour", 1.into()), MalformedRequest, "colour"),
        (with("name", "../x".into()), MalformedRequest, "not a valid workload name"),
        (with("name", "x".repeat(64).into()), MalformedRequest, "name"),
        (with("limits", serde_json::json!({"memory": 1})), MalformedRequest, "memory"),
        (with("stop", serde_json::json!({"signal": "NOPE"})), MalformedRequest, "NOPE"),
        (with("max_time_ms", (-1).into()), MalformedRequest, "-1"),
        (command(serde_json::json!([])), InvalidSpec, "command"),
        (command(serde_json::json!(["a\u{0}b"])), InvalidSpec, "NUL"),
        (with("workdir", "relative".into()), InvalidSpec, "workdir"),
        (with("workdir", "/no/such/place".into()), InvalidSpec, "/no/such/place"),
        (with("env", serde_json::json!(["=x"])), InvalidSpec, "KEY=VALUE"),
        (with("limits", serde_json::json!({"pids": 0})), InvalidSpec, "pids"),
        (with("max_time_ms", 0.into()), InvalidSpec, "max_time_ms"),
        (with("restart", serde_json::json!({"max_attempts": 3})), InvalidSpec, "max_attempts"),
        (command(serde_json::json!(["true", long])), ArgumentsTooLong, "131071"),
        (command(many.into()), ArgumentsTooLong, "stdin or a file"),
        (command(serde_json::json!(["no-such-program-anywhere"])), CommandNotFound, "no-such-program-anywhere"),
        (command(serde_json::json!(["/no/such/program"])), CommandNotFound, "/no/such/program"),
        (command(serde_json::json!([file.display().to_string()])), CommandNotExecutable, "chmod +x"),
        (command(serde_json::json!(["/usr"])), CommandNotExecutable, "directory"),
        (with("user", "no-such-user".into()), UnknownUser, "no-such-user"),
        (with("user", "0:no-such-group".into()), UnknownUser, "no-such-group"),
    ];
    for (body, kind, words) in cases {
        let shown: String = body.chars().take(80).collect();
        let problem = node.post(&body).problem(kind);
        assert!(problem.detail.contains(words), "{shown}: {:?} lacks {words:?}", problem.detail);
        assert_nothing_made(&node, &shown);
    }
    // Not text at all.
    node.http("POST", "/v1/workloads", &[], b"\xff\xfe{}").problem(MalformedRequest);
    assert_nothing_made(&node, "bytes");
    node.finish();
}

#[test]
fn bodies_that_are_too_large() {
    let node = TestNode::new();
    for announce in [Announce::Length, Announce::Nothing] {
        let reply = raw::flood(&node.socket(), "/v1/workloads", 100 << 20, announce);
        reply.problem(BodyTooLarge);
        assert_nothing_made(&node, "a flood");
    }
    assert_eq!(node.http("GET", "/healthz", &[], b"").status, 200);
    node.finish();
}

#[test]
fn requests_that_miss() {
    let node = TestNode::new();
    let cases = [
        ("GET", "/", NotFound),
        ("GET", "/v1/nothing", NotFound),
        ("GET", "/v1/workloads/absent", NotFound),
        ("DELETE", "/v1/workloads/absent", NotFound),
        ("POST", "/v1/workloads/absent/stop", NotFound),
        ("GET", "/v1/workloads/absent/logs", NotFound),
        ("GET", "/v1/workloads/absent/stats", NotFound),
        ("GET", "/v1/workloads/..%2f..%2fetc/logs", NotFound),
        ("PUT", "/v1/workloads", MethodNotAllowed),
        ("POST", "/v1/node", MethodNotAllowed),
        ("DELETE", "/v1/events", MethodNotAllowed),
        ("GET", "/v1/workloads?colour=red", MalformedRequest),
        ("GET", "/v1/workloads?all=perhaps", MalformedRequest),
        ("GET", "/v1/workloads?filter=colour%3Dred", MalformedRequest),
        ("GET", "/v1/workloads?namespace=..%2fx", MalformedRequest),
        ("GET", "/v1/events?since=yesterday", MalformedRequest),
        ("GET", "/v1/events?since=0011223344556677-5", EventsGone),
        ("GET", "/v1/workloads/absent/attach", MalformedRequest),
    ];
    for (method, target, kind) in cases {
        let reply = node.http(method, target, &[], b"");
        assert_eq!(reply.status, kind.status(), "{method} {target}: {}", reply.text());
        reply.problem(kind);
    }
    // Bytes that are no HTTP at all do not harm.
    raw::exchange(&node.socket(), b"\x00\x01\x02 not http\r\n\r\n").ok();
    assert_eq!(node.http("GET", "/healthz", &[], b"").text(), "ok\n");
    node.finish();
}

#[test]
fn states_that_do_not_allow_it() {
    let node = TestNode::new();
    node.create_started(&{
        let mut spec = node.spec(&["sleep", "60"]);
        spec.name = Some("live".parse().expect("a name"));
        spec
    });
    assert_eq!(node.post(r#"{"command":["true"],"name":"job"}"#).status, 201);
    node.ended("job");
    let ask = |method: &str, target: &str, body: &str| node.http(method, target, &[], body.as_bytes());
    let problem = node.post(r#"{"command":["true"],"name":"live"}"#).problem(NameInUse);
    assert!(problem.detail.contains("hostler rm -f live"), "{problem:?}");
    ask("POST", "/v1/workloads/live/start", "").problem(Conflict);
    ask("DELETE", "/v1/workloads/live", "").problem(Conflict);
    ask("POST", "/v1/workloads/job/kill", r#"{"signal":"TERM"}"#).problem(Conflict);
    ask("POST", "/v1/workloads/live/kill", r#"{"signal":"TERM","exec":"00000000"}"#).problem(NotFound);
    ask("POST", "/v1/workloads/live/kill", r#"{"signal":"NOPE"}"#).problem(MalformedRequest);
    ask("PATCH", "/v1/workloads/live", r#"{"limits":{}}"#).problem(MalformedRequest);
    ask("PATCH", "/v1/workloads/job", r#"{"limits":{"pids":0}}"#).problem(InvalidSpec);
    ask("GET", "/v1/workloads/job/stats", "").problem(Conflict);
    ask("GET", "/v1/workloads/live/wait?timeout_ms=50", "").problem(Timeout);
    ask("POST", "/v1/node/lame-duck", r#"{"lame_duck":"yes"}"#).problem(MalformedRequest);
    assert_eq!(ask("POST", "/v1/node/lame-duck", r#"{"lame_duck":true}"#).status, 200);
    node.post(r#"{"command":["true"]}"#).problem(LameDuck);
    ask("POST", "/v1/workloads/job/start", "").problem(LameDuck);
    assert_eq!(node.all().len(), 2);
    node.finish();
}

#[test]
fn a_node_has_a_limit_on_live_runs() {
    let node = Setup::new().config("[node]\nlive_runs_max = 2\n").start();
    for _ in 0..2 {
        node.create_started(&node.spec(&["sleep", "60"]));
    }
    let reply = node.post(r#"{"command":["true"]}"#);
    reply.problem(LimitReached);
    assert!(reply.header("retry-after").is_some());
    assert_eq!(node.all().len(), 2);
    node.finish();
}

#[test]
fn limits_that_this_machine_cannot_give() {
    if !is_root() {
        return skip("limits need root here");
    }
    // A node without the right to make groups: see `others::a_node_without_root`. With it, the kernel is asked.
    let node = TestNode::new();
    let reply = node.post(r#"{"command":["true"],"limits":{"memory_bytes":67108864,"pids":10,"cpu_millis":500}}"#);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let id = reply.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(node.ended(&id).exit_code, Some(0));
    // The end is told once it is on disk; the group goes after it.
    until("the group's removal", PATIENCE, || leaks::run_groups(node.tag().expect("a tag")).is_empty().then_some(()));
    node.finish();
}

#[test]
fn execs_that_cannot_be_made_are_told_on_the_stream() {
    use hostler_api::client::Frame;
    use hostler_api::stream::FromServer;
    use hostler_api::types::ExecRequest;

    let node = TestNode::new();
    let id = node.create_started(&node.spec(&["sleep", "60"])).workload.id.to_string();
    let request = |command: &[&str]| ExecRequest {
        command: command.iter().map(|text| (*text).into()).collect(),
        env: Vec::new(),
        workdir: None,
        user: None,
        rlimits: Vec::new(),
        interactive: false,
        tty: None,
    };
    let mut cases = vec![
        (request(&[]), InvalidSpec),
        (request(&["no-such-program-anywhere"]), CommandNotFound),
        (request(&["/usr"]), CommandNotExecutable),
        (request(&["true", &"x".repeat(140_000)]), ArgumentsTooLong),
    ];
    cases.push((ExecRequest { workdir: Some("relative".into()), ..request(&["true"]) }, InvalidSpec));
    cases.push((ExecRequest { workdir: Some("/no/such/place".into()), ..request(&["true"]) }, StartFailed));
    cases.push((ExecRequest { user: Some("no-such-user".to_owned()), ..request(&["true"]) }, UnknownUser));
    for (request, kind) in cases {
        let mut shown = format!("{request:?}");
        shown.truncate(200);
        let answer = node.block_on(async {
            let mut streams = node.api().exec(&id, request).await.expect("a stream");
            tokio::time::timeout(hostler_tests::PATIENCE, streams.next()).await.expect("an answer in time")
        });
        let Ok(Some(Frame::Control(FromServer::Problem { problem }))) = answer else { panic!("{shown}: {answer:?}") };
        assert_eq!(problem.kind(), Some(kind), "{shown}: {problem:?}");
    }
    // A stream that begins with anything else.
    let mut streams = node.block_on(node.api().attach(&id, &Default::default())).expect("a stream");
    node.block_on(streams.stdin(b"not asked for")).expect("sent");
    assert_eq!(node.inspect(&id).phase.as_str(), "running");
    node.finish();
}
