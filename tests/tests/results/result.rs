//! `result`: each outcome, the last lines, what was left out, tags.

use hostler_api::result::{ResultQuery, ResultStream, WorkloadResult};
use hostler_model::exit::ExitStatus;
use hostler_model::outcome::Outcome;
use hostler_model::spec::{Restart, RestartWhen};
use hostler_model::{ProblemKind, Spec};
use hostler_tests::{TestNode, signal, until_gone};

fn result(node: &TestNode, reference: &str, lines: u32) -> WorkloadResult {
    let query = ResultQuery { lines: Some(lines), ..ResultQuery::default() };
    node.block_on(node.api().result(reference, &query)).unwrap_or_else(|error| panic!("result {reference}: {error}"))
}

fn of(node: &TestNode, spec: &Spec) -> WorkloadResult {
    let id = node.create(spec).workload.id.to_string();
    node.ended(&id);
    result(node, &id, 10)
}

fn words(stream: &ResultStream) -> Vec<String> {
    stream.lines.iter().map(|line| line.text.to_string_lossy().into_owned()).collect()
}

#[test]
fn each_outcome_has_its_word() {
    let node = TestNode::new();
    let ended = |script: &str| of(&node, &node.script(script));
    let success = ended("echo out; echo err >&2");
    assert_eq!(
        (success.outcome, success.status, success.exit_code),
        (Outcome::Success, Some(ExitStatus::Code(0)), Some(0))
    );
    assert_eq!((words(&success.stdout), words(&success.stderr)), (vec!["out".to_owned()], vec!["err".to_owned()]));
    assert!(success.started_at_ms <= success.ended_at_ms && success.duration_ms.is_some() && success.usage.is_some());
    let error = ended("exit 3");
    assert_eq!(
        (error.outcome, error.exit_code, error.stdout),
        (Outcome::Error, Some(3), ResultStream { left_out: Some(0), lines: Vec::new() })
    );

    let mut slow = node.script("sleep 60");
    slow.max_time_ms = Some(50);
    assert_eq!(of(&node, &slow).outcome, Outcome::Timeout);
    let failed = of(&node, &{
        let mut spec = node.spec(&["cat"]);
        spec.stdio.stdin = Some("/absent".into());
        spec
    });
    assert_eq!((failed.outcome, failed.status, failed.exit_code), (Outcome::Failed, None, Some(125)));
    assert!(failed.reason.is_some_and(|reason| reason.contains("/absent")));

    let killed = node.create_started(&node.script("sleep 60")).workload.id.to_string();
    node.cli(&["stop", &killed]).ok();
    assert_eq!(result(&node, &killed, 10).outcome, Outcome::Killed);
    let lost = node.create_started(&node.script("echo before; echo ready >ready; sleep 60")).workload.id.to_string();
    hostler_tests::until("its first line", hostler_tests::PATIENCE, || {
        node.work().join("ready").exists().then_some(())
    });
    hostler_tests::until("it in the log", hostler_tests::PATIENCE, || (node.log_of(&lost) == "before").then_some(()));
    signal(node.run_file(&lost).agent.pid, 9);
    node.ended(&lost);
    let lost = result(&node, &lost, 10);
    assert_eq!(
        (lost.outcome, lost.exit_code, words(&lost.stdout)),
        (Outcome::Lost, Some(125), vec!["before".to_owned()])
    );
    assert_eq!(lost.stdout.left_out, Some(0), "its whole log was read");
    node.finish();
}

/// systems.md 5.15: death by signal gave a code of 999 or 4294967295.
#[test]
fn death_by_signal_is_told_apart_from_a_code() {
    let node = TestNode::new();
    let by_code = of(&node, &node.script("exit 143"));
    let by_signal = of(&node, &node.script("kill -TERM $$"));
    assert_eq!((by_code.outcome, by_code.status), (Outcome::Error, Some(ExitStatus::Code(143))));
    assert_eq!(by_signal.outcome, Outcome::Signal);
    assert!(matches!(by_signal.status, Some(ExitStatus::Signal(signal)) if signal.number() == 15));
    assert_eq!((by_code.exit_code, by_signal.exit_code), (Some(143), Some(143)), "a shell cannot tell them apart");
    let text = |result: &WorkloadResult| node.cli(&["result", &result.id.to_string()]).ok();
    assert!(text(&by_code).contains("error (exit code 143)"), "{}", text(&by_code));
    assert!(text(&by_signal).contains("signal (SIGTERM)"), "{}", text(&by_signal));
    node.finish();
}

#[test]
fn there_is_none_before_the_end() {
    let node = TestNode::new();
    let running = node.create_started(&node.script("until [ -e go ]; do sleep 0.02; done; echo done")).workload;
    let id = running.id.to_string();
    let refused = node.block_on(node.api().result(&id, &ResultQuery::default())).expect_err("it runs");
    assert_eq!(refused.problem_kind(), Some(ProblemKind::Conflict));
    node.cli(&["result", &id]).refused(1, "--wait");
    let waiting = node.command(&["result", "--wait", &id]).spawn();
    std::fs::write(node.work().join("go"), "").unwrap();
    assert!(waiting.end().code(0).out().contains("success"));

    // One that fails and is to be tried again has no result yet; when it gives up, it has one, of the last attempt.
    let mut again = node.script("echo run $HOSTLER_RUN; exit 3");
    *again.restart = Restart {
        when: RestartWhen::OnFailure,
        backoff_initial_ms: 3_600_000,
        backoff_max_ms: 3_600_000,
        ..Restart::default()
    };
    let id = node.create(&again).workload.id.to_string();
    node.wait_kind(&id, "workload.restarting");
    let refused = node.block_on(node.api().result(&id, &ResultQuery::default())).expect_err("it is tried again");
    assert_eq!(refused.problem_kind(), Some(ProblemKind::Conflict));
    *again.restart = Restart { max_attempts: Some(2), backoff_initial_ms: 10, backoff_max_ms: 10, ..*again.restart };
    let result = of(&node, &again);
    assert_eq!((result.outcome, result.runs, result.run.map(|run| run.number)), (Outcome::Error, 3, Some(3)));
    assert_eq!((words(&result.stdout), result.stdout.left_out), (vec![format!("run {}-3", result.id)], Some(0)));
    node.finish();
}

/// systems.md 5.15: the 100-line cap cut silently.
#[test]
fn a_tail_says_how_many_lines_were_left_out_also_when_the_log_has_lost_them() {
    let node = TestNode::new();
    let mut spec = node.script("seq 20000; seq 1234 >&2");
    spec.name = Some("long".parse().unwrap());
    spec.log.segment_bytes = 8 * 1024;
    spec.log.segments = 3;
    let first = of(&node, &spec);
    assert_eq!(first.stdout.left_out.map(|left| left + first.stdout.lines.len() as u64), Some(20_000));
    assert_eq!((first.stderr.left_out, words(&first.stderr).last().map(String::as_str)), (Some(1_224), Some("1234")));
    let hundred = result(&node, "long", 100);
    assert_eq!(hundred.stderr.left_out, Some(1_234 - hundred.stderr.lines.len() as u64));
    assert!(result(&node, "long", 0).stderr == ResultStream { left_out: Some(1_234), lines: Vec::new() });
    let text = node.cli(&["result", "long"]).ok();
    assert!(text.contains("stderr:\n… 1,224 lines left out\n1225\n"), "{text}");
    let too_many = node.http("GET", "/v1/workloads/long/result?lines=1001", &[], b"");
    assert_eq!(too_many.status, 400);

    // A second run's result has nothing of the first in it.
    let mut few = node.script("[ -e second ] && exec echo only; touch second; seq 500");
    *few.restart = Restart { when: RestartWhen::Never, ..Restart::default() };
    let id = of(&node, &few).id.to_string();
    node.cli(&["start", &id]).ok();
    node.ended(&id);
    let second = result(&node, &id, 1_000);
    assert_eq!((second.runs, words(&second.stdout), second.stdout.left_out), (2, vec!["only".to_owned()], Some(0)));
    node.finish();
}

#[test]
fn a_result_outlives_the_daemon_also_one_that_came_while_none_was_there() {
    let mut node = TestNode::new();
    let before = of(&node, &node.script("seq 30; printf end"));
    let running = node.create_started(&node.script("until [ -e go ]; do sleep 0.02; done; seq 40; exit 4")).workload;
    let pid = node.main_pid(&running.id.to_string());
    node.kill();
    std::fs::write(node.work().join("go"), "").unwrap();
    until_gone(pid);
    node.start();
    assert_eq!(result(&node, &before.id.to_string(), 10), before);
    assert_eq!((before.stdout.left_out, words(&before.stdout).last().map(String::as_str)), (Some(21), Some("end")));
    node.ended(&running.id.to_string());
    let meanwhile = result(&node, &running.id.to_string(), 10);
    assert_eq!(
        (meanwhile.outcome, meanwhile.exit_code, meanwhile.stdout.left_out),
        (Outcome::Error, Some(4), Some(30))
    );
    node.finish();
}

#[test]
fn odd_bytes_and_long_lines_do_not_break_it() {
    let node = TestNode::new();
    let script = "printf 'odd \\377\\376\\n'; head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'a\\0b'";
    node.cli(&["run", "-d", "--name", "odd", "--", "sh", "-c", script]).ok();
    node.ended("odd");
    let found = result(&node, "odd", 10);
    let texts: Vec<&[u8]> = found.stdout.lines.iter().map(|line| line.text.as_bytes()).collect();
    assert_eq!((texts[0], texts[2], texts.len()), (&b"odd \xff\xfe"[..], &b"a\0b"[..], 3));
    assert_eq!((texts[1].len(), found.stdout.lines[1].cut_bytes), (4_096, 100_000 - 4_096));
    let shown = node.cli(&["result", "odd"]).code(0).stdout;
    assert!(shown.windows(6).any(|part| part == b"odd \xff\xfe"));
    node.finish();
}

#[test]
fn tags_are_kept_filtered_by_and_told() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "a", "--tag", "nightly", "--tag", "two words", "--label", "k=v", "--", "true"])
        .ok();
    node.cli(&["run", "-d", "--name", "b", "--tag", "nightly-2", "--", "true"]).ok();
    for name in ["a", "b"] {
        node.ended(name);
    }
    let names = |filter: &str| node.cli(&["--json", "ps", "-a", "--filter", filter]).json();
    let found = names("tag=nightly");
    assert_eq!((found.as_array().unwrap().len(), &found[0]["name"]), (1, &serde_json::json!("a")));
    assert_eq!(names("tag=two words").as_array().unwrap().len(), 1);
    assert_eq!(names("tag=two").as_array().unwrap().len(), 0);
    let tags = serde_json::json!(["nightly", "two words"]);
    assert_eq!(node.cli(&["inspect", "a"]).json()[0]["spec"]["tags"], tags);
    let result = node.cli(&["--json", "result", "a"]).json();
    assert_eq!((&result["tags"], &result["labels"]["k"]), (&tags, &serde_json::json!("v")));
    let text = node.cli(&["result", "a"]).ok();
    assert!(text.contains("tags nightly, two words") && text.contains("labels k=v"), "{text}");
    node.cli(&["run", "--tag", "x", "--tag", "x", "--", "true"]).refused(125, "twice");
    node.finish();
}
