//! What makes a hook fire.

use hostler_api::types::LogStream;
use hostler_model::hook::{HookAction, HookOn};
use hostler_model::spec::RestartWhen;
use hostler_tests::endpoint::Endpoint;
use hostler_tests::{PATIENCE, TestNode, until};

use super::{fired, hook, http, line, outcome, script, shell, start, story, told};

#[test]
fn every_trigger_does_every_action() {
    let node = TestNode::new();
    let endpoint = Endpoint::new(&[]);
    let triggers = [
        HookOn::Started,
        line("^go [0-9]+$"),
        HookOn::Delay { after_ms: 30 },
        HookOn::Success,
        HookOn::End,
        HookOn::Failure,
    ];
    node.create(&script(&node, "other", "echo started >>other", Vec::new()));
    node.ended("other");
    let mut hooks = Vec::new();
    for on in triggers {
        hooks.push(hook(on.clone(), http(endpoint.url("/"))));
        hooks.push(hook(on.clone(), shell("echo $HOSTLER_HOOK_ON $HOSTLER_EVENT_ID >>commands")));
        if !matches!(on, HookOn::Failure) {
            hooks.push(hook(on, start("other")));
        }
    }
    hooks.truncate(16);
    // The first sixteen are all but one of the failure's, which never fire here.
    node.create(&script(&node, "all", "echo go 17; sleep 0.3", hooks));
    let fine: Vec<u8> = (0..15).collect();
    for number in &fine {
        assert!(told(&outcome(&node, "all", *number)).is_ok(), "hook {number}: {:?}", story(&node, "all"));
    }
    let posted = endpoint.wait(5);
    let mut words: Vec<_> = posted.iter().map(|posted| posted.body["on"].as_str().expect("a word")).collect();
    words.sort_unstable();
    assert_eq!(words, ["delay", "end", "line", "started", "success"]);
    let commands = std::fs::read_to_string(node.work().join("commands")).expect("a file");
    let mut commands: Vec<_> = commands.lines().collect();
    commands.sort_unstable();
    let expected = [("delay", 7), ("end", 13), ("line", 4), ("started", 1), ("success", 10)];
    let expected = expected.map(|(word, number)| format!("{word} {}", fired(&node, "all", number)));
    assert_eq!(commands, expected);
    assert!(!story(&node, "all").iter().any(|word| word.contains("failure")));
    // It was started by five hooks, some of them while it ran; more often than once, and seldom five times.
    assert!(node.ended("other").workload.runs >= 2);
    assert_eq!(node.inspect("all").workload.run.as_ref().expect("a run").hooks_fired.len(), 15);
    until("the jobs of the commands to be gone", PATIENCE, || (node.all().len() == 2).then_some(()));
    node.finish();
}

#[test]
fn failure_is_every_other_end_and_is_told_once_after_the_last_attempt() {
    let node = TestNode::new();
    let endpoint = Endpoint::new(&[]);
    let all = || [HookOn::Success, HookOn::Failure, HookOn::End].map(|on| hook(on, http(endpoint.url("/")))).to_vec();
    let mut flaky = script(&node, "flaky", "exit 3", all());
    flaky.restart.when = RestartWhen::OnFailure;
    flaky.restart.max_attempts = Some(2);
    node.create(&flaky);
    assert!(told(&outcome(&node, "flaky", 1)).is_ok());
    outcome(&node, "flaky", 2);
    let posted = endpoint.wait(2);
    for posted in &posted {
        let body = &posted.body;
        assert_eq!((body["exit_code"].as_u64(), body["cause"].as_str()), (Some(3), Some("error")), "{body}");
        assert_eq!((body["workload"].as_str(), body["end"]["state"].as_str()), (Some("flaky"), Some("ended")));
        assert_eq!(body["run"].as_str().expect("a run"), format!("{}-3", node.inspect("flaky").workload.id));
        assert_eq!(body["id"].as_str(), Some(posted.key()));
    }
    // What cannot be started, what is stopped, and what waits for its next attempt when it is.
    let mut missing = node.spec(&["/no/such/program"]);
    missing.name = Some("missing".parse().expect("a name"));
    missing.hooks = all().into();
    // The owner's programs are looked for at once; one that vanishes before its start is the run's failure.
    if node.post(&serde_json::to_string(&missing).expect("json")).status == 201 {
        assert!(told(&outcome(&node, "missing", 1)).is_ok());
    }
    node.create_started(&script(&node, "stopped", "exec sleep 600", all()));
    node.cli(&["stop", "stopped"]).ok();
    outcome(&node, "stopped", 1);
    outcome(&node, "stopped", 2);
    let mut waiting = script(&node, "waiting", "exit 4", all());
    waiting.restart.when = RestartWhen::Always;
    waiting.restart.backoff_initial_ms = 60_000;
    waiting.restart.backoff_max_ms = 60_000;
    node.create(&waiting);
    node.wait_kind("waiting", "workload.restarting");
    assert!(!story(&node, "waiting").iter().any(|word| word.starts_with("fired")));
    node.cli(&["stop", "waiting"]).ok();
    outcome(&node, "waiting", 1);
    outcome(&node, "waiting", 2);
    for name in ["flaky", "stopped", "waiting"] {
        assert!(!story(&node, name).contains(&"fired 0 success".to_owned()));
        fired(&node, name, 1);
    }
    node.finish();
}

#[test]
fn lines_are_found_in_their_run_and_stream_and_also_after_the_end() {
    let node = TestNode::new();
    let endpoint = Endpoint::new(&[]);
    let stream = |pattern: &str, stream| HookOn::Line { pattern: pattern.to_owned(), stream: Some(stream) };
    let hooks = vec![
        hook(stream("word", LogStream::Stderr), http(endpoint.url("/err"))),
        hook(line("^x+end$"), http(endpoint.url("/long"))),
        hook(line("^last words$"), http(endpoint.url("/last"))),
        hook(line("never said"), http(endpoint.url("/never"))),
    ];
    let text = "echo a word; echo the word >&2; echo one more word >&2; \
                head -c 40000 /dev/zero | tr '\\0' x; echo end; printf 'last words'";
    let mut spec = script(&node, "speaker", text, hooks);
    // What is removed with its end waits for its lines.
    spec.remove = true;
    let id = node.create(&spec).workload.id;
    for number in 0..3 {
        assert_eq!(told(&outcome(&node, "speaker", number)), Ok(1));
    }
    node.wait_kind("speaker", "workload.removed");
    let mut posted = endpoint.wait(3);
    posted.sort_by(|a, b| a.line.cmp(&b.line));
    assert_eq!(posted[0].line, "POST /err HTTP/1.1");
    assert_eq!((&posted[0].body["line"], &posted[0].body["stream"]), (&"the word".into(), &"stderr".into()));
    assert_eq!(posted[1].body["line"], "last words");
    assert_eq!(posted[2].body["line"].as_str().expect("a line").len(), 4_096);
    assert!(posted.iter().all(|posted| posted.body["run"] == format!("{id}-1")));

    // The same words of an earlier run are not this one's.
    let text = "if [ -e again ]; then exec sleep 600; fi; touch again; echo once";
    let again = script(&node, "again", text, vec![hook(line("once"), http(endpoint.url("/once")))]);
    node.create(&again);
    outcome(&node, "again", 0);
    node.ended("again");
    node.cli(&["start", "again"]).ok();
    node.main_pid("again");
    node.cli(&["restart", "again"]).ok();
    node.cli(&["stop", "again"]).ok();
    until("its lines to be read", PATIENCE, || node.inspect("again").workload.line_tails.is_empty().then_some(()));
    fired(&node, "again", 0);
    node.finish();
}

#[test]
fn a_delay_is_over_only_for_what_still_runs() {
    let node = TestNode::new();
    let delays = |after_ms: &[u64]| {
        after_ms.iter().map(|after_ms| hook(HookOn::Delay { after_ms: *after_ms }, shell("true"))).collect()
    };
    node.create(&script(&node, "short", "true", delays(&[60_000])));
    node.ended("short");
    node.create_started(&script(&node, "long", "exec sleep 600", delays(&[250, 1, 60_000])));
    outcome(&node, "long", 0);
    let story = story(&node, "long");
    let fired: Vec<_> = story.iter().filter(|word| word.starts_with("fired")).collect();
    assert_eq!(fired, ["fired 1 delay", "fired 0 delay"]);
    assert!(!super::story(&node, "short").iter().any(|word| word.starts_with("fired")));
    node.finish();
}

#[test]
fn what_could_never_work_is_refused() {
    let node = TestNode::new();
    let cases = [
        (hook(line("("), shell("true")), "unclosed group"),
        (hook(line("(a{1000}){1000}"), shell("true")), "too large"),
        (hook(HookOn::End, http("gopher://x".to_owned())), "http://"),
        (hook(HookOn::End, start("me")), "restart"),
        (hook(HookOn::End, HookAction::Command { command: Vec::new(), env: Vec::new() }), "command"),
    ];
    for (hook, word) in cases {
        let spec = script(&node, "me", "true", vec![hook]);
        let reply = node.post(&serde_json::to_string(&spec).expect("json"));
        assert_eq!(reply.status, 422, "{spec:?}");
        assert!(reply.text().contains(word), "{} does not name {word:?}", reply.text());
    }
    assert!(node.all().is_empty());
    node.finish();
}
