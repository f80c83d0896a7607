//! Programs in the foreground: streams, exit codes, signals, and a node that goes away under them.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::fake::{FakeNode, ID, Reply, Request, attached, end, ended, outcome, output, problem, web_socket, workload};
use tokio_tungstenite::tungstenite::Message;

fn is_create(request: &Request) -> bool {
    request.is("POST", "/v1/workloads")
}

fn is_attach(request: &Request) -> bool {
    request.is("GET", &format!("/v1/workloads/{ID}/attach"))
}

fn preparing() -> String {
    workload("preparing", r#""state":"preparing","deadline_boot_ms":1"#)
}

#[test]
fn streams_stay_apart_and_the_code_comes_back() {
    let node = FakeNode::start(|request| {
        if is_create(request) {
            return Reply::Json(201, preparing());
        }
        web_socket(|socket| {
            attached(socket);
            output(socket, 1, b"out\xff\n");
            output(socket, 2, b"err\n");
            end(socket, &ended(3));
        })
    });
    let result = node.hostler(&["run", "--env", "A=1", "sh", "-c", "exit 3"]).output().expect("runs");
    assert_eq!(result.status.code(), Some(3));
    assert_eq!((&result.stdout[..], &result.stderr[..]), (&b"out\xff\n"[..], &b"err\n"[..]));
    let requests = node.requests();
    let spec: serde_json::Value = serde_json::from_str(&requests[0].body).expect("JSON");
    assert_eq!(
        (&spec["command"][2], &spec["env"][0], &spec["stdio"]["owner"]),
        (&"exit 3".into(), &"A=1".into(), &true.into())
    );
    assert!(requests[1].target.contains("owner=true") && !requests[1].target.contains("offset"), "{:?}", requests[1]);
}

#[test]
fn a_failed_start_is_told_with_the_shells_code() {
    let node = FakeNode::start(|request| {
        if is_create(request) {
            return Reply::Json(201, preparing());
        }
        web_socket(|socket| {
            let failure = r#""state":"failed","failure":{"kind":"command_not_found","message":"nosuch: not in PATH"}"#;
            end(socket, failure);
        })
    });
    let (exit, _, error) = outcome(&mut node.hostler(&["run", "nosuch"]));
    assert_eq!((exit, error.as_str()), (Some(127), "hostler: job was not started: nosuch: not in PATH\n"));
}

#[test]
fn a_refusal_of_run_is_125() {
    let node = FakeNode::start(|_| problem("name-in-use", 409, "the name is in use"));
    let (exit, _, error) = outcome(&mut node.hostler(&["run", "--name", "x", "true"]));
    assert_eq!(exit, Some(125));
    assert!(error.starts_with("hostler: the name is in use\n  hint: choose another --name"), "{error}");
}

#[test]
fn a_broken_connection_goes_on_at_the_byte_where_it_broke() {
    let connections = AtomicUsize::new(0);
    let node = FakeNode::start(move |request| {
        if is_create(request) {
            return Reply::Json(201, preparing());
        }
        match connections.fetch_add(1, Ordering::SeqCst) {
            0 => web_socket(|socket| {
                attached(socket);
                output(socket, 1, b"abc");
                output(socket, 2, b"e");
            }),
            1 => problem("unavailable", 503, "not ready"),
            _ => web_socket(|socket| {
                attached(socket);
                output(socket, 1, b"def\n");
                end(socket, &ended(0));
            }),
        }
    });
    let (exit, out, error) = outcome(&mut node.hostler(&["run", "job"]));
    assert_eq!((exit, out.as_str()), (Some(0), "abcdef\n"), "{error}");
    assert_eq!(error.matches("trying again").count(), 1, "{error}");
    let last = node.requests().into_iter().rfind(is_attach).expect("attached again");
    assert!(last.target.contains("stdout_offset=3") && last.target.contains("stderr_offset=1"), "{}", last.target);
}

#[test]
fn an_end_that_came_meanwhile_is_completed_from_the_log() {
    // A node may refuse to attach to what has ended, or just say how it ended.
    for refuses in [true, false] {
        completed_from_the_log(refuses);
    }
}

fn completed_from_the_log(refuses: bool) {
    let connections = AtomicUsize::new(0);
    let node = FakeNode::start(move |request| {
        if is_create(request) {
            return Reply::Json(201, preparing());
        }
        if request.target.contains("/logs") {
            let line = |text: &str| {
                format!("event: line\ndata: {{\"time\":\"t\",\"stream\":\"stdout\",\"text\":\"{text}\"}}\n\n")
            };
            return Reply::Events(line("one") + &line("two") + "event: end\ndata: {}\n\n");
        }
        if !is_attach(request) {
            return Reply::Json(200, workload("ended", &ended(5)));
        }
        match connections.fetch_add(1, Ordering::SeqCst) {
            0 => web_socket(|socket| {
                attached(socket);
                output(socket, 1, b"one\nt");
            }),
            _ if refuses => problem("conflict", 409, "job has ended"),
            _ => web_socket(|socket| end(socket, &ended(5))),
        }
    });
    let (exit, out, error) = outcome(&mut node.hostler(&["run", "job"]));
    assert_eq!((exit, out.as_str()), (Some(5), "one\ntwo\n"), "{error}");
}

#[test]
fn an_end_that_was_removed_is_found_in_the_events() {
    let node = FakeNode::start(|request| {
        if is_create(request) {
            return Reply::Json(201, preparing());
        }
        if request.is("GET", "/v1/events") {
            let data = format!(r#"{{"id":"0011223344556677-5","time_ms":1,"type":"run.exited",{}}}"#, &ended(9)[16..]);
            return Reply::Events(format!(
                "id: 0011223344556677-5\nevent: run.exited\ndata: {data}\n\nevent: end\ndata: {{}}\n\n"
            ));
        }
        problem("not-found", 404, "gone")
    });
    let (exit, _, error) = outcome(&mut node.hostler(&["run", "--rm", "job"]));
    assert_eq!(exit, Some(9), "{error}");
}

#[test]
fn large_stdin_with_large_stdout() {
    const SIZE: usize = 12 << 20;
    let node = FakeNode::start(|request| {
        if is_create(request) {
            return Reply::Json(201, preparing());
        }
        web_socket(|socket| {
            attached(socket);
            while let Ok(message) = socket.read() {
                match message {
                    // More comes back than went in, so that both directions are full at the same time.
                    Message::Binary(data) => (0..2).for_each(|_| output(socket, 1, &data[1..])),
                    Message::Text(text) if text.contains("stdin_eof") => return end(socket, &ended(0)),
                    _ => {}
                }
            }
        })
    });
    let mut child =
        node.hostler(&["run", "-i", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || stdin.write_all(&vec![b'x'; SIZE]));
    let mut out = Vec::new();
    child.stdout.take().expect("a pipe").read_to_end(&mut out).expect("read");
    writer.join().expect("joins").expect("written");
    assert_eq!(out.len(), 2 * SIZE);
    assert!(child.wait().expect("ends").success());
}

#[test]
fn a_reader_that_leaves_ends_it_and_is_told_what_goes_on() {
    let node = FakeNode::start(|request| {
        if is_create(request) {
            return Reply::Json(201, preparing());
        }
        web_socket(|socket| {
            attached(socket);
            while socket.send(Message::binary([&[1][..], &[b'y'; 8192]].concat())).is_ok() {}
        })
    });
    for (arguments, says) in [(&["run", "yes"][..], true), (&["run", "--rm", "yes"], false)] {
        let mut command = node.hostler(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        let mut first = [0; 10];
        child.stdout.take().expect("a pipe").read_exact(&mut first).expect("read");
        let result = child.wait_with_output().expect("ends");
        let error = String::from_utf8_lossy(&result.stderr);
        assert_eq!((result.status.code(), error.lines().count()), (Some(141), usize::from(says)), "{error}");
        assert!(!says || error.starts_with("hostler: left; job goes on: stop it with `hostler"), "{error}");
    }
}

#[test]
fn interrupts_are_passed_on_and_the_third_leaves() {
    let (ready, is_ready) = mpsc::channel::<()>();
    let node = FakeNode::start(move |request| {
        if is_create(request) {
            return Reply::Json(201, preparing());
        }
        if request.target.contains("/kill") {
            assert_eq!(request.body, r#"{"signal":"INT"}"#);
            ready.send(()).ok();
            return Reply::Json(200, preparing());
        }
        let ready = ready.clone();
        web_socket(move |socket| {
            attached(socket);
            ready.send(()).ok();
            while socket.read().is_ok() {}
        })
    });
    let child = node.hostler(&["run", "--rm", "job"]).stderr(Stdio::piped()).spawn().expect("runs");
    for _ in 0..3 {
        is_ready.recv().expect("attached, or a signal was passed on");
        let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
        assert!(status.success());
    }
    let result = child.wait_with_output().expect("ends");
    assert_eq!(result.status.code(), Some(130));
    let error = String::from_utf8_lossy(&result.stderr);
    assert!(error.contains("job is stopped and removed (--rm)"), "{error}");
    assert_eq!(node.requests().iter().filter(|request| request.target.contains("/kill")).count(), 2);
}

/// Runs a command through this shell line, sends it SIGHUP and says how it ended and what the node was asked.
fn hung_up(shell: &str) -> (Option<i32>, Vec<Request>) {
    let (ready, is_ready) = mpsc::channel::<()>();
    let node = FakeNode::start(move |request| {
        if is_create(request) {
            return Reply::Json(201, preparing());
        }
        let ready = ready.clone();
        web_socket(move |socket| {
            attached(socket);
            ready.send(()).ok();
            std::thread::sleep(std::time::Duration::from_millis(500));
            end(socket, &ended(4));
        })
    });
    let program = node.hostler(&["run", "job"]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", shell, "sh"]).arg(program.get_program()).args(program.get_args()).stdin(Stdio::null());
    let mut child = command.spawn().expect("runs");
    is_ready.recv().expect("attached");
    let status = std::process::Command::new("kill").args(["-HUP", &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
    (child.wait().expect("ends").code(), node.requests())
}

#[test]
fn a_hangup_is_the_end_of_this_command_alone_unless_it_is_ignored() {
    let (code, requests) = hung_up(r#"exec "$@""#);
    assert!(code == Some(129) && !requests.iter().any(|request| request.target.contains("/kill")), "{requests:?}");
    let (code, requests) = hung_up(r#"trap '' HUP; exec "$@""#);
    assert!(code == Some(4) && !requests.iter().any(|request| request.target.contains("/kill")), "{requests:?}");
}

#[test]
fn restarts_are_followed_and_counted_anew() {
    let connections = AtomicUsize::new(0);
    let node = FakeNode::start(move |request| {
        if is_create(request) {
            return Reply::Json(201, preparing());
        }
        match connections.fetch_add(1, Ordering::SeqCst) {
            0 => web_socket(|socket| {
                attached(socket);
                output(socket, 1, b"first\n");
                socket
                    .send(Message::text(format!(r#"{{"type":"attached","run":"{ID}-2","tty":false}}"#)))
                    .expect("send");
                output(socket, 1, b"se");
            }),
            _ => web_socket(|socket| {
                socket
                    .send(Message::text(format!(r#"{{"type":"attached","run":"{ID}-2","tty":false}}"#)))
                    .expect("send");
                output(socket, 1, b"cond\n");
                let ended = ended(0);
                socket.send(Message::text(format!(r#"{{"type":"ended","run":"{ID}-2",{ended}}}"#))).expect("send");
            }),
        }
    });
    let (exit, out, error) = outcome(&mut node.hostler(&["run", "--restart", "on-failure", "job"]));
    assert_eq!((exit, out.as_str()), (Some(0), "first\nsecond\n"), "{error}");
    let last = node.requests().into_iter().rfind(is_attach).expect("attached again");
    assert!(last.target.contains(&format!("run={ID}-2")) && last.target.contains("stdout_offset=2"), "{}", last.target);
}

#[test]
fn exec_sends_its_request_and_returns_its_code() {
    let node = FakeNode::start(|request| {
        if request.target.contains("absent") {
            return problem("command-not-found", 422, "nosuch is not in PATH");
        }
        if request.target.contains("lost") {
            let detail = "cannot enter the working directory /nope: No such file or directory";
            return problem("start-failed", 422, detail);
        }
        web_socket(|socket| {
            let first = socket.read().expect("the request").into_text().expect("text");
            assert!(first.contains(r#""command":["ps","x"]"#) && first.contains(r#""type":"exec""#), "{first}");
            let exit = &ended(6)["\"state\":\"ended\",".len()..];
            socket.send(Message::text(r#"{"type":"exec_started","exec":"1a2b3c4d","pid":7}"#)).expect("send");
            output(socket, 1, b"lines\n");
            socket.send(Message::text(format!(r#"{{"type":"exec_ended","exec":"1a2b3c4d",{exit}}}"#))).expect("send");
        })
    });
    let (exit, out, error) = outcome(&mut node.hostler(&["exec", "job", "ps", "x"]));
    assert_eq!((exit, out.as_str()), (Some(6), "lines\n"), "{error}");
    let (exit, _, error) = outcome(&mut node.hostler(&["exec", "absent", "nosuch"]));
    assert_eq!(exit, Some(127), "{error}");
    let (exit, _, error) = outcome(&mut node.hostler(&["exec", "-w", "/nope", "lost", "true"]));
    assert_eq!(exit, Some(125), "{error}");
}
