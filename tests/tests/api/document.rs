//! The interface is what the table and the document say.

use std::collections::BTreeSet;

use hostler_api::endpoints::{Answer, ENDPOINTS, Method};
use hostler_model::schedule::{Overlap, Schedule};
use hostler_tests::{Setup, TestNode};

fn verb(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Patch => "PATCH",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
    }
}

#[test]
fn the_served_document_is_the_checked_in_one_and_names_every_endpoint() {
    let node = TestNode::new();
    let reply = node.http("GET", "/v1/openapi.json", &[], b"");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    let checked_in = include_str!("../../../docs/openapi.json");
    assert_eq!(reply.text(), checked_in);
    let document = reply.json();
    assert!(document["openapi"].as_str().expect("a version").starts_with("3.1"));
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("methods").keys().filter(|key| *key != "parameters") {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let table: BTreeSet<_> =
        ENDPOINTS.iter().map(|endpoint| (verb(endpoint.method).to_owned(), endpoint.path.to_owned())).collect();
    assert_eq!(documented, table);
    node.finish();
}

#[test]
fn every_endpoint_answers() {
    let pool = "[pool.p]\nruntime = \"microvm\"\nidle = 0\nmax = 1\n";
    let node = Setup::new().config(pool).start();
    for endpoint in ENDPOINTS {
        if endpoint.path == "/v1/node/down" {
            // Every test ends with it.
            continue;
        }
        // Asked of what has ended.
        let of_ended = endpoint.path.ends_with("/start") || endpoint.path.ends_with("/result");
        let command: &[&str] = if of_ended { &["true"] } else { &["sleep", "60"] };
        let mut spec = node.spec(command);
        if endpoint.path.contains("/schedule/") {
            let schedule = Schedule { every_ms: Some(60_000), overlap: Overlap::Queue, ..Schedule::default() };
            spec.schedule = Some(schedule.into());
        }
        let id = node.create_started(&spec).workload.id.to_string();
        if of_ended {
            node.ended(&id);
        }
        if endpoint.path.starts_with("/v1/queues/") {
            node.cli(&["queue", "set", "q", "--parallel", "2"]).ok();
        }
        let path = endpoint
            .path
            .replace("{ref}", &id)
            .replace("{queue}", "q")
            .replace("{checkpoint}", "c")
            .replace("{network}", "n")
            .replace("{pool}", "p");
        let stack = r#"{"job":{"a":{"command":["true"]}}}"#;
        if endpoint.path.starts_with("/v1/stacks/{ref}") {
            let put = node.http("PUT", &format!("/v1/stacks/{id}"), &[], stack.as_bytes());
            assert_eq!(put.status, 200, "{}", put.text());
        }
        let method = verb(endpoint.method);
        let body = match endpoint.body {
            None | Some("StopRequest" | "DownRequest" | "StartRequest" | "RestoreRequest") => String::new(),
            Some("CheckpointRequest") => format!(r#"{{"workload":"{id}"}}"#),
            Some("Spec") => r#"{"command":["true"]}"#.to_owned(),
            Some("LameDuckRequest") => r#"{"lame_duck":false}"#.to_owned(),
            Some("UpdateRequest") => r#"{"limits":{"pids":9}}"#.to_owned(),
            Some("Specs") => r#"[{"command":["true"]},{"command":[]}]"#.to_owned(),
            Some("BulkRequest") => r#"{"action":"kill","signal":"TERM"}"#.to_owned(),
            Some("NewNetwork") => r#"{"name":"n"}"#.to_owned(),
            Some("QueueChange") => r#"{"paused":true}"#.to_owned(),
            Some("PoolChange") => r#""drain""#.to_owned(),
            Some("Stack") => stack.to_owned(),
            Some("KillRequest") => r#"{"signal":"TERM"}"#.to_owned(),
            Some(other) => panic!("a body of type {other} is new to this test"),
        };
        let path = match endpoint.path {
            "/v1/events" => format!("{path}?no_follow=true"),
            "/v1/workloads/{ref}/wait" => format!("{path}?until=started"),
            "/v1/workloads/{ref}" if endpoint.method == Method::Delete => format!("{path}?force=true"),
            _ => path,
        };
        let reply = node.http(method, &path, &[("content-type", "application/json")], body.as_bytes());
        match endpoint.answer {
            // Asked without an upgrade.
            Answer::WebSocket => {
                reply.problem(hostler_model::ProblemKind::MalformedRequest);
            }
            // A process without a group of its own, and nothing to restore: tests/containers has the others.
            _ if endpoint.path.ends_with("/pause") || endpoint.path.ends_with("/resume") => {
                if !endpoint.path.contains("/schedule/") {
                    reply.problem(hostler_model::ProblemKind::Conflict);
                }
            }
            _ if endpoint.path == "/v1/checkpoints" && endpoint.method == Method::Post => {
                reply.problem(hostler_model::ProblemKind::Conflict);
            }
            _ if endpoint.path.starts_with("/v1/checkpoints/") => {
                reply.problem(hostler_model::ProblemKind::NotFound);
            }
            // Not everywhere can there be networks: `networks` has the rest.
            _ if endpoint.path.starts_with("/v1/networks") && reply.status >= 400 => {
                assert!([403, 404, 422].contains(&reply.status), "{method} {path}: {}", reply.text());
            }
            // No limits were asked for, so there is nothing to change.
            _ if endpoint.method == Method::Patch && endpoint.body == Some("UpdateRequest") => {
                reply.problem(hostler_model::ProblemKind::Conflict);
            }
            Answer::Json(_) | Answer::JsonOrEvents(_) => {
                assert_eq!(reply.status, endpoint.status, "{method} {path}: {}", reply.text());
                assert_eq!(reply.header("content-type"), Some("application/json"), "{method} {path}");
                assert!(reply.json().is_object(), "{method} {path}");
            }
            Answer::Events(_) => {
                assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream")), "{path}");
                assert!(reply.text().ends_with("event: end\ndata: {}\n\n"), "{path}: {}", reply.text());
            }
            Answer::Text => assert!(reply.status == 200 && !reply.body.is_empty(), "{path}"),
        }
        node.block_on(node.api().remove(&id, &hostler_api::types::RemoveQuery { force: true, ..Default::default() }))
            .ok();
    }
    node.finish();
}

#[test]
fn created_says_where_it_is_and_waits_as_asked() {
    let node = TestNode::new();
    let reply = node.post(r#"{"command":["sh","-c","sleep 0.3; exit 3"],"name":"here"}"#);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let id = reply.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(reply.header("location"), Some(format!("/v1/workloads/{id}").as_str()));
    assert!(reply.json()["phase"] == "preparing" || reply.json()["phase"] == "running");
    let waited = |wait: &str, script: &str| {
        let body = serde_json::json!({"command": ["sh", "-c", script]}).to_string();
        node.http("POST", &format!("/v1/workloads?wait={wait}"), &[], body.as_bytes()).json()
    };
    assert_eq!(waited("started", "sleep 60")["phase"], "running");
    let ended = waited("ended", "exit 9");
    assert_eq!((&ended["phase"], &ended["exit_code"]), (&serde_json::json!("ended"), &serde_json::json!(9)));
    let reply = node.http("GET", &format!("/v1/workloads/{id}/wait"), &[], b"");
    assert_eq!(reply.json()["exit_code"], 3);
    let reply = node.http("GET", &format!("/v1/workloads/{id}/wait?until=accepted"), &[], b"");
    assert_eq!(reply.status, 200);
    node.finish();
}
