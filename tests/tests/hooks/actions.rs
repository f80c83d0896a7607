//! What is done, and what comes of it.

use std::time::{Duration, Instant};

use hostler_model::event::EventKind;
use hostler_model::hook::{Hook, HookOn};
use hostler_tests::endpoint::{self, Answer, Endpoint};
use hostler_tests::{PATIENCE, Setup, TestNode, is_root, skip, until};

use super::{fired, hook, http, line, outcome, script, shell, start, story, told};

#[test]
fn a_request_is_repeated_with_the_same_key_until_it_is_answered_well() {
    let node = TestNode::new();
    let endpoint = Endpoint::new(&[Answer::Status(503), Answer::Close]);
    let mut spec = script(&node, "job", "true", vec![hook(HookOn::Success, http(endpoint.url("/a?b=c")))]);
    if let hostler_model::hook::HookAction::Http { headers, .. } = &mut spec.hooks[0].action {
        headers.insert("X-Secret".to_owned(), "s3cret".to_owned());
    }
    node.create(&spec);
    assert_eq!(told(&outcome(&node, "job", 0)), Ok(3));
    let posted = endpoint.posted();
    assert_eq!(posted.len(), 3);
    let key = fired(&node, "job", 0);
    for posted in posted {
        assert_eq!(posted.line, "POST /a?b=c HTTP/1.1");
        assert_eq!((posted.key(), posted.headers["x-secret"].as_str()), (key.as_str(), "s3cret"));
        assert_eq!(posted.headers["content-type"], "application/json");
    }
    assert_eq!(story(&node, "job").last().expect("an event"), "succeeded 0");
    assert!(!node.daemon_log().contains("s3cret"));
    node.finish();
}

#[test]
fn a_receiver_that_hangs_is_given_up_and_holds_up_no_other() {
    let node = TestNode::new();
    let (slow, fast) = (Endpoint::new(&[Answer::Silence; 100]), Endpoint::new(&[]));
    let impatient = |deadline_ms, url| Hook { deadline_ms, attempts: 2, ..hook(HookOn::Started, http(url)) };
    // More than one address may have at one time.
    let mut hooks: Vec<_> = (0..8).map(|_| impatient(60_000, slow.url("/"))).collect();
    hooks.push(impatient(20_000, fast.url("/")));
    node.create_started(&script(&node, "many", "exec sleep 600", hooks));
    assert_eq!(told(&outcome(&node, "many", 8)), Ok(1));
    assert!(slow.wait(4).len() == 4, "four at a time");

    let other = Endpoint::new(&[Answer::Silence; 100]);
    let began = Instant::now();
    node.create(&script(&node, "one", "exec sleep 600", vec![impatient(200, other.url("/"))]));
    let (attempts, message) = told(&outcome(&node, "one", 0)).expect_err("given up");
    assert_eq!(attempts, 2);
    assert!(message.contains("no answer within 200ms"), "{message}");
    assert!(began.elapsed() >= Duration::from_millis(400 + 500), "two deadlines and a pause");
    node.finish();
}

#[test]
fn what_is_no_success_is_said() {
    let node = TestNode::new();
    let endpoint = Endpoint::new(&[Answer::Status(307), Answer::Status(404)]);
    let once = |url| Hook { attempts: 1, ..hook(HookOn::Started, http(url)) };
    node.create_started(&script(&node, "moved", "exec sleep 600", vec![once(endpoint.url("/"))]));
    let (_, message) = told(&outcome(&node, "moved", 0)).expect_err("not followed");
    assert!(message.contains("307") && message.contains("redirects are not followed"), "{message}");
    node.create_started(&script(&node, "gone", "exec sleep 600", vec![once(endpoint.url("/"))]));
    assert!(told(&outcome(&node, "gone", 0)).expect_err("404").1.contains("404"));
    // Nobody listens there: the port was given back.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    node.create_started(&script(&node, "nobody", "exec sleep 600", vec![once(format!("http://{closed}/"))]));
    let (_, message) = told(&outcome(&node, "nobody", 0)).expect_err("refused");
    assert!(message.contains("connecting to") && message.contains("refused"), "{message}");
    assert_eq!(endpoint.posted().len(), 2);
    node.finish();
}

#[test]
fn a_certificate_is_checked_against_the_machines_authorities() {
    let endpoint = Endpoint::with_tls(&[]);
    let once = || vec![Hook { attempts: 1, ..hook(HookOn::End, http(endpoint.url("/tls"))) }];
    let authority = endpoint::authority();
    let node = Setup::new().env("SSL_CERT_FILE", &authority.to_string_lossy()).start();
    node.create(&script(&node, "job", "true", once()));
    assert_eq!(told(&outcome(&node, "job", 0)), Ok(1));
    assert_eq!(endpoint.posted()[0].line, "POST /tls HTTP/1.1");
    node.finish();

    // Another authority did not sign it: its own certificate is none.
    let other = authority.with_file_name("certificate.pem");
    let node = Setup::new().env("SSL_CERT_FILE", &other.to_string_lossy()).start();
    node.create(&script(&node, "job", "true", once()));
    let (_, message) = told(&outcome(&node, "job", 0)).expect_err("not trusted");
    assert!(message.contains("certificate"), "{message}");
    assert_eq!(endpoint.posted().len(), 1);
    node.finish();
}

#[test]
fn a_command_knows_why_it_runs_and_leaves_its_log_when_it_fails() {
    let node = TestNode::new();
    let say = "env | grep ^HOSTLER_ | sort >told; echo $MINE >>told; pwd >>told";
    let hooks = vec![
        hook(HookOn::Failure, shell(say)),
        Hook { attempts: 2, ..hook(HookOn::End, shell("echo tried; exit 9")) },
        hook(line("error: .*"), shell("echo $HOSTLER_STREAM $HOSTLER_LINE >line")),
        Hook { deadline_ms: 200, attempts: 1, ..hook(HookOn::End, shell("sleep 600")) },
    ];
    let mut spec = script(&node, "job", "echo 'error: no \"x\"'; exit 7", hooks);
    spec.env = vec!["MINE=yes".into()];
    node.create(&spec);
    assert_eq!(told(&outcome(&node, "job", 0)), Ok(1));
    let text = std::fs::read_to_string(node.work().join("told")).expect("a file");
    let run = node.inspect("job").workload.run.as_ref().expect("a run").id;
    for expected in [
        format!("HOSTLER_EVENT_ID={}", fired(&node, "job", 0)),
        "HOSTLER_HOOK_ON=failure".to_owned(),
        "HOSTLER_HOOK_WORKLOAD=job".to_owned(),
        format!("HOSTLER_HOOK_RUN={run}"),
        "HOSTLER_EXIT_CODE=7".to_owned(),
        "HOSTLER_CAUSE=error".to_owned(),
        "HOSTLER_NAME=job-hook-0-1".to_owned(),
        "yes".to_owned(),
        node.work().display().to_string(),
    ] {
        assert!(text.lines().any(|line| line == expected), "no {expected:?} in:\n{text}");
    }
    let (attempts, message) = told(&outcome(&node, "job", 1)).expect_err("it fails");
    assert_eq!(attempts, 2);
    assert!(message.contains("ended with 9") && message.contains("hostler logs job-hook-1-1"), "{message}");
    assert_eq!(node.log_of("job-hook-1-1"), "tried\ntried");
    assert_eq!(told(&outcome(&node, "job", 2)), Ok(1));
    assert_eq!(std::fs::read_to_string(node.work().join("line")).expect("a file"), "stdout error: no \"x\"\n");
    let (_, message) = told(&outcome(&node, "job", 3)).expect_err("too long");
    assert!(message.contains("timeout"), "{message}");
    node.finish();
}

#[test]
fn a_workload_starts_others_of_its_own_namespace_only() {
    let node = TestNode::new();
    node.create(&script(&node, "next", "echo x >>next", Vec::new()));
    node.ended("next");
    let hooks = vec![hook(HookOn::Success, start("next")), hook(HookOn::End, start("nothing"))];
    node.create(&script(&node, "first", "true", hooks));
    assert_eq!(told(&outcome(&node, "first", 0)), Ok(1));
    assert!(told(&outcome(&node, "first", 1)).expect_err("none").1.contains("no workload nothing"));
    until("the second run", PATIENCE, || (node.ended("next").workload.runs == 2).then_some(()));
    // One that runs is started again when it ends.
    node.create_started(&script(&node, "slow", "while ! [ -e let ]; do sleep 0.02; done; echo x >>slow", Vec::new()));
    node.create(&script(&node, "more", "true", vec![hook(HookOn::Success, start("slow"))]));
    assert_eq!(told(&outcome(&node, "more", 0)), Ok(1));
    std::fs::write(node.work().join("let"), "").expect("a file");
    until("its second run", PATIENCE, || (node.ended("slow").workload.runs == 2).then_some(()));

    if !is_root() {
        skip("playing another user needs root");
        return node.finish();
    }
    let line = ["run", "-d", "--name", "theirs", "--hook", "success=start:next", "--", "true"];
    node.command(&line).uid(65_534).run().ok();
    let failed = outcome(&node, "theirs", 0);
    assert!(told(&failed).expect_err("foreign").1.contains("in namespace u65534"), "{failed:?}");
    assert_eq!(node.ended("next").workload.runs, 2);
    let reply = node.post(r#"{"command":["true"],"hooks":[{"on":"end","action":{"start":{"workload":"u1/x"}}}]}"#);
    assert_eq!(reply.status, 400, "{}", reply.text());
    node.finish();
}

#[test]
fn the_command_line_has_short_words_for_them() {
    let node = TestNode::new();
    let endpoint = Endpoint::new(&[]);
    let file = node.work().join("hooks.toml");
    let text = format!("[[hooks]]\non = 'started'\naction = {{ http = {{ url = '{}' }} }}\n", endpoint.url("/file"));
    std::fs::write(&file, text).expect("a file");
    let posted = format!("line:two=http{}", &endpoint.url("/line")[4..]);
    let line = [
        "run",
        "-d",
        "--name",
        "cli",
        "--on-success",
        "echo s >>said",
        "--on-failure",
        "echo f >>said",
        "--on-end",
        "echo $HOSTLER_CAUSE >>said",
        "--hook",
        &posted,
        "--hooks",
        "hooks.toml",
        "--",
        "sh",
        "-c",
        "echo one; echo two",
    ];
    node.cli(&line).ok();
    for number in [0, 2, 3, 4] {
        assert!(told(&outcome(&node, "cli", number)).is_ok());
    }
    let said = std::fs::read_to_string(node.work().join("said")).expect("a file");
    let mut said: Vec<_> = said.lines().collect();
    said.sort_unstable();
    assert_eq!(said, ["s", "success"]);
    let mut lines: Vec<_> = endpoint.wait(2).into_iter().map(|posted| posted.line).collect();
    lines.sort();
    assert_eq!(lines, ["POST /file HTTP/1.1", "POST /line HTTP/1.1"]);
    let events = node.cli(&["events", "--no-follow"]).ok();
    assert!(events.contains("hook.fired") && events.contains("hook 3, on line"), "{events}");
    assert!(node.cli(&["inspect", "cli"]).ok().contains("hooks_fired"));
    node.cli(&["run", "--hook", "sometimes=true", "--", "true"]).code(2);
    node.finish();
}

#[test]
fn hooks_of_a_lame_duck_finish_its_work() {
    let node = TestNode::new();
    let hooks = vec![hook(HookOn::End, shell("echo done >>done"))];
    node.create_started(&script(&node, "work", "while ! [ -e let ]; do sleep 0.02; done", hooks));
    node.cli(&["node", "lame-duck"]).ok();
    std::fs::write(node.work().join("let"), "").expect("a file");
    assert_eq!(told(&outcome(&node, "work", 0)), Ok(1));
    node.cli(&["node", "lame-duck", "--off"]).ok();
    let ends = node.journal();
    assert!(ends.iter().any(|event| matches!(event.event.kind, EventKind::HookSucceeded { .. })));
    node.finish();
}
