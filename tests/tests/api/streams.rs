//! Streams and what must hold over time: resuming, retention, idempotency, metrics.

use hostler_api::client::ClientError;
use hostler_api::types::{CreateQuery, EventsQuery, LogsQuery};
use hostler_model::ProblemKind;
use hostler_tests::events::{assert_history, is_of};
use hostler_tests::{Setup, TestNode};

const KEY: &str = "idempotency-key";

#[test]
fn the_same_key_makes_one_workload() {
    let mut node = TestNode::new();
    let create =
        |node: &TestNode, key: &str, body: &str| node.http("POST", "/v1/workloads", &[(KEY, key)], body.as_bytes());
    let body = r#"{"command":["sh","-c","exit 3"]}"#;
    let first = create(&node, "k1", body);
    assert_eq!(first.status, 201);
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(create(&node, "k1", body).json()["id"], id.as_str());
    assert_ne!(create(&node, "k2", body).json()["id"], id.as_str());
    create(&node, "k1", r#"{"command":["true"]}"#).problem(ProblemKind::IdempotencyMismatch);
    node.kill_and_start();
    assert_eq!(create(&node, "k1", body).json()["id"], id.as_str());
    create(&node, "k1", r#"{"command":["true"]}"#).problem(ProblemKind::IdempotencyMismatch);
    // In another namespace it is another key.
    let other = node.http("POST", "/v1/workloads?namespace=other", &[(KEY, "k1")], body.as_bytes());
    assert_ne!(other.json()["id"], id.as_str());
    node.ended(&id);
    node.cli(&["rm", &id]).ok();
    create(&node, "k1", body).problem(ProblemKind::Conflict);
    for bad in ["", &"x".repeat(200)] {
        create(&node, bad, body).problem(ProblemKind::MalformedRequest);
    }
    assert_eq!(node.all().len(), 2);
    node.finish();
}

#[test]
fn events_resume_after_the_last_id() {
    let mut node = TestNode::new();
    for name in ["a", "b"] {
        node.cli(&["run", "--name", name, "--", "true"]).ok();
    }
    let all = node.journal();
    for at in [0, 3, all.len() - 1] {
        let reply = node.http("GET", "/v1/events?no_follow=true", &[("last-event-id", &all[at].id)], b"");
        let ids: Vec<&str> = all[at + 1..].iter().map(|event| event.id.as_str()).collect();
        let text = reply.text();
        let found: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("id: ").or(line.strip_prefix("id:"))).collect();
        assert_eq!(found, ids);
    }
    // A follower that was cut off misses nothing and sees nothing twice.
    let (mut seen, last) = node.block_on(async {
        let query = EventsQuery { since: Some("0".to_owned()), ..EventsQuery::default() };
        let mut stream = node.api().events(&query, None).await.expect("events");
        let mut seen = Vec::new();
        for _ in 0..all.len() - 2 {
            seen.push(stream.next().await.expect("an event").expect("an event").id);
        }
        let last = stream.last_id().expect("an id").to_owned();
        (seen, last)
    });
    node.kill_and_start();
    node.cli(&["run", "--name", "c", "--", "true"]).ok();
    let rest = node.block_on(async {
        let query = EventsQuery { no_follow: true, ..EventsQuery::default() };
        let mut stream = node.api().events(&query, Some(&last)).await.expect("events");
        let mut rest = Vec::new();
        while let Some(event) = stream.next().await.expect("an event") {
            rest.push(event.id);
        }
        rest
    });
    seen.extend(rest);
    let journal = node.journal();
    assert_eq!(seen, journal.iter().map(|event| event.id.clone()).collect::<Vec<_>>());
    assert_history(&journal);
    node.finish();
}

#[test]
fn events_past_the_retention_are_gone() {
    let node = Setup::new().config("[retention]\nevents = 1000\nended_workloads = 50\n").start();
    let first = node.journal()[0].id.clone();
    // Each short job makes four events.
    node.block_on(async {
        let mut jobs = tokio::task::JoinSet::new();
        let spec = std::sync::Arc::new(node.spec(&["true"]));
        for worker in 0..16 {
            let (api, spec) = (node.api().clone(), spec.clone());
            jobs.spawn(async move {
                let query = CreateQuery { wait: Some(hostler_api::types::WaitFor::Ended), ..CreateQuery::default() };
                for _ in 0..22 {
                    let view = api.create(&spec, &query, None).await.expect("accepted");
                    assert_eq!(view.exit_code, Some(0), "worker {worker}");
                }
            });
        }
        jobs.join_all().await;
    });
    let reply = node.http("GET", "/v1/events?no_follow=true", &[("last-event-id", &first)], b"");
    let problem = reply.problem(ProblemKind::EventsGone);
    let oldest: u64 = problem.detail.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("a number");
    let kept = node.journal();
    assert!(kept[0].id.ends_with(&format!("-{oldest}")), "{} is not the oldest: {problem:?}", kept[0].id);
    assert!((1_000..1_400).contains(&kept.len()), "{} events are kept", kept.len());
    // From a time on there is no gap to speak of.
    assert_eq!(node.http("GET", "/v1/events?since=1&no_follow=true", &[], b"").status, 200);
    // Ended workloads are kept up to the configured count.
    assert!(node.all().len() <= 60, "{} workloads are kept", node.all().len());
    node.finish();
}

#[test]
fn logs_resume_after_a_position() {
    let node = TestNode::new();
    let mut spec = node.script("seq 1 5000");
    spec.log.segment_bytes = 16 * 1024;
    spec.log.segments = 50;
    let id = node.create(&spec).workload.id.to_string();
    node.ended(&id);
    let lines = node.block_on(async {
        let mut lines = Vec::new();
        let mut last: Option<String> = None;
        // Cut off after every few hundred lines.
        'again: loop {
            let mut stream = node.api().logs(&id, &LogsQuery::default(), last.as_deref()).await.expect("logs");
            for _ in 0..700 {
                match stream.next().await.expect("a line") {
                    Some(hostler_api::client::LogItem::Line(line)) => {
                        lines.push(line.text.to_string_lossy().into_owned())
                    }
                    Some(other) => panic!("{other:?}"),
                    None => break 'again,
                }
            }
            last = stream.last_id().map(str::to_owned);
        }
        lines
    });
    let expected: Vec<String> = (1..=5000).map(|n| n.to_string()).collect();
    assert!(lines == expected, "{} lines, of which the first wrong one is {:?}", lines.len(), {
        lines.iter().zip(&expected).find(|(found, expected)| found != expected)
    });
    let bad = node.http("GET", &format!("/v1/workloads/{id}/logs"), &[("last-event-id", "nonsense")], b"");
    bad.problem(ProblemKind::MalformedRequest);
    node.finish();
}

#[test]
fn metrics_count_what_happened() {
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "live", "--", "sleep", "60"]).ok();
    for _ in 0..3 {
        node.cli(&["run", "--rm", "--", "true"]).ok();
    }
    node.cli(&["run", "--name", "over", "--", "true"]).ok();
    node.cli(&["rm", "over"]).ok();
    node.cli(&["exec", "live", "true"]).ok();
    node.cli(&["stats", "--no-stream", "live"]).ok();
    let text = node.block_on(node.api().metrics()).expect("metrics");
    assert!(text.ends_with("# EOF\n"), "OpenMetrics ends with its mark");
    let mut typed = std::collections::HashSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().expect("a name");
            assert!(name.starts_with("hostler_"), "{line}");
            assert!(typed.insert(name.to_owned()), "{name} is declared twice");
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').expect("a sample");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = sample.split('{').next().expect("a name");
            assert!(typed.iter().any(|known| name.starts_with(known.as_str())), "{name} has no type");
        }
    }
    for operation in ["create", "start", "exec", "exit", "delete", "stats"] {
        let counted = text.lines().any(|line| {
            line.contains("_count{") && line.contains(&format!("\"{operation}\"")) && !line.ends_with(" 0")
        });
        assert!(counted, "nothing counted for {operation}:\n{text}");
    }
    let running = text.lines().find(|line| line.contains("\"running\"")).expect("a count of running workloads");
    assert!(running.ends_with(" 1"), "{running}");
    for word in ["subscribers", "pending", "watched", "cpu", "memory"] {
        assert!(text.contains(word), "nothing about {word}:\n{text}");
    }
    node.finish();
}

#[test]
fn a_connection_that_breaks_is_told_from_an_end() {
    let mut node = TestNode::new();
    let query = EventsQuery { since: Some("0".to_owned()), ..EventsQuery::default() };
    let mut stream = node.block_on(node.api().events(&query, None)).expect("events");
    node.block_on(stream.next()).expect("an event");
    node.kill();
    let broken = node.block_on(async {
        loop {
            match stream.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("an end was told"),
                Err(error) => return error,
            }
        }
    });
    assert!(matches!(broken, ClientError::Disconnected(_)), "{broken:?}");
    node.start();
    node.cli(&["run", "--name", "after", "--", "true"]).ok();
    assert!(node.journal().iter().any(|event| is_of(event, "after")));
    node.finish();
}
