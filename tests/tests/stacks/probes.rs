//! Ready by tcp, http, exec, delay and a line of output; liveness.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use hostler_model::event::EventKind;
use hostler_tests::TestNode;
use hostler_tests::events::{assert_history, is_of};

use super::{apply, reason, states, touch, unit, until_state, until_view, view, write};

/// A web server of the test's own, which answers with the status that the test wants.
struct Server {
    port: u16,
    status: Arc<AtomicU16>,
}

impl Server {
    fn new(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(AtomicU16::new(status));
        let status = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.read(&mut [0; 4096]);
                let _ = write!(stream, "HTTP/1.1 {} x\r\nConnection: close\r\n\r\n", shared.load(Ordering::SeqCst));
            }
        });
        Self { port, status }
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

/// A port at which nobody listens, for as long as the test wants.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

#[test]
fn ready_by_tcp_http_exec_and_delay() {
    let node = TestNode::new();
    let server = Server::new(503);
    let port = closed_port();
    let text = format!(
        "[service.tcp]\ncommand = [\"sleep\", \"600\"]\nready = {{ tcp = {port}, interval = \"20ms\" }}\n\
         [service.http]\ncommand = [\"sleep\", \"600\"]\nready = {{ http = \"http://127.0.0.1:{}/up\", interval = \"20ms\" }}\n\
         [service.exec]\ncommand = [\"sleep\", \"600\"]\nworkdir = \".\"\nready = {{ exec = \"test -e there\", interval = \"20ms\" }}\n\
         [service.delay]\ncommand = [\"sleep\", \"600\"]\nready.delay = \"300ms\"\n\
         [service.all]\ncommand = [\"sleep\", \"600\"]\nrequires = [\"tcp\", \"http\", \"exec\", \"delay\"]\n",
        server.port
    );
    apply(&node, "s", &text);
    // All run, and only the one that just has to wait becomes ready by itself.
    until_state(&node, "s", "delay", "ready");
    let waiting = view(&node, "s");
    assert_eq!(
        states(&waiting),
        [("all", "waiting"), ("delay", "ready"), ("exec", "starting"), ("http", "starting"), ("tcp", "starting")]
    );
    let run = node.inspect("s.delay").workload.run.clone().expect("a run");
    let waited = run.ready_at_ms.expect("ready").saturating_sub(run.started_at_ms.expect("started"));
    assert!(waited >= 250, "ready after {waited} ms");
    server.answer(204);
    until_state(&node, "s", "http", "ready");
    touch(&node, "there");
    until_state(&node, "s", "exec", "ready");
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is still free");
    until_state(&node, "s", "all", "ready");
    drop(listener);
    // Probes that are execs are in nobody's journal.
    let journal = node.journal();
    assert!(!journal.iter().any(|event| event.event.kind.name().starts_with("exec.")), "probes are in the journal");
    node.cli(&["stack", "down", "s"]).ok();
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn one_that_is_never_ready_has_failed_and_is_stopped() {
    let node = TestNode::new();
    let text = "[service.a]\ncommand = [\"sleep\", \"600\"]\nready = { exec = [\"false\"], interval = \"20ms\", deadline = \"400ms\" }\n\
                [service.slow]\ncommand = [\"sleep\", \"600\"]\nready = { exec = [\"sleep\", \"60\"], timeout = \"100ms\", deadline = \"500ms\" }\n\
                [service.b]\ncommand = [\"sleep\", \"600\"]\nrequires = \"a\"\n";
    apply(&node, "s", text);
    let settled = until_view(&node, "s", "an end", |view| view.settled);
    assert_eq!(states(&settled), [("a", "failed"), ("b", "failed"), ("slow", "failed")]);
    assert_eq!(reason(&unit(&node, "s", "a")), "it was not ready within 400ms");
    assert!(node.inspect("s.a").workload.is_at_rest());
    node.cli(&["stack", "down", "s"]).ok();
    node.finish();
}

#[test]
fn one_that_does_not_live_is_stopped_and_its_policy_applies() {
    let node = TestNode::new();
    let server = Server::new(200);
    // It answers a stop with success; it was taken for dead all the same.
    let text = format!(
        "[service.web]\ncommand = \"trap 'exit 0' TERM; while :; do sleep 0.02; done\"\nrestart = \"on-failure\"\n\
         liveness = {{ http = \"http://127.0.0.1:{}/\", interval = \"30ms\", failures = 2 }}\n",
        server.port
    );
    apply(&node, "s", &text);
    until_state(&node, "s", "web", "ready");
    let first = node.main_pid("s.web");
    server.answer(500);
    let event = node.wait_kind("s.web", "run.unhealthy");
    let EventKind::RunUnhealthy { reason } = &event.event.kind else { panic!("{event:?}") };
    assert!(reason.contains("2 probes in a row") && reason.contains("status 500"), "{reason}");
    server.answer(200);
    node.wait_event("the second run", |event| {
        is_of(event, "s.web")
            && event.event.kind.name() == "run.ready"
            && event.event.subject.as_ref().is_some_and(|subject| subject.runs >= 2)
    });
    assert_ne!(node.main_pid("s.web"), first);
    assert_eq!(unit(&node, "s", "web").state.as_str(), "ready");
    node.cli(&["stack", "down", "s"]).ok();
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn ready_by_a_line_of_output_also_while_no_daemon_was_there() {
    let mut node = TestNode::new();
    let script = |ready: &str| {
        format!(
            "echo not ready; until [ -e go ]; do sleep 0.02; done; echo {ready}; touch said-{ready}; exec sleep 600"
        )
    };
    let unit = |name: &str, script: &str, more: &str| {
        format!("[service.{name}]\ncommand = \"{script}\"\nworkdir = \".\"\n{more}\n")
    };
    let text = [
        unit("out", &script("up1"), "ready.match = \"^up[0-9]$\""),
        unit("err", &format!("exec >&2; {}", script("up2")), "ready.match = \"up2\""),
        unit("mute", "exec sleep 600", "ready = { match = \"never\", deadline = \"300ms\" }"),
        unit("over", "echo nothing", "ready.match = \"never\"\nrestart = \"never\""),
        unit("leans", "exec sleep 600", "requires = [\"out\", \"err\"]"),
    ]
    .concat();
    apply(&node, "s", &text);
    assert_eq!(reason(&until_state(&node, "s", "mute", "failed")), "it was not ready within 300ms");
    assert_eq!(reason(&until_state(&node, "s", "over", "failed")), "it ended before it was ready");
    let bad = write(&node, "b", &unit("bad", "true", "ready.match = \"up(\""));
    node.cli(&["stack", "apply", bad.to_str().expect("a path")]).refused(1, "service.bad.ready.match: ");
    let shown = view(&node, "s");
    for (name, word) in [("out", "starting"), ("err", "starting"), ("leans", "waiting")] {
        assert_eq!(unit_of(&shown, name), word);
    }
    // The line comes while nobody is there to hear it.
    node.kill();
    touch(&node, "go");
    for said in ["said-up1", "said-up2"] {
        hostler_tests::until(said, hostler_tests::PATIENCE, || node.work().join(said).exists().then_some(()));
    }
    node.start();
    until_state(&node, "s", "leans", "ready");
    // A run that comes after it is searched anew.
    let first = node.main_pid("s.out");
    node.cli(&["kill", "-s", "KILL", "s.out"]).ok();
    node.wait_event("the second run", |event| {
        is_of(event, "s.out")
            && event.event.kind.name() == "run.ready"
            && event.event.subject.as_ref().is_some_and(|subject| subject.runs >= 2)
    });
    assert_ne!(node.main_pid("s.out"), first);
    node.cli(&["stack", "down", "s"]).ok();
    assert_history(&node.journal());
    node.finish();
}

fn unit_of<'a>(view: &'a hostler_api::stacks::StackView, name: &str) -> &'a str {
    view.units.iter().find(|unit| unit.name.as_str() == name).map_or("", |unit| unit.state.as_str())
}
